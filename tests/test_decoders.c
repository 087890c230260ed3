/* Checks that tools/decode.h reads what other programs' libraries write: JPEG of every kind by libjpeg,
   TIFF, WebP, HEIC and AVIF by the libraries that read them, PDF by poppler. What is not installed is
   skipped. */
#define _POSIX_C_SOURCE 200809L
#define TOOL_NAME "test_decoders"
#include "picture_files.h"

#include <pthread.h>
#include <sys/stat.h>

#ifdef HAVE_LIBJPEG
#include <jpeglib.h>
#endif
#ifdef HAVE_LIBTIFF
#include <tiffio.h>
#endif
#ifdef HAVE_LIBWEBP
#include <webp/encode.h>
#endif
#ifdef HAVE_LIBHEIF
#include <libheif/heif.h>
#endif

/* In the place of a test whose library was not there when this was built, or has no encoder. */
static inline void skip_without(const char *what) {
  print_message("without %s\n", what);
  skip();
}

/* ---- JPEG ------------------------------------------------------------------------------------ */

#ifdef HAVE_LIBJPEG

typedef struct jpeg_kind {
  int progressive, sampling, restart, optimized, arithmetic;
} jpeg_kind;

/* `scale` times as wide and high as what draw() draws, so that there are many blocks. */
static uint8_t *draw_scaled(int scale) {
  uint8_t *drawn = malloc(HEIGHT * WIDTH * 3),
          *scaled = malloc((size_t)(HEIGHT * WIDTH * 3 * scale * scale));
  assert_true(drawn && scaled);
  draw(drawn, 3);
  for (int y = 0; y < HEIGHT * scale; y++)
    for (int x = 0; x < WIDTH * scale; x++)
      memcpy(scaled + 3 * (y * WIDTH * scale + x), drawn + 3 * (y / scale * WIDTH + x / scale), 3);
  free(drawn);
  return scaled;
}

static buffer make_jpeg(const jpeg_kind *kind, int scale) {
  struct jpeg_compress_struct jpeg;
  struct jpeg_error_mgr errors;
  uint8_t *pixels = draw_scaled(scale), *bytes = NULL;
  unsigned long size = 0;
  jpeg.err = jpeg_std_error(&errors);
  jpeg_create_compress(&jpeg);
  jpeg_mem_dest(&jpeg, &bytes, &size);
  jpeg.image_width = (JDIMENSION)(WIDTH * scale);
  jpeg.image_height = (JDIMENSION)(HEIGHT * scale);
  jpeg.input_components = 3;
  jpeg.in_color_space = JCS_RGB;
  jpeg_set_defaults(&jpeg);
  jpeg_set_quality(&jpeg, 95, TRUE);
  jpeg.comp_info[0].h_samp_factor = kind->sampling & 1 ? 2 : 1;
  jpeg.comp_info[0].v_samp_factor = kind->sampling & 2 ? 2 : 1;
  jpeg.restart_interval = (unsigned)kind->restart;
  jpeg.optimize_coding = kind->optimized;
  jpeg.arith_code = kind->arithmetic;
  if (kind->progressive) jpeg_simple_progression(&jpeg);
  jpeg_start_compress(&jpeg, TRUE);
  while (jpeg.next_scanline < jpeg.image_height) {
    JSAMPROW row = pixels + (size_t)jpeg.next_scanline * jpeg.image_width * 3;
    jpeg_write_scanlines(&jpeg, &row, 1);
  }
  jpeg_finish_compress(&jpeg);
  jpeg_destroy_compress(&jpeg);
  buffer file = {NULL, 0, 0};
  put(&file, bytes, size);
  free(bytes);
  free(pixels);
  return file;
}

/* The mean error is small; at edges colours of half the size are off. */
static void assert_scaled(const decoded_picture *got, int scale) {
  uint8_t *want = draw_scaled(scale);
  int64_t sum = 0;
  const int count = HEIGHT * WIDTH * scale * scale * 3;
  assert_int_equal(got->width * 10 + got->channels, WIDTH * scale * 10 + 3);
  assert_int_equal(got->height, HEIGHT * scale);
  for (int i = 0; i < count; i++) sum += abs(got->pixels[i] - want[i]);
  if (sum > 3 * (int64_t)count) fail_msg("mean error %.2f", (double)sum / count);
  free(want);
}

static void test_jpeg_kinds(void **state) {
  (void)state;
  for (int i = 0; i < 32; i++) {
    const jpeg_kind kind = {i & 1, i >> 1 & 3, i & 8 ? 3 : 0, i >> 4, 0};
    buffer file = make_jpeg(&kind, 3);
    decoded_picture got = must_decode("JPEG", &file);
    assert_scaled(&got, 3);
    free(got.pixels);
    release(&file);
  }
}

static void test_jpeg_cuts(void **state) {
  (void)state;
  for (int i = 0; i < 4; i++) {
    const jpeg_kind kind = {i & 1, 3, i & 2 ? 2 : 0, 0, 0};
    buffer file = make_jpeg(&kind, 1);
    assert_whole_only("JPEG", &file, 0);
  }
}

/* Where the pixels of the first scan begin. */
static size_t first_scan(const buffer *file) {
  size_t at = 2;
  while (file->bytes[at + 1] != 0xDA)
    at += 2 + (size_t)(file->bytes[at + 2] << 8 | file->bytes[at + 3]);
  return at + 2 + (size_t)(file->bytes[at + 2] << 8 | file->bytes[at + 3]);
}

/* A block of 512 bytes that a disc or a line lost, or filled with zeros, is missed. */
static void test_jpeg_holes(void **state) {
  (void)state;
  for (int i = 0; i < 4; i++) {
    const jpeg_kind kind = {i & 1, 3, 0, 0, 0};
    for (size_t at = 0;; at += 97) {
      buffer file = make_jpeg(&kind, 8);
      const size_t start = first_scan(&file) + at;
      if (start + 600 > file.size) {
        release(&file);
        break;
      }
      if (i & 2)
        remove_bytes(&file, start, 512);
      else
        memset(file.bytes + start, 0, 512);
      assert_refused("a JPEG with a hole", &file, "");
      release(&file);
    }
  }
}

/* A part between two restart markers is missing, or stands twice. */
static void test_jpeg_restarts(void **state) {
  const jpeg_kind kind = {0, 0, 3, 0, 0};
  (void)state;
  for (int twice = 0; twice < 2; twice++) {
    buffer file = make_jpeg(&kind, 2), changed = {NULL, 0, 0};
    size_t first = first_scan(&file), second;
    while (file.bytes[first] != 0xFF || file.bytes[first + 1] != 0xD1) first++;
    second = first;
    while (file.bytes[second] != 0xFF || file.bytes[second + 1] != 0xD2) second++;
    put(&changed, file.bytes, twice ? second : first);
    put(&changed, file.bytes + (twice ? first : second), file.size - (twice ? first : second));
    assert_refused("a JPEG with a part too few or too many", &changed, "damaged");
    release(&file);
    release(&changed);
  }
}

/* Kinds that are not read are called by their name, with a way out. */
static void test_jpeg_other_kinds(void **state) {
  static const struct {
    uint8_t marker, precision;
    const char *why;
  } kinds[] = {{0xC1, 12, "8 bits"},
               {0xC3, 8, "lossless"},
               {0xC9, 8, "arithmetic"},
               {0xC5, 8, "hierarchical"},
               {0xF7, 8, "lossless"}};
  const jpeg_kind plain = {0, 0, 0, 0, 0};
  (void)state;
  for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
    buffer file = make_jpeg(&plain, 1);
    size_t at = 2;
    while (file.bytes[at + 1] != 0xC0)
      at += 2 + (size_t)(file.bytes[at + 2] << 8 | file.bytes[at + 3]);
    file.bytes[at + 1] = kinds[i].marker;
    file.bytes[at + 4] = kinds[i].precision;
    assert_refused("another kind of JPEG", &file, kinds[i].why);
    assert_contains(reason, "djpeg");
    release(&file);
  }
}

/* Four inks, flat in each quarter of 32 x 32 pixels; with Adobe's marker they are stored as light. */
static void make_inks(buffer *file, int adobe, J_COLOR_SPACE space) {
  static const uint8_t inks[4][4] = {
      {0, 0, 0, 0}, {255, 0, 100, 0}, {40, 200, 0, 60}, {0, 0, 0, 255}};
  struct jpeg_compress_struct jpeg;
  struct jpeg_error_mgr errors;
  uint8_t *bytes = NULL, row[32 * 4];
  unsigned long size = 0;
  jpeg.err = jpeg_std_error(&errors);
  jpeg_create_compress(&jpeg);
  jpeg_mem_dest(&jpeg, &bytes, &size);
  jpeg.image_width = jpeg.image_height = 32;
  jpeg.input_components = 4;
  jpeg.in_color_space = JCS_CMYK;
  jpeg_set_defaults(&jpeg);
  jpeg_set_colorspace(&jpeg, space);
  jpeg_set_quality(&jpeg, 100, TRUE);
  jpeg.write_Adobe_marker = adobe;
  jpeg_start_compress(&jpeg, TRUE);
  for (int y = 0; y < 32; y++) {
    JSAMPROW rows = row;
    for (int x = 0; x < 32; x++)
      for (int c = 0; c < 4; c++) {
        const uint8_t ink = inks[y / 16 * 2 + x / 16][c];
        row[4 * x + c] = adobe ? (uint8_t)(255 - ink) : ink;
      }
    jpeg_write_scanlines(&jpeg, &rows, 1);
  }
  jpeg_finish_compress(&jpeg);
  jpeg_destroy_compress(&jpeg);
  put(file, bytes, size);
  free(bytes);
}

static void test_jpeg_inks(void **state) {
  static const int want[4][3] = {{255, 255, 255}, {0, 255, 155}, {164, 42, 195}, {0, 0, 0}};
  (void)state;
  for (int kind = 0; kind < 3; kind++) {
    buffer file = {NULL, 0, 0};
    make_inks(&file, kind > 0, kind == 2 ? JCS_YCCK : JCS_CMYK);
    decoded_picture got = must_decode("a JPEG of inks", &file);
    assert_int_equal(got.channels, 3);
    for (int i = 0; i < 4; i++)
      for (int c = 0; c < 3; c++)
        assert_in_range(got.pixels[((i / 2 * 16 + 8) * 32 + i % 2 * 16 + 8) * 3 + c] + 4,
                        want[i][c], want[i][c] + 8);
    free(got.pixels);
    release(&file);
  }
}

#else

static void test_jpeg_kinds(void **state) {
  (void)state;
  skip_without("libjpeg-dev");
}

#endif

/* ---- TIFF ------------------------------------------------------------------------------------ */

#ifdef HAVE_LIBTIFF

/* In tiles of 16 x 16 pixels, of which the last ones are larger than what is left. */
static void add_tiles(TIFF *tiff, const uint8_t *pixels, int channels) {
  TIFFSetField(tiff, TIFFTAG_TILEWIDTH, 16);
  TIFFSetField(tiff, TIFFTAG_TILELENGTH, 16);
  for (int top = 0; top < HEIGHT; top += 16)
    for (int left = 0; left < WIDTH; left += 16) {
      uint8_t tile[16 * 16 * 3] = {0};
      const int width = WIDTH - left < 16 ? WIDTH - left : 16;
      for (int y = 0; y < 16 && top + y < HEIGHT; y++)
        memcpy(tile + y * 16 * channels, pixels + ((top + y) * WIDTH + left) * channels,
               (size_t)(width * channels));
      assert_true(TIFFWriteTile(tiff, tile, (uint32_t)left, (uint32_t)top, 0, 0) > 0);
    }
}

/* Adds a page of what draw() draws, packed so: in black and white, grey or RGB, tiled or not. */
static void add_page(TIFF *tiff, int packing, int bits, int channels, int orientation, int tiled) {
  uint8_t pixels[HEIGHT * WIDTH * 3], row[WIDTH * 3 * 2] = {0};
  draw(pixels, channels);
  TIFFSetField(tiff, TIFFTAG_IMAGEWIDTH, WIDTH);
  TIFFSetField(tiff, TIFFTAG_IMAGELENGTH, HEIGHT);
  TIFFSetField(tiff, TIFFTAG_BITSPERSAMPLE, bits);
  TIFFSetField(tiff, TIFFTAG_SAMPLESPERPIXEL, channels);
  TIFFSetField(tiff, TIFFTAG_PHOTOMETRIC,
               bits == 1       ? PHOTOMETRIC_MINISWHITE
               : channels == 3 ? PHOTOMETRIC_RGB
                               : PHOTOMETRIC_MINISBLACK);
  TIFFSetField(tiff, TIFFTAG_COMPRESSION, packing);
  TIFFSetField(tiff, TIFFTAG_PLANARCONFIG, PLANARCONFIG_CONTIG);
  TIFFSetField(tiff, TIFFTAG_ORIENTATION, orientation);
  if (tiled) {
    add_tiles(tiff, pixels, channels);
  } else {
    TIFFSetField(tiff, TIFFTAG_ROWSPERSTRIP, 8);
    for (int y = 0; y < HEIGHT; y++) {
      const uint8_t *from = pixels + y * WIDTH * channels;
      if (bits == 1) memset(row, 0, sizeof row);
      for (int i = 0; i < WIDTH * channels; i++) {
        if (bits == 1) row[i / 8] |= (uint8_t)(from[i] < 128 ? 0x80 >> i % 8 : 0);
        if (bits == 8) row[i] = from[i];
        if (bits == 16) row[2 * i] = row[2 * i + 1] = from[i]; /* 257 times as much */
      }
      assert_int_equal(TIFFWriteScanline(tiff, row, (uint32_t)y, 0), 1);
    }
  }
  assert_int_equal(TIFFWriteDirectory(tiff), 1);
}

static buffer make_tiff(int packing, int bits, int channels, int orientation, int tiled) {
  TIFF *tiff = TIFFOpen(in_home("page.tif"), "w");
  assert_non_null(tiff);
  add_page(tiff, packing, bits, channels, orientation, tiled);
  TIFFClose(tiff);
  return read_home("page.tif");
}

/* What is grey in three channels, in one. */
static void keep_grey(decoded_picture *picture) {
  for (int i = 0; i < picture->width * picture->height; i++) {
    const uint8_t *pixel = picture->pixels + 3 * i;
    assert_true(pixel[0] == pixel[1] && pixel[1] == pixel[2]);
    picture->pixels[i] = *pixel;
  }
  picture->channels = 1;
}

/* Grey or colours with a sample more: an alpha that is multiplied into them or not shows white paper,
   another one nothing. */
static void test_tiff_alpha(void **state) {
  static const uint16_t kinds[] = {EXTRASAMPLE_UNSPECIFIED, EXTRASAMPLE_ASSOCALPHA,
                                   EXTRASAMPLE_UNASSALPHA};
  static const uint8_t samples[2] = {40, 100}; /* a colour and the alpha */
  (void)state;
  for (int i = 0; i < 3; i++)
    for (int colours = 1; colours <= 3; colours += 2) {
      uint8_t row[4];
      const int want = i == 0 ? 40 : i == 1 ? 40 + 155 : (40 * 100 + 127) / 255 + 155;
      TIFF *tiff = TIFFOpen(in_home("alpha.tif"), "w");
      assert_non_null(tiff);
      TIFFSetField(tiff, TIFFTAG_IMAGEWIDTH, 1);
      TIFFSetField(tiff, TIFFTAG_IMAGELENGTH, 1);
      TIFFSetField(tiff, TIFFTAG_BITSPERSAMPLE, 8);
      TIFFSetField(tiff, TIFFTAG_SAMPLESPERPIXEL, colours + 1);
      TIFFSetField(tiff, TIFFTAG_PHOTOMETRIC,
                   colours == 3 ? PHOTOMETRIC_RGB : PHOTOMETRIC_MINISBLACK);
      TIFFSetField(tiff, TIFFTAG_PLANARCONFIG, PLANARCONFIG_CONTIG);
      TIFFSetField(tiff, TIFFTAG_EXTRASAMPLES, 1, &kinds[i]);
      for (int c = 0; c <= colours; c++) row[c] = samples[c == colours];
      assert_int_equal(TIFFWriteScanline(tiff, row, 0, 0), 1);
      TIFFClose(tiff);
      buffer file = read_home("alpha.tif");
      decoded_picture got = must_decode("TIFF", &file);
      for (int c = 0; c < got.channels; c++) assert_in_range(got.pixels[c], want - 1, want + 1);
      free(got.pixels);
      release(&file);
    }
}

static void test_tiff(void **state) {
  static const int packings[] = {COMPRESSION_NONE, COMPRESSION_LZW, COMPRESSION_PACKBITS,
                                 COMPRESSION_ADOBE_DEFLATE};
  static const int fax[] = {COMPRESSION_CCITTRLE, COMPRESSION_CCITTFAX3, COMPRESSION_CCITTFAX4};
  uint8_t want[HEIGHT * WIDTH];
  (void)state;
  for (int i = 0; i < 4; i++)
    for (int kind = 0; kind < 6; kind++) {
      const int channels = kind % 2 ? 1 : 3, bits = kind / 2 == 1 ? 16 : 8, tiled = kind / 2 == 2;
      buffer file = make_tiff(packings[i], bits, channels, 1, tiled);
      decoded_picture got = must_decode("TIFF", &file);
      if (channels == 1) keep_grey(&got);
      assert_drawn("TIFF", &got, channels, 0);
      free(got.pixels);
      release(&file);
    }
  draw(want, 1);
  for (int i = 0; i < 3; i++) {
    buffer file = make_tiff(fax[i], 1, 1, 1, 0);
    decoded_picture got = must_decode("a fax", &file);
    for (int p = 0; p < HEIGHT * WIDTH; p++)
      assert_int_equal(got.pixels[3 * p], want[p] < 128 ? 0 : 255);
    free(got.pixels);
    release(&file);
  }
  for (unsigned orientation = 1; orientation <= 8; orientation++) {
    buffer file = make_tiff(COMPRESSION_LZW, 8, 3, (int)orientation, 0);
    decoded_picture got = must_decode("TIFF", &file);
    assert_turned("TIFF", &got, orientation, 0);
    free(got.pixels);
    release(&file);
  }
}

/* A grey page with its directory at the end, of which nothing may be missing: a page more might have
   been announced there. */
static void test_tiff_end(void **state) {
  static const unsigned entries[8][3] = {
      {256, 4, WIDTH}, {257, 4, HEIGHT}, {258, 3, 8},      {259, 3, 1},
      {262, 3, 1},     {273, 4, 8},      {278, 4, HEIGHT}, {279, 4, WIDTH * HEIGHT}};
  uint8_t pixels[HEIGHT * WIDTH];
  (void)state;
  for (int little = 0; little < 2; little++) {
    buffer file = {NULL, 0, 0};
    put_text(&file, little ? "II" : "MM");
    put_number(&file, 42, 2, little);
    put_number(&file, 8 + sizeof pixels, 4, little);
    draw(pixels, 1);
    put(&file, pixels, sizeof pixels);
    put_number(&file, 8, 2, little);
    for (int i = 0; i < 8; i++) {
      put_number(&file, entries[i][0], 2, little);
      put_number(&file, entries[i][1], 2, little);
      put_number(&file, 1, 4, little);
      put_number(&file, entries[i][2], entries[i][1] == 3 ? 2 : 4, little);
      if (entries[i][1] == 3) put_number(&file, 0, 2, little);
    }
    put_number(&file, 0, 4, little); /* no other page */
    decoded_picture got = must_decode("TIFF", &file);
    for (int p = 0; p < HEIGHT * WIDTH; p++) assert_int_equal(got.pixels[3 * p], pixels[p]);
    free(got.pixels);
    assert_whole_only("TIFF", &file, 0);
  }
}

/* Three pages and a preview of the first, which is none. */
static void test_tiff_pages(void **state) {
  (void)state;
  TIFF *tiff = TIFFOpen(in_home("pages.tif"), "w");
  assert_non_null(tiff);
  add_page(tiff, COMPRESSION_LZW, 8, 3, 1, 0);
  TIFFSetField(tiff, TIFFTAG_SUBFILETYPE, FILETYPE_REDUCEDIMAGE);
  add_page(tiff, COMPRESSION_LZW, 8, 1, 1, 0);
  add_page(tiff, COMPRESSION_CCITTFAX4, 1, 1, 1, 0);
  add_page(tiff, COMPRESSION_LZW, 8, 3, 6, 0);
  TIFFClose(tiff);
  assert_int_equal(decode_pages(in_home("pages.tif"), reason), 3);
  decoded_picture got;
  for (int page = 1; page <= 3; page++) {
    if (!decode_page(in_home("pages.tif"), page, 1 << 20, &got, reason)) fail_msg("%s", reason);
    if (page != 2) assert_turned("a page", &got, page == 1 ? 1 : 6, 0);
    free(got.pixels);
  }
  assert_false(decode_page(in_home("pages.tif"), 4, 1 << 20, &got, reason));
  assert_contains(reason, "no page 4");
  buffer file = read_home("pages.tif");
  assert_int_equal(count_pages(&file, file.size), 3);
  for (size_t missing = 1; missing < file.size; missing += 1 + missing / 10) {
    assert_int_equal(count_pages(&file, file.size - missing), 0);
    assert_true(*reason);
  }
  release(&file);
}

/* Of what zlib packed, every bit that makes another picture is noticed. */
static void check_zlib_bits(void) {
  buffer file = make_tiff(COMPRESSION_ADOBE_DEFLATE, 8, 3, 1, 0);
  const size_t directory = file.bytes[4] | (size_t)file.bytes[5] << 8;
  decoded_picture whole = must_decode("TIFF", &file), got;
  int refused = 0;
  for (size_t bit = 8 * 8; bit < 8 * directory; bit++) {
    file.bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
    if (decode_cut(&file, file.size, &got)) {
      refused++;
    } else {
      assert_same("a bit between the parts", &got, &whole);
      free(got.pixels);
    }
    file.bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
  }
  assert_in_range(refused, 7 * directory, 8 * directory);
  free(whole.pixels);
  release(&file);
}

static void test_tiff_damage(void **state) {
  (void)state;
  static const int kinds[][2] = {{COMPRESSION_NONE, 8},
                                 {COMPRESSION_LZW, 8},
                                 {COMPRESSION_ADOBE_DEFLATE, 8},
                                 {COMPRESSION_CCITTFAX4, 1}};
  for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
    buffer file = make_tiff(kinds[i][0], kinds[i][1], 1, 1, 0);
    assert_whole_only("TIFF", &file, 0);
  }
  /* libtiff makes up what a damaged fax or JPEG lacks, and warns */
  buffer fax = make_tiff(COMPRESSION_CCITTFAX4, 1, 1, 1, 0);
  memset(fax.bytes + 12, 0x5A, 8);
  assert_refused("a damaged fax", &fax, "damaged");
  release(&fax);
  buffer jpeg = make_tiff(COMPRESSION_JPEG, 8, 1, 1, 0);
  free(must_decode("JPEG in a TIFF", &jpeg).pixels);
  size_t end = 0;
  while (jpeg.bytes[end] != 0xFF || jpeg.bytes[end + 1] != 0xD9) end++;
  memset(jpeg.bytes + end - 12, 0, 12);
  assert_refused("a damaged JPEG in a TIFF", &jpeg, "damaged");
  release(&jpeg);
  check_zlib_bits();
  buffer huge = make_tiff(COMPRESSION_NONE, 8, 1, 1, 0);
  decoded_picture out;
  assert_false(decode_page(in_home("page.tif"), 1, WIDTH * HEIGHT - 1, &out, reason));
  assert_contains(reason, "37 x 23 pixels");
  release(&huge);
}

#else

static void test_tiff(void **state) {
  (void)state;
  skip_without("libtiff-dev");
}

#endif

/* ---- WebP ------------------------------------------------------------------------------------ */

#ifdef HAVE_LIBWEBP

static buffer make_webp(int channels) {
  uint8_t pixels[HEIGHT * WIDTH * 4], *bytes = NULL;
  buffer file = {NULL, 0, 0};
  draw(pixels, channels);
  const size_t size = (channels == 4 ? WebPEncodeLosslessRGBA : WebPEncodeLosslessRGB)(
      pixels, WIDTH, HEIGHT, WIDTH * channels, &bytes);
  assert_true(size > 0);
  put(&file, bytes, size);
  WebPFree(bytes);
  return file;
}

/* The same pixels in a file of the extended kind with Exif behind them. */
static buffer make_turned_webp(unsigned orientation) {
  buffer plain = make_webp(3), file = {NULL, 0, 0}, exif = {NULL, 0, 0};
  put_exif(&exif, orientation, 1, 0);
  const size_t pixels = plain.size - 12;
  put_text(&file, "RIFF");
  put_number(&file, (unsigned)(4 + 18 + pixels + 8 + exif.size), 4, 1);
  put_text(&file, "WEBPVP8X");
  put_number(&file, 10, 4, 1);
  put_number(&file, 8, 4, 1); /* there is Exif */
  put_number(&file, WIDTH - 1, 3, 1);
  put_number(&file, HEIGHT - 1, 3, 1);
  put(&file, plain.bytes + 12, pixels);
  put_text(&file, "EXIF");
  put_number(&file, (unsigned)exif.size, 4, 1);
  put(&file, exif.bytes, exif.size);
  release(&plain);
  release(&exif);
  return file;
}

/* A film of two frames: the drawn picture at 8, 4 of a larger canvas, and then nothing but white. */
static buffer make_film(void) {
  uint8_t white[2 * 2 * 3], *bytes = NULL;
  buffer frames[2] = {make_webp(3), {NULL, 0, 0}}, file = {NULL, 0, 0};
  memset(white, 255, sizeof white);
  const size_t size = WebPEncodeLosslessRGB(white, 2, 2, 6, &bytes);
  put(&frames[1], bytes, size);
  WebPFree(bytes);
  put_text(&file, "WEBPVP8X");
  put_number(&file, 10, 4, 1);
  put_number(&file, 2 | 16, 4, 1); /* it is animated and has alpha */
  put_number(&file, WIDTH + 20 - 1, 3, 1);
  put_number(&file, HEIGHT + 10 - 1, 3, 1);
  put_text(&file, "ANIM");
  put_number(&file, 6, 4, 1);
  put_number(&file, 0, 6, 1);
  for (int i = 0; i < 2; i++) {
    put_text(&file, "ANMF");
    put_number(&file, 16 + frames[i].size - 12, 4, 1);
    put_number(&file, i ? 0 : 4, 3, 1); /* halves of places */
    put_number(&file, i ? 0 : 2, 3, 1);
    put_number(&file, i ? 1 : WIDTH - 1, 3, 1);
    put_number(&file, i ? 1 : HEIGHT - 1, 3, 1);
    put_number(&file, 100, 4, 1); /* milliseconds; blended */
    put(&file, frames[i].bytes + 12, frames[i].size - 12);
    release(&frames[i]);
  }
  buffer whole = {NULL, 0, 0};
  put_text(&whole, "RIFF");
  put_number(&whole, file.size, 4, 1);
  put(&whole, file.bytes, file.size);
  release(&file);
  return whole;
}

/* The first frame, in its place. */
static void test_webp_film(void **state) {
  uint8_t drawn[HEIGHT * WIDTH * 3];
  (void)state;
  buffer file = make_film();
  decoded_picture got = must_decode("a film", &file);
  draw(drawn, 3);
  assert_int_equal(got.width * 1000 + got.height * 10 + got.channels,
                   (WIDTH + 20) * 1000 + (HEIGHT + 10) * 10 + 4);
  for (int y = 0; y < got.height; y++)
    for (int x = 0; x < got.width; x++) {
      const uint8_t *pixel = got.pixels + 4 * (y * got.width + x);
      const int inside = x >= 8 && x < 8 + WIDTH && y >= 4 && y < 4 + HEIGHT;
      assert_int_equal(pixel[3], inside ? 255 : 0);
      if (inside) assert_memory_equal(pixel, drawn + 3 * ((y - 4) * WIDTH + x - 8), 3);
    }
  free(got.pixels);
  assert_whole_only("a film", &file, 0);
}

static void test_webp(void **state) {
  (void)state;
  for (int channels = 3; channels <= 4; channels++) {
    buffer file = make_webp(channels);
    decoded_picture got = must_decode("WebP", &file);
    /* what is quite transparent may have any colour */
    assert_drawn("WebP", &got, channels, channels == 3 ? 0 : 255);
    free(got.pixels);
    assert_whole_only("WebP", &file, 0);
  }
  for (unsigned orientation = 1; orientation <= 8; orientation++) {
    buffer file = make_turned_webp(orientation);
    decoded_picture got = must_decode("WebP", &file);
    assert_turned("WebP", &got, orientation, 0);
    free(got.pixels);
    release(&file);
  }
}

#else

static void test_webp(void **state) {
  (void)state;
  skip_without("libwebp-dev");
}

#endif

/* ---- HEIC and AVIF --------------------------------------------------------------------------- */

#ifdef HAVE_LIBHEIF

/* A file turned by its own boxes; the Exif block says the same. */
static buffer make_heif(enum heif_compression_format format, int orientation) {
  struct heif_context *context = heif_context_alloc();
  struct heif_encoder *encoder = NULL;
  struct heif_image *image = NULL;
  struct heif_image_handle *handle = NULL;
  struct heif_encoding_options *options = heif_encoding_options_alloc();
  buffer exif = {NULL, 0, 0};
  int stride;
  assert_int_equal(heif_context_get_encoder_for_format(context, format, &encoder).code, 0);
  heif_encoder_set_lossless(encoder, 0);
  heif_encoder_set_lossy_quality(encoder, 95);
  assert_int_equal(
      heif_image_create(WIDTH, HEIGHT, heif_colorspace_RGB, heif_chroma_interleaved_RGB, &image)
          .code,
      0);
  assert_int_equal(heif_image_add_plane(image, heif_channel_interleaved, WIDTH, HEIGHT, 8).code, 0);
  uint8_t *plane = heif_image_get_plane(image, heif_channel_interleaved, &stride);
  uint8_t pixels[HEIGHT * WIDTH * 3];
  draw(pixels, 3);
  for (int y = 0; y < HEIGHT; y++) memcpy(plane + y * stride, pixels + y * WIDTH * 3, WIDTH * 3);
  options->image_orientation = (enum heif_orientation)orientation;
  assert_int_equal(heif_context_encode_image(context, image, encoder, options, &handle).code, 0);
  put_exif(&exif, (unsigned)orientation, 0, 0);
  assert_int_equal(heif_context_add_exif_metadata(context, handle, exif.bytes, (int)exif.size).code,
                   0);
  assert_int_equal(heif_context_write_to_file(context, in_home("picture.heif")).code, 0);
  heif_image_handle_release(handle);
  heif_image_release(image);
  heif_encoder_release(encoder);
  heif_encoding_options_free(options);
  heif_context_free(context);
  release(&exif);
  return read_home("picture.heif");
}

static void check_heif(enum heif_compression_format format) {
  if (!heif_have_encoder_for_format(format)) skip_without("an encoder for it in libheif");
  for (int orientation = 1; orientation <= 8; orientation++) {
    buffer file = make_heif(format, orientation);
    decoded_picture got = must_decode("HEIF", &file);
    assert_turned("HEIF", &got, (unsigned)orientation, 60);
    free(got.pixels);
    release(&file);
  }
  buffer file = make_heif(format, 1);
  decoded_picture out;
  for (size_t count = 0; count < file.size; count += 7)
    if (!decode_cut(&file, count, &out)) fail_msg("%zu of %zu bytes", count, file.size);
  release(&file);
}

static void test_heic(void **state) {
  (void)state;
  check_heif(heif_compression_HEVC);
}

static void test_avif(void **state) {
  (void)state;
  check_heif(heif_compression_AV1);
}

#else

static void test_heic(void **state) {
  (void)state;
  skip_without("libheif-dev");
}

#endif

/* ---- PDF ------------------------------------------------------------------------------------- */

static int has_poppler(void) {
  return !system("command -v pdftoppm >/dev/null && command -v pdfinfo >/dev/null");
}

static void put_object(buffer *pdf, size_t *places, int number, const char *text) {
  char start[32];
  places[number] = pdf->size;
  snprintf(start, sizeof start, "%d 0 obj\n", number);
  put_text(pdf, start);
  put_text(pdf, text);
  put_text(pdf, "\nendobj\n");
}

/* Two pages of 72 x 48 points, the second one turned, with one picture of 2 x 2 pixels on all of them;
   and one as large as a wall. The title looks like what pdfinfo writes. */
static buffer make_pdf(void) {
  size_t places[9];
  char line[64];
  buffer pdf = {NULL, 0, 0};
  put_text(&pdf, "%PDF-1.4\n");
  put_object(&pdf, places, 1, "<</Type/Catalog/Pages 2 0 R>>");
  put_object(&pdf, places, 2, "<</Type/Pages/Count 3/Kids[3 0 R 4 0 R 5 0 R]>>");
  put_object(&pdf, places, 3,
             "<</Type/Page/Parent 2 0 R/MediaBox[0 0 72 48]/Contents 7 0 R"
             "/Resources<</XObject<</I 6 0 R>>>>>>");
  put_object(&pdf, places, 4,
             "<</Type/Page/Parent 2 0 R/MediaBox[0 0 72 48]/Rotate 90/Contents 7 0 R"
             "/Resources<</XObject<</I 6 0 R>>>>>>");
  put_object(&pdf, places, 5, "<</Type/Page/Parent 2 0 R/MediaBox[0 0 14400 14400]>>");
  put_object(&pdf, places, 6,
             "<</Type/XObject/Subtype/Image/Width 2/Height 2/ColorSpace/DeviceRGB"
             "/BitsPerComponent 8/Filter/ASCIIHexDecode/Length 28>>stream\n"
             "FF0000 00FF00 0000FF 303030>\nendstream");
  put_object(&pdf, places, 7, "<</Length 26>>stream\nq 72 0 0 48 0 0 cm /I Do Q\nendstream");
  put_object(&pdf, places, 8, "<</Title(a\nPages:   7\nb)>>");
  const size_t table = pdf.size;
  put_text(&pdf, "xref\n0 9\n0000000000 65535 f \n");
  for (int i = 1; i <= 8; i++) {
    snprintf(line, sizeof line, "%010zu 00000 n \n", places[i]);
    put_text(&pdf, line);
  }
  snprintf(line, sizeof line, "trailer<</Size 9/Root 1 0 R/Info 8 0 R>>\nstartxref\n%zu\n", table);
  put_text(&pdf, line);
  put_text(&pdf, "%%EOF\n");
  return pdf;
}

/* The middles of the quarters of a page. */
static void assert_quarters(const decoded_picture *got, const uint32_t want[4]) {
  for (int i = 0; i < 4; i++) {
    const int x = (i % 2 ? 3 : 1) * got->width / 4, y = (i / 2 ? 3 : 1) * got->height / 4;
    const uint8_t *pixel = got->pixels + (y * got->width + x) * got->channels;
    const uint32_t seen = (uint32_t)pixel[0] << 16 | (uint32_t)pixel[1] << 8 | pixel[2];
    if (seen != want[i]) fail_msg("quarter %d is %06x, should be %06x", i, seen, want[i]);
  }
}

static void test_pdf(void **state) {
  static const uint32_t upright[] = {0xFF0000, 0x00FF00, 0x0000FF, 0x303030},
                        turned[] = {0x0000FF, 0xFF0000, 0x303030, 0x00FF00};
  (void)state;
  if (!has_poppler()) skip_without("poppler-utils");
  buffer file = make_pdf();
  decoded_picture got;
  write_home("pages.pdf", file.bytes, file.size);
  const int pages = decode_pages(in_home("pages.pdf"), reason);
  if (pages != 3) fail_msg("%d pages: %s", pages, reason);
  for (int page = 1; page <= 2; page++) {
    if (!decode_page(in_home("pages.pdf"), page, 1 << 26, &got, reason)) fail_msg("%s", reason);
    assert_int_equal(got.width, page == 1 ? 300 : 200);
    assert_int_equal(got.height, page == 1 ? 200 : 300);
    assert_quarters(&got, page == 1 ? upright : turned);
    free(got.pixels);
  }
  /* fewer dots to the inch where the page would have too many pixels */
  assert_true(decode_page(in_home("pages.pdf"), 1, 15000, &got, reason));
  assert_in_range(got.width, 140, 150);
  assert_quarters(&got, upright);
  free(got.pixels);
  assert_true(decode_page(in_home("pages.pdf"), 3, 1000000, &got, reason));
  assert_in_range(got.width * got.height, 600000, 1000000);
  free(got.pixels);
  assert_false(decode_page(in_home("pages.pdf"), 4, 1 << 26, &got, reason));
  release(&file);
}

/* A name that looks like an option is a name. */
static void test_pdf_name(void **state) {
  char here[PATH_MAX];
  decoded_picture got = {NULL, 0, 0, 0};
  (void)state;
  if (!has_poppler()) skip_without("poppler-utils");
  buffer file = make_pdf();
  write_home("-v.pdf", file.bytes, file.size);
  assert_non_null(getcwd(here, sizeof here));
  assert_int_equal(chdir(home), 0);
  const int pages = decode_pages("-v.pdf", reason);
  const int good = decode_page("-v.pdf", 1, 1 << 20, &got, reason);
  assert_int_equal(chdir(here), 0);
  if (pages != 3 || !good) fail_msg("%d pages: %s", pages, reason);
  free(got.pixels);
  release(&file);
}

static void test_pdf_damage(void **state) {
  (void)state;
  if (!has_poppler()) skip_without("poppler-utils");
  buffer file = make_pdf();
  assert_int_equal(count_pages(&file, 9), 0);
  assert_contains(reason, "damaged");
  assert_int_equal(count_pages(&file, file.size / 4), 0);
  char *picture = strstr((char *)file.bytes, "FF0000 ");
  memcpy(picture, "<<<<<<<", 7);
  assert_refused("a PDF with a broken picture", &file, "damaged");
  release(&file);
}

/* Programs of the names of poppler's that do what these lines say. */
static void fake_poppler(const char *info, const char *page) {
  const char *const names[] = {"pdfinfo", "pdftoppm"}, *const lines[] = {info, page};
  for (int i = 0; i < 2; i++) {
    char script[300];
    snprintf(script, sizeof script, "#!/bin/sh\n%s\n", lines[i]);
    write_home(names[i], (const uint8_t *)script, strlen(script));
    assert_int_equal(chmod(in_home(names[i]), 0755), 0);
  }
}

static void test_pdf_programs(void **state) {
  static const char *const info = "echo 'Pages: 1'; echo 'Page    1 size: 72 x 48 pts'";
  char *path = strdup(getenv("PATH") ? getenv("PATH") : ""), *shadowed = malloc(PATH_MAX * 2);
  buffer file = make_pdf();
  decoded_picture got;
  (void)state;
  assert_true(path && shadowed);
  snprintf(shadowed, PATH_MAX * 2, "%s:/usr/bin:/bin", home);
  setenv("PATH", shadowed, 1);
  fake_poppler("echo 'Command Line Error: Incorrect password' >&2; exit 1", "exit 1");
  assert_int_equal(count_pages(&file, file.size), 0);
  assert_contains(reason, "password");
  fake_poppler(info, "printf 'P6 1 1 255 abc'");
  got = must_decode("PDF", &file);
  assert_memory_equal(got.pixels, "abc", 3);
  free(got.pixels);
  fake_poppler(info, "printf 'P6 1 1 255 abc'; kill -9 $$");
  assert_refused("poppler that crashes", &file, "pdftoppm");
  fake_poppler(info, "printf 'P6 1 1 255 abc'; exit 3");
  assert_refused("poppler that fails", &file, "pdftoppm");
  fake_poppler(info, "printf 'P6 9 9 255 abc'");
  assert_refused("poppler that stops early", &file, "cut off");
  fake_poppler(info, "printf 'P6 1 1 255 abc'; echo 'Syntax Error: odd \001 bytes' >&2");
  assert_refused("poppler that complains", &file, "odd ? bytes");
  fake_poppler(info, "exec cat /dev/zero");
  assert_refused("poppler that does not end", &file, "256 MB");
  setenv("PATH", "/nowhere", 1);
  assert_refused("no poppler", &file, "poppler-utils");
  setenv("PATH", path, 1);
  free(path);
  free(shadowed);
  release(&file);
}

/* ---- threads --------------------------------------------------------------------------------- */

typedef struct work {
  char paths[3][PATH_MAX + 300];
  int count;
} work;

static void add_file(work *w, const char *name, buffer *file) {
  write_home(name, file->bytes, file->size);
  snprintf(w->paths[w->count++], sizeof *w->paths, "%s", in_home(name));
  release(file);
}

/* Decodes all files again and again; returns the work if they are always the same picture. */
static void *decode_all(void *of) {
  const work *w = of;
  decoded_picture first, got;
  char why[DECODE_REASON];
  int equal = 1;
  for (int i = 0; i < w->count; i++) {
    if (!decode_page(w->paths[i], 1, 1 << 20, &first, why)) return NULL;
    for (int again = 0; again < 7; again++) {
      if (!decode_page(w->paths[i], 1, 1 << 20, &got, why)) return NULL;
      equal &= !memcmp(first.pixels, got.pixels, (size_t)(got.width * got.height * got.channels));
      free(got.pixels);
    }
    free(first.pixels);
  }
  return equal ? of : NULL;
}

/* Several threads at once. */
static void test_threads(void **state) {
  pthread_t threads[4];
  work w = {.count = 0};
  (void)state;
#ifdef HAVE_LIBTIFF
  buffer tiff = make_tiff(COMPRESSION_CCITTFAX4, 1, 1, 1, 0);
  add_file(&w, "threads.tif", &tiff);
#endif
#ifdef HAVE_LIBWEBP
  buffer webp = make_webp(3);
  add_file(&w, "threads.webp", &webp);
#endif
  buffer pdf = make_pdf();
  if (has_poppler()) add_file(&w, "threads.pdf", &pdf);
  for (int i = 0; i < 4; i++)
    assert_int_equal(pthread_create(&threads[i], NULL, decode_all, &w), 0);
  for (int i = 0; i < 4; i++) {
    void *result;
    assert_int_equal(pthread_join(threads[i], &result), 0);
    assert_ptr_equal(result, &w);
  }
  release(&pdf);
}

/* ---- what is not there ----------------------------------------------------------------------- */

/* Files of formats whose library is missing are called by their name, with what to install. */
static void test_missing_libraries(void **state) {
  static const struct {
    const char *start, *package;
    size_t size;
    int is_there;
  } formats[] = {
#ifdef HAVE_LIBTIFF
      {"II*\0\10\0\0\0", "libtiff-dev", 8, 1},
#else
      {"II*\0\10\0\0\0", "libtiff-dev", 8, 0},
#endif
#ifdef HAVE_LIBWEBP
      {"RIFF\4\0\0\0WEBP", "libwebp-dev", 12, 1},
#else
      {"RIFF\4\0\0\0WEBP", "libwebp-dev", 12, 0},
#endif
#ifdef HAVE_LIBHEIF
      {"\0\0\0\20ftypheic\0\0\0\0", "libheif-dev", 16, 1},
#else
      {"\0\0\0\20ftypheic\0\0\0\0", "libheif-dev", 16, 0},
#endif
  };
  (void)state;
  for (size_t i = 0; i < sizeof formats / sizeof *formats; i++) {
    buffer file = {NULL, 0, 0};
    put(&file, formats[i].start, formats[i].size);
    assert_refused("a file of a header", &file, formats[i].is_there ? "" : formats[i].package);
    if (formats[i].is_there && strstr(reason, "install")) fail_msg("%s", reason);
    release(&file);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_jpeg_kinds),
#ifdef HAVE_LIBJPEG
      cmocka_unit_test(test_jpeg_cuts),     cmocka_unit_test(test_jpeg_holes),
      cmocka_unit_test(test_jpeg_restarts), cmocka_unit_test(test_jpeg_other_kinds),
      cmocka_unit_test(test_jpeg_inks),
#endif
      cmocka_unit_test(test_tiff),
#ifdef HAVE_LIBTIFF
      cmocka_unit_test(test_tiff_alpha),    cmocka_unit_test(test_tiff_pages),
      cmocka_unit_test(test_tiff_end),      cmocka_unit_test(test_tiff_damage),
#endif
      cmocka_unit_test(test_webp),
#ifdef HAVE_LIBWEBP
      cmocka_unit_test(test_webp_film),
#endif
      cmocka_unit_test(test_heic),
#ifdef HAVE_LIBHEIF
      cmocka_unit_test(test_avif),
#endif
      cmocka_unit_test(test_pdf),           cmocka_unit_test(test_pdf_name),
      cmocka_unit_test(test_pdf_damage),    cmocka_unit_test(test_pdf_programs),
      cmocka_unit_test(test_threads),       cmocka_unit_test(test_missing_libraries),
  };
  return cmocka_run_group_tests(tests, make_home, remove_home);
}
