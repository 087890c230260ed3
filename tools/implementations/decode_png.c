/* PNG (PNG specification, third edition; zlib: RFC 1950): stb_image looks at no checksum. */
#include <stdlib.h>
#include <string.h>

#include "decode_formats.h"
#include "stb.h"

int decode_png(const file_view *file, int64_t most_pixels, decoded *out,
               char reason[DECODE_REASON]) {
  int width, height, channels;
  if (file->size < 24 || memcmp(file->bytes + 12, "IHDR", 4))
    return refuse(reason, "the file is cut off or damaged: it has no header");
  if (refuse_size(big_32(file->bytes + 16), big_32(file->bytes + 20), most_pixels, reason))
    return -1;
  if (stb_size(file, most_pixels, &width, &height, reason)) return -1;
  uint8_t *pixels =
      stbi_load_from_memory(file->bytes, (int)file->size, &width, &height, &channels, 0);
  decoder_limit = 0;
  if (!pixels) return refuse(reason, "it cannot be decoded: %s", stbi_failure_reason());
  *out = (decoded){pixels, height, width, channels};
  return 0;
}
