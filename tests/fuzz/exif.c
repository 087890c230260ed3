/* exif.c - how a camera was held, from a JPEG file and from the EXIF data in one: one of eight ways,
   and bytes behind the end are not looked at. Runs: 100000. */
#include "tools.h"

#include "picture.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  uint8_t *bytes = malloc(size + !size); /* just as long, so that reading behind it is seen */
  FUZZ_CHECK(bytes);
  memcpy(bytes, data, size);
  const int file = jpeg_orientation(bytes, size), alone = exif_orientation(bytes, size);
  FUZZ_CHECK(file >= 1 && file <= 8 && alone >= 1 && alone <= 8);
  free(bytes);
  return 0;
}
