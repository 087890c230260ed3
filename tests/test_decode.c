/* test_decode.c - picture files of every kind: read right, standing upright, or refused with a reason.

   Build:  make build/tests/test_decode
   Run:    build/tests/test_decode

   Files are made here: by stb_image_write, by the libraries that also read them, or byte by byte. Each
   shows the same picture of 24 x 16 pixels, whose quarters have four colours. */
#define _POSIX_C_SOURCE 200809L
#define TOOL_NAME "test_decode"
#define TOOL_USAGE ""
#include "../tools/tool.h"

#include "../tools/decode/kinds.h"
#include "../tools/file.h"
#include "../tools/implementations/stb.h"
#include "../tools/path.h"
#include <limits.h>
#include <unistd.h>

#include "support.h"

#include "programs.h"

#ifdef HAVE_LIBTIFF
#include <tiffio.h>
#endif
#ifdef HAVE_LIBWEBP
#include <webp/encode.h>
#endif
#ifdef HAVE_LIBHEIF
#include <libheif/heif.h>
#endif

#define WIDTH 24
#define HEIGHT 16
#define MOST_PIXELS ((int64_t)1 << 24)

static const uint8_t colours[4][3] = {{250, 20, 30}, {20, 240, 40}, {30, 40, 250}, {240, 240, 240}};

/* Which quarter each place shows after a turn (Exif 2.32, table of orientation). */
static const char *const quarters[] = {"abcd", "badc", "dcba", "cdab",
                                       "acbd", "cadb", "dbca", "bdac"};

static void draw(uint8_t rgb[HEIGHT * WIDTH * 3]) {
  for (int y = 0; y < HEIGHT; y++)
    for (int x = 0; x < WIDTH; x++)
      memcpy(rgb + (y * WIDTH + x) * 3, colours[2 * (y >= HEIGHT / 2) + (x >= WIDTH / 2)], 3);
}

/* ---- looking ----------------------------------------------------------------------------------- */

static char last_reason[DECODE_REASON];

static int read_home(const char *name, int page, decoded_picture *out) {
  char *path = join_path(home, name);
  *last_reason = 0;
  int good = decode_page(path, page, MOST_PIXELS, out, last_reason);
  free(path);
  if (!good) assert_true(*last_reason != 0);
  return good;
}

/* The quarters are where they belong, within `tolerance` levels; grey: as luminance. */
static void assert_shows(const char *name, int page, int orientation, int tolerance) {
  decoded_picture got;
  if (!read_home(name, page, &got)) fail_msg("%s: %s", name, last_reason);
  int swap = orientation >= 5;
  if (got.width * (swap ? WIDTH : HEIGHT) != got.height * (swap ? HEIGHT : WIDTH))
    fail_msg("%s: %d x %d", name, got.width, got.height);
  for (int i = 0; i < 4; i++) {
    int x = (i % 2 ? 3 : 1) * got.width / 4, y = (i / 2 ? 3 : 1) * got.height / 4;
    const uint8_t *want = colours[quarters[orientation - 1][i] - 'a'],
                  *pixel = got.pixels + (y * got.width + x) * got.channels;
    for (int c = 0; c < (got.channels >= 3 ? 3 : 1); c++) {
      int wanted =
          got.channels >= 3 ? want[c] : (77 * want[0] + 150 * want[1] + 29 * want[2]) / 256;
      if (abs(pixel[c] - wanted) > tolerance)
        fail_msg("%s: quarter %d, channel %d: %d, should be %d", name, i, c, pixel[c], wanted);
    }
  }
  free(got.pixels);
}

static void assert_refuses(const char *name, const char *part) {
  decoded_picture got;
  if (read_home(name, 1, &got)) fail_msg("%s is believed", name);
  if (!strstr(last_reason, part))
    fail_msg("%s: \"%s\" does not say \"%s\"", name, last_reason, part);
}

static int pages_of(const char *name) {
  char *path = join_path(home, name);
  int pages = decode_pages(path, last_reason);
  free(path);
  return pages;
}

/* ---- writing ----------------------------------------------------------------------------------- */

static void add_number(text_buffer *to, int bytes, uint32_t value, int little) {
  for (int i = 0; i < bytes; i++) {
    char byte = (char)(value >> 8 * (little ? i : bytes - 1 - i));
    text_append(to, &byte, 1);
  }
}

static void keep(const char *name, text_buffer *file) {
  write_home(name, file->data, file->length);
  free(file->data);
}

/* Exif data with an orientation, as SHORT (3) or LONG (4). */
static text_buffer exif(int orientation, int type, int little) {
  text_buffer out = {0};
  text_append(&out, little ? "II" : "MM", 2);
  add_number(&out, 2, 42, little);
  add_number(&out, 4, 8, little);
  add_number(&out, 2, 1, little);
  add_number(&out, 2, 0x112, little);
  add_number(&out, 2, (uint32_t)type, little);
  add_number(&out, 4, 1, little);
  add_number(&out, type == 4 ? 4 : 2, (uint32_t)orientation, little);
  if (type != 4) add_number(&out, 2, 0, little);
  add_number(&out, 4, 0, little);
  return out;
}

static text_buffer jpeg_bytes(void) {
  uint8_t rgb[HEIGHT * WIDTH * 3];
  text_buffer out = {0};
  draw(rgb);
  assert_true(stbi_write_jpg_to_func(append_bytes, &out, WIDTH, HEIGHT, 3, rgb, 98));
  return out;
}

/* `before` bytes of other segments, as phones write, then Exif. */
static void write_jpeg(const char *name, int orientation, int type, int little, size_t before) {
  text_buffer jpeg = jpeg_bytes(), data = exif(orientation, type, little), file = {0};
  text_append(&file, jpeg.data, 2);
  while (before) {
    size_t now = before < 60000 ? before : 60000;
    uint8_t *xmp = allocate(now, 1);
    memset(xmp, 'x', now);
    text_append(&file, "\xFF\xFF\xE1", 3);
    add_number(&file, 2, (uint32_t)now + 2, 0);
    text_append(&file, (char *)xmp, now);
    before -= now;
    free(xmp);
  }
  text_append(&file, "\xFF\xE1", 2);
  add_number(&file, 2, (uint32_t)data.length + 8, 0);
  text_append(&file, "Exif\0", 6);
  text_append(&file, data.data, data.length);
  text_append(&file, jpeg.data + 2, jpeg.length - 2);
  free(jpeg.data);
  free(data.data);
  keep(name, &file);
}

static uint32_t crc(const char *bytes, size_t size) {
  uint32_t sum = 0xFFFFFFFFu;
  for (size_t i = 0; i < size; i++) {
    sum ^= (uint8_t)bytes[i];
    for (int k = 0; k < 8; k++) sum = sum & 1 ? 0xEDB88320u ^ sum >> 1 : sum >> 1;
  }
  return ~sum;
}

static text_buffer png_bytes(void) {
  uint8_t rgb[HEIGHT * WIDTH * 3];
  text_buffer out = {0};
  draw(rgb);
  assert_true(stbi_write_png_to_func(append_bytes, &out, WIDTH, HEIGHT, 3, rgb, 0));
  return out;
}

/* eXIf behind the header, which takes the first 33 bytes. */
static void write_png(const char *name, int orientation) {
  text_buffer png = png_bytes(), data = exif(orientation, 3, 0), chunk = {0}, file = {0};
  text_append(&chunk, "eXIf", 4);
  text_append(&chunk, data.data, data.length);
  text_append(&file, png.data, 33);
  add_number(&file, 4, (uint32_t)data.length, 0);
  text_append(&file, chunk.data, chunk.length);
  add_number(&file, 4, crc(chunk.data, chunk.length), 0);
  text_append(&file, png.data + 33, png.length - 33);
  free(png.data);
  free(data.data);
  free(chunk.data);
  keep(name, &file);
}

static void write_by_stb(const char *name) {
  uint8_t rgb[HEIGHT * WIDTH * 3];
  char *path = join_path(home, name);
  draw(rgb);
  int good = strstr(name, ".bmp") ? stbi_write_bmp(path, WIDTH, HEIGHT, 3, rgb)
                                  : stbi_write_tga(path, WIDTH, HEIGHT, 3, rgb);
  assert_true(good);
  free(path);
}

static void write_ppm(const char *name) {
  uint8_t rgb[HEIGHT * WIDTH * 3];
  text_buffer file = {0};
  draw(rgb);
  text_add(&file, "P6 # a comment\n%d\n%d 255\n", WIDTH, HEIGHT);
  text_append(&file, (char *)rgb, sizeof rgb);
  keep(name, &file);
}

/* Codes of nine bits, cleared before they would grow (GIF 89a, appendix F). */
static void write_gif(const char *name) {
  text_buffer file = {0}, packed = {0};
  uint32_t held = 0;
  int bits = 0;
  text_append(&file, "GIF89a", 6);
  add_number(&file, 2, WIDTH, 1);
  add_number(&file, 2, HEIGHT, 1);
  text_append(&file, "\xF7\0\0", 3); /* a palette of 256 */
  for (int i = 0; i < 256; i++) text_append(&file, (const char *)colours[i % 4], 3);
  text_append(&file,
              "!\xFE\x03"
              "abc\0",
              7); /* a comment */
  text_append(&file, ",\0\0\0\0", 5);
  add_number(&file, 2, WIDTH, 1);
  add_number(&file, 2, HEIGHT, 1);
  text_append(&file, "\0\x08", 2);
  for (int i = 0; i <= HEIGHT * WIDTH; i++) {
    int quarter = 2 * (i / WIDTH >= HEIGHT / 2) + (i % WIDTH >= WIDTH / 2);
    for (int step = i % 100 ? 1 : 0; step < 2; step++) {
      uint32_t code = i == HEIGHT * WIDTH ? 257 : step ? (uint32_t)quarter : 256;
      held |= code << bits;
      for (bits += 9; bits >= 8; bits -= 8, held >>= 8) add_number(&packed, 1, held & 255, 1);
    }
  }
  if (bits) add_number(&packed, 1, held & 255, 1);
  for (size_t at = 0; at < packed.length; at += 255) {
    size_t now = packed.length - at < 255 ? packed.length - at : 255;
    add_number(&file, 1, (uint32_t)now, 1);
    text_append(&file, packed.data + at, now);
  }
  text_append(&file, "\0;", 2);
  free(packed.data);
  keep(name, &file);
}

/* The plane of a PSD's channel: the picture's, or a selection of half of it, softly, in a fourth one. */
static void add_plane(text_buffer *to, int channel, int depth, int packed, text_buffer *lengths) {
  uint8_t rgb[HEIGHT * WIDTH * 3];
  draw(rgb);
  for (int y = 0; y < HEIGHT; y++) {
    size_t before = to->length;
    for (int x = 0; x < WIDTH; x++) {
      uint32_t value = channel < 3 ? rgb[(y * WIDTH + x) * 3 + channel] : x < 8 ? 0 : 128;
      if (packed && x % 12 == 0) add_number(to, 1, 11, 0); /* twelve values follow */
      add_number(to, depth / 8, value << (depth - 8), 0);
    }
    add_number(lengths, 2, (uint32_t)(to->length - before), 0);
  }
}

static void write_psd(const char *name, int channels, int depth, int packed, int mode) {
  text_buffer file = {0}, planes = {0}, lengths = {0};
  text_append(&file, "8BPS\0\1\0\0\0\0\0\0", 12);
  add_number(&file, 2, (uint32_t)channels, 0);
  add_number(&file, 4, HEIGHT, 0);
  add_number(&file, 4, WIDTH, 0);
  add_number(&file, 2, (uint32_t)depth, 0);
  add_number(&file, 2, (uint32_t)mode, 0);
  for (int part = 0; part < 3; part++) {
    add_number(&file, 4, (uint32_t)part, 0);
    add_number(&file, part, 0, 0);
  }
  add_number(&file, 2, (uint32_t)packed, 0);
  for (int c = 0; c < channels; c++) add_plane(&planes, c, depth, packed, &lengths);
  if (packed) text_append(&file, lengths.data, lengths.length);
  text_append(&file, planes.data, planes.length);
  free(planes.data);
  free(lengths.data);
  keep(name, &file);
}

/* A PDF of `pages` pages of 72 x 48 points; page 2 has its quarters in another order. */
static void write_pdf(const char *name, int pages) {
  text_buffer file = {0}, drawing[2] = {{0}, {0}};
  size_t at[32];
  int objects = 2 + 2 * pages;
  for (int k = 0; k < 2; k++)
    for (int i = 0; i < 4; i++) {
      const uint8_t *c = colours[k ? 3 - i : i];
      text_add(&drawing[k], "%.4f %.4f %.4f rg %d %d 36 24 re f\n", c[0] / 255.0, c[1] / 255.0,
               c[2] / 255.0, i % 2 * 36, i / 2 ? 0 : 24);
    }
  text_add(&file, "%%PDF-1.4\n");
  for (int i = 1; i <= objects; i++) {
    at[i] = file.length;
    text_add(&file, "%d 0 obj\n", i);
    if (i == 1) text_add(&file, "<< /Type /Catalog /Pages 2 0 R >>\n");
    if (i == 2) {
      text_add(&file, "<< /Type /Pages /Count %d /Kids [", pages);
      for (int p = 0; p < pages; p++) text_add(&file, "%d 0 R ", 3 + 2 * p);
      text_add(&file, "] >>\n");
    }
    if (i > 2 && i % 2)
      text_add(
          &file,
          "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 72 48] /Contents %d 0 R /Resources << >> >>\n",
          i + 1);
    if (i > 2 && i % 2 == 0) {
      const text_buffer *with = &drawing[i == 6];
      text_add(&file, "<< /Length %zu >>\nstream\n%sendstream\n", with->length, with->data);
    }
    text_add(&file, "endobj\n");
  }
  size_t table = file.length;
  text_add(&file, "xref\n0 %d\n0000000000 65535 f \n", objects + 1);
  for (int i = 1; i <= objects; i++) text_add(&file, "%010zu 00000 n \n", at[i]);
  text_add(&file, "trailer << /Size %d /Root 1 0 R >>\nstartxref\n%zu\n%%%%EOF\n", objects + 1,
           table);
  free(drawing[0].data);
  free(drawing[1].data);
  keep(name, &file);
}

/* ---- tests --------------------------------------------------------------------------------------- */

static void test_common_kinds(void **state) {
  (void)state;
  text_buffer jpeg = jpeg_bytes(), png = png_bytes();
  keep("a.jpg", &jpeg);
  keep("a.png", &png);
  write_by_stb("a.bmp");
  write_by_stb("a.tga");
  write_ppm("a.ppm");
  write_gif("a.gif");
  static const char *const names[] = {"a.jpg", "a.png", "a.bmp", "a.tga", "a.ppm", "a.gif"};
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
    assert_shows(names[i], 1, 1, 8);
    assert_int_equal(pages_of(names[i]), 1);
    decoded_picture got;
    assert_false(read_home(names[i], 2, &got));
  }
}

/* A fourth channel of a PSD changes nothing of the picture. */
static void test_psd(void **state) {
  (void)state;
  for (int channels = 3; channels <= 5; channels++)
    for (int kind = 0; kind < 3; kind++) {
      write_psd("a.psd", channels, kind == 2 ? 16 : 8, kind == 1, 3);
      assert_shows("a.psd", 1, 1, 0);
    }
  write_psd("a.psd", 4, 16, 1, 3);
  assert_refuses("a.psd", "a packed PSD of 16 bits a colour");
  write_psd("a.psd", 4, 8, 0, 4);
  assert_refuses("a.psd", "a PSD whose colours are not RGB");
  write_psd("a.psd", 2, 8, 0, 3);
  assert_refuses("a.psd", "a PSD whose colours are not RGB");
}

/* A name says nothing: the content does. */
static void test_names(void **state) {
  static const char *const pictures[] = {"a.PNG",  "b.Jpeg", "c.jfif", "d.tiff", "e.HEIC",
                                         "f.avif", "g.pdf",  "h.webp", "i.gif",  "j.x.bmp"};
  static const char *const others[] = {"png", ".png", "a.pngx", "Thumbs.db", "a.txt", "a.", "a"};
  (void)state;
  for (size_t i = 0; i < sizeof pictures / sizeof *pictures; i++)
    assert_true(decode_is_picture_name(pictures[i]));
  for (size_t i = 0; i < sizeof others / sizeof *others; i++)
    assert_false(decode_is_picture_name(others[i]));
  text_buffer png = png_bytes();
  keep("really-a-png.jpg", &png);
  assert_shows("really-a-png.jpg", 1, 1, 0);
}

/* Behind 50 kB of other segments, as SHORT and as LONG, in either order of bytes. */
static void test_jpeg_orientation(void **state) {
  (void)state;
  for (int orientation = 1; orientation <= 8; orientation++)
    for (int little = 0; little < 2; little++)
      for (int type = 3; type <= 4; type++) {
        write_jpeg("turned.jpg", orientation, type, little, 0);
        assert_shows("turned.jpg", 1, orientation, 8);
        write_jpeg("turned.jpg", orientation, type, little, 150000);
        assert_shows("turned.jpg", 1, orientation, 8);
      }
}

static void test_png_orientation(void **state) {
  (void)state;
  for (int orientation = 1; orientation <= 8; orientation++) {
    write_png("turned.png", orientation);
    assert_shows("turned.png", 1, orientation, 0);
  }
}

/* Every bit of a PNG matters, but for those behind its end. */
static void test_png_bits(void **state) {
  (void)state;
  text_buffer png = png_bytes();
  char *path = join_path(home, "flipped.png");
  for (size_t bit = 0; bit < 8 * png.length; bit++) {
    decoded_picture got;
    png.data[bit / 8] = (char)(png.data[bit / 8] ^ 1 << bit % 8);
    write_home("flipped.png", png.data, png.length);
    if (decode_page(path, 1, MOST_PIXELS, &got, last_reason))
      fail_msg("bit %zu of byte %zu is flipped and nobody minds", bit % 8, bit / 8);
    png.data[bit / 8] = (char)(png.data[bit / 8] ^ 1 << bit % 8);
  }
  text_append(&png, "behind the end", 14);
  write_home("flipped.png", png.data, png.length);
  assert_shows("flipped.png", 1, 1, 0);
  free(path);
  free(png.data);
}

/* A wrong checksum of the unpacked data, where each part's own is right. */
static void test_png_adler(void **state) {
  (void)state;
  text_buffer png = png_bytes();
  size_t at = 33, length = read_number((uint8_t *)png.data + at, 4, 0);
  png.data[at + 8 + length - 1] ^= 1;
  uint32_t sum = crc(png.data + at + 4, length + 4);
  for (int i = 0; i < 4; i++) png.data[at + 8 + length + (size_t)i] = (char)(sum >> (24 - 8 * i));
  keep("adler.png", &png);
  assert_refuses("adler.png", "do not unpack to what they should");
}

/* Cut at every length. The last `spare` bytes may be missing. */
static void assert_whole_only(const char *name, size_t spare) {
  size_t size;
  char *all = contents(name, &size);
  decoded_picture got;
  for (size_t length = 0; length < size - spare; length++) {
    write_home("cut", all, length);
    if (!read_home("cut", 1, &got)) continue;
    fail_msg("%s is believed when it ends at byte %zu of %zu", name, length, size);
  }
  free(all);
}

static void test_cut(void **state) {
  (void)state;
  assert_whole_only("a.jpg", 0);
  assert_whole_only("a.png", 0);
  assert_whole_only("a.gif", 0);
  assert_whole_only("a.bmp", 0);
  assert_whole_only("a.ppm", 0);
  assert_whole_only("a.tga", 0);
}

/* Tables of a JPEG that its pixels need are there, and no larger than tables can be: stb_image does not
   look. */
static void test_jpeg_tables(void **state) {
  (void)state;
  int marker = 0;
  for (size_t at = 2; marker != 0xDA;) {
    text_buffer jpeg = jpeg_bytes();
    uint8_t *b = (uint8_t *)jpeg.data;
    size_t length = 2 + read_number(b + at + 2, 2, 0);
    marker = b[at + 1];
    if (marker == 0xC4 || marker == 0xDB) {
      b[at + 1] = 0xFE; /* a comment */
      keep("table.jpg", &jpeg);
      assert_refuses("table.jpg", "a table that its pixels are coded with is missing");
    } else {
      free(jpeg.data);
    }
    at += length;
  }
  text_buffer jpeg = jpeg_bytes();
  size_t at = 2;
  while ((uint8_t)jpeg.data[at + 1] != 0xC4)
    at += 2 + read_number((uint8_t *)jpeg.data + at + 2, 2, 0);
  memset(jpeg.data + at + 5, 255, 16);
  keep("table.jpg", &jpeg);
  assert_refuses("table.jpg", "a table of 4080 codes, where 256 are the most");
}

/* The kinds of JPEG that no decoder here reads say what they are. */
static void test_jpeg_kinds(void **state) {
  (void)state;
  static const struct {
    int marker, bits;
    const char *says;
  } cases[] = {{0xC1, 12, "12 bits"},
               {0xC9, 8, "arithmetic"},
               {0xC3, 8, "lossless"},
               {0xC5, 8, "hierarchical"}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    text_buffer jpeg = jpeg_bytes();
    size_t at = 2;
    while ((uint8_t)jpeg.data[at + 1] != 0xC0)
      at += 2 + read_number((uint8_t *)jpeg.data + at + 2, 2, 0);
    jpeg.data[at + 1] = (char)cases[i].marker;
    jpeg.data[at + 4] = (char)cases[i].bits;
    keep("odd.jpg", &jpeg);
    assert_refuses("odd.jpg", cases[i].says);
  }
}

static void test_no_pictures(void **state) {
  (void)state;
  write_words("page.jpg", "  <!DOCTYPE html><html></html>");
  assert_refuses("page.jpg", "HTML");
  write_words("words.jpg", "this is no picture");
  assert_refuses("words.jpg", "not a picture of a known kind");
  write_words("empty.png", "");
  assert_refuses("empty.png", "empty");
  assert_refuses(".", "folder");
  assert_refuses("nowhere.png", "No such file");
  assert_int_equal(pages_of("words.jpg"), 0);
}

/* A header that promises much is not believed. */
static void test_huge(void **state) {
  (void)state;
  text_buffer png = png_bytes();
  for (int i = 16; i < 24; i++) png.data[i] = (char)(i % 4 == 2 ? 0x70 : 0);
  uint32_t sum = crc(png.data + 12, 17);
  for (int i = 0; i < 4; i++) png.data[29 + i] = (char)(sum >> (24 - 8 * i));
  keep("huge.png", &png);
  assert_refuses("huge.png", "more than 16777216 pixels");
  write_words("huge.ppm", "P6 60000 60000 255\nabc");
  assert_refuses("huge.ppm", "cut off");
}

#ifdef HAVE_LIBTIFF
static void write_tiff(const char *name, int pages, int orientation, int compression) {
  uint8_t rgb[HEIGHT * WIDTH * 3];
  char *path = join_path(home, name);
  TIFF *tiff = TIFFOpen(path, "w");
  assert_non_null(tiff);
  draw(rgb);
  for (int page = 0; page < pages; page++) {
    TIFFSetField(tiff, TIFFTAG_IMAGEWIDTH, WIDTH);
    TIFFSetField(tiff, TIFFTAG_IMAGELENGTH, HEIGHT);
    TIFFSetField(tiff, TIFFTAG_SAMPLESPERPIXEL, 3);
    TIFFSetField(tiff, TIFFTAG_BITSPERSAMPLE, 8);
    TIFFSetField(tiff, TIFFTAG_PLANARCONFIG, PLANARCONFIG_CONTIG);
    TIFFSetField(tiff, TIFFTAG_PHOTOMETRIC, PHOTOMETRIC_RGB);
    TIFFSetField(tiff, TIFFTAG_COMPRESSION, compression);
    TIFFSetField(tiff, TIFFTAG_ORIENTATION, page ? 3 : orientation);
    if (page == 2) TIFFSetField(tiff, TIFFTAG_SUBFILETYPE, FILETYPE_REDUCEDIMAGE);
    for (uint32_t y = 0; y < HEIGHT; y++)
      assert_int_equal(TIFFWriteScanline(tiff, rgb + y * WIDTH * 3, y, 0), 1);
    TIFFWriteDirectory(tiff);
  }
  TIFFClose(tiff);
  free(path);
}
#endif

static void test_tiff(void **state) {
  (void)state;
#ifdef HAVE_LIBTIFF
  static const int compressions[] = {COMPRESSION_NONE, COMPRESSION_LZW, COMPRESSION_ADOBE_DEFLATE,
                                     COMPRESSION_PACKBITS};
  for (size_t i = 0; i < sizeof compressions / sizeof *compressions; i++) {
    write_tiff("a.tif", 1, 1, compressions[i]);
    assert_shows("a.tif", 1, 1, 0);
  }
  for (int orientation = 1; orientation <= 8; orientation++) {
    write_tiff("turned.tif", 1, orientation, COMPRESSION_LZW);
    assert_shows("turned.tif", 1, orientation, 0);
  }
  write_tiff("pages.tif", 4, 1, COMPRESSION_LZW); /* the third is a thumbnail */
  assert_int_equal(pages_of("pages.tif"), 3);
  assert_shows("pages.tif", 1, 1, 0);
  assert_shows("pages.tif", 2, 3, 0);
  assert_shows("pages.tif", 3, 3, 0);
  decoded_picture got;
  assert_false(read_home("pages.tif", 4, &got));
  assert_contains(last_reason, "no page 4");
  write_tiff("a.tif", 1, 1, COMPRESSION_NONE);
  assert_whole_only("a.tif", 0);
#else
  write_home("a.tif", "II*\0\x08\0\0\0", 8);
  assert_refuses("a.tif", "libtiff-dev");
  skip();
#endif
}

static void test_webp(void **state) {
  (void)state;
#ifdef HAVE_LIBWEBP
  uint8_t rgb[HEIGHT * WIDTH * 3], *packed;
  draw(rgb);
  size_t size = WebPEncodeLosslessRGB(rgb, WIDTH, HEIGHT, WIDTH * 3, &packed);
  assert_true(size > 0);
  write_home("a.webp", packed, size);
  assert_shows("a.webp", 1, 1, 0);
  assert_whole_only("a.webp", 0);
  for (int orientation = 1; orientation <= 8; orientation++) {
    /* the extended form: a header that announces Exif, the picture's chunk, Exif */
    text_buffer file = {0}, data = exif(orientation, 3, 1);
    text_append(&file, "RIFF\0\0\0\0WEBPVP8X\x0A\0\0\0\x08\0\0\0", 24);
    add_number(&file, 3, WIDTH - 1, 1);
    add_number(&file, 3, HEIGHT - 1, 1);
    text_append(&file, (char *)packed + 12, size - 12);
    text_append(&file, "EXIF", 4);
    add_number(&file, 4, (uint32_t)data.length, 1);
    text_append(&file, data.data, data.length);
    for (int i = 0; i < 4; i++) file.data[4 + i] = (char)((file.length - 8) >> 8 * i);
    free(data.data);
    keep("turned.webp", &file);
    assert_shows("turned.webp", 1, orientation, 0);
  }
  WebPFree(packed);
#else
  write_home("a.webp", "RIFF\x10\0\0\0WEBPVP8L", 16);
  assert_refuses("a.webp", "libwebp-dev");
  skip();
#endif
}

static void test_heif(void **state) {
  (void)state;
#ifdef HAVE_LIBHEIF
  /* x265 wants pictures of some size */
  const int times = 8, width = WIDTH * times, height = HEIGHT * times;
  uint8_t rgb[HEIGHT * WIDTH * 3];
  struct heif_context *context = heif_context_alloc();
  struct heif_encoder *encoder = NULL;
  struct heif_image *image = NULL;
  char *path = join_path(home, "a.heic");
  int stride;
  draw(rgb);
  if (heif_context_get_encoder_for_format(context, heif_compression_HEVC, &encoder).code) {
    print_message("libheif has no encoder here: only refusals are tested\n");
  } else {
    assert_int_equal(
        heif_image_create(width, height, heif_colorspace_RGB, heif_chroma_interleaved_RGB, &image)
            .code,
        0);
    heif_image_add_plane(image, heif_channel_interleaved, width, height, 24);
    uint8_t *plane = heif_image_get_plane(image, heif_channel_interleaved, &stride);
    for (int y = 0; y < height; y++)
      for (int x = 0; x < width; x++)
        memcpy(plane + y * stride + 3 * x, rgb + (y / times * WIDTH + x / times) * 3, 3);
    heif_encoder_set_lossy_quality(encoder, 95);
    assert_int_equal(heif_context_encode_image(context, image, encoder, NULL, NULL).code, 0);
    assert_int_equal(heif_context_write_to_file(context, path).code, 0);
    heif_image_release(image);
    heif_encoder_release(encoder);
    assert_shows("a.heic", 1, 1, 12);
    size_t size;
    char *all = contents("a.heic", &size);
    for (size_t length = 16; length < size; length += 7) {
      write_home("cut.heic", all, length);
      decoded_picture got;
      if (read_home("cut.heic", 1, &got)) fail_msg("believed at %zu of %zu", length, size);
    }
    free(all);
  }
  heif_context_free(context);
  free(path);
#else
  write_home("a.heic",
             "\0\0\0\x18"
             "ftypheic\0\0\0\0mif1heic",
             24);
  assert_refuses("a.heic", "libheif-dev");
  skip();
#endif
}

static void test_pdf(void **state) {
  (void)state;
  write_pdf("a.pdf", 1);
  write_pdf("pages.pdf", 3);
  if (shell("command -v pdftoppm && command -v pdfinfo")) {
    assert_refuses("a.pdf", "poppler-utils");
    skip();
  }
  assert_int_equal(pages_of("a.pdf"), 1);
  assert_int_equal(pages_of("pages.pdf"), 3);
  assert_shows("a.pdf", 1, 1, 2);
  assert_shows("pages.pdf", 1, 1, 2);
  assert_shows("pages.pdf", 2, 3, 2);
  assert_shows("pages.pdf", 3, 1, 2);
  decoded_picture got;
  assert_true(read_home("a.pdf", 1, &got)); /* 300 dots an inch */
  assert_int_equal(got.width, 300);
  assert_int_equal(got.height, 200);
  free(got.pixels);
  char *path = join_path(home, "a.pdf");
  assert_true(
      decode_page(path, 1, 20000, &got, last_reason)); /* coarser where it would be too large */
  assert_in_range(got.width * got.height, 17000, 20000);
  free(got.pixels);
  free(path);
  assert_false(read_home("pages.pdf", 4, &got));
  /* a name that looks like an option; a file that is cut */
  assert_ran(shell("cp a.pdf ./-v.pdf"));
  char *here = allocate(PATH_MAX, 1);
  assert_non_null(getcwd(here, PATH_MAX));
  assert_int_equal(chdir(home), 0);
  assert_int_equal(decode_pages("-v.pdf", last_reason), 1);
  assert_int_equal(chdir(here), 0);
  free(here);
  write_words("cut.pdf", "%PDF-1.4\nnothing else\n");
  assert_int_equal(pages_of("cut.pdf"), 0);
  assert_contains(last_reason, "PDF");
}

static int setup(void **state) {
  (void)state;
  snprintf(home, sizeof home, "/tmp/tally-decode-XXXXXX");
  return mkdtemp(home) == NULL;
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_common_kinds),
      cmocka_unit_test(test_psd),
      cmocka_unit_test(test_names),
      cmocka_unit_test(test_jpeg_orientation),
      cmocka_unit_test(test_png_orientation),
      cmocka_unit_test(test_png_bits),
      cmocka_unit_test(test_png_adler),
      cmocka_unit_test(test_cut),
      cmocka_unit_test(test_jpeg_tables),
      cmocka_unit_test(test_jpeg_kinds),
      cmocka_unit_test(test_no_pictures),
      cmocka_unit_test(test_huge),
      cmocka_unit_test(test_tiff),
      cmocka_unit_test(test_webp),
      cmocka_unit_test(test_heif),
      cmocka_unit_test(test_pdf),
  };
  return cmocka_run_group_tests(tests, setup, remove_home);
}
