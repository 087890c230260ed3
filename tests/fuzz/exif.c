/* exif.c - how a camera was held, from JPEG, PNG and WebP files: one of eight ways, and bytes behind
   the end are not looked at. Runs: 100000. */
#include "decode/kinds.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  uint8_t *bytes = malloc(size + !size); /* just as long, so that reading behind it is seen */
  FUZZ_CHECK(bytes);
  memcpy(bytes, data, size);
  const int ways[] = {jpeg_orientation(bytes, size), png_orientation(bytes, size),
                      webp_orientation(bytes, size)};
  for (int i = 0; i < 3; i++) FUZZ_CHECK(ways[i] >= 1 && ways[i] <= 8);
  free(bytes);
  return 0;
}
