/* picture.c - picture files of any kind but PDF, as the tools decode them. What is read is all there,
   and upright; what is not has a reason. Checksums of PNG are made right first: hardly any input would
   pass them. Runs: 4000. */
#include "tools.h"

#include "decode.h"
#include "implementations/stb.h"
#include "picture.h"

#define MOST_PIXELS ((int64_t)1 << 18)
#define MOST_PAGES 3

/* ---- checksums of PNG, slowly: bit by bit, byte by byte ---- */

static uint32_t read_big(const uint8_t *from) {
  return (uint32_t)from[0] << 24 | (uint32_t)from[1] << 16 | (uint32_t)from[2] << 8 | from[3];
}

static void write_big(uint8_t *to, uint32_t value) {
  for (int i = 0; i < 4; i++) to[i] = (uint8_t)(value >> (24 - 8 * i));
}

static uint32_t crc_of(const uint8_t *bytes, size_t count) {
  uint32_t crc = 0xFFFFFFFFu;
  for (size_t i = 0; i < 8 * count; i++) {
    if (i % 8 == 0) crc ^= bytes[i / 8];
    crc = crc >> 1 ^ (crc & 1 ? 0xEDB88320u : 0);
  }
  return ~crc;
}

/* The checksum of what a zlib stream holds, behind which it stands. */
static void seal_zlib(uint8_t *bytes, size_t count) {
  int unpacked;
  uint32_t a = 1, b = 0;
  if (count < 6) return;
  char *all = stbi_zlib_decode_malloc((const char *)bytes, (int)count, &unpacked);
  for (int i = 0; all && i < unpacked; i++) {
    a = (a + (uint8_t)all[i]) % 65521;
    b = (b + a) % 65521;
  }
  if (all) write_big(bytes + count - 4, b << 16 | a);
  free(all);
}

static void seal_png(uint8_t *bytes, size_t size) {
  if (size < 8 || memcmp(bytes, "\x89PNG\r\n\x1A\n", 8)) return;
  for (size_t at = 8; size - at >= 12;) {
    const size_t length = read_big(bytes + at);
    if (length > size - at - 12) return;
    if (!memcmp(bytes + at + 4, "IDAT", 4)) seal_zlib(bytes + at + 8, length);
    write_big(bytes + at + 8 + length, crc_of(bytes + at + 4, length + 4));
    at += length + 12;
  }
}

/* ---- pictures ---- */

static void check_pixels(const decoded_picture *read) {
  const size_t count = (size_t)read->width * (size_t)read->height;
  FUZZ_CHECK(read->width > 0 && read->height > 0 && (int64_t)count <= MOST_PIXELS);
  FUZZ_CHECK(read->channels >= 1 && read->channels <= 4);
  for (int channels = 1; channels <= 3; channels += 2) {
    uint8_t *row = malloc((size_t)read->width * (size_t)channels);
    for (int y = 0; row && y < read->height; y++)
      convert_channels(read->pixels + (size_t)y * (size_t)read->width * (size_t)read->channels,
                       read->channels, row, channels, (size_t)read->width);
    free(row);
  }
}

static void check_page(const char *path, int page) {
  char reason[DECODE_REASON] = "";
  decoded_picture read;
  if (decode_page(path, page, MOST_PIXELS, &read, reason)) {
    check_pixels(&read);
    free(read.pixels);
  } else {
    FUZZ_CHECK(*reason && !read.pixels);
  }
}

/* Programs of their own read PDF, whatever comes. */
static int is_pdf(const uint8_t *data, size_t size) {
  for (size_t at = 0; at + 5 <= size; at++)
    if (!memcmp(data + at, "%PDF-", 5)) return 1;
  return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  char reason[DECODE_REASON] = "";
  fuzz_memory_limit = (size_t)16 << 20;
  if (is_pdf(data, size)) return 0;
  uint8_t *bytes = (uint8_t *)fuzz_text(data, size);
  seal_png(bytes, size);
  const char *path = fuzz_file(bytes, size);
  free(bytes);
  const int pages = decode_pages(path, reason);
  FUZZ_CHECK(pages > 0 || *reason);
  for (int page = 1; page <= pages && page <= MOST_PAGES; page++) check_page(path, page);
  if (!pages) check_page(path, 1);
  return 0;
}
