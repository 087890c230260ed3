/* PNG (PNG specification, third edition; zlib: RFC 1950, deflate: RFC 1951). stb_image looks at no
   checksum. Here those of every chunk and of the unpacked pixels are looked at; and so that they are
   not unpacked twice, stb_image gets a file whose pixels are stored as they are. */
#include <stdlib.h>
#include <string.h>

#include "kinds.h"

#define SIGNATURE 8
#define CHUNK 12         /* bytes of length, type and CRC around a chunk's data */
#define BLOCK 65535      /* the most bytes in a stored block of deflate */
#define BLOCK_HEAD 5     /* bytes before each of them */
#define SPARE 65536      /* some encoders pack more than the pixels; that much is put up with */
#define MOST_PACKED 1032 /* the most bytes that deflate packs in one */
#define BAD_HEADER "the file is damaged: its header is not that of a PNG"
#define NO_CHUNK ((size_t)-1)

/* The CRC of PNG's annex D, four bits at a time. */
static uint32_t crc_32(const uint8_t *bytes, size_t size) {
  static const uint32_t table[16] = {0x00000000, 0x1DB71064, 0x3B6E20C8, 0x26D930AC,
                                     0x76DC4190, 0x6B6B51F4, 0x4DB26158, 0x5005713C,
                                     0xEDB88320, 0xF00F9344, 0xD6D6A3E8, 0xCB61B38C,
                                     0x9B64C2B0, 0x86D3D2D4, 0xA00AE278, 0xBDBDF21C};
  uint32_t crc = 0xFFFFFFFF;
  for (size_t i = 0; i < size; i++) {
    crc ^= bytes[i];
    crc = crc >> 4 ^ table[crc & 15];
    crc = crc >> 4 ^ table[crc & 15];
  }
  return ~crc;
}

static int is_chunk(const uint8_t *chunk, const char *type) {
  return !memcmp(chunk + 4, type, 4);
}

/* The length of the data of the chunk at `at`, if it is whole; or NO_CHUNK with a reason. */
static size_t chunk_length(const file_view *file, size_t at, char reason[DECODE_REASON]) {
  const uint8_t *chunk = file->bytes + at;
  if (file->size - at < CHUNK || big_32(chunk) > file->size - at - CHUNK) {
    refuse(reason, "the file is cut off or damaged: its end is missing");
    return NO_CHUNK;
  }
  const size_t length = big_32(chunk);
  if (crc_32(chunk + 4, length + 4) == big_32(chunk + 8 + length)) return length;
  refuse(reason, "the file is damaged: the checksum of its part %.4s at byte %zu does not match",
         (const char *)chunk + 4, at);
  return NO_CHUNK;
}

/* Bytes in all IDAT chunks, and in the chunks before them that stb_image needs. */
typedef struct png_parts {
  size_t packed, head;
} png_parts;

static int is_head(const uint8_t *chunk) {
  return is_chunk(chunk, "IHDR") || is_chunk(chunk, "PLTE") || is_chunk(chunk, "tRNS");
}

/* Whether a picture is not to be shown by who does not know this chunk: a capital says so. */
static int is_unknown(const uint8_t *chunk) {
  return !(chunk[4] & 32) && !is_head(chunk) && !is_chunk(chunk, "IDAT") &&
         !is_chunk(chunk, "IEND");
}

/* Goes through all chunks up to the end. */
static int check_chunks(const file_view *file, png_parts *parts, char reason[DECODE_REASON]) {
  *parts = (png_parts){0, 0};
  for (size_t at = SIGNATURE;;) {
    const size_t length = chunk_length(file, at, reason);
    const uint8_t *chunk = file->bytes + at;
    if (length == NO_CHUNK) return -1;
    if (is_chunk(chunk, "CgBI"))
      return refuse(reason, "it is a PNG as only iPhones read it (CgBI); convert it to PNG");
    if ((at == SIGNATURE) != is_chunk(chunk, "IHDR") || (at == SIGNATURE && length != 13))
      return refuse(reason, BAD_HEADER);
    if (is_unknown(chunk))
      return refuse(reason, "it has a part %.4s, which is not known", (const char *)chunk + 4);
    if (is_chunk(chunk, "IEND")) return 0;
    if (is_chunk(chunk, "IDAT"))
      parts->packed += length;
    else if (is_head(chunk) && !parts->packed)
      parts->head += CHUNK + length;
    at += CHUNK + length;
  }
}

/* Bytes that `width` x `height` pixels take, with a filter byte before each row. */
static uint64_t rows_size(uint64_t width, uint64_t height, unsigned bits) {
  return width && height ? height * (1 + (width * bits + 7) / 8) : 0;
}

/* Bytes that the pixels take unpacked: seven pictures if they are interlaced. 0 for a kind of pixel
   that there is not. */
static uint64_t unpacked_size(const uint8_t *header) {
  static const uint8_t samples[8] = {1, 0, 3, 1, 2, 0, 4, 0};
  static const uint8_t passes[7][4] = {{0, 0, 8, 8}, {4, 0, 8, 8}, {0, 4, 4, 8}, {2, 0, 4, 4},
                                       {0, 2, 2, 4}, {1, 0, 2, 2}, {0, 1, 1, 2}};
  const uint64_t width = big_32(header), height = big_32(header + 4);
  const unsigned bits =
      header[8] > 16 || header[9] > 7 ? 0 : (unsigned)header[8] * samples[header[9]];
  uint64_t size = 0;
  if (!bits || header[12] > 1) return 0;
  if (!header[12]) return rows_size(width, height, bits);
  for (int i = 0; i < 7; i++) {
    const uint8_t *pass = passes[i]; /* first column and row, steps */
    size += rows_size((width + pass[2] - 1 - pass[0]) / pass[2],
                      (height + pass[3] - 1 - pass[1]) / pass[3], bits);
  }
  return size;
}

/* Unpacks the pixels to `to` and checks their sum. Returns how many bytes they are, at most `room`;
   or 0 with a reason. */
static size_t unpack(const file_view *file, size_t packed, uint8_t *to, size_t room,
                     char reason[DECODE_REASON]) {
  uint8_t *all = malloc(packed + 1);
  size_t size = 0;
  if (!all) refuse(reason, "out of memory");
  if (!all) return 0;
  for (const uint8_t *chunk = file->bytes + SIGNATURE; !is_chunk(chunk, "IEND");
       chunk += CHUNK + big_32(chunk)) {
    if (!is_chunk(chunk, "IDAT")) continue;
    memcpy(all + size, chunk + 8, big_32(chunk));
    size += big_32(chunk);
  }
  size = unpack_zlib(all, size, to, room, reason);
  free(all);
  return size;
}

static uint8_t *write_big_32(uint8_t *to, size_t value) {
  for (int i = 0; i < 4; i++) *to++ = (uint8_t)(value >> (24 - 8 * i));
  return to;
}

/* What comes before the pixels. */
static uint8_t *write_head(uint8_t *to, const file_view *file) {
  memcpy(to, file->bytes, SIGNATURE);
  to += SIGNATURE;
  for (const uint8_t *chunk = file->bytes + SIGNATURE; !is_chunk(chunk, "IDAT");
       chunk += CHUNK + big_32(chunk)) {
    if (!is_head(chunk)) continue;
    memcpy(to, chunk, CHUNK + big_32(chunk));
    to += CHUNK + big_32(chunk);
  }
  return to;
}

/* Stores `size` bytes at `to`, which may be a few bytes before `from`: moving forward, no byte is
   overwritten before it has been moved. */
static uint8_t *write_stored(uint8_t *to, const uint8_t *from, size_t size) {
  *to++ = 0x78; /* zlib with a window of 32 KiB ... */
  *to++ = 0x01; /* ... packed the fastest way */
  do {
    const unsigned count = size < BLOCK ? (unsigned)size : BLOCK;
    size -= count;
    *to++ = size ? 0 : 1; /* the last block has the bit */
    *to++ = (uint8_t)count;
    *to++ = (uint8_t)(count >> 8);
    *to++ = (uint8_t)~count;
    *to++ = (uint8_t)(~count >> 8);
    memmove(to, from, count);
    to += count;
    from += count;
  } while (size);
  return write_big_32(to, 0);
}

static uint8_t *write_chunk_start(uint8_t *to, const char *type, size_t length) {
  to = write_big_32(to, length);
  memcpy(to, type, 4);
  return to + 4;
}

/* The whole file, from what comes before the pixels in `file` and the pixels. Returns its size. The
   checksums, which stb_image does not look at, are 0. */
static size_t write_plain(uint8_t *to, const file_view *file, const uint8_t *pixels, size_t count) {
  uint8_t *idat = write_head(to, file);
  uint8_t *end = write_stored(idat + 8, pixels, count);
  write_chunk_start(idat, "IDAT", (size_t)(end - idat - 8));
  end = write_chunk_start(write_big_32(end, 0), "IEND", 0);
  return (size_t)(write_big_32(end, 0) - to);
}

/* Whether the pixels can be what the header promises, before memory is taken for them. */
static int check_needed(uint64_t needed, size_t packed, uint64_t room, char reason[DECODE_REASON]) {
  if (!needed) return refuse(reason, BAD_HEADER);
  if (packed < needed / MOST_PACKED + 6)
    return refuse(reason, "the file is damaged: most of its pixels are missing");
  return room > INT32_MAX ? refuse(reason, "its pixels take more than 2 GB") : 0;
}

/* The same picture with its pixels stored as they are; NULL with a reason. */
static uint8_t *plain_png(const file_view *file, const png_parts *parts, size_t *size,
                          char reason[DECODE_REASON]) {
  const uint64_t needed = unpacked_size(file->bytes + SIGNATURE + 8), room = needed + SPARE;
  const uint64_t before =
      SIGNATURE + parts->head + 2 * CHUNK + 2 + BLOCK_HEAD * (room / BLOCK + 1) + 4;
  if (check_needed(needed, parts->packed, before + room, reason)) return NULL;
  uint8_t *plain = malloc((size_t)(before + room));
  if (!plain) refuse(reason, "out of memory");
  const size_t count =
      plain ? unpack(file, parts->packed, plain + before, (size_t)room, reason) : 0;
  if (count) *size = write_plain(plain, file, plain + before, count);
  if (count) return plain;
  free(plain);
  return NULL;
}

int decode_png(const file_view *file, int64_t most_pixels, decoded_picture *out,
               char reason[DECODE_REASON]) {
  png_parts parts;
  file_view plain = {.descriptor = -1};
  if (file->size < SIGNATURE + 16 || !is_chunk(file->bytes + SIGNATURE, "IHDR"))
    return refuse(reason, "the file is cut off or damaged: its header is missing");
  if (refuse_size(big_32(file->bytes + 16), big_32(file->bytes + 20), most_pixels, reason))
    return -1;
  if (check_chunks(file, &parts, reason)) return -1;
  plain.owned = plain_png(file, &parts, &plain.size, reason);
  if (!plain.owned) return -1;
  plain.bytes = plain.owned;
  const int failed = decode_stb(&plain, most_pixels, 0, out, reason);
  free(plain.owned);
  return failed;
}
