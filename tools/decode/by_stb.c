/* The formats that stb_image decodes, with what it does not look at itself: limits before memory is
   taken, and whether it asked for bytes that are not in the file. */
#include <stdlib.h>
#include <string.h>

#include "kinds.h"
#include "../implementations/stb.h"

/* stb_image takes what lies behind the end of a file for zeros, and can wait for ever among them for
   something else. It reads through these functions instead, so that a file that is cut off is known as
   such, and gets 0 and 255 in turn behind its end, for one of which every loop ends. It fills its own
   buffer by asking for more than it needs, always at the address of its first call; what it asks for
   elsewhere it needs. */
typedef struct stb_source {
  const uint8_t *bytes;
  size_t size, at;
  char *buffer;
  int missing; /* whether it needed what is not there */
} stb_source;

static int source_read(void *user, char *to, int count) {
  stb_source *source = user;
  const size_t left = source->size - source->at, wanted = (size_t)count;
  const size_t given = wanted < left ? wanted : left;
  if (!source->buffer) source->buffer = to;
  memcpy(to, source->bytes + source->at, given);
  source->at += given;
  if (given == wanted || (to == source->buffer && given)) return (int)given;
  for (size_t i = given; i < wanted; i++) to[i] = (char)((i - given) % 2 ? 255 : 0);
  source->missing = 1;
  return count;
}

static void source_skip(void *user, int count) {
  stb_source *source = user;
  const size_t left = source->size - source->at;
  if (count < 0 || (size_t)count > left) source->missing = 1;
  if (count > 0) source->at += (size_t)count < left ? (size_t)count : left;
}

static int source_end(void *user) {
  const stb_source *source = user;
  return source->at == source->size;
}

/* The size of a picture, and the limit on the memory of its decoder, which the caller takes off. */
static int stb_size(const file_view *file, int64_t most_pixels, int *width, int *height,
                    char reason[DECODE_REASON]) {
  int channels;
  if (!stbi_info_from_memory(file->bytes, (int)file->size, width, height, &channels))
    return refuse(reason, "it cannot be decoded: %s", stbi_failure_reason());
  if (refuse_size(*width, *height, most_pixels, reason)) return -1;
  /* Twice 16-bit RGBA covers every format's scratch. */
  decoder_limit = (size_t)*width * (size_t)*height * 16 + ((size_t)1 << 20) + file->size;
  return 0;
}

int decode_stb(const file_view *file, int64_t most_pixels, decoded_picture *out,
               char reason[DECODE_REASON]) {
  static const stbi_io_callbacks callbacks = {source_read, source_skip, source_end};
  stb_source source = {file->bytes, file->size, 0, NULL, 0};
  int width, height, channels;
  if (stb_size(file, most_pixels, &width, &height, reason)) return -1;
  uint8_t *pixels = stbi_load_from_callbacks(&callbacks, &source, &width, &height, &channels, 0);
  decoder_limit = 0;
  if (pixels && !source.missing) {
    *out = (decoded_picture){pixels, height, width, channels};
    return 0;
  }
  free(pixels);
  if (source.missing)
    return refuse(reason, "the file is cut off: its header promises %d x %d pixels", width, height);
  return refuse(reason, "it cannot be decoded: %s", stbi_failure_reason());
}

int decode_stb_whole(const file_view *file, int64_t most_pixels, int channels, decoded_picture *out,
                     char reason[DECODE_REASON]) {
  int width, height, stored;
  if (stb_size(file, most_pixels, &width, &height, reason)) return -1;
  uint8_t *pixels =
      stbi_load_from_memory(file->bytes, (int)file->size, &width, &height, &stored, channels);
  decoder_limit = 0;
  if (!pixels) return refuse(reason, "it cannot be decoded: %s", stbi_failure_reason());
  *out = (decoded_picture){pixels, height, width, channels ? channels : stored};
  return 0;
}

/* Byte 17 of the header tells how many bits are alpha, which some write who have none, and whether rows
   go from the right to the left (Truevision TGA specification, version 2.0); stb_image looks at neither. */
int decode_tga(const file_view *file, int64_t most_pixels, decoded_picture *out,
               char reason[DECODE_REASON]) {
  if (decode_stb(file, most_pixels, out, reason)) return -1;
  const size_t count = (size_t)out->width * (size_t)out->height;
  const uint8_t flags = file->bytes[17];
  if (out->channels == 4 && !(flags & 15))
    for (size_t i = 0; i < count; i++) out->pixels[4 * i + 3] = 255;
  show_if_all_hidden(out);
  return turn_upright(out, flags & 0x10 ? 2 : 1, reason);
}
