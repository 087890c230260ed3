/* kinds.h - what the decoders of the several kinds of files share. Internal to decode/. */
#ifndef TALLY_DECODE_KINDS_H
#define TALLY_DECODE_KINDS_H

#include "../decode.h"

typedef enum file_kind {
  KIND_UNKNOWN,
  KIND_JPEG,
  KIND_PNG,
  KIND_GIF,
  KIND_BMP,
  KIND_PNM,
  KIND_PSD,
  KIND_TGA,
  KIND_TIFF,
  KIND_WEBP,
  KIND_HEIF,
  KIND_PDF
} file_kind;

/* A whole file in memory. */
typedef struct file_bytes {
  const uint8_t *bytes;
  size_t size;
} file_bytes;

/* A number of up to four bytes. */
static inline uint32_t read_number(const uint8_t *bytes, int count, int little_endian) {
  uint32_t value = 0;
  for (int i = 0; i < count; i++) value = value << 8 | bytes[little_endian ? count - 1 - i : i];
  return value;
}

/* Writes a reason; always returns 0. */
#if defined(__GNUC__)
__attribute__((format(printf, 2, 3)))
#endif
int refuse(char reason[DECODE_REASON], const char *format, ...);

/* Room for pixels, or a refusal. */
int make_room(decoded_picture *out, int height, int width, int channels, int64_t most_pixels,
              char reason[DECODE_REASON]);

/* ---- check.c: whether a file is whole ---- */
int cut_off(char reason[DECODE_REASON]); /* refuses one that is not */
int check_jpeg(file_bytes file, char reason[DECODE_REASON]); /* jpeg.c */
int check_png(file_bytes file, int64_t most_pixels, char reason[DECODE_REASON]);
int check_gif(file_bytes file, char reason[DECODE_REASON]);
int check_bmp(file_bytes file, char reason[DECODE_REASON]);
int check_pnm(file_bytes file, char reason[DECODE_REASON]);
int check_tga(file_bytes file, char reason[DECODE_REASON]);
int check_psd(file_bytes file, char reason[DECODE_REASON]); /* psd.c */
int looks_like_tga(file_bytes file);

/* ---- orientation.c: how the camera was held ---- */

/* 1 to 8 as in Exif 2.32, tag 0x112 of the first directory; 1 is upright, and what is not valid counts
   as that. */
int orientation_of_jpeg(file_bytes file);
int orientation_of_png(file_bytes file);
int orientation_of_webp(file_bytes file);

/* Stands a picture upright. Returns 0 where there is no memory for it. */
int turn_upright(decoded_picture *photo, int orientation);

/* ---- the decoders of other kinds; pages count from 1 ---- */
int psd_picture(file_bytes file, int64_t most_pixels, decoded_picture *out,
                char reason[DECODE_REASON]);
int tiff_pages(file_bytes file, char reason[DECODE_REASON]);
int tiff_page(file_bytes file, int page, int64_t most_pixels, decoded_picture *out,
              char reason[DECODE_REASON]);
int webp_picture(file_bytes file, int64_t most_pixels, decoded_picture *out,
                 char reason[DECODE_REASON]);
int heif_picture(file_bytes file, int64_t most_pixels, decoded_picture *out,
                 char reason[DECODE_REASON]);
int pdf_pages(const char *path, char reason[DECODE_REASON]);
int pdf_page(const char *path, int page, int64_t most_pixels, decoded_picture *out,
             char reason[DECODE_REASON]);

/* ---- decode.c ---- */

/* A picture of one of stb_image's kinds, checked. */
int stb_picture(file_kind kind, file_bytes file, int64_t most_pixels, decoded_picture *out,
                char reason[DECODE_REASON]);

#endif
