/* key_page.h - keyed by people who do not know what was read: a page with the pictures of the tallies of
   one round, in the order of the draws, and inputs for their counts. Nothing of what was read is in it. */
#ifndef TALLY_AUDIT_KEY_PAGE_H
#define TALLY_AUDIT_KEY_PAGE_H

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "../form_list.h"
#include "../forms.h"
#include "../json.h"
#include "../output.h"
#include "../progress.h"
#include "../read/html.h"
#include "../views.h"
#include "draw.h"
#include "key_files.h" /* made of key.css and key.js by tools/embed.sh */
#include "population.h"

#define VIEW_WIDTH 760 /* of a table, in pixels, if it is that wide */
#define VIEW_QUALITY 70
#define MOST_DIGITS 9 /* of a count, where no template says how many cells it has */

/* What the page is made of. */
typedef struct key_page {
  const population *all;
  const draw_queue *queue;
  int first, end, round;      /* draws of the round */
  const tally_template *form; /* NULL: there are no pictures */
  const tally_print *print;   /* its reference print; NULL: there is none */
  const form_list *list;
  const int *picture; /* [tallies] of the list; -1: none */
} key_page;

/* The table of a tally, cut out and straightened; or what to do without it. */
static inline void page_view(text_buffer *to, const key_page *page, int tally) {
  int number = page->picture ? page->picture[tally] : -1;
  if (number < 0) {
    text_add(to,
             "<p class=\"faint\">There is no picture of this tally. Key it from the paper.</p>");
    return;
  }
  tally_image photo;
  tally_registration where;
  const char *path = page->list->pictures.paths[number];
  const char *reason = form_register(path, page->form, page->print, &photo, &where);
  if (reason) {
    text_add(to, "<p class=\"faint\">The table could not be cut out of this picture (");
    html_text(to, reason);
    text_add(to, "). Key it from the paper, or open ");
    html_text(to, path);
    text_add(to, ".</p>");
  } else {
    tally_box table = table_of(page->form);
    tally_image view = view_cut(&photo, &where, -1, table, fmin(1, VIEW_WIDTH / table.width));
    text_buffer jpeg = image_jpeg(&view, VIEW_QUALITY);
    text_add(to, "<img alt=\"the table of this tally\" src=\"data:image/jpeg;base64,");
    base64_text(to, jpeg.data, jpeg.length);
    text_add(to, "\">");
    free(jpeg.data);
    tally_image_free(&view);
  }
  tally_image_free(&photo);
}

static inline text_buffer page_tally(const key_page *page, int draw) {
  text_buffer to = {0};
  int tally = page->queue->of[draw].tally;
  text_add(&to, "<article class=\"form\" data-t=\"");
  html_text(&to, page->all->names[tally]);
  text_add(&to, "\">\n<h2>%d of %d: ", draw - page->first + 1, page->end - page->first);
  html_text(&to, page->all->names[tally]);
  text_add(&to, "</h2>\n<div class=\"two\"><div>");
  page_view(&to, page, tally);
  text_add(&to, "</div>\n<div class=\"fields\">");
  for (int f = 0; f < page->all->fields; f++) {
    text_add(&to, "<label>");
    html_text(&to, page->all->field[f]);
    text_add(&to, "<input inputmode=\"numeric\" autocomplete=\"off\" data-f=\"");
    html_text(&to, page->all->field[f]);
    text_add(&to, "\"></label>\n");
  }
  text_add(&to, "<button class=\"illegible\">the rest cannot be read</button></div></div>"
                "</article>\n");
  return to;
}

static inline void page_head(text_buffer *to, const key_page *page) {
  text_add(
      to, "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">"
          "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n"
          "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none';img-src data:;"
          "style-src 'unsafe-inline';script-src 'unsafe-inline'\">\n"
          "<link rel=\"icon\" href=\"data:,\"><title>Tallies to key</title>\n<style>\n");
  text_append(to, (const char *)key_css, sizeof key_css);
  text_add(to,
           "</style></head><body>\n<header><h1>Tallies to key, round %d</h1>\n"
           "<p>Type each count as it is written, whatever you think it should be, and press "
           "<kbd>Enter</kbd>. <kbd>-</kbd> means that nothing is written there, <kbd>?</kbd> that "
           "it cannot be read. <kbd>&uarr;</kbd> <kbd>&darr;</kbd> move between counts. Save "
           "often; a saved file can be loaded to go on. Then run <code>tally-audit certify</code> "
           "with what you saved. The page does not know what was read.</p></header>\n"
           "<div class=\"bar\"><div><span id=\"state\" role=\"status\"></span>"
           "<label class=\"load\">Load<input id=\"file\" type=\"file\" accept=\".csv\"></label>"
           "<button id=\"save\" class=\"main\" disabled>Save keyed-%d.csv</button></div></div>\n"
           "<main>\n",
           page->round, page->round);
}

static inline int field_digits(const key_page *page, int field) {
  int known = page->form ? tally_template_field(page->form, page->all->field[field]) : -1;
  return known < 0 ? MOST_DIGITS : page->form->field[known].digits;
}

static inline void page_tail(text_buffer *to, const key_page *page) {
  text_add(to,
           "</main>\n<script type=\"application/json\" id=\"meta\">{\"file\":\"keyed-%d.csv\","
           "\"digits\":{",
           page->round);
  for (int f = 0; f < page->all->fields; f++) {
    text_add(to, "%s", f ? "," : "");
    json_text(to, page->all->field[f]);
    text_add(to, ":%d", field_digits(page, f));
  }
  text_add(to, "}}</script>\n<script>\n");
  text_append(to, (const char *)key_js, sizeof key_js);
  text_add(to, "</script></body></html>\n");
}

#define PAGE_CHUNK 64 /* tallies shown between two writes */

typedef struct page_work {
  const key_page *page;
  int first, done; /* draws */
  text_buffer part[PAGE_CHUNK];
  progress bar;
} page_work;

static inline void page_one(void *context, int k, int thread) {
  page_work *work = context;
  const key_page *page = work->page;
  (void)thread;
  work->part[k] = page_tally(page, work->first + k);
  work_lock();
  progress_draw(&work->bar, "page", (double)++work->done / (page->end - page->first), "");
  work_unlock();
}

static inline void write_key_page(const char *path, const key_page *page) {
  output out = output_open(path);
  text_buffer head = {0}, tail = {0};
  page_work work = {.page = page, .bar = progress_start()};
  page_head(&head, page);
  fwrite(head.data, 1, head.length, out.file);
  for (work.first = page->first; work.first < page->end; work.first += PAGE_CHUNK) {
    int rest = page->end - work.first, now = rest < PAGE_CHUNK ? rest : PAGE_CHUNK;
    share_work(now, page_one, &work);
    for (int k = 0; k < now; k++) {
      fwrite(work.part[k].data, 1, work.part[k].length, out.file);
      free(work.part[k].data);
    }
  }
  progress_wipe();
  page_tail(&tail, page);
  fwrite(tail.data, 1, tail.length, out.file);
  output_close(&out);
  free(head.data);
  free(tail.data);
}

#endif
