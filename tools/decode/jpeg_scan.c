/* Whether the scans of a JPEG file are whole. stb_image fills up with grey what a scan lacks, stops
   silently at a wrong restart marker and passes over what is left, so a file with a part missing in
   its middle looks like a picture. Here Huffman codes are followed as annexes F and G of ITU-T T.81
   say, and have to end where the scan ends. */
#include <stdlib.h>

#include "jpeg.h"

/* A fourth more than the largest DC coefficient that pixels of 8 bits have: some encoders overshoot on
   purpose so that white stays white. After a wrong bit the prediction soon leaves this range. */
#define MOST_DC 1280

/* Bits of a scan. Behind its end come zeros, which are counted. */
typedef struct bit_reader {
  const uint8_t *at, *end;
  uint64_t held; /* the next bits, left-aligned */
  int count;     /* of them */
  int made_up;   /* of these, at their end */
} bit_reader;

typedef struct scan {
  bit_reader bits;
  int count; /* of components */
  jpeg_component *components[4];
  const jpeg_codes *dc[4], *ac[4];
  int first, last; /* coefficients */
  int high, low;   /* bits of them: successive approximation */
  int progressive;
  int dc_before[4];  /* the prediction, sequential only */
  int dc_most[4];    /* of its absolute value */
  unsigned zero_run; /* blocks that are still without coefficients, progressive only */
} scan;

static void refill(bit_reader *bits) {
  while (bits->count <= 56) {
    uint64_t byte = 0;
    if (bits->at < bits->end && (*bits->at != 0xFF || (bits->at + 1 < bits->end && !bits->at[1]))) {
      byte = *bits->at;
      bits->at += byte == 0xFF ? 2 : 1; /* a zero is stuffed behind 0xFF */
    } else {
      bits->made_up += 8;
    }
    bits->held |= byte << (56 - bits->count);
    bits->count += 8;
  }
}

/* At most 16 bits, which refill() has provided for. */
static unsigned take(bit_reader *bits, int count) {
  if (!count) return 0;
  const unsigned value = (unsigned)(bits->held >> (64 - count));
  bits->held <<= count;
  bits->count -= count;
  return value;
}

static unsigned take_bit(bit_reader *bits) {
  if (!bits->count) refill(bits);
  return take(bits, 1);
}

/* The next symbol, with at least 16 bits behind it still held; -1 if there is no such code. */
static int take_symbol(bit_reader *bits, const jpeg_codes *codes) {
  if (bits->count < 32) refill(bits);
  const unsigned entry = codes->lookup[bits->held >> (64 - JPEG_LOOKUP)];
  if (entry) {
    take(bits, (int)(entry >> 8));
    return entry & 255;
  }
  const uint32_t code = (uint32_t)(bits->held >> 48);
  int length = JPEG_LOOKUP + 1;
  while (length <= 16 && code >= codes->limit[length]) length++;
  if (length > 16) return -1;
  take(bits, length);
  return codes->symbols[(int)(code >> (16 - length)) + codes->offset[length]];
}

/* ---- blocks ---------------------------------------------------------------------------------- */

/* A number of `size` bits as annex F writes it (F.2.2.1). */
static int take_number(bit_reader *bits, int size) {
  const int value = (int)take(bits, size);
  return size && value < 1 << (size - 1) ? value - (1 << size) + 1 : value;
}

static int check_sequential(scan *s, int i) {
  const int size = take_symbol(&s->bits, s->dc[i]);
  if (size < 0 || size > 11) return -1;
  s->dc_before[i] += take_number(&s->bits, size);
  if (abs(s->dc_before[i]) > s->dc_most[i]) return -1;
  for (int k = 1; k < 64;) {
    const int symbol = take_symbol(&s->bits, s->ac[i]);
    if (symbol < 0) return -1;
    if (!symbol) break;
    if (!(symbol & 15) && symbol != 0xF0) return -1;
    k += (symbol >> 4) + 1;
    if (k > 64) return -1;
    take(&s->bits, symbol & 15);
  }
  return 0;
}

static int check_dc_first(scan *s, int i) {
  const int size = take_symbol(&s->bits, s->dc[i]);
  if (size < 0 || size > 11) return -1;
  take(&s->bits, size);
  return 0;
}

/* The first bits of coefficients (G.1.2.2). */
static int check_ac_first(scan *s, uint64_t *nonzero) {
  if (s->zero_run) return s->zero_run--, 0;
  for (int k = s->first; k <= s->last; k++) {
    const int symbol = take_symbol(&s->bits, s->ac[0]), run = symbol >> 4;
    if (symbol < 0) return -1;
    if (!(symbol & 15) && run < 15) {
      s->zero_run = (1u << run) + take(&s->bits, run) - 1;
      return 0;
    }
    k += run;
    if (k > s->last) return -1;
    take(&s->bits, symbol & 15);
    if (symbol & 15) *nonzero |= (uint64_t)1 << k;
  }
  return 0;
}

/* One more bit of each coefficient that is not 0, from k on, until `zeros` that are have been passed
   over and another one is reached. Returns its index, or s->last + 1. */
static int refine_until(scan *s, uint64_t nonzero, int k, int zeros) {
  for (; k <= s->last; k++) {
    if (nonzero >> k & 1)
      take_bit(&s->bits);
    else if (zeros-- == 0)
      break;
  }
  return k;
}

/* Later bits of coefficients (G.1.2.3). */
static int check_ac_refined(scan *s, uint64_t *nonzero) {
  const uint64_t before = *nonzero;
  int k = s->first;
  while (!s->zero_run && k <= s->last) {
    const int symbol = take_symbol(&s->bits, s->ac[0]), run = symbol >> 4, size = symbol & 15;
    if (symbol < 0 || size > 1) return -1;
    if (!size && run < 15) {
      s->zero_run = (1u << run) + take(&s->bits, run);
      break;
    }
    take(&s->bits, size); /* its sign */
    k = refine_until(s, before, k, run);
    if (k > s->last) return size ? -1 : 0;
    if (size) *nonzero |= (uint64_t)1 << k;
    k++;
  }
  if (!s->zero_run) return 0;
  refine_until(s, before, k, 64);
  s->zero_run--;
  return 0;
}

static int check_block(scan *s, int i, int row, int column) {
  const jpeg_component *of = s->components[i];
  if (!s->progressive) return check_sequential(s, i);
  if (s->first == 0) {
    if (!s->high) return check_dc_first(s, i);
    take_bit(&s->bits);
    return 0;
  }
  uint64_t *nonzero = &of->nonzero[(size_t)row * (size_t)of->blocks_across + (size_t)column];
  return s->high ? check_ac_refined(s, nonzero) : check_ac_first(s, nonzero);
}

/* ---- scans ----------------------------------------------------------------------------------- */

/* A unit is a block, or if several components are interleaved some of each. */
static int check_unit(scan *s, int row, int column) {
  if (s->count == 1) return check_block(s, 0, row, column);
  for (int i = 0; i < s->count; i++) {
    const jpeg_component *of = s->components[i];
    for (int y = 0; y < of->down; y++)
      for (int x = 0; x < of->across; x++)
        if (check_block(s, i, row * of->down + y, column * of->across + x)) return -1;
  }
  return 0;
}

static int refuse_end(const bit_reader *bits, char reason[DECODE_REASON]) {
  return bits->at < bits->end ? refuse(reason, JPEG_DAMAGED "a part of its pixels is missing")
                              : refuse(reason, JPEG_CUT);
}

static int at_marker(const bit_reader *bits) {
  return bits->end - bits->at > 1 && bits->at[0] == 0xFF && bits->at[1];
}

/* Behind the last unit: whether all bits have been used but those that fill up a byte. Bytes of zeros
   or ones behind them are put up with, as some cameras write them. Goes to the next marker. */
static int check_end(bit_reader *bits, char reason[DECODE_REASON]) {
  unsigned left = 0, ones = 255;
  take(bits, (bits->count - bits->made_up) % 8);
  while (bits->count > bits->made_up) {
    const unsigned byte = take(bits, 8);
    left |= byte;
    ones &= byte;
  }
  for (; bits->at < bits->end && !at_marker(bits); bits->at++) {
    left |= *bits->at;
    ones &= *bits->at ? *bits->at : 255u;
  }
  if (left && ones != 255)
    return refuse(reason, JPEG_DAMAGED "there are more codes in it than pixels");
  while (at_marker(bits) && bits->at[1] == 0xFF) bits->at++;
  *bits = (bit_reader){bits->at, bits->end, 0, 0, 0};
  return 0;
}

static int check_restart(scan *s, unsigned number, char reason[DECODE_REASON]) {
  if (check_end(&s->bits, reason)) return -1;
  if (!at_marker(&s->bits) || s->bits.at[1] != 0xD0 + number % 8)
    return refuse_end(&s->bits, reason);
  s->bits.at += 2;
  for (int i = 0; i < 4; i++) s->dc_before[i] = 0;
  s->zero_run = 0;
  return 0;
}

static int check_units(const jpeg_file *jpeg, scan *s, char reason[DECODE_REASON]) {
  const jpeg_component *only = s->count == 1 ? s->components[0] : NULL;
  const int across = only ? only->blocks_across : jpeg->units_across,
            down = only ? only->blocks_down : jpeg->units_down;
  unsigned since = 0, restarts = 0;
  for (int y = 0; y < down; y++)
    for (int x = 0; x < across; x++, since++) {
      if (jpeg->restart_interval && since == jpeg->restart_interval) {
        if (check_restart(s, restarts++, reason)) return -1;
        since = 0;
      }
      const int failed = check_unit(s, y, x);
      if (!failed && s->bits.made_up <= s->bits.count) continue;
      if (s->bits.made_up) return refuse_end(&s->bits, reason);
      return refuse(reason, JPEG_DAMAGED "its codes make no picture from row %d on",
                    (int)((int64_t)y * jpeg->height / down));
    }
  return check_end(&s->bits, reason);
}

/* A component that a scan names, and its tables. */
static int read_component(jpeg_file *jpeg, scan *s, int i, const uint8_t *from,
                          char reason[DECODE_REASON]) {
  jpeg_component *of = jpeg->components;
  const jpeg_component *end = of + jpeg->count;
  while (of < end && of->id != from[0]) of++;
  if (of == end || (from[1] & 0xCC)) return refuse(reason, JPEG_DAMAGED "a scan's header");
  s->components[i] = of;
  s->dc[i] = &jpeg->dc[from[1] >> 4];
  s->ac[i] = &jpeg->ac[from[1] & 3];
  const int needs_dc = s->first == 0 && s->high == 0, needs_ac = s->last > 0;
  if ((needs_dc && !s->dc[i]->defined) || (needs_ac && !s->ac[i]->defined) ||
      !jpeg->dc_step[of->quantisation])
    return refuse(reason, "it lacks the tables that its pixels are coded by");
  if (!needs_dc && !of->scanned)
    return refuse(reason, JPEG_DAMAGED "the first scan of a colour is missing");
  of->scanned = 1;
  s->dc_most[i] = MOST_DC / jpeg->dc_step[of->quantisation] + 1;
  return 0;
}

static int read_header(jpeg_file *jpeg, scan *s, char reason[DECODE_REASON]) {
  const uint8_t *header = jpeg->bytes + jpeg->at;
  const size_t left = jpeg->size - jpeg->at;
  if (left < 3 || left < big_16(header)) return refuse(reason, JPEG_CUT);
  const size_t length = big_16(header);
  s->count = header[2];
  s->progressive = jpeg->frame == 0xC2;
  if (s->count < 1 || s->count > jpeg->count || length != 6 + 2 * (size_t)s->count)
    return refuse(reason, JPEG_DAMAGED "a scan's header");
  const uint8_t *range = header + length - 3;
  s->first = range[0];
  s->last = s->progressive ? range[1] : 63;
  s->high = range[2] >> 4;
  s->low = range[2] & 15;
  const int is_range =
      s->progressive
          ? s->first ? s->first <= s->last && s->last < 64 && s->count == 1 : s->last == 0
          : s->first == 0 && s->high == 0 && s->low == 0;
  if (!is_range || s->high > 13 || s->low > 13)
    return refuse(reason, JPEG_DAMAGED "a scan's header");
  for (int i = 0; i < s->count; i++)
    if (read_component(jpeg, s, i, header + 3 + 2 * i, reason)) return -1;
  jpeg->at += length;
  return 0;
}

int jpeg_check_scan(jpeg_file *jpeg, char reason[DECODE_REASON]) {
  scan s = {.count = 0};
  if (read_header(jpeg, &s, reason)) return -1;
  s.bits.at = jpeg->bytes + jpeg->at;
  s.bits.end = jpeg->bytes + jpeg->size;
  if (check_units(jpeg, &s, reason)) return -1;
  jpeg->at = (size_t)(s.bits.at - jpeg->bytes);
  return 0;
}
