/* HEIC, HEIF and AVIF (ISO/IEC 23008-12), by libheif. The first picture of several is the one that the
   file calls its primary one. libheif turns it as the file says; its Exif block says the same again,
   so that is not looked at. */
#include <stdlib.h>
#include <string.h>

#include "kinds.h"

/* The file's first box names its brands, the main one first; any of them may be the one. */
int is_heif(const uint8_t *bytes, size_t size) {
  static const char brands[][5] = {"heic", "heix", "heim", "heis", "hevc", "hevx",
                                   "mif1", "msf1", "avif", "avis", "mif2"};
  if (size < 16 || memcmp(bytes + 4, "ftyp", 4)) return 0;
  const size_t length = big_32(bytes), end = length < size ? length : size;
  for (size_t at = 8; at + 4 <= end; at += 4)
    for (size_t i = 0; at != 12 && i < sizeof brands / sizeof *brands; i++)
      if (!memcmp(bytes + at, brands[i], 4)) return 1;
  return 0;
}

#ifndef HAVE_LIBHEIF

int decode_heif(const file_view *file, int64_t most_pixels, decoded_picture *out,
                char reason[DECODE_REASON]) {
  (void)file;
  (void)most_pixels;
  (void)out;
  return refuse_library("HEIC or AVIF", "libheif-dev",
                        "heif-convert OLD.heic NEW.png (Debian: libheif-examples)", reason);
}

#else
#include <libheif/heif.h>

/* Refuses what is wrong in the codes rather than filling it up. */
static struct heif_decoding_options *strict_options(void) {
  struct heif_decoding_options *options = heif_decoding_options_alloc();
#if LIBHEIF_HAVE_VERSION(1, 15, 0)
  if (options) options->strict_decoding = 1;
#endif
  return options;
}

static int copy_pixels(const struct heif_image *image, int has_alpha, decoded_picture *out,
                       char reason[DECODE_REASON]) {
  int stride;
  const uint8_t *from = heif_image_get_plane_readonly(image, heif_channel_interleaved, &stride);
  const int width = heif_image_get_width(image, heif_channel_interleaved),
            height = heif_image_get_height(image, heif_channel_interleaved);
  const size_t row = (size_t)width * (has_alpha ? 4 : 3);
  if (!from || width < 1 || height < 1)
    return refuse(reason, "it cannot be decoded: libheif gives no pixels");
  uint8_t *pixels = malloc(row * (size_t)height);
  if (!pixels) return refuse(reason, "out of memory");
  for (int y = 0; y < height; y++)
    memcpy(pixels + row * (size_t)y, from + (size_t)stride * (size_t)y, row);
  *out = (decoded_picture){pixels, height, width, has_alpha ? 4 : 3};
  return 0;
}

static int refuse_heif(struct heif_error error, char reason[DECODE_REASON]) {
  if (error.code == heif_error_Memory_allocation_error &&
      error.subcode != heif_suberror_Security_limit_exceeded)
    return refuse(reason, "out of memory");
  return refuse(reason, "it cannot be decoded: %s", error.message);
}

static int decode_primary(const struct heif_image_handle *handle, int64_t most_pixels,
                          decoded_picture *out, char reason[DECODE_REASON]) {
  if (refuse_size(heif_image_handle_get_width(handle), heif_image_handle_get_height(handle),
                  most_pixels, reason))
    return -1;
  const int has_alpha = heif_image_handle_has_alpha_channel(handle);
  struct heif_decoding_options *options = strict_options();
  struct heif_image *image = NULL;
  const struct heif_error error = heif_decode_image(
      handle, &image, heif_colorspace_RGB,
      has_alpha ? heif_chroma_interleaved_RGBA : heif_chroma_interleaved_RGB, options);
  const int failed =
      error.code ? refuse_heif(error, reason) : copy_pixels(image, has_alpha, out, reason);
  if (image) heif_image_release(image);
  heif_decoding_options_free(options);
  return failed;
}

int decode_heif(const file_view *file, int64_t most_pixels, decoded_picture *out,
                char reason[DECODE_REASON]) {
  struct heif_context *context = heif_context_alloc();
  struct heif_image_handle *handle = NULL;
  if (!context) return refuse(reason, "out of memory");
  struct heif_error error =
      heif_context_read_from_memory_without_copy(context, file->bytes, file->size, NULL);
  if (!error.code) error = heif_context_get_primary_image_handle(context, &handle);
  const int failed =
      error.code ? refuse_heif(error, reason) : decode_primary(handle, most_pixels, out, reason);
  if (handle) heif_image_handle_release(handle);
  heif_context_free(context);
  return failed;
}

#endif
