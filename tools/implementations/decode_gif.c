/* GIF (CompuServe's GIF89a specification). stb_image decodes the first frame, of an animation too;
   whether the file is whole it does not look at. */
#include "decode_formats.h"

#define CUT "the file is cut off: its end is missing"
#define MOST_CODES 4096

/* The bits of a chain of blocks, each of which begins with its length; the last one has none. */
typedef struct blocks {
  const uint8_t *at, *end;
  unsigned left; /* bytes in this block */
  uint32_t held; /* the next bits, the first one lowest */
  unsigned count;
} blocks;

/* The next code of `width` bits; -1 behind the last one. */
static int take_code(blocks *from, unsigned width) {
  while (from->count < width) {
    if (!from->left) {
      if (from->at == from->end || !*from->at) return -1;
      from->left = *from->at++;
    }
    if (from->at == from->end) return -1;
    from->held |= (uint32_t)*from->at++ << from->count;
    from->count += 8;
    from->left--;
  }
  const int code = (int)(from->held & ((1u << width) - 1));
  from->held >>= width;
  from->count -= width;
  return code;
}

/* Whether codes from `least` + 1 bits on unpack to at least `pixels` pixels (appendix F). Only the
   lengths of what codes stand for are followed. */
static int check_codes(blocks *from, unsigned least, uint32_t pixels) {
  const int clear = 1 << least;
  uint32_t lengths[MOST_CODES], before = 0, done = 0; /* `before`: the length of the code before */
  int next = clear + 2;
  unsigned width = least + 1;
  while (done < pixels) {
    const int code = take_code(from, width);
    if (code < 0 || code == clear + 1 || code > next || (code == next && !before)) return -1;
    if (code == clear) {
      next = clear + 2;
      width = least + 1;
      before = 0;
      continue;
    }
    const uint32_t length = code < clear ? 1 : code == next ? before + 1 : lengths[code];
    if (before && next < MOST_CODES) lengths[next++] = before + 1;
    if (next == 1 << width && width < 12) width++;
    before = length;
    done += length;
  }
  return 0;
}

/* Behind a chain of blocks; NULL if it does not end. */
static const uint8_t *skip_blocks(const uint8_t *at, const uint8_t *end) {
  while (at < end && *at) {
    if (end - at <= *at) return NULL;
    at += 1 + *at;
  }
  return at < end ? at + 1 : NULL;
}

/* Bytes of a table of colours that this byte announces. */
static size_t table_size(uint8_t flags) {
  return flags & 0x80 ? (size_t)3 << ((flags & 7) + 1) : 0;
}

/* The descriptor of a frame; returns where its codes begin, or NULL. */
static const uint8_t *skip_descriptor(const uint8_t *at, const uint8_t *end) {
  if (end - at < 10 || (size_t)(end - at) - 10 < table_size(at[8]) + 1) return NULL;
  return at + 9 + table_size(at[8]);
}

static int check_frame(const uint8_t *descriptor, const uint8_t *codes, const uint8_t *end,
                       char reason[DECODE_REASON]) {
  blocks from = {codes + 1, end, 0, 0, 0};
  const uint32_t pixels = little_16(descriptor + 4) * little_16(descriptor + 6);
  if (*codes < 1 || *codes > 11 || check_codes(&from, *codes, pixels))
    return refuse(reason, "the file is damaged: its pixels cannot be unpacked");
  return 0;
}

/* Goes through all blocks to the trailer. */
static int check_blocks(const file_view *file, char reason[DECODE_REASON]) {
  const uint8_t *at = file->bytes + 13, *end = file->bytes + file->size;
  int frames = 0;
  if (file->size < 13 || file->size - 13 < table_size(at[-3])) return refuse(reason, CUT);
  at += table_size(at[-3]);
  while (at && at < end) {
    const uint8_t kind = *at++;
    if (kind == ';') return frames ? 0 : refuse(reason, "there is no picture in it");
    if (kind == '!')
      at = end - at > 1 ? skip_blocks(at + 1, end) : NULL;
    else if (kind == ',') {
      const uint8_t *codes = skip_descriptor(at, end);
      const uint8_t *behind = codes ? skip_blocks(codes + 1, end) : NULL;
      if (behind && !frames++ && check_frame(at, codes, end, reason)) return -1;
      at = behind;
    } else {
      return refuse(reason, "the file is damaged: it has a part that is not known");
    }
  }
  return refuse(reason, CUT);
}

int decode_gif(const file_view *file, int64_t most_pixels, decoded *out,
               char reason[DECODE_REASON]) {
  return check_blocks(file, reason) ? -1 : decode_stb(file, most_pixels, out, reason);
}
