/* decode.h - picture files of every kind that people have, as pixels.

   A file is known by its content, never by its name, and is not believed before it has been checked:
   what is cut off, damaged or far too large is refused with a reason. Each of these functions may be
   called by several threads at once. The kinds, and what reads them:

   - JPEG, PNG, BMP, GIF (its first frame), PGM and PPM, TGA, PSD: stb_image, always
   - TIFF, each of its pages: libtiff, where the programs were built with it
   - WebP: libwebp, the same
   - HEIC and AVIF: libheif, the same
   - PDF, each of its pages at 300 dots an inch: the programs pdfinfo and pdftoppm of poppler, where
     they are installed. They run as processes of their own, with limits on memory and time.

   A kind that cannot be read here is refused with the name of what is missing. */
#ifndef TALLY_DECODE_H
#define TALLY_DECODE_H

#include <stddef.h>
#include <stdint.h>

#define DECODE_REASON 256                     /* bytes of a reason */
#define DECODE_MOST_BYTES ((size_t)256 << 20) /* of a file */

/* 8 bits a channel, [height][width][channels]: grey, grey and alpha, RGB, or RGBA. Upright, whichever
   way the camera was held. The pixels are the caller's to free. */
typedef struct decoded_picture {
  uint8_t *pixels;
  int height, width, channels;
} decoded_picture;

/* How many pages a file has: 1 for everything but TIFF and PDF. 0: it cannot be read, and why. */
int decode_pages(const char *path, char reason[DECODE_REASON]);

/* Reads a page, from 1 on. Returns 1, or 0 with a reason, which it also gives where the page would
   have more than most_pixels. A page of a PDF file is then drawn coarser instead. */
int decode_page(const char *path, int page, int64_t most_pixels, decoded_picture *out,
                char reason[DECODE_REASON]);

/* Whether a name ends as those of pictures do, in small letters or large ones. */
int decode_is_picture_name(const char *name);

#endif
