/* kinds.h - what the decoders of the several kinds of files share. Internal to decode/. */
#ifndef TALLY_DECODE_KINDS_H
#define TALLY_DECODE_KINDS_H

#include "../decode.h"

#if defined(__GNUC__)
#define DECODE_PRINTF __attribute__((format(printf, 2, 3)))
#else
#define DECODE_PRINTF
#endif

/* Writes a reason, shortened to its room and in ASCII. Returns -1, so that
   `return refuse(...)` fails. */
int refuse(char reason[DECODE_REASON], const char *format, ...) DECODE_PRINTF;

/* -1 with a reason if a picture has no or too many pixels. */
int refuse_size(int64_t width, int64_t height, int64_t most_pixels, char reason[DECODE_REASON]);

/* Numbers of 2 or 4 bytes in a file. */
static inline uint32_t big_16(const uint8_t *at) {
  return (uint32_t)at[0] << 8 | at[1];
}
static inline uint32_t big_32(const uint8_t *at) {
  return big_16(at) << 16 | big_16(at + 2);
}
static inline uint32_t little_16(const uint8_t *at) {
  return (uint32_t)at[1] << 8 | at[0];
}
static inline uint32_t little_32(const uint8_t *at) {
  return little_16(at + 2) << 16 | little_16(at);
}

/* A page of a file as its decoder sees it. All of the file is in memory, but for formats with pages:
   of those only what is needed is read. */
typedef struct file_view {
  const uint8_t *bytes; /* or NULL */
  size_t size;
  int descriptor; /* or -1 */
  int page;       /* from 1 */
  uint8_t *owned; /* to be freed, or NULL */
} file_view;

/* What decode_pages() and decode_page() do, of a file that is open or in memory. */
int file_pages(const file_view *file, char reason[DECODE_REASON]);
int file_decode(file_view *file, int page, int64_t most_pixels, decoded_picture *out,
                char reason[DECODE_REASON]);

/* Reads up to `count` bytes at a place in a file; returns how many there are. */
size_t file_read(const file_view *file, uint64_t at, void *to, size_t count);

/* Appends what a descriptor gives at once. Returns the count of bytes, 0 at the end, or -1 with a reason;
   more than DECODE_MAX_BYTES are refused. */
ptrdiff_t read_more(int descriptor, uint8_t **bytes, size_t *size, size_t *room,
                    char reason[DECODE_REASON]);

/* Refuses a format that needs a library which was not there when this was built: which package has it,
   and which program converts the file otherwise. */
int refuse_library(const char *format, const char *package, const char *otherwise,
                   char reason[DECODE_REASON]);

/* Decoders fill in `out` as it is stored and return 0, or -1 with a reason. */
int decode_jpeg(const file_view *file, int64_t most_pixels, decoded_picture *out,
                char reason[DECODE_REASON]);
int decode_png(const file_view *file, int64_t most_pixels, decoded_picture *out,
               char reason[DECODE_REASON]);
int decode_bmp(const file_view *file, int64_t most_pixels, decoded_picture *out,
               char reason[DECODE_REASON]);
int decode_gif(const file_view *file, int64_t most_pixels, decoded_picture *out,
               char reason[DECODE_REASON]);
int decode_psd(const file_view *file, int64_t most_pixels, decoded_picture *out,
               char reason[DECODE_REASON]);
int decode_tga(const file_view *file, int64_t most_pixels, decoded_picture *out,
               char reason[DECODE_REASON]);
int decode_webp(const file_view *file, int64_t most_pixels, decoded_picture *out,
                char reason[DECODE_REASON]);
int decode_heif(const file_view *file, int64_t most_pixels, decoded_picture *out,
                char reason[DECODE_REASON]);
int decode_tiff(const file_view *file, int64_t most_pixels, decoded_picture *out,
                char reason[DECODE_REASON]);
int decode_pdf(const file_view *file, int64_t most_pixels, decoded_picture *out,
               char reason[DECODE_REASON]);
int decode_pnm(const file_view *file, int64_t most_pixels, decoded_picture *out,
               char reason[DECODE_REASON]);

/* What stb_image makes of a file that is known to be whole, in the channels asked for, or for 0 those
   in the file. */
int decode_stb(const file_view *file, int64_t most_pixels, int channels, decoded_picture *out,
               char reason[DECODE_REASON]);

/* Unpacks what zlib packed, at most `room` bytes, and checks its sum. Returns how many bytes they are,
   or 0 with a reason. */
size_t unpack_zlib(const uint8_t *packed, size_t packed_size, uint8_t *to, size_t room,
                   char reason[DECODE_REASON]);

/* 0 if a JPEG in memory is whole, with the file of tables that belongs to it or NULL; -1 with a reason. */
int jpeg_check(const file_view *tables, const file_view *picture, char reason[DECODE_REASON]);

/* 0 if the strips or tiles of the page that libtiff is at are whole as far as it does not look itself;
   -1 with a reason. */
struct tiff;
int tiff_check_pieces(struct tiff *page, char reason[DECODE_REASON]);

/* Whether a file is one, where that is not told by its first bytes alone. */
int is_bmp(const uint8_t *bytes, size_t size);
int is_pnm(const uint8_t *bytes, size_t size);
int is_tga(const uint8_t *bytes, size_t size);
int is_webp(const uint8_t *bytes, size_t size);
int is_heif(const uint8_t *bytes, size_t size);
int is_pdf(const uint8_t *bytes, size_t size);

/* The number of pages; 0 with a reason. */
int tiff_pages(const file_view *file, char reason[DECODE_REASON]);
int pdf_pages(const file_view *file, char reason[DECODE_REASON]);

/* Makes a picture opaque whose every pixel is transparent: there the alpha was never meant. */
void show_if_all_hidden(decoded_picture *picture);

/* ---- orientation ----------------------------------------------------------------------------- */

/* How a camera says that it was held, 1 to 8 (Exif 2.32, tag 0x112 of the first directory; 1 is
   upright), in a whole file. 1 if it says nothing, or what is not valid. */
int jpeg_orientation(const uint8_t *bytes, size_t size);
int png_orientation(const uint8_t *bytes, size_t size);
int webp_orientation(const uint8_t *bytes, size_t size);

/* Stands a picture upright that was stored by a camera held so. If memory does not suffice the picture
   is freed, and -1 returned with a reason. */
int turn_upright(decoded_picture *picture, int orientation, char reason[DECODE_REASON]);

#endif
