/* Strips and tiles of a TIFF whose packing could tell that they are damaged, which libtiff does not ask:
   JPEG, of which libjpeg makes up what is missing, and zlib, of whose sum it does not always know. */
#define _POSIX_C_SOURCE 200809L
#include "kinds.h"

#ifdef HAVE_LIBTIFF
#include <stdlib.h>
#include <tiffio.h>

/* A page's pieces, packed and one after another. */
typedef struct pieces {
  TIFF *page;
  uint16_t packing;
  file_view tables;  /* of JPEG, or empty */
  uint8_t *unpacked; /* room for a piece, of zlib */
  size_t room;
} pieces;

static int check_piece(const pieces *of, const uint8_t *bytes, size_t size,
                       char reason[DECODE_REASON]) {
  const file_view piece = {.bytes = bytes, .size = size, .descriptor = -1};
  if (of->packing == COMPRESSION_JPEG)
    return jpeg_check(of->tables.bytes ? &of->tables : NULL, &piece, reason);
  return unpack_zlib(bytes, size, of->unpacked, of->room, reason) ? 0 : -1;
}

/* Bytes of a piece as it is stored, or -1 if the file is not as long. */
static tmsize_t stored_size(TIFF *page, uint32_t index) {
  const uint64_t size = TIFFGetStrileByteCount(page, index),
                 most = TIFFGetSizeProc(page)(TIFFClientdata(page));
  return size > most ? -1 : (tmsize_t)size;
}

/* A piece of no bytes is left to libtiff. */
static int read_piece(const pieces *of, uint32_t index, char reason[DECODE_REASON]) {
  const tmsize_t size = stored_size(of->page, index);
  if (size == 0) return 0;
  if (size < 0) return refuse(reason, "the file is cut off: a part of its pixels is missing");
  uint8_t *bytes = malloc((size_t)size);
  if (!bytes) return refuse(reason, "out of memory");
  const tmsize_t got = TIFFIsTiled(of->page) ? TIFFReadRawTile(of->page, index, bytes, size)
                                             : TIFFReadRawStrip(of->page, index, bytes, size);
  const int failed = got == size
                         ? check_piece(of, bytes, (size_t)size, reason)
                         : refuse(reason, "the file is cut off: a part of its pixels is missing");
  free(bytes);
  return failed;
}

int tiff_check_pieces(TIFF *page, char reason[DECODE_REASON]) {
  pieces of = {.page = page, .packing = COMPRESSION_NONE};
  uint32_t table_size = 0;
  const void *tables = NULL;
  int failed = 0;
  TIFFGetFieldDefaulted(page, TIFFTAG_COMPRESSION, &of.packing);
  const int is_jpeg = of.packing == COMPRESSION_JPEG;
  if (!is_jpeg && of.packing != COMPRESSION_ADOBE_DEFLATE && of.packing != COMPRESSION_DEFLATE)
    return 0;
  if (is_jpeg && TIFFGetField(page, TIFFTAG_JPEGTABLES, &table_size, &tables) && table_size > 2)
    of.tables = (file_view){.bytes = tables, .size = table_size, .descriptor = -1};
  const tmsize_t size = TIFFIsTiled(page) ? TIFFTileSize(page) : TIFFStripSize(page);
  if (size <= 0 || size > INT32_MAX) return refuse(reason, "it has parts of more than 2 GB");
  of.room = (size_t)size;
  if (!is_jpeg && !(of.unpacked = malloc(of.room))) return refuse(reason, "out of memory");
  const uint32_t count = TIFFIsTiled(page) ? TIFFNumberOfTiles(page) : TIFFNumberOfStrips(page);
  for (uint32_t i = 0; i < count && !failed; i++) failed = read_piece(&of, i, reason);
  free(of.unpacked);
  return failed;
}

#endif
