/* stb.h - stb_image and stb_image_write as the tools use them: reasons in words for users, and a limit on the memory of its decoders. */
#ifndef TALLY_STB_H
#define TALLY_STB_H

#include <stddef.h>
#include <stb/stb_image.h>
#include <stb/stb_image_write.h>

/* The largest block of memory, in bytes, that decoders may have in this thread; 0: no limit. Without
   one a small file can unpack to gigabytes. */
extern __thread size_t decoder_limit;
/* Set where more was asked for; whoever reads it clears it first. */
extern __thread int decoder_exceeded;

#endif
