/* picture.c - picture files of any format, as the tools decode them: grey and in colour. What is read
   is all there; what is not has a reason. Runs: 4000. */
#include "tools.h"

#include "picture.h"

static void read_picture(const char *path, int channels) {
  picture read = {0};
  const char *reason = picture_read(path, channels, &read);
  if (reason) {
    FUZZ_CHECK(*reason && !read.pixels);
    return;
  }
  FUZZ_CHECK(read.width > 0 && read.height > 0 && read.channels == channels);
  const size_t count = (size_t)read.width * (size_t)read.height * (size_t)channels;
  uint8_t *copy = malloc(count); /* looks at every byte */
  if (copy) memcpy(copy, read.pixels, count);
  free(copy);
  free(read.pixels);
}

static void read_all(const uint8_t *data, size_t size) {
  const char *path = fuzz_file(data, size);
  FUZZ_CHECK(picture_pages(path) >= 1);
  read_picture(path, 1);
  read_picture(path, 3);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  fuzz_memory_limit = (size_t)4 << 20;
  tool_run(read_all, data, size);
  return 0;
}
