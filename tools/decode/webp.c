/* webp.c - WebP files by libwebp. */
#include "kinds.h"

#ifdef HAVE_LIBWEBP

#include <stdlib.h>
#include <webp/decode.h>

int webp_picture(file_bytes file, int64_t most_pixels, decoded_picture *out,
                 char reason[DECODE_REASON]) {
  WebPBitstreamFeatures features;
  if (WebPGetFeatures(file.bytes, file.size, &features) != VP8_STATUS_OK)
    return refuse(reason, "damaged: its header is not a WebP's");
  if (features.has_animation)
    return refuse(reason, "a moving WebP; webpmux -get frame 1 takes a picture out of it");
  const int channels = features.has_alpha ? 4 : 3;
  if (!make_room(out, features.height, features.width, channels, most_pixels, reason)) return 0;
  const size_t row = (size_t)features.width * (size_t)channels,
               size = row * (size_t)features.height;
  const uint8_t *good = channels == 4
                            ? WebPDecodeRGBAInto(file.bytes, file.size, out->pixels, size, (int)row)
                            : WebPDecodeRGBInto(file.bytes, file.size, out->pixels, size, (int)row);
  if (good && turn_upright(out, orientation_of_webp(file))) return 1;
  free(out->pixels);
  return refuse(reason, good ? "out of memory" : "the file is cut off or damaged");
}

#else

int webp_picture(file_bytes file, int64_t most_pixels, decoded_picture *out,
                 char reason[DECODE_REASON]) {
  (void)file, (void)most_pixels, (void)out;
  return refuse(reason,
                "a WebP: to read it, install libwebp (Debian: libwebp-dev) and run make again; "
                "or convert it with dwebp");
}

#endif
