/* What JPEG and PNG files have in common, which stb_image decodes after their own checks: a limit on
   memory before any is taken. */
#include "kinds.h"
#include "../implementations/stb.h"

#include <string.h>

int decode_stb(const file_view *file, int64_t most_pixels, int channels, decoded_picture *out,
               char reason[DECODE_REASON]) {
  const int size = (int)file->size;
  int width, height, stored;
  if (!stbi_info_from_memory(file->bytes, size, &width, &height, &stored))
    return refuse(reason, "it cannot be decoded: %s", stbi_failure_reason());
  if (refuse_size(width, height, most_pixels, reason)) return -1;
  decoder_exceeded = 0;
  /* Twice 16-bit RGBA covers the scratch of both. */
  decoder_limit = (size_t)width * (size_t)height * 16 + ((size_t)1 << 20) + file->size;
  uint8_t *pixels = stbi_load_from_memory(file->bytes, size, &width, &height, &stored, channels);
  decoder_limit = 0;
  if (!pixels && decoder_exceeded)
    return refuse(reason, "damaged: decoding it takes more memory than its size explains");
  if (!pixels && !strcmp(stbi_failure_reason(), "Out of memory"))
    return refuse(reason, "out of memory");
  if (!pixels) return refuse(reason, "it cannot be decoded: %s", stbi_failure_reason());
  *out = (decoded_picture){pixels, height, width, channels ? channels : stored};
  return 0;
}
