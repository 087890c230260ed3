/* common.h - what tools share: messages, options, files, CSV, progress, pictures, data sets.

   Internal to tools/, not part of the two public headers. A tool is one file that opens with

       #define _POSIX_C_SOURCE 200809L
       #define TOOL_NAME "tally-train"
       #define TOOL_USAGE "--data D --arch NAME --out M.safetensors [options]"
       #include "common.h"

   and is built by make bin/NAME, which compiles the implementations once for all tools; or by hand
   (stb is Debian's libstb-dev):

       cc -O2 tools/NAME.c tools/implementations/convnet.c tools/implementations/tally.c \
         tools/implementations/stb.c -o bin/NAME -lm

   A tool is a short-lived process with one user, so what goes wrong ends it: fail() prints one line
   and exits 1, misuse() prints the usage too and exits 2. Nothing here is meant for a library. */
#ifndef TALLY_COMMON_H
#define TALLY_COMMON_H

#include <dirent.h>
#include <errno.h>
#include <float.h>
#include <getopt.h>
#include <limits.h>
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "../convnet.h"
#include "implementations/stb.h"

#if defined(__GNUC__)
#define TOOL_PRINTF(string, first) __attribute__((format(printf, string, first)))
#define TOOL_NORETURN __attribute__((noreturn))
#else
#define TOOL_PRINTF(string, first)
#define TOOL_NORETURN
#endif

/* ---- messages -------------------------------------------------------------------------------- */

/* The progress bar owns the terminal's last line while it is up; messages wipe it first. */
static int progress_is_up = 0;

static inline void progress_wipe(void) {
  if (progress_is_up) fputs("\r\033[K", stderr);
  progress_is_up = 0;
}

/* One line on stderr. File names may hold any byte, so control characters become '?'. */
static inline void say_list(const char *format, va_list arguments) {
  char line[2048];
  vsnprintf(line, sizeof line, format, arguments);
  for (char *c = line; *c; c++)
    if ((unsigned char)*c < 32 || *c == 127) *c = '?';
  progress_wipe();
  fprintf(stderr, TOOL_NAME ": %s\n", line);
}

TOOL_PRINTF(1, 2) static inline void say(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  say_list(format, arguments);
  va_end(arguments);
}

static inline void output_abandon(void);

TOOL_PRINTF(1, 2) TOOL_NORETURN static inline void fail(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  say_list(format, arguments);
  va_end(arguments);
  output_abandon();
  exit(1);
}

TOOL_PRINTF(1, 2) TOOL_NORETURN static inline void misuse(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  say_list(format, arguments);
  va_end(arguments);
  fprintf(stderr, "usage: " TOOL_NAME " " TOOL_USAGE "\n       " TOOL_NAME " --help\n");
  exit(2);
}

/* ---- memory and texts ------------------------------------------------------------------------ */

static inline void *allocate(size_t count, size_t size) {
  void *memory = calloc(count ? count : 1, size ? size : 1);
  if (!memory) fail("out of memory (%zu times %zu bytes)", count, size);
  return memory;
}

static inline void *reallocate(void *memory, size_t count, size_t size) {
  if (size && count > SIZE_MAX / size) fail("out of memory (%zu times %zu bytes)", count, size);
  memory = realloc(memory, count && size ? count * size : 1);
  if (!memory) fail("out of memory (%zu times %zu bytes)", count, size);
  return memory;
}

/* A text that grows; data always ends in 0. Zero-initialise, free(data). */
typedef struct text_buffer {
  char *data;
  size_t length, capacity;
} text_buffer;

static inline void text_append(text_buffer *to, const char *bytes, size_t count) {
  if (to->length + count + 1 > to->capacity) {
    to->capacity = (to->length + count + 1) * 2;
    to->data = reallocate(to->data, to->capacity, 1);
  }
  memcpy(to->data + to->length, bytes, count);
  to->length += count;
  to->data[to->length] = 0;
}

/* For stb_image_write: `to` is a text_buffer. */
static inline void append_bytes(void *to, void *bytes, int count) {
  text_append(to, bytes, (size_t)count);
}

TOOL_PRINTF(2, 3) static inline void text_add(text_buffer *to, const char *format, ...) {
  va_list arguments, again;
  va_start(arguments, format);
  va_copy(again, arguments);
  int length = vsnprintf(NULL, 0, format, again);
  va_end(again);
  if (length < 0) fail("cannot format a text");
  char *piece = allocate((size_t)length + 1, 1);
  vsnprintf(piece, (size_t)length + 1, format, arguments);
  va_end(arguments);
  text_append(to, piece, (size_t)length);
  free(piece);
}

static inline char *copy_text(const char *from) {
  size_t length = strlen(from);
  char *copy = allocate(length + 1, 1);
  memcpy(copy, from, length);
  return copy;
}

static inline char *join_path(const char *folder, const char *name) {
  text_buffer path = {0};
  size_t length = strlen(folder);
  text_add(&path, "%s%s%s", folder, length && folder[length - 1] == '/' ? "" : "/", name);
  return path.data;
}

static inline int compare_names(const void *a, const void *b) {
  return strcmp(*(char *const *)a, *(char *const *)b);
}

/* ---- start, end, threads, time, random streams ----------------------------------------------- */

/* A file-size limit then fails a write, as a full disk does, instead of killing the process. */
static inline void tool_start(void) {
#ifdef SIGXFSZ
  signal(SIGXFSZ, SIG_IGN);
#endif
}

/* What was printed must have arrived: a full disk behind stdout is a failure too. */
static inline int tool_end(void) {
  if (fflush(stdout) || ferror(stdout))
    fail("cannot write to standard output: %s", strerror(errno));
  return 0;
}

static int threads_used = 0; /* 0: nobody has chosen yet */

/* Chooses the number of threads (0: leaves it, at first as many as there are cores) and returns it. */
static inline int use_threads(int threads) {
  if (threads > 0) threads_used = threads;
  if (threads_used == 0) threads_used = cn_thread_count();
  return threads_used;
}

/* Calls unit(context, i, thread) for i in 0 .. units - 1 on all threads; `thread`, below their number,
   tells them apart. */
static inline void share_work(int units, void (*unit)(void *context, int i, int thread),
                              void *context) {
  cn_parallel_for(NULL, use_threads(0), units, unit, context);
}

/* What only one unit at a time may do stands between these two. */
static pthread_mutex_t one_at_a_time = PTHREAD_MUTEX_INITIALIZER;
static inline void work_lock(void) {
  pthread_mutex_lock(&one_at_a_time);
}
static inline void work_unlock(void) {
  pthread_mutex_unlock(&one_at_a_time);
}

static inline double seconds_now(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* An independent random stream for each pair (splitmix64's finaliser on both). */
static inline uint64_t mix_seed(uint64_t seed, uint64_t stream) {
  uint64_t z = seed + 0x9E3779B97F4A7C15u * (stream + 1);
  for (int round = 0; round < 2; round++) {
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    z ^= z >> 31;
  }
  return z;
}

/* ---- options --------------------------------------------------------------------------------- */

/* Numbers of options; option is the name with its dashes, for messages. */
static inline long long option_integer(const char *option, const char *value, long long low,
                                       long long high) {
  char *end;
  errno = 0;
  long long number = strtoll(value, &end, 10);
  if (end == value || *end) misuse("%s: \"%s\" is not a whole number", option, value);
  if (errno || number < low || number > high)
    misuse("%s: %s is outside %lld to %lld", option, value, low, high);
  return number;
}

static inline float option_real(const char *option, const char *value, double low, double high) {
  char *end;
  double number = strtod(value, &end);
  if (end == value || *end || !isfinite(number))
    misuse("%s: \"%s\" is not a number", option, value);
  if (number < low || number > high) misuse("%s: %s is outside %g to %g", option, value, low, high);
  return (float)number;
}

/* Index of value in choices (NULL-terminated). */
static inline int option_choice(const char *option, const char *value, const char *const *choices) {
  text_buffer list = {0};
  for (int i = 0; choices[i]; i++)
    if (!strcmp(value, choices[i])) return i;
  for (int i = 0; choices[i]; i++) text_add(&list, "%s%s", i ? ", " : "", choices[i]);
  misuse("%s: \"%s\" is not one of %s", option, value, list.data);
}

/* getopt_long with our own words for what it rejects. Returns the option's val, -1 at the end. */
static inline int next_option(int argc, char **argv, const struct option *options) {
  opterr = 0;
  int index = optind;
  int found = getopt_long(argc, argv, ":h", options, NULL);
  if (found == ':') misuse("%s needs a value", argv[index]);
  if (found == '?') misuse("unknown or ambiguous option %s", argv[index]);
  if (found == -1 && optind < argc) misuse("\"%s\" is not an option", argv[optind]);
  return found;
}

/* Options of a program that also takes files: getopt_long moves those behind the options, and they
   are argv[optind] and on when this returns -1. */
static inline int next_option_before_files(int argc, char **argv, const struct option *options) {
  opterr = 0;
  int index = optind;
  int found = getopt_long(argc, argv, ":h", options, NULL);
  if (found == ':') misuse("%s needs a value", argv[optind > index ? optind - 1 : index]);
  if (found == '?') misuse("unknown or ambiguous option %s", argv[optind - 1]);
  return found;
}

/* ---- files ----------------------------------------------------------------------------------- */

/* A whole file with a 0 behind it. */
static inline char *read_file(const char *path, size_t *size) {
  FILE *file = fopen(path, "rb");
  if (!file) fail("cannot open %s: %s", path, strerror(errno));
  text_buffer contents = {0};
  char block[65536];
  size_t got;
  text_append(&contents, "", 0);
  while ((got = fread(block, 1, sizeof block, file)) > 0) text_append(&contents, block, got);
  if (ferror(file)) fail("cannot read %s: %s", path, strerror(errno));
  fclose(file);
  *size = contents.length;
  return contents.data;
}

static inline int is_folder(const char *path) {
  struct stat status;
  return stat(path, &status) == 0 && S_ISDIR(status.st_mode);
}

static inline int is_file(const char *path) {
  struct stat status;
  return stat(path, &status) == 0 && !S_ISDIR(status.st_mode);
}

/* The folder a file lies in: "." for a bare name. */
static inline char *folder_of(const char *path) {
  const char *slash = strrchr(path, '/');
  if (!slash) return copy_text(".");
  if (slash == path) return copy_text("/");
  char *folder = copy_text(path);
  folder[slash - path] = 0;
  return folder;
}

static inline void make_folder(const char *path) {
  if (mkdir(path, 0777) && errno != EEXIST) fail("cannot make %s: %s", path, strerror(errno));
  if (!is_folder(path)) fail("%s is not a folder", path);
}

/* Says before hours of work, rather than after, that a result could not be written. */
static inline void check_writable(const char *path) {
  char *folder = folder_of(path);
  if (is_folder(path)) fail("cannot write %s: it is a folder", path);
  if (access(folder, W_OK | X_OK)) fail("cannot write %s: %s: %s", path, folder, strerror(errno));
  free(folder);
}

/* A file that appears whole or not at all: written beside its place, synchronised, renamed.
   One at a time; fail() removes the unfinished one. */
typedef struct output {
  FILE *file;
  char *path, *part;
} output;
static char *output_unfinished = NULL;

static inline void output_abandon(void) {
  if (output_unfinished) unlink(output_unfinished);
}

static inline output output_open(const char *path) {
  output out = {0};
  text_buffer part = {0};
  text_add(&part, "%s.part", path);
  out.path = copy_text(path);
  out.part = part.data;
  out.file = fopen(out.part, "wb");
  if (!out.file) fail("cannot write %s: %s", path, strerror(errno));
  output_unfinished = out.part;
  return out;
}

/* Puts the file in its place. */
static inline void output_close(output *out) {
  int bad = ferror(out->file) || fflush(out->file) || fsync(fileno(out->file));
  if (bad || fclose(out->file) || rename(out->part, out->path))
    fail("cannot write %s: %s", out->path, strerror(errno));
  output_unfinished = NULL;
  free(out->path);
  free(out->part);
}

static inline void write_file(const char *path, const void *bytes, size_t count) {
  output out = output_open(path);
  fwrite(bytes, 1, count, out.file);
  output_close(&out);
}

/* ---- CSV ------------------------------------------------------------------------------------- */

/* Reads RFC 4180: commas, quoted fields with "" for a quote and line ends inside, LF or CRLF, an
   optional byte order mark. The first row names the columns. */
typedef struct csv {
  const char *path;
  char *data, *at, *end;
  char **fields; /* of the current row; they point into data */
  int field_count, field_capacity;
  int column_count;
  int line, next_line; /* of the current row's start; of what comes next */
} csv;

/* Unquotes a field in place; returns it and moves `at` to what ended it. */
static inline char *csv_field(csv *table) {
  char *start = table->at, *to = table->at;
  if (*table->at != '"') {
    while (table->at < table->end && *table->at != ',' && *table->at != '\n') table->at++;
    to = table->at;
    if (to > start && to[-1] == '\r' && (table->at == table->end || *table->at == '\n')) to[-1] = 0;
    return start;
  }
  table->at++;
  for (;; table->at++) {
    if (table->at == table->end)
      fail("%s: line %d: a quote is not closed", table->path, table->line);
    if (*table->at == '\n') table->next_line++;
    if (*table->at == '"' && *++table->at != '"') break;
    *to++ = *table->at;
  }
  if (table->at < table->end && *table->at == '\r') table->at++;
  if (table->at < table->end && *table->at != ',' && *table->at != '\n')
    fail("%s: line %d: text behind a closing quote", table->path, table->next_line);
  *to = 0;
  return start;
}

/* Reads the next row that is not empty; 0 at the end. */
static inline int csv_row(csv *table) {
  while (table->at < table->end && (*table->at == '\n' || *table->at == '\r'))
    if (*table->at++ == '\n') table->next_line++;
  if (table->at >= table->end) return 0;
  table->line = table->next_line;
  table->field_count = 0;
  for (;;) {
    if (table->field_count == table->field_capacity) {
      table->field_capacity = table->field_capacity * 2 + 8;
      table->fields = reallocate(table->fields, (size_t)table->field_capacity, sizeof(char *));
    }
    table->fields[table->field_count++] = csv_field(table);
    char stop = table->at < table->end ? *table->at : '\n';
    if (table->at < table->end) *table->at++ = 0;
    if (stop == '\n') break;
  }
  table->next_line++;
  if (table->column_count && table->field_count != table->column_count)
    fail("%s: line %d: %d fields where the header has %d", table->path, table->line,
         table->field_count, table->column_count);
  return 1;
}

static inline csv csv_open(const char *path) {
  csv table = {0};
  size_t size;
  table.path = path;
  table.data = table.at = read_file(path, &size);
  table.end = table.data + size;
  table.next_line = 1;
  char *zero = memchr(table.data, 0, size);
  if (zero)
    fail("%s: byte %zu is 0: not a CSV file", path, (size_t)(zero - table.data));
  if (size >= 3 && !memcmp(table.data, "\xEF\xBB\xBF", 3)) table.at += 3;
  if (!csv_row(&table)) fail("%s: the file is empty", path);
  table.column_count = table.field_count;
  return table;
}

/* Index of a column; to be called before the first row after the header is read. */
static inline int csv_column(const csv *table, const char *name) {
  for (int i = 0; i < table->field_count; i++)
    if (!strcmp(table->fields[i], name)) return i;
  fail("%s: line 1: there is no column \"%s\"", table->path, name);
}

static inline void csv_close(csv *table) {
  free(table->data);
  free(table->fields);
}

static inline void csv_write(FILE *file, const char *field) {
  if (!strpbrk(field, ",\"\r\n")) {
    fputs(field, file);
    return;
  }
  putc('"', file);
  for (; *field; field++) {
    if (*field == '"') putc('"', file);
    putc(*field, file);
  }
  putc('"', file);
}

/* ---- the last line of stdout: one JSON object ------------------------------------------------ */

static inline void json_key(text_buffer *json, const char *key) {
  text_add(json, "%s\"%s\": ", json->length ? ", " : "", key);
}

/* A number; what is not finite has no place in JSON and becomes null. */
static inline void json_real(text_buffer *json, const char *key, double value) {
  json_key(json, key);
  if (isfinite(value)) text_add(json, "%.9g", value);
  else text_add(json, "null");
}

static inline void json_integer(text_buffer *json, const char *key, long long value) {
  json_key(json, key);
  text_add(json, "%lld", value);
}

static inline void json_print(text_buffer *json) {
  printf("{%s}\n", json->data);
  free(json->data);
}

/* ---- progress -------------------------------------------------------------------------------- */

/* A bar on stderr, drawn at most ten times a second and only on a terminal. */
typedef struct progress {
  int on;
  double drawn;
} progress;

static inline progress progress_start(int quiet) {
  progress bar = {0};
  bar.on = !quiet && isatty(STDERR_FILENO);
  return bar;
}

/* H:MM:SS or M:SS. */
static inline const char *clock_text(double seconds, char out[32]) {
  long s = seconds > 0 && seconds < 1e8 ? (long)(seconds + 0.5) : 0;
  if (s >= 3600) snprintf(out, 32, "%ld:%02ld:%02ld", s / 3600, s / 60 % 60, s % 60);
  else snprintf(out, 32, "%ld:%02ld", s / 60, s % 60);
  return out;
}

/* label [=====>    ] figures, cut to the terminal's width. done is the share, 0 to 1. */
static inline void progress_draw(progress *bar, const char *label, double done,
                                 const char *figures) {
  double now = seconds_now();
  if (!bar->on || (progress_is_up && now - bar->drawn < 0.1)) return;
  struct winsize window = {0};
  int columns =
      ioctl(STDERR_FILENO, TIOCGWINSZ, &window) == 0 && window.ws_col ? window.ws_col : 80;
  int room = columns - 1 - (int)strlen(label) - (int)strlen(figures) - 4;
  int width = room < 0 ? 0 : room > 30 ? 30 : room;
  int filled = (int)(done * width + 0.5);
  text_buffer line = {0};
  text_add(&line, "%s ", label);
  if (width) {
    text_add(&line, "[");
    for (int i = 0; i < width; i++)
      text_add(&line, "%c", i < filled ? '=' : i == filled ? '>' : ' ');
    text_add(&line, "] ");
  }
  text_add(&line, "%s", figures);
  fprintf(stderr, "\r%.*s\033[K", columns - 1, line.data);
  fflush(stderr);
  free(line.data);
  bar->drawn = now;
  progress_is_up = 1;
}

/* A number of up to four bytes in a file. */
static inline uint32_t file_number(const uint8_t *bytes, int count, int little_endian) {
  uint32_t value = 0;
  for (int i = 0; i < count; i++) value = value << 8 | bytes[little_endian ? count - 1 - i : i];
  return value;
}

/* ---- pictures -------------------------------------------------------------------------------- */

#define PICTURE_MAX_PIXELS 134217728 /* a header that promises more is not believed */

/* 8 bits a channel, [height][width][channels], red first; channels is 1 or 3. */
typedef struct picture {
  uint8_t *pixels;
  int height, width, channels;
} picture;

/* Weights of a colour in its grey value (Rec. 601), in 1/256. */
static inline uint8_t grey_of(const uint8_t *rgb) {
  return (uint8_t)((77 * rgb[0] + 150 * rgb[1] + 29 * rgb[2] + 128) >> 8);
}

/* Brings a row of `count` pixels of 1 to 4 channels (grey, grey + alpha, RGB, RGBA) to 1 or 3. What
   is transparent shows white paper behind it. They may be the same if the row does not grow. */
static inline void convert_channels(const uint8_t *from, int from_channels, uint8_t *to,
                                    int channels, size_t count) {
  int colour = from_channels >= 3, alpha = from_channels == 2 || from_channels == 4;
  for (size_t i = 0; i < count; i++) {
    const uint8_t *pixel = from + i * (size_t)from_channels;
    uint8_t value[3];
    for (int c = 0; c < 3; c++) {
      unsigned v = pixel[colour ? c : 0], a = alpha ? pixel[from_channels - 1] : 255u;
      value[c] = (uint8_t)((v * a + 255u * (255u - a) + 127u) / 255u);
    }
    if (channels == 1) to[i] = colour ? grey_of(value) : value[0];
    else memcpy(to + i * 3, value, 3);
  }
}

/* How a camera says it was held, 1 to 8 (Exif 2.32, tag 0x112 of the first directory; 1 is upright),
   from `size` bytes behind the marker's "Exif" and two zeros. What is not valid counts as 1. */
static inline int exif_orientation(const uint8_t *bytes, size_t size) {
  if (size < 8 || (memcmp(bytes, "II*\0", 4) && memcmp(bytes, "MM\0*", 4))) return 1;
  const int little = bytes[0] == 'I';
  const size_t directory = file_number(bytes + 4, 4, little);
  if (directory > size || size - directory < 2) return 1;
  const unsigned entries = file_number(bytes + directory, 2, little);
  const uint8_t *entry = bytes + directory + 2, *end = bytes + size;
  for (unsigned i = 0; i < entries && end - entry >= 12; i++, entry += 12) {
    const unsigned type = file_number(entry + 2, 2, little),
                   value = file_number(entry + 8, 2, little);
    if (file_number(entry, 2, little) != 0x112) continue;
    return type == 3 && value >= 1 && value <= 8 ? (int)value : 1;
  }
  return 1;
}

/* Whether a JPEG file goes on with a segment: before its pixels begin, and before its end. */
static inline int jpeg_has_segment(const uint8_t *bytes, size_t size, size_t at) {
  return at + 4 <= size && bytes[at] == 0xFF && bytes[at + 1] != 0xDA;
}

/* Where it ends, which may be behind the file's end. 0xFF may stand any number of times before it. */
static inline size_t jpeg_segment_end(const uint8_t *bytes, size_t at) {
  return at + (bytes[at + 1] == 0xFF ? 1 : 2 + file_number(bytes + at + 2, 2, 0));
}

/* exif_orientation of the beginning of any file: only JPEG files can say something else than 1. */
static inline int jpeg_orientation(const uint8_t *bytes, size_t size) {
  if (size < 2 || bytes[0] != 0xFF || bytes[1] != 0xD8) return 1;
  for (size_t at = 2; jpeg_has_segment(bytes, size, at); at = jpeg_segment_end(bytes, at)) {
    const size_t end = jpeg_segment_end(bytes, at), held = (end < size ? end : size) - at;
    if (bytes[at + 1] == 0xE1 && held >= 10 && !memcmp(bytes + at + 4, "Exif\0", 6))
      return exif_orientation(bytes + at + 10, held - 10);
  }
  return 1;
}

/* Stands a picture upright that was taken with its camera held so. */
static inline void picture_turn(picture *photo, int orientation) {
  const int swap = orientation >= 5, channels = photo->channels;
  const int height = swap ? photo->width : photo->height,
            width = swap ? photo->height : photo->width;
  const int from_right = orientation == 2 || orientation == 3 || orientation >= 7;
  const int from_bottom =
      orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7;
  if (orientation == 1) return;
  uint8_t *turned = allocate((size_t)width * (size_t)height, (size_t)channels), *to = turned;
  for (int y = 0; y < height; y++)
    for (int x = 0; x < width; x++, to += channels) {
      const int column = swap ? y : x, row = swap ? x : y;
      const size_t at =
          (size_t)(from_bottom ? photo->height - 1 - row : row) * (size_t)photo->width +
          (size_t)(from_right ? photo->width - 1 - column : column);
      memcpy(to, photo->pixels + at * (size_t)channels, (size_t)channels);
    }
  free(photo->pixels);
  photo->pixels = turned;
  photo->height = height;
  photo->width = width;
}

/* Reads a file in any format of stb_image, upright where its camera says how it was held. Returns 0,
   or why it cannot be read. */
static inline const char *picture_read(const char *path, int channels, picture *out) {
  int width, height, file_channels;
  uint8_t start[4096]; /* cameras say it at once */
  FILE *file = fopen(path, "rb");
  if (!file) return strerror(errno);
  int orientation = jpeg_orientation(start, fread(start, 1, sizeof start, file));
  rewind(file);
  int known = stbi_info_from_file(file, &width, &height, &file_channels);
  int huge = known && (int64_t)width * height > PICTURE_MAX_PIXELS;
  uint8_t *pixels = NULL;
  if (known && !huge) pixels = stbi_load_from_file(file, &width, &height, &file_channels, 0);
  fclose(file);
  if (huge) return "more than 2^27 pixels";
  if (!pixels) return stbi_failure_reason() ? stbi_failure_reason() : "not a picture";
  size_t count = (size_t)width * (size_t)height;
  out->pixels = allocate(count, (size_t)channels);
  out->width = width;
  out->height = height;
  out->channels = channels;
  convert_channels(pixels, file_channels, out->pixels, channels, count);
  stbi_image_free(pixels);
  picture_turn(out, orientation);
  return NULL;
}

/* One side of a picture of `from` pixels is resized to `full`, of which `to` pixels from `start` on
   are wanted. For each of them: the first of `taps` source positions, and their weights. The filter
   is a triangle as wide as a source pixel when enlarging (linear interpolation), as an output pixel
   when shrinking (so every source pixel counts): what Pillow calls BILINEAR and torchvision's Resize
   does by default. Positions outside are dropped and the rest scaled to sum 1. */
static inline int resize_weights(int from, double full, double start, int to, int **first,
                                 float **weights) {
  double scale = from / full, reach = scale > 1 ? scale : 1;
  int taps = 2 * (int)ceil(reach) + 1;
  *first = allocate((size_t)to, sizeof(int));
  *weights = allocate((size_t)to * (size_t)taps, sizeof(float));
  for (int i = 0; i < to; i++) {
    double centre = (start + i + 0.5) * scale, sum = 0;
    int begin = (int)floor(centre - reach);
    float *weight = *weights + (size_t)i * (size_t)taps;
    (*first)[i] = begin < 0 ? 0 : begin;
    for (int t = 0; t < taps; t++) {
      int position = (*first)[i] + t;
      double w = 1 - fabs(position + 0.5 - centre) / reach;
      if (w <= 0 || position >= from) continue;
      weight[t] = (float)w;
      sum += w;
    }
    for (int t = 0; t < taps; t++) weight[t] = (float)(weight[t] / sum);
  }
  return taps;
}

/* A piece of a resized picture: rows x columns of the full size, and where the piece begins. */
typedef struct resize_piece {
  double full_height, full_width, top, left;
} resize_piece;

/* Resizes a picture and writes the piece that begins at (top, left) and is height x width. What is
   not in the piece is not computed, however large the full size would be. */
static inline void resize_to_piece(const uint8_t *from, int from_height, int from_width,
                                   const resize_piece *piece, uint8_t *to, int height, int width,
                                   int channels) {
  int *first_x, *first_y;
  float *weights_x, *weights_y;
  int taps_x =
      resize_weights(from_width, piece->full_width, piece->left, width, &first_x, &weights_x);
  int taps_y =
      resize_weights(from_height, piece->full_height, piece->top, height, &first_y, &weights_y);
  size_t row = (size_t)width * (size_t)channels;
  int top = first_y[0], bottom = first_y[height - 1] + taps_y;
  if (bottom > from_height) bottom = from_height;
  float *narrow = allocate((size_t)(bottom - top) * row, sizeof(float));
  for (int y = top; y < bottom; y++)
    for (int x = 0; x < width; x++) {
      int taps = from_width - first_x[x] < taps_x ? from_width - first_x[x] : taps_x;
      const float *weight = weights_x + (size_t)x * (size_t)taps_x;
      const uint8_t *source =
          from + ((size_t)y * (size_t)from_width + (size_t)first_x[x]) * (size_t)channels;
      float *target = narrow + (size_t)(y - top) * row + (size_t)x * (size_t)channels;
      for (int t = 0; t < taps; t++)
        for (int c = 0; c < channels; c++) target[c] += weight[t] * (float)*source++;
    }
  float *sum = allocate(row, sizeof(float));
  for (int y = 0; y < height; y++) {
    memset(sum, 0, row * sizeof(float));
    for (int t = 0; t < taps_y && first_y[y] + t < from_height; t++) {
      float weight = weights_y[(size_t)y * (size_t)taps_y + (size_t)t];
      const float *source = narrow + (size_t)(first_y[y] - top + t) * row;
      for (size_t i = 0; i < row; i++) sum[i] += weight * source[i];
    }
    for (size_t i = 0; i < row; i++) to[(size_t)y * row + i] = (uint8_t)(sum[i] + 0.5f);
  }
  free(sum);
  free(narrow);
  free(first_x);
  free(first_y);
  free(weights_x);
  free(weights_y);
}

/* Stretches a picture to height x width, whatever its proportions ("squash"). */
static inline void resize_squash(const uint8_t *from, int from_height, int from_width, uint8_t *to,
                                 int height, int width, int channels) {
  resize_piece whole = {height, width, 0, 0};
  if (from_height == height && from_width == width)
    memcpy(to, from, (size_t)height * (size_t)width * (size_t)channels);
  else
    resize_to_piece(from, from_height, from_width, &whole, to, height, width, channels);
}

/* ---- preprocessing --------------------------------------------------------------------------- */

/* How a picture of another shape comes to the network's: stretched; or enlarged or shrunk to cover
   it, and the middle cut out; or to fit into it, in the middle of black. */
typedef enum resize_policy { RESIZE_SQUASH, RESIZE_CROP, RESIZE_PAD } resize_policy;

/* How a picture becomes a network's input: brought to its size and channels, divided by 255, then
   (value - mean) / deviation per channel. It is written into the model's notes by training and read
   from there by everything that applies the model, so the two cannot differ. */
typedef struct preprocess {
  int height, width, channels;
  resize_policy resize;
  int shorter_side; /* RESIZE_CROP: length of the picture's shorter side before the middle is cut
                       out; 0: just so that it covers the input */
  float mean[3], deviation[3];
  float values[3][256]; /* of each byte, from the above */
} preprocess;

static inline size_t preprocess_size(const preprocess *pre) {
  return (size_t)pre->height * (size_t)pre->width * (size_t)pre->channels;
}

static inline void preprocess_set(preprocess *pre, const float mean[3], const float deviation[3]) {
  for (int c = 0; c < 3; c++) {
    pre->mean[c] = mean[c];
    pre->deviation[c] = deviation[c];
    for (int b = 0; b < 256; b++)
      pre->values[c][b] = ((float)b / 255.0f - mean[c]) / deviation[c];
  }
}

/* The input of a network that takes pictures; `name` is for messages. */
static inline preprocess preprocess_for(const cn_network *net, const char *name) {
  preprocess pre = {0};
  cn_shape shape = cn_network_node(net, 0)->shape;
  pre.height = shape.height;
  pre.width = shape.width;
  pre.channels = shape.channels;
  if (pre.channels != 1 && pre.channels != 3)
    fail("%s: its input has %d channels, pictures have 1 or 3", name, pre.channels);
  preprocess_set(&pre, (float[3]){0, 0, 0}, (float[3]){1, 1, 1});
  return pre;
}

/* "squash", "pad", "crop" or "crop:256". Returns 0 unless it is one of these and covers the input. */
static inline int parse_resize(const char *text, preprocess *pre) {
  char *end;
  long side;
  pre->shorter_side = 0;
  pre->resize = !strcmp(text, "squash") ? RESIZE_SQUASH
                : !strcmp(text, "pad")  ? RESIZE_PAD
                                        : RESIZE_CROP;
  if (pre->resize != RESIZE_CROP || !strcmp(text, "crop")) return 1;
  if (strncmp(text, "crop:", 5)) return 0;
  side = strtol(text + 5, &end, 10);
  if (end == text + 5 || *end || side < pre->height || side < pre->width || side > CN_MAX_DIMENSION)
    return 0;
  pre->shorter_side = (int)side;
  return 1;
}

/* The text that parse_resize reads. */
static inline const char *resize_text(const preprocess *pre, char out[32]) {
  static const char *const words[] = {"squash", "crop", "pad"};
  if (pre->shorter_side)
    snprintf(out, 32, "crop:%d", pre->shorter_side);
  else
    snprintf(out, 32, "%s", words[pre->resize]);
  return out;
}

/* "a" or "a,b,c". Returns 0 unless there are exactly `count` finite numbers. */
static inline int parse_reals(const char *from, float *to, int count) {
  for (int i = 0; i < count; i++) {
    char *end;
    to[i] = strtof(from, &end);
    if (end == from || !isfinite(to[i]) || *end != (i + 1 < count ? ',' : 0)) return 0;
    from = end + 1;
  }
  return 1;
}

static inline void set_note(cn_network *net, const char *key, const char *value) {
  cn_error error;
  if (cn_network_set_note(net, key, value, &error) != CN_OK) fail("%s", error.message);
}

static inline void preprocess_save(const preprocess *pre, cn_network *net) {
  text_buffer mean = {0}, deviation = {0};
  char resize[32];
  for (int c = 0; c < pre->channels; c++) {
    text_add(&mean, "%s%.9g", c ? "," : "", (double)pre->mean[c]);
    text_add(&deviation, "%s%.9g", c ? "," : "", (double)pre->deviation[c]);
  }
  set_note(net, "preprocess.resize", resize_text(pre, resize));
  set_note(net, "preprocess.scale", "1/255");
  set_note(net, "preprocess.mean", mean.data);
  set_note(net, "preprocess.deviation", deviation.data);
  free(mean.data);
  free(deviation.data);
}

/* A network without these notes (made elsewhere) gets the plain treatment: squash, / 255. */
static inline preprocess preprocess_load(const cn_network *net, const char *name) {
  preprocess pre = preprocess_for(net, name);
  float means[3] = {0, 0, 0}, deviations[3] = {1, 1, 1};
  const char *resize = cn_network_note(net, "preprocess.resize");
  const char *scale = cn_network_note(net, "preprocess.scale");
  const char *mean = cn_network_note(net, "preprocess.mean");
  const char *deviation = cn_network_note(net, "preprocess.deviation");
  if (resize && !parse_resize(resize, &pre))
    fail("%s: note preprocess.resize: \"%s\" is unknown here or smaller than the input", name,
         resize);
  if (scale && strcmp(scale, "1/255"))
    fail("%s: note preprocess.scale: \"%s\" is unknown here", name, scale);
  if (mean && !parse_reals(mean, means, pre.channels))
    fail("%s: note preprocess.mean: \"%s\" is not %d numbers", name, mean, pre.channels);
  if (deviation && !parse_reals(deviation, deviations, pre.channels))
    fail("%s: note preprocess.deviation: \"%s\" is not %d numbers", name, deviation, pre.channels);
  for (int c = 0; c < pre.channels; c++)
    if (!(deviations[c] > 0)) fail("%s: note preprocess.deviation is not positive", name);
  preprocess_set(&pre, means, deviations);
  return pre;
}

/* A picture's bytes, already of the right size, as the network's input. */
static inline void preprocess_bytes(const preprocess *pre, const uint8_t *bytes, float *to) {
  size_t pixels = (size_t)pre->height * (size_t)pre->width;
  if (pre->channels == 1)
    for (size_t i = 0; i < pixels; i++) to[i] = pre->values[0][bytes[i]];
  else
    for (size_t i = 0; i < pixels * 3; i++) to[i] = pre->values[i % 3][bytes[i]];
}

/* Brings a picture, whose channels are the network's already, to its input size. Sizes and places
   are rounded as torchvision does in Resize and CenterCrop. */
static inline void picture_resize(const picture *from, const preprocess *pre, uint8_t *to) {
  double height = from->height, width = from->width;
  int wide = width * pre->height > height * pre->width; /* wider than the input */
  if (pre->resize == RESIZE_SQUASH) {
    resize_squash(from->pixels, from->height, from->width, to, pre->height, pre->width,
                  from->channels);
  } else if (pre->resize == RESIZE_CROP) {
    double side = pre->shorter_side;
    resize_piece piece;
    if (pre->shorter_side) {
      piece.full_height = height <= width ? side : floor(side * height / width);
      piece.full_width = width <= height ? side : floor(side * width / height);
    } else {
      piece.full_height =
          wide ? pre->height : fmax(pre->height, floor(height * pre->width / width));
      piece.full_width = wide ? fmax(pre->width, floor(width * pre->height / height)) : pre->width;
    }
    piece.top = rint((piece.full_height - pre->height) / 2);
    piece.left = rint((piece.full_width - pre->width) / 2);
    resize_to_piece(from->pixels, from->height, from->width, &piece, to, pre->height, pre->width,
                    from->channels);
  } else {
    int inner_height = wide ? (int)fmax(1, floor(height * pre->width / width)) : pre->height;
    int inner_width = wide ? pre->width : (int)fmax(1, floor(width * pre->height / height));
    size_t row = (size_t)inner_width * (size_t)from->channels;
    size_t top = (size_t)(pre->height - inner_height) / 2;
    size_t left = (size_t)(pre->width - inner_width) / 2;
    uint8_t *inner = allocate((size_t)inner_height, row);
    resize_squash(from->pixels, from->height, from->width, inner, inner_height, inner_width,
                  from->channels);
    memset(to, 0, preprocess_size(pre));
    for (size_t y = 0; y < (size_t)inner_height; y++)
      memcpy(to + ((top + y) * (size_t)pre->width + left) * (size_t)from->channels, inner + y * row,
             row);
    free(inner);
  }
}

/* Reads a picture file at a network's input size. Returns 0, or why it cannot be read. */
static inline const char *picture_fit(const char *path, const preprocess *pre, uint8_t *to) {
  picture read = {0};
  const char *reason = picture_read(path, pre->channels, &read);
  if (reason) return reason;
  picture_resize(&read, pre, to);
  free(read.pixels);
  return NULL;
}

/* ---- classes --------------------------------------------------------------------------------- */

/* Names of classes in the order of a network's outputs. */
typedef struct class_list {
  char **names;
  int count;
} class_list;

static inline int classes_find(const class_list *set, const char *name) {
  for (int i = 0; i < set->count; i++)
    if (!strcmp(set->names[i], name)) return i;
  return -1;
}

static inline int classes_equal(const class_list *a, const class_list *b) {
  if (a->count != b->count) return 0;
  for (int i = 0; i < a->count; i++)
    if (strcmp(a->names[i], b->names[i])) return 0;
  return 1;
}

static inline void classes_add(class_list *set, const char *name) {
  set->names = reallocate(set->names, (size_t)set->count + 1, sizeof(char *));
  set->names[set->count++] = copy_text(name);
}

/* 0, 1, 2, ... count - 1: the names of numbered classes, as in IDX files. */
static inline class_list classes_numbered(int count) {
  class_list set = {0};
  char name[16];
  for (int i = 0; i < count; i++) {
    snprintf(name, sizeof name, "%d", i);
    classes_add(&set, name);
  }
  return set;
}

static inline void classes_free(class_list *set) {
  for (int i = 0; i < set->count; i++) free(set->names[i]);
  free(set->names);
  set->names = NULL;
  set->count = 0;
}

/* The note "classes": one name a line. */
static inline void classes_save(const class_list *set, cn_network *net) {
  text_buffer note = {0};
  for (int i = 0; i < set->count; i++) text_add(&note, "%s%s", i ? "\n" : "", set->names[i]);
  set_note(net, "classes", note.data);
  free(note.data);
}

/* Number of values that a network puts out. */
static inline int network_outputs(const cn_network *net) {
  cn_shape shape = cn_network_node(net, cn_network_node_count(net) - 1)->shape;
  return shape.height * shape.width * shape.channels;
}

/* Names of a network's outputs; numbers if it has none. */
static inline class_list classes_load(const cn_network *net, const char *name) {
  const char *note = cn_network_note(net, "classes");
  int outputs = network_outputs(net);
  if (!note) return classes_numbered(outputs);
  class_list set = {0};
  char *copy = copy_text(note);
  for (char *line = copy; line;) {
    char *end = strchr(line, '\n');
    if (end) *end = 0;
    classes_add(&set, line);
    line = end ? end + 1 : NULL;
  }
  free(copy);
  if (set.count != outputs)
    fail("%s: note classes has %d names, the network %d outputs", name, set.count, outputs);
  return set;
}

/* ---- data sets ------------------------------------------------------------------------------- */

#define DATASET_CACHE_BYTES ((size_t)512 << 20)

/* A list of samples with labels. Bytes, not floats, are kept: four times less memory. Pictures from
   files are decoded once and kept up to cache_bytes; the rest are read again whenever they are
   needed. Neither changes what is delivered. */
typedef struct dataset {
  char *name; /* as the user gave it */
  class_list set;
  int count, capacity;
  int *labels;      /* [count], index into set */
  char **paths;     /* [count] picture files; NULL if the pictures came in one piece (IDX) */
  char *label_file; /* IDX: where the labels are, for messages */
  uint8_t *pixels;  /* [cached][height][width][channels]: of the first samples */
  int cached;
  int height, width, channels;
  size_t cache_bytes; /* DATASET_CACHE_BYTES, unless changed before dataset_prepare */
  int keeps_originals; /* set before dataset_prepare: keep pictures as large as their files have them */
  picture *originals; /* [count] then; pixels NULL for one that did not fit into the cache */
} dataset;

static inline void dataset_free(dataset *data) {
  if (data->paths)
    for (int i = 0; i < data->count; i++) free(data->paths[i]);
  if (data->originals)
    for (int i = 0; i < data->count; i++) free(data->originals[i].pixels);
  free(data->originals);
  free(data->paths);
  free(data->labels);
  free(data->pixels);
  free(data->name);
  free(data->label_file);
  classes_free(&data->set);
}

static inline void dataset_add(dataset *data, char *path, int label) {
  if (data->count == INT_MAX) fail("%s: too many pictures", data->name);
  if (data->count == data->capacity) {
    data->capacity = data->capacity > INT_MAX / 2 ? INT_MAX : data->capacity * 2 + 64;
    data->paths = reallocate(data->paths, (size_t)data->capacity, sizeof(char *));
    data->labels = reallocate(data->labels, (size_t)data->capacity, sizeof(int));
  }
  data->paths[data->count] = path;
  data->labels[data->count++] = label;
}

/* A sample's name in messages and tables: its path, or its number from 0. */
static inline const char *dataset_sample(const dataset *data, int index, char number[16]) {
  if (data->paths) return data->paths[index];
  snprintf(number, 16, "%d", index);
  return number;
}

/* One IDX file (LeCun): 0, 0, type, rank, then rank sizes of 4 bytes, big-endian, then values. */
typedef struct idx {
  char *path;
  uint8_t *values;
  uint32_t sizes[3];
} idx;

/* The file goes by two names, depending on who unpacked it. */
static inline char *idx_find(const char *folder, const char *part, const char *what, int rank) {
  char name[64];
  for (int dot = 0; dot < 2; dot++) {
    snprintf(name, sizeof name, "%s-%s%cidx%d-ubyte", part, what, dot ? '.' : '-', rank);
    char *path = join_path(folder, name);
    if (is_file(path)) return path;
    free(path);
  }
  fail("%s: there is no file %s-%s-idx%d-ubyte (nor %s)", folder, part, what, rank, name);
}

static inline void idx_check_magic(const char *path, const uint8_t *header, const char *what,
                                   int rank) {
  uint32_t magic = file_number(header, 4, 0), expected = 0x800u | (uint32_t)rank;
  if (magic == expected) return;
  if (header[0] == 0x1f && header[1] == 0x8b)
    fail("%s: it is compressed; unpack it with gunzip", path);
  fail("%s: byte 0: the magic number is 0x%08x, that of %s is 0x%08x", path, (unsigned)magic, what,
       (unsigned)expected);
}

/* The sizes in a header are believed only as far as the file is long, so a damaged one can neither
   overflow nor ask for memory that the file does not fill. */
static inline idx idx_read(const char *folder, const char *part, const char *what, int rank) {
  idx out = {0};
  uint8_t header[16];
  size_t header_size = 4 + 4 * (size_t)rank;
  struct stat status;
  out.path = idx_find(folder, part, what, rank);
  FILE *file = fopen(out.path, "rb");
  if (!file || fstat(fileno(file), &status)) fail("cannot open %s: %s", out.path, strerror(errno));
  size_t got = fread(header, 1, header_size, file);
  if (got < header_size) fail("%s: cut in its header, at byte %zu", out.path, got);
  idx_check_magic(out.path, header, what, rank);
  uint64_t size = 1, room = (uint64_t)status.st_size - header_size;
  for (int i = 0; i < rank; i++) {
    out.sizes[i] = file_number(header + 4 + 4 * i, 4, 0);
    if (out.sizes[i] == 0 || out.sizes[i] > (i ? CN_MAX_DIMENSION : INT_MAX))
      fail("%s: byte %d: the size %u is out of range", out.path, 4 + 4 * i, (unsigned)out.sizes[i]);
    if (out.sizes[i] > room / size)
      fail("%s: cut: its header promises more values than the %llu bytes behind it", out.path,
           (unsigned long long)room);
    size *= out.sizes[i];
  }
  if (size != room)
    fail("%s: %llu bytes follow the values its header promises", out.path,
         (unsigned long long)(room - size));
  out.values = allocate((size_t)size, 1);
  if (fread(out.values, 1, (size_t)size, file) != size)
    fail("cannot read %s: %s", out.path, ferror(file) ? strerror(errno) : "it shrank");
  fclose(file);
  return out;
}

static inline void dataset_open_idx(dataset *data, const char *folder, const char *part) {
  idx images = idx_read(folder, part, "images", 3), labels = idx_read(folder, part, "labels", 1);
  if (images.sizes[0] != labels.sizes[0])
    fail("%s has %u images, but %s %u labels", images.path, (unsigned)images.sizes[0], labels.path,
         (unsigned)labels.sizes[0]);
  data->count = (int)images.sizes[0];
  data->height = (int)images.sizes[1];
  data->width = (int)images.sizes[2];
  data->channels = 1;
  data->pixels = images.values;
  data->cached = data->count;
  data->labels = allocate((size_t)data->count, sizeof(int));
  int largest = 0;
  for (int i = 0; i < data->count; i++) {
    data->labels[i] = labels.values[i];
    if (data->labels[i] > largest) largest = data->labels[i];
  }
  data->set = classes_numbered(largest + 1);
  data->label_file = labels.path;
  free(labels.values);
  free(images.path);
}

/* Names in a folder, sorted, without those that start with a dot. */
static inline char **list_folder(const char *folder, int *count) {
  DIR *stream = opendir(folder);
  if (!stream) fail("cannot open %s: %s", folder, strerror(errno));
  char **names = NULL;
  *count = 0;
  for (struct dirent *entry; (entry = readdir(stream)) != NULL;) {
    if (entry->d_name[0] == '.') continue;
    names = reallocate(names, (size_t)*count + 1, sizeof(char *));
    names[(*count)++] = copy_text(entry->d_name);
  }
  closedir(stream);
  if (*count) qsort(names, (size_t)*count, sizeof(char *), compare_names);
  return names;
}

/* By its extension: what a file browser leaves in a folder is not a broken picture. */
static inline int is_picture_name(const char *name) {
  static const char *const extensions[] = {"png", "jpg", "jpeg", "bmp", "gif", "tga", "psd",
                                           "pgm", "ppm", "pnm",  "hdr", "pic", NULL};
  const char *dot = strrchr(name, '.');
  if (!dot || strlen(dot + 1) > 4) return 0;
  char lower[8] = {0};
  for (int i = 0; dot[i + 1]; i++)
    lower[i] = (char)(dot[i + 1] >= 'A' && dot[i + 1] <= 'Z' ? dot[i + 1] + 32 : dot[i + 1]);
  for (int i = 0; extensions[i]; i++)
    if (!strcmp(lower, extensions[i])) return 1;
  return 0;
}

static inline void dataset_open_folder(dataset *data, const char *folder) {
  int class_count, file_count, others = 0;
  char **names = list_folder(folder, &class_count);
  for (int k = 0; k < class_count; k++) {
    char *sub = join_path(folder, names[k]);
    if (is_folder(sub)) {
      if (strchr(names[k], '\n')) fail("%s: a class name cannot hold a line end", sub);
      char **files = list_folder(sub, &file_count);
      classes_add(&data->set, names[k]);
      for (int i = 0; i < file_count; i++) {
        if (is_picture_name(files[i]))
          dataset_add(data, join_path(sub, files[i]), data->set.count - 1);
        else others++;
        free(files[i]);
      }
      free(files);
    }
    free(sub);
    free(names[k]);
  }
  free(names);
  if (others) say("%s: ignores %d files that are not named like pictures", folder, others);
}

static inline void dataset_open_csv(dataset *data, const char *path) {
  csv table = csv_open(path);
  int path_column = csv_column(&table, "path"), label_column = csv_column(&table, "label");
  char *folder = folder_of(path);
  char **labels = NULL;
  while (csv_row(&table)) {
    const char *file = table.fields[path_column], *label = table.fields[label_column];
    if (!*file) fail("%s: line %d: the path is empty", path, table.line);
    if (!*label) fail("%s: line %d: the label is empty", path, table.line);
    if (strchr(label, '\n')) fail("%s: line %d: a label cannot hold a line end", path, table.line);
    labels = reallocate(labels, (size_t)data->count + 1, sizeof(char *));
    labels[data->count] = copy_text(label);
    dataset_add(data, *file == '/' ? copy_text(file) : join_path(folder, file), 0);
  }
  char **sorted = allocate((size_t)data->count, sizeof(char *));
  if (data->count) memcpy(sorted, labels, (size_t)data->count * sizeof(char *));
  qsort(sorted, (size_t)data->count, sizeof(char *), compare_names);
  for (int i = 0; i < data->count; i++)
    if (i == 0 || strcmp(sorted[i], sorted[i - 1])) classes_add(&data->set, sorted[i]);
  free(sorted);
  for (int i = 0; i < data->count; i++) {
    data->labels[i] = classes_find(&data->set, labels[i]);
    free(labels[i]);
  }
  free(labels);
  free(folder);
  csv_close(&table);
}

/* Finds a data set's samples and labels. IDX pictures are read now, others by dataset_prepare. */
static inline dataset dataset_open(const char *spec) {
  dataset data = {0};
  data.name = copy_text(spec);
  data.cache_bytes = DATASET_CACHE_BYTES;
  const char *colon = strrchr(spec, ':');
  int train = colon && !strcmp(colon, ":train"), test = colon && !strcmp(colon, ":test");
  if (train || test) {
    char *folder = copy_text(spec);
    folder[colon - spec] = 0;
    if (!is_folder(folder)) fail("%s is not a folder", folder);
    dataset_open_idx(&data, folder, train ? "train" : "t10k");
    free(folder);
  } else if (is_folder(spec)) {
    dataset_open_folder(&data, spec);
    if (!data.count)
      fail("%s: no class folders with pictures in it (for IDX files add :train or :test)", spec);
  } else {
    dataset_open_csv(&data, spec);
    if (!data.count) fail("%s: lists no pictures", spec);
  }
  return data;
}

/* Renumbers labels by name, so that a folder which lacks a class does not shift the others. */
static inline void dataset_map(dataset *data, const class_list *set, const char *whose) {
  int *to = allocate((size_t)data->set.count, sizeof(int));
  for (int k = 0; k < data->set.count; k++) to[k] = classes_find(set, data->set.names[k]);
  for (int i = 0; i < data->count; i++) {
    int label = data->labels[i];
    if (to[label] >= 0) {
      data->labels[i] = to[label];
      continue;
    }
    if (data->label_file)
      fail("%s: byte %d: label %d of picture %d is out of range: %s has %d classes (%s to %s)",
           data->label_file, 8 + i, label, i, whose, set->count, set->names[0],
           set->names[set->count - 1]);
    fail("%s: class \"%s\" (%s) is not one of the %d classes of %s (%s to %s)", data->name,
         data->set.names[label], data->paths[i], set->count, whose, set->names[0],
         set->names[set->count - 1]);
  }
  free(to);
  classes_free(&data->set);
  for (int k = 0; k < set->count; k++) classes_add(&data->set, set->names[k]);
}

typedef struct idx_fitting {
  const dataset *data;
  const preprocess *pre;
  uint8_t *fitted;
} idx_fitting;

static inline void dataset_fit_picture(void *context, int i, int thread) {
  const idx_fitting *f = context;
  const dataset *data = f->data;
  size_t from = (size_t)data->height * (size_t)data->width;
  uint8_t *grey = allocate(from, (size_t)f->pre->channels);
  picture sample = {grey, data->height, data->width, f->pre->channels};
  (void)thread;
  convert_channels(data->pixels + (size_t)i * from, 1, grey, f->pre->channels, from);
  picture_resize(&sample, f->pre, f->fitted + (size_t)i * preprocess_size(f->pre));
  free(grey);
}

/* IDX pictures of another size than the network's are refused unless resizing was asked for: there
   it is more often a wrong network than a wish. */
static inline void dataset_fit_idx(dataset *data, const preprocess *pre, int resize) {
  if (data->height == pre->height && data->width == pre->width && data->channels == pre->channels)
    return;
  if (!resize)
    fail("%s: pictures are %dx%dx%d, the network's input is %dx%dx%d (--resize squash stretches)",
         data->name, data->height, data->width, data->channels, pre->height, pre->width,
         pre->channels);
  idx_fitting f = {data, pre, allocate((size_t)data->count, preprocess_size(pre))};
  share_work(data->count, dataset_fit_picture, &f);
  free(data->pixels);
  data->pixels = f.fitted;
}

/* Removes unreadable pictures if allowed, else stops; either way names and counts them. */
static inline void dataset_drop_bad(dataset *data, char **reasons, int bad, int skip_bad,
                                    size_t size) {
  int kept = 0, named = 0, cached = 0;
  for (int i = 0; i < data->count; i++) {
    if (reasons[i]) {
      if (!skip_bad)
        fail("%s: %s%s (%d of %d pictures cannot be read; --skip-bad uses the rest)",
             data->paths[i], reasons[i], bad > 1 ? ", and others" : "", bad, data->count);
      if (named++ < 20) say("skips %s: %s", data->paths[i], reasons[i]);
      free(data->paths[i]);
      continue;
    }
    data->paths[kept] = data->paths[i];
    data->labels[kept] = data->labels[i];
    if (data->originals) data->originals[kept] = data->originals[i];
    if (i < data->cached) {
      if (kept < i)
        memcpy(data->pixels + (size_t)kept * size, data->pixels + (size_t)i * size, size);
      cached++;
    }
    kept++;
  }
  data->cached = cached;
  say("%s: %d of %d pictures cannot be read and are left out", data->name, bad, data->count);
  data->count = kept;
  if (!kept) fail("%s: no picture is left", data->name);
}

/* Reads sample i at the network's input size, or as its file has it, and keeps it if it fits into
   what is left of the cache. Returns 0, or why it cannot be read. */
static inline const char *dataset_read_sample(dataset *data, int i, const preprocess *pre,
                                              uint8_t *scratch, size_t *used) {
  if (!data->keeps_originals)
    return picture_fit(data->paths[i], pre,
                       i < data->cached ? data->pixels + (size_t)i * preprocess_size(pre)
                                        : scratch);
  picture read = {0};
  const char *reason = picture_read(data->paths[i], pre->channels, &read);
  if (reason) return reason;
  size_t bytes = (size_t)read.height * (size_t)read.width * (size_t)read.channels;
  work_lock();
  if (bytes <= data->cache_bytes - *used) {
    *used += bytes;
    data->originals[i] = read;
  }
  work_unlock();
  if (!data->originals[i].pixels) free(read.pixels);
  return NULL;
}

typedef struct picture_reading {
  dataset *data;
  const preprocess *pre;
  uint8_t *scratch; /* a picture for each thread */
  size_t used;      /* of the cache */
  char **reasons;
  int bad, done;
  progress bar;
} picture_reading;

static inline void dataset_read_picture(void *context, int i, int thread) {
  picture_reading *r = context;
  uint8_t *scratch = r->scratch + (size_t)thread * preprocess_size(r->pre);
  const char *reason = dataset_read_sample(r->data, i, r->pre, scratch, &r->used);
  char figures[64];
  work_lock();
  if (reason) {
    r->reasons[i] = copy_text(reason);
    r->bad++;
  }
  snprintf(figures, sizeof figures, "%d of %d", ++r->done, r->data->count);
  progress_draw(&r->bar, "reading pictures", (double)r->done / r->data->count, figures);
  work_unlock();
}

/* Reads every picture once: finds the unreadable ones before training starts, and fills the
   cache. */
static inline void dataset_read_pictures(dataset *data, const preprocess *pre, int skip_bad,
                                         int quiet) {
  size_t size = preprocess_size(pre), fitting = data->cache_bytes / size;
  if (data->keeps_originals) {
    data->originals = allocate((size_t)data->count, sizeof *data->originals);
  } else {
    data->cached = (size_t)data->count <= fitting ? data->count : (int)fitting;
    data->pixels = allocate((size_t)data->cached, size);
  }
  picture_reading r = {data, pre, NULL, 0, NULL, 0, 0, progress_start(quiet)};
  r.scratch = allocate((size_t)use_threads(0), size);
  r.reasons = allocate((size_t)data->count, sizeof(char *));
  share_work(data->count, dataset_read_picture, &r);
  progress_wipe();
  if (r.bad) dataset_drop_bad(data, r.reasons, r.bad, skip_bad, size);
  for (int i = 0; i < data->count + r.bad; i++) free(r.reasons[i]);
  free(r.reasons);
  free(r.scratch);
}

/* Makes a data set ready for dataset_bytes. */
static inline void dataset_prepare(dataset *data, const preprocess *pre, int resize, int skip_bad,
                                   int quiet) {
  if (data->paths) dataset_read_pictures(data, pre, skip_bad, quiet);
  else dataset_fit_idx(data, pre, resize);
  data->height = pre->height;
  data->width = pre->width;
  data->channels = pre->channels;
}

/* A sample as large as its file has it if the data set keeps originals, else at the network's input
   size. *own tells that the pixels are the caller's to free. */
static inline picture dataset_original(const dataset *data, int index, const preprocess *pre,
                                       int *own) {
  picture out = {NULL, pre->height, pre->width, pre->channels};
  *own = 0;
  if (index < data->cached) {
    out.pixels = data->pixels + (size_t)index * preprocess_size(pre);
    return out;
  }
  if (data->originals && data->originals[index].pixels) return data->originals[index];
  const char *reason = picture_read(data->paths[index], pre->channels, &out);
  if (reason) fail("%s: %s (it could be read before)", data->paths[index], reason);
  *own = 1;
  return out;
}

/* The bytes of a sample at the network's input size; scratch has room for them. */
static inline const uint8_t *dataset_bytes(const dataset *data, int index, const preprocess *pre,
                                           uint8_t *scratch) {
  int own;
  if (index < data->cached) return data->pixels + (size_t)index * preprocess_size(pre);
  picture original = dataset_original(data, index, pre, &own);
  picture_resize(&original, pre, scratch);
  if (own) free(original.pixels);
  return scratch;
}

typedef struct input_making {
  const dataset *data;
  const int *indices; /* of the samples, or NULL */
  int first;
  const preprocess *pre;
  float *inputs;
  uint8_t *scratch; /* a picture for each thread, or NULL: all are cached */
} input_making;

static inline void dataset_make_input(void *context, int i, int thread) {
  const input_making *m = context;
  size_t size = preprocess_size(m->pre);
  int index = m->indices ? m->indices[m->first + i] : m->first + i;
  uint8_t *scratch = m->scratch ? m->scratch + (size_t)thread * size : NULL;
  preprocess_bytes(m->pre, dataset_bytes(m->data, index, m->pre, scratch),
                   m->inputs + (size_t)i * size);
}

/* Inputs for `count` samples without augmentation; indices NULL means first, first + 1, ... */
static inline void dataset_inputs(const dataset *data, const int *indices, int first, int count,
                                  const preprocess *pre, float *inputs) {
  input_making m = {data, indices, first, pre, inputs, NULL};
  if (data->cached < data->count)
    m.scratch = allocate((size_t)use_threads(0), preprocess_size(pre));
  share_work(count, dataset_make_input, &m);
  free(m.scratch);
}

#endif
