/* tiff.c - TIFF files by libtiff: every page, every compression that it knows. */
#include "kinds.h"

#ifdef HAVE_LIBTIFF

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tiffio.h>

/* libtiff reads files through such functions: here from memory. */
typedef struct memory_file {
  file_bytes file;
  toff_t at;
} memory_file;

static tmsize_t memory_read(thandle_t handle, void *to, tmsize_t size) {
  memory_file *m = handle;
  const toff_t left = m->at < m->file.size ? m->file.size - m->at : 0;
  const size_t now = (toff_t)size < left ? (size_t)size : (size_t)left;
  memcpy(to, m->file.bytes + (now ? m->at : 0), now);
  m->at += now;
  return (tmsize_t)now;
}
static tmsize_t memory_write(thandle_t handle, void *from, tmsize_t size) {
  (void)handle, (void)from, (void)size;
  return -1;
}
static toff_t memory_seek(thandle_t handle, toff_t offset, int whence) {
  memory_file *m = handle;
  m->at = whence == SEEK_SET ? offset : whence == SEEK_CUR ? m->at + offset : m->file.size + offset;
  return m->at;
}
static int memory_close(thandle_t handle) {
  (void)handle;
  return 0;
}
static toff_t memory_size(thandle_t handle) {
  return ((memory_file *)handle)->file.size;
}
static int memory_map(thandle_t handle, void **base, toff_t *size) {
  (void)handle, (void)base, (void)size;
  return 0;
}
static void memory_unmap(thandle_t handle, void *base, toff_t size) {
  (void)handle, (void)base, (void)size;
}

/* libtiff tells one function for all files what is wrong; the first is kept for each thread. */
static __thread char trouble[DECODE_REASON];

static void note_trouble(const char *module, const char *format, va_list arguments) {
  (void)module;
  if (!*trouble) vsnprintf(trouble, sizeof trouble, format, arguments);
}

static int refuse_tiff(char reason[DECODE_REASON]) {
  for (char *c = trouble; *c; c++)
    if ((unsigned char)*c < 32) *c = ' ';
  return refuse(reason, "damaged TIFF: %.200s", *trouble ? trouble : "it cannot be decoded");
}

static void set_handlers(void) {
  TIFFSetErrorHandler(note_trouble);
  TIFFSetWarningHandler(NULL);
}

static TIFF *open_tiff(memory_file *m, char reason[DECODE_REASON]) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  pthread_once(&once, set_handlers);
  *trouble = 0;
  TIFF *tiff = TIFFClientOpen("picture", "rm", m, memory_read, memory_write, memory_seek,
                              memory_close, memory_size, memory_map, memory_unmap);
  if (!tiff) refuse_tiff(reason);
  return tiff;
}

/* Thumbnails are directories as well, but no pages. */
static int is_page(TIFF *tiff) {
  uint32_t kind = 0;
  TIFFGetField(tiff, TIFFTAG_SUBFILETYPE, &kind);
  return !(kind & FILETYPE_REDUCEDIMAGE);
}

int tiff_pages(file_bytes file, char reason[DECODE_REASON]) {
  memory_file m = {file, 0};
  TIFF *tiff = open_tiff(&m, reason);
  int pages = 0;
  if (!tiff) return 0;
  do pages += is_page(tiff);
  while (TIFFReadDirectory(tiff));
  const int whole = !*trouble; /* at the end there is no trouble, but where a directory is cut */
  TIFFClose(tiff);
  if (!whole) return refuse_tiff(reason);
  return pages ? pages : refuse(reason, "a TIFF without a page");
}

/* Goes to a page; 0 if there are not as many. */
static int go_to_page(TIFF *tiff, int page) {
  int pages = 0;
  do {
    pages += is_page(tiff);
    if (pages == page) return 1;
  } while (TIFFReadDirectory(tiff));
  return 0;
}

/* libtiff's rasters hold colours that are multiplied with their alpha: white paper is added. */
static void lay_on_paper(const uint32_t *raster, decoded_picture *out) {
  const size_t count = (size_t)out->height * (size_t)out->width;
  for (size_t i = 0; i < count; i++) {
    const unsigned paper = 255 - TIFFGetA(raster[i]);
    const unsigned value[3] = {TIFFGetR(raster[i]) + paper, TIFFGetG(raster[i]) + paper,
                               TIFFGetB(raster[i]) + paper};
    for (int c = 0; c < 3; c++)
      out->pixels[3 * i + (size_t)c] = (uint8_t)(value[c] < 255 ? value[c] : 255);
  }
}

static int read_page(TIFF *tiff, int64_t most_pixels, decoded_picture *out,
                     char reason[DECODE_REASON]) {
  uint32_t width = 0, height = 0;
  uint16_t orientation = 1;
  TIFFGetField(tiff, TIFFTAG_IMAGEWIDTH, &width);
  TIFFGetField(tiff, TIFFTAG_IMAGELENGTH, &height);
  TIFFGetFieldDefaulted(tiff, TIFFTAG_ORIENTATION, &orientation);
  if (width > INT32_MAX || height > INT32_MAX ||
      !make_room(out, (int)height, (int)width, 3, most_pixels, reason))
    return *reason ? 0 : refuse(reason, "damaged TIFF: its size is impossible");
  uint32_t *raster = malloc((size_t)width * height * sizeof *raster);
  /* it would be mirrored only, not turned: that is done below, as for other kinds */
  TIFFSetField(tiff, TIFFTAG_ORIENTATION, ORIENTATION_TOPLEFT);
  const int good = raster &&
                   TIFFReadRGBAImageOriented(tiff, width, height, raster, ORIENTATION_TOPLEFT, 1) &&
                   !*trouble;
  if (good) lay_on_paper(raster, out);
  free(raster);
  if (good && turn_upright(out, orientation >= 1 && orientation <= 8 ? orientation : 1)) return 1;
  free(out->pixels);
  return good || !raster ? refuse(reason, "out of memory") : refuse_tiff(reason);
}

int tiff_page(file_bytes file, int page, int64_t most_pixels, decoded_picture *out,
              char reason[DECODE_REASON]) {
  memory_file m = {file, 0};
  TIFF *tiff = open_tiff(&m, reason);
  if (!tiff) return 0;
  *reason = 0;
  const int good = go_to_page(tiff, page) ? read_page(tiff, most_pixels, out, reason)
                   : *trouble             ? refuse_tiff(reason)
                                          : refuse(reason, "it has no page %d", page);
  TIFFClose(tiff);
  return good;
}

#else

static int refuse_kind(char reason[DECODE_REASON]) {
  return refuse(reason, "a TIFF: to read it, install libtiff (Debian: libtiff-dev) and run make "
                        "again; or convert it with tiff2png or ImageMagick");
}
int tiff_pages(file_bytes file, char reason[DECODE_REASON]) {
  (void)file;
  return refuse_kind(reason);
}
int tiff_page(file_bytes file, int page, int64_t most_pixels, decoded_picture *out,
              char reason[DECODE_REASON]) {
  (void)file, (void)page, (void)most_pixels, (void)out;
  return refuse_kind(reason);
}

#endif
