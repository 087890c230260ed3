/* WebP (RIFF container as Google's specification describes it), by libwebp. */
#include <stdlib.h>
#include <string.h>

#include "kinds.h"

int is_webp(const uint8_t *bytes, size_t size) {
  return size >= 12 && !memcmp(bytes, "RIFF", 4) && !memcmp(bytes + 8, "WEBP", 4);
}

#ifndef HAVE_LIBWEBP

int decode_webp(const file_view *file, int64_t most_pixels, decoded_picture *out,
                char reason[DECODE_REASON]) {
  (void)file;
  (void)most_pixels;
  (void)out;
  return refuse_library("WebP", "libwebp-dev", "dwebp OLD.webp -o NEW.png (Debian: webp)", reason);
}

#else
#include <webp/decode.h>
#include <webp/demux.h>

/* Where the file ends by its own account: behind the length of all chunks. */
static size_t riff_size(const file_view *file) {
  return 8 + (size_t)little_32(file->bytes + 4);
}

/* The first frame of an animation, in its place on the canvas. */
static int decode_frame(const uint8_t *bytes, size_t size, decoded_picture *out) {
  const WebPData data = {bytes, size};
  const size_t count = (size_t)out->width * (size_t)out->height * 4;
  WebPAnimDecoder *decoder = WebPAnimDecoderNew(&data, NULL);
  uint8_t *canvas;
  int time, failed = -1;
  if (decoder && WebPAnimDecoderGetNext(decoder, &canvas, &time)) {
    out->channels = 4;
    out->pixels = malloc(count);
    if (out->pixels) memcpy(out->pixels, canvas, count);
    failed = out->pixels ? 0 : -1;
  }
  WebPAnimDecoderDelete(decoder);
  return failed;
}

static int decode_still(const uint8_t *bytes, size_t size, int has_alpha, decoded_picture *out) {
  out->channels = has_alpha ? 4 : 3;
  const size_t stride = (size_t)out->width * (size_t)out->channels,
               count = stride * (size_t)out->height;
  out->pixels = malloc(count);
  if (!out->pixels) return -1;
  if ((has_alpha ? WebPDecodeRGBAInto : WebPDecodeRGBInto)(bytes, size, out->pixels, count,
                                                           (int)stride))
    return 0;
  free(out->pixels);
  return -1;
}

int decode_webp(const file_view *file, int64_t most_pixels, decoded_picture *out,
                char reason[DECODE_REASON]) {
  WebPBitstreamFeatures features;
  const size_t size = riff_size(file);
  if (size > file->size) return refuse(reason, "the file is cut off: its end is missing");
  if (WebPGetFeatures(file->bytes, size, &features) != VP8_STATUS_OK)
    return refuse(reason, "the file is damaged: libwebp does not understand its header");
  if (refuse_size(features.width, features.height, most_pixels, reason)) return -1;
  decoded_picture got = {NULL, features.height, features.width, 0};
  if (features.has_animation ? decode_frame(file->bytes, size, &got)
                             : decode_still(file->bytes, size, features.has_alpha, &got))
    return refuse(reason, "the file is damaged: libwebp cannot decode it");
  *out = got;
  return turn_upright(out, webp_orientation(file->bytes, size), reason);
}

#endif
