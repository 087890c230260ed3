/* report.h - what tally-extract and tally-read share: forms as files, their registered pictures,
   and the page that shows them.

   Internal to tools/. Include it in the place of common.h:

   1. Forms: lists of pictures, templates, decoding of pictures that cannot be trusted.
   2. Views: the table of a registered form, cut out and straightened, as JPEG.
   3. Text: what HTML and JSON need escaped, base64.
   4. Figures in SVG.
   5. The page: style, script, forms.

   Pictures of whole forms are never shown: names and signatures stand below the table. */
#ifndef TALLY_REPORT_H
#define TALLY_REPORT_H

#include <stddef.h>
#include <stdlib.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif

#include "../tally.h"

#include "common.h"

/* ---- 1. forms -------------------------------------------------------------------------------- */

/* Numbers in names by their size: form2 before form12. */
static inline int compare_natural(const char *a, const char *b) {
  const char *a_start = a, *b_start = b;
  while (*a && *b) {
    size_t a_digits = strspn(a, "0123456789"), b_digits = strspn(b, "0123456789");
    if (a_digits && b_digits) {
      while (*a == '0' && a_digits > 1) a++, a_digits--;
      while (*b == '0' && b_digits > 1) b++, b_digits--;
      if (a_digits != b_digits) return a_digits < b_digits ? -1 : 1;
      int order = strncmp(a, b, a_digits);
      if (order) return order;
      a += a_digits;
      b += b_digits;
    } else {
      if (*a != *b) return (unsigned char)*a < (unsigned char)*b ? -1 : 1;
      a++;
      b++;
    }
  }
  if (*a || *b) return *a ? 1 : -1;
  return strcmp(a_start, b_start);
}

static inline int compare_paths(const void *a, const void *b) {
  return compare_natural(*(char *const *)a, *(char *const *)b);
}

/* The pictures to read, in natural order of their paths, each with its tally's name: the picture's
   file name, or the whole path where two have the same file name. */
typedef struct form_list {
  char **paths, **names;
  int count, capacity;
  int *by_name; /* indices sorted by name */
} form_list;

static inline void form_list_add(form_list *list, char *path) {
  if (list->count == INT_MAX / 2) fail("too many pictures");
  if (list->count == list->capacity) {
    list->capacity = list->capacity * 2 + 64;
    list->paths = reallocate(list->paths, (size_t)list->capacity, sizeof(char *));
  }
  list->paths[list->count++] = path;
}

static inline const char *file_name_of(const char *path) {
  const char *slash = strrchr(path, '/');
  return slash && slash[1] ? slash + 1 : path;
}

typedef struct form_name {
  const char *name;
  int index;
} form_name;

static inline int compare_form_names(const void *a, const void *b) {
  const form_name *x = a, *y = b;
  int order = strcmp(x->name, y->name);
  return order ? order : (x->index > y->index) - (x->index < y->index);
}

static inline void form_list_name(form_list *list) {
  form_name *sorted = allocate((size_t)list->count, sizeof *sorted);
  list->names = allocate((size_t)list->count, sizeof(char *));
  list->by_name = allocate((size_t)list->count, sizeof(int));
  for (int i = 0; i < list->count; i++)
    sorted[i] = (form_name){file_name_of(list->paths[i]), i};
  qsort(sorted, (size_t)list->count, sizeof *sorted, compare_form_names);
  for (int i = 0; i < list->count; i++) {
    int shared = (i > 0 && !strcmp(sorted[i].name, sorted[i - 1].name)) ||
                 (i + 1 < list->count && !strcmp(sorted[i].name, sorted[i + 1].name));
    int index = sorted[i].index;
    list->names[index] = copy_text(shared ? list->paths[index] : sorted[i].name);
  }
  for (int i = 0; i < list->count; i++) sorted[i] = (form_name){list->names[i], i};
  qsort(sorted, (size_t)list->count, sizeof *sorted, compare_form_names);
  for (int i = 0; i < list->count; i++) list->by_name[i] = sorted[i].index;
  free(sorted);
}

/* Files as they are, folders as the pictures in them. What is not there or not a picture stays in
   the list: reading it fails with a reason, and the others go on. */
static inline form_list form_list_open(char *const *arguments, int count) {
  form_list list = {0};
  for (int a = 0; a < count; a++) {
    if (!is_folder(arguments[a]) || is_picture_name(arguments[a])) {
      form_list_add(&list, copy_text(arguments[a]));
      continue;
    }
    int files, others = 0;
    char **names = list_folder(arguments[a], &files);
    for (int i = 0; i < files; i++) {
      if (is_picture_name(names[i])) form_list_add(&list, join_path(arguments[a], names[i]));
      else others++;
      free(names[i]);
    }
    free(names);
    if (others == files) say("%s: there are no pictures in this folder", arguments[a]);
  }
  if (!list.count) fail("there are no pictures to read");
  qsort(list.paths, (size_t)list.count, sizeof(char *), compare_paths);
  int kept = 1;
  for (int i = 1; i < list.count; i++) {
    if (strcmp(list.paths[i], list.paths[kept - 1])) list.paths[kept++] = list.paths[i];
    else free(list.paths[i]);
  }
  list.count = kept;
  form_list_name(&list);
  return list;
}

/* Index of a tally by its name, or -1. A table made elsewhere may leave the extension out. */
static inline int form_list_find(const form_list *list, const char *name) {
  int low = 0, high = list->count;
  size_t length = strlen(name);
  while (low < high) {
    int middle = (low + high) / 2;
    if (strcmp(list->names[list->by_name[middle]], name) < 0) low = middle + 1;
    else high = middle;
  }
  if (low == list->count) return -1;
  const char *found = list->names[list->by_name[low]];
  if (!strcmp(found, name)) return list->by_name[low];
  int stem = length && !strncmp(found, name, length) && found[length] == '.' &&
             !strchr(found + length + 1, '.');
  return stem ? list->by_name[low] : -1;
}

static inline void form_list_free(form_list *list) {
  for (int i = 0; i < list->count; i++) {
    free(list->paths[i]);
    free(list->names[i]);
  }
  free(list->paths);
  free(list->names);
  free(list->by_name);
}

/* A file that comes with the programs: beside them in the checkout, or where they are installed.
   NULL if there is none. */
static inline char *shared_file(const char *program, const char *folder, const char *name) {
  static const char *const places[] = {"../examples", "../share/tally", NULL};
  char self[PATH_MAX];
  ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
  if (length > 0) self[length] = 0;
  char *home = folder_of(length > 0 ? self : program);
  for (int i = 0; places[i]; i++) {
    text_buffer path = {0};
    text_add(&path, "%s/%s/%s/%s", home, places[i], folder, name);
    if (is_file(path.data)) {
      free(home);
      return path.data;
    }
    free(path.data);
  }
  free(home);
  return NULL;
}

/* A template by its path, or by its name if it came with the programs. text is the caller's. */
static inline tally_template *template_open(const char *program, const char *spec, char **text,
                                            size_t *length) {
  tally_template *form = allocate(1, sizeof *form);
  tally_error error;
  text_buffer name = {0};
  text_add(&name, "%s.form", spec);
  char *found =
      is_file(spec) || strchr(spec, '/') ? NULL : shared_file(program, "templates", name.data);
  const char *path = found ? found : spec;
  if (!is_file(path))
    fail("%s: there is no such file, and no template of that name came along", spec);
  *text = read_file(path, length);
  if (tally_template_parse(*text, *length, form, &error) != TALLY_OK)
    fail("%s: line %d, column %d: %s", path, error.line, error.column, error.message);
  free(found);
  free(name.data);
  return form;
}

/* Pictures come and go, several megabytes each: memory that was freed is kept for the next one, as
   clearing pages anew takes a twentieth of the time. */
static inline void keep_freed_memory(void) {
#ifdef __GLIBC__
  mallopt(M_MMAP_THRESHOLD, 32 << 20);
  mallopt(M_TRIM_THRESHOLD, 128 << 20);
#endif
}

#define FORM_MAX_PIXELS (64 << 20)                 /* 8192 x 8192; what is larger is not a form */
#define FORM_MAX_BYTES ((off_t)256 << 20)          /* of a file */
#define FORM_MAX_MESSAGE "more than 67,108,864 pixels"

/* stb_image fills up with grey what a cut JPEG lacks. Votes must not be read off that, so the mark
   that ends the picture has to be there; a preview in the header has one of its own. */
static inline int jpeg_is_cut(const uint8_t *bytes, size_t size) {
  size_t at = 2;
  if (size < 4 || bytes[0] != 0xFF || bytes[1] != 0xD8) return 0;
  while (jpeg_has_segment(bytes, size, at)) at = jpeg_segment_end(bytes, at);
  for (; at + 1 < size; at++)
    if (bytes[at] == 0xFF && bytes[at + 1] == 0xD9) return 0;
  return 1;
}

/* The whole file; NULL with a reason. */
static inline uint8_t *form_bytes(const char *path, size_t *size, const char **reason) {
  struct stat status;
  *reason = NULL;
  if (stat(path, &status)) *reason = strerror(errno);
  else if (S_ISDIR(status.st_mode)) *reason = "it is a folder";
  else if (!S_ISREG(status.st_mode)) *reason = "not a regular file";
  else if (status.st_size == 0) *reason = "the file is empty";
  else if (status.st_size > FORM_MAX_BYTES) *reason = "the file is larger than 256 MB";
  FILE *file = *reason ? NULL : fopen(path, "rb");
  if (!file) {
    if (!*reason) *reason = strerror(errno);
    return NULL;
  }
  uint8_t *bytes = allocate((size_t)status.st_size, 1);
  *size = fread(bytes, 1, (size_t)status.st_size, file);
  if (ferror(file)) *reason = strerror(errno);
  fclose(file);
  if (!*reason) return bytes;
  free(bytes);
  return NULL;
}

/* stb_image calls a PNG file with huge sizes in its header unknown; its owner should learn the
   reason. */
static inline int png_is_huge(const uint8_t *bytes, int size) {
  static const uint8_t start[] = {0x89, 'P', 'N', 'G', 13,  10,  26,  10,
                                  0,    0,   0,   13,  'I', 'H', 'D', 'R'};
  if (size < 24 || memcmp(bytes, start, sizeof start)) return 0;
  return (uint64_t)file_number(bytes + 16, 4, 0) * file_number(bytes + 20, 4, 0) > FORM_MAX_PIXELS;
}

/* JPEG, PNG, BMP and PNM, told by how they start: what scanners and phones write. Forms come from
   anywhere, so no decoder of another format gets to see them. */
static inline int is_form_format(const uint8_t *bytes, int size) {
  if (size < 2) return 0;
  return (bytes[0] == 0xFF && bytes[1] == 0xD8) || (bytes[0] == 0x89 && bytes[1] == 'P') ||
         (bytes[0] == 'B' && bytes[1] == 'M') ||
         (bytes[0] == 'P' && (bytes[1] == '5' || bytes[1] == '6'));
}

/* Decodes with the memory capped. Twice 16-bit RGBA covers every format's scratch. */
static inline const char *form_decode(const uint8_t *bytes, int size, tally_image *out) {
  int width, height, channels;
  if (!is_form_format(bytes, size)) return "not a JPEG, PNG, BMP or PNM picture";
  if (png_is_huge(bytes, size)) return FORM_MAX_MESSAGE;
  if (!stbi_info_from_memory(bytes, size, &width, &height, &channels)) return stbi_failure_reason();
  if ((int64_t)width * height > FORM_MAX_PIXELS) return FORM_MAX_MESSAGE;
  if (width > TALLY_MAX_DIMENSION || height > TALLY_MAX_DIMENSION)
    return "more than 32,767 pixels on a side";
  size_t count = (size_t)width * (size_t)height;
  decoder_limit = count * 16 + ((size_t)1 << 20) + (size_t)size;
  uint8_t *pixels =
      stbi_load_from_memory(bytes, size, &width, &height, &channels, channels == 1 ? 3 : 0);
  decoder_limit = 0;
  if (!pixels) return stbi_failure_reason();
  *out = (tally_image){pixels, width, height, 3};
  if (channels == 1 || channels == 3) return NULL;
  out->pixels = allocate(count, 3);
  convert_channels(pixels, channels, out->pixels, 3, count);
  free(pixels);
  return NULL;
}

/* Registration knows pages of 0.5 to 2 pixels per template pixel. A page fills a third of its
   picture at least, so this leaves it between the two. */
static inline void form_shrink(const tally_template *form, tally_image *photo) {
  double most = 2.2 * (form->width > form->height ? form->width : form->height);
  int longer = photo->width > photo->height ? photo->width : photo->height;
  if (longer <= most) return;
  double scale = most / longer;
  tally_image smaller;
  int width = (int)(photo->width * scale + 0.5), height = (int)(photo->height * scale + 0.5);
  if (tally_resize(photo, width > 0 ? width : 1, height > 0 ? height : 1, &smaller) !=
      TALLY_OK)
    fail("out of memory");
  tally_image_free(photo);
  *photo = smaller;
}

/* Reads a form's picture in colour, at a size that can be registered. Returns 0, or why it cannot
   be read. tally_image_free releases it. */
static inline const char *form_read(const char *path, const tally_template *form,
                                    tally_image *out) {
  size_t size;
  const char *reason;
  memset(out, 0, sizeof *out);
  uint8_t *bytes = form_bytes(path, &size, &reason);
  if (!bytes) return reason;
  if (jpeg_is_cut(bytes, size)) reason = "the file is cut off: the picture's end is missing";
  else reason = form_decode(bytes, (int)size, out);
  free(bytes);
  if (out->pixels) form_shrink(form, out);
  else if (!reason) reason = "not a picture";
  return reason;
}

/* A form's picture, registered. Returns 0, or why it cannot be used. The picture is the caller's.
   */
static inline const char *form_register(const char *path, const tally_template *form,
                                        tally_image *photo, tally_registration *where) {
  memset(where, 0, sizeof *where);
  where->residual = -1;
  where->status = TALLY_FORM_POOR;
  const char *reason = form_read(path, form, photo);
  if (reason) return reason;
  tally_result result = tally_register(photo, form, where);
  if (result == TALLY_ERROR_MEMORY) fail("out of memory");
  if (result != TALLY_OK) return tally_result_text(result);
  return where->status == TALLY_FORM_OK ? NULL : where->reason;
}

/* What is kept of a form for the outputs to name: the folder of a tally's cells. */
static inline char *cell_folder_name(const char *tally) {
  char *name = copy_text(tally);
  for (char *c = name; *c; c++)
    if (*c == '/') *c = '_';
  return name;
}

/* ---- 2. views -------------------------------------------------------------------------------- */

/* c = a b for 3 x 3 matrices by rows. */
static inline void matrix_multiply(const double a[9], const double b[9], double c[9]) {
  for (int i = 0; i < 3; i++)
    for (int k = 0; k < 3; k++)
      c[3 * i + k] = a[3 * i] * b[k] + a[3 * i + 1] * b[3 + k] + a[3 * i + 2] * b[6 + k];
}

/* The part of a page that may be shown: the cells and as much of the printed table as lies beside
   them, so that a row can be told by its label. */
static inline tally_box table_of(const tally_template *form) {
  double left = form->width, right = 0, top = form->height, bottom = 0, margin = 0;
  for (int f = 0; f < form->fields; f++)
    for (int p = 0; p < form->field[f].digits; p++) {
      const tally_box *cell = &form->field[f].cell[p];
      left = fmin(left, cell->x);
      right = fmax(right, cell->x + cell->width);
      top = fmin(top, cell->y);
      bottom = fmax(bottom, cell->y + cell->height);
      margin = fmax(margin, 0.4 * cell->height);
    }
  for (int r = 0; r < form->rules; r++)
    if (!form->rule[r].down) {
      left = fmin(left, form->rule[r].from);
      right = fmax(right, form->rule[r].to);
    }
  left = fmax(left - margin, 0);
  top = fmax(top - margin, 0);
  right = fmin(right + margin, form->width);
  bottom = fmin(bottom + margin, form->height);
  return (tally_box){left, top, right - left, bottom - top};
}

/* Part of a page, straightened, at `scale` pixels per template pixel; as the field's own boxes put
   it if field >= 0. Where the picture is much finer than the view, the view is drawn finer and
   shrunk. */
static inline tally_image view_cut(const tally_image *photo, const tally_registration *where,
                                   int field, tally_box box, double scale) {
  int width = (int)ceil(box.width * scale), height = (int)ceil(box.height * scale);
  int fine = where->scale > 2 * scale ? 2 : 1;
  double place[9] = {1 / (scale * fine), 0, box.x, 0, 1 / (scale * fine), box.y, 0, 0, 1};
  double local[9] = {1, 0, 0, 0, 1, 0, 0, 0, 1}, page[9], h[9];
  if (field >= 0) {
    const double *l = where->local[field];
    double own[9] = {l[1], l[2], l[0], l[4], l[5], l[3], 0, 0, 1};
    memcpy(local, own, sizeof own);
  }
  matrix_multiply(where->page, local, page);
  matrix_multiply(page, place, h);
  tally_image view, smaller;
  if (tally_warp(photo, h, width * fine, height * fine, 245, &view) != TALLY_OK)
    fail("out of memory");
  if (fine == 1) return view;
  if (tally_resize(&view, width, height, &smaller) != TALLY_OK) fail("out of memory");
  tally_image_free(&view);
  return smaller;
}

static inline text_buffer image_jpeg(const tally_image *image, int quality) {
  text_buffer jpeg = {0};
  if (!stbi_write_jpg_to_func(append_bytes, &jpeg, image->width, image->height, image->channels,
                              image->pixels, quality))
    fail("cannot encode a picture");
  return jpeg;
}

/* Copies a picture into another, clipped. */
static inline void image_paste(tally_image *to, const tally_image *from, int left, int top) {
  for (int y = 0; y < from->height && top + y < to->height; y++)
    for (int x = 0; x < from->width && left + x < to->width; x++)
      for (int c = 0; c < 3; c++)
        to->pixels[((size_t)(top + y) * (size_t)to->width + (size_t)(left + x)) * 3 + (size_t)c] =
            from->pixels[((size_t)y * (size_t)from->width + (size_t)x) * (size_t)from->channels +
                         (size_t)(from->channels == 3 ? c : 0)];
}

/* Where a field's parts lie in its form's strip picture, in pixels: the boxes as photographed, and
   the 28 x 28 cells below each other in a second column. */
typedef struct strip_row {
  int top, width, height;   /* of the boxes; their left edge is 0 */
  int cells_left, cells_top; /* of the first cell; the others follow to the right */
} strip_row;

typedef struct strip {
  tally_image image;
  strip_row row[TALLY_MAX_FIELDS];
} strip;

static inline double strip_scale(const tally_template *form) {
  double least = form->height;
  for (int f = 0; f < form->fields; f++)
    least = fmin(least, fmin(form->field[f].cell[0].width, form->field[f].cell[0].height));
  return fmax(1, fmin(2, 46 / least));
}

/* A field's boxes with a margin in which strayed ink can be seen. */
static inline tally_box field_box(const tally_field *field) {
  const tally_box *first = &field->cell[0], *last = &field->cell[field->digits - 1];
  double margin = 0.2 * fmin(first->width, first->height);
  return (tally_box){first->x - margin, first->y - margin,
                     last->x + last->width - first->x + 2 * margin, first->height + 2 * margin};
}

/* Ink on paper, as a person expects it; networks want it the other way round. */
static inline void paste_cell(tally_image *to, const uint8_t *cell, int left, int top) {
  uint8_t paper[TALLY_SIDE * TALLY_SIDE];
  for (int i = 0; i < TALLY_SIDE * TALLY_SIDE; i++) paper[i] = (uint8_t)(255 - cell[i]);
  tally_image grey = {paper, TALLY_SIDE, TALLY_SIDE, 1};
  image_paste(to, &grey, left, top);
}

static inline strip strip_cut(const tally_image *photo, const tally_template *form,
                              const tally_registration *where, const tally_cell *cells, int raw) {
  strip out;
  tally_image view[TALLY_MAX_FIELDS];
  int widest = 0, height = 0, most_digits = 1;
  double scale = strip_scale(form);
  memset(&out, 0, sizeof out);
  for (int f = 0; f < form->fields; f++) {
    view[f] = view_cut(photo, where, f, field_box(&form->field[f]), scale);
    int line = view[f].height > TALLY_SIDE ? view[f].height : TALLY_SIDE;
    out.row[f] = (strip_row){height, view[f].width, view[f].height, 0, height};
    height += line;
    widest = view[f].width > widest ? view[f].width : widest;
    most_digits = form->field[f].digits > most_digits ? form->field[f].digits : most_digits;
  }
  if (tally_image_make(widest + most_digits * TALLY_SIDE, height, 3, &out.image) != TALLY_OK)
    fail("out of memory");
  memset(out.image.pixels, 255, (size_t)out.image.width * (size_t)height * 3);
  for (int f = 0; f < form->fields; f++) {
    const tally_field *field = &form->field[f];
    out.row[f].cells_left = widest;
    image_paste(&out.image, &view[f], 0, out.row[f].top);
    for (int p = 0; p < field->digits; p++) {
      const tally_cell *cell = &cells[field->first_cell + p];
      paste_cell(&out.image, raw ? cell->raw : cell->clean, widest + p * TALLY_SIDE,
                 out.row[f].cells_top);
    }
    tally_image_free(&view[f]);
  }
  return out;
}

/* ---- 3. text --------------------------------------------------------------------------------- */

/* File names are written by strangers: nothing in them may end an element or an attribute. */
static inline void html_text(text_buffer *to, const char *text) {
  for (; *text; text++) {
    unsigned char c = (unsigned char)*text;
    if (c == '&') text_add(to, "&amp;");
    else if (c == '<') text_add(to, "&lt;");
    else if (c == '>') text_add(to, "&gt;");
    else if (c == '"') text_add(to, "&quot;");
    else if (c == '\'') text_add(to, "&#39;");
    else if (c < 32 || c == 127) text_add(to, "&#%u;", c);
    else text_append(to, text, 1);
  }
}

/* A JSON string that may stand inside a script element. */
static inline void json_text(text_buffer *to, const char *text) {
  text_append(to, "\"", 1);
  for (; *text; text++) {
    unsigned char c = (unsigned char)*text;
    if (c < 32 || strchr("\"\\<>&'", c)) text_add(to, "\\u%04x", c);
    else text_append(to, text, 1);
  }
  text_append(to, "\"", 1);
}

static inline void base64_text(text_buffer *to, const char *bytes, size_t size) {
  static const char letters64[] =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  for (size_t i = 0; i < size; i += 3) {
    uint32_t group = 0;
    char four[4];
    for (size_t k = 0; k < 3; k++) group = group << 8 | (i + k < size ? (uint8_t)bytes[i + k] : 0);
    for (int k = 0; k < 4; k++)
      four[k] = i + (size_t)k > size ? '=' : letters64[group >> (18 - 6 * k) & 63];
    text_append(to, four, 4);
  }
}

/* 1234567 as 1,234,567. */
static inline const char *thousands(long long number, char out[32]) {
  char plain[32];
  int length = snprintf(plain, sizeof plain, "%lld", number), at = 0;
  for (int i = 0; i < length; i++) {
    if (i && plain[i - 1] != '-' && (length - i) % 3 == 0) out[at++] = ',';
    out[at++] = plain[i];
  }
  out[at] = 0;
  return out;
}

/* ---- what a report shows --------------------------------------------------------------------- */

#define NO_OFFICIAL (-1)

typedef enum { FORM_ACCEPTED, FORM_LOOK, FORM_UNREAD } form_verdict;

/* One count of one tally. */
typedef struct report_count {
  int value, official; /* TALLY_NO_VALUE, NO_OFFICIAL */
  float probability;
  uint8_t status, corrected;
} report_count;

typedef struct report_form {
  char *reason; /* why it needs a look; NULL if it does not */
  double quality, residual;
  form_verdict verdict;
  int high;      /* the paper's "high quality" */
  int looks;     /* counts to look at */
  int fails;     /* sums that do not hold */
  int unchecked; /* sums that cannot be checked */
  float least;   /* lowest probability among its counts */
} report_form;

typedef struct report {
  const tally_template *form;
  const form_list *list;
  report_form *forms;   /* [list->count] */
  report_count *counts; /* [list->count][form->fields] */
  tally_totals totals;
  int is_total[TALLY_MAX_FIELDS]; /* total of a sum: not a share of anything */
  int official;                   /* official counts were given */
  const char *template_path, *model_path;
  double risk, temperature;
  int raw;
} report;

static inline const report_count *report_count_at(const report *r, int tally, int field) {
  return &r->counts[(size_t)tally * (size_t)r->form->fields + (size_t)field];
}

static inline int report_verdicts(const report *r, form_verdict verdict) {
  int count = 0;
  for (int i = 0; i < r->list->count; i++) count += r->forms[i].verdict == verdict;
  return count;
}

/* Counts by what became of them; those compared with official ones too. */
typedef struct report_figures {
  long long counts, status[4]; /* of registered forms, by tally_count_status */
  long long compared, right, accepted, accepted_wrong;
} report_figures;

static inline report_figures report_measure(const report *r) {
  report_figures f = {0};
  for (int i = 0; i < r->list->count; i++)
    for (int k = 0; k < r->form->fields; k++) {
      const report_count *count = report_count_at(r, i, k);
      f.counts++;
      f.status[count->status]++;
      if (count->official == NO_OFFICIAL) continue;
      int accepted = count->status == TALLY_COUNT_OK, right = count->value == count->official;
      f.compared++;
      f.right += right;
      f.accepted += accepted;
      f.accepted_wrong += accepted && !right;
    }
  return f;
}

/* A sum that fails as read and that the field takes part in; -1 if there is none. */
static inline int failing_sum_of(const tally_template *form, const tally_counts *counts,
                                 int field) {
  for (int s = 0; s < form->sums; s++) {
    const tally_sum *sum = &form->sum[s];
    if (counts->sum[s].state != TALLY_SUM_FAILS || counts->count[field].value < 0) continue;
    if (sum->total == field) return s;
    for (int k = 0; k < sum->parts; k++)
      if (sum->part[k] == field) return s;
  }
  return -1;
}

/* Official votes of a field over the tallies of the run; -1 if there are none. */
static inline long long report_official(const report *r, int field) {
  long long sum = -1;
  for (int i = 0; i < r->list->count; i++) {
    int official = report_count_at(r, i, field)->official;
    if (official != NO_OFFICIAL) sum = (sum < 0 ? 0 : sum) + official;
  }
  return sum;
}

static inline double report_official_share(const report *r, int field) {
  double all = 0;
  for (int f = 0; f < r->form->fields; f++)
    if (!r->is_total[f]) all += (double)(report_official(r, f) > 0 ? report_official(r, f) : 0);
  return all > 0 && report_official(r, field) >= 0 ? (double)report_official(r, field) / all : -1;
}

/* ---- 4. figures ------------------------------------------------------------------------------ */

/* A round step that cuts a range into about `parts`. */
static inline double nice_step(double range, int parts) {
  double raw = range / parts, power = pow(10, floor(log10(raw))), lead = raw / power;
  return power * (lead <= 1 ? 1 : lead <= 2 ? 2 : lead <= 5 ? 5 : 10);
}

static inline void svg_begin(text_buffer *to, int width, int height, const char *what) {
  text_add(to,
           "<svg class=\"figure\" viewBox=\"0 0 %d %d\" width=\"%d\" height=\"%d\" role=\"img\" "
           "aria-label=\"",
           width, height, width, height);
  html_text(to, what);
  text_add(to, "\">\n");
}

static inline void svg_line(text_buffer *to, const char *class, double x1, double y1, double x2,
                            double y2) {
  text_add(to, "<line class=\"%s\" x1=\"%.2f\" y1=\"%.2f\" x2=\"%.2f\" y2=\"%.2f\"/>\n", class, x1,
           y1, x2, y2);
}

/* anchor: start, middle or end. */
TOOL_PRINTF(5, 6)
static inline void svg_text(text_buffer *to, const char *anchor, double x, double y,
                            const char *format, ...) {
  char words[256];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(words, sizeof words, format, arguments);
  va_end(arguments);
  text_add(to, "<text x=\"%.2f\" y=\"%.2f\" text-anchor=\"%s\">", x, y, anchor);
  html_text(to, words);
  text_add(to, "</text>\n");
}

static inline void svg_disc(text_buffer *to, const char *class, double x, double y, double radius) {
  text_add(to, "<circle class=\"%s\" cx=\"%.2f\" cy=\"%.2f\" r=\"%.2f\"/>\n", class, x, y, radius);
}

static inline void svg_diamond(text_buffer *to, const char *class, double x, double y,
                               double radius) {
  text_add(to, "<path class=\"%s\" d=\"M%.2f %.2fl%.2f %.2f %.2f %.2f %.2f %.2fz\"/>\n", class, x,
           y - radius, radius, radius, -radius, radius, -radius, -radius);
}

/* Shares per field with their 90 % intervals: all tallies, those of high quality, official. */
static inline void figure_shares(text_buffer *to, const report *r) {
  const int left = 190, right = 20, width = 760, row = 30, top = 14;
  double most = 0.01;
  int rows = 0;
  tally_total all[TALLY_MAX_FIELDS], high[TALLY_MAX_FIELDS];
  for (int f = 0; f < r->form->fields; f++) {
    tally_totals_get(&r->totals, TALLY_ALL, f, NULL, &all[f]);
    tally_totals_get(&r->totals, TALLY_HIGH_QUALITY, f, NULL, &high[f]);
    if (r->is_total[f]) continue;
    rows++;
    most = fmax(most, fmax(all[f].share_high, high[f].share_high));
    if (r->official) most = fmax(most, report_official_share(r, f));
  }
  double step = nice_step(most * 1.04, 6), reach = ceil(most * 1.04 / step) * step;
  double scale = (width - left - right) / reach;
  int bottom = top + rows * row;
  svg_begin(to, width, bottom + 44, "share of the votes of each field");
  for (double tick = 0; tick <= reach + step / 2; tick += step) {
    svg_line(to, "grid", left + tick * scale, top, left + tick * scale, bottom);
    svg_text(to, "middle", left + tick * scale, bottom + 18, "%g %%", round(tick * 1e4) / 100);
  }
  svg_text(to, "middle", left + (width - left - right) / 2.0, bottom + 38, "share of the votes");
  for (int f = 0, at = 0; f < r->form->fields; f++) {
    if (r->is_total[f]) continue;
    double y = top + row * (at++ + 0.5);
    svg_text(to, "end", left - 12, y + 5, "%s", r->form->field[f].name);
    svg_line(to, "grid", left, y + row / 2.0, width - right, y + row / 2.0);
    svg_line(to, "interval", left + all[f].share_low * scale, y - 3,
             left + all[f].share_high * scale, y - 3);
    svg_disc(to, "dot all", left + all[f].share * scale, y - 3, 5);
    if (r->totals.tallies[TALLY_HIGH_QUALITY])
      svg_diamond(to, "dot high", left + high[f].share * scale, y + 5, 5);
    double official = r->official ? report_official_share(r, f) : -1;
    if (official >= 0)
      svg_line(to, "official", left + official * scale, y - 12, left + official * scale, y + 12);
  }
  text_add(to, "</svg>\n");
}

/* Where a count lies on a logarithmic axis that has room for 0. */
static inline double log_place(double count, double most) {
  return log(1 + count) / log(1 + most);
}

static const int log_ticks[] = {0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000,
                                100000, 1000000};

/* Pairs of official and read counts, and how often each occurs. */
typedef struct report_pair {
  int official, value, high;
} report_pair;

static inline int compare_pairs(const void *a, const void *b) {
  const report_pair *x = a, *y = b;
  if (x->high != y->high) return x->high - y->high;
  if (x->official != y->official) return x->official < y->official ? -1 : 1;
  return (x->value > y->value) - (x->value < y->value);
}

static inline report_pair *report_pairs(const report *r, int *count) {
  int fields = r->form->fields;
  report_pair *pairs = allocate((size_t)r->list->count * (size_t)fields, sizeof *pairs);
  *count = 0;
  for (int i = 0; i < r->list->count; i++)
    for (int f = 0; f < fields; f++) {
      const report_count *c = report_count_at(r, i, f);
      if (r->is_total[f] || c->official == NO_OFFICIAL || c->value < 0) continue;
      pairs[(*count)++] = (report_pair){c->official, c->value, r->forms[i].high};
    }
  qsort(pairs, (size_t)*count, sizeof *pairs, compare_pairs);
  return pairs;
}

/* Counts read against official ones: log axes, 45-degree line, size by frequency, shape by quality.
   */
static inline void figure_scatter(text_buffer *to, const report *r) {
  const int side = 400, left = 64, top = 14;
  int count, most = 9;
  report_pair *pairs = report_pairs(r, &count);
  for (int i = 0; i < count; i++) {
    most = pairs[i].official > most ? pairs[i].official : most;
    most = pairs[i].value > most ? pairs[i].value : most;
  }
  svg_begin(to, left + side + 20, top + side + 48, "counts read against official counts");
  int last = -100;
  for (size_t t = 0; t < sizeof log_ticks / sizeof *log_ticks && log_ticks[t] <= most; t++) {
    int at = (int)(side * log_place(log_ticks[t], most));
    svg_line(to, "grid", left + at, top, left + at, top + side);
    svg_line(to, "grid", left, top + side - at, left + side, top + side - at);
    if (at - last < 26) continue;
    last = at;
    svg_text(to, "middle", left + at, top + side + 18, "%d", log_ticks[t]);
    svg_text(to, "end", left - 8, top + side - at + 5, "%d", log_ticks[t]);
  }
  svg_line(to, "diagonal", left, top + side, left + side, top);
  for (int i = 0, next; i < count; i = next) {
    for (next = i; next < count && !compare_pairs(&pairs[i], &pairs[next]);) next++;
    double x = left + side * log_place(pairs[i].official, most);
    double y = top + side - side * log_place(pairs[i].value, most);
    double radius = fmin(2.2 + 0.9 * sqrt(next - i - 1.0), 13);
    const char *wrong = pairs[i].official == pairs[i].value ? "" : " off";
    char class[32];
    snprintf(class, sizeof class, "point %s%s", pairs[i].high ? "high" : "moderate", wrong);
    text_add(to, "<g><title>official %d, read %d: %d times</title>", pairs[i].official,
             pairs[i].value, next - i);
    if (pairs[i].high) svg_disc(to, class, x, y, radius);
    else svg_diamond(to, class, x, y, radius * 1.25);
    text_add(to, "</g>");
  }
  svg_text(to, "middle", left + side / 2.0, top + side + 40, "official count");
  text_add(to, "<text class=\"turned\" transform=\"translate(16 %d) rotate(-90)\" "
               "text-anchor=\"middle\">count read</text>\n</svg>\n", top + side / 2);
  free(pairs);
}

/* How large the counts are, totals left out. */
static inline void figure_histogram(text_buffer *to, const report *r) {
  enum { MOST_BARS = 40 };
  const int width = 400, height = 230, left = 64, top = 14;
  int bars[MOST_BARS] = {0}, most = 0, used = 1, tallest = 1;
  for (int pass = 0, size = 1; pass < 2; pass++) {
    if (pass) size = (most + MOST_BARS) / MOST_BARS;
    for (int i = 0; i < r->list->count; i++)
      for (int f = 0; f < r->form->fields; f++) {
        int value = report_count_at(r, i, f)->value;
        if (r->is_total[f] || value < 0) continue;
        if (!pass) most = value > most ? value : most;
        else if (++bars[value / size] > tallest) tallest = bars[value / size];
      }
    used = most / size + 1;
  }
  int size = (most + MOST_BARS) / MOST_BARS;
  double step = nice_step(tallest, 4), bar = (double)width / used;
  if (step < 1) step = 1;
  svg_begin(to, left + width + 20, top + height + 48, "distribution of the counts");
  for (double tick = 0; tick <= tallest; tick += step) {
    double y = top + height - height * tick / tallest;
    svg_line(to, "grid", left, y, left + width, y);
    svg_text(to, "end", left - 8, y + 5, "%g", tick);
  }
  for (int i = 0; i < used; i++) {
    double tall = (double)height * bars[i] / tallest;
    text_add(to, "<rect class=\"bar\" x=\"%.2f\" y=\"%.2f\" width=\"%.2f\" height=\"%.2f\"><title>",
             left + i * bar + 0.5, top + height - tall, fmax(bar - 1, 0.5), tall);
    if (size == 1) text_add(to, "%d: %d counts</title></rect>\n", i, bars[i]);
    else
      text_add(to, "%d to %d: %d counts</title></rect>\n", i * size, i * size + size - 1, bars[i]);
  }
  double across = fmax(nice_step(used * size, 6), 1);
  for (double tick = 0; tick < used * size; tick += across)
    svg_text(to, "middle", left + (tick / size + 0.5) * bar, top + height + 18, "%g", tick);
  svg_text(to, "middle", left + width / 2.0, top + height + 40, "votes in one count");
  text_add(to, "</svg>\n");
}

/* A count on the curve of risk against coverage. */
typedef struct ranked_count {
  float probability;
  int accepted, wrong; /* wrong: -1 unknown */
} ranked_count;

static inline int compare_ranked(const void *a, const void *b) {
  const ranked_count *x = a, *y = b;
  if (x->accepted != y->accepted) return y->accepted - x->accepted;
  return (x->probability < y->probability) - (x->probability > y->probability);
}

static inline ranked_count *report_ranked(const report *r, int *count) {
  size_t all = (size_t)r->list->count * (size_t)r->form->fields;
  ranked_count *ranked = allocate(all, sizeof *ranked);
  *count = 0;
  for (size_t i = 0; i < all; i++) {
    const report_count *c = &r->counts[i];
    if (c->value < 0 || (r->official && c->official == NO_OFFICIAL)) continue;
    ranked[(*count)++] = (ranked_count){c->probability, c->status == TALLY_COUNT_OK,
                                        r->official ? c->value != c->official : -1};
  }
  qsort(ranked, (size_t)*count, sizeof *ranked, compare_ranked);
  return ranked;
}

/* If only the surest part of the counts is taken, which share of them is wrong: what the reader
   expects from its own probabilities, and what the official counts say. */
static inline void figure_risk(text_buffer *to, const report *r) {
  const int width = 400, height = 230, left = 64, top = 14;
  int count, accepted = 0;
  ranked_count *ranked = report_ranked(r, &count);
  double expected = 0, wrong = 0, most = 0.005;
  for (int i = 0; i < count; i++) {
    expected += 1 - (double)ranked[i].probability;
    wrong += ranked[i].wrong > 0;
    accepted += ranked[i].accepted;
    if (i >= count / 20) most = fmax(most, fmax(expected, wrong) / (i + 1));
  }
  double step = nice_step(most, 4), reach = ceil(most / step) * step;
  svg_begin(to, left + width + 20, top + height + 48, "risk against coverage");
  for (double tick = 0; tick <= reach + step / 2; tick += step) {
    double y = top + height - height * tick / reach;
    svg_line(to, "grid", left, y, left + width, y);
    svg_text(to, "end", left - 8, y + 5, "%g %%", round(tick * 1e6) / 1e4);
  }
  for (int tick = 0; tick <= 100; tick += 20)
    svg_text(to, "middle", left + width * tick / 100.0, top + height + 18, "%d %%", tick);
  for (int kind = 0; kind < (r->official ? 2 : 1); kind++) {
    double sum = 0;
    int stride = count / 400 + 1;
    text_add(to, "<path class=\"%s\" d=\"", kind ? "curve observed" : "curve expected");
    for (int i = 0; i < count; i++) {
      sum += kind ? ranked[i].wrong > 0 : 1 - (double)ranked[i].probability;
      if (i % stride && i + 1 < count && i + 1 != accepted) continue;
      text_add(to, "%c%.1f %.1f", i ? 'L' : 'M', left + width * (i + 1.0) / count,
               top + height - height * fmin(sum / (i + 1) / reach, 1));
    }
    text_add(to, "\"/>\n");
  }
  if (count) {
    double x = left + width * (double)accepted / count;
    int right = 2 * accepted > count;
    svg_line(to, "accepted", x, top, x, top + height);
    svg_text(to, right ? "end" : "start", x + (right ? -6 : 6), top + 12, "accepted: %.1f %%",
             100.0 * accepted / count);
  }
  svg_text(to, "middle", left + width / 2.0, top + height + 40,
           "share of the counts, the surest first");
  text_add(to, "</svg>\n");
  free(ranked);
}

/* ---- 5. the page ----------------------------------------------------------------------------- */

/* Colours are named once for light and once for dark; everything else refers to them. */
static const char *const page_style[] = {
    ":root{color-scheme:light dark;--paper:#fbfaf8;--card:#fff;--text:#1d2126;--faint:#68707a;",
    "--line:#dcdad5;--grid:#e8e6e1;--ok:#2c7a51;--look:#b3590f;--unread:#a8322a;--mark:#2a5d9f;",
    "--soft:#eef3f9;--looksoft:#fbf1e4}\n",
    "@media(prefers-color-scheme:dark){:root{--paper:#15181c;--card:#1c2025;--text:#e4e6e9;",
    "--faint:#98a1ab;--line:#343a42;--grid:#2a2f36;--ok:#62bd8c;--look:#e59a4f;--unread:#ec7d73;",
    "--mark:#7fb0ea;--soft:#222b36;--looksoft:#2d251b}}\n",
    "*{box-sizing:border-box}html{scroll-padding-top:4.5rem}\n",
    "body{margin:0;background:var(--paper);color:var(--text);font:16px/1.5 system-ui,",
    "-apple-system,",
    "'Segoe UI',Roboto,'Noto Sans','DejaVu Sans',sans-serif;font-variant-numeric:tabular-nums}\n",
    "main,header,.bar>div{max-width:1280px;margin:0 auto;padding:0 1.5rem}\n",
    "header{padding-top:2.2rem}h1{font-size:1.9rem;line-height:1.2;margin:0 0 .4rem;",
    "letter-spacing:-.01em}h2{font-size:1.3rem;margin:2.6rem 0 .6rem}h3{font-size:1.05rem;",
    "margin:0;",
    "overflow-wrap:anywhere}p{margin:.4rem 0;max-width:46rem}.faint,figcaption{",
    "color:var(--faint)}\n",
    ".lead{font-size:1.1rem}.tiles{display:flex;flex-wrap:wrap;gap:.8rem;margin:1.2rem 0}\n",
    ".tile{background:var(--card);border:1px solid var(--line);border-radius:8px;",
    "padding:.7rem 1.1rem;",
    "min-width:9.5rem;border-top:4px solid var(--faint)}.tile b{display:block;font-size:1.8rem;",
    "line-height:1.25}.tile.ok{border-top-color:var(--ok)}.tile.look{border-top-color:var(--look)}",
    ".tile.unread{border-top-color:var(--unread)}\n",
    "table{border-collapse:collapse}th,td{padding:.3rem .7rem;text-align:right;",
    "vertical-align:middle;",
    "border-bottom:1px solid var(--line)}th{font-weight:600}thead th{color:var(--faint);",
    "font-weight:500;font-size:.88rem;vertical-align:bottom}th:first-child,td:first-child,.text{",
    "text-align:left!important}tr.sum th,tr.sum td{border-top:2px solid var(--line)}\n",
    ".scroll{overflow-x:auto}figure{margin:0}figcaption{font-size:.9rem;max-width:46rem}\n",
    ".figures{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(30rem,100%),1fr));",
    "gap:1rem ",
    "2rem;align-items:start}.tall{grid-row:span 2}h4{font-size:1rem;margin:1.2rem 0 .2rem}\n",
    "svg.figure{max-width:100%;height:auto;font-size:13px;display:block}svg.figure text{fill:",
    "var(--text)}.grid{stroke:var(--grid)}.diagonal{stroke:var(--faint);stroke-dasharray:5 4}\n",
    ".interval{stroke:var(--mark);stroke-width:5;stroke-opacity:.4;stroke-linecap:round}",
    ".dot.all{fill:",
    "var(--mark)}.dot.high{fill:var(--card);stroke:var(--ok);stroke-width:2}.official{stroke:",
    "var(--text);stroke-width:2.5}\n",
    ".point{fill:var(--mark);fill-opacity:.45;stroke:var(--mark)}.point.moderate{fill:var(--look);",
    "stroke:var(--look)}.point.off{fill-opacity:.85}.bar-fill,rect.bar{fill:var(--mark);",
    "fill-opacity:.75}\n",
    ".curve{fill:none;stroke:var(--mark);stroke-width:2}.curve.expected{stroke-dasharray:6 4;",
    "stroke:",
    "var(--faint)}.accepted{stroke:var(--ok)}.key{display:inline-block;width:.8em;height:.8em;",
    "border-radius:50%;background:var(--mark);margin-right:.3em}.key.high{border-radius:0;",
    "transform:",
    "rotate(45deg) scale(.8);background:none;border:2px solid var(--ok)}.key.tick{border-radius:0;",
    "width:3px;background:var(--text)}.key.moderate{border-radius:0;",
    "transform:rotate(45deg) scale(.8);",
    "background:var(--look)}.key.dash,.key.line{border-radius:0;height:0;width:1.6em;",
    "background:none;",
    "vertical-align:middle;border-top:2px dashed var(--faint)}.key.line{border-top:2px solid ",
    "var(--mark)}.legend{display:flex;flex-wrap:wrap;gap:.2rem 1.4rem;font-size:.9rem}\n",
    ".tools{display:flex;flex-wrap:wrap;gap:.5rem;align-items:center;margin:.8rem 0}button,",
    "input{font:",
    "inherit;color:inherit;background:var(--card);border:1px solid var(--line);border-radius:6px;",
    "padding:.25rem .7rem}button{cursor:pointer}button[aria-pressed=true]{",
    "border-color:var(--mark);",
    "box-shadow:inset 0 0 0 1px var(--mark)}button:disabled{opacity:.5;cursor:default}\n",
    ":focus-visible{outline:3px solid var(--mark);outline-offset:1px}button.main{background:",
    "var(--mark);color:var(--card);border-color:var(--mark);font-weight:600}\n",
    ".bar{position:sticky;top:0;z-index:5;background:var(--card);",
    "border-bottom:1px solid var(--line);",
    "margin-top:1.6rem}.bar>div{display:flex;flex-wrap:wrap;gap:.3rem 1rem;align-items:center;",
    "padding-top:.5rem;padding-bottom:.5rem}.bar span{margin-right:auto}\n",
    ".form{background:var(--card);border:1px solid var(--line);border-left:5px solid var(--ok);",
    "border-radius:8px;padding:1rem 1.2rem;margin:1rem 0}.form.look{border-left-color:var(--look)}",
    ".form.unread{border-left-color:var(--unread)}.form>p{max-width:none}.pill{font-size:.8rem;",
    "font-weight:600;padding:.05rem .6rem;border-radius:1rem;border:1px solid;margin-left:.5rem;",
    "white-space:nowrap}.ok .pill{color:var(--ok)}.look .pill{color:var(--look)}.unread .pill{",
    "color:",
    "var(--unread)}.why{font-weight:600}.look .why{color:var(--look)}.unread .why{color:",
    "var(--unread)}\n",
    ".two{display:grid;grid-template-columns:minmax(0,19rem) minmax(0,1fr);gap:1.4rem;",
    "margin-top:.7rem;",
    "align-items:start}@media(max-width:900px){.two{grid-template-columns:1fr}}.table{width:100%;",
    "height:auto;max-height:80vh;border:1px solid var(--line);border-radius:4px;display:block}\n",
    ".table rect{fill:none;stroke:#2c7a51;stroke-width:2;vector-effect:non-scaling-stroke}.table ",
    "rect.look,.table rect.unread{stroke:#d0342c;stroke-width:3}.table rect.missing{",
    "stroke:#5b6b7b;",
    "stroke-dasharray:4 3}\n",
    ".counts{width:100%;font-size:.94rem}.counts td,.counts th{padding:.22rem .45rem}.counts svg{",
    "display:block;border-radius:3px}.counts input{width:4.4rem;padding:.2rem .45rem;",
    "text-align:right;",
    "font-size:1.1rem}.or{white-space:nowrap;display:inline-block;margin-right:.55em}\n",
    ".counts tr.look,.counts tr.unread{background:var(--looksoft)}.counts tr.changed{background:",
    "var(--soft)}.counts tr.changed input{border-color:var(--mark);font-weight:600}",
    "input[aria-invalid=",
    "true]{border-color:var(--unread)!important;outline-color:var(--unread)}.small{",
    "font-size:.84rem;",
    "color:var(--faint)}td.text.small{min-width:7.5rem}\n",
    ".rest{width:100%;font-size:.92rem}.rest td{overflow-wrap:anywhere}.edit{display:flex;",
    "flex-wrap:",
    "wrap;gap:.4rem .8rem}.edit label{white-space:nowrap}.edit input{width:5rem;",
    "text-align:right}\n",
    "code{background:var(--soft);padding:.05rem .35rem;border-radius:4px;overflow-wrap:anywhere}\n",
    ".hidden{display:none!important}footer{color:var(--faint);font-size:.9rem;",
    "padding:2.5rem 0 3rem}\n",
    "kbd{border:1px solid var(--line);border-bottom-width:2px;border-radius:4px;padding:0 .3rem;",
    "font:inherit;font-size:.85em}\n",
    "@media print{:root{--paper:#fff;--card:#fff;--text:#000;--faint:#555;--line:#bbb;--grid:#ddd;",
    "--ok:#2c7a51;--look:#b3590f;--unread:#a8322a;--mark:#2a5d9f;--soft:#fff;--looksoft:#fff}.bar,",
    ".tools,.edit{display:none!important}body{font-size:10.5pt}.form,figure,tr{",
    "break-inside:avoid}h2{",
    "break-after:avoid}.two{grid-template-columns:15rem 1fr}input{border:0;background:none}}\n",
    NULL};

/* Values that differ from what was read, or that a person has confirmed, are kept by tally and
   field and saved as a table that tally-read takes. */
static const char *const page_script[] = {
    "'use strict';(function(){\n",
    "var $=function(q,e){return Array.from((e||document).querySelectorAll(q))};\n",
    "var meta=JSON.parse(document.getElementById('meta').textContent);\n",
    "var edits=new Map(),unsaved=false;\n",
    "var digits={};meta.fields.forEach(function(f){digits[f[0]]=f[1]});\n",
    "function put(t,f,v){if(!edits.has(t))edits.set(t,new Map());edits.get(t).set(f,v)}\n",
    "function drop(t,f){var m=edits.get(t);if(m){m.delete(f);if(!m.size)edits.delete(t)}}\n",
    "meta.corrections.forEach(function(c){put(c[0],c[1],c[2])});\n",
    "function count(){var n=0;edits.forEach(function(m){n+=m.size});return n}\n",
    "function show(){var n=count();\n",
    "  document.getElementById('tally').textContent=n?n+(n===1?' value':' values')+\n",
    "    ' corrected or confirmed'+(unsaved?', not saved yet':''):'No corrections yet';\n",
    "  $('button.save').forEach(function(b){b.disabled=!n})}\n",
    /* The sums of a form, as they stand with the corrections. */
    "function sums(form){var v={};$('input[data-f]',form).forEach(function(i){v[i.dataset.f]=\n",
    "    /^[0-9]+$/.test(i.value)?+i.value:null});\n",
    "  meta.sums.forEach(function(s,k){$('.sum'+k,form).forEach(function(p){var parts=0;\n",
    "    s[1].forEach(function(f){parts+=v[f]||0});var total=v[s[0]];\n",
    "    p.textContent=total===null?s[0]+' has no value; its parts make '+parts:total===parts?\n",
    "      s[0]+' adds up ('+parts+')':s[0]+' reads '+total+', its parts make '+parts})})}\n",
    "function holder(i){return i.closest('[data-t]')}\n",
    /* An empty field that was empty before says nothing unless it was read as such. */
    "function take(i,confirmed){var t=holder(i).dataset.t,f=i.dataset.f,v=i.value.trim();\n",
    "  var row=i.closest('tr,label'),blank=/^[-\\u2013]$/.test(v);if(blank)v='';\n",
    "  if(!v&&!i.dataset.read&&!blank&&!row.classList.contains('missing')){drop(t,f);\n",
    "    row.classList.remove('changed');i.setAttribute('aria-invalid',false);show();",
    "return true}\n",
    "  var bad=!/^[0-9]*$/.test(v)||v.length>digits[f];i.setAttribute('aria-invalid',bad);\n",
    "  if(bad){i.title='a whole number of at most '+digits[f]+' digits, or nothing';",
    "return false}\n",
    "  v=v.replace(/^0+(?=[0-9])/,'');i.value=blank?'\\u2013':v;i.title='';\n",
    "  if(confirmed||blank||v!==i.dataset.read)put(t,f,v);else drop(t,f);\n",
    "  row.classList.toggle('changed',edits.has(t)&&\n",
    "    edits.get(t).has(f));unsaved=true;sums(holder(i));show();return true}\n",
    /* The next value to look at; in a form without any, the next value. */
    "function next(i,step){var all=$('input[data-f]').filter(function(e){return e.offsetParent}",
    ");\n",
    "  var at=all.indexOf(i);if(step)return all[at+step];\n",
    "  return all.slice(at+1).find(function(e){var r=e.closest('tr');return r&&\n",
    "    /look|unread/.test(r.className)&&!r.classList.contains('changed')})||all[at+1]}\n",
    "document.addEventListener('change',function(e){if(e.target.dataset.f)take(e.target,false)}",
    ");\n",
    "document.addEventListener('keydown',function(e){var i=e.target,to;\n",
    "  if(i.dataset&&i.dataset.f){if(e.key==='Enter'){e.preventDefault();\n",
    "      if(take(i,true)&&(to=next(i,0))){to.focus();to.select()}}\n",
    "    else if(e.key==='ArrowDown'||e.key==='ArrowUp'){e.preventDefault();\n",
    "      if((to=next(i,e.key==='ArrowDown'?1:-1))){to.focus();to.select()}}\n",
    "    else if(e.key==='Escape'){i.value=i.dataset.read;take(i,false)}return}\n",
    "  if(i.tagName==='INPUT'||e.ctrlKey||e.metaKey||e.altKey)return;\n",
    "  if(e.key==='j'||e.key==='k'){var f=$('.form:not(.hidden)'),y=80,k,best=null;\n",
    "    for(k=0;k<f.length;k++){var d=f[k].getBoundingClientRect().top-y;\n",
    "      if(e.key==='j'?d>5&&!best:d<-5)best=f[k]}\n",
    "    if(best){best.scrollIntoView();to=$('tr.look input,tr.unread input,input[data-f]',",
    "best)[0];\n",
    "      if(to)to.focus({preventScroll:true})}}});\n",
    "function cell(v){v=String(v);return /[\",\\r\\n]/.test(v)?'\"'+v.replace(/\"/g,",
    "'\"\"')+'\"':v}\n",
    "function save(name,rows){var a=document.createElement('a');\n",
    "  a.href=URL.createObjectURL(new Blob([rows.map(function(r){return r.map(cell).join(',",
    "')+'\\n'})\n",
    "    .join('')],{type:'text/csv'}));a.download=name;document.body.appendChild(a);a.click();\n",
    "  a.remove()}\n",
    "function table(){var rows=[['tally','field','value']];edits.forEach(function(m,t){\n",
    "  m.forEach(function(v,f){rows.push([t,f,v])})});return rows}\n",
    "document.getElementById('save').addEventListener('click',function(){",
    "save('corrections.csv',table());\n",
    "  unsaved=false;show()});\n",
    /* Digits from the right; further left only what was seen to be empty is certain. */
    "function labels(){var rows=[['path','label']];$('tr[data-s]').forEach(function(r){\n",
    "  var t=holder(r).dataset.t,f=r.dataset.f,m=edits.get(t);if(!m||!m.has(f))return;\n",
    "  var v=m.get(f),s=r.dataset.s,n=s.length,p,d;for(p=0;p<n;p++){d=v.length-n+p;\n",
    "    var label=d>=0?v[d]:s[p]==='e'?'empty':'';\n",
    "    if(label)rows.push(['cells/'+t.replace(/\\//g,'_')+'/'+f+'-'+p+'.png',label])}});",
    "return rows}\n",
    "document.getElementById('labels').addEventListener('click',function(){\n",
    "  save('cell-labels.csv',labels())});\n",
    "window.addEventListener('beforeunload',function(e){if(unsaved)e.preventDefault()});\n",
    /* Which forms are seen. */
    "var kind='all',words='';function sift(){$('.form,.rest tr[data-t]').forEach(function(f){\n",
    "  f.classList.toggle('hidden',!(kind==='all'||f.classList.contains(kind))||\n",
    "    f.dataset.t.toLowerCase().indexOf(words)<0)})}\n",
    "$('button[data-kind]').forEach(function(b){b.addEventListener('click',function(){\n",
    "  kind=b.dataset.kind;$('button[data-kind]').forEach(function(o){\n",
    "    o.setAttribute('aria-pressed',o===b)});sift()})});\n",
    "document.getElementById('find').addEventListener('input',function(e){\n",
    "  words=e.target.value.toLowerCase();sift()});\n",
    /* Rows without pictures get their inputs when they are asked for. */
    "document.addEventListener('click',function(e){var b=e.target;if(!b.classList||\n",
    "    !b.classList.contains('open'))return;var row=b.closest('tr'),v=row.dataset.v.split(',",
    "'),box=\n",
    "    document.createElement('div');box.className='edit';\n",
    "  meta.fields.forEach(function(f,k){var l=document.createElement('label'),i=\n",
    "      document.createElement('input'),m=edits.get(row.dataset.t);\n",
    "    l.textContent=f[0]+' ';i.dataset.f=f[0];i.dataset.read=v[k];i.inputMode='numeric';\n",
    "    i.value=m&&m.has(f[0])?m.get(f[0]):v[k];l.appendChild(i);box.appendChild(l)});\n",
    "  b.replaceWith(box);$('input',box)[0].focus()});\n", "show()})();\n", NULL};

static inline void page_lines(text_buffer *to, const char *const *lines) {
  for (; *lines; lines++) text_append(to, *lines, strlen(*lines));
}

/* For the script: fields, sums, and the corrections that are in effect already. */
static inline void page_meta(text_buffer *to, const report *r) {
  const tally_template *form = r->form;
  int written = 0;
  text_add(to, "<script type=\"application/json\" id=\"meta\">{\"fields\":[");
  for (int f = 0; f < form->fields; f++)
    text_add(to, "%s[\"%s\",%d]", f ? "," : "", form->field[f].name, form->field[f].digits);
  text_add(to, "],\"sums\":[");
  for (int s = 0; s < form->sums; s++) {
    text_add(to, "%s[\"%s\",[", s ? "," : "", form->field[form->sum[s].total].name);
    for (int k = 0; k < form->sum[s].parts; k++)
      text_add(to, "%s\"%s\"", k ? "," : "", form->field[form->sum[s].part[k]].name);
    text_add(to, "]]");
  }
  text_add(to, "],\"corrections\":[");
  for (int i = 0; i < r->list->count; i++)
    for (int f = 0; f < form->fields; f++) {
      const report_count *c = report_count_at(r, i, f);
      if (!c->corrected) continue;
      text_add(to, "%s[", written++ ? "," : "");
      json_text(to, r->list->names[i]);
      if (c->value >= 0) text_add(to, ",\"%s\",\"%d\"]", form->field[f].name, c->value);
      else text_add(to, ",\"%s\",\"\"]", form->field[f].name);
    }
  text_add(to, "]}</script>\n");
}

static inline void page_tile(text_buffer *to, const char *class, long long number,
                             const char *what) {
  char shown[32];
  text_add(to, "<div class=\"tile %s\"><b>%s</b>%s</div>\n", class, thousands(number, shown), what);
}

static inline void page_headline(text_buffer *to, const report *r) {
  report_figures f = report_measure(r);
  char a[32], b[32];
  int look = report_verdicts(r, FORM_LOOK), unread = report_verdicts(r, FORM_UNREAD);
  long long written = f.counts - f.status[TALLY_COUNT_MISSING];
  text_add(to, "<header><h1>Vote tallies, read from their pictures</h1>\n<p class=\"lead\">");
  text_add(to, "%s of %s %s accepted without reservation.",
           thousands(report_verdicts(r, FORM_ACCEPTED), a), thousands(r->list->count, b),
           r->list->count == 1 ? "tally is" : "tallies are");
  if (look + unread)
    text_add(to,
             " %s a person: %d with counts in doubt or sums that fail, %d that could not be read.",
             look + unread == 1 ? "One needs" : "The others need", look, unread);
  text_add(to, "</p>\n<div class=\"tiles\">");
  page_tile(to, "", r->list->count, r->list->count == 1 ? "tally" : "tallies");
  page_tile(to, "ok", report_verdicts(r, FORM_ACCEPTED), "accepted");
  page_tile(to, "look", look, "need a look");
  page_tile(to, "unread", unread, "could not be read");
  text_add(to, "<div class=\"tile\"><b>%.1f %%</b>of %s counts accepted</div>\n",
           written ? 100.0 * (double)f.status[TALLY_COUNT_OK] / (double)written : 0,
           thousands(written, a));
  if (f.compared)
    text_add(to,
             "<div class=\"tile\"><b>%.2f %%</b>of %s accepted counts are<br>not the official one"
             "</div>\n",
             f.accepted ? 100.0 * (double)f.accepted_wrong / (double)f.accepted : 0,
             thousands(f.accepted, a));
  text_add(to, "</div>\n<p class=\"faint\">Template ");
  html_text(to, file_name_of(r->template_path));
  text_add(to, ", model ");
  html_text(to, file_name_of(r->model_path));
  text_add(to,
           ". A count is accepted when the reader gives it a probability of at least %g and its "
           "sums hold. Blank counts (%s) are missing, not zero.</p></header>\n",
           1 - r->risk, thousands(f.status[TALLY_COUNT_MISSING], a));
}

static inline void page_total_row(text_buffer *to, const report *r, int field) {
  char a[32], b[32], c[32], d[32];
  tally_total all, high;
  tally_totals_get(&r->totals, TALLY_ALL, field, NULL, &all);
  tally_totals_get(&r->totals, TALLY_HIGH_QUALITY, field, NULL, &high);
  int is_total = r->is_total[field];
  text_add(to, "<tr%s><th scope=\"row\">%s</th><td>%s</td><td>%s</td><td>%s to %s</td>",
           is_total ? " class=\"sum\"" : "", r->form->field[field].name,
           thousands((long long)all.votes, a), thousands((long long)(all.estimate + 0.5), b),
           thousands((long long)all.low, c), thousands((long long)all.high, d));
  if (is_total) text_add(to, "<td></td><td></td><td></td>");
  else
    text_add(to, "<td>%.2f %%</td><td>%.2f to %.2f</td><td>%.2f %%</td>", 100 * all.share,
             100 * all.share_low, 100 * all.share_high, 100 * high.share);
  if (r->official) {
    long long official = report_official(r, field);
    double share = report_official_share(r, field);
    if (official >= 0) text_add(to, "<td>%s</td>", thousands(official, a));
    else text_add(to, "<td></td>");
    if (share >= 0 && !is_total) text_add(to, "<td>%.2f %%</td>", 100 * share);
    else text_add(to, "<td></td>");
  }
  text_add(to, "<td>%s</td><td>%s</td></tr>\n", thousands(all.missing, a),
           thousands(all.unread, b));
}

static inline void page_totals(text_buffer *to, const report *r) {
  char number[32];
  text_add(to,
           "<h2>Totals</h2>\n<div class=\"scroll\"><table><thead><tr><th>field</th>"
           "<th>votes<br>read</th><th>estimate</th><th>90 %% interval</th><th>share</th>"
           "<th>90 %% interval</th><th>share,<br>high quality</th>%s<th>missing</th><th>unread</th></tr></thead>\n",
           r->official ? "<th>official</th><th>official<br>share</th>" : "");
  for (int f = 0; f < r->form->fields; f++) page_total_row(to, r, f);
  text_add(
      to,
      "</table></div>\n<p class=\"faint\">Votes read are the sum of the values below. The estimate "
      "is of what is written on these tallies: counts in doubt or unread count with what they may "
      "be, given the field&#39;s other counts; nothing written adds nothing. Intervals and shares "
      "are the estimate&#39;s. The last two columns say how many counts are missing or unread, "
      "tallies that could not be registered included. These add nothing to the estimate. %s "
      "tallies are of high quality, as Torres and Cant&uacute; (2022) define it: "
      "the mean of the counts&#39; quality is above 0.9.</p>\n",
      thousands(r->totals.tallies[TALLY_HIGH_QUALITY], number));
}

static inline void page_shares(text_buffer *to, const report *r) {
  text_add(to, "<h2>Shares</h2>\n<figure>");
  figure_shares(to, r);
  text_add(
      to,
      "<figcaption class=\"legend\"><span><i class=\"key\"></i>all tallies, with 90 %% interval"
      "</span><span><i class=\"key high\"></i>tallies of high quality</span>%s</figcaption>"
      "</figure>\n",
      r->official ? "<span><i class=\"key tick\"></i>official</span>" : "");
}

static inline void page_figures(text_buffer *to, const report *r) {
  text_add(to, "<h2>%s</h2>\n<div class=\"figures\">\n",
           r->official ? "Counts, and how far to trust them" : "The counts");
  if (r->official) {
    text_add(to, "<figure class=\"tall\"><h4>Read against official</h4>");
    figure_scatter(to, r);
    text_add(
        to,
        "<figcaption><div class=\"legend\"><span><i class=\"key\"></i>tally of high quality</span>"
        "<span><i class=\"key moderate\"></i>moderate</span><span><i class=\"key dash\"></i>"
        "equal</span></div>One point per pair of counts, the larger the more often it occurs; "
        "logarithmic axes.</figcaption></figure>\n");
  }
  text_add(to, "<figure><h4>Risk against coverage</h4>");
  figure_risk(to, r);
  text_add(to,
           "<figcaption>%sThe share of wrong counts if only the surest are taken.</figcaption>"
           "</figure>\n",
           r->official
               ? "<div class=\"legend\"><span><i class=\"key line\"></i>found with the official "
                 "counts</span><span><i class=\"key dash\"></i>expected by the reader</span></div>"
               : "As the reader&#39;s own probabilities have it. ");
  text_add(to, "<figure><h4>Distribution of the counts</h4>");
  figure_histogram(to, r);
  text_add(
      to,
      "<figcaption>How many counts have how many votes, totals left out.</figcaption></figure>\n"
      "</div>\n");
}

static inline void page_review_head(text_buffer *to, const report *r, int shown) {
  int rest = r->list->count - shown;
  text_add(
      to,
      "<h2 id=\"forms\">Forms, those that need a look first</h2>\n"
      "<p>Compare each value with its picture. Type what is written, or press <kbd>Enter</kbd> "
      "to confirm a value as it is and go to the next one in doubt; <kbd>-</kbd> means that "
      "nothing is written there. <kbd>&uarr;</kbd> <kbd>&darr;</kbd> move between values, "
      "<kbd>Esc</kbd> takes a change back, <kbd>j</kbd> <kbd>k</kbd> move between forms. Then "
      "save, and run <code>tally-read --corrections corrections.csv</code> with the same "
      "folders: corrected values count as certain and help to read the rest of their sums.</p>\n");
  if (rest > 0)
    text_add(
        to,
        "<p class=\"faint\">%d forms are shown in full; the other %d are in the table "
        "at the end. <code>--pictures N</code> shows more.</p>\n",
        shown, rest);
  text_add(to, "<div class=\"tools\"><button data-kind=\"all\" aria-pressed=\"true\">all</button>"
               "<button data-kind=\"look\" aria-pressed=\"false\">need a look</button>"
               "<button data-kind=\"unread\" aria-pressed=\"false\">could not be read</button>"
               "<button data-kind=\"ok\" aria-pressed=\"false\">accepted</button>"
               "<input id=\"find\" type=\"search\" placeholder=\"find a tally\" "
               "aria-label=\"find a tally\"></div>\n");
}

/* Everything before the forms. */
static inline void page_begin(text_buffer *to, const report *r, int shown) {
  text_add(
      to, "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">"
          "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n"
          "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none';img-src data:;"
          "style-src 'unsafe-inline';script-src 'unsafe-inline'\">\n"
          "<link rel=\"icon\" href=\"data:,\"><title>Vote tallies</title>\n<style>\n");
  page_lines(to, page_style);
  text_add(to, "</style></head><body>\n");
  page_headline(to, r);
  text_add(
      to, "<div class=\"bar\"><div><span id=\"tally\" role=\"status\">No corrections yet</span>"
          "<button class=\"save\" id=\"labels\" disabled title=\"path and label of every corrected "
          "cell; belongs into the output folder of tally-extract, for tally-train\">Save cell "
          "labels</button><button class=\"save main\" id=\"save\" disabled>Save corrections.csv"
          "</button></div></div>\n<main>\n");
  page_totals(to, r);
  page_shares(to, r);
  page_figures(to, r);
  page_review_head(to, r, shown);
}

/* ---- one form of the page */

static const char *const verdict_classes[] = {"ok", "look", "unread"};
static const char *const verdict_words[] = {"accepted", "needs a look", "could not be read"};
static const char *const count_classes[] = {"ok", "look", "missing", "unread"};
static const char *const count_words[] = {"accepted", "look", "nothing written", "unread"};

static inline void page_picture(text_buffer *to, const char *id, const text_buffer *jpeg,
                                tally_box box) {
  text_add(to, "<image id=\"%s\" x=\"%.2f\" y=\"%.2f\" width=\"%.2f\" height=\"%.2f\" "
               "preserveAspectRatio=\"none\" href=\"data:image/jpeg;base64,",
           id, box.x, box.y, box.width, box.height);
  base64_text(to, jpeg->data, jpeg->length);
  text_add(to, "\"/>");
}

/* The straightened table with its cells outlined, in template coordinates. */
static inline void page_table(text_buffer *to, const report *r, int tally, const tally_image *photo,
                              const tally_registration *where, const tally_counts *counts) {
  tally_box table = table_of(r->form);
  double scale = fmin(1, 500 / table.width);
  tally_image view = view_cut(photo, where, -1, table, scale);
  text_buffer jpeg = image_jpeg(&view, 52);
  tally_box drawn = {table.x, table.y, view.width / scale, view.height / scale};
  char id[32];
  snprintf(id, sizeof id, "p%d", tally);
  text_add(
      to,
      "<svg class=\"table\" viewBox=\"%.2f %.2f %.2f %.2f\" role=\"img\" aria-label=\"the table of "
      "this form\">",
      table.x, table.y, table.width, table.height);
  page_picture(to, id, &jpeg, drawn);
  for (int f = 0; f < r->form->fields; f++) {
    const double *l = where->local[f];
    for (int p = 0; p < r->form->field[f].digits; p++) {
      const tally_box *cell = &r->form->field[f].cell[p];
      text_add(to, "<rect class=\"%s\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\"/>",
               count_classes[counts->count[f].status], l[0] + l[1] * cell->x + l[2] * cell->y,
               l[3] + l[4] * cell->x + l[5] * cell->y, cell->width, cell->height);
    }
  }
  text_add(to, "</svg>\n");
  free(jpeg.data);
  tally_image_free(&view);
}

/* Part of a form's strip picture, `height` high on the page. */
static inline void page_crop(text_buffer *to, int tally, int x, int y, int width, int height,
                             int tall) {
  text_add(
      to,
      "<td><svg width=\"%d\" height=\"%d\" viewBox=\"%d %d %d %d\"><use href=\"#s%d\"/></svg></td>",
      width * tall / height, tall, x, y, width, height, tally);
}

/* A value or a mark with its probability; values come first, then missing and illegible. */
static inline void page_outcome(text_buffer *to, const tally_counts *counts, int field,
                                int outcome) {
  double p = counts->distribution[field][outcome];
  int values = counts->values[field];
  text_add(to, "<span class=\"or\">");
  if (outcome < values) text_add(to, "%d", outcome);
  else text_add(to, "%s", outcome == values ? "nothing" : "illegible");
  text_add(to, " <span class=\"small\">%.*f</span></span> ", p < 0.0995 ? 3 : 2, p);
}

/* Where the reported reading stands in a count's distribution. */
static inline int reported_outcome(const tally_counts *counts, int field) {
  const tally_count *count = &counts->count[field];
  if (count->value >= 0) return count->value;
  return counts->values[field] + (count->status == TALLY_COUNT_UNREAD);
}

/* What else the count could be: the three most likely readings besides the one reported. */
static inline void page_alternatives(text_buffer *to, const tally_counts *counts, int field) {
  const double *p = counts->distribution[field];
  int outcomes = counts->values[field] + 2, taken[3], count = 0;
  int reported = reported_outcome(counts, field);
  for (; count < 3; count++) {
    int best = -1;
    for (int v = 0; v < outcomes; v++) {
      int skip = v == reported;
      for (int k = 0; k < count; k++) skip = skip || taken[k] == v;
      if (!skip && p[v] >= 0.0005 && (best < 0 || p[v] > p[best])) best = v;
    }
    if (best < 0) break;
    taken[count] = best;
    page_outcome(to, counts, field, best);
  }
  if (!count) text_add(to, "<span class=\"small\">&ndash;</span>");
}

/* A probability that is not quite 1 must not look like it. */
static inline void page_probability(text_buffer *to, double p) {
  if (p > 0.9999 && p < 1) text_add(to, "&gt; 0.9999");
  else text_add(to, p > 0.99 && p < 1 ? "%.4f" : "%.2f", p);
}

static inline void page_count_input(text_buffer *to, const char *field, int value) {
  char shown[16] = "";
  if (value >= 0) snprintf(shown, sizeof shown, "%d", value);
  text_add(to, "<input inputmode=\"numeric\" autocomplete=\"off\" aria-label=\"%s\" data-f=\"%s\" "
               "data-read=\"%s\" value=\"%s\">", field, field, shown, shown);
}

/* Why a count needs a look, or that it does not. */
static inline void page_count_reason(text_buffer *to, const report *r, const tally_counts *counts,
                                     int field, int corrected) {
  const tally_count *count = &counts->count[field];
  int sum = failing_sum_of(r->form, counts, field);
  if (count->status == TALLY_COUNT_REVIEW && sum >= 0)
    text_add(to, "%s does not add up", r->form->field[r->form->sum[sum].total].name);
  else if (*count->reason && (corrected || count->status != TALLY_COUNT_OK))
    html_text(to, count->reason);
  else text_add(to, "%s", count_words[count->status]);
}

/* The strip is NULL if there is no picture any more. */
static inline void page_count(text_buffer *to, const report *r, int tally, int field,
                              const tally_counts *counts, const tally_cell *cells,
                              const strip *pieces) {
  const report_count *mine = report_count_at(r, tally, field);
  const tally_count *count = &counts->count[field];
  const tally_field *f = &r->form->field[field];
  text_add(to, "<tr class=\"%s\" data-f=\"%s\"", count_classes[count->status], f->name);
  if (cells) {
    text_add(to, " data-s=\"");
    for (int p = 0; p < f->digits; p++)
      text_add(to, "%c", cells[f->first_cell + p].state == TALLY_CELL_EMPTY ? 'e' : 'i');
    text_add(to, "\"");
  }
  text_add(to, "><th scope=\"row\">%s</th>", f->name);
  if (pieces) {
    const strip_row *row = &pieces->row[field];
    page_crop(to, tally, 0, row->top, row->width, row->height, 46);
    page_crop(to, tally, row->cells_left, row->cells_top, f->digits * TALLY_SIDE, TALLY_SIDE, 36);
  }
  text_add(to, "<td>");
  page_count_input(to, f->name, count->value);
  text_add(to, "</td><td>");
  page_probability(to, count->probability);
  text_add(to, "</td><td class=\"text\">");
  page_alternatives(to, counts, field);
  text_add(to, "</td><td class=\"text small\">");
  page_count_reason(to, r, counts, field, mine->corrected);
  if (mine->official != NO_OFFICIAL && mine->official != count->value)
    text_add(to, "<br><b>official: %d</b>", mine->official);
  text_add(to, "</td></tr>\n");
}

static inline void page_sums(text_buffer *to, const report *r, const tally_counts *counts) {
  for (int s = 0; s < r->form->sums; s++) {
    const tally_sum *sum = &r->form->sum[s];
    const char *total = r->form->field[sum->total].name;
    long parts = 0;
    for (int k = 0; k < sum->parts; k++)
      if (counts->count[sum->part[k]].value > 0) parts += counts->count[sum->part[k]].value;
    text_add(to, "%s<span class=\"sum%d\">", s ? " &middot; " : "", s);
    if (counts->count[sum->total].value < 0)
      text_add(to, "%s has no value; its parts make %ld", total, parts);
    else if (counts->count[sum->total].value == parts)
      text_add(to, "%s adds up (%ld)", total, parts);
    else
      text_add(to, "%s reads %d, its parts make %ld", total, counts->count[sum->total].value,
               parts);
    text_add(to, "</span>");
  }
}

static inline void page_form_head(text_buffer *to, const report *r, int tally) {
  const report_form *f = &r->forms[tally];
  text_add(to, "<article class=\"form %s\" data-t=\"", verdict_classes[f->verdict]);
  html_text(to, r->list->names[tally]);
  text_add(to, "\">\n<h3>");
  html_text(to, r->list->names[tally]);
  text_add(to, " <span class=\"pill\">%s</span></h3>\n", verdict_words[f->verdict]);
  if (f->reason) {
    text_add(to, "<p class=\"why\">");
    html_text(to, f->reason);
    text_add(to, "</p>\n");
  }
}

/* A form that nobody could read: a person may still type it in. */
static inline void page_form_blank(text_buffer *to, const report *r) {
  text_add(to,
           "<p class=\"small\">What the paper says can be typed in here.</p><div class=\"edit\">");
  for (int f = 0; f < r->form->fields; f++) {
    text_add(to, "<label>%s ", r->form->field[f].name);
    page_count_input(to, r->form->field[f].name, TALLY_NO_VALUE);
    text_add(to, "</label>");
  }
  text_add(to, "</div>\n");
}

/* photo, where and cells are NULL where there are none. */
static inline void page_form(text_buffer *to, const report *r, int tally,
                             const tally_counts *counts, const tally_registration *where,
                             const tally_image *photo, const tally_cell *cells) {
  const report_form *f = &r->forms[tally];
  page_form_head(to, r, tally);
  if (!counts) {
    page_form_blank(to, r);
    text_add(to, "</article>\n");
    return;
  }
  text_add(to, "<p class=\"small\">");
  page_sums(to, r, counts);
  if (where)
    text_add(to, "%squality %.3f (%s) &middot; printed rules found within %.2f px",
             r->form->sums ? " &middot; " : "", f->quality, f->high ? "high" : "moderate",
             f->residual);
  text_add(to, "</p>\n<div class=\"two\"><div>\n");
  strip pieces;
  if (photo) {
    page_table(to, r, tally, photo, where, counts);
    pieces = strip_cut(photo, r->form, where, cells, r->raw);
    text_buffer jpeg = image_jpeg(&pieces.image, 62);
    char id[32];
    snprintf(id, sizeof id, "s%d", tally);
    text_add(
        to,
        "<svg width=\"0\" height=\"0\" style=\"position:absolute\" aria-hidden=\"true\"><defs>");
    page_picture(to, id, &jpeg, (tally_box){0, 0, pieces.image.width, pieces.image.height});
    text_add(to, "</defs></svg>\n");
    free(jpeg.data);
    tally_image_free(&pieces.image);
  } else {
    text_add(to, "<p class=\"faint\">There is no picture of this form.</p>\n");
  }
  text_add(
      to,
      "</div><div class=\"scroll\"><table class=\"counts\"><thead><tr><th>field</th>%s"
      "<th>value</th>"
      "<th>probability</th><th class=\"text\">or else</th><th class=\"text\"></th></tr></thead>\n",
      photo ? "<th class=\"text\">written</th><th class=\"text\">cells</th>" : "");
  for (int k = 0; k < r->form->fields; k++)
    page_count(to, r, tally, k, counts, cells, photo ? &pieces : NULL);
  text_add(to, "</table></div></div></article>\n");
}

/* ---- the forms without pictures */

static inline void page_rest_begin(text_buffer *to, int rest) {
  if (!rest) return;
  text_add(
      to,
      "<h2>The other forms</h2>\n<div class=\"scroll\"><table class=\"rest\"><thead><tr>"
      "<th>tally</th>"
      "<th class=\"text\">status</th><th class=\"text\">why</th><th class=\"text\">values, in the "
      "order of the totals above</th></tr></thead>\n");
}

static inline void page_rest(text_buffer *to, const report *r, int tally) {
  const report_form *f = &r->forms[tally];
  text_add(to, "<tr class=\"%s\" data-t=\"", verdict_classes[f->verdict]);
  html_text(to, r->list->names[tally]);
  text_add(to, "\" data-v=\"");
  for (int k = 0; k < r->form->fields; k++) {
    int value = report_count_at(r, tally, k)->value;
    if (value >= 0) text_add(to, "%s%d", k ? "," : "", value);
    else text_add(to, "%s", k ? "," : "");
  }
  text_add(to, "\"><td>");
  html_text(to, r->list->names[tally]);
  text_add(to, "</td><td class=\"text\">%s</td><td class=\"text\">", verdict_words[f->verdict]);
  html_text(to, f->reason ? f->reason : "");
  text_add(to, "</td><td class=\"text\">");
  for (int k = 0; k < r->form->fields; k++) {
    int value = report_count_at(r, tally, k)->value;
    if (value >= 0) text_add(to, "%s%d", k ? " " : "", value);
    else text_add(to, "%s&ndash;", k ? " " : "");
  }
  text_add(to, " <button class=\"open\">correct</button></td></tr>\n");
}

static inline void page_end(text_buffer *to, const report *r, int rest) {
  if (rest) text_add(to, "</table></div>\n");
  text_add(to,
           "<footer>Every value can be traced: counts.csv has each count with its probability and "
           "runner-up, tallies.csv each form with its reason, totals.csv the table above. Only the "
           "tables of the forms are shown, never names or signatures.</footer>\n</main>\n");
  page_meta(to, r);
  text_add(to, "<script>\n");
  page_lines(to, page_script);
  text_add(to, "</script></body></html>\n");
}

#endif
