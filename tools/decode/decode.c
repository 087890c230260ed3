/* The implementation of decode.h: files, kinds of files, limits. */
#define _POSIX_C_SOURCE 200809L
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kinds.h"

#define START 1024 /* bytes that tell a format */
#define TOO_LARGE "the file is larger than 256 MB"

/* ---- reasons --------------------------------------------------------------------------------- */

int refuse(char reason[DECODE_REASON], const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(reason, DECODE_REASON, format, arguments);
  va_end(arguments);
  for (char *c = reason; *c; c++)
    if (*c < ' ' || *c > '~') *c = '?';
  return -1;
}

int refuse_size(int64_t width, int64_t height, int64_t most_pixels, char reason[DECODE_REASON]) {
  const int64_t most = most_pixels < DECODE_MAX_PIXELS ? most_pixels : DECODE_MAX_PIXELS;
  if (width < 1 || height < 1) return refuse(reason, "its header promises no pixels");
  if (width <= most / height) return 0;
  return refuse(reason, "it has %lld x %lld pixels, more than the %lld that are read here",
                (long long)width, (long long)height, (long long)most);
}

void show_if_all_hidden(decoded_picture *picture) {
  const size_t count = (size_t)picture->width * (size_t)picture->height,
               channels = (size_t)picture->channels;
  if (channels % 2) return;
  for (size_t i = 1; i <= count; i++)
    if (picture->pixels[i * channels - 1]) return;
  for (size_t i = 1; i <= count; i++) picture->pixels[i * channels - 1] = 255;
}

int refuse_library(const char *format, const char *package, const char *otherwise,
                   char reason[DECODE_REASON]) {
  return refuse(reason,
                "it is a %s file, and this was built without a library for that: install %s "
                "(Debian) and run make again, or convert it: %s",
                format, package, otherwise);
}

/* ---- formats --------------------------------------------------------------------------------- */

/* A format is known by its first bytes, or by a function where those do not tell. */
typedef struct format {
  const char *name;
  const char *magic;
  size_t count; /* of bytes in magic */
  int (*is)(const uint8_t *bytes, size_t size);
  int (*decode)(const file_view *file, int64_t most_pixels, decoded_picture *out,
                char reason[DECODE_REASON]);             /* NULL: it is refused by its name */
  int (*orientation)(const uint8_t *bytes, size_t size); /* NULL: decode has seen to it */
  int (*pages)(const file_view *file, char reason[DECODE_REASON]); /* NULL: there is one */
} format;

/* HEIF's container with other brands in it. */
static int is_video(const uint8_t *bytes, size_t size) {
  return size >= 12 && !memcmp(bytes + 4, "ftyp", 4);
}

/* What the web serves in the place of a picture, too. */
static int is_markup(const uint8_t *bytes, size_t size) {
  size_t at = 0;
  while (at < size && (bytes[at] == ' ' || (bytes[at] >= '\t' && bytes[at] <= '\r'))) at++;
  return at < size && bytes[at] == '<';
}

#define MAGIC(bytes) bytes, sizeof(bytes) - 1, NULL
static const format formats[] = {
    {"JPEG", MAGIC("\xFF\xD8\xFF"), decode_jpeg, jpeg_orientation, NULL},
    {"PNG", MAGIC("\x89PNG\r\n\x1A\n"), decode_png, png_orientation, NULL},
    {"TIFF", MAGIC("II*\0"), decode_tiff, NULL, tiff_pages},
    {"TIFF", MAGIC("MM\0*"), decode_tiff, NULL, tiff_pages},
    {"TIFF", MAGIC("II+\0"), decode_tiff, NULL, tiff_pages}, /* of more than 4 GB */
    {"TIFF", MAGIC("MM\0+"), decode_tiff, NULL, tiff_pages},
    {"WebP", NULL, 0, is_webp, decode_webp, NULL, NULL},
    {"HEIF", NULL, 0, is_heif, decode_heif, NULL, NULL},
    {"GIF", MAGIC("GIF87a"), decode_gif, NULL, NULL},
    {"GIF", MAGIC("GIF89a"), decode_gif, NULL, NULL},
    {"BMP", NULL, 0, is_bmp, decode_bmp, NULL, NULL},
    {"PNM", NULL, 0, is_pnm, decode_pnm, NULL, NULL},
    {"PSD", MAGIC("8BPS"), decode_psd, NULL, NULL},
    {"PDF", NULL, 0, is_pdf, decode_pdf, NULL, pdf_pages},
    {"JPEG 2000", MAGIC("\0\0\0\14jP  "), NULL, NULL, NULL},
    {"JPEG 2000", MAGIC("\xFF\x4F\xFF\x51"), NULL, NULL, NULL},
    {"JPEG XL", MAGIC("\xFF\x0A"), NULL, NULL, NULL},
    {"JPEG XL", MAGIC("\0\0\0\14JXL "), NULL, NULL, NULL},
    {"DjVu", MAGIC("AT&TFORM"), NULL, NULL, NULL},
    {"PAM", MAGIC("P7\n"), NULL, NULL, NULL},
    {"HTML, XML or SVG", NULL, 0, is_markup, NULL, NULL, NULL},
    {"ZIP or Office", MAGIC("PK\3\4"), NULL, NULL, NULL},
    {"MP4 or MOV", NULL, 0, is_video, NULL, NULL, NULL},
    {"TGA", NULL, 0, is_tga, decode_tga, NULL, NULL},
};

static const format *find_format(const uint8_t *bytes, size_t size) {
  for (size_t i = 0; i < sizeof formats / sizeof *formats; i++) {
    const format *kind = &formats[i];
    if (kind->is ? kind->is(bytes, size)
                 : size >= kind->count && !memcmp(bytes, kind->magic, kind->count))
      return kind;
  }
  return NULL;
}

int decode_is_picture_name(const char *name) {
  static const char *const endings[] = {"png",  "jpg",  "jpeg", "jpe",  "jfif", "tif", "tiff",
                                        "webp", "heic", "heif", "avif", "pdf",  "gif", "bmp",
                                        "dib",  "pgm",  "ppm",  "pnm",  "pbm",  "tga", "psd"};
  const char *dot = strrchr(name, '.');
  char lower[8] = {0};
  if (!dot || dot == name || strlen(dot + 1) >= sizeof lower) return 0;
  for (int i = 0; dot[1 + i]; i++)
    lower[i] = (char)(dot[1 + i] >= 'A' && dot[1 + i] <= 'Z' ? dot[1 + i] + 32 : dot[1 + i]);
  for (size_t i = 0; i < sizeof endings / sizeof *endings; i++)
    if (!strcmp(lower, endings[i])) return 1;
  return 0;
}

/* ---- files ----------------------------------------------------------------------------------- */

ptrdiff_t read_more(int descriptor, uint8_t **bytes, size_t *size, size_t *room,
                    char reason[DECODE_REASON]) {
  if (*size == *room) {
    uint8_t *larger = realloc(*bytes, *room * 2 + 4096);
    if (!larger) return refuse(reason, "out of memory");
    *bytes = larger;
    *room = *room * 2 + 4096;
  }
  ssize_t count;
  do count = read(descriptor, *bytes + *size, *room - *size);
  while (count < 0 && errno == EINTR);
  if (count < 0) return refuse(reason, "%s", strerror(errno));
  *size += (size_t)count;
  return *size > DECODE_MAX_BYTES ? refuse(reason, TOO_LARGE) : count;
}

/* All that comes out of a descriptor, about `expected` bytes; NULL with a reason. */
static uint8_t *read_all(int descriptor, size_t expected, size_t *size,
                         char reason[DECODE_REASON]) {
  size_t room = expected + 1; /* one more than there is shows the end at once */
  uint8_t *bytes = malloc(room);
  ptrdiff_t count = bytes ? 1 : refuse(reason, "out of memory");
  *size = 0;
  while (count > 0) count = read_more(descriptor, &bytes, size, &room, reason);
  if (count == 0 && *size) return bytes;
  if (count == 0) refuse(reason, "the file is empty");
  free(bytes);
  return NULL;
}

/* All that comes out of a file's descriptor. Decoders rely on what told them the format. */
static int load(file_view *file, const format *kind, char reason[DECODE_REASON]) {
  file->owned = read_all(file->descriptor, file->size, &file->size, reason);
  file->bytes = file->owned;
  if (!file->owned) return -1;
  return find_format(file->bytes, file->size < START ? file->size : START) == kind
             ? 0
             : refuse(reason, "the file changed while it was read");
}

static void file_close(file_view *file) {
  if (file->descriptor >= 0) close(file->descriptor);
  free(file->owned);
}

static int open_regular(const char *path, file_view *file, char reason[DECODE_REASON]) {
  struct stat status;
  if (stat(path, &status)) return refuse(reason, "%s", strerror(errno));
  if (S_ISDIR(status.st_mode)) return refuse(reason, "it is a folder");
  if (!S_ISREG(status.st_mode)) return refuse(reason, "not a regular file");
  if (!status.st_size) return refuse(reason, "the file is empty");
  file->size = (size_t)status.st_size;
  file->descriptor = open(path, O_RDONLY | O_CLOEXEC);
  return file->descriptor < 0 ? refuse(reason, "%s", strerror(errno)) : 0;
}

size_t file_read(const file_view *file, uint64_t at, void *to, size_t count) {
  if (at >= file->size) return 0;
  if (count > file->size - at) count = (size_t)(file->size - at);
  if (file->bytes) {
    memcpy(to, file->bytes + at, count);
    return count;
  }
  size_t done = 0;
  while (done < count) {
    const ssize_t got =
        pread(file->descriptor, (char *)to + done, count - done, (off_t)(at + done));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    done += (size_t)got;
  }
  return done;
}

/* ---- pages ----------------------------------------------------------------------------------- */

/* NULL with a reason if it is none that is decoded. */
static const format *format_of(const file_view *file, char reason[DECODE_REASON]) {
  uint8_t start[START];
  const format *kind = find_format(start, file_read(file, 0, start, sizeof start));
  if (kind && kind->decode && (kind->pages || file->size <= DECODE_MAX_BYTES)) return kind;
  if (!kind)
    refuse(reason, "it is not a picture of a known format");
  else if (kind->decode)
    refuse(reason, TOO_LARGE);
  else
    refuse(reason, "it is a %s file, which is not read here; convert it to PNG", kind->name);
  return NULL;
}

int file_pages(const file_view *file, char reason[DECODE_REASON]) {
  const format *kind = format_of(file, reason);
  return !kind ? 0 : kind->pages ? kind->pages(file, reason) : 1;
}

int file_decode(file_view *file, int page, int64_t most_pixels, decoded_picture *out,
                char reason[DECODE_REASON]) {
  const format *kind = format_of(file, reason);
  *out = (decoded_picture){NULL, 0, 0, 0};
  file->page = page;
  if (!kind) return 0;
  if (page < 1 || (page > 1 && !kind->pages)) {
    refuse(reason, "there is no page %d in it", page);
    return 0;
  }
  if (!kind->pages && !file->bytes && load(file, kind, reason)) return 0;
  if (!kind->decode(file, most_pixels, out, reason) && kind->orientation)
    turn_upright(out, kind->orientation(file->bytes, file->size), reason);
  return out->pixels != NULL;
}

int decode_pages(const char *path, char reason[DECODE_REASON]) {
  file_view file = {.descriptor = -1};
  if (open_regular(path, &file, reason)) return 0;
  const int pages = file_pages(&file, reason);
  file_close(&file);
  return pages;
}

int decode_page(const char *path, int page, int64_t most_pixels, decoded_picture *out,
                char reason[DECODE_REASON]) {
  file_view file = {.descriptor = -1};
  out->pixels = NULL;
  if (open_regular(path, &file, reason)) return 0;
  const int good = file_decode(&file, page, most_pixels, out, reason);
  file_close(&file);
  return good;
}
