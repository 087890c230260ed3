/* Checks that tools/decode.h gives a picture's pixels in every format, upright, and refuses with a
   reason what is damaged, cut off or too large. */
#define _POSIX_C_SOURCE 200809L
#define TOOL_NAME "test_decode"
#include "picture_files.h"

#include <sys/stat.h>

#include "../tools/implementations/stb.h"

/* ---- a picture in all formats ---------------------------------------------------------------- */

static buffer make_png(int channels) {
  uint8_t pixels[HEIGHT * WIDTH * 4];
  buffer file = {NULL, 0, 0};
  draw(pixels, channels);
  assert_true(
      stbi_write_png_to_func(put_by_stb, &file, WIDTH, HEIGHT, channels, pixels, WIDTH * channels));
  return file;
}

static buffer make_jpeg(int channels) {
  uint8_t pixels[HEIGHT * WIDTH * 4];
  buffer file = {NULL, 0, 0};
  draw(pixels, channels);
  assert_true(stbi_write_jpg_to_func(put_by_stb, &file, WIDTH, HEIGHT, channels, pixels, 95));
  return file;
}

static buffer make_bmp(int channels) {
  uint8_t pixels[HEIGHT * WIDTH * 4];
  buffer file = {NULL, 0, 0};
  draw(pixels, channels);
  assert_true(stbi_write_bmp_to_func(put_by_stb, &file, WIDTH, HEIGHT, channels, pixels));
  return file;
}

static buffer make_tga(int channels, int packed) {
  uint8_t pixels[HEIGHT * WIDTH * 4];
  buffer file = {NULL, 0, 0};
  draw(pixels, channels);
  stbi_write_tga_with_rle = packed;
  assert_true(stbi_write_tga_to_func(put_by_stb, &file, WIDTH, HEIGHT, channels, pixels));
  return file;
}

/* A BMP of what draw() draws in `depth` bits: 1, 4 and 8 by a grey palette, 16 in 5 bits a colour. The
   header has 12 or 40 bytes. */
static buffer make_plain_bmp(int depth, unsigned header, int top_down) {
  uint8_t pixels[HEIGHT * WIDTH * 3];
  const int channels = depth <= 8 ? 1 : 3, colours = depth <= 8 ? 1 << depth : 0;
  const unsigned entry = header == 12 ? 3 : 4;
  buffer file = {NULL, 0, 0};
  draw(pixels, channels);
  put_text(&file, "BM");
  put_number(&file, 0, 8, 1);
  put_number(&file, 14 + header + (unsigned)colours * entry, 4, 1);
  put_number(&file, header, 4, 1);
  put_number(&file, WIDTH, header == 12 ? 2 : 4, 1);
  put_number(&file, (unsigned)(top_down ? -HEIGHT : HEIGHT), header == 12 ? 2 : 4, 1);
  put_number(&file, 1, 2, 1);
  put_number(&file, (unsigned)depth, 2, 1);
  for (unsigned i = 16; i < header; i++) put_byte(&file, 0);
  for (int i = 0; i < colours; i++)
    for (unsigned c = 0; c < entry; c++) put_byte(&file, (unsigned)(i * 255 / (colours - 1)));
  for (int row = 0; row < HEIGHT; row++) {
    const uint8_t *from = pixels + (top_down ? row : HEIGHT - 1 - row) * WIDTH * channels;
    uint8_t packed[WIDTH * 4 + 4] = {0};
    for (int x = 0; x < WIDTH; x++, from += channels) {
      if (depth <= 8)
        packed[x * depth / 8] |= (uint8_t)(from[0] >> (8 - depth) << (8 - depth - x * depth % 8));
      else if (depth == 16) {
        const unsigned value = from[0] / 8u << 10 | from[1] / 8u << 5 | from[2] / 8u;
        packed[2 * x] = (uint8_t)value;
        packed[2 * x + 1] = (uint8_t)(value >> 8);
      } else
        for (int c = 0; c < 3; c++) packed[depth / 8 * x + 2 - c] = from[c];
      if (depth == 32) packed[4 * x + 3] = (uint8_t)(17 * x); /* it is no alpha */
    }
    put(&file, packed, (size_t)(WIDTH * depth + 31) / 32 * 4);
  }
  return file;
}

/* 5 x 3 pixels in runs of `depth` bits, with a palette of which index i has the grey value 10 * i:
   3 3 3 3 3 / 1 2 3 1 0 (one left out) / 0 0 0 7 7 from below. */
static buffer make_packed_bmp(int depth) {
  static const uint8_t runs_8[] = {5, 3, 0, 0, 0, 4, 1, 2, 3, 1, 0, 0, 0, 2, 3, 0, 2, 7, 0, 1};
  static const uint8_t runs_4[] = {5, 0x33, 0, 0, 0, 4, 0x12, 0x31, 0,
                                   0, 0,    2, 3, 0, 2, 0x77, 0,    1};
  buffer file = {NULL, 0, 0};
  put_text(&file, "BM");
  put_number(&file, 0, 8, 1);
  put_number(&file, 14 + 40 + 4 * 16, 4, 1);
  put_number(&file, 40, 4, 1);
  put_number(&file, 5, 4, 1);
  put_number(&file, 3, 4, 1);
  put_number(&file, 1, 2, 1);
  put_number(&file, (unsigned)depth, 2, 1);
  put_number(&file, depth == 8 ? 1 : 2, 4, 1);
  for (int i = 0; i < 3; i++) put_number(&file, 0, 4, 1);
  put_number(&file, 16, 4, 1);
  put_number(&file, 0, 4, 1);
  for (unsigned i = 0; i < 16; i++) put_number(&file, i * 10 * 0x10101, 4, 1);
  if (depth == 8)
    put(&file, runs_8, sizeof runs_8);
  else
    put(&file, runs_4, sizeof runs_4);
  return file;
}

/* Codes of a GIF as a chain of blocks. */
typedef struct gif_bits {
  buffer bytes;
  unsigned held, count;
} gif_bits;

static void put_code(gif_bits *bits, unsigned code, unsigned width) {
  bits->held |= code << bits->count;
  for (bits->count += width; bits->count >= 8; bits->count -= 8, bits->held >>= 8)
    put_byte(&bits->bytes, bits->held & 255u);
}

/* LZW of GIF's appendix F with the table searched through. */
static void put_packed(buffer *file, const uint8_t *pixels, size_t size) {
  static struct { unsigned before, byte; } table[4096];
  gif_bits bits = {{NULL, 0, 0}, 0, 0};
  unsigned next = 258, width = 9, code = pixels[0];
  put_code(&bits, 256, width);
  for (size_t i = 1; i <= size; i++) {
    unsigned found = 258;
    while (i < size && found < next &&
           (table[found].before != code || table[found].byte != pixels[i]))
      found++;
    if (i < size && found < next) {
      code = found;
      continue;
    }
    put_code(&bits, code, width);
    if (i == size) break;
    if (next == 4096) {
      put_code(&bits, 256, width);
      next = 258;
      width = 9;
    } else {
      table[next].before = code;
      table[next].byte = pixels[i];
      if (next++ == 1u << width) width++;
    }
    code = pixels[i];
  }
  put_code(&bits, 257, width);
  put_code(&bits, 0, 7);
  put_byte(file, 8);
  for (size_t at = 0; at < bits.bytes.size; at += 200) {
    const size_t left = bits.bytes.size - at, count = left < 200 ? left : 200;
    put_byte(file, (unsigned)count);
    put(file, bits.bytes.bytes + at, count);
  }
  put_byte(file, 0);
  release(&bits.bytes);
}

/* `frames` times what draw() draws in grey, `scale` times as wide and high so that codes run out. */
static buffer make_gif(int frames, int scale) {
  uint8_t pixels[HEIGHT * WIDTH], *scaled = malloc((size_t)(HEIGHT * WIDTH * scale * scale));
  buffer file = {NULL, 0, 0};
  draw(pixels, 1);
  assert_non_null(scaled);
  for (int i = 0; i < HEIGHT * WIDTH * scale * scale; i++)
    scaled[i] = pixels[i / (WIDTH * scale) / scale * WIDTH + i % (WIDTH * scale) / scale];
  put_text(&file, "GIF89a");
  put_number(&file, (unsigned)(WIDTH * scale), 2, 1);
  put_number(&file, (unsigned)(HEIGHT * scale), 2, 1);
  put_number(&file, 0xF7, 3, 1);
  for (unsigned i = 0; i < 256; i++) put_number(&file, i * 0x10101, 3, 1);
  put(&file, "!\xFE\5hello\0", 9);
  for (int i = 0; i < frames; i++) {
    put_byte(&file, ',');
    put_number(&file, 0, 4, 1);
    put_number(&file, (unsigned)(WIDTH * scale), 2, 1);
    put_number(&file, (unsigned)(HEIGHT * scale), 2, 1);
    put_byte(&file, 0);
    put_packed(&file, scaled, (size_t)(HEIGHT * WIDTH * scale * scale));
  }
  put_byte(&file, ';');
  free(scaled);
  return file;
}

/* Raw (P4, P5, P6) or plain (P1, P2, P3); of PBM, dark pixels are black. */
static buffer make_pnm(int kind, unsigned largest) {
  uint8_t pixels[HEIGHT * WIDTH * 3];
  char number[32];
  const int channels = kind % 3 ? 1 : 3, bits = kind % 3 == 1;
  buffer file = {NULL, 0, 0};
  draw(pixels, channels);
  snprintf(number, sizeof number, "P%d\n# a comment\n%d %d\n", kind, WIDTH, HEIGHT);
  put_text(&file, number);
  snprintf(number, sizeof number, "%u\n", largest);
  if (!bits) put_text(&file, number);
  for (int y = 0; y < HEIGHT; y++) {
    unsigned packed = 0;
    for (int i = 0; i < WIDTH * channels; i++) {
      const unsigned value = pixels[y * WIDTH * channels + i] * largest / 255u;
      packed = packed * 2 + (value < largest / 2 + 1);
      if (kind == 1) put_byte(&file, '0' + (packed & 1));
      if (kind == 4 && i % 8 == 7) put_byte(&file, packed & 255u);
      if (kind == 4 && i == WIDTH - 1) put_byte(&file, packed << (8 - WIDTH % 8) & 255u);
      snprintf(number, sizeof number, "%u ", value);
      if (kind == 2 || kind == 3) put_text(&file, number);
      if (kind == 5 || kind == 6) put_number(&file, value, largest > 255 ? 2 : 1, 0);
    }
    if (kind <= 3) put_text(&file, "\n");
  }
  return file;
}

static void test_formats(void **state) {
  (void)state;
  for (int channels = 1; channels <= 4; channels++) {
    char what[40];
    buffer files[] = {make_png(channels), make_tga(channels, 0), make_tga(channels, 1)};
    for (int i = 0; i < 3; i++) {
      snprintf(what, sizeof what, "%s of %d channels", i ? "TGA" : "PNG", channels);
      decoded_picture got = must_decode(what, &files[i]);
      assert_drawn(what, &got, channels, 0);
      free(got.pixels);
      release(&files[i]);
    }
  }
  for (int channels = 3; channels <= 4; channels++) {
    buffer bmp = make_bmp(channels);
    decoded_picture got = must_decode("BMP", &bmp);
    assert_drawn("BMP", &got, channels, 0);
    free(got.pixels);
    release(&bmp);
  }
  for (int channels = 1; channels <= 3; channels += 2) {
    buffer jpeg = make_jpeg(channels);
    decoded_picture got = must_decode("JPEG", &jpeg);
    assert_drawn("JPEG", &got, 3, channels == 3 ? 40 : 255);
    free(got.pixels);
    release(&jpeg);
  }
}

static void test_bmp(void **state) {
  static const struct {
    int depth;
    unsigned header;
    int top_down, error;
  } kinds[] = {{1, 40, 0, 127}, {4, 12, 0, 15}, {8, 40, 0, 0},   {8, 12, 0, 0},  {8, 64, 0, 0},
               {16, 40, 1, 8},  {24, 12, 0, 0}, {24, 108, 1, 0}, {32, 40, 0, 0}, {32, 124, 0, 0}};
  static const uint8_t want[] = {0, 0, 0, 7, 7, 1, 2, 3, 1, 0, 3, 3, 3, 3, 3};
  (void)state;
  for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
    char what[60];
    buffer file = make_plain_bmp(kinds[i].depth, kinds[i].header, kinds[i].top_down);
    snprintf(what, sizeof what, "BMP of %d bits, header of %u", kinds[i].depth, kinds[i].header);
    decoded_picture got = must_decode(what, &file);
    if (kinds[i].depth <= 8) /* what the palette makes of grey */
      for (int p = 0; p < HEIGHT * WIDTH; p++) got.pixels[p] = got.pixels[3 * p];
    got.channels = kinds[i].depth <= 8 ? 1 : 3;
    assert_drawn(what, &got, got.channels, kinds[i].error);
    free(got.pixels);
    assert_whole_only(what, &file, 0);
  }
  for (int depth = 4; depth <= 8; depth += 4) {
    buffer file = make_packed_bmp(depth);
    decoded_picture got = must_decode("a packed BMP", &file);
    for (int p = 0; p < 15; p++) assert_int_equal(got.pixels[3 * p], want[p] * 10);
    free(got.pixels);
    assert_whole_only("a packed BMP", &file, 0);
  }
  buffer file = make_plain_bmp(8, 40, 0);
  file.bytes += 14; /* a DIB */
  file.size -= 14;
  decoded_picture got = must_decode("DIB", &file);
  assert_int_equal(got.pixels[3 * 8 * WIDTH + 3], 6);
  free(got.pixels);
  file.bytes -= 14;
  release(&file);
}

static void test_gif(void **state) {
  (void)state;
  for (int scale = 1; scale <= 9; scale += 8) {
    buffer file = make_gif(2, scale);
    decoded_picture got = must_decode("GIF", &file);
    uint8_t drawn[HEIGHT * WIDTH];
    draw(drawn, 1);
    assert_int_equal(got.width * 10000 + got.height, WIDTH * scale * 10000 + HEIGHT * scale);
    for (int y = 0; y < got.height; y++)
      for (int x = 0; x < got.width; x++)
        assert_int_equal(got.pixels[(y * got.width + x) * got.channels],
                         drawn[y / scale * WIDTH + x / scale]);
    free(got.pixels);
    if (scale == 1)
      assert_whole_only("GIF", &file, 0);
    else
      release(&file);
  }
  buffer file = make_gif(1, 1); /* its first block is shortened */
  size_t first = 13 + 768 + 9 + 10 + 1;
  assert_int_equal(file.bytes[first], 200);
  file.bytes[first] = 100;
  remove_bytes(&file, first + 101, 100);
  assert_refused("a GIF without some of its codes", &file, "damaged");
  release(&file);
  file = make_gif(1, 1); /* after its first code, which clears, comes one that is not defined yet */
  file.bytes[first + 2] = 2 << 1 | 1;
  file.bytes[first + 3] = 2;
  assert_refused("a GIF with a code too early", &file, "damaged");
  release(&file);
}

/* Samples are scaled by their largest value; in PBM 1 is black. */
static void test_pnm(void **state) {
  static const struct {
    int kind;
    unsigned largest;
    int error;
  } kinds[] = {{2, 255, 0}, {2, 15, 17},   {2, 1000, 1}, {3, 255, 0}, {5, 255, 0},
               {5, 15, 17}, {5, 65535, 0}, {6, 255, 0},  {6, 31, 9},  {6, 4095, 1}};
  (void)state;
  for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
    char what[40];
    buffer file = make_pnm(kinds[i].kind, kinds[i].largest);
    snprintf(what, sizeof what, "P%d up to %u", kinds[i].kind, kinds[i].largest);
    decoded_picture got = must_decode(what, &file);
    assert_drawn(what, &got, kinds[i].kind % 3 ? 1 : 3, kinds[i].error);
    free(got.pixels);
    release(&file);
  }
  for (int kind = 1; kind <= 4; kind += 3) {
    uint8_t drawn[HEIGHT * WIDTH];
    buffer file = make_pnm(kind, 1);
    decoded_picture got = must_decode("PBM", &file);
    draw(drawn, 1);
    for (int i = 0; i < HEIGHT * WIDTH; i++)
      assert_int_equal(got.pixels[i], drawn[i] == 255 ? 255 : 0);
    free(got.pixels);
    release(&file);
  }
  buffer above = {NULL, 0, 0};
  put_text(&above, "P2 2 1 9 3 10\n");
  assert_refused("a sample above the largest", &above, "damaged");
  release(&above);
}

/* ---- cut files ------------------------------------------------------------------------------- */

static void test_cuts(void **state) {
  (void)state;
  buffer file = make_png(3);
  assert_whole_only("PNG", &file, 0);
  file = make_jpeg(3);
  assert_whole_only("JPEG", &file, 0);
  file = make_bmp(3);
  assert_whole_only("BMP", &file, 0);
  for (int packed = 0; packed <= 1; packed++) {
    file = make_tga(3, packed);
    assert_whole_only("TGA", &file, 0);
  }
  for (int kind = 1; kind <= 6; kind++) {
    file = make_pnm(kind, kind % 3 == 1 ? 1 : 200);
    assert_whole_only("PNM", &file, kind <= 3 ? 1 : 0); /* but the end of the last line */
  }
}

/* ---- damaged JPEG ---------------------------------------------------------------------------- */

/* Of the segment at `at`, with its marker. */
static size_t segment_length(const buffer *jpeg, size_t at) {
  return 2 + (size_t)(jpeg->bytes[at + 2] << 8 | jpeg->bytes[at + 3]);
}

/* Tables that pixels are coded by are there, and no larger than tables can be. */
static void test_jpeg_tables(void **state) {
  int tables = 0;
  (void)state;
  buffer file = make_jpeg(3);
  for (size_t at = 2; file.bytes[at + 1] != 0xDA; at += segment_length(&file, at)) {
    const uint8_t marker = file.bytes[at + 1];
    if (marker != 0xC4 && marker != 0xDB) continue;
    tables++;
    file.bytes[at + 1] = 0xFE; /* a comment */
    assert_refused("a JPEG without a table", &file, "lacks the tables");
    file.bytes[at + 1] = marker;
    if (marker == 0xDB) continue;
    uint8_t counts[16];
    memcpy(counts, file.bytes + at + 5, 16);
    memset(file.bytes + at + 5, 255, 16);
    assert_refused("a JPEG with 4080 codes", &file, "its tables");
    memcpy(file.bytes + at + 5, counts, 16);
  }
  assert_true(tables >= 2);
  free(must_decode("JPEG", &file).pixels);
  release(&file);
}

static buffer read_form(void) {
  buffer file = {NULL, 0, 0};
  file.bytes = (uint8_t *)read_file("examples/data/c1-2019/tally-0001.jpg", &file.size);
  return file;
}

/* 4 KB of a form that a disc or a line lost, or filled with zeros or ones, are missed. */
static void test_form_holes(void **state) {
  enum { HOLE = 4096, PLACES = 12 };
  (void)state;
  buffer whole = read_form();
  free(must_decode("a form", &whole).pixels);
  size_t scan = 2;
  while (whole.bytes[scan + 1] != 0xDA) scan += segment_length(&whole, scan);
  scan += segment_length(&whole, scan);
  const size_t step = (whole.size - scan - HOLE - 100) / PLACES;
  for (size_t at = scan + 50; at + HOLE + 50 < whole.size; at += step)
    for (int kind = 0; kind < 3; kind++) {
      buffer file = {NULL, 0, 0};
      put(&file, whole.bytes, whole.size);
      if (kind == 0)
        remove_bytes(&file, at, HOLE);
      else
        memset(file.bytes + at, kind == 1 ? 0 : 255, HOLE);
      assert_refused("a form with a hole", &file, "");
      release(&file);
    }
  release(&whole);
}

/* ---- damaged PNG ----------------------------------------------------------------------------- */

/* Every bit of a file, turned over, is noticed. */
static void test_png_bits(void **state) {
  (void)state;
  buffer file = make_png(3);
  decoded_picture out;
  for (size_t bit = 0; bit < file.size * 8; bit++) {
    file.bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
    if (!decode_cut(&file, file.size, &out)) fail_msg("bit %zu may be wrong", bit);
    file.bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
  }
  release(&file);
}

static uint32_t crc_32(const uint8_t *bytes, size_t size) {
  uint32_t crc = 0xFFFFFFFF;
  for (size_t i = 0; i < size * 8; i++) {
    if (i % 8 == 0) crc ^= bytes[i / 8];
    crc = crc & 1 ? crc >> 1 ^ 0xEDB88320 : crc >> 1;
  }
  return ~crc;
}

static void put_chunk(buffer *file, const char *type, const void *data, size_t length) {
  put_number(file, (unsigned)length, 4, 0);
  put_text(file, type);
  put(file, data, length);
  put_number(file, crc_32(file->bytes + file->size - length - 4, length + 4), 4, 0);
}

/* A PNG of these header fields; the caller adds chunks. */
static buffer start_png(unsigned width, unsigned height, int depth, int colour, int interlaced) {
  buffer file = {NULL, 0, 0}, header = {NULL, 0, 0};
  put(&file, "\x89PNG\r\n\x1A\n", 8);
  put_number(&header, width, 4, 0);
  put_number(&header, height, 4, 0);
  put_byte(&header, (unsigned)depth);
  put_byte(&header, (unsigned)colour);
  put_number(&header, 0, 2, 0);
  put_byte(&header, (unsigned)interlaced);
  put_chunk(&file, "IHDR", header.bytes, header.size);
  release(&header);
  return file;
}

/* stb_image_write has it and does not declare it. */
extern uint8_t *stbi_zlib_compress(uint8_t *data, int data_len, int *out_len, int quality);

/* Adds the rows, packed, in two chunks, and the end. The Adler-32 is off by `wrong`. */
static void finish_png(buffer *file, uint8_t *rows, size_t size, unsigned wrong) {
  int packed_size;
  uint8_t *packed = stbi_zlib_compress(rows, (int)size, &packed_size, 5);
  assert_non_null(packed);
  packed[packed_size - 1] ^= (uint8_t)wrong;
  put_chunk(file, "IDAT", packed, 3);
  put_chunk(file, "IDAT", packed + 3, (size_t)packed_size - 3);
  put_chunk(file, "IEND", "", 0);
  free(packed);
}

/* CRCs that are right do not make up for pixels that are not. */
static void test_png_damage(void **state) {
  uint8_t rows[2 * 3] = {0, 10, 20, 0, 30, 40};
  (void)state;
  for (unsigned wrong = 0; wrong <= 1; wrong++) {
    buffer file = start_png(2, 2, 8, 0, 0);
    finish_png(&file, rows, sizeof rows, wrong);
    if (wrong)
      assert_refused("a wrong Adler-32", &file, "checksum of its pixels");
    else
      free(must_decode("2 x 2 pixels", &file).pixels);
    release(&file);
  }
  buffer few = start_png(2, 2, 8, 0, 0);
  finish_png(&few, rows, 5, 0);
  assert_refused("a byte too few", &few, "");
  release(&few);
  buffer unknown = start_png(2, 2, 8, 0, 0);
  put_chunk(&unknown, "NEWs", "x", 1);
  finish_png(&unknown, rows, sizeof rows, 0);
  assert_refused("a critical chunk", &unknown, "NEWs");
  release(&unknown);
  buffer phone = start_png(2, 2, 8, 0, 0);
  put_chunk(&phone, "CgBI", "", 0);
  finish_png(&phone, rows, sizeof rows, 0);
  assert_refused("a PNG of an iPhone", &phone, "convert");
  release(&phone);
  buffer huge = start_png(20000, 20000, 8, 2, 0);
  finish_png(&huge, rows, sizeof rows, 0);
  assert_refused("400 million pixels", &huge, "20000 x 20000 pixels");
  release(&huge);
  buffer bomb = start_png(8000, 8000, 16, 6, 0);
  finish_png(&bomb, rows, sizeof rows, 0);
  assert_refused("64 million pixels in few bytes", &bomb, "most of its pixels are missing");
  release(&bomb);
}

/* A palette with transparency, one bit a pixel, in seven interlaced pictures; chunks that say nothing
   about the pixels, and eXIf behind them. */
static void test_png_interlaced(void **state) {
  static const uint8_t palette[] = {255, 0, 0, 0, 0, 255};
  static const uint8_t exif[] = "MM\0*\0\0\0\10\0\1\1\22\0\3\0\0\0\1\0\6\0\0\0\0\0\0";
  uint8_t rows[2 * (1 + 1 + 2)] = {0, 0x80, 0, 0x00, 0, 0x80, 0, 0x40};
  (void)state;
  buffer file = start_png(3, 2, 1, 3, 1);
  put_chunk(&file, "gAMA", "\0\1\206\240", 4);
  put_chunk(&file, "PLTE", palette, sizeof palette);
  put_chunk(&file, "tRNS", "\200", 1);
  put_chunk(&file, "tEXt", "Comment\0", 8);
  finish_png(&file, rows, sizeof rows, 0);
  decoded_picture plain = must_decode("an interlaced PNG", &file);
  assert_int_equal(plain.width * 100 + plain.height * 10 + plain.channels, 324);
  release(&file);
  file = start_png(3, 2, 1, 3, 1);
  put_chunk(&file, "PLTE", palette, sizeof palette);
  put_chunk(&file, "eXIf", exif, sizeof exif - 1);
  finish_png(&file, rows, sizeof rows, 0);
  decoded_picture turned = must_decode("a turned PNG", &file);
  assert_int_equal(turned.width * 100 + turned.height * 10 + turned.channels, 233);
  for (int y = 0; y < 3; y++)
    for (int x = 0; x < 2;
         x++) /* what was at the left is above, what was at the top is at the right */
      assert_memory_equal(turned.pixels + (y * 2 + x) * 3, plain.pixels + ((1 - x) * 3 + y) * 4, 3);
  free(plain.pixels);
  free(turned.pixels);
  release(&file);
}

/* ---- orientation ----------------------------------------------------------------------------- */

/* Adds a segment to a JPEG, behind a byte that fills up. */
static void put_segment(buffer *jpeg, unsigned marker, const char *name, size_t name_size,
                        const buffer *data) {
  put_number(jpeg, 0xFFFF, 2, 0);
  put_byte(jpeg, marker);
  put_number(jpeg, (unsigned)(2 + name_size + data->size), 2, 0);
  put(jpeg, name, name_size);
  put(jpeg, data->bytes, data->size);
}

/* A phone's file: Exif stands behind 50 kB of XMP, in a segment of the same kind. */
static buffer make_phone_jpeg(unsigned orientation, int little_endian, int is_long) {
  buffer plain = make_jpeg(3), file = {NULL, 0, 0}, xmp = {NULL, 0, 0}, exif = {NULL, 0, 0};
  while (xmp.size < 50000) put_text(&xmp, "<x:xmpmeta>Exif</x:xmpmeta>");
  put_exif(&exif, orientation, little_endian, is_long);
  put(&file, plain.bytes, 2);
  put_segment(&file, 0xE1, "http://ns.adobe.com/xap/1.0/", 29, &xmp);
  put_segment(&file, 0xE1, "Exif\0", 6, &exif);
  put(&file, plain.bytes + 2, plain.size - 2);
  release(&plain);
  release(&xmp);
  release(&exif);
  return file;
}

/* eXIf before the pixels. */
static buffer make_turned_png(unsigned orientation, int little_endian, int is_long) {
  buffer plain = make_png(3), file = {NULL, 0, 0}, exif = {NULL, 0, 0};
  put_exif(&exif, orientation, little_endian, is_long);
  put(&file, plain.bytes, 33);
  put_chunk(&file, "eXIf", exif.bytes, exif.size);
  put(&file, plain.bytes + 33, plain.size - 33);
  release(&plain);
  release(&exif);
  return file;
}

/* All 8, and what is none. */
static void test_orientation(void **state) {
  (void)state;
  for (unsigned orientation = 0; orientation <= 9; orientation++)
    for (int kind = 0; kind < 4; kind++) {
      const unsigned valid = orientation >= 1 && orientation <= 8 ? orientation : 1;
      buffer jpeg = make_phone_jpeg(orientation, kind & 1, kind >> 1),
             png = make_turned_png(orientation, kind & 1, kind >> 1);
      decoded_picture got = must_decode("JPEG", &jpeg);
      assert_turned("JPEG", &got, valid, 40);
      free(got.pixels);
      got = must_decode("PNG", &png);
      assert_turned("PNG", &got, valid, 0);
      free(got.pixels);
      release(&jpeg);
      release(&png);
    }
}

/* A block that is cut or changed anywhere may say anything, but must not be read behind its end. */
static void test_broken_exif(void **state) {
  (void)state;
  buffer file = make_phone_jpeg(6, 1, 0);
  size_t at = 0;
  while (memcmp(file.bytes + at, "Exif\0\0II", 8)) at++;
  for (size_t i = at; i < at + 60; i++)
    for (int value = 0; value < 256; value += 51) {
      const uint8_t before = file.bytes[i];
      decoded_picture out;
      file.bytes[i] = (uint8_t)value;
      if (!decode_cut(&file, file.size, &out)) free(out.pixels);
      file.bytes[i] = before;
    }
  release(&file);
}

/* ---- formats that few people have ------------------------------------------------------------ */

/* Rows from the right and from above; 32 bits a pixel of which none are alpha. */
static void test_tga_flags(void **state) {
  (void)state;
  for (unsigned flags = 0; flags <= 0x30; flags += 0x10) {
    buffer file = make_tga(3, 0);
    file.bytes[17] = (uint8_t)flags; /* as written it begins at the lower left */
    decoded_picture got = must_decode("TGA", &file);
    assert_turned("TGA", &got, flags == 0 ? 1 : flags == 0x10 ? 2 : flags == 0x20 ? 4 : 3, 0);
    free(got.pixels);
    release(&file);
  }
  buffer file = make_tga(4, 0);
  file.bytes[17] = 0;
  decoded_picture got = must_decode("TGA", &file);
  for (int i = 0; i < HEIGHT * WIDTH; i++) assert_int_equal(got.pixels[4 * i + 3], 255);
  free(got.pixels);
  release(&file);
}

/* What draw() draws in RGB, or in inks and two fifths of black over it, in rows as they are or as runs of one byte. */
static buffer make_psd(int mode, int depth, int packed) {
  const int channels = mode == 4 ? 4 : mode == 1 ? 1 : 3, bytes = depth / 8;
  uint8_t pixels[HEIGHT * WIDTH * 3];
  buffer file = {NULL, 0, 0};
  draw(pixels, 3);
  put_text(&file, "8BPS");
  put_number(&file, 1, 2, 0);
  put_number(&file, 0, 6, 0);
  put_number(&file, (unsigned)channels, 2, 0);
  put_number(&file, HEIGHT, 4, 0);
  put_number(&file, WIDTH, 4, 0);
  put_number(&file, (unsigned)depth, 2, 0);
  put_number(&file, (unsigned)mode, 2, 0);
  for (int i = 0; i < 3; i++) put_number(&file, 0, 4, 0); /* three parts that are empty */
  put_number(&file, packed ? 1 : 0, 2, 0);
  for (int i = 0; packed && i < channels * HEIGHT; i++)
    put_number(&file, (unsigned)(WIDTH * bytes * 2), 2, 0);
  for (int c = 0; c < channels; c++)
    for (int i = 0; i < HEIGHT * WIDTH; i++)
      for (int b = 0; b < bytes; b++) {
        if (packed) put_byte(&file, 0);
        put_byte(&file, b ? 77 : c == 3 ? 153 : pixels[3 * i + c]);
      }
  return file;
}

static void test_psd(void **state) {
  static const int kinds[][3] = {{3, 8, 0}, {3, 16, 0}, {3, 8, 1},
                                 {4, 8, 1}, {4, 16, 0}, {1, 8, 0}};
  uint8_t drawn[HEIGHT * WIDTH * 3];
  (void)state;
  for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
    buffer file = make_psd(kinds[i][0], kinds[i][1], kinds[i][2]);
    decoded_picture got = must_decode("PSD", &file);
    draw(drawn, 3);
    for (int p = 0; p < HEIGHT * WIDTH * 3; p++) {
      const int value = kinds[i][0] == 1 ? drawn[p / 3 * 3] : drawn[p];
      assert_int_equal(got.pixels[p], kinds[i][0] == 4 ? (value * 153 + 127) / 255 : value);
    }
    free(got.pixels);
    assert_whole_only("PSD", &file, 0);
  }
}

/* Other formats are called by their name. */
static void test_other_formats(void **state) {
  static const char *const others[][2] = {{"PK\3\4 and so on", "Office"},
                                          {" \n<!DOCTYPE html>", "HTML"},
                                          {"\xFF\x0A\1\2\3\4\5\6\7\10\11\12", "JPEG XL"}};
  (void)state;
  for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
    buffer file = {NULL, 0, 0};
    put_text(&file, others[i][0]);
    assert_refused(others[i][1], &file, others[i][1]);
    release(&file);
  }
}

/* ---- where pictures come from ---------------------------------------------------------------- */

static void must_decode_path(const char *path, const decoded_picture *want) {
  decoded_picture got;
  if (decode_pages(path, reason) != 1) fail_msg("%s: %s", path, reason);
  if (!decode_page(path, 1, 1 << 20, &got, reason)) fail_msg("%s: %s", path, reason);
  assert_same(path, &got, want);
  free(got.pixels);
}

static void assert_path_refused(const char *path, const char *why) {
  decoded_picture out;
  *reason = 0;
  assert_int_equal(decode_pages(path, reason), 0);
  assert_contains(reason, why);
  *reason = 0;
  assert_false(decode_page(path, 1, 1 << 20, &out, reason));
  assert_contains(reason, why);
}

static void test_paths(void **state) {
  (void)state;
  buffer file = make_png(3);
  decoded_picture want = must_decode("PNG", &file), out;
  write_home("odd name.jpg", file.bytes, file.size);
  must_decode_path(in_home("odd name.jpg"), &want);

  write_home("empty.png", file.bytes, 0);
  write_home("words.png", "this is no picture at all\n", 26);
  assert_path_refused(in_home("empty.png"), "empty");
  assert_path_refused(in_home("words.png"), "not a picture");
  assert_path_refused(in_home("gone.png"), "No such file");
  assert_path_refused(home, "folder");
  assert_int_equal(mkfifo(in_home("pipe"), 0600), 0);
  assert_path_refused(in_home("pipe"), "not a regular file"); /* it would wait for ever */
  assert_false(decode_page(in_home("odd name.jpg"), 2, 1 << 20, &out, reason));
  assert_contains(reason, "no page 2");
  assert_false(decode_page(in_home("odd name.jpg"), 1, WIDTH * HEIGHT - 1, &out, reason));
  assert_contains(reason, "37 x 23 pixels");
  assert_int_equal(truncate(in_home("odd name.jpg"), ((off_t)256 << 20) + 1), 0);
  assert_path_refused(in_home("odd name.jpg"), "256 MB");
  free(want.pixels);
  release(&file);
}

static void test_names(void **state) {
  (void)state;
  assert_true(decode_is_picture_name("a.JPG") && decode_is_picture_name("x/b.c.tiff"));
  assert_true(decode_is_picture_name("scan.pdf") && decode_is_picture_name("IMG_1.HEIC"));
  assert_false(decode_is_picture_name("Thumbs.db") || decode_is_picture_name("png"));
  assert_false(decode_is_picture_name(".png") || decode_is_picture_name("a.hdr"));
  assert_false(decode_is_picture_name("a.") || decode_is_picture_name("a.pngsomethinglong"));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_formats),       cmocka_unit_test(test_bmp),
      cmocka_unit_test(test_gif),           cmocka_unit_test(test_pnm),
      cmocka_unit_test(test_cuts),          cmocka_unit_test(test_png_bits),
      cmocka_unit_test(test_jpeg_tables),   cmocka_unit_test(test_form_holes),
      cmocka_unit_test(test_png_damage),    cmocka_unit_test(test_png_interlaced),
      cmocka_unit_test(test_orientation),   cmocka_unit_test(test_broken_exif),
      cmocka_unit_test(test_tga_flags),     cmocka_unit_test(test_psd),
      cmocka_unit_test(test_other_formats), cmocka_unit_test(test_paths),
      cmocka_unit_test(test_names),
  };
  return cmocka_run_group_tests(tests, make_home, remove_home);
}
