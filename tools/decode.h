/* decode.h - from a picture's file to its pixels, for every format that people have.

   One function decodes for all tools. It tells a format by what is in the file, never by its name;
   applies the orientation that a camera wrote down; and believes no damaged file: what is cut off or
   fails its checksums is refused with a reason, since votes must not be read off what a decoder made
   up for the missing part.

   format         decoded by                     checked before it is believed
   JPEG           stb_image, CMYK too            scans hold all their codes and no more, end mark
   PNG            stb_image                      CRC of every chunk, Adler-32 of the pixels, end
   TIFF           libtiff, each page             list of pages; JPEG's codes and Adler-32 of the parts
                                                 that have them; no complaint about pixels
   PDF            pdftoppm of poppler, each      no error; warnings are about how it is written
                  page at 300 dots to the inch
   WebP           libwebp, the first frame       all that the header promises is there
   HEIC, AVIF     libheif, the primary picture   what libheif looks at
   GIF            own code, the first frame      blocks and codes whole, trailer
   BMP, DIB       own code                       all that the header promises is there
   PBM, PGM, PPM  own code                       all that the header promises is there
   PSD, PSB       own code, all layers together  all that the header promises is there
   TGA            own code                       all that the header promises is there

   libtiff, libwebp and libheif are taken where make finds them (HAVE_LIBTIFF, HAVE_LIBWEBP,
   HAVE_LIBHEIF), pdftoppm when a PDF has to be read; without them such a file is refused with the name
   of what to install.

   Only PNG has checksums of all that it holds. In other formats a wrong bit can look like another
   picture; that the file's end or a part of a JPEG is missing is noticed. WebP, HEIC and AVIF decode to
   something even if bytes in their middle were lost or changed.

   Nothing here ends the process, prints or needs another part of tools/. All functions may be called
   from several threads at once. */
#ifndef TALLY_DECODE_H
#define TALLY_DECODE_H

#include <stddef.h>
#include <stdint.h>

/* 8 bits a sample, [height][width][channels]: 1 grey, 2 grey and alpha, 3 RGB, 4 RGB and alpha (not
   multiplied into the colours). It stands upright. The caller frees pixels with free(). */
typedef struct decoded_picture {
  uint8_t *pixels;
  int height, width, channels;
} decoded_picture;

#define DECODE_REASON 256                    /* room for a reason, with the 0 at its end */
#define DECODE_MAX_PIXELS ((int64_t)1 << 27) /* a header that promises more is not believed */
#define DECODE_MAX_BYTES ((size_t)256 << 20) /* of a file that has to be in memory as a whole */

/* The number of pages of a picture file, at least 1; or 0 if it cannot be read, and why (without the
   file's name). Cheap: it decodes no pixels, so that a page it counts may still turn out damaged. */
int decode_pages(const char *path, char reason[DECODE_REASON]);

/* Decodes a page, counted from 1. Returns 1; or 0 if it cannot be read, and why (without the file's
   name). A page of more than most_pixels or DECODE_MAX_PIXELS is refused; of PDF it is drawn coarser
   instead. */
int decode_page(const char *path, int page, int64_t most_pixels, decoded_picture *out,
                char reason[DECODE_REASON]);

/* Whether a file's name ends as people let pictures end. */
int decode_is_picture_name(const char *name);

#endif
