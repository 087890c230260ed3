/* forms.h - forms as files: the pictures to read and their names, templates, and registration.

   Internal to tools/. */
#ifndef TALLY_FORMS_H
#define TALLY_FORMS_H

#include <stddef.h>
#include <stdlib.h>
#include <strings.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif

#include "../tally.h"

#include "tool.h"

#include "listing.h"
#include "path.h"
#include "picture.h"
#include "file.h"

/* ---- the pictures and their names -------------------------------------------------------------- */

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

/* A name that a tally goes by, or a part of one. */
typedef struct form_name {
  const char *name;
  int tally;
} form_name;

/* The pictures to read, in natural order of their paths, each with its tally's name: the picture's
   file name, or the whole path where two have the same file name (but for the case of letters, which
   not every file system tells apart). */
typedef struct form_list {
  listing pictures;
  char **names;                 /* [pictures.count] */
  char **stems;                 /* the names without their endings */
  form_name *by_name, *by_stem; /* sorted */
} form_list;

static inline int form_count(const form_list *list) {
  return list->pictures.count;
}

static inline int compare_form_names(const void *a, const void *b) {
  const form_name *x = a, *y = b;
  int order = strcmp(x->name, y->name);
  return order ? order : (x->tally > y->tally) - (x->tally < y->tally);
}

static inline int compare_form_names_loosely(const void *a, const void *b) {
  const form_name *x = a, *y = b;
  int order = strcasecmp(x->name, y->name);
  return order ? order : (x->tally > y->tally) - (x->tally < y->tally);
}

static inline form_name *sorted_names(char *const *names, int count) {
  form_name *sorted = allocate((size_t)count, sizeof *sorted);
  for (int i = 0; i < count; i++) sorted[i] = (form_name){names[i], i};
  qsort(sorted, (size_t)count, sizeof *sorted, compare_form_names);
  return sorted;
}

static inline void form_list_name(form_list *list) {
  int count = form_count(list);
  char *const *paths = list->pictures.paths;
  form_name *sorted = allocate((size_t)count, sizeof *sorted);
  list->names = allocate((size_t)count, sizeof(char *));
  list->stems = allocate((size_t)count, sizeof(char *));
  for (int i = 0; i < count; i++) sorted[i] = (form_name){file_name_of(paths[i]), i};
  qsort(sorted, (size_t)count, sizeof *sorted, compare_form_names_loosely);
  for (int i = 0; i < count; i++) {
    int tally = sorted[i].tally;
    int shared = (i > 0 && !strcasecmp(sorted[i].name, sorted[i - 1].name)) ||
                 (i + 1 < count && !strcasecmp(sorted[i].name, sorted[i + 1].name));
    list->names[tally] = copy_text(shared ? paths[tally] : sorted[i].name);
    list->stems[tally] = copy_text(list->names[tally]);
    char *dot = strrchr(list->stems[tally], '.');
    if (dot && dot != list->stems[tally] && !strchr(dot, '/')) *dot = 0;
  }
  free(sorted);
  list->by_name = sorted_names(list->names, count);
  list->by_stem = sorted_names(list->stems, count);
}

/* What is not there or not a picture stays in the list: reading it fails with a reason, and the
   others go on. */
static inline form_list form_list_open(char *const *arguments, int count, int flat,
                                       const char *own) {
  form_list list = {.pictures = listing_open(arguments, count, flat, own)};
  qsort(list.pictures.paths, (size_t)form_count(&list), sizeof(char *), compare_paths);
  form_list_name(&list);
  return list;
}

#define NO_TALLY (-1)
#define SEVERAL_TALLIES (-2)

static inline int find_form_name(const form_name *sorted, int count, const char *name) {
  int low = 0, high = count;
  while (low < high) {
    int middle = (low + high) / 2;
    if (strcmp(sorted[middle].name, name) < 0)
      low = middle + 1;
    else
      high = middle;
  }
  if (low == count || strcmp(sorted[low].name, name)) return NO_TALLY;
  if (low + 1 < count && !strcmp(sorted[low + 1].name, name)) return SEVERAL_TALLIES;
  return sorted[low].tally;
}

/* Index of a tally by its name, NO_TALLY or SEVERAL_TALLIES. A table made elsewhere may leave the
   ending out. */
static inline int form_list_find(const form_list *list, const char *name) {
  int found = find_form_name(list->by_name, form_count(list), name);
  return found == NO_TALLY ? find_form_name(list->by_stem, form_count(list), name) : found;
}

/* The same for a row of a table, which has to mean one tally. */
static inline int form_list_find_row(const form_list *list, const csv *table, const char *name) {
  int found = form_list_find(list, name);
  if (found == SEVERAL_TALLIES)
    fail("%s: line %d: \"%s\" is the name of several pictures; give the ending too", table->path,
         table->line, name);
  return found;
}

static inline void form_list_free(form_list *list) {
  for (int i = 0; i < form_count(list); i++) {
    free(list->names[i]);
    free(list->stems[i]);
  }
  free(list->names);
  free(list->stems);
  free(list->by_name);
  free(list->by_stem);
  listing_free(&list->pictures);
}

/* The folder of a tally's cells: its name without slashes, so written that no two names share one. */
static inline char *cell_folder_name(const char *tally) {
  text_buffer name = {0};
  for (; *tally; tally++) {
    if (*tally == '/')
      text_add(&name, "%%2F");
    else if (*tally == '%')
      text_add(&name, "%%25");
    else
      text_append(&name, tally, 1);
  }
  return name.data;
}

/* ---- templates ------------------------------------------------------------------------------------- */

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
  input_note(path);
  *text = read_file(path, length);
  if (tally_template_parse(*text, *length, form, &error) != TALLY_OK)
    fail("%s: line %d, column %d: %s", path, error.line, error.column, error.message);
  free(found);
  free(name.data);
  return form;
}

/* ---- pictures, registered --------------------------------------------------------------------- */

/* Pictures come and go, several megabytes each: memory that was freed is kept for the next one, as
   clearing pages anew takes a twentieth of the time. */
static inline void keep_freed_memory(void) {
#ifdef __GLIBC__
  mallopt(M_MMAP_THRESHOLD, 32 << 20);
  mallopt(M_TRIM_THRESHOLD, 128 << 20);
#endif
}

#define FORM_MAX_PIXELS (64 << 20)        /* 8192 x 8192; what is larger is not a form */
#define FORM_MAX_BYTES ((off_t)256 << 20) /* of a file */
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
  if (stat(path, &status))
    *reason = strerror(errno);
  else if (S_ISDIR(status.st_mode))
    *reason = "it is a folder";
  else if (!S_ISREG(status.st_mode))
    *reason = "not a regular file";
  else if (status.st_size == 0)
    *reason = "the file is empty";
  else if (status.st_size > FORM_MAX_BYTES)
    *reason = "the file is larger than 256 MB";
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
  if (tally_resize(photo, width > 0 ? width : 1, height > 0 ? height : 1, TALLY_AREA, &smaller) !=
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
  if (jpeg_is_cut(bytes, size))
    reason = "the file is cut off: the picture's end is missing";
  else
    reason = form_decode(bytes, (int)size, out);
  free(bytes);
  if (out->pixels)
    form_shrink(form, out);
  else if (!reason)
    reason = "not a picture";
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

#endif
