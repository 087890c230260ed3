/* JPEG (ITU-T T.81): what stb_image takes for granted is checked before it decodes. */
#include <stdlib.h>

#include "decode_formats.h"

/* stb_image fills up with grey what a cut JPEG lacks, so the mark that ends the picture has to be
   there; a preview in the header has one of its own. */
static int is_cut(const uint8_t *bytes, size_t size) {
  size_t at = 2;
  while (at + 4 <= size && bytes[at] == 0xFF && bytes[at + 1] != 0xDA)
    at += bytes[at + 1] == 0xFF ? 1 : 2 + big_16(bytes + at + 2);
  for (; at + 1 < size; at++)
    if (bytes[at] == 0xFF && bytes[at + 1] == 0xD9) return 0;
  return 1;
}

int decode_jpeg(const file_view *file, int64_t most_pixels, decoded *out,
                char reason[DECODE_REASON]) {
  if (is_cut(file->bytes, file->size))
    return refuse(reason, "the file is cut off: the picture's end is missing");
  return decode_stb_whole(file, most_pixels, out, reason);
}
