/* exif.c - how a camera was held, from JPEG, PNG and WebP files: one of eight ways, and bytes behind
   the end are not looked at. Runs: 100000. */
#include "decode/kinds.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  uint8_t *bytes = malloc(size + !size); /* just as long, so that reading behind it is seen */
  FUZZ_CHECK(bytes);
  memcpy(bytes, data, size);
  const file_bytes file = {bytes, size};
  const int ways[] = {orientation_of_jpeg(file), orientation_of_png(file),
                      orientation_of_webp(file)};
  for (int i = 0; i < 3; i++) FUZZ_CHECK(ways[i] >= 1 && ways[i] <= 8);
  free(bytes);
  return 0;
}
