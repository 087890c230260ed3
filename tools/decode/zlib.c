/* What zlib packed, in PNG and TIFF (RFC 1950): unpacked by stb_image, which does not look at the sum
   behind it. */
#include "kinds.h"
#include "../implementations/stb.h"

static uint32_t adler_32(const uint8_t *bytes, size_t size) {
  uint32_t a = 1, b = 0;
  while (size) {
    size_t count = size < 5552 ? size : 5552; /* the sums of as many cannot overflow */
    for (size -= count; count; count--) {
      a += *bytes++;
      b += a;
    }
    a %= 65521;
    b %= 65521;
  }
  return b << 16 | a;
}

/* Whether a sum stands behind what has been unpacked. That is where the bytes end, but for a few
   encoders that add more. */
static int has_sum(const uint8_t *bytes, size_t size, uint32_t sum) {
  for (size_t at = size - 3; at-- > 2;)
    if (big_32(bytes + at) == sum) return 1;
  return 0;
}

size_t unpack_zlib(const uint8_t *packed, size_t packed_size, uint8_t *to, size_t room,
                   char reason[DECODE_REASON]) {
  int count = -1;
  if (packed_size > 6)
    count = stbi_zlib_decode_buffer((char *)to, (int)room, (const char *)packed, (int)packed_size);
  if (count <= 0)
    refuse(reason, "the file is damaged: its pixels cannot be unpacked");
  else if (!has_sum(packed, packed_size, adler_32(to, (size_t)count)))
    count = refuse(reason, "the file is damaged: the checksum of its pixels does not match");
  return count > 0 ? (size_t)count : 0;
}
