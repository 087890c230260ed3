/* heif.c - HEIC and AVIF files by libheif, which turns and mirrors them as they say themselves. */
#include "kinds.h"

#ifdef HAVE_LIBHEIF

#include <libheif/heif.h>
#include <stdlib.h>
#include <string.h>

static int refuse_heif(char reason[DECODE_REASON], struct heif_error error) {
  if (error.code == heif_error_Memory_allocation_error &&
      error.subcode != heif_suberror_Security_limit_exceeded)
    return refuse(reason, "out of memory");
  return refuse(reason, "%.200s", error.message ? error.message : "it cannot be decoded");
}

static int copy_pixels(const struct heif_image *image, int channels, int64_t most_pixels,
                       decoded_picture *out, char reason[DECODE_REASON]) {
  int stride;
  const uint8_t *from = heif_image_get_plane_readonly(image, heif_channel_interleaved, &stride);
  const int width = heif_image_get_width(image, heif_channel_interleaved),
            height = heif_image_get_height(image, heif_channel_interleaved);
  if (!from) return refuse(reason, "it cannot be decoded");
  if (!make_room(out, height, width, channels, most_pixels, reason)) return 0;
  const size_t row = (size_t)width * (size_t)channels;
  for (size_t y = 0; y < (size_t)height; y++)
    memcpy(out->pixels + y * row, from + y * (size_t)stride, row);
  return 1;
}

static int decode_handle(const struct heif_image_handle *handle, int64_t most_pixels,
                         decoded_picture *out, char reason[DECODE_REASON]) {
  struct heif_image *image = NULL;
  const int64_t pixels =
      (int64_t)heif_image_handle_get_width(handle) * heif_image_handle_get_height(handle);
  const int alpha = heif_image_handle_has_alpha_channel(handle);
  if (pixels > most_pixels) return refuse(reason, "more than %lld pixels", (long long)most_pixels);
  struct heif_error error =
      heif_decode_image(handle, &image, heif_colorspace_RGB,
                        alpha ? heif_chroma_interleaved_RGBA : heif_chroma_interleaved_RGB, NULL);
  if (error.code != heif_error_Ok) return refuse_heif(reason, error);
  const int good = copy_pixels(image, alpha ? 4 : 3, most_pixels, out, reason);
  heif_image_release(image);
  return good;
}

int heif_picture(file_bytes file, int64_t most_pixels, decoded_picture *out,
                 char reason[DECODE_REASON]) {
  struct heif_context *context = heif_context_alloc();
  struct heif_image_handle *handle = NULL;
  int good = 0;
  if (!context) return refuse(reason, "out of memory");
  struct heif_error error =
      heif_context_read_from_memory_without_copy(context, file.bytes, file.size, NULL);
  if (error.code == heif_error_Ok) error = heif_context_get_primary_image_handle(context, &handle);
  if (error.code == heif_error_Ok)
    good = decode_handle(handle, most_pixels, out, reason);
  else
    refuse_heif(reason, error);
  if (handle) heif_image_handle_release(handle);
  heif_context_free(context);
  return good;
}

#else

int heif_picture(file_bytes file, int64_t most_pixels, decoded_picture *out,
                 char reason[DECODE_REASON]) {
  (void)file, (void)most_pixels, (void)out;
  return refuse(reason,
                "an HEIC or AVIF: to read it, install libheif (Debian: libheif-dev) and run make "
                "again; or convert it with heif-convert");
}

#endif
