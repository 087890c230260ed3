/* jpeg.h - what a JPEG file says before its pixels (ITU-T T.81, annex B). Internal to decode/. */
#ifndef TALLY_DECODE_JPEG_H
#define TALLY_DECODE_JPEG_H

#include "kinds.h"

typedef struct jpeg_component {
  int id, across, down;           /* blocks of 8 x 8 in a unit of an interleaved scan */
  int quantisation;               /* its table */
  int scanned;                    /* whether its DC coefficients have been read */
  int blocks_across, blocks_down; /* that its pixels take */
  uint64_t *nonzero;              /* progressive: for each block, which coefficients are not 0 */
} jpeg_component;

#define JPEG_LOOKUP 9 /* bits; longer codes are rare */

typedef struct jpeg_codes {
  int defined;
  uint16_t lookup[1 << JPEG_LOOKUP]; /* length << 8 | symbol; 0: a longer code or none */
  uint32_t limit[17];                /* above all codes up to a length, left-aligned to 16 bits */
  int offset[17];                    /* of a length: from codes to places in symbols */
  uint8_t symbols[256];
} jpeg_codes;

typedef struct jpeg_file {
  const uint8_t *bytes;
  size_t size, at; /* `at` is where reading goes on */
  int frame;       /* the marker of its header: 0xC0 to 0xCF; 0 until it was read */
  size_t frame_at; /* of the header behind the marker's length */
  int width, height, count;
  int units_across, units_down; /* of an interleaved scan */
  jpeg_component components[4];
  jpeg_codes dc[4], ac[4];
  uint16_t dc_step[4]; /* of the quantisation tables; 0: not defined */
  unsigned restart_interval;
  int adobe;       /* the transform in Adobe's marker, or -1 */
  int tables_only; /* there is no picture in it (B.5) */
} jpeg_file;

#define JPEG_DAMAGED "the file is damaged: "
#define JPEG_CUT "the file is cut off: the picture's end is missing"

/* Reads one scan, from behind its marker to the next marker, without making pixels of it. Returns 0 if
   it holds neither more nor less than it should; or -1 with a reason. */
int jpeg_check_scan(jpeg_file *jpeg, char reason[DECODE_REASON]);

#endif
