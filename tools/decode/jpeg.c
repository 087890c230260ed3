/* jpeg.c - whether a JPEG file is whole and of a kind that stb_image reads, before it does.

   stb_image takes tables of codes with any number of codes, and decodes with tables that were never
   defined, by what happens to be in memory. */
#include "kinds.h"

/* A marker, its length and what belongs to it. */
typedef struct jpeg_segment {
  const uint8_t *bytes;
  size_t end, left; /* by its length; in the file, where stb_image reads on */
} jpeg_segment;

static unsigned byte_at(const jpeg_segment *segment, size_t at) {
  return at < segment->left ? segment->bytes[at] : 0;
}

/* What a scan's values are decoded with: a bit for each table that is defined. */
typedef struct jpeg_tables {
  unsigned dc, ac, quantities;
  unsigned wanted; /* quantities of the frame */
  int progressive;
} jpeg_tables;

/* ---- segments (ITU T.81, B.2) ---- */

/* A frame. By their markers (table B.1) some are of kinds that no decoder here reads. */
static int take_frame(const jpeg_segment *segment, jpeg_tables *tables,
                      char reason[DECODE_REASON]) {
  const unsigned marker = segment->bytes[1], components = byte_at(segment, 9);
  if (marker == 0xC3 || marker == 0xC7 || marker == 0xCB || marker == 0xCF)
    return refuse(reason, "a lossless JPEG; save it as PNG or as a common JPEG");
  if (marker >= 0xC9)
    return refuse(reason, "a JPEG with arithmetic coding; jpegtran makes it common");
  if (marker >= 0xC5) return refuse(reason, "a hierarchical JPEG; save it as a common JPEG");
  if (byte_at(segment, 4) != 8)
    return refuse(reason, "a JPEG of %u bits a colour; save it with 8 bits, or as PNG",
                  byte_at(segment, 4));
  tables->progressive = marker == 0xC2;
  for (unsigned i = 0; i < components; i++)
    tables->wanted |= 1u << (byte_at(segment, 12 + 3 * (size_t)i) & 15);
  return 1;
}

#define MOST_CODES 256u /* of a table: as many as a byte has values */

static int take_codes(const jpeg_segment *segment, jpeg_tables *tables,
                      char reason[DECODE_REASON]) {
  for (size_t at = 4; at < segment->end;) {
    unsigned codes = 0;
    for (size_t i = 1; i <= 16; i++) codes += byte_at(segment, at + i);
    if (codes > MOST_CODES)
      return refuse(reason, "damaged: a table of %u codes, where %u are the most", codes,
                    MOST_CODES);
    *(byte_at(segment, at) < 16 ? &tables->dc : &tables->ac) |= 1u << (byte_at(segment, at) & 15);
    at += 17 + codes;
  }
  return 1;
}

static void take_quantities(const jpeg_segment *segment, jpeg_tables *tables) {
  for (size_t at = 4; at < segment->end; at += byte_at(segment, at) < 16 ? 65 : 129)
    tables->quantities |= 1u << (byte_at(segment, at) & 15);
}

/* Pixels follow. Where a picture is sent in steps, one has the DC values only, or none of them. */
static int check_scan(const jpeg_segment *segment, const jpeg_tables *tables,
                      char reason[DECODE_REASON]) {
  const unsigned components = byte_at(segment, 4);
  const size_t behind = 5 + 2 * (size_t)components;
  const int dc = !tables->progressive || byte_at(segment, behind) == 0;
  const int ac = !tables->progressive || !dc;
  int good = !(tables->wanted & ~tables->quantities);
  for (unsigned i = 0; i < components; i++) {
    const unsigned chosen = byte_at(segment, 6 + 2 * (size_t)i);
    good = good && (!dc || (tables->dc >> (chosen >> 4) & 1));
    good = good && (!ac || (tables->ac >> (chosen & 15) & 1));
  }
  return good || refuse(reason, "damaged: a table that its pixels are coded with is missing");
}

static int take_segment(const jpeg_segment *segment, jpeg_tables *tables,
                        char reason[DECODE_REASON]) {
  const unsigned marker = segment->bytes[1];
  if (marker == 0xC4) return take_codes(segment, tables, reason);
  if (marker == 0xDA) return check_scan(segment, tables, reason);
  if (marker == 0xDB) take_quantities(segment, tables);
  if (marker < 0xC0 || marker > 0xCF || marker == 0xC8 || marker == 0xCC) return 1;
  return take_frame(segment, tables, reason);
}

/* ---- the file ---- */

/* Every segment, to the mark that ends the picture. Within the pixels 0xFF stands before a 0 or is a
   mark to start anew from; before a marker it may stand any number of times, and behind a segment there
   may be padding. A preview in a segment has an end of its own, which does not count. */
int check_jpeg(file_bytes file, char reason[DECODE_REASON]) {
  jpeg_tables tables = {0, 0, 0, 0, 0};
  for (size_t at = 2; at + 1 < file.size;) {
    const int marker = file.bytes[at + 1];
    if (file.bytes[at] != 0xFF || marker == 0 || marker == 0xFF ||
        (marker >= 0xD0 && marker <= 0xD7)) {
      at++;
      continue;
    }
    if (marker == 0xD9) return 1;
    const size_t left = file.size - at;
    const size_t length = left >= 4 ? read_number(file.bytes + at + 2, 2, 0) : 0;
    const jpeg_segment segment = {file.bytes + at, 2 + length, left};
    if (!take_segment(&segment, &tables, reason)) return 0;
    at += segment.end;
  }
  return cut_off(reason);
}
