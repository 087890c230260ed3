/* JPEG (ITU-T T.81): what stb_image takes for granted is checked before it decodes, and what it does
   not know is named. */
#include <stdlib.h>
#include <string.h>

#include "jpeg.h"
#include "../implementations/stb.h"

/* ---- segments -------------------------------------------------------------------------------- */

/* Kinds of JPEG by the marker of their frame, with the programs that convert them. */
static int refuse_kind(int marker, int precision, char reason[DECODE_REASON]) {
  const char *kind = NULL;
  if (marker >= 0xC9 && marker != 0xCB && marker != 0xCF)
    return refuse(reason, "it is a JPEG in arithmetic coding, which is not read here; convert it: "
                          "djpeg OLD.jpg >NEW.ppm (Debian: libjpeg-turbo-progs)");
  if (marker == 0xC3 || marker == 0xC7 || marker == 0xCB || marker == 0xCF)
    kind = "lossless JPEG";
  else if (marker > 0xC3)
    kind = "hierarchical JPEG";
  else if (precision != 8)
    kind = "JPEG of more than 8 bits a sample";
  if (!kind) return 0;
  return refuse(reason,
                "it is a %s, which is not read here; convert it to PNG with the program that "
                "made it, or with djpeg of libjpeg-turbo 3",
                kind);
}

static int ceiling(int of, int by) {
  return (of + by - 1) / by;
}

/* Blocks of each component, when all are known (A.1.1, A.2). */
static int count_blocks(jpeg_file *jpeg, char reason[DECODE_REASON]) {
  int most_across = 1, most_down = 1;
  for (int i = 0; i < jpeg->count; i++) {
    const jpeg_component *of = &jpeg->components[i];
    if (of->across > most_across) most_across = of->across;
    if (of->down > most_down) most_down = of->down;
  }
  jpeg->units_across = ceiling(jpeg->width, 8 * most_across);
  jpeg->units_down = ceiling(jpeg->height, 8 * most_down);
  for (int i = 0; i < jpeg->count; i++) {
    jpeg_component *of = &jpeg->components[i];
    of->blocks_across = ceiling(ceiling(jpeg->width * of->across, most_across), 8);
    of->blocks_down = ceiling(ceiling(jpeg->height * of->down, most_down), 8);
    if (jpeg->frame != 0xC2) continue;
    of->nonzero = calloc((size_t)of->blocks_across * (size_t)of->blocks_down, sizeof *of->nonzero);
    if (!of->nonzero) return refuse(reason, "out of memory");
  }
  return 0;
}

static int read_frame(jpeg_file *jpeg, int marker, const uint8_t *at, size_t length,
                      int64_t most_pixels, char reason[DECODE_REASON]) {
  if (jpeg->frame || length < 6 || length != 6 + 3 * (size_t)at[5])
    return refuse(reason, JPEG_DAMAGED "its header");
  if (refuse_kind(marker, at[0], reason)) return -1;
  jpeg->frame = marker;
  jpeg->frame_at = (size_t)(at - jpeg->bytes);
  jpeg->height = (int)big_16(at + 1);
  jpeg->width = (int)big_16(at + 3);
  jpeg->count = at[5];
  if (!jpeg->height)
    return refuse(reason, "it is a JPEG whose height is told at its end, which is not read here");
  if (refuse_size(jpeg->width, jpeg->height, most_pixels, reason)) return -1;
  if (jpeg->count < 1 || jpeg->count > 4) return refuse(reason, JPEG_DAMAGED "its header");
  for (int i = 0; i < jpeg->count; i++) {
    const uint8_t *from = at + 6 + 3 * i;
    const int across = from[1] >> 4, down = from[1] & 15;
    if (across < 1 || across > 4 || down < 1 || down > 4 || from[2] > 3)
      return refuse(reason, JPEG_DAMAGED "its header");
    jpeg->components[i] = (jpeg_component){from[0], across, down, from[2], 0, 0, 0, NULL};
  }
  return count_blocks(jpeg, reason);
}

/* Codes from the number of each length (C.2). -1 if there are more than fit. */
static int make_codes(jpeg_codes *codes, const uint8_t *counts) {
  uint32_t code = 0;
  int place = 0;
  memset(codes->lookup, 0, sizeof codes->lookup);
  for (int length = 1; length <= 16; length++) {
    codes->offset[length] = place - (int)code;
    for (int i = 0; i < counts[length - 1]; i++, code++, place++) {
      if (code >> length) return -1;
      if (length > JPEG_LOOKUP) continue;
      const uint32_t first = code << (JPEG_LOOKUP - length);
      for (uint32_t j = 0; j < 1u << (JPEG_LOOKUP - length); j++)
        codes->lookup[first + j] = (uint16_t)(length << 8 | codes->symbols[place]);
    }
    codes->limit[length] = code << (16 - length);
    code <<= 1;
  }
  return 0;
}

static int read_codes(jpeg_file *jpeg, const uint8_t *at, size_t length) {
  while (length) {
    if (length < 17 || (at[0] & 0xEC)) return -1;
    size_t count = 0;
    for (int i = 1; i <= 16; i++) count += at[i];
    if (count > 256 || length - 17 < count) return -1;
    jpeg_codes *codes = at[0] >> 4 ? &jpeg->ac[at[0] & 3] : &jpeg->dc[at[0] & 3];
    memcpy(codes->symbols, at + 17, count);
    if (make_codes(codes, at + 1)) return -1;
    codes->defined = 1;
    at += 17 + count;
    length -= 17 + count;
  }
  return 0;
}

static int read_quantisation(jpeg_file *jpeg, const uint8_t *at, size_t length) {
  while (length) {
    const size_t size = 1 + (at[0] >> 4 ? 128 : 64);
    if (length < size || (at[0] & 0xEC)) return -1;
    jpeg->dc_step[at[0] & 3] = (uint16_t)(at[0] >> 4 ? big_16(at + 1) : at[1]);
    at += size;
    length -= size;
  }
  return 0;
}

static int read_segment(jpeg_file *jpeg, int marker, const uint8_t *at, size_t length,
                        int64_t most_pixels, char reason[DECODE_REASON]) {
  int failed = 0;
  if (marker == 0xC4)
    failed = read_codes(jpeg, at, length);
  else if (marker == 0xDB)
    failed = read_quantisation(jpeg, at, length);
  else if (marker == 0xDD) {
    failed = length == 2 ? 0 : -1;
    if (!failed) jpeg->restart_interval = big_16(at);
  } else if (marker == 0xEE && length >= 12 && !memcmp(at, "Adobe\0", 6))
    jpeg->adobe = at[11];
  else if (marker == 0xF7)
    return refuse_kind(0xC3, 8, reason); /* JPEG-LS */
  else if (marker >= 0xC0 && marker <= 0xCF && marker != 0xC8 && marker != 0xCC)
    return read_frame(jpeg, marker, at, length, most_pixels, reason);
  return failed ? refuse(reason, JPEG_DAMAGED "its tables") : 0;
}

static int check_scans(const jpeg_file *jpeg, char reason[DECODE_REASON]) {
  if (jpeg->tables_only) return 0;
  if (!jpeg->frame) return refuse(reason, JPEG_DAMAGED "there is no picture in it");
  for (int i = 0; i < jpeg->count; i++)
    if (!jpeg->components[i].scanned)
      return refuse(reason, JPEG_DAMAGED "the pixels of a colour are missing");
  return 0;
}

/* Goes through the file to the mark of its end. */
static int check_segments(jpeg_file *jpeg, int64_t most_pixels, char reason[DECODE_REASON]) {
  for (;;) {
    while (jpeg->at + 1 < jpeg->size &&
           (jpeg->bytes[jpeg->at] != 0xFF || jpeg->bytes[jpeg->at + 1] == 0xFF))
      jpeg->at++; /* bytes that fill up; stb_image takes few others */
    if (jpeg->at + 1 >= jpeg->size) return refuse(reason, JPEG_CUT);
    const int marker = jpeg->bytes[jpeg->at + 1];
    jpeg->at += 2;
    if (marker == 0xD9) return check_scans(jpeg, reason);
    if (marker == 0xDA && jpeg->frame) {
      if (jpeg_check_scan(jpeg, reason)) return -1;
      continue;
    }
    if (jpeg->size - jpeg->at < 2) return refuse(reason, JPEG_CUT);
    const size_t length = big_16(jpeg->bytes + jpeg->at);
    if (length < 2 || marker == 0xDA) return refuse(reason, JPEG_DAMAGED "its header");
    if (length > jpeg->size - jpeg->at) return refuse(reason, JPEG_CUT);
    if (read_segment(jpeg, marker, jpeg->bytes + jpeg->at + 2, length - 2, most_pixels, reason))
      return -1;
    jpeg->at += length;
  }
}

/* ---- pixels ---------------------------------------------------------------------------------- */

/* One of four colours as it is stored. Of a picture without Adobe's marker stb_image gives the first
   one when it is asked for grey, so the wanted one becomes the first in the header of the frame. */
static int decode_plane(uint8_t *bytes, const jpeg_file *jpeg, int plane, decoded_picture *out,
                        char reason[DECODE_REASON]) {
  const file_view file = {.bytes = bytes, .size = jpeg->size, .descriptor = -1};
  uint8_t *first = bytes + jpeg->frame_at + 6, *wanted = first + 3 * plane, kept[3];
  memcpy(kept, first, 3);
  memmove(first, wanted, 3);
  memcpy(wanted, kept, 3);
  const int failed = decode_stb(&file, DECODE_MAX_PIXELS, 1, out, reason);
  memcpy(wanted, first, 3);
  memcpy(first, kept, 3);
  return failed;
}

/* Cyan, magenta, yellow and black, 0 being no ink (libjpeg.txt, "Special color spaces"), as light. */
static void mix_inks(decoded_picture planes[4]) {
  uint8_t *to = planes[0].pixels;
  const size_t count = (size_t)planes[0].width * (size_t)planes[0].height;
  for (size_t i = count; i-- > 0;) {
    const unsigned light = 255u - planes[3].pixels[i];
    const unsigned inks[3] = {planes[0].pixels[i], planes[1].pixels[i], planes[2].pixels[i]};
    for (int c = 0; c < 3; c++)
      to[i * 3 + (size_t)c] = (uint8_t)(((255u - inks[c]) * light + 127u) / 255u);
  }
}

/* stb_image takes four colours without Adobe's marker for something else. */
static int decode_inks(const file_view *file, const jpeg_file *jpeg, decoded_picture *out,
                       char reason[DECODE_REASON]) {
  decoded_picture planes[4] = {{NULL, 0, 0, 0}};
  uint8_t *copy = malloc(file->size);
  int failed = copy ? 0 : refuse(reason, "out of memory");
  if (copy) memcpy(copy, file->bytes, file->size);
  for (int i = 0; i < 4 && !failed; i++) failed = decode_plane(copy, jpeg, i, &planes[i], reason);
  if (!failed) {
    const size_t count = (size_t)planes[0].width * (size_t)planes[0].height;
    uint8_t *room = realloc(planes[0].pixels, count * 3);
    if (room) planes[0].pixels = room;
    failed = room ? 0 : refuse(reason, "out of memory");
  }
  if (!failed) {
    mix_inks(planes);
    *out = (decoded_picture){planes[0].pixels, planes[0].height, planes[0].width, 3};
  } else {
    free(planes[0].pixels);
  }
  for (int i = 1; i < 4; i++) free(planes[i].pixels);
  free(copy);
  return failed;
}

/* Goes through the tables, where they stand in a file of their own, and the picture. The caller frees
   what it returns, NULL with a reason. */
static jpeg_file *check_file(const file_view *tables, const file_view *picture, int64_t most_pixels,
                             char reason[DECODE_REASON]) {
  const file_view *parts[] = {tables, picture};
  jpeg_file *jpeg = calloc(1, sizeof *jpeg);
  int failed = jpeg ? 0 : refuse(reason, "out of memory");
  for (int i = tables ? 0 : 1; i < 2 && !failed; i++) {
    jpeg->bytes = parts[i]->bytes;
    jpeg->size = parts[i]->size;
    jpeg->at = 2;
    jpeg->tables_only = i == 0;
    jpeg->adobe = -1;
    failed = check_segments(jpeg, most_pixels, reason);
  }
  for (int i = 0; jpeg && i < 4; i++) free(jpeg->components[i].nonzero);
  if (!failed) return jpeg;
  free(jpeg);
  return NULL;
}

int jpeg_check(const file_view *tables, const file_view *picture, char reason[DECODE_REASON]) {
  jpeg_file *jpeg = check_file(tables, picture, DECODE_MAX_PIXELS, reason);
  free(jpeg);
  return jpeg ? 0 : -1;
}

int decode_jpeg(const file_view *file, int64_t most_pixels, decoded_picture *out,
                char reason[DECODE_REASON]) {
  jpeg_file *jpeg = check_file(NULL, file, most_pixels, reason);
  int failed;
  if (!jpeg) return -1;
  if (jpeg->count == 2)
    failed = refuse(reason, "it is a JPEG of 2 colours, which is not read here");
  else if (jpeg->count == 4 && (jpeg->adobe == 1 || jpeg->adobe > 2))
    failed = refuse(reason, JPEG_DAMAGED "Adobe's marker names no transform of four colours");
  else if (jpeg->count == 4 && jpeg->adobe < 0)
    failed = decode_inks(file, jpeg, out, reason);
  else
    failed = decode_stb(file, most_pixels, 0, out, reason);
  free(jpeg);
  return failed;
}
