/* check.c - whether a file is whole, before stb_image decodes it: that takes much of what is cut off or
   damaged and fills up with grey or with what comes along. */
#include "kinds.h"

#include <stdlib.h>
#include <string.h>

#include "../implementations/stb.h"

int cut_off(char reason[DECODE_REASON]) {
  return refuse(reason, "the file is cut off: the picture's end is missing");
}

/* ---- PNG ---- */

/* The CRC of PNG's annex D, a byte at a time. */
static uint32_t crc_of(const uint8_t *bytes, size_t size) {
  uint32_t crc = 0xFFFFFFFFu, table[256];
  for (uint32_t n = 0; n < 256; n++) {
    table[n] = n;
    for (int k = 0; k < 8; k++)
      table[n] = table[n] & 1 ? 0xEDB88320u ^ table[n] >> 1 : table[n] >> 1;
  }
  for (size_t i = 0; i < size; i++) crc = table[(crc ^ bytes[i]) & 255] ^ crc >> 8;
  return ~crc;
}

/* Adler-32 (RFC 1950). 5552 bytes are the most before the sums leave 32 bits. */
static uint32_t adler_of(const uint8_t *bytes, size_t size) {
  uint32_t a = 1, b = 0;
  while (size) {
    size_t now = size < 5552 ? size : 5552;
    size -= now;
    for (; now; now--) {
      a += *bytes++;
      b += a;
    }
    a %= 65521;
    b %= 65521;
  }
  return b << 16 | a;
}

/* Bytes of the rows of a picture, each behind the number of its filter. */
static uint64_t png_rows(uint64_t width, uint64_t height, unsigned bits) {
  return width && height ? height * (1 + (width * bits + 7) / 8) : 0;
}

/* Bytes that the picture's data unpack to. Interlaced pictures come in seven passes (PNG, 8.2). */
static uint64_t png_unpacked(const uint8_t *header) {
  static const unsigned left[] = {0, 4, 0, 2, 0, 1, 0}, across[] = {8, 8, 4, 4, 2, 2, 1},
                        top[] = {0, 0, 4, 0, 2, 0, 1}, down[] = {8, 8, 8, 4, 4, 2, 2};
  static const unsigned channels[] = {1, 0, 3, 1, 2, 0, 4}; /* by type of colour */
  const uint64_t width = read_number(header, 4, 0), height = read_number(header + 4, 4, 0);
  const unsigned bits = header[8] * (header[9] < 7 ? channels[header[9]] : 0);
  uint64_t all = 0;
  if (!header[12]) return png_rows(width, height, bits);
  for (int pass = 0; pass < 7; pass++)
    all += png_rows((width + across[pass] - 1 - left[pass]) / across[pass],
                    (height + down[pass] - 1 - top[pass]) / down[pass], bits);
  return all;
}

/* Whether the data unpack to the whole picture, and to what their checksum says. `packed` holds all
   of them. */
static int check_packed(const uint8_t *header, const uint8_t *packed, size_t size,
                        char reason[DECODE_REASON]) {
  const uint64_t wanted = png_unpacked(header);
  if (size < 6 || !wanted || wanted > INT32_MAX || size > INT32_MAX)
    return refuse(reason, "damaged: the picture's data are missing or far too many");
  char *rows = malloc((size_t)wanted);
  if (!rows) return refuse(reason, "out of memory");
  const int got = stbi_zlib_decode_buffer(rows, (int)wanted, (const char *)packed, (int)size);
  const int good = got == (int)wanted && adler_of((uint8_t *)rows, (size_t)wanted) ==
                                             read_number(packed + size - 4, 4, 0);
  free(rows);
  return good || refuse(reason, "damaged: the picture's data do not unpack to what they should");
}

int check_png(file_bytes file, int64_t most_pixels, char reason[DECODE_REASON]) {
  const uint8_t *b = file.bytes;
  size_t at = 8, packed_size = 0;
  if (file.size < 8 + 25 || memcmp(b + 12, "IHDR", 4)) return cut_off(reason);
  const uint64_t pixels = (uint64_t)read_number(b + 16, 4, 0) * read_number(b + 20, 4, 0);
  if (pixels > (uint64_t)most_pixels)
    return refuse(reason, "more than %lld pixels", (long long)most_pixels);
  uint8_t *packed = malloc(file.size);
  if (!packed) return refuse(reason, "out of memory");
  for (int over = 0; !over;) {
    const size_t left = file.size - at;
    const size_t length = left >= 12 ? read_number(b + at, 4, 0) : 0;
    if (left < 12 || length > left - 12) {
      free(packed);
      return cut_off(reason);
    }
    if (crc_of(b + at + 4, length + 4) != read_number(b + at + 8 + length, 4, 0)) {
      free(packed);
      return refuse(reason, "damaged: the checksum of the part at byte %zu is wrong", at);
    }
    if (!memcmp(b + at + 4, "IDAT", 4)) {
      memcpy(packed + packed_size, b + at + 8, length);
      packed_size += length;
    }
    over = !memcmp(b + at + 4, "IEND", 4);
    at += length + 12;
  }
  const int good = check_packed(b + 16, packed, packed_size, reason);
  free(packed);
  return good;
}

/* ---- GIF ---- */

/* The end of a chain of blocks, each behind its length; 0 if the file ends before. */
static size_t gif_blocks_end(file_bytes file, size_t at) {
  while (at < file.size && file.bytes[at]) at += 1 + (size_t)file.bytes[at];
  return at < file.size ? at + 1 : 0;
}

static size_t gif_palette(uint8_t flags) {
  return flags & 0x80 ? (size_t)3 << ((flags & 7) + 1) : 0;
}

/* Blocks up to the byte that ends the file. */
int check_gif(file_bytes file, char reason[DECODE_REASON]) {
  const uint8_t *b = file.bytes;
  if (file.size < 13) return cut_off(reason);
  size_t at = 13 + gif_palette(b[10]);
  int pictures = 0;
  while (at && at < file.size && b[at] != 0x3B) {
    if (b[at] == 0x21) { /* an extension: its kind, then blocks */
      at = gif_blocks_end(file, at + 2);
    } else if (b[at] == 0x2C && file.size - at > 10) { /* a picture */
      at = gif_blocks_end(file, at + 11 + gif_palette(b[at + 9]));
      pictures++;
    } else {
      return b[at] == 0x2C ? cut_off(reason) : refuse(reason, "damaged: byte %zu is no GIF's", at);
    }
  }
  if (!at || at >= file.size) return cut_off(reason);
  return pictures || refuse(reason, "a GIF without a picture");
}

/* ---- BMP ---- */

int check_bmp(file_bytes file, char reason[DECODE_REASON]) {
  const uint8_t *b = file.bytes;
  if (file.size < 26) return cut_off(reason);
  const uint64_t start = read_number(b + 10, 4, 1);
  const int old = read_number(b + 14, 4, 1) == 12;
  if (!old && file.size < 54) return cut_off(reason);
  const uint64_t width = old ? read_number(b + 18, 2, 1) : read_number(b + 18, 4, 1);
  const int64_t tall =
      old ? (int64_t)read_number(b + 20, 2, 1) : (int32_t)read_number(b + 22, 4, 1);
  const uint64_t height = (uint64_t)(tall < 0 ? -tall : tall);
  const uint64_t bits = old ? read_number(b + 24, 2, 1) : read_number(b + 28, 2, 1);
  const uint32_t packing = old ? 0 : read_number(b + 30, 4, 1);
  if (packing == 1 || packing == 2) return refuse(reason, "a BMP with run lengths; save it as PNG");
  if (bits > 32 || width > INT32_MAX || start > file.size) return cut_off(reason);
  const uint64_t row = (width * bits + 31) / 32 * 4;
  return height <= (file.size - start) / (row ? row : 1) || cut_off(reason);
}

/* ---- PNM ---- */

/* A number of the header, behind blanks and comments; *at goes behind it. -1: there is none. */
static int64_t pnm_number(file_bytes file, size_t *at) {
  int64_t value = -1;
  for (; *at < file.size; ++*at) {
    const uint8_t c = file.bytes[*at];
    if (c >= '0' && c <= '9') {
      value = (value < 0 ? 0 : value) * 10 + (c - '0');
      if (value > INT32_MAX) return -1;
    } else if (value >= 0) {
      return value;
    } else if (c == '#') {
      while (*at < file.size && file.bytes[*at] != '\n') ++*at;
    } else if (c != ' ' && c != '\t' && c != '\r' && c != '\n') {
      return -1;
    }
  }
  return -1;
}

int check_pnm(file_bytes file, char reason[DECODE_REASON]) {
  size_t at = 2;
  if (file.bytes[1] != '5' && file.bytes[1] != '6')
    return refuse(reason, "a PNM of kind P%c; pnmtopng makes it a PNG", file.bytes[1]);
  const int64_t width = pnm_number(file, &at), height = pnm_number(file, &at),
                most = pnm_number(file, &at);
  if (width < 1 || height < 1 || most < 1 || most > 65535)
    return refuse(reason, "damaged: its header is not a PNM's");
  const uint64_t row = (uint64_t)width * (file.bytes[1] == '6' ? 3 : 1) * (most > 255 ? 2 : 1);
  const uint64_t left = file.size > at ? file.size - at - 1 : 0;
  return (uint64_t)height <= left / row || cut_off(reason);
}

/* ---- TGA ---- */

typedef struct tga_header {
  size_t start; /* of the pixels */
  int packed;
  uint64_t pixels;
  size_t bytes; /* of a pixel */
} tga_header;

static int tga_read_header(file_bytes file, tga_header *out) {
  const uint8_t *b = file.bytes;
  if (file.size < 18 || b[1] > 1) return 0;
  const int type = b[2] & 7, bits = b[16];
  const uint64_t colours = b[1] ? read_number(b + 5, 2, 1) : 0;
  if ((b[2] & ~8) != type || type < 1 || type > 3 || (type == 1) != b[1]) return 0;
  if (bits != 8 && bits != 15 && bits != 16 && bits != 24 && bits != 32) return 0;
  out->packed = b[2] >> 3 & 1;
  out->pixels = (uint64_t)read_number(b + 12, 2, 1) * read_number(b + 14, 2, 1);
  out->bytes = (size_t)(bits + 7) / 8;
  out->start = 18 + (size_t)b[0] + (size_t)(colours * ((b[7] + 7u) / 8));
  return out->pixels > 0;
}

/* The format has no mark of its own. */
int looks_like_tga(file_bytes file) {
  tga_header header;
  return tga_read_header(file, &header);
}

int check_tga(file_bytes file, char reason[DECODE_REASON]) {
  tga_header header;
  if (!tga_read_header(file, &header)) return refuse(reason, "damaged: its header is not a TGA's");
  size_t at = header.start;
  if (!header.packed)
    return (at <= file.size && header.pixels <= (file.size - at) / header.bytes) || cut_off(reason);
  for (uint64_t done = 0; done < header.pixels;) { /* runs, and pixels one by one */
    if (at >= file.size) return cut_off(reason);
    const uint64_t count = (file.bytes[at] & 127) + 1u;
    const uint64_t size = file.bytes[at] & 128 ? header.bytes : count * header.bytes;
    if (size > file.size - at - 1) return cut_off(reason);
    at += 1 + (size_t)size;
    done += count;
  }
  return 1;
}
