/* page_origin.h - what a report was made of and with: enough to make it again, and to tell whether it is the
   same. */
#ifndef TALLY_READ_PAGE_ORIGIN_H
#define TALLY_READ_PAGE_ORIGIN_H

#include <stdlib.h>
#include <time.h>

#include "../../convnet.h"
#include "html.h"
#include "report.h"

/* The day, in UTC and without the time, so that a report made again the same day has the same bytes;
   SOURCE_DATE_EPOCH (seconds since 1970, see reproducible-builds.org) makes it any day's. */
static inline void report_day(char out[16]) {
  const char *set = getenv("SOURCE_DATE_EPOCH");
  char *end;
  long long seconds = set ? strtoll(set, &end, 10) : 0;
  time_t now = set && end != set && !*end && seconds >= 0 ? (time_t)seconds : time(NULL);
  struct tm day;
  if (!gmtime_r(&now, &day) || !strftime(out, 16, "%Y-%m-%d", &day)) snprintf(out, 16, "unknown");
}

/* Files that are no tallies of this report. */
static inline void page_left_out(text_buffer *to, const left_out *left) {
  for (int k = 0; k < left->count; k++) {
    text_add(to, "%s%d ", k ? ", " : "", left->kinds[k].count);
    html_text(to, left->kinds[k].what);
  }
}

/* A file of which what it holds counts, not where it lies. */
static inline void page_origin_file(text_buffer *to, const char *what, const char *path,
                                    const char *hash) {
  text_add(to, "<dt>%s</dt><dd>", what);
  html_text(to, file_name_of(path));
  text_add(to, "<br><code>%s</code></dd>\n", hash);
}

static inline void page_origin_settings(text_buffer *to, const report *r) {
  text_add(to,
           "<dt>settings</dt><dd><code>--risk %g --alone %g --temperature %g --seed %llu%s</code>"
           "</dd>\n",
           r->risk, r->alone, r->temperature, (unsigned long long)r->seed, r->raw ? " --raw" : "");
}

static inline void page_origin_pictures(text_buffer *to, const report *r) {
  const left_out *left = &r->list->pictures.left;
  int count = form_count(r->list);
  text_add(to,
           "<dt>pictures</dt><dd>%d; the SHA-256 of each is in <code>tallies.csv</code></dd>\n"
           "<dt>left out</dt><dd>",
           count);
  page_left_out(to, left);
  text_add(to, "%s</dd>\n", left->count ? "" : "nothing");
  int unread = report_verdicts(r, FORM_UNREAD), copies = report_verdicts(r, FORM_COPY);
  text_add(to, "<dt>not counted</dt><dd>%d that could not be read, %d copies</dd>\n", unread,
           copies);
}

/* Tables that people gave: their part in the result would not show otherwise. */
static inline void page_origin_tables(text_buffer *to, const report *r) {
  for (int k = 0; k < REPORT_TABLES; k++)
    if (r->table_path[k])
      page_origin_file(to, report_table_names[k], r->table_path[k], r->table_hash[k]);
}

static inline void page_origin(text_buffer *to, const report *r) {
  char day[16];
  report_day(day);
  text_add(to,
           "<h2 id=\"origin\">What this report was made with</h2>\n<dl>\n"
           "<dt>date</dt><dd>%s</dd>\n"
           "<dt>program</dt><dd>tally-read, tally.h " TALLY_VERSION ", convnet.h " CONVNET_VERSION
           "</dd>\n",
           day);
  page_origin_file(to, "template", r->template_path, r->template_hash);
  page_origin_file(to, "model", r->model_path, r->model_hash);
  page_origin_tables(to, r);
  page_origin_settings(to, r);
  page_origin_pictures(to, r);
  text_add(to, "</dl>\n<p class=\"faint\">The long numbers are SHA-256 hashes, as "
               "<code>sha256sum</code> prints them. The same files, settings and program give the "
               "same numbers on any machine with the same processor type.</p>\n");
}

#endif
