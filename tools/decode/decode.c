/* decode.c - what kind a file is, its bytes, and stb_image's kinds. */
#define _POSIX_C_SOURCE 200809L

#include "kinds.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "../implementations/stb.h"

int refuse(char reason[DECODE_REASON], const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(reason, DECODE_REASON, format, arguments);
  va_end(arguments);
  return 0;
}

static int check_size(int height, int width, int64_t most_pixels, char reason[DECODE_REASON]) {
  if (height < 1 || width < 1) return refuse(reason, "a picture without pixels");
  return (int64_t)height * width <= most_pixels ||
         refuse(reason, "more than %lld pixels", (long long)most_pixels);
}

int make_room(decoded_picture *out, int height, int width, int channels, int64_t most_pixels,
              char reason[DECODE_REASON]) {
  if (!check_size(height, width, most_pixels, reason)) return 0;
  out->height = height;
  out->width = width;
  out->channels = channels;
  out->pixels = malloc((size_t)height * (size_t)width * (size_t)channels);
  return out->pixels ? 1 : refuse(reason, "out of memory");
}

/* ---- what a file is ---- */

static int begins(file_bytes file, size_t at, const char *text, size_t length) {
  return file.size >= at + length && !memcmp(file.bytes + at, text, length);
}

/* Brands of the family of files that HEIC and AVIF belong to (ISO 23008-12, annex B; AV1 Image File
   Format). */
static int is_heif(file_bytes file) {
  static const char brands[][5] = {"heic", "heix", "heim", "heis", "hevc", "hevx",
                                   "mif1", "msf1", "avif", "avis", "miaf", "mif2"};
  if (!begins(file, 4, "ftyp", 4) || file.size < 16) return 0;
  size_t length = read_number(file.bytes, 4, 0);
  if (length > file.size) length = file.size;
  for (size_t at = 8; at + 4 <= length; at += 4)
    for (size_t k = 0; at != 12 && k < sizeof brands / sizeof *brands; k++)
      if (!memcmp(file.bytes + at, brands[k], 4)) return 1;
  return 0;
}

/* PDF's mark may stand behind up to 1,024 bytes of something else. */
static int is_pdf(file_bytes file) {
  for (size_t at = 0; at < 1024 && at + 5 <= file.size; at++)
    if (begins(file, at, "%PDF-", 5)) return 1;
  return 0;
}

static file_kind kind_of(file_bytes file) {
  if (begins(file, 0, "\xFF\xD8", 2)) return KIND_JPEG;
  if (begins(file, 0, "\x89PNG\r\n\x1A\n", 8)) return KIND_PNG;
  if (begins(file, 0, "GIF87a", 6) || begins(file, 0, "GIF89a", 6)) return KIND_GIF;
  if (begins(file, 0, "8BPS", 4)) return KIND_PSD;
  if (begins(file, 0, "II*\0", 4) || begins(file, 0, "MM\0*", 4) || begins(file, 0, "II+\0", 4) ||
      begins(file, 0, "MM\0+", 4))
    return KIND_TIFF;
  if (begins(file, 0, "RIFF", 4) && begins(file, 8, "WEBP", 4)) return KIND_WEBP;
  if (is_heif(file)) return KIND_HEIF;
  if (file.size > 2 && file.bytes[0] == 'P' && file.bytes[1] >= '1' && file.bytes[1] <= '7' &&
      strchr(" \t\r\n#", file.bytes[2]))
    return KIND_PNM;
  if (begins(file, 0, "BM", 2)) return KIND_BMP;
  if (is_pdf(file)) return KIND_PDF;
  return looks_like_tga(file) ? KIND_TGA : KIND_UNKNOWN;
}

/* What the web serves in the place of a picture, and kinds that nothing here reads. */
static int refuse_unknown(file_bytes file, char reason[DECODE_REASON]) {
  size_t at = 0;
  while (at < file.size && strchr(" \t\r\n", file.bytes[at]) && file.bytes[at]) at++;
  if (begins(file, at, "<", 1))
    return refuse(reason, "not a picture but a page of HTML, XML or SVG");
  if (begins(file, 0, "\0\0\0\x0CjP  ", 8) || begins(file, 0, "\xFF\x4F\xFF\x51", 4))
    return refuse(reason, "a JPEG 2000; opj_decompress makes it a PNG");
  if (begins(file, 0, "\xFF\x0A", 2) || begins(file, 0, "\0\0\0\x0CJXL ", 8))
    return refuse(reason, "a JPEG XL; djxl makes it a PNG");
  return refuse(reason, "not a picture of a known kind");
}

/* ---- bytes ---- */

static uint8_t *read_bytes(const char *path, size_t *size, char reason[DECODE_REASON]) {
  struct stat status;
  FILE *file = fopen(path, "rb");
  if (!file || fstat(fileno(file), &status)) {
    refuse(reason, "%s", strerror(errno));
    if (file) fclose(file);
    return NULL;
  }
  uint8_t *bytes = NULL;
  if (S_ISDIR(status.st_mode))
    refuse(reason, "it is a folder");
  else if (!S_ISREG(status.st_mode))
    refuse(reason, "not a regular file");
  else if (status.st_size == 0)
    refuse(reason, "the file is empty");
  else if ((uint64_t)status.st_size > DECODE_MOST_BYTES)
    refuse(reason, "the file is larger than %zu MB", DECODE_MOST_BYTES >> 20);
  else if (!(bytes = malloc((size_t)status.st_size)))
    refuse(reason, "out of memory");
  else if ((*size = fread(bytes, 1, (size_t)status.st_size, file)) < (size_t)status.st_size) {
    refuse(reason, "%s", ferror(file) ? strerror(errno) : "it shrank while it was read");
    free(bytes);
    bytes = NULL;
  }
  fclose(file);
  return bytes;
}

/* ---- stb_image's kinds ---- */

static int check(file_kind kind, file_bytes file, int64_t most_pixels, char reason[DECODE_REASON]) {
  switch (kind) {
  case KIND_JPEG:
    return check_jpeg(file, reason);
  case KIND_PNG:
    return check_png(file, most_pixels, reason);
  case KIND_GIF:
    return check_gif(file, reason);
  case KIND_BMP:
    return check_bmp(file, reason);
  case KIND_PNM:
    return check_pnm(file, reason);
  case KIND_TGA:
    return check_tga(file, reason);
  default:
    return check_psd(file, reason);
  }
}

static int orientation_of(file_kind kind, file_bytes file) {
  return kind == KIND_JPEG  ? orientation_of_jpeg(file)
         : kind == KIND_PNG ? orientation_of_png(file)
                            : 1;
}

static int refuse_stb(char reason[DECODE_REASON]) {
  const char *why = stbi_failure_reason();
  return refuse(reason, "%s", why && *why ? why : "damaged: it cannot be decoded");
}

int stb_picture(file_kind kind, file_bytes file, int64_t most_pixels, decoded_picture *out,
                char reason[DECODE_REASON]) {
  const int size = (int)file.size; /* DECODE_MOST_BYTES fits */
  if (!check(kind, file, most_pixels, reason)) return 0;
  if (!stbi_info_from_memory(file.bytes, size, &out->width, &out->height, &out->channels))
    return refuse_stb(reason);
  if (!check_size(out->height, out->width, most_pixels, reason)) return 0;
  const int64_t pixels = (int64_t)out->width * out->height;
  /* twice 16-bit RGBA covers what every kind needs */
  decoder_exceeded = 0;
  decoder_limit = (size_t)pixels * 16 + ((size_t)1 << 20) + file.size;
  out->pixels =
      stbi_load_from_memory(file.bytes, size, &out->width, &out->height, &out->channels, 0);
  decoder_limit = 0;
  if (!out->pixels && decoder_exceeded)
    return refuse(reason, "damaged: decoding it takes more memory than its size explains");
  if (!out->pixels) return refuse_stb(reason);
  if (turn_upright(out, orientation_of(kind, file))) return 1;
  free(out->pixels);
  return refuse(reason, "out of memory");
}

/* ---- all kinds ---- */

int decode_pages(const char *path, char reason[DECODE_REASON]) {
  size_t size;
  uint8_t *bytes = read_bytes(path, &size, reason);
  if (!bytes) return 0;
  const file_bytes file = {bytes, size};
  const file_kind kind = kind_of(file);
  int pages = 1;
  if (kind == KIND_UNKNOWN) pages = refuse_unknown(file, reason);
  if (kind == KIND_TIFF) pages = tiff_pages(file, reason);
  if (kind == KIND_PDF) pages = pdf_pages(path, reason);
  free(bytes);
  return pages;
}

int decode_page(const char *path, int page, int64_t most_pixels, decoded_picture *out,
                char reason[DECODE_REASON]) {
  size_t size;
  int good = 0;
  memset(out, 0, sizeof *out);
  uint8_t *bytes = read_bytes(path, &size, reason);
  if (!bytes) return 0;
  const file_bytes file = {bytes, size};
  const file_kind kind = kind_of(file);
  if (kind == KIND_TIFF)
    good = tiff_page(file, page, most_pixels, out, reason);
  else if (kind == KIND_PDF)
    good = pdf_page(path, page, most_pixels, out, reason);
  else if (page != 1)
    refuse(reason, "it has one page only");
  else if (kind == KIND_UNKNOWN)
    refuse_unknown(file, reason);
  else if (kind == KIND_PSD)
    good = psd_picture(file, most_pixels, out, reason);
  else if (kind == KIND_WEBP)
    good = webp_picture(file, most_pixels, out, reason);
  else if (kind == KIND_HEIF)
    good = heif_picture(file, most_pixels, out, reason);
  else
    good = stb_picture(kind, file, most_pixels, out, reason);
  free(bytes);
  if (!good) out->pixels = NULL;
  return good;
}

int decode_is_picture_name(const char *name) {
  static const char *const endings[] = {"png",  "jpg",  "jpeg", "jpe",  "jfif", "tif", "tiff",
                                        "webp", "heic", "heif", "avif", "pdf",  "gif", "bmp",
                                        "dib",  "pgm",  "ppm",  "pnm",  "pbm",  "tga", "psd"};
  const char *dot = strrchr(name, '.');
  char lower[8] = {0};
  if (!dot || dot == name || strlen(dot + 1) > 4) return 0;
  for (int i = 0; dot[1 + i]; i++)
    lower[i] = (char)(dot[1 + i] >= 'A' && dot[1 + i] <= 'Z' ? dot[1 + i] + 32 : dot[1 + i]);
  for (size_t i = 0; i < sizeof endings / sizeof *endings; i++)
    if (!strcmp(lower, endings[i])) return 1;
  return 0;
}
