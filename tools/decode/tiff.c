/* TIFF (Adobe's TIFF 6.0) with all its pages and packings, by libtiff. */
#define _POSIX_C_SOURCE 200809L
#include <stdlib.h>
#include <string.h>

#include "kinds.h"

#ifndef HAVE_LIBTIFF

static int refuse_tiff(char reason[DECODE_REASON]) {
  return refuse_library("TIFF", "libtiff-dev", "convert OLD.tif NEW.png (Debian: imagemagick)",
                        reason);
}

int tiff_pages(const file_view *file, char reason[DECODE_REASON]) {
  (void)file;
  refuse_tiff(reason);
  return 0;
}

int decode_tiff(const file_view *file, int64_t most_pixels, decoded_picture *out,
                char reason[DECODE_REASON]) {
  (void)file;
  (void)most_pixels;
  (void)out;
  return refuse_tiff(reason);
}

#else
#include <pthread.h>
#include <stdio.h>
#include <tiffio.h>

#define MOST_PAGES 10000

/* ---- what libtiff says ----------------------------------------------------------------------- */

/* Of the file that this thread is at: the first thing that went wrong. Warnings count while pixels are
   decoded, since then they mean that something was made up; before, they are about odd tags. That more
   bytes are announced than needed means nothing, fewer are an error. */
typedef struct complaint {
  char text[DECODE_REASON - 40];
  int decoding;
} complaint;
static __thread complaint *listening;

static void on_error(const char *module, const char *format, va_list arguments) {
  (void)module;
  if (listening && !*listening->text)
    vsnprintf(listening->text, sizeof listening->text, format, arguments);
}

static void on_warning(const char *module, const char *format, va_list arguments) {
  if (listening && listening->decoding && !strstr(format, "byte count"))
    on_error(module, format, arguments);
}

static void listen(void) {
  TIFFSetErrorHandler(on_error);
  TIFFSetWarningHandler(on_warning);
}

/* ---- files ----------------------------------------------------------------------------------- */

typedef struct tiff_source {
  const file_view *file;
  uint64_t at;
} tiff_source;

static tmsize_t source_read(thandle_t user, void *to, tmsize_t count) {
  tiff_source *source = user;
  const size_t got = file_read(source->file, source->at, to, (size_t)count);
  source->at += got;
  return (tmsize_t)got;
}

static tmsize_t source_write(thandle_t user, void *from, tmsize_t count) {
  (void)user;
  (void)from;
  (void)count;
  return 0;
}

static toff_t source_seek(thandle_t user, toff_t to, int whence) {
  tiff_source *source = user;
  source->at = whence == SEEK_SET   ? to
               : whence == SEEK_CUR ? source->at + to
                                    : source->file->size + to;
  return source->at;
}

static int source_close(thandle_t user) {
  (void)user;
  return 0;
}

static toff_t source_size(thandle_t user) {
  return ((const tiff_source *)user)->file->size;
}

/* A number of 2, 4 or 8 bytes in the file; -1 if it is not there. */
static int64_t number_at(const file_view *file, uint64_t at, size_t bytes, int little) {
  uint8_t digits[8] = {0};
  uint64_t value = 0;
  if (file_read(file, at, digits, bytes) < bytes) return -1;
  for (size_t i = 0; i < bytes; i++) value = value << 8 | digits[little ? bytes - 1 - i : i];
  return value > INT64_MAX ? -1 : (int64_t)value;
}

/* Whether each page says where the next one is, or that there is none: libtiff takes it for the last one
   if the file ends before it does. Files of more than 4 GB have longer numbers (BigTIFF). */
static int has_whole_list(const file_view *file) {
  const int little = number_at(file, 0, 2, 1) == 0x4949; /* II */
  const int is_big = number_at(file, 2, 2, little) == 43;
  const size_t bytes = is_big ? 8 : 4, count_bytes = is_big ? 8 : 2, entry = is_big ? 20 : 12;
  int64_t at = number_at(file, bytes, bytes, little);
  for (int i = 0; i <= MOST_PAGES && at > 0; i++) {
    const int64_t count = number_at(file, (uint64_t)at, count_bytes, little);
    if (count < 0 || count > 65535) return 0;
    at = number_at(file, (uint64_t)at + count_bytes + (uint64_t)count * entry, bytes, little);
  }
  return at >= 0;
}

/* Opens a file; NULL with a reason. */
static TIFF *open_tiff(tiff_source *source, complaint *heard, char reason[DECODE_REASON]) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  if (!has_whole_list(source->file)) {
    refuse(reason, "the file is cut off: its list of pages is not whole");
    return NULL;
  }
  pthread_once(&once, listen);
  listening = heard;
  /* Not mapped: a mapped file that becomes shorter meanwhile would end the process. */
  TIFF *tiff = TIFFClientOpen("", "r", source, source_read, source_write, source_seek, source_close,
                              source_size, NULL, NULL);
  if (!tiff) refuse(reason, "the file is damaged: %s", heard->text);
  return tiff;
}

static void close_tiff(TIFF *tiff) {
  TIFFClose(tiff);
  listening = NULL;
}

/* ---- pages ----------------------------------------------------------------------------------- */

/* A smaller copy of a page, or the mask of another one, is no page. */
static int is_page(TIFF *tiff) {
  uint32_t kind = 0;
  TIFFGetFieldDefaulted(tiff, TIFFTAG_SUBFILETYPE, &kind);
  return !(kind & (FILETYPE_REDUCEDIMAGE | FILETYPE_MASK));
}

/* Goes to a page, or behind the last one. Returns how many pages were passed, that one included. */
static int go_to_page(TIFF *tiff, int page) {
  int passed = is_page(tiff);
  while (passed < page && TIFFReadDirectory(tiff)) passed += is_page(tiff);
  return passed;
}

int tiff_pages(const file_view *file, char reason[DECODE_REASON]) {
  tiff_source source = {file, 0};
  complaint heard = {"", 0};
  TIFF *tiff = open_tiff(&source, &heard, reason);
  if (!tiff) return 0;
  const int pages = go_to_page(tiff, MOST_PAGES + 1);
  close_tiff(tiff);
  if (pages > MOST_PAGES)
    refuse(reason, "it has more than %d pages", MOST_PAGES);
  else if (*heard.text)
    refuse(reason, "the file is damaged: %s", heard.text);
  else if (!pages)
    refuse(reason, "it holds only previews, as a camera's raw picture does; convert it to PNG");
  return pages > MOST_PAGES || *heard.text ? 0 : pages;
}

/* ---- pixels ---------------------------------------------------------------------------------- */

/* What a page's second or fourth sample is: libtiff multiplies an alpha into colours, but not into grey;
   other samples than alpha are nobody's business. */
enum { NO_ALPHA, ALPHA, ALPHA_IN_COLOURS };

static int find_alpha(TIFF *tiff, int photometric) {
  uint16_t count = 0, *kinds = NULL;
  TIFFGetFieldDefaulted(tiff, TIFFTAG_EXTRASAMPLES, &count, &kinds);
  if (!count || (kinds[0] != EXTRASAMPLE_ASSOCALPHA && kinds[0] != EXTRASAMPLE_UNASSALPHA))
    return NO_ALPHA;
  const int is_grey =
      photometric == PHOTOMETRIC_MINISBLACK || photometric == PHOTOMETRIC_MINISWHITE;
  return is_grey && kinds[0] == EXTRASAMPLE_UNASSALPHA ? ALPHA : ALPHA_IN_COLOURS;
}

/* What is transparent shows white paper behind it. */
static void put_colours(const uint32_t *raster, size_t count, int alpha, uint8_t *to) {
  for (size_t i = 0; i < count; i++, to += 3) {
    const uint32_t pixel = raster[i], cover = alpha == NO_ALPHA ? 255 : TIFFGetA(pixel);
    const uint32_t colours[3] = {TIFFGetR(pixel), TIFFGetG(pixel), TIFFGetB(pixel)};
    for (int c = 0; c < 3; c++) {
      const uint32_t ink = alpha == ALPHA ? (colours[c] * cover + 127) / 255 : colours[c];
      to[c] = (uint8_t)(ink + 255 - cover < 255 ? ink + 255 - cover : 255);
    }
  }
}

static int decode_raster(TIFFRGBAImage *image, complaint *heard, decoded_picture *out,
                         char reason[DECODE_REASON]) {
  const size_t count = (size_t)image->width * image->height;
  uint32_t *raster = malloc(count * sizeof *raster);
  uint8_t *pixels = raster ? malloc(count * 3) : NULL;
  int failed = pixels ? 0 : refuse(reason, "out of memory");
  uint16_t packing = COMPRESSION_NONE;
  TIFFGetFieldDefaulted(image->tif, TIFFTAG_COMPRESSION, &packing);
  image->req_orientation = image->orientation;    /* turned later */
  heard->decoding = packing != COMPRESSION_OJPEG; /* of which libtiff always complains */
  if (!failed && (!TIFFRGBAImageGet(image, raster, image->width, image->height) || *heard->text))
    failed = refuse(reason, "the file is cut off or damaged: %s",
                    *heard->text ? heard->text : "libtiff cannot decode it");
  if (!failed) {
    put_colours(raster, count, find_alpha(image->tif, image->photometric), pixels);
    *out = (decoded_picture){pixels, (int)image->height, (int)image->width, 3};
  } else {
    free(pixels);
  }
  free(raster);
  return failed;
}

/* Bytes that are unpacked at once; a tile may be larger than the page. */
static int64_t piece_size(TIFF *tiff) {
  const uint64_t size = TIFFIsTiled(tiff) ? TIFFTileSize64(tiff) : TIFFStripSize64(tiff);
  return size > INT64_MAX ? INT64_MAX : (int64_t)size;
}

static int decode_image(TIFF *tiff, complaint *heard, decoded_picture *out,
                        char reason[DECODE_REASON]) {
  char message[1024] = "";
  TIFFRGBAImage image;
  if (!TIFFRGBAImageOK(tiff, message) || !TIFFRGBAImageBegin(&image, tiff, 1, message))
    return refuse(reason, "it is a TIFF that is not read here (%.150s); convert it to PNG",
                  message);
  const int orientation = image.orientation;
  const int failed = decode_raster(&image, heard, out, reason);
  TIFFRGBAImageEnd(&image);
  return failed ? -1 : turn_upright(out, orientation, reason);
}

/* libtiff takes tiles that are not packed for damaged unless the buffer that it reads them into has
   exactly their size, which one of its own has not (seen with 4.5.0). NULL if none is needed or there
   is no memory; to be freed after the file is closed. */
static void *set_tile_buffer(TIFF *tiff) {
  uint16_t packing = COMPRESSION_NONE;
  TIFFGetFieldDefaulted(tiff, TIFFTAG_COMPRESSION, &packing);
  const tmsize_t size = TIFFIsTiled(tiff) && packing == COMPRESSION_NONE ? TIFFTileSize(tiff) : 0;
  void *buffer = size > 0 ? malloc((size_t)size) : NULL;
  if (buffer) TIFFReadBufferSetup(tiff, buffer, size);
  return buffer;
}

static int decode_directory(TIFF *tiff, int64_t most_pixels, complaint *heard, void **buffer,
                            decoded_picture *out, char reason[DECODE_REASON]) {
  uint32_t width = 0, height = 0;
  TIFFGetField(tiff, TIFFTAG_IMAGEWIDTH, &width);
  TIFFGetField(tiff, TIFFTAG_IMAGELENGTH, &height);
  if (refuse_size(width, height, most_pixels, reason)) return -1;
  if (piece_size(tiff) > DECODE_MAX_PIXELS * 8)
    return refuse(reason, "it has tiles of more than 1 GB");
  if (tiff_check_pieces(tiff, reason)) return -1;
  *buffer = set_tile_buffer(tiff);
  return decode_image(tiff, heard, out, reason);
}

int decode_tiff(const file_view *file, int64_t most_pixels, decoded_picture *out,
                char reason[DECODE_REASON]) {
  tiff_source source = {file, 0};
  complaint heard = {"", 0};
  TIFF *tiff = open_tiff(&source, &heard, reason);
  if (!tiff) return -1;
  void *buffer = NULL;
  int failed;
  if (go_to_page(tiff, file->page) == file->page)
    failed = decode_directory(tiff, most_pixels, &heard, &buffer, out, reason);
  else if (*heard.text)
    failed = refuse(reason, "the file is damaged: %s", heard.text);
  else
    failed = refuse(reason, "there is no page %d in it", file->page);
  close_tiff(tiff);
  free(buffer);
  return failed;
}

#endif
