/* forms.h - pictures of forms: decoded with care, as they come from anywhere, and registered. */
#ifndef TALLY_FORMS_H
#define TALLY_FORMS_H

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif

#include "../tally.h"
#include "memory.h"
#include "picture.h"

/* Pictures come and go, several megabytes each: memory that was freed is kept for the next one, as
   clearing pages anew takes a twentieth of the time. */
static inline void keep_freed_memory(void) {
#ifdef __GLIBC__
  mallopt(M_MMAP_THRESHOLD, 32 << 20);
  mallopt(M_TRIM_THRESHOLD, 128 << 20);
#endif
}

#define FORM_MAX_PIXELS (64 << 20) /* 8192 x 8192; what is larger is not a form */

/* Registration knows pages of 0.5 to 2 pixels per template pixel. A page fills a third of its
   picture at least, so this leaves it between the two. */
static inline void form_shrink(const tally_template *form, tally_image *photo) {
  double most = 2.2 * (form->width > form->height ? form->width : form->height);
  int longer = photo->width > photo->height ? photo->width : photo->height;
  if (longer <= most) return;
  double scale = most / longer;
  tally_image smaller;
  int width = (int)(photo->width * scale + 0.5), height = (int)(photo->height * scale + 0.5);
  if (tally_resize(photo, width > 0 ? width : 1, height > 0 ? height : 1, &smaller) !=
      TALLY_OK)
    fail("out of memory");
  tally_image_free(photo);
  *photo = smaller;
}

/* Reads a form's picture in colour, at a size that can be registered. Returns 0, or why it cannot
   be read. tally_image_free releases it. */
static inline const char *form_read(const char *name, const tally_template *form,
                                    tally_image *out) {
  picture photo;
  memset(out, 0, sizeof *out);
  const char *reason = picture_read(name, 3, FORM_MAX_PIXELS, &photo);
  if (reason) return reason;
  if (photo.width > TALLY_MAX_DIMENSION || photo.height > TALLY_MAX_DIMENSION) {
    free(photo.pixels);
    return "more than 32,767 pixels on a side";
  }
  *out = (tally_image){photo.pixels, photo.width, photo.height, 3};
  form_shrink(form, out);
  return NULL;
}

/* A form's picture, registered; print is NULL if there is no reference print. Returns 0, or why it
   cannot be used. The picture is the caller's. */
static inline const char *form_register(const char *path, const tally_template *form,
                                        const tally_print *print, tally_image *photo,
                                        tally_registration *where) {
  memset(where, 0, sizeof *where);
  where->residual = -1;
  where->status = TALLY_FORM_POOR;
  const char *reason = form_read(path, form, photo);
  if (reason) return reason;
  tally_result result = tally_register_print(photo, form, print, where);
  if (result == TALLY_ERROR_MEMORY) fail("out of memory");
  if (result != TALLY_OK) return tally_result_text(result);
  return where->status == TALLY_FORM_OK ? NULL : where->reason;
}

#endif
