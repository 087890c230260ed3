/* forms.h - pictures of forms: decoded with care, as they come from anywhere, and registered. */
#ifndef TALLY_FORMS_H
#define TALLY_FORMS_H

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif

#include "../tally.h"
#include "memory.h"
#include "picture.h"

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
