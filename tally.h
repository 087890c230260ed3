/* tally.h - v0.1.0 - from the pixels of a scanned form to vote counts with honest uncertainty.
   MIT licence, see the end.

   DO THIS
       #define TALLY_IMPLEMENTATION      in exactly one C or C++ file, before
       #include "tally.h"
   and compile with a plain `cc -O2 file.c -lm` (C99 or C++11, any compiler). Everywhere else
   include the header without the macro. It needs libc and libm and nothing else.

   LIMITS
   - Pictures: 8 bits a channel, 1 (grey) or 3 (red, green, blue) interleaved channels, at most
     TALLY_MAX_DIMENSION pixels a side and TALLY_MAX_PIXELS in all. Files are not read here.
   - Templates: at most 64 fields of 1 to 6 digits, 16 anchors, 128 rules, 32 sums. A field that
     takes part in a sum has at most 4 digits. Sums may share fields, but not so that they close a
     loop (exactness needs a tree); the parser names the sum that would. Printed rules and boxes are
     straight, dark on light, and at most about 10 pixels thick where a cell is 48 high.
   - Digits are not recognised here: the caller brings, for each cell, probabilities over the 17
     classes 0..9, cross, empty, illegible, dash, struck out, several digits, overwritten.
   - A stroke that lies on a printed rule is told from it by being darker or broader than the rest
     of the rule, so one that covers more than five sixths of a cell's side, or is finer and lighter
     than the rule, is lost; one that crosses or touches it is kept. Ink broader than a third of a
     cell counts as stain. Ink is followed outside its box for just under half a cell.
   - Everything is deterministic. Nothing is global; every function is safe to call from several
     threads on different data.

   REGISTRATION ENVELOPE
   Cell corners come out within 2 template pixels of the truth for
     rotation      any, 90, 180 and 270 degrees included
     scale         0.5 to 2 picture pixels per template pixel (templates of 1000 or so across)
     perspective   each corner of the page displaced by up to 8 % of the page's width each way
     blur          a 3 x 3 mean; at scale 0.7 and less, none
     light         falling off to half across the page, any channel down to 0.7 (white balance)
     page          wholly or nearly in the picture, filling at least a third of its longer side; at
                   least three anchors visible, one of four may be hidden
   (tests/test_tally.c draws pages over this envelope.) Beyond it a form is either found as closely
   or refused with a reason: it is accepted only if 90 % of its printed rules are seen where they
   should be, within 2.5 template pixels, root mean square below 1.25, with no other position doing
   nearly as well. So a template should name printed rules, or have boxed cells; one with neither is
   accepted on four anchors that agree within 4 template pixels, if they do not look much the same
   from another side.

   EXAMPLE
     static void read_form(const tally_image *picture, const char *text, size_t length) {
       static tally_template form;
       static tally_registration where;
       static tally_cell cells[TALLY_MAX_FIELDS * TALLY_MAX_DIGITS];
       static double classes[TALLY_MAX_FIELDS * TALLY_MAX_DIGITS * TALLY_CLASSES];
       tally_counts counts;
       tally_error error;
       int f;
       if (tally_template_parse(text, length, &form, &error) != TALLY_OK) {
         printf("%d:%d: %s\n", error.line, error.column, error.message);
         return;
       }
       if (tally_register(picture, &form, &where) != TALLY_OK) return;
       if (where.status != TALLY_FORM_OK) {
         printf("not registered: %s\n", where.reason);
         return;
       }
       if (tally_cut(picture, &form, &where, cells) != TALLY_OK) return;
       classify(cells, form.cells, classes);  // your network: form.cells x TALLY_CLASSES
       if (tally_decode(&form, classes, cells, NULL, &counts) != TALLY_OK) return;
       for (f = 0; f < counts.fields; f++)
         printf("%s %d %s %.4f\n", form.field[f].name, counts.count[f].value,
                tally_count_status_text(counts.count[f].status), counts.count[f].probability);
       tally_counts_free(&counts);
     }

   GLOSSARY
   template pixel  unit of a template; a page is about 1000 of them wide
   anchor          something printed that locates the page: a coloured box or disc, a black square
   rule            a printed line
   field           a count's place on the form: a row of cells
   cell            one digit's box
   reading         one way to read all counts of a form
   posterior       probability of a reading, or of a count's value, given all cells and all sums

   TEMPLATE GRAMMAR
   A template is text, one statement a line. `#` starts a comment. A backslash at the end of a line
   continues the statement on the next one. Lines end as Unix or Windows end them; a byte order mark
   in front is skipped. Words are separated by blanks. Names are letters,
   digits, `_`, `-` and `.`, at most 31 bytes. Numbers are decimal, in template units ("template
   pixels"), x to the right and y down from the page's top left corner. Order is free, but page
   comes before anything with a position, and a sum comes after the fields that it names.

     form NAME                                     the form's name (once)
     page W x H                                    page size in template pixels, 100..10000 (once)
     anchor NAME colour HSV box X,Y WxH            a filled rectangle in a colour
     anchor NAME colour HSV disc X,Y rR            a filled circle, centre X,Y, radius R
     anchor NAME square X,Y WxH                    a filled black rectangle (a fiducial)
     field NAME N digits cells X,Y NxWxH [pitch P] [open]
                                                   N cells of W x H, the leftmost (most significant)
                                                   with its top left corner at X,Y, the next ones P
                                                   further right (default W: they share their
                                                   rules). Cells are boxed by printed rules on their
                                                   edges unless the word open says that nothing is
                                                   printed.
                                                   W and H at least 8, one at most 8 times the
                                                   other; P from W to 4 W.
     rule across Y from X1 to X2                   a printed horizontal rule
     rule down X from Y1 to Y2                     a printed vertical rule
     sum TOTAL = A [+ B + ...]                     the field TOTAL must be the sum of the others
     blank empty = M  cross = M  dash = M          what marks without a digit mean (once)

   HSV is hsv(H1..H2, S1..S2, V1..V2): hue in degrees, 0..360, H1 > H2 wraps through 0; saturation
   and value in percent. A mark meaning M is one of
     leading-zero   allowed before the first digit of a count; a count of crosses only (or dashes
                    only) is 0
     illegible      makes the count unreadable
   The defaults are empty = leading-zero, cross = illegible, dash = illegible. A count whose cells
   are all empty is missing, never 0. A mark to the right of a digit is never a number.
   There must be at least three anchors and one field.
*/

#ifndef TALLY_H
#define TALLY_H

#include <stddef.h>
#include <stdint.h>

/* ---- configuration ------------------------------------------------------------------------------

   TALLY_STATIC                     make every function static (private to this file)
   TALLY_MALLOC/REALLOC/FREE        all three or none; default: malloc, realloc, free
   TALLY_MAX_DIMENSION, _MAX_PIXELS caps on pictures; larger ones are refused, not read */

#ifndef TALLY_MAX_DIMENSION
#define TALLY_MAX_DIMENSION 32767
#endif
#ifndef TALLY_MAX_PIXELS
#define TALLY_MAX_PIXELS 120000000
#endif

#ifdef TALLY_STATIC
#define TALLY_API static
#elif defined(__cplusplus)
#define TALLY_API extern "C"
#else
#define TALLY_API extern
#endif

#define TALLY_VERSION "0.1.0"

#define TALLY_MAX_NAME 32 /* bytes, with the closing zero */
#define TALLY_MAX_FIELDS 64
#define TALLY_MAX_DIGITS 6
#define TALLY_MAX_SUM_DIGITS 4 /* of a field that takes part in a sum */
#define TALLY_MAX_ANCHORS 16
#define TALLY_MAX_RULES 128
#define TALLY_MAX_SUMS 32

/* ---- results ------------------------------------------------------------------------------------
   */

typedef enum {
  TALLY_OK = 0,
  TALLY_ERROR_ARGUMENT,  /* a null pointer, an impossible size, a number outside its range */
  TALLY_ERROR_MEMORY,    /* an allocation failed */
  TALLY_ERROR_TOO_LARGE, /* beyond a cap named in the limits */
  TALLY_ERROR_TEMPLATE   /* the template's text is wrong; see tally_error */
} tally_result;

/* Where and why a template was refused. line and column count from 1; 0 means the whole text. */
typedef struct {
  int line, column;
  char message[160];
} tally_error;

/* A few words for a result, never NULL. The text is static. */
TALLY_API const char *tally_result_text(tally_result result);

/* ---- 1. image -----------------------------------------------------------------------------------
   */

/* Rows lie top to bottom without padding, pixels interleaved: height x width x channels bytes.
   A picture that the caller owns can be wrapped by filling the struct in; functions that take
   a const tally_image only read it. */
typedef struct {
  uint8_t *pixels;
  int width, height, channels; /* channels 1 or 3 */
} tally_image;

/* Functions with an `out` image allocate its pixels; release them with tally_image_free. out must
   differ from the input and must not hold an image. On any error out is left empty (all zero).
   Errors: TALLY_ERROR_ARGUMENT, TALLY_ERROR_TOO_LARGE, TALLY_ERROR_MEMORY. */
TALLY_API tally_result tally_image_make(int width, int height, int channels, tally_image *out);
TALLY_API void tally_image_free(tally_image *image);

/* Grey by ITU-R BT.601, (77 R + 150 G + 29 B) / 256; a copy if the input is grey already. */
TALLY_API tally_result tally_grey(const tally_image *in, tally_image *out);

/* Each pixel is the mean over its area in the source: made for shrinking. */
TALLY_API tally_result tally_resize(const tally_image *in, int width, int height, tally_image *out);

/* 255 where a pixel is darker than the mean of the (2 radius + 1)^2 window round it (clipped at the
   borders) by more than offset levels. radius 1..1000. */
TALLY_API tally_result tally_threshold_adaptive(const tally_image *grey, int radius, int offset,
                                                tally_image *out);

/* 8-connected components of the non-zero pixels of a grey picture. labels receives width x height
   ints: 0 for background, else 1..n in raster order of each component's first pixel. parts receives
   the first `capacity` components. Returns n, or < 0 on a bad argument or lack of memory. */
typedef struct {
  int area;                     /* pixels */
  int left, top, right, bottom; /* bounding box, inclusive */
  double x, y;                  /* centroid */
  double xx, xy, yy;            /* central second moments, divided by area */
} tally_component;
TALLY_API int tally_components(const tally_image *binary, int *labels, tally_component *parts,
                               int capacity);

/* out(x, y) = in(H (x, y, 1)) by bilinear interpolation at pixel centres, to 1/256 pixel; the
   outer half of the edge's pixels is level, `fill` lies outside. h is the 3 x 3 homography by rows,
   from out to in, in pixel-corner coordinates (the centre of the first pixel is 0.5, 0.5). */
TALLY_API tally_result tally_warp(const tally_image *in, const double h[9], int width, int height,
                                  uint8_t fill, tally_image *out);

/* ---- 2. template --------------------------------------------------------------------------------
   */

typedef struct {
  double x, y, width, height; /* top left corner and size, template pixels */
} tally_box;

typedef enum { TALLY_ANCHOR_BOX, TALLY_ANCHOR_DISC, TALLY_ANCHOR_SQUARE } tally_anchor_kind;

typedef struct {
  char name[TALLY_MAX_NAME];
  tally_anchor_kind kind;
  tally_box box;                  /* of a disc: the square round it */
  double hsv_low[3], hsv_high[3]; /* degrees, percent, percent; colour anchors only */
} tally_anchor;

typedef struct {
  char name[TALLY_MAX_NAME];
  int digits;                       /* number of cells, 1..6 */
  int open;                         /* 1: no printed boxes round the cells */
  int first_cell;                   /* index of its leftmost cell among all cells of the form */
  tally_box cell[TALLY_MAX_DIGITS]; /* most significant first */
} tally_field;

typedef struct {
  int down;            /* 0: across, at y; 1: down, at x */
  double at, from, to; /* template pixels */
} tally_rule;

typedef struct {
  int total;                  /* index of the field that must equal the sum */
  int parts;                  /* how many fields are added */
  int part[TALLY_MAX_FIELDS]; /* their indices */
} tally_sum;

typedef enum { TALLY_MARK_LEADING_ZERO, TALLY_MARK_ILLEGIBLE } tally_mark;

/* Holds no pointers: may be copied by value. About 40 kB. */
typedef struct {
  char name[TALLY_MAX_NAME];
  double width, height;
  int anchors, fields, rules, sums, cells; /* cells: over all fields */
  tally_mark empty, cross, dash;
  tally_anchor anchor[TALLY_MAX_ANCHORS];
  tally_field field[TALLY_MAX_FIELDS];
  tally_rule rule[TALLY_MAX_RULES];
  tally_sum sum[TALLY_MAX_SUMS];
} tally_template;

/* Reads a template (grammar above). text need not end in a zero byte. On TALLY_ERROR_TEMPLATE,
   error (may be NULL) says where and why; the first fault is reported. */
TALLY_API tally_result tally_template_parse(const char *text, size_t length, tally_template *out,
                                            tally_error *error);

/* Index of the field of that name, or -1. */
TALLY_API int tally_template_field(const tally_template *form, const char *name);

/* ---- 3. registration ----------------------------------------------------------------------------
   */

typedef struct {
  double x, y;
} tally_point;

/* A homography maps one plane onto another as a camera does: with w = h6 x + h7 y + h8,
   (x, y) goes to ((h0 x + h1 y + h2) / w, (h3 x + h4 y + h5) / w). It is a 3 x 3 matrix by rows,
   and any multiple of it is the same map. */

/* The homography that takes each of four points to its partner. TALLY_ERROR_ARGUMENT, and h is left
   alone, if three points of either four lie on a line, or so nearly that the map means nothing, or
   a coordinate is not finite. */
TALLY_API tally_result tally_homography(const tally_point from[4], const tally_point to[4],
                                        double h[9]);
/* The inverse matrix: the way back. TALLY_ERROR_ARGUMENT, and out is left alone, if there is none.
   out may be h. */
TALLY_API tally_result tally_homography_invert(const double h[9], double out[9]);
/* The matrix product a b: b first, then a. out may be a or b. */
TALLY_API void tally_homography_multiply(const double a[9], const double b[9], double out[9]);
/* Where a point goes; far away, but finite, where w is 0. */
TALLY_API tally_point tally_homography_map(const double h[9], double x, double y);
/* How much longer things are behind the map than before it, near a point: the square root of what
   it does to areas. */
TALLY_API double tally_homography_scale(const double h[9], double x, double y);

typedef enum {
  TALLY_FORM_OK = 0,
  TALLY_FORM_NO_ANCHORS, /* too few anchors found: hidden, cut off, or another page */
  TALLY_FORM_WRONG,      /* anchors found, but not the printed rules: another form or page */
  TALLY_FORM_AMBIGUOUS,  /* two different positions fit about as well */
  TALLY_FORM_POOR        /* the right form, but too distorted, blurred or cut off to be trusted */
} tally_form_status;

/* Where a form lies in its picture. Picture coordinates are pixels from the top left corner of the
   first pixel (its centre is 0.5, 0.5). Holds no pointers. */
typedef struct {
  tally_form_status status;
  char reason[160]; /* one sentence; empty when the status is ok */
  double residual;  /* root mean square distance of the printed rules found from where the
                              registration puts them, template pixels; of the anchors when the
                              template has no rules; -1 when nothing was fitted */
  double scale;     /* picture pixels per template pixel at the page's centre */
  double rotation;  /* degrees clockwise, -180..180: 0 when the page stands upright */
  int anchors_found;
  int rules_found, rules_expected;   /* pieces of printed rules, cell boxes included */
  double page[9];                    /* homography from template to picture, by rows */
  double local[TALLY_MAX_FIELDS][6]; /* per field, template to template before `page`: what its own
                              boxes say about print that is shifted or stretched there;
                              x' = l0 + l1 x + l2 y, y' = l3 + l4 x + l5 y */
} tally_registration;

/* Finds the form in a picture. The result is TALLY_OK whether or not the form was found: a form
   that cannot be registered has a status other than TALLY_FORM_OK and a reason, and must not be
   cut. Colour anchors need a picture with 3 channels.
   Errors: TALLY_ERROR_ARGUMENT, TALLY_ERROR_MEMORY. */
TALLY_API tally_result tally_register(const tally_image *picture, const tally_template *form,
                                      tally_registration *out);

/* The picture point of a template point: by the whole page, or (field >= 0) as that field's own
   boxes put it. */
TALLY_API void tally_registration_map(const tally_registration *registration, int field, double x,
                                      double y, double *picture_x, double *picture_y);

/* A short name of a status: "registered", "no-anchors", "wrong-form", "ambiguous", "poor". */
TALLY_API const char *tally_form_status_text(tally_form_status status);

/* ---- 4. cells -----------------------------------------------------------------------------------
   */

#define TALLY_SIDE 28 /* cells come as 28 x 28 grey pictures, ink bright (255) on black (0) */

typedef enum {
  TALLY_CELL_EMPTY,   /* nothing that is likely a stroke: `written` is below 0.2 */
  TALLY_CELL_INK,     /* ink well inside the cell */
  TALLY_CELL_TOUCHING /* ink that touches or crosses the cell's border */
} tally_cell_state;

typedef struct {
  tally_cell_state state;
  int dash;                               /* 1: the ink is one flat horizontal stroke */
  double ink;                             /* area of the ink kept, as a share of the cell's area */
  double dark;                            /* how dark the ink is against its paper, 0..1 */
  double written;                         /* probability that a pen has written here: what area,
                                             darkness and extent say, before anyone looks at the
                                             shape. Never 0 or 1 */
  double whole;                           /* probability that `clean` holds all of what is written
                                             here and nothing else: 1 where nothing touches a rule,
                                             was divided between cells, left out or let in */
  uint8_t clean[TALLY_SIDE * TALLY_SIDE]; /* rules removed, ink fitted into 20 x 20 keeping its
                                             aspect, placed by its centre of mass: MNIST's way. As
                                             white for faint ink, in empty cells too; all zero where
                                             there is nothing darker than the paper's noise */
  uint8_t raw[TALLY_SIDE * TALLY_SIDE];   /* the cell as printed, cropped, shrunk and inverted:
                                             Torres & Cantu's way */
} tally_cell;

/* Cuts every cell of a registered form. cells receives form->cells items, field by field, the most
   significant first (field f, position p: form->field[f].first_cell + p).
   Errors: TALLY_ERROR_ARGUMENT (also when the registration's status is not ok), TALLY_ERROR_MEMORY.
   */
TALLY_API tally_result tally_cut(const tally_image *picture, const tally_template *form,
                                 const tally_registration *registration, tally_cell *cells);

/* Cuts one field's cells again as if it were registered (dx, dy) away, at most TALLY_MAX_SHIFT each
   way, in 48ths of a cell's smaller side: for cells in doubt. What is written well looks the same,
   so a network that sees something else after such a shift is not to be trusted; four to eight of
   them (1.5 to each side and aslant) are enough. The mean of its probabilities is the better
   answer. cells receives one item for each of the field's cells. Takes the field's share of
   tally_cut. Errors: as tally_cut. */
#define TALLY_MAX_SHIFT 2
TALLY_API tally_result tally_cut_shifted(const tally_image *picture, const tally_template *form,
                                         const tally_registration *registration, int field,
                                         double dx, double dy, tally_cell *cells);

/* A short name of a state: "empty", "ink", "touching". */
TALLY_API const char *tally_cell_state_text(tally_cell_state state);

/* ---- 5. counts ----------------------------------------------------------------------------------
   */

/* Classes of a cell: 0..9 are the digits. */
enum {
  TALLY_CLASS_CROSS = 10,
  TALLY_CLASS_EMPTY = 11,
  TALLY_CLASS_ILLEGIBLE = 12,
  TALLY_CLASS_DASH = 13,
  TALLY_CLASS_STRUCK = 14,      /* a digit crossed out, or a stroke through the whole number */
  TALLY_CLASS_SEVERAL = 15,     /* more than one digit in one cell */
  TALLY_CLASS_OVERWRITTEN = 16, /* a digit over another one */
  TALLY_CLASSES = 17
};

#define TALLY_NO_VALUE (-1)

/* Zero in a member means its default. */
typedef struct {
  double temperature; /* probabilities are raised to 1 / temperature and normalised; default 1 */
  double wrong_sum;   /* prior odds of one particular set of counts that does not add up against one
                         that does, per sum; default 0.002, at most 1 */
  double risk; /* a count is accepted when its probability is at least 1 - risk; default 0.005 */
} tally_decode_options;

typedef enum {
  TALLY_COUNT_OK,      /* accepted */
  TALLY_COUNT_REVIEW,  /* read, but a person should look; see reason */
  TALLY_COUNT_MISSING, /* nothing is written there */
  TALLY_COUNT_UNREAD   /* written, but not as a number that can be read */
} tally_count_status;

typedef struct {
  tally_count_status status;
  int value;          /* TALLY_NO_VALUE when missing or unread */
  double probability; /* posterior of value (of being missing or unreadable without one) */
  int second;         /* the runner-up number, TALLY_NO_VALUE if there is none */
  double second_probability;
  double missing, illegible; /* posterior that nothing, or nothing readable, is written */
  int own_value;             /* what the cells say by themselves, without the sums */
  int changed;               /* 1: the sums made value differ from own_value */
  double quality;   /* Torres & Cantu: .5/.35/.15 weighted top probabilities of the hundreds,
                                tens and units; other lengths weigh position i of n by n - i */
  char reason[160]; /* why it needs a look; empty when ok */
} tally_count;

typedef enum {
  TALLY_SUM_HOLDS,
  TALLY_SUM_FAILS,    /* the paper as read does not add up */
  TALLY_SUM_UNCHECKED /* its total is missing, or one of its counts is unread */
} tally_sum_state;

typedef struct {
  tally_sum_state state; /* of the values reported; a missing part adds nothing */
  double probability;    /* posterior that the paper adds up, over all readings */
} tally_sum_check;

typedef struct {
  int fields, sums;
  tally_count count[TALLY_MAX_FIELDS];
  tally_sum_check sum[TALLY_MAX_SUMS];
  double quality;               /* mean of the counts' quality */
  int high_quality;             /* 1: above .9 */
  int values[TALLY_MAX_FIELDS]; /* 10^digits */
  double
      *distribution[TALLY_MAX_FIELDS]; /* values + 2 posterior probabilities that sum to 1: of each
                                             value, then of missing, then of illegible. Owned */
} tally_counts;

/* Counts from the cells' class probabilities, jointly over the form's sums.

   probabilities: form->cells x TALLY_CLASSES, in the order of tally_cut; each row non-negative with
   a positive finite sum (it is normalised). cells: what tally_cut saw, or NULL. A cell seen as
   empty is empty with 0.98, and a dash is a dash with 0.98, whatever the classes say; the rest is
   theirs.

   Model. Each reading of all counts x has the weight prod_f L_f(x_f) prod_s w_s(x): L_f is the
   product of the cells' probabilities over all ways to write x_f (leading zeros as the template has
   them), or that nothing (missing) or nothing readable (illegible) is written; w_s is 1 if the sum
   s holds, with missing parts adding nothing, and wrong_sum if it does not or cannot be checked. So
   "the paper does not add up" is always among the readings. Marginals are exact: sum-product over
   the tree of sums, a sum's parts convolved.

   A count whose own cells are most likely empty is missing and one whose own cells are most likely
   illegible is unread: no sum makes a number of them. Counts of a sum that fails as read, and
   counts that the sums changed, go to review; nothing is repaired silently.

   out is filled in and must be released with tally_counts_free. Errors: TALLY_ERROR_ARGUMENT,
   TALLY_ERROR_MEMORY (out is then empty). */
TALLY_API tally_result tally_decode(const tally_template *form, const double *probabilities,
                                    const tally_cell *cells, const tally_decode_options *options,
                                    tally_counts *out);
TALLY_API void tally_counts_free(tally_counts *counts);

/* "ok", "review", "missing", "unread". */
TALLY_API const char *tally_count_status_text(tally_count_status status);

/* ---- 6. totals ----------------------------------------------------------------------------------
   */

#define TALLY_DRAWS 1000 /* Monte Carlo draws that intervals are made of */

enum { TALLY_ALL = 0, TALLY_HIGH_QUALITY = 1, TALLY_GROUPS = 2 };

/* A count whose value is in doubt: kept until all tallies are there. Private. */
typedef struct tally_doubt_ tally_doubt_;

/* Running totals of many tallies. Owns its pointers. Memory grows only with the counts in doubt, by
   about a hundred bytes each. */
typedef struct {
  int fields;
  uint64_t seed;
  int values[TALLY_MAX_FIELDS];                  /* 10^digits */
  int tallies[TALLY_GROUPS];                     /* added, the unregistered ones included */
  int unregistered;                              /* added as NULL */
  int is_total[TALLY_MAX_FIELDS];                /* total of some sum */
  int read[TALLY_GROUPS][TALLY_MAX_FIELDS];      /* tallies with a value */
  int missing[TALLY_GROUPS][TALLY_MAX_FIELDS];   /* with nothing written */
  int unread[TALLY_GROUPS][TALLY_MAX_FIELDS];    /* with something unreadable, or not registered */
  int64_t votes[TALLY_GROUPS][TALLY_MAX_FIELDS]; /* sums of the values reported */
  double *settled; /* how many settled counts of each field are how large: see tally_total */
  double *sums;    /* TALLY_GROUPS x fields x TALLY_DRAWS: sums of the settled counts, drawn */
  double *drawn;   /* the same with the counts in doubt, once finished */
  int finished;
  tally_doubt_ *doubt;
  size_t doubts, doubt_room;
} tally_totals;

/* One field over all tallies added. `votes` is the sum of the values reported and nothing else.
   estimate, low and high say how many votes are written on these tallies: the mean, the 5th and the
   95th percentile of TALLY_DRAWS sums (so 90 % intervals), each drawn from the counts' posteriors
   (fields independently, given a tally). The shares are those of the same draws.

   A settled count, one that is accepted or missing, is drawn from its posterior. A count in doubt
   (in review or unread) is drawn from its posterior times how often the field's settled counts are
   that large (smoothed; empirical Bayes, Robbins 1956); one that cannot be read says nothing but
   that, so the settled counts alone decide in the measure in which it is illegible. This takes the
   tallies in doubt to be like the others. Nothing written adds nothing.
   Tallies that could not be registered are counted as unread and add nothing. */
typedef struct {
  int64_t votes; /* sum of the values reported */
  double estimate, low, high;
  double share, share_low, share_high; /* 0..1 of the votes of all fields in the share; 0 if none */
  int read, missing, unread;           /* tallies */
} tally_total;

/* Starts totals for a form. Release with tally_totals_free. */
TALLY_API tally_result tally_totals_begin(const tally_template *form, uint64_t seed,
                                          tally_totals *out);
/* Adds one tally; NULL for one that could not be registered. Draws depend on the seed and on the
   order of adding, nothing else. After an error nothing of it is added. */
TALLY_API tally_result tally_totals_add(tally_totals *totals, const tally_counts *counts);
/* To be called when all tallies are added: draws the counts in doubt. More may be added after it,
   but then it must be called again. */
TALLY_API tally_result tally_totals_finish(tally_totals *totals);
/* The total of one field, of finished totals. in_share: totals->fields flags, the fields whose
   votes make 100 %; NULL for all fields that are not the total of a sum. */
TALLY_API tally_result tally_totals_get(const tally_totals *totals, int group, int field,
                                        const int *in_share, tally_total *out);
TALLY_API void tally_totals_free(tally_totals *totals);

/* ---- end of the interface: stop here if you only want the API ----------------------------------
   */

#endif /* TALLY_H */

#ifdef TALLY_IMPLEMENTATION
#ifndef TALLY_IMPLEMENTED_
#define TALLY_IMPLEMENTED_

#include <float.h>
#include <limits.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A program may have been compiled as if all numbers were finite (-ffast-math). Here some are not,
   and comparisons that find them must stay. */
#if defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__
#if defined(__clang__)
#pragma float_control(push)
#pragma float_control(precise, on)
#elif defined(__GNUC__)
#pragma GCC push_options
#pragma GCC optimize("no-fast-math", "no-finite-math-only", "no-unsafe-math-optimizations")
#endif
#endif

#if defined(TALLY_MALLOC) && defined(TALLY_REALLOC) && defined(TALLY_FREE)
#elif !defined(TALLY_MALLOC) && !defined(TALLY_REALLOC) && !defined(TALLY_FREE)
#define TALLY_MALLOC(size) malloc(size)
#define TALLY_REALLOC(pointer, size) realloc(pointer, size)
#define TALLY_FREE(pointer) free(pointer)
#else
#error "Define all of TALLY_MALLOC, TALLY_REALLOC and TALLY_FREE, or none."
#endif

/* Hands a failure on to the caller. */
#define TALLY_TRY_(call)                                                                           \
  do {                                                                                             \
    tally_result try_ = (call);                                                                    \
    if (try_ != TALLY_OK) return try_;                                                             \
  } while (0)

static int tally_min_(int a, int b) {
  return a < b ? a : b;
}
static int tally_max_(int a, int b) {
  return a > b ? a : b;
}
static int tally_clamp_(int v, int low, int high) {
  return v < low ? low : v > high ? high : v;
}

static uint8_t tally_byte_(double v) {
  return (uint8_t)(v <= 0 ? 0 : v >= 255 ? 255 : (int)(v + 0.5));
}

/* count x size bytes, or NULL if there are none to be had or the product overflows. */
static void *tally_alloc_(size_t count, size_t size) {
  if (count == 0 || size == 0 || count > SIZE_MAX / size) return NULL;
  return TALLY_MALLOC(count * size);
}

static void *tally_alloc_zero_(size_t count, size_t size) {
  void *block = tally_alloc_(count, size);
  if (block) memset(block, 0, count * size);
  return block;
}

static void tally_print_(char *out, size_t size, const char *format, ...) {
  va_list list;
  va_start(list, format);
  (void)vsnprintf(out, size, format, list);
  va_end(list);
}

TALLY_API const char *tally_result_text(tally_result result) {
  switch (result) {
  case TALLY_OK:
    return "ok";
  case TALLY_ERROR_ARGUMENT:
    return "bad argument";
  case TALLY_ERROR_MEMORY:
    return "out of memory";
  case TALLY_ERROR_TOO_LARGE:
    return "too large";
  case TALLY_ERROR_TEMPLATE:
    return "bad template";
  }
  return "unknown result";
}

/* ---- 1. image -----------------------------------------------------------------------------------
   */

static int tally_image_ok_(const tally_image *image) {
  return image && image->pixels && image->width > 0 && image->height > 0 &&
         image->width <= TALLY_MAX_DIMENSION && image->height <= TALLY_MAX_DIMENSION &&
         (image->channels == 1 || image->channels == 3) &&
         (size_t)image->width * (size_t)image->height <= TALLY_MAX_PIXELS;
}

static int tally_grey_ok_(const tally_image *image) {
  return tally_image_ok_(image) && image->channels == 1;
}

static size_t tally_count_(const tally_image *image) {
  return (size_t)image->width * (size_t)image->height;
}

/* First byte of row y. */
static uint8_t *tally_row_(const tally_image *image, int y) {
  return image->pixels + (size_t)y * (size_t)image->width * (size_t)image->channels;
}

TALLY_API tally_result tally_image_make(int width, int height, int channels, tally_image *out) {
  if (!out) return TALLY_ERROR_ARGUMENT;
  memset(out, 0, sizeof *out);
  if (width < 1 || height < 1 || (channels != 1 && channels != 3)) return TALLY_ERROR_ARGUMENT;
  if (width > TALLY_MAX_DIMENSION || height > TALLY_MAX_DIMENSION ||
      (size_t)width * (size_t)height > TALLY_MAX_PIXELS)
    return TALLY_ERROR_TOO_LARGE;
  out->pixels = (uint8_t *)tally_alloc_zero_((size_t)width * (size_t)height, (size_t)channels);
  if (!out->pixels) return TALLY_ERROR_MEMORY;
  out->width = width;
  out->height = height;
  out->channels = channels;
  return TALLY_OK;
}

TALLY_API void tally_image_free(tally_image *image) {
  if (!image) return;
  TALLY_FREE(image->pixels);
  memset(image, 0, sizeof *image);
}

static int tally_grey_level_(const uint8_t *p) {
  return (77 * p[0] + 150 * p[1] + 29 * p[2]) >> 8;
}

TALLY_API tally_result tally_grey(const tally_image *in, tally_image *out) {
  size_t i, n;
  if (!tally_image_ok_(in)) return TALLY_ERROR_ARGUMENT;
  TALLY_TRY_(tally_image_make(in->width, in->height, 1, out));
  n = tally_count_(in);
  if (in->channels == 1) {
    memcpy(out->pixels, in->pixels, n);
    return TALLY_OK;
  }
  for (i = 0; i < n; i++) out->pixels[i] = (uint8_t)tally_grey_level_(in->pixels + 3 * i);
  return TALLY_OK;
}

/* Hue 0..179 in steps of 2 degrees, saturation and value 0..255. */
static void tally_hsv_pixel_(int r, int g, int b, int *h, int *s, int *v) {
  int high = tally_max_(r, tally_max_(g, b)), low = tally_min_(r, tally_min_(g, b));
  int range = high - low;
  *v = high;
  *s = high == 0 ? 0 : (255 * range + high / 2) / high;
  *h = 0;
  if (range > 0) {
    int angle; /* degrees */
    if (high == r)
      angle = 60 * (g - b) / range + (g < b ? 360 : 0);
    else if (high == g)
      angle = 60 * (b - r) / range + 120;
    else
      angle = 60 * (r - g) / range + 240;
    *h = (angle / 2) % 180;
  }
}

/* Means of n areas of wide x tall pixels that lie side by side from (left, top) on, channel by
   channel; what lies outside the picture counts as 0. Each area is the difference between the sums
   of what lies left of its two sides. sum has room for a row of the picture and one pixel more: the
   rows, each with its share of the areas, are added up in it, then the pixels from the left on. */
static void tally_area_row_(const tally_image *in, double left, double top, double wide,
                            double tall, int n, double *sum, double *means) {
  int c = in->channels, bytes = in->width * c, x, y, i, k;
  double bottom = top + tall, before[3] = {0, 0, 0};
  memset(sum, 0, (size_t)(bytes + c) * sizeof *sum);
  for (y = tally_max_(0, (int)top); y < in->height && y < bottom; y++) {
    double share = (bottom < y + 1 ? bottom : y + 1) - (top > y ? top : y);
    const uint8_t *from = tally_row_(in, y);
    for (i = 0; i < bytes; i++) sum[c + i] += share * from[i];
  }
  for (i = c; i < bytes + c; i++) sum[i] += sum[i - c];
  for (x = 0; x <= n; x++) {
    double side = left + x * wide;
    side = side < 0 ? 0 : side > in->width ? in->width : side;
    i = tally_min_((int)side, in->width - 1);
    for (k = 0; k < c; k++) {
      const double *v = sum + i * c + k;
      double until = v[0] + (side - i) * (v[c] - v[0]);
      if (x > 0) *means++ = (until - before[k]) / (wide * tall);
      before[k] = until;
    }
  }
}

/* Means of 2 x 2 pixels, where whole numbers are exact and many times as fast: registration
   begins with it. */
static void tally_halve_(const tally_image *in, const tally_image *out) {
  int c = in->channels, x, y, k;
  for (y = 0; y < out->height; y++) {
    const uint8_t *a = tally_row_(in, 2 * y), *b = tally_row_(in, 2 * y + 1);
    uint8_t *to = tally_row_(out, y);
    for (x = 0; x < out->width; x++, a += 2 * c, b += 2 * c)
      for (k = 0; k < c; k++) *to++ = (uint8_t)((a[k] + a[k + c] + b[k] + b[k + c] + 2) >> 2);
  }
}

/* out of the given size, each of its pixels the mean over wide x tall of the picture's. */
static tally_result tally_shrink_(const tally_image *in, double wide, double tall, int width,
                                  int height, tally_image *out) {
  double *sum, *means;
  int y, i;
  TALLY_TRY_(tally_image_make(width, height, in->channels, out));
  if (wide == 2 && tall == 2) {
    tally_halve_(in, out);
    return TALLY_OK;
  }
  sum = (double *)tally_alloc_((size_t)(in->width + 1 + width) * (size_t)in->channels, sizeof *sum);
  if (!sum) {
    tally_image_free(out);
    return TALLY_ERROR_MEMORY;
  }
  means = sum + (size_t)(in->width + 1) * (size_t)in->channels;
  for (y = 0; y < height; y++) {
    uint8_t *to = tally_row_(out, y);
    tally_area_row_(in, 0, y * tall, wide, tall, width, sum, means);
    for (i = 0; i < width * in->channels; i++) to[i] = tally_byte_(means[i]);
  }
  TALLY_FREE(sum);
  return TALLY_OK;
}

TALLY_API tally_result tally_resize(const tally_image *in, int width, int height,
                                    tally_image *out) {
  if (!tally_image_ok_(in)) return TALLY_ERROR_ARGUMENT;
  return tally_shrink_(in, (double)in->width / width, (double)in->height / height, width, height,
                       out);
}

/* Window sums by running column sums: O(1) a pixel whatever the radius. column holds width ints. */
static void tally_adaptive_rows_(const tally_image *grey, int radius, int offset, int *column,
                                 const tally_image *out) {
  int width = grey->width, height = grey->height, x, y, rows = 0;
  memset(column, 0, (size_t)width * sizeof *column);
  for (y = 0; y < tally_min_(radius, height); y++, rows++)
    for (x = 0; x < width; x++) column[x] += tally_row_(grey, y)[x];
  for (y = 0; y < height; y++) {
    int64_t sum = 0;
    int columns = 0;
    if (y + radius < height) {
      for (x = 0; x < width; x++) column[x] += tally_row_(grey, y + radius)[x];
      rows++;
    }
    if (y - radius - 1 >= 0) {
      for (x = 0; x < width; x++) column[x] -= tally_row_(grey, y - radius - 1)[x];
      rows--;
    }
    for (x = 0; x < tally_min_(radius, width); x++, columns++) sum += column[x];
    for (x = 0; x < width; x++) {
      if (x + radius < width) {
        sum += column[x + radius];
        columns++;
      }
      if (x - radius - 1 >= 0) {
        sum -= column[x - radius - 1];
        columns--;
      }
      if (((int64_t)tally_row_(grey, y)[x] + offset) * rows * columns < sum)
        tally_row_(out, y)[x] = 255;
    }
  }
}

TALLY_API tally_result tally_threshold_adaptive(const tally_image *grey, int radius, int offset,
                                                tally_image *out) {
  int *column;
  if (!tally_grey_ok_(grey) || radius < 1 || radius > 1000 || offset < -255 || offset > 255)
    return TALLY_ERROR_ARGUMENT;
  TALLY_TRY_(tally_image_make(grey->width, grey->height, 1, out));
  column = (int *)tally_alloc_((size_t)grey->width, sizeof *column);
  if (!column) {
    tally_image_free(out);
    return TALLY_ERROR_MEMORY;
  }
  tally_adaptive_rows_(grey, radius, offset, column, out);
  TALLY_FREE(column);
  return TALLY_OK;
}

static int tally_root_(int *parent, int a) {
  while (parent[a] != a) {
    parent[a] = parent[parent[a]];
    a = parent[a];
  }
  return a;
}

static int tally_join_(int *parent, int a, int b) {
  a = tally_root_(parent, a);
  b = tally_root_(parent, b);
  if (a == b) return a;
  if (a > b) {
    int swap = a;
    a = b;
    b = swap;
  }
  parent[b] = a; /* the earlier one stays root, so that labels come out in raster order */
  return a;
}

/* First pass: provisional labels in `labels`, their unions in `parent`, which grows. Returns how
   many labels were given (the background included), or -1 without memory. */
static int tally_label_pass_(const tally_image *binary, int *labels, int **parent) {
  int width = binary->width, x, y, next = 1, capacity = 1024;
  *parent = (int *)tally_alloc_((size_t)capacity, sizeof **parent);
  if (!*parent) return -1;
  (*parent)[0] = 0;
  for (y = 0; y < binary->height; y++) {
    const uint8_t *row = tally_row_(binary, y);
    int *label = labels + (size_t)y * (size_t)width;
    const int *above = label - width;
    for (x = 0; x < width; x++) {
      int found = 0;
      if (!row[x]) {
        label[x] = 0;
        continue;
      }
      /* The pixel above touches the other three, so it alone decides when it is set. */
      if (y > 0 && above[x]) {
        found = above[x];
      } else {
        if (x > 0 && label[x - 1]) found = label[x - 1];
        if (y > 0 && x > 0 && above[x - 1] && !found) found = above[x - 1];
        if (y > 0 && x + 1 < width && above[x + 1])
          found = found ? tally_join_(*parent, found, above[x + 1]) : above[x + 1];
      }
      if (!found) {
        if (next == capacity) {
          int *grown = capacity > INT32_MAX / 2
                           ? NULL
                           : (int *)TALLY_REALLOC(*parent, (size_t)capacity * 2 * sizeof **parent);
          if (!grown) return -1;
          *parent = grown;
          capacity *= 2;
        }
        (*parent)[next] = next;
        found = next++;
      }
      label[x] = found;
    }
  }
  return next;
}

static void tally_component_add_(tally_component *part, int x, int y) {
  if (part->area == 0) {
    part->left = part->right = x;
    part->top = y;
  }
  part->left = tally_min_(part->left, x);
  part->right = tally_max_(part->right, x);
  part->bottom = y;
  part->area++;
  part->x += x;
  part->y += y;
  part->xx += (double)x * x;
  part->xy += (double)x * y;
  part->yy += (double)y * y;
}

static void tally_component_finish_(tally_component *part) {
  double n = part->area;
  part->x /= n;
  part->y /= n;
  part->xx = part->xx / n - part->x * part->x;
  part->xy = part->xy / n - part->x * part->y;
  part->yy = part->yy / n - part->y * part->y;
}

TALLY_API int tally_components(const tally_image *binary, int *labels, tally_component *parts,
                               int capacity) {
  int *parent = NULL, given, n = 0, i, x, y;
  if (!tally_grey_ok_(binary) || !labels || capacity < 0 || (capacity > 0 && !parts)) return -1;
  given = tally_label_pass_(binary, labels, &parent);
  if (given < 0) {
    TALLY_FREE(parent);
    return -1;
  }
  /* Roots are smaller than what hangs on them, so one sweep turns unions into final labels. */
  for (i = 1; i < given; i++) parent[i] = parent[i] == i ? ++n : parent[parent[i]];
  if (capacity > 0) memset(parts, 0, (size_t)tally_min_(capacity, n) * sizeof *parts);
  for (y = 0; y < binary->height; y++) {
    int *label = labels + (size_t)y * (size_t)binary->width;
    for (x = 0; x < binary->width; x++) {
      if (!label[x]) continue;
      label[x] = parent[label[x]];
      if (label[x] <= capacity) tally_component_add_(&parts[label[x] - 1], x, y);
    }
  }
  for (i = 0; i < tally_min_(capacity, n); i++) tally_component_finish_(&parts[i]);
  TALLY_FREE(parent);
  return n;
}

/* The bilinear sample, times 65536, at (x, y) / 256 from the centre of the pixel at p; the next
   pixels lie `right` and `below` bytes on. */
static int tally_between_(const uint8_t *p, ptrdiff_t right, ptrdiff_t below, int x, int y) {
  int upper = p[0] * (256 - x) + p[right] * x;
  int lower = p[below] * (256 - x) + p[below + right] * x;
  return upper * (256 - y) + lower * y;
}

/* The same at pixel-corner coordinates (x, y) / 256 of a picture, whose edge is replicated. */
static int tally_sample_(const tally_image *in, int channel, int x, int y) {
  ptrdiff_t c = in->channels, across, down;
  x = tally_clamp_(x - 128, 0, (in->width - 1) * 256);
  y = tally_clamp_(y - 128, 0, (in->height - 1) * 256);
  across = x >> 8;
  down = y >> 8;
  return tally_between_(tally_row_(in, (int)down) + across * c + channel,
                        across + 1 < in->width ? c : 0, down + 1 < in->height ? in->width * c : 0,
                        x & 255, y & 255);
}

/* n <= 64 pixels of a warped row from (x, y) on. Places first, so that compilers can vectorise. */
static void tally_warp_part_(const tally_image *in, const double h[9], int x, int y, int n,
                             uint8_t fill, uint8_t *to) {
  double px[64], py[64];
  double u = h[1] * (y + 0.5) + h[2], v = h[4] * (y + 0.5) + h[5], w = h[7] * (y + 0.5) + h[8];
  int i, k;
  for (i = 0; i < n; i++) {
    double at = x + i + 0.5, scale = 1 / (h[6] * at + w);
    px[i] = (h[0] * at + u) * scale;
    py[i] = (h[3] * at + v) * scale;
  }
  for (i = 0; i < n; i++, to += in->channels) {
    /* Written so that a NaN is outside too. */
    int inside = px[i] >= 0 && py[i] >= 0 && px[i] < in->width && py[i] < in->height;
    for (k = 0; k < in->channels; k++)
      to[k] =
          inside
              ? (uint8_t)((tally_sample_(in, k, (int)(px[i] * 256), (int)(py[i] * 256)) + 32768) >>
                          16)
              : fill;
  }
}

TALLY_API tally_result tally_warp(const tally_image *in, const double h[9], int width, int height,
                                  uint8_t fill, tally_image *out) {
  int x, y;
  if (!tally_image_ok_(in) || !h) return TALLY_ERROR_ARGUMENT;
  TALLY_TRY_(tally_image_make(width, height, in->channels, out));
  for (y = 0; y < height; y++)
    for (x = 0; x < width; x += 64)
      tally_warp_part_(in, h, x, y, tally_min_(64, width - x), fill,
                       tally_row_(out, y) + (ptrdiff_t)x * in->channels);
  return TALLY_OK;
}

/* ---- 2. template --------------------------------------------------------------------------------
   */

/* The statement being read: a cursor with its place, and the error to fill in. */
typedef struct {
  const char *text;
  size_t length, at;
  int line, column;
  int word_line, word_column; /* where the word read last began */
  tally_error *error;
  tally_template *form;
  int named, paged, blanked; /* the statements that come once */
} tally_parser_;

static tally_result tally_fault_at_(tally_parser_ *p, int line, int column, const char *format,
                                    ...) {
  if (p->error) {
    va_list list;
    p->error->line = line;
    p->error->column = column;
    va_start(list, format);
    (void)vsnprintf(p->error->message, sizeof p->error->message, format, list);
    va_end(list);
  }
  return TALLY_ERROR_TEMPLATE;
}

static int tally_peek_(const tally_parser_ *p) {
  return p->at < p->length ? (unsigned char)p->text[p->at] : -1;
}

static void tally_next_(tally_parser_ *p) {
  if (p->text[p->at++] == '\n') {
    p->line++;
    p->column = 1;
  } else {
    p->column++;
  }
}

/* Length of a continuation (backslash, blanks, line end) at the cursor, 0 if there is none. */
static size_t tally_continuation_(const tally_parser_ *p) {
  size_t i = p->at;
  if (i >= p->length || p->text[i] != '\\') return 0;
  i++;
  while (i < p->length && (p->text[i] == ' ' || p->text[i] == '\t' || p->text[i] == '\r')) i++;
  return i < p->length && p->text[i] == '\n' ? i + 1 - p->at : 0;
}

/* Moves to the next word, comment stripped; 0 at the end of the statement. */
static int tally_more_(tally_parser_ *p) {
  for (;;) {
    int c = tally_peek_(p);
    size_t skip = tally_continuation_(p);
    if (skip > 0) {
      while (skip-- > 0) tally_next_(p);
    } else if (c == ' ' || c == '\t' || c == '\r') {
      tally_next_(p);
    } else if (c == '#') {
      while (tally_peek_(p) >= 0 && tally_peek_(p) != '\n') tally_next_(p);
    } else {
      p->word_line = p->line;
      p->word_column = p->column;
      return c >= 0 && c != '\n';
    }
  }
}

static int tally_name_byte_(int c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
         c == '-' || c == '.';
}

static tally_result tally_read_name_(tally_parser_ *p, const char *what, char out[TALLY_MAX_NAME]) {
  size_t n = 0;
  if (!tally_more_(p) || !tally_name_byte_(tally_peek_(p)))
    return tally_fault_at_(p, p->word_line, p->word_column, "expected %s", what);
  while (tally_name_byte_(tally_peek_(p))) {
    if (n + 1 >= TALLY_MAX_NAME)
      return tally_fault_at_(p, p->word_line, p->word_column, "%s is longer than %d bytes", what,
                             TALLY_MAX_NAME - 1);
    out[n++] = (char)tally_peek_(p);
    tally_next_(p);
  }
  out[n] = 0;
  return TALLY_OK;
}

/* A decimal number with an optional sign and fraction; no exponent, so no overflow to worry about.
   */
static tally_result tally_read_number_(tally_parser_ *p, const char *what, double *out) {
  double value = 0, unit = 1;
  int digits = 0, negative = 0;
  if (tally_more_(p) && tally_peek_(p) == '-') {
    negative = 1;
    tally_next_(p);
  }
  for (; tally_peek_(p) >= '0' && tally_peek_(p) <= '9'; digits++) {
    value = value * 10 + (tally_peek_(p) - '0');
    tally_next_(p);
  }
  if (digits > 0 && tally_peek_(p) == '.' && p->at + 1 < p->length && p->text[p->at + 1] != '.') {
    tally_next_(p);
    for (; tally_peek_(p) >= '0' && tally_peek_(p) <= '9'; digits++) {
      unit /= 10;
      value += unit * (tally_peek_(p) - '0');
      tally_next_(p);
    }
  }
  if (digits == 0)
    return tally_fault_at_(p, p->word_line, p->word_column, "expected a number for %s", what);
  if (digits > 12)
    return tally_fault_at_(p, p->word_line, p->word_column, "%s has too many digits", what);
  *out = negative ? -value : value;
  return TALLY_OK;
}

/* The given punctuation or word, exactly. */
static tally_result tally_read_text_(tally_parser_ *p, const char *text) {
  const char *c;
  if (!tally_more_(p))
    return tally_fault_at_(p, p->word_line, p->word_column, "expected '%s'", text);
  for (c = text; *c; c++) {
    if (tally_peek_(p) != (unsigned char)*c)
      return tally_fault_at_(p, p->word_line, p->word_column, "expected '%s'", text);
    tally_next_(p);
  }
  if (tally_name_byte_((unsigned char)c[-1]) && c[-1] != '.' && tally_name_byte_(tally_peek_(p)) &&
      c - text > 1)
    return tally_fault_at_(p, p->word_line, p->word_column, "expected '%s'", text);
  return TALLY_OK;
}

static tally_result tally_read_point_(tally_parser_ *p, double *x, double *y) {
  TALLY_TRY_(tally_read_number_(p, "x", x));
  TALLY_TRY_(tally_read_text_(p, ","));
  return tally_read_number_(p, "y", y);
}

static tally_result tally_read_size_(tally_parser_ *p, double *width, double *height) {
  TALLY_TRY_(tally_read_number_(p, "a width", width));
  TALLY_TRY_(tally_read_text_(p, "x"));
  TALLY_TRY_(tally_read_number_(p, "a height", height));
  if (*width <= 0 || *height <= 0)
    return tally_fault_at_(p, p->word_line, p->word_column, "a size must be above zero");
  return TALLY_OK;
}

static tally_result tally_read_range_(tally_parser_ *p, const char *what, int top, double *low,
                                      double *high) {
  int line, column;
  TALLY_TRY_(tally_read_number_(p, what, low));
  line = p->word_line;
  column = p->word_column;
  TALLY_TRY_(tally_read_text_(p, ".."));
  TALLY_TRY_(tally_read_number_(p, what, high));
  if (*low < 0 || *low > top || *high < 0 || *high > top)
    return tally_fault_at_(p, line, column, "%s must be within 0..%d", what, top);
  return TALLY_OK;
}

/* hsv(a..b, c..d, e..f) */
static tally_result tally_read_hsv_(tally_parser_ *p, tally_anchor *anchor) {
  static const char *const what[3] = {"hue", "saturation", "value"};
  int i;
  TALLY_TRY_(tally_read_text_(p, "hsv"));
  for (i = 0; i < 3; i++) {
    TALLY_TRY_(tally_read_text_(p, i == 0 ? "(" : ","));
    TALLY_TRY_(tally_read_range_(p, what[i], i == 0 ? 360 : 100, &anchor->hsv_low[i],
                                 &anchor->hsv_high[i]));
    if (i > 0 && anchor->hsv_low[i] > anchor->hsv_high[i])
      return tally_fault_at_(p, p->word_line, p->word_column, "the range of %s is backwards",
                             what[i]);
  }
  return tally_read_text_(p, ")");
}

static int tally_box_on_page_(const tally_template *form, const tally_box *box) {
  return box->x >= 0 && box->y >= 0 && box->x + box->width <= form->width &&
         box->y + box->height <= form->height;
}

static tally_result tally_need_page_(tally_parser_ *p) {
  if (!p->paged)
    return tally_fault_at_(p, p->word_line, p->word_column, "the page statement must come first");
  return TALLY_OK;
}

static tally_result tally_parse_page_(tally_parser_ *p) {
  int line = p->word_line, column = p->word_column;
  if (p->paged) return tally_fault_at_(p, line, column, "a second page statement");
  (void)tally_more_(p);
  line = p->word_line;
  column = p->word_column;
  TALLY_TRY_(tally_read_size_(p, &p->form->width, &p->form->height));
  if (p->form->width < 100 || p->form->width > 10000 || p->form->height < 100 ||
      p->form->height > 10000)
    return tally_fault_at_(p, line, column, "a page measures 100 to 10000 template pixels a side");
  p->paged = 1;
  return TALLY_OK;
}

static tally_result tally_parse_anchor_(tally_parser_ *p) {
  tally_template *form = p->form;
  tally_anchor *anchor = &form->anchor[form->anchors];
  char kind[TALLY_MAX_NAME];
  int i, line, column;
  TALLY_TRY_(tally_need_page_(p));
  if (form->anchors == TALLY_MAX_ANCHORS)
    return tally_fault_at_(p, p->word_line, p->word_column, "more than %d anchors",
                           TALLY_MAX_ANCHORS);
  TALLY_TRY_(tally_read_name_(p, "the anchor's name", anchor->name));
  for (i = 0; i < form->anchors; i++)
    if (strcmp(anchor->name, form->anchor[i].name) == 0)
      return tally_fault_at_(p, p->word_line, p->word_column, "a second anchor '%s'", anchor->name);
  TALLY_TRY_(tally_read_name_(p, "'colour' or 'square'", kind));
  line = p->word_line;
  column = p->word_column;
  if (strcmp(kind, "square") == 0) {
    anchor->kind = TALLY_ANCHOR_SQUARE;
  } else if (strcmp(kind, "colour") == 0) {
    TALLY_TRY_(tally_read_hsv_(p, anchor));
    TALLY_TRY_(tally_read_name_(p, "'box' or 'disc'", kind));
    if (strcmp(kind, "box") != 0 && strcmp(kind, "disc") != 0)
      return tally_fault_at_(p, p->word_line, p->word_column, "expected 'box' or 'disc'");
    anchor->kind = strcmp(kind, "box") == 0 ? TALLY_ANCHOR_BOX : TALLY_ANCHOR_DISC;
  } else {
    return tally_fault_at_(p, line, column, "expected 'colour' or 'square'");
  }
  (void)tally_more_(p);
  line = p->word_line;
  column = p->word_column;
  TALLY_TRY_(tally_read_point_(p, &anchor->box.x, &anchor->box.y));
  if (anchor->kind == TALLY_ANCHOR_DISC) {
    double radius;
    TALLY_TRY_(tally_read_text_(p, "r"));
    TALLY_TRY_(tally_read_number_(p, "the radius", &radius));
    if (radius <= 0)
      return tally_fault_at_(p, p->word_line, p->word_column, "a size must be above zero");
    anchor->box.x -= radius;
    anchor->box.y -= radius;
    anchor->box.width = anchor->box.height = 2 * radius;
  } else {
    TALLY_TRY_(tally_read_size_(p, &anchor->box.width, &anchor->box.height));
  }
  if (!tally_box_on_page_(form, &anchor->box))
    return tally_fault_at_(p, line, column, "anchor '%s' lies off the page", anchor->name);
  form->anchors++;
  return TALLY_OK;
}

static int tally_boxes_overlap_(const tally_box *a, const tally_box *b) {
  return a->x < b->x + b->width - 1e-6 && b->x < a->x + a->width - 1e-6 &&
         a->y < b->y + b->height - 1e-6 && b->y < a->y + a->height - 1e-6;
}

/* Places the cells of a new field and checks them against the page, each other and all earlier
   ones. */
static tally_result tally_place_cells_(tally_parser_ *p, tally_field *field, const tally_box *first,
                                       double pitch, int line, int column) {
  const tally_template *form = p->form;
  int i, j, k;
  for (i = 0; i < field->digits; i++) {
    field->cell[i] = *first;
    field->cell[i].x += i * pitch;
    if (!tally_box_on_page_(form, &field->cell[i]))
      return tally_fault_at_(p, line, column, "cell %d of field '%s' lies off the page", i + 1,
                             field->name);
    for (j = 0; j < form->fields; j++)
      for (k = 0; k < form->field[j].digits; k++)
        if (tally_boxes_overlap_(&field->cell[i], &form->field[j].cell[k]))
          return tally_fault_at_(p, line, column, "cell %d of field '%s' overlaps field '%s'",
                                 i + 1, field->name, form->field[j].name);
  }
  return TALLY_OK;
}

static tally_result tally_parse_field_(tally_parser_ *p) {
  tally_template *form = p->form;
  tally_field *field = &form->field[form->fields];
  tally_box first;
  double digits, count, pitch;
  int line, column;
  TALLY_TRY_(tally_need_page_(p));
  if (form->fields == TALLY_MAX_FIELDS)
    return tally_fault_at_(p, p->word_line, p->word_column, "more than %d fields",
                           TALLY_MAX_FIELDS);
  memset(field, 0, sizeof *field);
  TALLY_TRY_(tally_read_name_(p, "the field's name", field->name));
  if (tally_template_field(form, field->name) >= 0)
    return tally_fault_at_(p, p->word_line, p->word_column, "a second field '%s'", field->name);
  TALLY_TRY_(tally_read_number_(p, "the digits", &digits));
  if (digits < 1 || digits > TALLY_MAX_DIGITS || digits != floor(digits))
    return tally_fault_at_(p, p->word_line, p->word_column, "a field has 1 to %d digits",
                           TALLY_MAX_DIGITS);
  field->digits = (int)digits;
  TALLY_TRY_(tally_read_text_(p, "digits"));
  TALLY_TRY_(tally_read_text_(p, "cells"));
  (void)tally_more_(p);
  line = p->word_line;
  column = p->word_column;
  TALLY_TRY_(tally_read_point_(p, &first.x, &first.y));
  TALLY_TRY_(tally_read_number_(p, "the number of cells", &count));
  if (count != digits)
    return tally_fault_at_(p, p->word_line, p->word_column, "%d digits need %d cells",
                           field->digits, field->digits);
  TALLY_TRY_(tally_read_text_(p, "x"));
  TALLY_TRY_(tally_read_size_(p, &first.width, &first.height));
  if (first.width < 8 || first.height < 8)
    return tally_fault_at_(p, p->word_line, p->word_column,
                           "a cell measures at least 8 x 8 template pixels");
  if (first.width > 8 * first.height || first.height > 8 * first.width)
    return tally_fault_at_(p, p->word_line, p->word_column,
                           "one side of a cell is more than 8 times the other");
  pitch = first.width;
  while (tally_more_(p)) {
    char word[TALLY_MAX_NAME];
    TALLY_TRY_(tally_read_name_(p, "'pitch' or 'open'", word));
    if (strcmp(word, "open") == 0) {
      field->open = 1;
    } else if (strcmp(word, "pitch") == 0) {
      TALLY_TRY_(tally_read_number_(p, "the pitch", &pitch));
      if (pitch < first.width)
        return tally_fault_at_(p, p->word_line, p->word_column,
                               "the cells of field '%s' overlap: the pitch is below their width",
                               field->name);
      if (pitch > 4 * first.width)
        return tally_fault_at_(p, p->word_line, p->word_column,
                               "the pitch is more than 4 times the cells' width");
    } else {
      return tally_fault_at_(p, p->word_line, p->word_column, "expected 'pitch' or 'open'");
    }
  }
  TALLY_TRY_(tally_place_cells_(p, field, &first, pitch, line, column));
  field->first_cell = form->cells;
  form->cells += field->digits;
  form->fields++;
  return TALLY_OK;
}

static tally_result tally_parse_rule_(tally_parser_ *p) {
  tally_template *form = p->form;
  tally_rule *rule = &form->rule[form->rules];
  char word[TALLY_MAX_NAME];
  double along, beside;
  int line, column;
  TALLY_TRY_(tally_need_page_(p));
  if (form->rules == TALLY_MAX_RULES)
    return tally_fault_at_(p, p->word_line, p->word_column, "more than %d rules", TALLY_MAX_RULES);
  TALLY_TRY_(tally_read_name_(p, "'across' or 'down'", word));
  if (strcmp(word, "across") != 0 && strcmp(word, "down") != 0)
    return tally_fault_at_(p, p->word_line, p->word_column, "expected 'across' or 'down'");
  rule->down = strcmp(word, "down") == 0;
  (void)tally_more_(p);
  line = p->word_line;
  column = p->word_column;
  TALLY_TRY_(tally_read_number_(p, "the rule's place", &rule->at));
  TALLY_TRY_(tally_read_text_(p, "from"));
  TALLY_TRY_(tally_read_number_(p, "where the rule begins", &rule->from));
  TALLY_TRY_(tally_read_text_(p, "to"));
  TALLY_TRY_(tally_read_number_(p, "where the rule ends", &rule->to));
  if (rule->to <= rule->from)
    return tally_fault_at_(p, p->word_line, p->word_column, "the rule ends before it begins");
  along = rule->down ? form->height : form->width;
  beside = rule->down ? form->width : form->height;
  if (rule->at < 0 || rule->at > beside || rule->from < 0 || rule->to > along)
    return tally_fault_at_(p, line, column, "the rule lies off the page");
  form->rules++;
  return TALLY_OK;
}

static tally_result tally_read_field_(tally_parser_ *p, int *out) {
  char name[TALLY_MAX_NAME];
  TALLY_TRY_(tally_read_name_(p, "a field's name", name));
  *out = tally_template_field(p->form, name);
  if (*out < 0) return tally_fault_at_(p, p->word_line, p->word_column, "unknown field '%s'", name);
  if (p->form->field[*out].digits > TALLY_MAX_SUM_DIGITS)
    return tally_fault_at_(p, p->word_line, p->word_column,
                           "field '%s' has more than %d digits, too many for a sum", name,
                           TALLY_MAX_SUM_DIGITS);
  return TALLY_OK;
}

static tally_result tally_parse_sum_(tally_parser_ *p) {
  tally_template *form = p->form;
  tally_sum *sum = &form->sum[form->sums];
  int i;
  if (form->sums == TALLY_MAX_SUMS)
    return tally_fault_at_(p, p->word_line, p->word_column, "more than %d sums", TALLY_MAX_SUMS);
  sum->parts = 0;
  TALLY_TRY_(tally_read_field_(p, &sum->total));
  TALLY_TRY_(tally_read_text_(p, "="));
  for (;;) {
    int field;
    TALLY_TRY_(tally_read_field_(p, &field));
    if (field == sum->total)
      return tally_fault_at_(p, p->word_line, p->word_column, "field '%s' is a part of itself",
                             form->field[field].name);
    for (i = 0; i < sum->parts; i++)
      if (sum->part[i] == field)
        return tally_fault_at_(p, p->word_line, p->word_column, "field '%s' is added twice",
                               form->field[field].name);
    sum->part[sum->parts++] = field;
    if (!tally_more_(p)) break;
    TALLY_TRY_(tally_read_text_(p, "+"));
  }
  form->sums++;
  return TALLY_OK;
}

static tally_result tally_parse_blank_(tally_parser_ *p) {
  tally_template *form = p->form;
  int seen[3] = {0, 0, 0};
  if (p->blanked)
    return tally_fault_at_(p, p->word_line, p->word_column, "a second blank statement");
  while (tally_more_(p)) {
    static const char *const marks[3] = {"empty", "cross", "dash"};
    tally_mark *const target[3] = {&form->empty, &form->cross, &form->dash};
    char word[TALLY_MAX_NAME];
    int which = 0;
    TALLY_TRY_(tally_read_name_(p, "'empty', 'cross' or 'dash'", word));
    while (which < 3 && strcmp(word, marks[which]) != 0) which++;
    if (which == 3)
      return tally_fault_at_(p, p->word_line, p->word_column,
                             "expected 'empty', 'cross' or 'dash'");
    if (seen[which]++)
      return tally_fault_at_(p, p->word_line, p->word_column, "'%s' is given twice", word);
    TALLY_TRY_(tally_read_text_(p, "="));
    TALLY_TRY_(tally_read_name_(p, "'leading-zero' or 'illegible'", word));
    if (strcmp(word, "leading-zero") == 0)
      *target[which] = TALLY_MARK_LEADING_ZERO;
    else if (strcmp(word, "illegible") == 0)
      *target[which] = TALLY_MARK_ILLEGIBLE;
    else
      return tally_fault_at_(p, p->word_line, p->word_column,
                             "expected 'leading-zero' or 'illegible'");
  }
  p->blanked = 1;
  return TALLY_OK;
}

/* Union-find over fields: a sum whose fields are connected already, other than through one field
   each, closes a loop. Returns 1 if adding the sum last parsed does. */
static int tally_closes_loop_(int root[TALLY_MAX_FIELDS + TALLY_MAX_SUMS], const tally_sum *sum,
                              int node) {
  int i;
  for (i = 0; i <= sum->parts; i++) {
    int a = i == sum->parts ? sum->total : sum->part[i];
    int b = node;
    while (root[a] != a) a = root[a];
    while (root[b] != b) b = root[b];
    if (a == b) return 1;
    root[a] = b;
  }
  return 0;
}

static tally_result tally_parse_statement_(tally_parser_ *p,
                                           int root[TALLY_MAX_FIELDS + TALLY_MAX_SUMS]) {
  char word[TALLY_MAX_NAME];
  int line, column;
  TALLY_TRY_(tally_read_name_(p, "a statement", word));
  line = p->word_line;
  column = p->word_column;
  if (strcmp(word, "form") == 0) {
    if (p->named) return tally_fault_at_(p, line, column, "a second form statement");
    p->named = 1;
    TALLY_TRY_(tally_read_name_(p, "the form's name", p->form->name));
  } else if (strcmp(word, "page") == 0) {
    TALLY_TRY_(tally_parse_page_(p));
  } else if (strcmp(word, "anchor") == 0) {
    TALLY_TRY_(tally_parse_anchor_(p));
  } else if (strcmp(word, "field") == 0) {
    TALLY_TRY_(tally_parse_field_(p));
  } else if (strcmp(word, "rule") == 0) {
    TALLY_TRY_(tally_parse_rule_(p));
  } else if (strcmp(word, "sum") == 0) {
    TALLY_TRY_(tally_parse_sum_(p));
    if (tally_closes_loop_(root, &p->form->sum[p->form->sums - 1],
                           TALLY_MAX_FIELDS + p->form->sums - 1))
      return tally_fault_at_(p, line, column,
                             "this sum closes a loop with earlier sums; leave it out");
  } else if (strcmp(word, "blank") == 0) {
    TALLY_TRY_(tally_parse_blank_(p));
  } else {
    return tally_fault_at_(p, line, column, "unknown statement '%s'", word);
  }
  if (tally_more_(p))
    return tally_fault_at_(p, p->word_line, p->word_column, "unexpected text after the statement");
  return TALLY_OK;
}

TALLY_API int tally_template_field(const tally_template *form, const char *name) {
  int i;
  for (i = 0; i < form->fields; i++)
    if (strcmp(form->field[i].name, name) == 0) return i;
  return -1;
}

TALLY_API tally_result tally_template_parse(const char *text, size_t length, tally_template *out,
                                            tally_error *error) {
  tally_parser_ p;
  int root[TALLY_MAX_FIELDS + TALLY_MAX_SUMS], i;
  if (error) memset(error, 0, sizeof *error);
  if (!text || !out) return TALLY_ERROR_ARGUMENT;
  memset(out, 0, sizeof *out);
  memset(&p, 0, sizeof p);
  p.text = text;
  p.length = length;
  p.line = p.column = 1;
  p.error = error;
  p.form = out;
  if (length >= 3 && memcmp(text, "\xEF\xBB\xBF", 3) == 0) p.at = 3; /* a byte order mark */
  out->cross = out->dash = TALLY_MARK_ILLEGIBLE;
  for (i = 0; i < TALLY_MAX_FIELDS + TALLY_MAX_SUMS; i++) root[i] = i;
  while (p.at < length) {
    if (tally_more_(&p)) TALLY_TRY_(tally_parse_statement_(&p, root));
    if (tally_peek_(&p) == '\n') tally_next_(&p);
  }
  if (!p.paged) return tally_fault_at_(&p, 0, 0, "there is no page statement");
  if (out->anchors < 3) return tally_fault_at_(&p, 0, 0, "there must be at least three anchors");
  if (out->fields < 1) return tally_fault_at_(&p, 0, 0, "there must be at least one field");
  return TALLY_OK;
}

/* ---- 3. registration ----------------------------------------------------------------------------

   anchors -> candidate blobs -> hypotheses (similarities that bring at least three anchors onto
   blobs) -> homography -> search along the printed rules -> robust refinement -> per-field
   correction. The rules decide: a hypothesis without them is never accepted. */

#define TALLY_BLOBS_ 40       /* candidates kept per anchor */
#define TALLY_HYPOTHESES_ 48  /* positions kept */
#define TALLY_BATCH_ 8        /* positions tried on the rules at a time, the best first */
#define TALLY_WORK_SIDE_ 1100 /* longest side of the reduced picture */
#define TALLY_PI_ 3.14159265358979323846

typedef struct {
  double x, y;                         /* centroid, picture pixels */
  double size;                         /* square root of the area, picture pixels */
  double angle;                        /* of the long axis, radians */
  double misfit;                       /* from the anchor's shape; 0 is perfect */
  int left, top, right, bottom, label; /* in the reduced picture */
} tally_blob_;

typedef struct {
  tally_image small; /* the picture reduced by a whole factor */
  int factor;
  double paper[3];                /* the paper's level per channel */
  int *labels[TALLY_MAX_ANCHORS]; /* components of each anchor's mask, NULL if shared */
  int mask[TALLY_MAX_ANCHORS];    /* which labels an anchor's blobs refer to */
  tally_blob_ blob[TALLY_MAX_ANCHORS][TALLY_BLOBS_];
  int blobs[TALLY_MAX_ANCHORS];
} tally_scene_;

typedef struct {
  int match[TALLY_MAX_ANCHORS]; /* blob of each anchor, -1 if none */
  int matched;
  double score; /* how many anchors lie well: 1 for each that is where, as large and as
                                   shaped as it should be, down to 0 */
  double h[9];
} tally_hypothesis_;

/* A short stretch of a printed rule, the unit of observation. */
typedef struct {
  double x0, y0, x1, y1; /* template pixels, ends */
  int down, field;       /* field: index, or -1 for a rule of the table */
  int found;
  double offset; /* of the rule from its place, template pixels, along y or (down) x */
  double weight;
} tally_piece_;

/* ---- linear algebra */

/* Solves the n x n system a x = b in place (row-major, n <= 8) by elimination with pivoting; 0 if
   singular. */
static int tally_solve_(double *a, double *b, int n) {
  int i, j, k;
  for (i = 0; i < n; i++) {
    int pivot = i;
    for (j = i + 1; j < n; j++)
      if (fabs(a[j * n + i]) > fabs(a[pivot * n + i])) pivot = j;
    if (fabs(a[pivot * n + i]) < 1e-12) return 0;
    for (k = 0; k < n && pivot != i; k++) {
      double swap = a[i * n + k];
      a[i * n + k] = a[pivot * n + k];
      a[pivot * n + k] = swap;
    }
    if (pivot != i) {
      double swap = b[i];
      b[i] = b[pivot];
      b[pivot] = swap;
    }
    for (j = i + 1; j < n; j++) {
      double f = a[j * n + i] / a[i * n + i];
      for (k = i; k < n; k++) a[j * n + k] -= f * a[i * n + k];
      b[j] -= f * b[i];
    }
  }
  for (i = n - 1; i >= 0; i--) {
    for (k = i + 1; k < n; k++) b[i] -= a[i * n + k] * b[k];
    b[i] /= a[i * n + i];
  }
  return 1;
}

TALLY_API void tally_homography_multiply(const double a[9], const double b[9], double out[9]) {
  double c[9];
  int i, j;
  for (i = 0; i < 3; i++)
    for (j = 0; j < 3; j++)
      c[3 * i + j] = a[3 * i] * b[j] + a[3 * i + 1] * b[3 + j] + a[3 * i + 2] * b[6 + j];
  memcpy(out, c, sizeof c);
}

TALLY_API tally_point tally_homography_map(const double h[9], double x, double y) {
  double w = h[6] * x + h[7] * y + h[8];
  tally_point p;
  if (fabs(w) < 1e-12) w = w < 0 ? -1e-12 : 1e-12;
  w = 1 / w;
  p.x = (h[0] * x + h[1] * y + h[2]) * w;
  p.y = (h[3] * x + h[4] * y + h[5]) * w;
  return p;
}

/* The adjugate of h, its inverse but for the factor that is returned: the determinant. */
static double tally_adjugate_(const double h[9], double out[9]) {
  out[0] = h[4] * h[8] - h[5] * h[7];
  out[1] = h[2] * h[7] - h[1] * h[8];
  out[2] = h[1] * h[5] - h[2] * h[4];
  out[3] = h[5] * h[6] - h[3] * h[8];
  out[4] = h[0] * h[8] - h[2] * h[6];
  out[5] = h[2] * h[3] - h[0] * h[5];
  out[6] = h[3] * h[7] - h[4] * h[6];
  out[7] = h[1] * h[6] - h[0] * h[7];
  out[8] = h[0] * h[4] - h[1] * h[3];
  return h[0] * out[0] + h[1] * out[3] + h[2] * out[6];
}

TALLY_API tally_result tally_homography_invert(const double h[9], double out[9]) {
  double adjugate[9], determinant;
  int i;
  if (!h || !out) return TALLY_ERROR_ARGUMENT;
  determinant = tally_adjugate_(h, adjugate);
  if (!(fabs(determinant) >= DBL_MIN && fabs(determinant) <= DBL_MAX)) return TALLY_ERROR_ARGUMENT;
  for (i = 0; i < 9; i++) out[i] = adjugate[i] / determinant;
  return TALLY_OK;
}

TALLY_API double tally_homography_scale(const double h[9], double x, double y) {
  double adjugate[9], w = h[6] * x + h[7] * y + h[8];
  return sqrt(fabs(tally_adjugate_(h, adjugate) / (w * w * w)));
}

/* Whether no three of four points lie on a line: each triangle of them has some of the area that
   the longest of their distances spans. Written so that a NaN lies on a line too. */
static int tally_spread_(const tally_point p[4]) {
  double reach = 0;
  int i;
  for (i = 0; i < 4; i++) {
    double far_x = fabs(p[(i + 1) & 3].x - p[i].x), far_y = fabs(p[(i + 1) & 3].y - p[i].y);
    reach = fmax(reach, fmax(far_x, far_y));
  }
  for (i = 0; i < 4; i++) {
    tally_point a = p[i], b = p[(i + 1) & 3], c = p[(i + 2) & 3];
    double area = fabs((b.x - a.x) * (c.y - a.y) - (c.x - a.x) * (b.y - a.y));
    if (!(area > 1e-9 * reach * reach)) return 0;
  }
  return 1;
}

/* Two equations a point. The origin is moved to the first of them, which goes to a finite place, so
   that the last coefficient can be 1. */
TALLY_API tally_result tally_homography(const tally_point from[4], const tally_point to[4],
                                        double h[9]) {
  double a[64], b[8], there[9] = {1, 0, 0, 0, 1, 0, 0, 0, 1};
  int i;
  if (!from || !to || !h || !tally_spread_(from) || !tally_spread_(to)) return TALLY_ERROR_ARGUMENT;
  for (i = 0; i < 4; i++) {
    double x = from[i].x - from[0].x, y = from[i].y - from[0].y, u = to[i].x, v = to[i].y;
    double rows[16] = {x, y, 1, 0, 0, 0, -u * x, -u * y, 0, 0, 0, x, y, 1, -v * x, -v * y};
    memcpy(a + 16 * i, rows, sizeof rows);
    b[2 * i] = u;
    b[2 * i + 1] = v;
  }
  if (!tally_solve_(a, b, 8)) return TALLY_ERROR_ARGUMENT;
  memcpy(h, b, sizeof b);
  h[8] = 1;
  there[2] = -from[0].x;
  there[5] = -from[0].y;
  tally_homography_multiply(h, there, h);
  return TALLY_OK;
}

/* Adds the equation `row` . x = value, of the given weight, to the normal equations. */
static void tally_equation_(double *normal, double *right, int n, const double *row, double value,
                            double weight) {
  int i, j;
  for (i = 0; i < n; i++) {
    for (j = 0; j < n; j++) normal[i * n + j] += weight * row[i] * row[j];
    right[i] += weight * row[i] * value;
  }
}

/* Least-squares map from template points to picture points: affine for 3 points, a homography for 4
   or more. Template coordinates are centred and scaled by the page first, for good condition. */
static int tally_fit_points_(const tally_template *form, const tally_point *from,
                             const tally_point *to, int n, double h[9]) {
  double normal[64] = {0}, right[8] = {0}, scale[9] = {0}, mean_x = 0, mean_y = 0;
  double half = (form->width + form->height) / 4;
  int unknowns = n > 3 ? 8 : 6, i;
  if (n < 3) return 0;
  for (i = 0; i < n; i++) {
    mean_x += to[i].x / n;
    mean_y += to[i].y / n;
  }
  for (i = 0; i < n; i++) {
    double x = (from[i].x - form->width / 2) / half, y = (from[i].y - form->height / 2) / half;
    double u = (to[i].x - mean_x) / half, v = (to[i].y - mean_y) / half;
    double row_u[8] = {x, y, 1, 0, 0, 0, -u * x, -u * y};
    double row_v[8] = {0, 0, 0, x, y, 1, -v * x, -v * y};
    tally_equation_(normal, right, unknowns, row_u, u, 1);
    tally_equation_(normal, right, unknowns, row_v, v, 1);
  }
  if (!tally_solve_(normal, right, unknowns)) return 0;
  memset(h, 0, 9 * sizeof *h);
  memcpy(h, right, (size_t)unknowns * sizeof *h);
  h[8] = 1;
  for (i = 0; i < 3; i++) {
    h[i] = h[i] * half + mean_x * h[6 + i];
    h[3 + i] = h[3 + i] * half + mean_y * h[6 + i];
  }
  scale[0] = scale[4] = 1 / half;
  scale[2] = -form->width / 2 / half;
  scale[5] = -form->height / 2 / half;
  scale[8] = 1;
  tally_homography_multiply(h, scale, h);
  return 1;
}

/* ---- anchors */

/* The picture reduced by averaging factor x factor blocks; what does not fill a block is dropped.
   */
static tally_result tally_reduce_(const tally_image *in, int factor, tally_image *out) {
  return tally_shrink_(in, factor, factor, in->width / factor, in->height / factor, out);
}

/* The level that the lightest 30 % of pixels reach, per channel: paper, even on a page full of ink.
   */
static void tally_find_paper_(tally_scene_ *scene) {
  const tally_image *in = &scene->small;
  size_t n = tally_count_(in), i;
  int k, c = in->channels;
  for (k = 0; k < 3; k++) {
    size_t histogram[256] = {0}, above = 0, seen = 0;
    int level = 255;
    /* Every fifth pixel is plenty for a percentile. */
    for (i = 0; i < n; i += 5, seen++) histogram[in->pixels[i * (size_t)c + (size_t)(k % c)]]++;
    while (level > 0 && (above += histogram[level]) < seen * 3 / 10) level--;
    scene->paper[k] = level < 16 ? 16 : level;
  }
}

/* 255 where the colour could be the anchor's: hue within 14 degrees of its range, half its
   saturation and value, after the paper has been made white. Fading lowers saturation, shade lowers
   value; hue keeps best. */
static void tally_colour_mask_(const tally_scene_ *scene, const tally_anchor *anchor,
                               tally_image *mask) {
  const tally_image *in = &scene->small;
  size_t n = tally_count_(in), i;
  uint8_t white[3][256];
  int k, level;
  double s_low = anchor->hsv_low[1] * 0.5 < 12 ? 12 : anchor->hsv_low[1] * 0.5;
  double v_low = anchor->hsv_low[2] * 0.5;
  double width = anchor->hsv_high[0] - anchor->hsv_low[0];
  int from = (int)(anchor->hsv_low[0] - 14 + 360) % 360, s_least = (int)(s_low * 255 / 100);
  int v_least = (int)(v_low * 255 / 100), span;
  if (width < 0) width += 360;
  span = width + 28 > 360 ? 360 : (int)width + 28;
  for (k = 0; k < 3; k++)
    for (level = 0; level < 256; level++)
      white[k][level] = tally_byte_(level * 255 / scene->paper[k]);
  for (i = 0; i < n; i++) {
    const uint8_t *p = in->pixels + 3 * i;
    int r = white[0][p[0]], g = white[1][p[1]], b = white[2][p[2]];
    int high = tally_max_(r, tally_max_(g, b)), low = tally_min_(r, tally_min_(g, b));
    int h, s, v, turn;
    if (high < v_least || (high - low) * 255 < s_least * high) continue;
    tally_hsv_pixel_(r, g, b, &h, &s, &v);
    turn = (2 * h - from + 720) % 360;
    if (turn <= span) mask->pixels[i] = 255;
  }
}

static double tally_elongation_(const tally_box *box) {
  return box->width > box->height ? box->width / box->height : box->height / box->width;
}

/* Picture pixels per template pixel if the page just fills the picture's longer side. */
static double tally_full_scale_(const tally_image *picture, const tally_template *form) {
  double page = form->width > form->height ? form->width : form->height;
  return tally_max_(picture->width, picture->height) / page;
}

/* Turns a component into a blob if its size and shape could be the anchor's. For a filled rectangle
   area = 12 sqrt(det) and for an ellipse 4 pi sqrt(det), det of the second moments: a test of shape
   that no rotation and no shear changes. */
static int tally_blob_from_(const tally_scene_ *scene, const tally_anchor *anchor,
                            double full_scale, const tally_component *part, int label,
                            tally_blob_ *out) {
  double xx = part->xx + 1.0 / 12, yy = part->yy + 1.0 / 12, factor = scene->factor;
  double mean = (xx + yy) / 2, gap = sqrt((xx - yy) * (xx - yy) / 4 + part->xy * part->xy);
  double major = mean + gap, minor = mean - gap, shape, solidity, stretch, scale;
  int square = anchor->kind == TALLY_ANCHOR_SQUARE, cut;
  if (part->area < 12 || minor <= 0) return 0;
  shape = anchor->kind == TALLY_ANCHOR_DISC ? 4 * TALLY_PI_ : 12;
  solidity = part->area / (shape * sqrt(major * minor));
  stretch = log(sqrt(major / minor) / tally_elongation_(&anchor->box));
  scale = sqrt(part->area / (anchor->box.width * anchor->box.height)) * factor;
  if (solidity < (square ? 0.75 : 0.5) || solidity > 1.3) return 0;
  cut = square && (part->left == 0 || part->top == 0 || part->right == scene->small.width - 1 ||
                   part->bottom == scene->small.height - 1);
  if (fabs(stretch) > (cut ? 1.1 : 0.6)) return 0; /* the picture's edge may cut a square in half */
  if (scale < full_scale * 0.2 || scale > full_scale * 1.6) return 0;
  out->x = (part->x + 0.5) * factor;
  out->y = (part->y + 0.5) * factor;
  out->size = sqrt((double)part->area) * factor;
  out->angle = 0.5 * atan2(2 * part->xy, xx - yy);
  out->misfit = fabs(1 - solidity) + 0.5 * fabs(stretch) + 0.1 * fabs(log(scale / full_scale));
  out->left = part->left;
  out->top = part->top;
  out->right = part->right;
  out->bottom = part->bottom;
  out->label = label;
  return 1;
}

/* Keeps the TALLY_BLOBS_ best, in order. */
static void tally_keep_blob_(tally_scene_ *scene, int anchor, const tally_blob_ *blob) {
  tally_blob_ *list = scene->blob[anchor];
  int n = scene->blobs[anchor];
  if (n == TALLY_BLOBS_ && list[n - 1].misfit <= blob->misfit) return;
  if (n < TALLY_BLOBS_) scene->blobs[anchor] = ++n;
  for (n--; n > 0 && list[n - 1].misfit > blob->misfit; n--) list[n] = list[n - 1];
  list[n] = *blob;
}

static int tally_same_mask_(const tally_anchor *a, const tally_anchor *b) {
  int square_a = a->kind == TALLY_ANCHOR_SQUARE, square_b = b->kind == TALLY_ANCHOR_SQUARE;
  if (square_a || square_b) return square_a && square_b;
  return memcmp(a->hsv_low, b->hsv_low, sizeof a->hsv_low) == 0 &&
         memcmp(a->hsv_high, b->hsv_high, sizeof a->hsv_high) == 0;
}

/* Marks the pixels that could belong to the anchor. Squares are what is much darker than its wide
   surroundings. */
static tally_result tally_anchor_mask_(const tally_scene_ *scene, const tally_anchor *anchor,
                                       tally_image *mask) {
  const tally_image *in = &scene->small;
  if (anchor->kind == TALLY_ANCHOR_SQUARE) {
    tally_image grey;
    tally_result result;
    int radius = tally_max_(8, tally_max_(in->width, in->height) / 25);
    TALLY_TRY_(tally_grey(in, &grey));
    result = tally_threshold_adaptive(&grey, radius, (int)(scene->paper[1] * 0.25), mask);
    tally_image_free(&grey);
    return result;
  }
  TALLY_TRY_(tally_image_make(in->width, in->height, 1, mask));
  if (in->channels == 3) tally_colour_mask_(scene, anchor, mask);
  return TALLY_OK;
}

/* Components of the mask of anchor `first`, and the blobs of every anchor that shares it. */
static tally_result tally_find_blobs_(tally_scene_ *scene, const tally_template *form, int first,
                                      double full_scale, const tally_image *mask) {
  size_t most = (size_t)(mask->width / 2 + 1) * (size_t)(mask->height / 2 + 1);
  tally_component *parts = (tally_component *)tally_alloc_(most, sizeof *parts);
  int n, i, a;
  scene->labels[first] = (int *)tally_alloc_(tally_count_(mask), sizeof(int));
  n = parts && scene->labels[first] ? tally_components(mask, scene->labels[first], parts, (int)most)
                                    : -1;
  for (a = first; a < form->anchors && n >= 0; a++) {
    if (!tally_same_mask_(&form->anchor[first], &form->anchor[a])) continue;
    scene->mask[a] = first;
    for (i = 0; i < n; i++) {
      tally_blob_ blob;
      if (tally_blob_from_(scene, &form->anchor[a], full_scale, &parts[i], i + 1, &blob))
        tally_keep_blob_(scene, a, &blob);
    }
  }
  TALLY_FREE(parts);
  return n < 0 ? TALLY_ERROR_MEMORY : TALLY_OK;
}

static tally_result tally_find_anchors_(tally_scene_ *scene, const tally_template *form,
                                        double full_scale) {
  int a;
  for (a = 0; a < form->anchors; a++) scene->mask[a] = -1;
  for (a = 0; a < form->anchors; a++) {
    tally_image mask;
    tally_result result;
    if (scene->mask[a] >= 0) continue;
    TALLY_TRY_(tally_anchor_mask_(scene, &form->anchor[a], &mask));
    result = tally_find_blobs_(scene, form, a, full_scale, &mask);
    tally_image_free(&mask);
    if (result != TALLY_OK) return result;
  }
  return TALLY_OK;
}

/* ---- hypotheses */

static tally_point tally_centre_(const tally_box *box) {
  tally_point p;
  p.x = box->x + box->width / 2;
  p.y = box->y + box->height / 2;
  return p;
}

/* Size of a blob against what a similarity of this scale gives the anchor; 1 when they agree. */
static double tally_size_ratio_(const tally_anchor *anchor, const tally_blob_ *blob, double scale) {
  double expected = sqrt(anchor->box.width * anchor->box.height) * scale;
  return blob->size / expected / (anchor->kind == TALLY_ANCHOR_DISC ? sqrt(TALLY_PI_ / 4) : 1);
}

/* Whether the blob has the size and, for a long anchor, the direction that a similarity of this
   scale and turn gives the anchor. */
static int tally_blob_agrees_(const tally_anchor *anchor, const tally_blob_ *blob, double scale,
                              double turn) {
  double ratio = tally_size_ratio_(anchor, blob, scale);
  if (ratio < 0.55 || ratio > 1.5) return 0;
  if (tally_elongation_(&anchor->box) > 2.5) {
    double along = anchor->box.width > anchor->box.height ? turn : turn + TALLY_PI_ / 2;
    if (fabs(sin(blob->angle - along)) > 0.25) return 0;
  }
  return 1;
}

/* 1 for a blob that is just where, as large and as shaped as the anchor, less for one that is not.
   */
static double tally_blob_score_(const tally_anchor *anchor, const tally_blob_ *blob, double scale,
                                double distance) {
  double score =
      1 - distance - fabs(log(tally_size_ratio_(anchor, blob, scale))) - 0.5 * blob->misfit;
  return score > 0 ? score : 0;
}

/* The nearest agreeing blob of anchor k to where the similarity (base -> origin, then scale and
   turn given as the complex factor fx, fy) puts it, within reach; -1 if none. */
static int tally_nearest_blob_(const tally_scene_ *scene, const tally_anchor *anchor, int k,
                               tally_point at, double reach, double scale, double turn,
                               double *distance) {
  int i, best = -1;
  *distance = reach;
  for (i = 0; i < scene->blobs[k]; i++) {
    const tally_blob_ *blob = &scene->blob[k][i];
    double d = sqrt((blob->x - at.x) * (blob->x - at.x) + (blob->y - at.y) * (blob->y - at.y));
    if (d < *distance && tally_blob_agrees_(anchor, blob, scale, turn)) {
      *distance = d;
      best = i;
    }
  }
  return best;
}

static void tally_keep_hypothesis_(tally_hypothesis_ *list, int *n, const tally_hypothesis_ *fresh,
                                   int anchors) {
  int i = 0, k;
  for (k = 0; k < *n; k++)
    if (memcmp(list[k].match, fresh->match, (size_t)anchors * sizeof(int)) == 0) return;
  while (i < *n && list[i].score >= fresh->score) i++;
  if (i == TALLY_HYPOTHESES_) return;
  if (*n < TALLY_HYPOTHESES_) ++*n;
  for (k = *n - 1; k > i; k--) list[k] = list[k - 1];
  list[i] = *fresh;
}

/* Every way to put anchors i and j on two blobs fixes a similarity; the others must be near where
   it puts them. */
static void tally_try_pair_(const tally_scene_ *scene, const tally_template *form, int i, int j,
                            double full_scale, tally_hypothesis_ *list, int *n) {
  tally_point a = tally_centre_(&form->anchor[i].box), b = tally_centre_(&form->anchor[j].box);
  double dx = b.x - a.x, dy = b.y - a.y, square = dx * dx + dy * dy;
  int p, q, k;
  for (p = 0; p < scene->blobs[i]; p++) {
    for (q = 0; q < scene->blobs[j]; q++) {
      const tally_blob_ *from = &scene->blob[i][p], *to = &scene->blob[j][q];
      double ex = to->x - from->x, ey = to->y - from->y;
      double fx = (ex * dx + ey * dy) / square, fy = (ey * dx - ex * dy) / square;
      double scale = sqrt(fx * fx + fy * fy), turn = atan2(fy, fx), reach;
      tally_hypothesis_ fresh;
      double worst = 1, score;
      int odd = -1; /* the anchor that fits worst: its blob may be something else */
      if (scale < full_scale * 0.25 || scale > full_scale * 1.3) continue;
      if (!tally_blob_agrees_(&form->anchor[i], from, scale, turn) ||
          !tally_blob_agrees_(&form->anchor[j], to, scale, turn))
        continue;
      reach = 0.16 * sqrt(ex * ex + ey * ey);
      fresh.matched = 0;
      fresh.score = 0;
      for (k = 0; k < form->anchors; k++) {
        tally_point c = tally_centre_(&form->anchor[k].box), at;
        double distance = 0;
        at.x = from->x + fx * (c.x - a.x) - fy * (c.y - a.y);
        at.y = from->y + fy * (c.x - a.x) + fx * (c.y - a.y);
        fresh.match[k] = k == i   ? p
                         : k == j ? q
                                  : tally_nearest_blob_(scene, &form->anchor[k], k, at, reach,
                                                        scale, turn, &distance);
        if (fresh.match[k] < 0) continue;
        fresh.matched++;
        score = tally_blob_score_(&form->anchor[k], &scene->blob[k][fresh.match[k]], scale,
                                  k == i || k == j ? 0 : distance / reach);
        fresh.score += score;
        if (k != i && k != j && score < worst) {
          worst = score;
          odd = k;
        }
      }
      if (fresh.matched >= 3) tally_keep_hypothesis_(list, n, &fresh, form->anchors);
      if (fresh.matched >= 4 && worst < 0.85) {
        fresh.match[odd] = -1;
        fresh.matched--;
        fresh.score -= worst;
        tally_keep_hypothesis_(list, n, &fresh, form->anchors);
      }
    }
  }
}

static double tally_anchor_distance_(const tally_template *form, int i, int j) {
  tally_point a = tally_centre_(&form->anchor[i].box), b = tally_centre_(&form->anchor[j].box);
  return sqrt((b.x - a.x) * (b.x - a.x) + (b.y - a.y) * (b.y - a.y));
}

/* Fills list with at most TALLY_HYPOTHESES_ positions, the best score first. */
static int tally_hypothesise_(const tally_scene_ *scene, const tally_template *form,
                              double full_scale, tally_hypothesis_ *list) {
  int i, j, n = 0;
  double longest = 0;
  for (i = 0; i < form->anchors; i++)
    for (j = 0; j < i; j++)
      if (tally_anchor_distance_(form, i, j) > longest)
        longest = tally_anchor_distance_(form, i, j);
  for (i = 0; i < form->anchors; i++)
    for (j = i + 1; j < form->anchors; j++)
      if (tally_anchor_distance_(form, i, j) > 0.5 * longest)
        tally_try_pair_(scene, form, i, j, full_scale, list, &n);
  return n;
}

/* The outermost pixel of a blob in a direction (picture coordinates of its outer corner). */
static tally_point tally_extreme_(const tally_scene_ *scene, int anchor, const tally_blob_ *blob,
                                  double dx, double dy) {
  const int *labels = scene->labels[scene->mask[anchor]];
  int width = scene->small.width, x, y;
  double best = -DBL_MAX;
  tally_point p = {0, 0};
  for (y = blob->top; y <= blob->bottom; y++)
    for (x = blob->left; x <= blob->right; x++)
      if (labels[(size_t)y * (size_t)width + (size_t)x] == blob->label && x * dx + y * dy > best) {
        best = x * dx + y * dy;
        p.x = (x + 0.5 + 0.5 * dx) * scene->factor;
        p.y = (y + 0.5 + 0.5 * dy) * scene->factor;
      }
  return p;
}

/* The points of a hypothesis: centres, and of coloured boxes the four corners instead (they carry
   the perspective). h is the map so far. */
static int tally_anchor_points_(const tally_scene_ *scene, const tally_template *form,
                                const tally_hypothesis_ *hypothesis, int corners, tally_point *from,
                                tally_point *to) {
  double turn = atan2(hypothesis->h[3], hypothesis->h[0]);
  int k, i, n = 0;
  for (k = 0; k < form->anchors; k++) {
    const tally_box *box = &form->anchor[k].box;
    const tally_blob_ *blob = &scene->blob[k][tally_max_(0, hypothesis->match[k])];
    if (hypothesis->match[k] < 0) continue;
    if (!corners || form->anchor[k].kind != TALLY_ANCHOR_BOX) {
      from[n] = tally_centre_(box);
      to[n].x = blob->x;
      to[n++].y = blob->y;
      continue;
    }
    for (i = 0; i < 4; i++) {
      int right = i == 1 || i == 2, low = i >= 2;
      double angle = turn + TALLY_PI_ / 4 * (low ? (right ? 1 : 3) : (right ? -1 : -3));
      from[n].x = box->x + (right ? box->width : 0);
      from[n].y = box->y + (low ? box->height : 0);
      to[n++] = tally_extreme_(scene, k, blob, cos(angle), sin(angle));
    }
  }
  return n;
}

/* Singular values of the map's derivative at a template point. */
static void tally_stretch_(const double h[9], double x, double y, double *large, double *small) {
  tally_point p = tally_homography_map(h, x, y), u = tally_homography_map(h, x + 1, y),
              v = tally_homography_map(h, x, y + 1);
  double a = u.x - p.x, b = v.x - p.x, c = u.y - p.y, d = v.y - p.y;
  double s = (a * a + b * b + c * c + d * d) / 2, t = a * d - b * c;
  double r = sqrt(s * s > t * t ? s * s - t * t : 0);
  *large = sqrt(s + r);
  *small = t > 0 ? sqrt(s > r ? s - r : 0) : 0; /* a mirrored page counts as flattened */
}

/* Whether a map could be a page before a camera: no mirror, no fold, stretch and perspective
   bounded. */
static int tally_plausible_(const tally_template *form, const double h[9], double full_scale) {
  double least = DBL_MAX, most = 0;
  int i;
  for (i = 0; i < 5; i++) {
    double x = i == 4 ? form->width / 2 : (i & 1) ? form->width : 0;
    double y = i == 4 ? form->height / 2 : (i & 2) ? form->height : 0;
    double large, small;
    if (h[6] * x + h[7] * y + h[8] <= 0.2 * h[8]) return 0;
    tally_stretch_(h, x, y, &large, &small);
    if (small < large * 0.5) return 0;
    if (small < least) least = small;
    if (large > most) most = large;
  }
  return least > 0.2 * full_scale && most < 2.5 * full_scale && most < 3 * least;
}

static int tally_fit_hypothesis_(const tally_scene_ *scene, const tally_template *form,
                                 tally_hypothesis_ *hypothesis, double full_scale) {
  tally_point from[4 * TALLY_MAX_ANCHORS], to[4 * TALLY_MAX_ANCHORS];
  double centres[9];
  int n = tally_anchor_points_(scene, form, hypothesis, 0, from, to), m;
  if (!tally_fit_points_(form, from, to, n, hypothesis->h)) return 0;
  if (!tally_plausible_(form, hypothesis->h, full_scale)) return 0;
  m = tally_anchor_points_(scene, form, hypothesis, 1, from, to);
  if (m == n) return 1;
  memcpy(centres, hypothesis->h, sizeof centres);
  if (!tally_fit_points_(form, from, to, m, hypothesis->h) ||
      !tally_plausible_(form, hypothesis->h, full_scale))
    memcpy(hypothesis->h, centres, sizeof centres);
  return 1;
}

/* Where the centre of mass of a projected rectangle lies: not at its projected centre, once there
   is perspective. */
static tally_point tally_projected_centre_(const double h[9], const tally_box *box) {
  tally_point corner[4], sum = {0, 0};
  double area = 0;
  int i;
  for (i = 0; i < 4; i++)
    corner[i] = tally_homography_map(h, box->x + (i == 1 || i == 2 ? box->width : 0),
                                     box->y + (i >= 2 ? box->height : 0));
  for (i = 0; i < 4; i++) {
    tally_point a = corner[i], b = corner[(i + 1) % 4];
    double cross = a.x * b.y - b.x * a.y;
    area += cross;
    sum.x += (a.x + b.x) * cross;
    sum.y += (a.y + b.y) * cross;
  }
  if (fabs(area) < 1e-9) return corner[0];
  sum.x /= 3 * area;
  sum.y /= 3 * area;
  return sum;
}

/* Largest distance of a matched anchor from where h puts it, template pixels. */
static double tally_anchor_error_(const tally_scene_ *scene, const tally_template *form,
                                  const tally_hypothesis_ *hypothesis, const double h[9]) {
  double worst = 0;
  int k;
  for (k = 0; k < form->anchors; k++) {
    tally_point c = tally_centre_(&form->anchor[k].box), p;
    const tally_blob_ *blob = &scene->blob[k][tally_max_(0, hypothesis->match[k])];
    double large, small, d;
    if (hypothesis->match[k] < 0) continue;
    p = tally_projected_centre_(h, &form->anchor[k].box);
    tally_stretch_(h, c.x, c.y, &large, &small);
    d = sqrt((blob->x - p.x) * (blob->x - p.x) + (blob->y - p.y) * (blob->y - p.y)) / large;
    if (d > worst) worst = d;
  }
  return worst;
}

/* ---- printed rules */

typedef struct {
  tally_piece_ *list;
  int count, capacity;
} tally_pieces_;

/* Cuts a rule into pieces of at most 110 template pixels, a little short of its ends. */
static int tally_add_pieces_(tally_pieces_ *pieces, int down, double at, double from, double to,
                             int field) {
  double inset = (to - from) * 0.04 < 4 ? (to - from) * 0.04 : 4, length;
  int n, i;
  from += inset;
  to -= inset;
  n = (int)ceil((to - from) / 110);
  length = (to - from) / n;
  for (i = 0; i < n; i++) {
    tally_piece_ *piece;
    if (pieces->count == pieces->capacity) {
      int larger = pieces->capacity ? 2 * pieces->capacity : 256;
      tally_piece_ *grown =
          (tally_piece_ *)TALLY_REALLOC(pieces->list, (size_t)larger * sizeof *grown);
      if (!grown) return 0;
      pieces->list = grown;
      pieces->capacity = larger;
    }
    piece = &pieces->list[pieces->count++];
    memset(piece, 0, sizeof *piece);
    piece->down = down;
    piece->field = field;
    piece->x0 = down ? at : from + i * length;
    piece->x1 = down ? at : from + (i + 1) * length;
    piece->y0 = down ? from + i * length : at;
    piece->y1 = down ? from + (i + 1) * length : at;
  }
  return 1;
}

/* All printed rules of a template: its rule statements and the boxes round the cells. */
static int tally_list_pieces_(const tally_template *form, tally_pieces_ *pieces) {
  int i, k, ok = 1;
  for (i = 0; i < form->rules && ok; i++)
    ok = tally_add_pieces_(pieces, form->rule[i].down, form->rule[i].at, form->rule[i].from,
                           form->rule[i].to, -1);
  for (i = 0; i < form->fields; i++) {
    const tally_field *field = &form->field[i];
    for (k = 0; k < field->digits && !field->open && ok; k++) {
      const tally_box *c = &field->cell[k];
      int shared = k > 0 && field->cell[k - 1].x + c->width > c->x - 1;
      ok = tally_add_pieces_(pieces, 0, c->y, c->x, c->x + c->width, i) &&
           tally_add_pieces_(pieces, 0, c->y + c->height, c->x, c->x + c->width, i) &&
           (shared || tally_add_pieces_(pieces, 1, c->x, c->y, c->y + c->height, i)) &&
           tally_add_pieces_(pieces, 1, c->x + c->width, c->y, c->y + c->height, i);
    }
  }
  return ok;
}

#define TALLY_REACH_ 24 /* widest search, template pixels */
#define TALLY_PROFILE_                                                                             \
  (2 * 2 * (TALLY_REACH_ + 6) + 1) /* samples of a profile, half a pixel apart */

/* Adds to sum[0..n-1] the bilinear samples, times 64, of a line of points in 1/256 pixels. The line
   must lie at least a pixel inside the picture. */
static void tally_add_line_(const tally_image *in, int channel, int x, int y, int dx, int dy, int n,
                            int *sum) {
  const uint8_t *pixels = in->pixels + channel;
  const ptrdiff_t c = in->channels, stride = (ptrdiff_t)in->width * c;
  int i;
  x -= 128;
  y -= 128;
  for (i = 0; i < n; i++, x += dx, y += dy) {
    const uint8_t *p = pixels + (ptrdiff_t)(y >> 8) * stride + (ptrdiff_t)(x >> 8) * c;
    sum[i] += tally_between_(p, c, stride, x & 255, y & 255) >> 10;
  }
}

/* Mean light across a piece: profile[i] at offset (i - middle) * step from its predicted place, -1
   where the picture ends. Read in the green channel, where black, blue and pink print all show. */
static void tally_profile_(const tally_image *picture, const double h[9], const tally_piece_ *piece,
                           int middle, double step, double *profile) {
  double length = piece->down ? piece->y1 - piece->y0 : piece->x1 - piece->x0;
  int samples = tally_clamp_((int)(length / 6), 6, 12), i, k, channel = picture->channels == 3;
  int sum[TALLY_PROFILE_], used = 0;
  memset(sum, 0, sizeof sum);
  for (k = 0; k < samples; k++) {
    double t = (k + 0.5) / samples;
    double x = piece->x0 + t * (piece->x1 - piece->x0), y = piece->y0 + t * (piece->y1 - piece->y0);
    double nx = piece->down ? middle * step : 0, ny = piece->down ? 0 : middle * step;
    tally_point low = tally_homography_map(h, x - nx, y - ny),
                high = tally_homography_map(h, x + nx, y + ny);
    double scale = 256.0 / (2 * middle), wide = picture->width - 2, tall = picture->height - 2;
    if (!(low.x > 2 && low.y > 2 && low.x < wide && low.y < tall && high.x > 2 && high.y > 2 &&
          high.x < wide && high.y < tall))
      continue;
    used++;
    tally_add_line_(picture, channel, (int)(low.x * 256), (int)(low.y * 256),
                    (int)((high.x - low.x) * scale), (int)((high.y - low.y) * scale),
                    2 * middle + 1, sum);
  }
  for (i = 0; i <= 2 * middle; i++) profile[i] = used * 2 >= samples ? sum[i] / (64.0 * used) : -1;
}

static double tally_mean_(const double *v, int from, int to) {
  double sum = 0;
  int i;
  for (i = from; i <= to; i++) sum += v[i];
  return sum / (to - from + 1);
}

/* How much darker the profile is at i than on both of its sides, as a share of the light there. */
static double tally_ridge_(const double *profile, int i, double step) {
  int near = (int)(3 / step), far = (int)(5 / step), half = (int)(0.75 / step + 0.5);
  double left = tally_mean_(profile, i - far, i - near),
         right = tally_mean_(profile, i + near, i + far);
  double side = left < right ? left : right, most = left > right ? left : right;
  double centre = tally_mean_(profile, i - half, i + half);
  return most < 8 ? 0 : (side - centre) / most;
}

/* Centre of the dark line near i: centroid of what is darker than the sides. */
static double tally_line_centre_(const double *profile, int i, double step) {
  int reach = (int)(2.5 / step), k;
  double side = (tally_mean_(profile, i - 2 * reach, i - reach) +
                 tally_mean_(profile, i + reach, i + 2 * reach)) /
                2;
  double sum = 0, moment = 0;
  for (k = i - reach; k <= i + reach; k++) {
    double dark = side - profile[k];
    if (dark <= 0) continue;
    sum += dark;
    moment += dark * k;
  }
  return sum > 0 ? moment / sum : i;
}

#define TALLY_CONTRAST_ 0.05 /* the least ridge that counts as a printed rule */

/* Looks for each piece within reach of its predicted place; nearer is preferred. */
static void tally_observe_(const tally_image *picture, const double h[9], tally_pieces_ *pieces,
                           double reach) {
  double profile[TALLY_PROFILE_], step = 0.5;
  int middle = (int)((reach + 6) / step), n = (int)(reach / step), i, k;
  for (k = 0; k < pieces->count; k++) {
    tally_piece_ *piece = &pieces->list[k];
    double best = 0;
    int at = 0;
    tally_profile_(picture, h, piece, middle, step, profile);
    piece->found = 0;
    if (profile[0] < 0) continue;
    for (i = -n; i <= n; i++) {
      double ridge = tally_ridge_(profile, middle + i, step);
      double preference = 1 - 0.5 * i * i / ((double)n * n);
      if (ridge > TALLY_CONTRAST_ && ridge * preference > best) {
        best = ridge * preference;
        at = i;
      }
    }
    if (best <= 0) continue;
    piece->found = 1;
    piece->offset = (tally_line_centre_(profile, middle + at, step) - middle) * step;
    piece->weight = best < 0.2 ? best / 0.2 : 1;
  }
}

/* The common shift of all across (or all down) pieces: the offset where their ridges add up
   highest. Returns that sum per piece, a first measure of whether the rules are there at all. */
static void tally_common_shift_(const tally_image *picture, const double h[9],
                                const tally_pieces_ *pieces, double shift[2], double strength[2]) {
  double profile[TALLY_PROFILE_], sum[2][2 * TALLY_REACH_ + 1];
  int middle = TALLY_REACH_ + 6, n[2] = {0, 0}, i, k;
  int stride = pieces->count / 90 + 1; /* a sample of the pieces is enough for one common shift */
  if (stride % 2 == 0) stride++; /* a box's pieces alternate, so an even stride would miss half */
  memset(sum, 0, sizeof sum);
  for (k = 0; k < pieces->count; k += stride) {
    const tally_piece_ *piece = &pieces->list[k];
    n[piece->down]++;
    tally_profile_(picture, h, piece, middle, 1, profile);
    if (profile[0] < 0) continue;
    for (i = 0; i <= 2 * TALLY_REACH_; i++) {
      double ridge = tally_ridge_(profile, i + 6, 1);
      if (ridge > TALLY_CONTRAST_) sum[piece->down][i] += ridge < 0.15 ? ridge : 0.15;
    }
  }
  for (k = 0; k < 2; k++) {
    double best = 0; /* where nothing is seen, nothing is shifted */
    shift[k] = strength[k] = 0;
    for (i = 1; i < 2 * TALLY_REACH_; i++) {
      double d = (i - TALLY_REACH_) / (double)TALLY_REACH_;
      double value = (sum[k][i] + 0.5 * (sum[k][i - 1] + sum[k][i + 1])) * (1 - 0.3 * d * d);
      if (value > best) {
        best = value;
        shift[k] = i - TALLY_REACH_;
        strength[k] = n[k] ? value / n[k] : 0;
      }
    }
  }
}

/* One step of the fit: the small homography, template to template, that takes the pieces to where
   they were observed. Tukey's weights of width `width` keep wrong lines out; a weak prior keeps
   what the rules say nothing about where the anchors put it. */
static int tally_fit_pieces_(const tally_template *form, const tally_pieces_ *pieces, double width,
                             double correction[9]) {
  double half = (form->width + form->height) / 4, solution[8] = {0};
  int round, k, i;
  for (round = 0; round < 5; round++) {
    double normal[64] = {0}, right[8] = {0};
    static const double prior[8] = {30, 15, 15, 30, 15, 15, 8, 8}; /* template pixels at the edge */
    for (i = 0; i < 8; i++) {
      double row[8] = {0};
      row[i] = 1;
      tally_equation_(normal, right, 8, row, 0, 1 / (prior[i] * prior[i]));
    }
    for (k = 0; k < pieces->count; k++) {
      const tally_piece_ *piece = &pieces->list[k];
      double x = ((piece->x0 + piece->x1 - form->width) / 2) / half;
      double y = ((piece->y0 + piece->y1 - form->height) / 2) / half;
      double row_x[8] = {1, x, y, 0, 0, 0, x * x, x * y},
             row_y[8] = {0, 0, 0, 1, x, y, x * y, y * y};
      const double *row = piece->down ? row_x : row_y;
      double error = -piece->offset, weight = piece->weight;
      if (!piece->found) continue;
      for (i = 0; i < 8; i++) error += row[i] * solution[i];
      error /= round == 0 ? 2 * width : width;
      if (fabs(error) >= 1) continue;
      weight *= (1 - error * error) * (1 - error * error);
      tally_equation_(normal, right, 8, row, piece->offset, weight);
    }
    if (!tally_solve_(normal, right, 8)) return 0;
    memcpy(solution, right, sizeof solution);
  }
  {
    /* (1 + a1, a2, a0; b1, 1 + b2, b0; -g, -h, 1) between centred, scaled coordinates. */
    double c[9] = {1 + solution[1] / half, solution[2] / half,     solution[0] / half,
                   solution[4] / half,     1 + solution[5] / half, solution[3] / half,
                   -solution[6] / half,    -solution[7] / half,    1};
    double into[9] = {
        1 / half, 0, -form->width / 2 / half, 0, 1 / half, -form->height / 2 / half, 0, 0, 1};
    double back[9] = {half, 0, form->width / 2, 0, half, form->height / 2, 0, 0, 1};
    tally_homography_multiply(c, into, c);
    tally_homography_multiply(back, c, correction);
  }
  return 1;
}

#define TALLY_CLOSE_ 2.5 /* a piece counts as found where predicted within this, template pixels */

/* Share of pieces found where predicted, and the root mean square of their offsets. */
static double tally_coverage_(const tally_pieces_ *pieces, int *found, double *rms) {
  double sum = 0;
  int k, n = 0;
  for (k = 0; k < pieces->count; k++) {
    const tally_piece_ *piece = &pieces->list[k];
    if (!piece->found || fabs(piece->offset) > TALLY_CLOSE_) continue;
    n++;
    sum += piece->offset * piece->offset;
  }
  *found = n;
  *rms = n ? sqrt(sum / n) : -1;
  return pieces->count ? (double)n / pieces->count : 0;
}

/* Moves h onto the printed rules, in ever narrower searches. Returns the coverage reached. */
static double tally_refine_(const tally_image *picture, const tally_template *form,
                            tally_pieces_ *pieces, double h[9], int *found, double *rms) {
  static const double reach[3] = {10, 5, 4};
  double shift[2], strength[2], correction[9] = {1, 0, 0, 0, 1, 0, 0, 0, 1};
  int i;
  tally_common_shift_(picture, h, pieces, shift, strength);
  correction[2] = shift[1];
  correction[5] = shift[0];
  tally_homography_multiply(h, correction, h);
  for (i = 0; i < 3; i++) {
    tally_observe_(picture, h, pieces, reach[i]);
    if (i == 2) break;
    if (tally_fit_pieces_(form, pieces, reach[i] * 0.7, correction))
      tally_homography_multiply(h, correction, h);
  }
  return tally_coverage_(pieces, found, rms);
}

/* Shift and stretch of one field from its own boxes, shrunk towards none: print wanders by a pixel
   or two between parts of a page and paper is not flat. The observations are relative to h. */
static void tally_fit_field_(const tally_template *form, const tally_pieces_ *pieces, int index,
                             double local[6]) {
  const tally_field *field = &form->field[index];
  const tally_box *last = &field->cell[field->digits - 1];
  double width = last->x + last->width - field->cell[0].x, height = last->height;
  double cx = field->cell[0].x + width / 2, cy = field->cell[0].y + height / 2;
  double solution[2][3];
  int axis, round, k, i;
  memset(solution, 0, sizeof solution);
  for (axis = 0; axis < 2; axis++) {
    for (round = 0; round < 4; round++) {
      double normal[9] = {0}, right[3] = {0};
      for (i = 0; i < 3; i++) {
        double row[3] = {0, 0, 0};
        row[i] = 1;
        tally_equation_(normal, right, 3, row, 0, i == 0 ? 0.25 : 1);
      }
      for (k = 0; k < pieces->count; k++) {
        const tally_piece_ *piece = &pieces->list[k];
        double row[3], error;
        if (piece->field != index || !piece->found || piece->down != (axis == 0)) continue;
        row[0] = 1;
        row[1] = ((piece->x0 + piece->x1) / 2 - cx) / (width / 2);
        row[2] = ((piece->y0 + piece->y1) / 2 - cy) / (height / 2);
        error = row[0] * solution[axis][0] + row[1] * solution[axis][1] +
                row[2] * solution[axis][2] - piece->offset;
        error /= 4;
        if (fabs(error) >= 1) continue;
        tally_equation_(normal, right, 3, row, piece->offset,
                        piece->weight * (1 - error * error) * (1 - error * error));
      }
      if (tally_solve_(normal, right, 3)) memcpy(solution[axis], right, sizeof right);
    }
  }
  for (axis = 0; axis < 2; axis++) {
    double px = solution[axis][1] / (width / 2), py = solution[axis][2] / (height / 2);
    double *row = local + 3 * axis;
    row[0] = solution[axis][0] - px * cx - py * cy;
    row[1] = px + (axis == 0);
    row[2] = py + (axis == 1);
  }
}

/* Offsets of the pieces once each field's own correction is applied; rules keep theirs. */
static void tally_apply_local_(const double local[TALLY_MAX_FIELDS][6], tally_pieces_ *pieces) {
  int k;
  for (k = 0; k < pieces->count; k++) {
    tally_piece_ *piece = &pieces->list[k];
    double x = (piece->x0 + piece->x1) / 2, y = (piece->y0 + piece->y1) / 2;
    const double *l = piece->field < 0 ? NULL : local[piece->field] + (piece->down ? 0 : 3);
    if (l) piece->offset -= l[0] + l[1] * x + l[2] * y - (piece->down ? x : y);
  }
}

/* ---- the whole */

TALLY_API const char *tally_form_status_text(tally_form_status status) {
  switch (status) {
  case TALLY_FORM_OK:
    return "registered";
  case TALLY_FORM_NO_ANCHORS:
    return "no-anchors";
  case TALLY_FORM_WRONG:
    return "wrong-form";
  case TALLY_FORM_AMBIGUOUS:
    return "ambiguous";
  case TALLY_FORM_POOR:
    return "poor";
  }
  return "unknown";
}

TALLY_API void tally_registration_map(const tally_registration *registration, int field, double x,
                                      double y, double *picture_x, double *picture_y) {
  tally_point p;
  if (field >= 0 && field < TALLY_MAX_FIELDS) {
    const double *l = registration->local[field];
    double moved = l[0] + l[1] * x + l[2] * y;
    y = l[3] + l[4] * x + l[5] * y;
    x = moved;
  }
  p = tally_homography_map(registration->page, x, y);
  *picture_x = p.x;
  *picture_y = p.y;
}

/* Names the anchors that no blob could be, for the reason. */
static void tally_name_missing_(const tally_scene_ *scene, const tally_template *form,
                                tally_registration *out) {
  size_t used;
  int k;
  if (scene->small.channels == 1 && form->anchor[0].kind != TALLY_ANCHOR_SQUARE) {
    tally_print_(out->reason, sizeof out->reason, "the picture has no colour, the anchors have");
    return;
  }
  tally_print_(out->reason, sizeof out->reason, "anchors not found:");
  for (k = 0; k < form->anchors; k++) {
    used = strlen(out->reason);
    if (scene->blobs[k] == 0)
      tally_print_(out->reason + used, sizeof out->reason - used, " %s", form->anchor[k].name);
  }
  if (out->reason[strlen(out->reason) - 1] == ':')
    tally_print_(out->reason, sizeof out->reason,
                 "no three anchors lie as the template has them (hidden, cut off or another page)");
}

/* Field with a cell corner outside the picture, or -1. */
static int tally_field_outside_(const tally_image *picture, const tally_template *form,
                                const tally_registration *out) {
  int f, k, i;
  for (f = 0; f < form->fields; f++)
    for (k = 0; k < form->field[f].digits; k++)
      for (i = 0; i < 4; i++) {
        const tally_box *box = &form->field[f].cell[k];
        double x, y;
        tally_registration_map(out, f, box->x + (i & 1 ? box->width : 0),
                               box->y + (i & 2 ? box->height : 0), &x, &y);
        if (!(x >= 0 && y >= 0 && x <= picture->width && y <= picture->height)) return f;
      }
  return -1;
}

static void tally_refuse_(tally_registration *out, tally_form_status status, const char *reason) {
  out->status = status;
  tally_print_(out->reason, sizeof out->reason, "%s", reason);
}

/* The best position so far, and how well any other one does. */
typedef struct {
  int best;                /* index of the hypothesis, -1 for none */
  double coverage, second; /* share of the rules found */
} tally_choice_;

/* Whether two maps put the page in about the same place. */
static int tally_same_place_(const tally_template *form, const double a[9], const double b[9]) {
  tally_point p = tally_homography_map(a, form->width / 2, 0),
              q = tally_homography_map(b, form->width / 2, 0);
  tally_point r = tally_homography_map(a, form->width / 2, form->height);
  double size = fabs(p.x - r.x) + fabs(p.y - r.y);
  return fabs(p.x - q.x) + fabs(p.y - q.y) < 0.02 * size;
}

/* Tries some hypotheses on the rules: a rough look at all, then a fit of those that look best. */
static void tally_try_batch_(const tally_image *picture, const tally_template *form,
                             const tally_scene_ *scene, tally_pieces_ *pieces, double full_scale,
                             tally_hypothesis_ *list, int from, int to, tally_choice_ *choice) {
  double strength[TALLY_BATCH_], strongest = 0;
  int i;
  for (i = from; i < to; i++) {
    double shift[2], side[2];
    strength[i - from] = -1;
    if (!tally_fit_hypothesis_(scene, form, &list[i], full_scale)) continue;
    tally_common_shift_(picture, list[i].h, pieces, shift, side);
    strength[i - from] = side[0] + side[1];
    if (strength[i - from] > strongest) strongest = strength[i - from];
  }
  for (i = from; i < to; i++) {
    double share, rms;
    int found;
    if (strength[i - from] < 0 || strength[i - from] < 0.6 * strongest) continue;
    share = tally_refine_(picture, form, pieces, list[i].h, &found, &rms);
    if (choice->best < 0) {
      choice->best = i;
      choice->coverage = share;
    } else {
      double better = share > choice->coverage ? share : choice->coverage;
      double worse = share > choice->coverage ? choice->coverage : share;
      if (!tally_same_place_(form, list[i].h, list[choice->best].h) && worse > choice->second)
        choice->second = worse;
      if (share > choice->coverage) choice->best = i;
      choice->coverage = better;
    }
  }
}

/* Of a form without rules the first hypothesis that fits is the best, as they stand in the order of
   their anchors' scores. Returns the share of its score that the next one has which puts the page
   elsewhere: nearly 1 if the anchors look the same upside down. */
static double tally_second_by_anchors_(const tally_template *form, const tally_scene_ *scene,
                                       double full_scale, tally_hypothesis_ *list, int n,
                                       int best) {
  int i;
  for (i = best + 1; i < n; i++)
    if (tally_fit_hypothesis_(scene, form, &list[i], full_scale) &&
        !tally_same_place_(form, list[i].h, list[best].h))
      return list[i].score / list[best].score;
  return 0;
}

#define TALLY_ENOUGH_ 0.95 /* the share of the rules that a registered form shows at least */

/* The hypothesis that fits the rules best, its map fitted to them. */
static tally_choice_ tally_choose_(const tally_image *picture, const tally_template *form,
                                   const tally_scene_ *scene, tally_pieces_ *pieces,
                                   double full_scale, tally_hypothesis_ *list, int n) {
  tally_choice_ choice = {-1, 0, 0};
  int from;
  for (from = 0; from < n && choice.coverage < TALLY_ENOUGH_; from += TALLY_BATCH_)
    tally_try_batch_(picture, form, scene, pieces, full_scale, list, from,
                     tally_min_(from + TALLY_BATCH_, n), &choice);
  return choice;
}

/* A second position that fits as well as that, as a share of the first, makes both doubtful. */
#define TALLY_NEARLY_ 0.85

/* Judges a fit by the anchors, of a form that has no printed rules. */
static void tally_judge_anchors_(double error, double second, tally_registration *out) {
  out->residual = error;
  if (out->anchors_found < 4)
    tally_refuse_(out, TALLY_FORM_POOR, "three anchors and no printed rules to check them by");
  else if (error > 4)
    tally_refuse_(out, TALLY_FORM_WRONG, "the anchors do not lie as on this form");
  else if (second > TALLY_NEARLY_)
    tally_refuse_(out, TALLY_FORM_AMBIGUOUS, "two different positions fit the anchors");
}

/* Judges it by the printed rules, after a correction for each field. */
static void tally_judge_rules_(const tally_image *picture, const tally_template *form,
                               tally_pieces_ *pieces, double anchor_error, double second,
                               tally_registration *out) {
  double coverage;
  int f;
  tally_observe_(picture, out->page, pieces, 4);
  for (f = 0; f < form->fields; f++) tally_fit_field_(form, pieces, f, out->local[f]);
  tally_apply_local_((const double(*)[6])out->local, pieces);
  coverage = tally_coverage_(pieces, &out->rules_found, &out->residual);
  if (coverage < TALLY_ENOUGH_)
    tally_refuse_(out, coverage < 0.45 ? TALLY_FORM_WRONG : TALLY_FORM_POOR,
                  coverage < 0.45 ? "the printed rules are not where this form has them"
                                  : "too few of the printed rules can be seen");
  else if (out->residual > 1.25)
    tally_refuse_(out, TALLY_FORM_POOR, "the printed rules do not lie straight enough");
  else if (second > TALLY_NEARLY_ * coverage)
    tally_refuse_(out, TALLY_FORM_AMBIGUOUS, "two different positions fit the printed rules");
  else if (anchor_error > 15)
    tally_refuse_(out, TALLY_FORM_WRONG,
                  "the anchors and the printed rules do not belong together");
}

/* Judges the fit in out->page, and adds what only an accepted form has. */
static void tally_judge_(const tally_image *picture, const tally_template *form,
                         const tally_scene_ *scene, const tally_hypothesis_ *hypothesis,
                         tally_pieces_ *pieces, double full_scale, double second,
                         tally_registration *out) {
  double error = tally_anchor_error_(scene, form, hypothesis, out->page), large, small;
  tally_point top = tally_homography_map(out->page, form->width / 2, form->height / 2), right;
  int outside;
  right = tally_homography_map(out->page, form->width / 2 + 1, form->height / 2);
  out->rotation = atan2(right.y - top.y, right.x - top.x) * 180 / TALLY_PI_;
  tally_stretch_(out->page, form->width / 2, form->height / 2, &large, &small);
  out->scale = sqrt(large * small);
  out->anchors_found = hypothesis->matched;
  out->rules_expected = pieces->count;
  if (pieces->count == 0)
    tally_judge_anchors_(error, second, out);
  else
    tally_judge_rules_(picture, form, pieces, error, second, out);
  if (out->status != TALLY_FORM_OK) return;
  outside = tally_field_outside_(picture, form, out);
  if (!tally_plausible_(form, out->page, full_scale)) {
    tally_refuse_(out, TALLY_FORM_POOR, "the page is seen at too steep an angle");
  } else if (outside >= 0) {
    out->status = TALLY_FORM_POOR;
    tally_print_(out->reason, sizeof out->reason, "field %s lies outside the picture",
                 form->field[outside].name);
  }
}

static tally_result tally_register_in_(const tally_image *picture, const tally_template *form,
                                       tally_scene_ *scene, tally_pieces_ *pieces,
                                       tally_registration *out) {
  double full_scale = tally_full_scale_(picture, form);
  tally_hypothesis_ list[TALLY_HYPOTHESES_];
  tally_choice_ choice;
  int n, longest = tally_max_(picture->width, picture->height);
  scene->factor = (longest + TALLY_WORK_SIDE_ - 1) / TALLY_WORK_SIDE_;
  if (tally_min_(picture->width, picture->height) / scene->factor < 32) {
    tally_refuse_(out, TALLY_FORM_POOR, "the picture is too small");
    return TALLY_OK;
  }
  TALLY_TRY_(tally_reduce_(picture, scene->factor, &scene->small));
  tally_find_paper_(scene);
  TALLY_TRY_(tally_find_anchors_(scene, form, full_scale));
  n = tally_hypothesise_(scene, form, full_scale, list);
  if (n == 0) {
    out->status = TALLY_FORM_NO_ANCHORS;
    tally_name_missing_(scene, form, out);
    return TALLY_OK;
  }
  if (!tally_list_pieces_(form, pieces)) return TALLY_ERROR_MEMORY;
  choice = tally_choose_(picture, form, scene, pieces, full_scale, list, n);
  if (choice.best < 0) {
    tally_refuse_(out, TALLY_FORM_POOR, "the anchors lie in a way no flat page can");
    return TALLY_OK;
  }
  if (pieces->count == 0)
    choice.second = tally_second_by_anchors_(form, scene, full_scale, list, n, choice.best);
  memcpy(out->page, list[choice.best].h, sizeof out->page);
  tally_judge_(picture, form, scene, &list[choice.best], pieces, full_scale, choice.second, out);
  return TALLY_OK;
}

TALLY_API tally_result tally_register(const tally_image *picture, const tally_template *form,
                                      tally_registration *out) {
  tally_scene_ *scene;
  tally_pieces_ pieces;
  tally_result result;
  int i;
  if (!tally_image_ok_(picture) || !form || !out || form->anchors < 3 || form->width <= 0 ||
      form->height <= 0)
    return TALLY_ERROR_ARGUMENT;
  memset(out, 0, sizeof *out);
  out->residual = -1;
  out->page[0] = out->page[4] = out->page[8] = 1;
  for (i = 0; i < TALLY_MAX_FIELDS; i++) out->local[i][1] = out->local[i][5] = 1;
  memset(&pieces, 0, sizeof pieces);
  scene = (tally_scene_ *)tally_alloc_zero_(1, sizeof *scene);
  if (!scene) return TALLY_ERROR_MEMORY;
  result = tally_register_in_(picture, form, scene, &pieces, out);
  for (i = 0; i < TALLY_MAX_ANCHORS; i++) TALLY_FREE(scene->labels[i]);
  tally_image_free(&scene->small);
  TALLY_FREE(scene);
  TALLY_FREE(pieces.list);
  return result;
}

/* ---- 4. cells -----------------------------------------------------------------------------------

   A field is cut as one strip, its cells and a margin round them, at a resolution where the smaller
   side of a cell is TALLY_CELL_ pixels. Light becomes darkness relative to the local paper, printed
   rules are erased where no stroke crosses them, and the components of what is left are given to
   the cells that they serve. The cells of all other fields that reach into the margin are known,
   and what serves them is not this field's: two strips that see a stroke come to the same
   conclusion. */

#define TALLY_SEEN_ 0.98 /* weight of what the cutter saw (an empty cell, a dash) */

#define TALLY_CELL_ 48    /* strip pixels along a cell's smaller side */
#define TALLY_MARGIN_ 22  /* strip pixels round the cells: how far strokes are followed */
#define TALLY_ROOM_ 2     /* pixels round a cell's ink, for what widening adds */
#define TALLY_HARDLY_ 0.2 /* what is written less surely than this leaves a cell empty */
#define TALLY_RULE_ 3     /* pixels across a printed rule, by and large */
#define TALLY_PEN_ 100    /* darkness across a stroke, at least, that a rule hides */
#define TALLY_ALONG_ 16   /* ink along a rule for as long as this is a stroke on it */
#define TALLY_FAINT_ 14   /* ink is darker than its paper by this at least, of 255 */
#define TALLY_NOISE_ 6    /* and by this many times what its paper's levels differ */
#define TALLY_DEEP_ 14    /* ink this far inside a cell is written in it, and no overhang */
#define TALLY_BROAD_                                                                               \
  8 /* what is wider than twice this is paper, stain or watermark, not a stroke */

enum {
  TALLY_ERASED_ = 1, /* a printed rule, and no ink of ours */
  TALLY_CROSSED_,    /* a printed rule with a stroke across it */
  TALLY_HIDDEN_,     /* a printed rule with a stroke along it: upright, so a digit's whole stem */
  TALLY_DOUBTED_, /* the same across: erased, for the bars that are left of it make other digits */
  TALLY_UNSEEN_   /* a rule should be here, but none was seen */
};

typedef struct {
  int first, last; /* lines of a printed rule; first > last when there is none */
} tally_band_;

/* A band over the stretch [from, to). */
typedef struct {
  tally_band_ band;
  int down, from, to;
  int usual; /* darkness summed across it, as it is where nothing is written on the rule */
} tally_placed_band_;

#define TALLY_BANDS_ 512 /* stretches of rules in one strip */

/* A cell in strip pixels: inclusive left and top, exclusive right and bottom. */
typedef struct {
  int left, top, right, bottom;
} tally_cell_box_;

/* What is known of one component of ink. Arrays go by cell of the field; the last item stands for
   the cells of all other fields. */
typedef struct {
  int inside[TALLY_MAX_DIGITS + 1]; /* pixels in the cell */
  int depth[TALLY_MAX_DIGITS + 1];  /* how far it reaches into the cell from the nearest side */
  int strong;                       /* pixels above the threshold of strokes */
  int off_rule;                     /* pixels farther than 2 from a printed rule */
  int touches;                      /* 1: lies beside a printed rule or crosses one */
  int leaves;                       /* 1: goes on beyond the strip */
  unsigned serves;                  /* bit k: cell k gets it, or what of it lies nearest */
} tally_ink_;

/* Darkness of one cell, its border left out: of its paper, of what stands out of the paper's noise,
   and of its 14 darkest pixels. */
typedef struct {
  int paper, noise, peak;
} tally_levels_;

typedef struct {
  int width, height;
  double zoom, x0, y0; /* strip pixel = (template - x0) * zoom */
  double dx, dy;       /* template pixels by which it is sampled farther right and down */
  uint8_t *light;      /* grey as photographed */
  uint8_t *dark;       /* 0 paper .. 255 black, relative to the local paper */
  uint8_t *erased;     /* where printed rules are, TALLY_ERASED_ and so on; 0 elsewhere */
  uint8_t *spare;
  uint8_t *line;          /* scratch of dilation */
  uint8_t *stroke, *copy; /* one cell's ink with TALLY_ROOM_ round it, and scratch of that size */
  double *sum;            /* scratch of means over one row of that */
  uint8_t *low, *high;    /* by column: strokes have pixels darker than high, all darker than low */
  tally_cell_box_ *box; /* the field's own cells, then those of others that reach into the strip */
  int own, boxes;
  tally_levels_ levels[TALLY_MAX_DIGITS];
  int *labels;
  tally_component *parts;
  tally_ink_ *ink; /* of each part */
  int count, capacity;
  tally_placed_band_ band[TALLY_BANDS_];
  int bands;
} tally_strip_;

/* ---- from picture to strip */

/* Light of a picture pixel, with coloured pens made about as dark as black ones: halfway between
   grey and the darkest channel. */
static int tally_light_(const uint8_t *p, int channels) {
  int grey, low;
  if (channels == 1) return p[0];
  grey = tally_grey_level_(p);
  low = tally_min_(p[0], tally_min_(p[1], p[2]));
  return (grey + low) >> 1;
}

/* Level of a grey picture at pixel-corner coordinates in 1/256 pixel. */
static int tally_light_at_(const tally_image *in, int x, int y) {
  return tally_sample_(in, 0, x, y) >> 16;
}

/* v as an int within [low, high]; low if it is not a number. */
static int tally_whole_(double v, int low, int high) {
  return v > low ? (v < high ? (int)v : high) : low;
}

/* The part of the picture that a strip needs, as light. x0, y0 receive its place. */
static tally_result tally_light_patch_(const tally_image *picture,
                                       const tally_registration *registration, int field,
                                       const tally_strip_ *strip, tally_image *patch, int *x0,
                                       int *y0) {
  double left = DBL_MAX, top = DBL_MAX, right = -DBL_MAX, bottom = -DBL_MAX;
  int i, x, y, c = picture->channels;
  for (i = 0; i < 4; i++) {
    double px, py;
    tally_registration_map(
        registration, field, strip->x0 + strip->dx + (i & 1 ? strip->width : 0) / strip->zoom,
        strip->y0 + strip->dy + (i & 2 ? strip->height : 0) / strip->zoom, &px, &py);
    left = px < left ? px : left;
    right = px > right ? px : right;
    top = py < top ? py : top;
    bottom = py > bottom ? py : bottom;
  }
  *x0 = tally_whole_(left - 3, 0, picture->width - 1);
  *y0 = tally_whole_(top - 3, 0, picture->height - 1);
  x = tally_whole_(right + 4, *x0 + 1, picture->width);
  y = tally_whole_(bottom + 4, *y0 + 1, picture->height);
  TALLY_TRY_(tally_image_make(x - *x0, y - *y0, 1, patch));
  for (y = 0; y < patch->height; y++) {
    const uint8_t *from = tally_row_(picture, y + *y0) + (size_t)*x0 * (size_t)c;
    uint8_t *to = tally_row_(patch, y);
    for (x = 0; x < patch->width; x++, from += c) to[x] = (uint8_t)tally_light_(from, c);
  }
  return TALLY_OK;
}

/* Samples the strip through the registration: the exact map every 16 pixels, straight lines
   between. Where several picture pixels fall on one strip pixel, four samples are averaged. */
static tally_result tally_sample_strip_(const tally_image *picture,
                                        const tally_registration *registration, int field,
                                        tally_strip_ *strip) {
  const double limit = 4.0 * TALLY_MAX_DIMENSION;
  int dense = registration->scale / strip->zoom > 1.4, x, y, k, x0, y0;
  tally_image patch;
  TALLY_TRY_(tally_light_patch_(picture, registration, field, strip, &patch, &x0, &y0));
  for (y = 0; y < strip->height; y++) {
    uint8_t *to = strip->light + (size_t)y * (size_t)strip->width;
    double v = strip->y0 + strip->dy + (y + 0.5) / strip->zoom;
    for (x = 0; x < strip->width; x += 16) {
      double u = strip->x0 + strip->dx + (x + 0.5) / strip->zoom, px, py, qx, qy;
      int n = tally_min_(16, strip->width - x), sx, sy, dx, dy;
      tally_registration_map(registration, field, u, v, &px, &py);
      tally_registration_map(registration, field, u + 16 / strip->zoom, v, &qx, &qy);
      if (!(fabs(px) < limit && fabs(py) < limit && fabs(qx) < limit && fabs(qy) < limit))
        px = py = qx = qy = 0;
      sx = (int)((px - x0) * 256);
      sy = (int)((py - y0) * 256);
      dx = (int)((qx - px) * 16);
      dy = (int)((qy - py) * 16);
      for (k = 0; k < n; k++, sx += dx, sy += dy) {
        if (dense) {
          int ax = dx / 4, ay = dy / 4;
          *to++ = (uint8_t)((tally_light_at_(&patch, sx + ax - ay, sy + ay + ax) +
                             tally_light_at_(&patch, sx - ax - ay, sy - ay + ax) +
                             tally_light_at_(&patch, sx + ax + ay, sy + ay - ax) +
                             tally_light_at_(&patch, sx - ax + ay, sy - ay - ax) + 2) /
                            4);
        } else {
          *to++ = (uint8_t)tally_light_at_(&patch, sx, sy);
        }
      }
    }
  }
  tally_image_free(&patch);
  return TALLY_OK;
}

/* Largest value within `reach` items, where an item is `size` bytes (a pixel, or a whole row)
   compared byte by byte, and the ends are replicated. The window doubles until it is wide enough.
   line is scratch for (n + 2 reach) size bytes. */
static void tally_dilate_(uint8_t *values, int n, int size, int reach, uint8_t *line) {
  int window = 1, whole = 2 * reach + 1, total = n + 2 * reach, i;
  for (i = 0; i < total; i++)
    memcpy(line + (size_t)i * (size_t)size,
           values + (size_t)tally_clamp_(i - reach, 0, n - 1) * (size_t)size, (size_t)size);
  while (window < whole) {
    int jump = tally_min_(window, whole - window), bytes = (total - jump) * size;
    const uint8_t *ahead = line + (size_t)jump * (size_t)size;
    for (i = 0; i < bytes; i++) line[i] = line[i] > ahead[i] ? line[i] : ahead[i];
    window += jump;
  }
  memcpy(values, line, (size_t)n * (size_t)size);
}

static void tally_dilate_square_(uint8_t *values, int width, int height, int reach, uint8_t *line) {
  int i;
  for (i = 0; i < height; i++)
    tally_dilate_(values + (size_t)i * (size_t)width, width, 1, reach, line);
  tally_dilate_(values, height, width, reach, line);
}

/* dark = 1 - light / paper, where paper is the light with everything narrower than a broad stroke
   closed up: watermarks, tints, shade and stains are broad, so they count as paper. Closing is done
   at half resolution, which keeps the lightest of each four pixels. */
static void tally_darken_(tally_strip_ *strip) {
  int wide = (strip->width + 1) / 2, tall = (strip->height + 1) / 2, x, y;
  int share[256]; /* what one step of light is of the paper's level: 255 / level, in 1/65536 */
  uint8_t *paper = strip->spare;
  memset(paper, 0, (size_t)wide * (size_t)tall);
  for (y = 0; y < strip->height; y++)
    for (x = 0; x < strip->width; x++) {
      uint8_t light = strip->light[(size_t)y * (size_t)strip->width + (size_t)x];
      uint8_t *most = &paper[(size_t)(y / 2) * (size_t)wide + (size_t)(x / 2)];
      if (light > *most) *most = light;
    }
  tally_dilate_square_(paper, wide, tall, TALLY_BROAD_ / 2, strip->line);
  for (x = 0; x < wide * tall; x++) paper[x] = (uint8_t)(255 - paper[x]);
  tally_dilate_square_(paper, wide, tall, TALLY_BROAD_ / 2, strip->line);
  for (x = 0; x < 256; x++) share[x] = (255 << 16) / tally_max_(x, 24);
  for (y = 0; y < strip->height; y++) {
    const uint8_t *light = strip->light + (size_t)y * (size_t)strip->width;
    const uint8_t *closed = paper + (size_t)(y / 2) * (size_t)wide;
    uint8_t *dark = strip->dark + (size_t)y * (size_t)strip->width;
    for (x = 0; x < strip->width; x++) {
      int level = tally_max_(255 - closed[x / 2], 24), less = level - light[x];
      dark[x] = (uint8_t)((tally_max_(less, 0) * share[level]) >> 16);
    }
  }
}

/* ---- printed rules */

static int tally_dark_at_(const tally_strip_ *strip, int down, int along, int across) {
  int x = down ? across : along, y = down ? along : across;
  if (x < 0 || y < 0 || x >= strip->width || y >= strip->height) return 0;
  return strip->dark[(size_t)y * (size_t)strip->width + (size_t)x];
}

/* The darkness that `percent` of the stretch [from, to) of a line exceed. */
static int tally_line_dark_(const tally_strip_ *strip, int down, int from, int to, int across,
                            int percent) {
  int histogram[64] = {0}, i, above = 0, level = 63, seen = (to - from + 1) / 2;
  for (i = from; i < to; i += 2) histogram[tally_dark_at_(strip, down, i, across) / 4]++;
  while (level > 0 && (above += histogram[level]) * 100 <= seen * percent) level--;
  return 4 * level;
}

#define TALLY_STRAY_ 2 /* a rule lies at most this far from where the registration has it */

/* The lower third of n values: what the lines round a rule look like without it. */
static int tally_lower_level_(const int *values, int n) {
  int i, j, below, best = values[0];
  for (i = 0; i < n; i++) {
    for (below = 0, j = 0; j < n; j++)
      below += values[j] < values[i] || (values[j] == values[i] && j < i);
    if (below == n / 3) best = values[i];
  }
  return best;
}

/* The band of the printed rule near `at` over the stretch [from, to): the darkest line, nearer ones
   preferred, and what is clearly dark beside it. A rule is dark along its whole length and a stroke
   only along some of it, so a high percentage keeps strokes out and a low one finds broken rules.
   */
static tally_band_ tally_find_band_(const tally_strip_ *strip, int down, int from, int to,
                                    double at, int percent, int widest) {
  enum { SIDE = TALLY_STRAY_ + 6, COUNT = 2 * SIDE + 1 };
  tally_band_ band = {0, -1};
  int dark[COUNT], start = (int)floor(at) - SIDE, peak = SIDE, i, least, base;
  double best = -1;
  for (i = 0; i < COUNT; i++) dark[i] = tally_line_dark_(strip, down, from, to, start + i, percent);
  for (i = SIDE - TALLY_STRAY_; i <= SIDE + TALLY_STRAY_; i++) {
    double away = (i - SIDE) + 0.5 - (at - floor(at)), value = dark[i] * (1 - 0.06 * away * away);
    if (value > best) {
      best = value;
      peak = i;
    }
  }
  base = tally_lower_level_(dark, COUNT);
  if (dark[peak] - base < 14) return band;
  least = base + tally_max_(10, (dark[peak] - base) / 5);
  band.first = band.last = peak;
  while (band.first > 0 && dark[band.first - 1] > least) band.first--;
  while (band.last < COUNT - 1 && dark[band.last + 1] > least) band.last++;
  band.first += start;
  band.last += start;
  if (band.last - band.first + 1 > widest) band.last = band.first - 1; /* a bar, not a rule */
  return band;
}

/* The band of a whole rule: what most of its length agrees on, or else what shows in parts of it.
   */
static tally_band_ tally_whole_band_(const tally_strip_ *strip, int down, int from, int to,
                                     double at) {
  tally_band_ band = tally_find_band_(strip, down, from, to, at, 55, 10);
  return band.first <= band.last ? band : tally_find_band_(strip, down, from, to, at, 35, 4);
}

/* The band over one stretch of a rule, which may bend: close to the whole rule's band and hardly
   wider, or else a stroke that runs along the rule has been taken for it. */
static tally_band_ tally_stretch_band_(const tally_strip_ *strip, int down, int from, int to,
                                       double at, tally_band_ whole) {
  tally_band_ band = tally_find_band_(strip, down, from, to, at, 35, 10);
  if (whole.first > whole.last) {
    if (band.last - band.first + 1 > 4) band.last = band.first - 1;
    return band;
  }
  if (band.first > band.last || abs(band.first + band.last - whole.first - whole.last) > 2 ||
      band.last - band.first > whole.last - whole.first + 1)
    return whole;
  return band;
}

/* Whether a pixel is ink that is not print. */
static int tally_is_ink_(const tally_strip_ *strip, int down, int along, int across, int high) {
  int x = down ? across : along, y = down ? along : across;
  size_t i = (size_t)y * (size_t)strip->width + (size_t)x;
  if (x < 0 || y < 0 || x >= strip->width || y >= strip->height) return 0;
  return strip->dark[i] > high && strip->erased[i] == 0;
}

/* Whether ink lies within `reach` along the line, on the line `across` or the next one away. */
static int tally_ink_beside_(const tally_strip_ *strip, int down, int along, int across, int away,
                             int reach, int high) {
  int i;
  for (i = along - reach; i <= along + reach; i++)
    if (tally_is_ink_(strip, down, i, across, high) ||
        tally_is_ink_(strip, down, i, across + away, high))
      return 1;
  return 0;
}

static void tally_mark_(tally_strip_ *strip, int down, int along, int first, int last,
                        uint8_t value) {
  int k, most = (down ? strip->width : strip->height) - 1;
  for (k = tally_max_(0, first); k <= tally_min_(last, most); k++)
    strip->erased[down ? (size_t)along * (size_t)strip->width + (size_t)k
                       : (size_t)k * (size_t)strip->width + (size_t)along] = value;
}

#define TALLY_BESIDE_ 2 /* lines each side of a rule that a stroke along it darkens */

/* Darkness summed across a band and the lines beside it. */
static int tally_band_mass_(const tally_strip_ *strip, const tally_placed_band_ *b, int along) {
  int across, mass = 0;
  for (across = b->band.first - TALLY_BESIDE_; across <= b->band.last + TALLY_BESIDE_; across++)
    mass += tally_dark_at_(strip, b->down, along, across);
  return mass;
}

/* What the lightest quarter of a rule weighs at most, over the n stretches of it that are seen. */
static int tally_usual_mass_(const tally_strip_ *strip, const tally_placed_band_ *bands, int n) {
  int histogram[256] = {0}, k, i, level = 0, seen = 0, below;
  for (k = 0; k < n; k++)
    for (i = bands[k].from; i < bands[k].to; i++, seen++)
      histogram[tally_min_(tally_band_mass_(strip, &bands[k], i) / 16, 255)]++;
  for (below = histogram[0]; level < 255 && below * 4 < seen; below += histogram[level]) level++;
  return 16 * level;
}

/* Erases a rule over [from, to), stretch by stretch. Where no rule is seen its place is remembered
   all the same. The bands found are kept in the strip. */
static void tally_erase_rule_(tally_strip_ *strip, int down, int from, int to, double at) {
  int stretches = tally_max_(1, (to - from) / 40), first = strip->bands, s, i;
  tally_band_ whole = tally_whole_band_(strip, down, from, to, at);
  for (s = 0; s < stretches; s++) {
    int a = from + (to - from) * s / stretches, b = from + (to - from) * (s + 1) / stretches;
    tally_band_ band = tally_stretch_band_(strip, down, a, b, at, whole);
    int seen = band.first <= band.last, place = (int)floor(at);
    for (i = a; i < b; i++)
      tally_mark_(strip, down, i, seen ? band.first : place, seen ? band.last : place,
                  seen ? TALLY_ERASED_ : TALLY_UNSEEN_);
    if (seen && strip->bands < TALLY_BANDS_) {
      tally_placed_band_ *kept = &strip->band[strip->bands++];
      kept->band = band;
      kept->down = down;
      kept->from = a;
      kept->to = b;
    }
  }
  s = tally_usual_mass_(strip, strip->band + first, strip->bands - first);
  for (i = first; i < strip->bands; i++) strip->band[i].usual = s;
}

/* Brings back what was erased where ink stands on both sides of a rule: there a stroke crosses. */
static void tally_restore_crossings_(tally_strip_ *strip, int high) {
  int k, i;
  for (k = 0; k < strip->bands; k++) {
    const tally_placed_band_ *b = &strip->band[k];
    int reach = 1 + (b->band.last - b->band.first) / 2;
    for (i = b->from; i < b->to; i++)
      if (tally_ink_beside_(strip, b->down, i, b->band.first - 1, -1, reach, high) &&
          tally_ink_beside_(strip, b->down, i, b->band.last + 1, 1, reach, high))
        tally_mark_(strip, b->down, i, b->band.first, b->band.last, TALLY_CROSSED_);
  }
}

/* The middle one of what the strip's rules in one direction usually weigh. */
static int tally_middle_mass_(const tally_strip_ *strip, int down) {
  int histogram[256] = {0}, k, n = 0, level = 0, below;
  for (k = 0; k < strip->bands; k++) {
    if (strip->band[k].down != down) continue;
    histogram[tally_min_(strip->band[k].usual / 16, 255)]++;
    n++;
  }
  for (below = histogram[0]; level < 255 && below * 2 < n; below += histogram[level]) level++;
  return 16 * level;
}

/* Marks a stroke along a rule over [from, to], but for what is there already as a crossing of rules
   that lie across. */
static void tally_mark_along_(tally_strip_ *strip, const tally_placed_band_ *b, int from, int to) {
  int i, across;
  for (i = from; i <= to; i++)
    for (across = b->band.first; across <= b->band.last; across++)
      if (b->down)
        tally_mark_(strip, 1, i, across, across, TALLY_HIDDEN_);
      else if (across >= 0 && across < strip->height &&
               strip->erased[(size_t)across * (size_t)strip->width + (size_t)i] == TALLY_ERASED_)
        tally_mark_(strip, 0, i, across, across, TALLY_DOUBTED_);
}

/* Marks where a rule is darker or wider than elsewhere, and than the others, for longer than a
   stroke takes to cross it, but not all along: there a stroke runs along it. */
static void tally_mark_hidden_(tally_strip_ *strip, int high) {
  int middle[2], k, i;
  middle[0] = tally_middle_mass_(strip, 0);
  middle[1] = tally_middle_mass_(strip, 1);
  for (k = 0; k < strip->bands; k++) {
    const tally_placed_band_ *b = &strip->band[k];
    int least = tally_max_(b->usual, middle[b->down]) * 3 / 2 + tally_max_(high, TALLY_PEN_);
    int start = b->from, last = -1;
    for (i = b->from; i <= b->to; i++) {
      int more = i < b->to && tally_band_mass_(strip, b, i) > least;
      if (more) last = i;
      if (more || (last >= 0 && i < b->to && i - last <= 2)) continue;
      if (last >= 0 && last - start + 1 >= TALLY_ALONG_ &&
          (last - start + 1) * 100 <= (b->to - b->from) * 85)
        tally_mark_along_(strip, b, start, last);
      start = i + 1;
      last = -1;
    }
  }
}

/* Erases one template rule, as far as it lies in the strip. */
static void tally_erase_template_rule_(tally_strip_ *strip, int down, double at, double from,
                                       double to) {
  double near = down ? strip->x0 : strip->y0, along = down ? strip->y0 : strip->x0;
  int length = down ? strip->height : strip->width, breadth = down ? strip->width : strip->height;
  double place = (at - near) * strip->zoom;
  double begin = (from - along) * strip->zoom - 3, end = (to - along) * strip->zoom + 3;
  int a = begin < 0 ? 0 : begin > length ? length : (int)begin;
  int b = end < 0 ? 0 : end > length ? length : (int)end;
  if (place < -4 || place > breadth + 4 || b - a < 8) return;
  tally_erase_rule_(strip, down, a, b, place);
}

/* The boxes of a field: cells that share their rules have one upper and one lower rule together. */
static void tally_erase_boxes_(const tally_field *field, tally_strip_ *strip) {
  int k, first = 0;
  for (k = 0; k < field->digits; k++) {
    const tally_box *c = &field->cell[k], *from;
    double right = c->x + c->width;
    int last = k + 1 == field->digits || right < field->cell[k + 1].x - 1;
    if (k == first) tally_erase_template_rule_(strip, 1, c->x, c->y, c->y + c->height);
    tally_erase_template_rule_(strip, 1, right, c->y, c->y + c->height);
    if (!last) continue;
    from = &field->cell[first];
    tally_erase_template_rule_(strip, 0, c->y, from->x, right);
    tally_erase_template_rule_(strip, 0, c->y + c->height, from->x, right);
    first = k + 1;
  }
}

static void tally_erase_rules_(const tally_template *form, tally_strip_ *strip, int high) {
  int i;
  strip->bands = 0;
  for (i = 0; i < form->rules; i++)
    tally_erase_template_rule_(strip, form->rule[i].down, form->rule[i].at, form->rule[i].from,
                               form->rule[i].to);
  for (i = 0; i < form->fields; i++)
    if (!form->field[i].open) tally_erase_boxes_(&form->field[i], strip);
  tally_restore_crossings_(strip, high);
  tally_mark_hidden_(strip, high);
}

/* ---- ink */

/* Ink covers less than three quarters of a cell, so the lightest quarter is paper; how much its
   levels differ says how much noise is in it. */
static tally_levels_ tally_measure_levels_(const tally_strip_ *strip, const tally_cell_box_ *box) {
  int histogram[256] = {0}, x, y, inset = 5, n = 0, count = 0, level, light = -1;
  tally_levels_ out = {-1, 0, 255};
  for (y = box->top + inset; y < box->bottom - inset; y++)
    for (x = box->left + inset; x < box->right - inset; x++, n++)
      histogram[strip->dark[(size_t)y * (size_t)strip->width + (size_t)x]]++;
  for (level = 0; out.paper < 0; level++) {
    count += histogram[level];
    if (light < 0 && count * 10 >= n) light = level;
    if (count * 4 >= n) out.paper = level;
  }
  out.paper = tally_min_(out.paper, 240);
  out.noise = out.paper + tally_max_(TALLY_FAINT_, TALLY_NOISE_ * (out.paper - light));
  out.noise = tally_min_(out.noise, 250);
  for (count = 14; out.peak > 0 && (count -= histogram[out.peak]) > 0;) out.peak--;
  return out;
}

/* Thresholds of each cell from its own ink, down to the faintest that its paper lets one see. */
static void tally_set_levels_(tally_strip_ *strip) {
  int k, x, from = 0;
  for (k = 0; k < strip->own; k++) { /* outside the cells the nearest one's thresholds count */
    int to = k + 1 < strip->own ? (strip->box[k].right + strip->box[k + 1].left) / 2 : strip->width;
    tally_levels_ *at = &strip->levels[k];
    int high, low;
    *at = tally_measure_levels_(strip, &strip->box[k]);
    high = tally_max_(at->noise, at->peak * 45 / 100);
    low = tally_max_((at->noise + at->paper) / 2, high * 55 / 100);
    for (x = from; x < to; x++) {
      strip->high[x] = (uint8_t)high;
      strip->low[x] = (uint8_t)low;
    }
    from = to;
  }
}

/* Where a strip pixel lies: the nearest of the boxes that are asked for, bit k for cell k of the
   field and bit `own` for all cells of others. Returns that bit's number; -1 if there is none. */
static int tally_zone_(const tally_strip_ *strip, unsigned asked, int x, int y) {
  int i, zone = -1, least = INT_MAX;
  for (i = 0; i < strip->boxes && least > 0; i++) {
    const tally_cell_box_ *b = &strip->box[i];
    int bit = tally_min_(i, strip->own), dx, dy;
    if (!(asked >> bit & 1)) continue;
    dx = tally_max_(0, tally_max_(b->left - x, x - b->right + 1));
    dy = tally_max_(0, tally_max_(b->top - y, y - b->bottom + 1));
    if (dx * dx + dy * dy >= least) continue;
    least = dx * dx + dy * dy;
    zone = bit;
  }
  return zone;
}

/* How far inside a box a strip pixel lies, from its nearest side; 0 outside. */
static int tally_depth_(const tally_cell_box_ *b, int x, int y) {
  int across = tally_min_(x - b->left, b->right - 1 - x);
  int along = tally_min_(y - b->top, b->bottom - 1 - y);
  return tally_max_(0, 1 + tally_min_(across, along));
}

/* Whether a printed rule lies within reach of a pixel. */
static int tally_near_rule_(const tally_strip_ *strip, int x, int y, int reach) {
  int i, j;
  for (j = tally_max_(0, y - reach); j <= tally_min_(strip->height - 1, y + reach); j++)
    for (i = tally_max_(0, x - reach); i <= tally_min_(strip->width - 1, x + reach); i++)
      if (strip->erased[(size_t)j * (size_t)strip->width + (size_t)i] &&
          strip->erased[(size_t)j * (size_t)strip->width + (size_t)i] != TALLY_HIDDEN_)
        return 1;
  return 0;
}

/* Measures every component of ink. */
static void tally_describe_ink_(tally_strip_ *strip) {
  int x, y, i;
  for (i = 0; i < strip->count; i++) {
    const tally_component *part = &strip->parts[i];
    strip->ink[i].leaves = part->left == 0 || part->top == 0 || part->right == strip->width - 1 ||
                           part->bottom == strip->height - 1;
  }
  for (y = 0; y < strip->height; y++)
    for (x = 0; x < strip->width; x++) {
      size_t at = (size_t)y * (size_t)strip->width + (size_t)x;
      tally_ink_ *part;
      if (!strip->labels[at]) continue;
      part = &strip->ink[strip->labels[at] - 1];
      for (i = 0; i < strip->boxes; i++) {
        int depth = tally_depth_(&strip->box[i], x, y), bit = tally_min_(i, strip->own);
        if (depth == 0) continue;
        part->inside[bit]++;
        part->depth[bit] = tally_max_(part->depth[bit], depth);
        break;
      }
      part->strong += strip->dark[at] > strip->high[x];
      if (!tally_near_rule_(strip, x, y, 2)) part->off_rule++;
      if (!part->touches &&
          (strip->erased[at] == TALLY_HIDDEN_ || tally_near_rule_(strip, x, y, 1)))
        part->touches = 1;
    }
}

/* Distance between two bounding boxes, 0 when they touch. */
static int tally_box_gap_(const tally_component *a, const tally_component *b) {
  int dx = tally_max_(a->left - b->right, b->left - a->right);
  int dy = tally_max_(a->top - b->bottom, b->top - a->bottom);
  return tally_max_(0, tally_max_(dx, dy));
}

static int tally_longer_side_(const tally_component *part) {
  return 1 + tally_max_(part->right - part->left, part->bottom - part->top);
}

/* A dot far from the cell's main stroke is dirt, or a full stop; pieces of a broken digit are
   larger or nearer. Where there are dots only, all of it is dirt. */
static void tally_drop_specks_(tally_strip_ *strip, int cell) {
  unsigned bit = 1u << cell;
  int i, main_part = -1, dots;
  for (i = 0; i < strip->count; i++)
    if (strip->ink[i].serves & bit &&
        (main_part < 0 || strip->parts[i].area > strip->parts[main_part].area))
      main_part = i;
  if (main_part < 0) return;
  dots = tally_longer_side_(&strip->parts[main_part]) < TALLY_CELL_ / 8;
  for (i = 0; i < strip->count; i++)
    if (strip->ink[i].serves == bit &&
        (dots || (strip->parts[i].area * 10 < strip->parts[main_part].area &&
                  tally_box_gap_(&strip->parts[i], &strip->parts[main_part]) > 3)))
      strip->ink[i].serves = 0;
}

/* A cell without ink of its own gets back what the next cell's ink left in it: two digits that run
   into each other must not make one cell look empty. */
static void tally_share_ink_(tally_strip_ *strip, int cell) {
  unsigned bit = 1u << cell, field = (1u << strip->own) - 1;
  int i, most = -1;
  for (i = 0; i < strip->count; i++) {
    const tally_ink_ *part = &strip->ink[i];
    if (part->serves & bit) return;
    if (part->serves & field && (most < 0 || part->inside[cell] > strip->ink[most].inside[cell]))
      most = i;
  }
  if (most >= 0 && strip->ink[most].inside[cell] > 40) strip->ink[most].serves |= bit;
}

/* The cells that a component serves: the one that holds most of it, and each that it reaches the
   middle of, or half as far where a quarter of it lies there and all of it is seen. None for
   specks, remains of rules, and what lies mostly outside all cells. */
static unsigned tally_serves_(const tally_strip_ *strip, int i) {
  const tally_ink_ *part = &strip->ink[i];
  int k, best = 0, all = 0, area = strip->parts[i].area;
  unsigned out;
  for (k = 0; k <= strip->own; k++) {
    all += part->inside[k];
    if (part->inside[k] > part->inside[best]) best = k;
  }
  if (area < 7 || part->strong < 3) return 0;
  if (part->off_rule * 4 < area || part->off_rule < 6 || all * 3 < area) return 0;
  out = 1u << best;
  for (k = 0; k <= strip->own; k++)
    if (part->inside[k] > 25 &&
        part->depth[k] >
            (part->inside[k] * 4 > all && !part->leaves ? TALLY_DEEP_ / 2 : TALLY_DEEP_))
      out |= 1u << k;
  return out;
}

static void tally_own_ink_(tally_strip_ *strip) {
  int i, k;
  for (i = 0; i < strip->count; i++) strip->ink[i].serves = tally_serves_(strip, i);
  for (k = 0; k < strip->own; k++) tally_drop_specks_(strip, k);
  for (k = 0; k < strip->own; k++) tally_share_ink_(strip, k);
}

/* ---- one cell */

/* Whether the ink of the strip pixel goes to cell k. Where a component serves several cells, what
   lies on the rules between them goes to none. */
static int tally_belongs_(const tally_strip_ *strip, int k, int x, int y) {
  size_t at = (size_t)y * (size_t)strip->width + (size_t)x;
  unsigned serves;
  if (!strip->labels[at]) return 0;
  serves = strip->ink[strip->labels[at] - 1].serves;
  if (!(serves >> k & 1) || serves == 1u << k) return serves == 1u << k;
  return strip->erased[at] != TALLY_CROSSED_ && tally_zone_(strip, serves, x, y) == k;
}

/* MNIST's normalisation: the ink's bounding box is scaled to fit 20 x 20 and its centre of mass put
   in the middle of 28 x 28. Ink much smaller than a digit (least pixels) is not blown up to the
   size of one. ink is tight round it; `full` is its level of full ink. sum is scratch of means over
   it. */
static void tally_fit_mnist_(const tally_image *ink, int full, double least, double *sum,
                             uint8_t *out) {
  double side = tally_max_(ink->width, ink->height), scale = (side > least ? side : least) / 20;
  double mass = 0, mx = 0, my = 0, peak = 0.25 * full, values[TALLY_SIDE * TALLY_SIDE];
  int x, y, i;
  for (y = 0; y < ink->height; y++)
    for (x = 0; x < ink->width; x++) {
      double v = tally_row_(ink, y)[x];
      mass += v;
      mx += v * (x + 0.5);
      my += v * (y + 0.5);
    }
  if (mass <= 0) return;
  for (y = 0; y < TALLY_SIDE; y++)
    tally_area_row_(ink, mx / mass - 14 * scale, my / mass + (y - 14) * scale, scale, scale,
                    TALLY_SIDE, sum, values + y * TALLY_SIDE);
  /* Thin strokes pale when they are shrunk; MNIST's reach full white. */
  for (i = 0; i < TALLY_SIDE * TALLY_SIDE; i++)
    if (values[i] > peak) peak = values[i];
  for (i = 0; i < TALLY_SIDE * TALLY_SIDE; i++) out[i] = tally_byte_(255 * values[i] / peak);
}

/* Widens strokes by a pixel each way: the largest of the four neighbours and the middle. */
static void tally_widen_(const tally_image *ink, uint8_t *copy) {
  size_t wide = (size_t)ink->width;
  int x, y;
  memcpy(copy, ink->pixels, tally_count_(ink));
  for (y = 0; y < ink->height; y++)
    for (x = 0; x < ink->width; x++) {
      const uint8_t *from = copy + (size_t)y * wide + (size_t)x;
      int v = *from;
      if (x > 0) v = tally_max_(v, from[-1]);
      if (x + 1 < ink->width) v = tally_max_(v, from[1]);
      if (y > 0) v = tally_max_(v, *(from - wide));
      if (y + 1 < ink->height) v = tally_max_(v, from[wide]);
      tally_row_(ink, y)[x] = (uint8_t)v;
    }
}

/* The cell as the paper cut it. sum is scratch of means over the strip. */
static void tally_cut_raw_(const tally_strip_ *strip, const tally_box *box, double *sum,
                           uint8_t *out) {
  double left = (box->x - strip->x0) * strip->zoom, top = (box->y - strip->y0) * strip->zoom;
  double wide = box->width * strip->zoom / TALLY_SIDE;
  double tall = box->height * strip->zoom / TALLY_SIDE, means[TALLY_SIDE];
  tally_image light;
  int x, y;
  light.pixels = strip->light;
  light.width = strip->width;
  light.height = strip->height;
  light.channels = 1;
  for (y = 0; y < TALLY_SIDE; y++) {
    tally_area_row_(&light, left, top + y * tall, wide, tall, TALLY_SIDE, sum, means);
    for (x = 0; x < TALLY_SIDE; x++) out[y * TALLY_SIDE + x] = tally_byte_(255 - means[x]);
  }
}

/* The ink of one cell: where it lies, inclusive, and how much and how dark it is. */
typedef struct {
  int left, top, right, bottom, area;
  double dark; /* summed */
} tally_extent_;

/* Measures the ink of cell k, and says in the cell whether it touches a border. */
static tally_extent_ tally_measure_ink_(const tally_strip_ *strip, int k, tally_cell *cell) {
  tally_extent_ out = {INT_MAX, INT_MAX, -1, -1, 0, 0}, search = out;
  int x, y, i;
  for (i = 0; i < strip->count; i++) {
    const tally_component *part = &strip->parts[i];
    if (!(strip->ink[i].serves >> k & 1)) continue;
    search.left = tally_min_(search.left, part->left);
    search.right = tally_max_(search.right, part->right);
    search.top = tally_min_(search.top, part->top);
    search.bottom = tally_max_(search.bottom, part->bottom);
    if (strip->ink[i].touches || strip->ink[i].serves != 1u << k) cell->state = TALLY_CELL_TOUCHING;
  }
  for (y = search.top; y <= search.bottom; y++)
    for (x = search.left; x <= search.right; x++) {
      if (!tally_belongs_(strip, k, x, y)) continue;
      out.area++;
      out.dark += strip->dark[(size_t)y * (size_t)strip->width + (size_t)x];
      out.left = tally_min_(out.left, x);
      out.right = tally_max_(out.right, x);
      out.top = tally_min_(out.top, y);
      out.bottom = tally_max_(out.bottom, y);
    }
  return out;
}

/* Copies the ink of cell k to strip->stroke, levels up to `full`, with room round it for widening.
   Returns the length of its outline, left and upper sides only. */
static int tally_copy_ink_(const tally_strip_ *strip, int k, const tally_extent_ *extent, int full,
                           tally_image *out) {
  int x, y, edge = 0;
  out->pixels = strip->stroke;
  out->width = extent->right - extent->left + 1 + 2 * TALLY_ROOM_;
  out->height = extent->bottom - extent->top + 1 + 2 * TALLY_ROOM_;
  out->channels = 1;
  memset(out->pixels, 0, tally_count_(out));
  for (y = extent->top; y <= extent->bottom; y++)
    for (x = extent->left; x <= extent->right; x++) {
      uint8_t *to = tally_row_(out, y - extent->top + TALLY_ROOM_) + x - extent->left + TALLY_ROOM_;
      if (!tally_belongs_(strip, k, x, y)) continue;
      *to = (uint8_t)tally_min_(strip->dark[(size_t)y * (size_t)strip->width + (size_t)x], full);
      edge += (to[-1] == 0) + (to[-out->width] == 0);
    }
  return edge;
}

/* ---- what the cutter makes of a cell */

/* What bears on whether a pen has written in a cell, and on whether its ink was cut out whole. */
typedef struct {
  double area;     /* of the ink kept, as a share of the cell's; 0: there is none */
  double contrast; /* how much darker than its paper, 1: as much as what stands out of its noise */
  double relative; /* the same against the field's darkest ink, 0..1 */
  double extent;   /* longer side of the ink, as a share of the cell's smaller side */
  double
      aside; /* share of its components that went to other cells, times how far from the middle of
                     the cell the rest lies, 1 on its side: half a digit does, a neighbour's does
                     not */
  double foreign; /* other cells' ink inside the cell, as a share of the ink kept */
  double dropped; /* the same of what was taken for specks or remains of rules */
  double hidden;  /* strokes along the rules round it that are not in its ink, share of a side */
  double along;   /* strokes along rules in its ink, share of a side */
  int touches;    /* 1: it lies beside a rule or crosses one */
} tally_evidence_;

/* Adds what lies in and just round cell k to its evidence, as counts of pixels. */
static void tally_look_round_(const tally_strip_ *strip, int k, tally_evidence_ *e) {
  const tally_cell_box_ *box = &strip->box[k];
  int x, y, near = TALLY_BESIDE_ + 2;
  for (y = tally_max_(0, box->top - near); y < tally_min_(strip->height, box->bottom + near); y++)
    for (x = tally_max_(0, box->left - near); x < tally_min_(strip->width, box->right + near);
         x++) {
      size_t at = (size_t)y * (size_t)strip->width + (size_t)x;
      int ours, rule = strip->erased[at] == TALLY_HIDDEN_ || strip->erased[at] == TALLY_DOUBTED_;
      if (!strip->labels[at] && !rule) continue;
      ours = tally_belongs_(strip, k, x, y);
      if (rule) *(ours ? &e->along : &e->hidden) += 1;
      if (ours || !strip->labels[at] || tally_depth_(box, x, y) == 0) continue;
      *(strip->ink[strip->labels[at] - 1].serves ? &e->foreign : &e->dropped) += 1;
    }
}

/* How far from the middle of a box ink lies: 0 in the middle, 1 on a side. */
static double tally_aside_(const tally_extent_ *ink, const tally_cell_box_ *box) {
  double x = fabs((double)(ink->left + ink->right + 1 - box->left - box->right));
  double y = fabs((double)(ink->top + ink->bottom + 1 - box->top - box->bottom));
  double across = x / (box->right - box->left), along = y / (box->bottom - box->top);
  return across > along ? across : along;
}

static tally_evidence_ tally_gather_(const tally_strip_ *strip, int k,
                                     const tally_extent_ *extent) {
  const tally_cell_box_ *box = &strip->box[k];
  const tally_levels_ *levels = &strip->levels[k];
  double side = tally_min_(box->bottom - box->top, box->right - box->left), all = 0, dark;
  double whole = (double)(box->bottom - box->top) * (box->right - box->left);
  int i, most = TALLY_PEN_;
  tally_evidence_ e;
  memset(&e, 0, sizeof e);
  tally_look_round_(strip, k, &e);
  e.hidden /= TALLY_RULE_ * side;
  e.along /= TALLY_RULE_ * side;
  if (extent->area == 0) return e;
  for (i = 0; i < strip->count; i++) {
    if (!(strip->ink[i].serves >> k & 1)) continue;
    all += strip->parts[i].area;
    e.touches |= strip->ink[i].touches;
  }
  for (i = 0; i < strip->own; i++) most = tally_max_(most, strip->levels[i].peak);
  dark = extent->dark / extent->area - levels->paper;
  e.area = extent->area / whole;
  e.contrast = dark / (levels->noise - levels->paper);
  e.relative = dark / most;
  e.extent = tally_max_(extent->right - extent->left, extent->bottom - extent->top) / side;
  e.aside = (1 - extent->area / all) * tally_aside_(extent, box);
  e.foreign /= extent->area;
  e.dropped /= extent->area;
  return e;
}

/* How surely a pen has written in the cell, by a logistic regression.

   Fitted on 20,000 cells with ink: of synthetic tallies (both forms that come with this header and
   one of 46 dense rows; default and double severity; some with a tenth of the digits on a printed
   rule; some with faint ink of 8 to 50 %, weighted as one cell in fifty) and of eight real scans.
   On as many others it is right about as often as it says: given 0.03 to 0.1 6.5 % are written,
   given 0.1 to 0.3 22 %, 0.3 to 0.5 23 %, 0.5 to 0.7 52 %, 0.7 to 0.9 89 %, 0.97 to 0.99 98.9 %,
   0.99 to 0.999 99.7 %. Of cells without ink 2 % are written, and 38 % of those with a stroke along
   their rules. */
static double tally_surely_written_(const tally_evidence_ *e) {
  double odds, beside = 2 * e->hidden;
  if (e->area <= 0) return 0.02 + 0.3 * (beside < 1 ? beside : 1);
  odds =
      exp(-1.06 + 2.22 * log(100 * e->area) + 2.11 * log(e->contrast > 0.1 ? e->contrast : 0.1) +
          3.10 * log(e->relative > 0.01 ? e->relative : 0.01) - 3.61 * log(e->extent + 0.02) -
          3.87 * (e->along < 1 ? e->along : 1) - 5.04 * log(e->area > 0.25 ? e->area / 0.25 : 1));
  return odds < 1e-3 ? 1e-3 : odds > 1e4 ? 1 - 1e-4 : odds / (1 + odds);
}

/* How surely the ink was cut out whole: each thing that may spoil it does so by itself, more surely
   the more there is of it.

   Fitted on 26,000 digits of synthetic tallies as above, some 1 to 1.5 times the usual size, with
   the model that comes with the tools: how much more often its best class is wrong than in cells
   where nothing of this is seen (0.8 %). What lies along rules is fitted on cells with nothing
   else. On as many other digits it is wrong in 56 % where 36 % are predicted, 15 % where 22, 10 %
   where 13, 5.6 % where 7.3, 3.5 % where 3.7, 2.7 % where 2.0, 1.7 % where 1.4. */
static double tally_surely_whole_(const tally_evidence_ *e) {
  const double amount[6] = {e->aside, e->foreign, e->dropped,
                            e->along, e->hidden,  (double)e->touches};
  static const double spoils[6] = {1.16, 0.198, 0.071, 0.05, 0.016, 0.009};
  double sum = 0;
  int i;
  for (i = 0; i < 6; i++) sum += spoils[i] * (amount[i] < 1 ? amount[i] : 1);
  return exp(-sum);
}

/* Fills in cell k from the ink it was given. */
static void tally_cut_clean_(const tally_strip_ *strip, int k, tally_cell *cell) {
  const tally_cell_box_ *box = &strip->box[k];
  int tall = box->bottom - box->top, wide = box->right - box->left, small = tally_min_(tall, wide);
  int full = tally_min_(strip->high[(box->left + box->right) / 2] * 3 / 2, 255);
  int width, height, side, i;
  tally_extent_ extent = tally_measure_ink_(strip, k, cell);
  tally_evidence_ evidence;
  double thickness = 0;
  tally_image picture = {NULL, 0, 0, 1};
  width = extent.right - extent.left + 1;
  height = extent.bottom - extent.top + 1;
  side = tally_max_(width, height);
  if (extent.area < 14 || side < small / 8) extent.area = 0;
  if (extent.area > 0)
    thickness = 1.6 * extent.area / (tally_copy_ink_(strip, k, &extent, full, &picture) + 1);
  evidence = tally_gather_(strip, k, &extent);
  cell->written = tally_surely_written_(&evidence);
  cell->whole = tally_surely_whole_(&evidence);
  if (extent.area == 0 || cell->written < TALLY_HARDLY_)
    cell->state = TALLY_CELL_EMPTY;
  else if (cell->state != TALLY_CELL_TOUCHING)
    cell->state = TALLY_CELL_INK;
  if (extent.area == 0) return;
  cell->ink = (double)extent.area / ((double)tall * wide);
  cell->dark = extent.dark / extent.area / 255;
  cell->dash = width > 2.2 * height && height < tall * 0.3 && width > wide * 0.2;
  /* A stroke narrower than MNIST's (about 2.5 of 28 pixels) is widened, or shrinking would lose it.
   */
  for (i = 0; i < 3 && thickness < 1.8 * side / 20.0; i++, thickness += 2)
    tally_widen_(&picture, strip->copy);
  tally_fit_mnist_(&picture, full, 0.4 * small, strip->sum, cell->clean);
}

/* ---- one field */

static tally_cell_box_ tally_place_box_(const tally_strip_ *strip, const tally_box *box) {
  tally_cell_box_ out;
  out.left = (int)floor((box->x - strip->x0) * strip->zoom + 0.5);
  out.right = (int)floor((box->x + box->width - strip->x0) * strip->zoom + 0.5);
  out.top = (int)floor((box->y - strip->y0) * strip->zoom + 0.5);
  out.bottom = (int)floor((box->y + box->height - strip->y0) * strip->zoom + 0.5);
  return out;
}

/* Where field `other` has a point that the strip's field has elsewhere: fields are registered one
   by one. Moves the box by the difference, found in the picture and taken back to the template. */
static void tally_move_box_(const tally_registration *registration, int field, int other,
                            tally_box *box) {
  double x = box->x + box->width / 2, y = box->y + box->height / 2, px[4], py[4], det, dx, dy;
  tally_registration_map(registration, field, x, y, &px[0], &py[0]);
  tally_registration_map(registration, field, x + 1, y, &px[1], &py[1]);
  tally_registration_map(registration, field, x, y + 1, &px[2], &py[2]);
  tally_registration_map(registration, other, x, y, &px[3], &py[3]);
  det = (px[1] - px[0]) * (py[2] - py[0]) - (px[2] - px[0]) * (py[1] - py[0]);
  dx = (px[3] - px[0]) * (py[2] - py[0]) - (py[3] - py[0]) * (px[2] - px[0]);
  dy = (py[3] - py[0]) * (px[1] - px[0]) - (px[3] - px[0]) * (py[1] - py[0]);
  if (!(fabs(dx) < fabs(det) * box->width && fabs(dy) < fabs(det) * box->height)) return;
  box->x += dx / det;
  box->y += dy / det;
}

/* Lists the strip's boxes: the field's own cells, then all others that reach into it. */
static void tally_list_boxes_(const tally_template *form, const tally_registration *registration,
                              int f, tally_strip_ *strip) {
  double right = strip->x0 + strip->width / strip->zoom;
  double bottom = strip->y0 + strip->height / strip->zoom;
  int i, k;
  strip->own = strip->boxes = form->field[f].digits;
  for (k = 0; k < strip->own; k++) strip->box[k] = tally_place_box_(strip, &form->field[f].cell[k]);
  for (i = 0; i < form->fields; i++)
    for (k = 0; k < form->field[i].digits; k++) {
      tally_box box = form->field[i].cell[k];
      if (i == f || box.x > right || box.y > bottom || box.x + box.width < strip->x0 ||
          box.y + box.height < strip->y0)
        continue;
      tally_move_box_(registration, f, i, &box);
      strip->box[strip->boxes++] = tally_place_box_(strip, &box);
    }
}

static void tally_place_strip_(const tally_field *field, tally_strip_ *strip) {
  const tally_box *first = &field->cell[0], *last = &field->cell[field->digits - 1];
  double small = first->width < first->height ? first->width : first->height, margin;
  strip->zoom = TALLY_CELL_ / small;
  margin = TALLY_MARGIN_ / strip->zoom;
  strip->x0 = first->x - margin;
  strip->y0 = first->y - margin;
  strip->width = (int)ceil((last->x + last->width + margin - strip->x0) * strip->zoom);
  strip->height = (int)ceil((first->height + 2 * margin) * strip->zoom);
}

/* Pixels of ink to strip->spare (255), then their components to labels and parts. */
static tally_result tally_find_ink_(tally_strip_ *strip) {
  tally_image mask;
  int x, y;
  for (y = 0; y < strip->height; y++)
    for (x = 0; x < strip->width; x++) {
      size_t i = (size_t)y * (size_t)strip->width + (size_t)x;
      strip->spare[i] = strip->dark[i] > strip->low[x] && strip->erased[i] != TALLY_ERASED_ &&
                                strip->erased[i] != TALLY_DOUBTED_
                            ? 255
                            : 0;
    }
  mask.pixels = strip->spare;
  mask.width = strip->width;
  mask.height = strip->height;
  mask.channels = 1;
  strip->count = tally_components(&mask, strip->labels, strip->parts, strip->capacity);
  if (strip->count < 0) return TALLY_ERROR_MEMORY;
  strip->ink = (tally_ink_ *)tally_alloc_zero_((size_t)strip->count + 1, sizeof *strip->ink);
  return strip->ink ? TALLY_OK : TALLY_ERROR_MEMORY;
}

static tally_result tally_cut_field_(const tally_image *picture, const tally_template *form,
                                     const tally_registration *registration, int f,
                                     tally_strip_ *strip, tally_cell *cells) {
  int k, x, high = 0;
  memset(strip->erased, 0, (size_t)strip->width * (size_t)strip->height);
  tally_list_boxes_(form, registration, f, strip);
  TALLY_TRY_(tally_sample_strip_(picture, registration, f, strip));
  for (k = 0; k < strip->own; k++)
    tally_cut_raw_(strip, &form->field[f].cell[k], strip->sum, cells[k].raw);
  tally_darken_(strip);
  tally_set_levels_(strip);
  for (x = 0; x < strip->width; x++) high = tally_max_(high, strip->high[x]);
  tally_erase_rules_(form, strip, high);
  TALLY_TRY_(tally_find_ink_(strip));
  tally_describe_ink_(strip);
  tally_own_ink_(strip);
  for (k = 0; k < strip->own; k++) tally_cut_clean_(strip, k, &cells[k]);
  return TALLY_OK;
}

TALLY_API const char *tally_cell_state_text(tally_cell_state state) {
  switch (state) {
  case TALLY_CELL_EMPTY:
    return "empty";
  case TALLY_CELL_INK:
    return "ink";
  case TALLY_CELL_TOUCHING:
    return "touching";
  }
  return "unknown";
}

/* boxes: how many there may be at most. */
static tally_result tally_alloc_strip_(tally_strip_ *strip, int boxes) {
  size_t wide = (size_t)strip->width, tall = (size_t)strip->height, n = wide * tall;
  size_t stroke = (wide + 2 * TALLY_ROOM_) * (tall + 2 * TALLY_ROOM_);
  strip->capacity = (strip->width / 2 + 1) * (strip->height / 2 + 1);
  strip->light = (uint8_t *)tally_alloc_(n, 1);
  strip->dark = (uint8_t *)tally_alloc_(n, 1);
  strip->erased = (uint8_t *)tally_alloc_(n, 1);
  strip->spare = (uint8_t *)tally_alloc_(n, 1);
  strip->line = (uint8_t *)tally_alloc_((wide + 2 * TALLY_BROAD_) * (tall + 2 * TALLY_BROAD_), 1);
  strip->stroke = (uint8_t *)tally_alloc_(stroke, 1);
  strip->copy = (uint8_t *)tally_alloc_(stroke, 1);
  strip->low = (uint8_t *)tally_alloc_(wide, 1);
  strip->high = (uint8_t *)tally_alloc_(wide, 1);
  strip->box = (tally_cell_box_ *)tally_alloc_((size_t)boxes, sizeof *strip->box);
  strip->sum = (double *)tally_alloc_(wide + 2 * TALLY_ROOM_ + 1, sizeof *strip->sum);
  strip->labels = (int *)tally_alloc_(n, sizeof *strip->labels);
  strip->parts = (tally_component *)tally_alloc_((size_t)strip->capacity, sizeof *strip->parts);
  return strip->light && strip->dark && strip->erased && strip->spare && strip->line &&
                 strip->stroke && strip->copy && strip->sum && strip->low && strip->high &&
                 strip->box && strip->labels && strip->parts
             ? TALLY_OK
             : TALLY_ERROR_MEMORY;
}

static void tally_free_strip_(tally_strip_ *strip) {
  TALLY_FREE(strip->light);
  TALLY_FREE(strip->dark);
  TALLY_FREE(strip->erased);
  TALLY_FREE(strip->spare);
  TALLY_FREE(strip->line);
  TALLY_FREE(strip->stroke);
  TALLY_FREE(strip->copy);
  TALLY_FREE(strip->sum);
  TALLY_FREE(strip->low);
  TALLY_FREE(strip->high);
  TALLY_FREE(strip->box);
  TALLY_FREE(strip->ink);
  TALLY_FREE(strip->labels);
  TALLY_FREE(strip->parts);
}

TALLY_API tally_result tally_cut_shifted(const tally_image *picture, const tally_template *form,
                                         const tally_registration *registration, int field,
                                         double dx, double dy, tally_cell *cells) {
  tally_strip_ strip;
  tally_result result;
  if (!tally_image_ok_(picture) || !form || !registration || !cells ||
      registration->status != TALLY_FORM_OK || field < 0 || field >= form->fields ||
      !(fabs(dx) <= TALLY_MAX_SHIFT) || !(fabs(dy) <= TALLY_MAX_SHIFT))
    return TALLY_ERROR_ARGUMENT;
  memset(cells, 0, (size_t)form->field[field].digits * sizeof *cells);
  memset(&strip, 0, sizeof strip);
  tally_place_strip_(&form->field[field], &strip);
  if (strip.width > 20000 || strip.height > 20000 || strip.width > 50000000 / strip.height)
    return TALLY_ERROR_TOO_LARGE;
  strip.dx = dx / strip.zoom;
  strip.dy = dy / strip.zoom;
  result = tally_alloc_strip_(&strip, form->cells);
  if (result == TALLY_OK)
    result = tally_cut_field_(picture, form, registration, field, &strip, cells);
  tally_free_strip_(&strip);
  return result;
}

TALLY_API tally_result tally_cut(const tally_image *picture, const tally_template *form,
                                 const tally_registration *registration, tally_cell *cells) {
  int f;
  if (!form || !cells) return TALLY_ERROR_ARGUMENT;
  for (f = 0; f < form->fields; f++)
    TALLY_TRY_(
        tally_cut_shifted(picture, form, registration, f, 0, 0, cells + form->field[f].first_cell));
  return TALLY_OK;
}

/* ---- 5. counts ----------------------------------------------------------------------------------
   */

/* A weight this far below the largest cannot move a posterior by 1e-10: at worst 10^4 values of 64
   parts are dropped, against a total of at least wrong_sum. */
#define TALLY_NEGLIGIBLE_ 1e-18

/* What a cell may hold, as the template reads it. The weights sum to 1. */
typedef struct {
  double digit[10], mark, empty, bad; /* mark: a cross or dash that stands for a leading zero */
} tally_symbol_;

/* State of one decoding. Messages are arrays over a field's values, then missing, then illegible.
   */
typedef struct {
  const tally_template *form;
  double wrong;
  int size[TALLY_MAX_FIELDS];    /* values + 2 */
  double *own[TALLY_MAX_FIELDS]; /* L_f */
  tally_symbol_ symbol[TALLY_MAX_FIELDS][TALLY_MAX_DIGITS];
  double *message[TALLY_MAX_SUMS][TALLY_MAX_FIELDS + 1]; /* to each part, then to the total */
  double holds[TALLY_MAX_SUMS];
  double *work; /* scratch of one sum */
} tally_decoder_;

static int tally_power_(int digits) {
  int n = 1;
  while (digits-- > 0) n *= 10;
  return n;
}

/* ---- one field by itself */

static tally_result tally_symbol_of_(const tally_template *form, const double *p,
                                     const tally_cell *cell, double temperature,
                                     tally_symbol_ *out) {
  double sum = 0, most = 0, v[TALLY_CLASSES], rest = 1;
  int k;
  for (k = 0; k < TALLY_CLASSES; k++) {
    if (!(p[k] >= 0) || !(p[k] <= DBL_MAX)) return TALLY_ERROR_ARGUMENT;
    if (p[k] > most) most = p[k];
  }
  if (most <= 0) return TALLY_ERROR_ARGUMENT;
  for (k = 0; k < TALLY_CLASSES; k++) {
    v[k] = p[k] > 0 ? (temperature == 1 ? p[k] / most : pow(p[k] / most, 1 / temperature)) : 0;
    sum += v[k];
  }
  if (cell && (cell->state == TALLY_CELL_EMPTY || cell->dash)) rest = 1 - TALLY_SEEN_;
  memset(out, 0, sizeof *out);
  for (k = 0; k < 10; k++) out->digit[k] = rest * v[k] / sum;
  out->empty = rest * v[TALLY_CLASS_EMPTY] / sum;
  for (k = TALLY_CLASS_ILLEGIBLE; k < TALLY_CLASSES; k++)
    if (k != TALLY_CLASS_DASH) out->bad += rest * v[k] / sum;
  *(form->dash == TALLY_MARK_LEADING_ZERO ? &out->mark : &out->bad) +=
      rest * v[TALLY_CLASS_DASH] / sum;
  *(form->cross == TALLY_MARK_LEADING_ZERO ? &out->mark : &out->bad) +=
      rest * v[TALLY_CLASS_CROSS] / sum;
  if (rest < 1) {
    if (cell->state == TALLY_CELL_EMPTY)
      out->empty += TALLY_SEEN_;
    else
      *(form->dash == TALLY_MARK_LEADING_ZERO ? &out->mark : &out->bad) += TALLY_SEEN_;
  }
  return TALLY_OK;
}

/* L_f: the sum, over all rows of symbols that mean an outcome, of the products of their weights. A
   number is a run of leading marks or blanks and then digits; a row of marks and blanks that ends
   in a mark is 0; all blank is missing; every other row is illegible. */
static void tally_own_distribution_(const tally_template *form, const tally_symbol_ *symbol,
                                    int digits, double *out) {
  int values = tally_power_(digits), v, i, k;
  double lead[TALLY_MAX_DIGITS + 1], missing = 1, sum = 0;
  lead[0] = 1;
  for (i = 0; i < digits; i++) {
    double blank = form->empty == TALLY_MARK_LEADING_ZERO ? symbol[i].empty : 0;
    lead[i + 1] = lead[i] * (symbol[i].mark + blank);
    missing *= symbol[i].empty;
  }
  for (v = 0; v < values; v++) {
    int digit[TALLY_MAX_DIGITS], rest = v, zeros = 0;
    double tail = 1, total = 0;
    for (i = digits - 1; i >= 0; i--, rest /= 10) digit[i] = rest % 10;
    while (zeros < digits - 1 && digit[zeros] == 0) zeros++;
    for (k = digits - 1; k >= 0; k--) {
      tail *= symbol[k].digit[digit[k]];
      if (k <= zeros) total += lead[k] * tail;
    }
    out[v] = total;
    sum += total;
  }
  out[0] += lead[digits - 1] * symbol[digits - 1].mark;
  sum += lead[digits - 1] * symbol[digits - 1].mark;
  out[values] = missing;
  out[values + 1] = sum + missing < 1 ? 1 - sum - missing : 0;
}

/* ---- sums */

/* The message from a field to a sum: its own evidence and what all other sums say. */
static void tally_to_sum_(const tally_decoder_ *d, int field, int except, double *out) {
  const tally_template *form = d->form;
  int n = d->size[field], s, i, k;
  memcpy(out, d->own[field], (size_t)n * sizeof *out);
  for (s = 0; s < form->sums; s++) {
    if (s == except) continue;
    for (k = 0; k <= form->sum[s].parts; k++) {
      int other = k < form->sum[s].parts ? form->sum[s].part[k] : form->sum[s].total;
      if (other == field && d->message[s][k])
        for (i = 0; i < n; i++) out[i] *= d->message[s][k][i];
    }
  }
}

/* Divides by the largest entry, so that products of many messages stay in range. */
static void tally_rescale_(double *v, int n) {
  double most = 0;
  int i;
  for (i = 0; i < n; i++)
    if (v[i] > most) most = v[i];
  for (i = 0; i < n && most > 0; i++) v[i] /= most;
}

/* What a part says in one sum. */
typedef struct {
  int values;  /* number of values it can add, 10^digits */
  double *add; /* weight of adding v; missing adds 0 */
  double all;  /* weight of everything, the illegible included */
  int *live;   /* the values that are not negligible, ascending */
  int lives;
  int digits; /* > 0: no other sum has a say, so the part is made of these symbols alone */
  const tally_symbol_ *symbol;
  int leading; /* 1: blanks may lead */
} tally_part_;

/* out += w times in, moved up (or down) by shift, within 0..most. */
static void tally_add_shifted_(const double *in, double w, int shift, int up, int most,
                               double *out) {
  const double *from = up ? in : in + shift;
  double *to = up ? out + shift : out;
  int s;
  for (s = 0; s <= most - shift; s++) to[s] += w * from[s];
}

/* The same as tally_add_part_ for a part of known symbols, digit by digit: ten additions per
   position where the plain way takes ten to the number of positions. `started` are the sums in
   which a digit has been written, and lead is the weight of nothing but leading marks so far. */
static void tally_add_digits_(const tally_part_ *part, const double *in, int up, int most,
                              double *out, double *started) {
  size_t bytes = ((size_t)most + 1) * sizeof *out;
  double lead = 1, missing = 1, zero = 0;
  int place = part->values, i, k, s;
  memset(out, 0, bytes);
  for (i = 0; i < part->digits; i++) {
    const tally_symbol_ *symbol = &part->symbol[i];
    place /= 10;
    for (s = 0; s <= most; s++) started[s] = out[s] + lead * in[s];
    memset(out, 0, bytes);
    for (k = 0; k < 10 && k * place <= most; k++)
      tally_add_shifted_(started, symbol->digit[k], k * place, up, most, out);
    zero = lead * symbol->mark;
    lead *= symbol->mark + (part->leading ? symbol->empty : 0);
    missing *= symbol->empty;
  }
  tally_add_shifted_(in, zero + missing, 0, up, most, out);
}

/* out[s] = sum over v of add[v] in[s - v] (up) or in[s + v] (down), for s within 0..most. spare is
   scratch of the same size. */
static void tally_add_part_(const tally_part_ *part, const double *in, int up, int most,
                            double *out, double *spare) {
  int i;
  if (part->digits > 0) {
    tally_add_digits_(part, in, up, most, out, spare);
    return;
  }
  memset(out, 0, ((size_t)most + 1) * sizeof *out);
  for (i = 0; i < part->lives; i++)
    tally_add_shifted_(in, part->add[part->live[i]], part->live[i], up, most, out);
}

static double tally_dot_(const double *a, const double *b, int n) {
  double sum0 = 0, sum1 = 0, sum2 = 0, sum3 = 0;
  int i;
  for (i = 0; i + 4 <= n; i += 4) {
    sum0 += a[i] * b[i];
    sum1 += a[i + 1] * b[i + 1];
    sum2 += a[i + 2] * b[i + 2];
    sum3 += a[i + 3] * b[i + 3];
  }
  for (; i < n; i++) sum0 += a[i] * b[i];
  return (sum0 + sum1) + (sum2 + sum3);
}

/* Doubles of scratch that tally_pass_sum_ needs for sum s. */
static size_t tally_sum_work_(const tally_decoder_ *d, int s) {
  const tally_sum *sum = &d->form->sum[s];
  size_t n = 0, line = (size_t)d->size[sum->total];
  int i;
  for (i = 0; i < sum->parts; i++) n += 2 * (size_t)d->size[sum->part[i]];
  return n + line * ((size_t)sum->parts + 4);
}

static int tally_sums_of_(const tally_template *form, int field) {
  int s, k, n = 0;
  for (s = 0; s < form->sums; s++)
    for (k = 0; k <= form->sum[s].parts; k++)
      n += (k < form->sum[s].parts ? form->sum[s].part[k] : form->sum[s].total) == field;
  return n;
}

/* Computes the messages of sum s to all of its fields from theirs to it. forward[i] is the
   distribution of the sum of the first i parts, and backward that of what the total must be for the
   parts after i, so that each part's message is one correlation of the two. */
static void tally_pass_sum_(tally_decoder_ *d, int s) {
  const tally_sum *sum = &d->form->sum[s];
  tally_part_ part[TALLY_MAX_FIELDS];
  int parts = sum->parts, lines = d->size[sum->total], most = lines - 3, i, v;
  double *at = d->work, *total, *forward, *backward, *spare, *scratch, all_parts = 1, all_total = 0,
         agree, all;
  for (i = 0; i < parts; i++) {
    tally_part_ *p = &part[i];
    int n = d->size[sum->part[i]];
    double largest = 0;
    p->values = n - 2;
    p->add = at;
    p->live = (int *)(void *)(at + n);
    at += 2 * (size_t)n;
    tally_to_sum_(d, sum->part[i], s, p->add);
    p->add[0] += p->add[p->values];
    p->all = p->add[p->values + 1];
    for (v = 0; v < p->values; v++) {
      p->all += p->add[v];
      if (p->add[v] > largest) largest = p->add[v];
    }
    for (v = p->lives = 0; v < p->values && v <= most; v++)
      if (p->add[v] > largest * TALLY_NEGLIGIBLE_) p->live[p->lives++] = v;
    all_parts *= p->all;
    p->digits =
        tally_sums_of_(d->form, sum->part[i]) == 1 ? d->form->field[sum->part[i]].digits : 0;
    p->symbol = d->symbol[sum->part[i]];
    p->leading = d->form->empty == TALLY_MARK_LEADING_ZERO;
  }
  total = at;
  forward = total + lines;
  backward = forward + (size_t)lines * (size_t)parts;
  spare = backward + lines;
  scratch = spare + lines;
  tally_to_sum_(d, sum->total, s, total);
  for (v = 0; v < lines; v++) all_total += total[v];
  memset(forward, 0, (size_t)lines * sizeof *forward);
  forward[0] = 1;
  for (i = 0; i + 1 < parts; i++)
    tally_add_part_(&part[i], forward + (size_t)i * (size_t)lines, 1, most,
                    forward + (size_t)(i + 1) * (size_t)lines, scratch);
  tally_add_part_(&part[parts - 1], forward + (size_t)(parts - 1) * (size_t)lines, 1, most, spare,
                  scratch);
  agree = tally_dot_(spare, total, most + 1);
  all = d->wrong * all_total * all_parts + (1 - d->wrong) * agree;
  d->holds[s] = all > 0 ? agree / all : 0;
  for (v = 0; v < lines; v++)
    d->message[s][parts][v] = d->wrong * all_parts + (v <= most ? (1 - d->wrong) * spare[v] : 0);
  tally_rescale_(d->message[s][parts], lines);
  memcpy(backward, total, ((size_t)most + 1) * sizeof *backward);
  for (i = parts - 1; i >= 0; i--) {
    double *message = d->message[s][i];
    const double *before = forward + (size_t)i * (size_t)lines, *own = d->own[sum->part[i]];
    double floor_weight = d->wrong * all_total, largest = 0, *swap;
    int n = d->size[sum->part[i]], k;
    for (k = 0; k < parts; k++)
      if (k != i) floor_weight *= part[k].all;
    for (v = 0; v < n; v++) {
      message[v] = floor_weight;
      if (own[v] > largest) largest = own[v];
    }
    for (v = 0; v < n - 2 && v <= most; v++)
      if (v == 0 || own[v] > largest * TALLY_NEGLIGIBLE_)
        message[v] += (1 - d->wrong) * tally_dot_(before, backward + v, most + 1 - v);
    message[n - 2] = message[0];
    tally_rescale_(message, n);
    tally_add_part_(&part[i], backward, 0, most, spare, scratch);
    swap = backward;
    backward = spare;
    spare = swap;
  }
}

static int tally_sums_share_(const tally_sum *a, const tally_sum *b) {
  int i, k;
  for (i = 0; i <= a->parts; i++)
    for (k = 0; k <= b->parts; k++)
      if ((i < a->parts ? a->part[i] : a->total) == (k < b->parts ? b->part[k] : b->total))
        return 1;
  return 0;
}

/* Passes messages over the tree of sums: from the leaves to a root, then back. Breadth-first order
   from a root visits parents before children, so its reverse is the way up. */
static void tally_pass_all_(tally_decoder_ *d) {
  const tally_template *form = d->form;
  int order[TALLY_MAX_SUMS], seen[TALLY_MAX_SUMS] = {0}, n = 0, next = 0, root, s;
  for (root = 0; root < form->sums; root++) {
    if (seen[root]) continue;
    seen[root] = 1;
    order[n++] = root;
    for (; next < n; next++)
      for (s = 0; s < form->sums; s++)
        if (!seen[s] && tally_sums_share_(&form->sum[order[next]], &form->sum[s])) {
          seen[s] = 1;
          order[n++] = s;
        }
  }
  for (s = n - 1; s > 0; s--) tally_pass_sum_(d, order[s]);
  for (s = 0; s < n; s++) tally_pass_sum_(d, order[s]);
}

/* ---- what is reported */

/* Torres & Cantu's quality of a count from its cells' highest class probabilities. */
static double tally_quality_(const double *probabilities, int digits) {
  static const double three[3] = {0.5, 0.35, 0.15};
  double quality = 0;
  int i, k;
  for (i = 0; i < digits; i++) {
    const double *p = probabilities + (size_t)i * TALLY_CLASSES;
    double most = 0, sum = 0;
    for (k = 0; k < TALLY_CLASSES; k++) {
      sum += p[k];
      if (p[k] > most) most = p[k];
    }
    quality +=
        (digits == 3 ? three[i] : 2.0 * (digits - i) / (digits * (digits + 1))) * (most / sum);
  }
  return quality;
}

/* Index of the largest entry, `skip` left out; ties go to the smaller index. */
static int tally_largest_(const double *v, int n, int skip) {
  int i, best = -1;
  for (i = 0; i < n; i++)
    if (i != skip && (best < 0 || v[i] > v[best])) best = i;
  return best;
}

static void tally_report_(const double *own, const double *posterior, int values, double risk,
                          tally_count *count) {
  int outcome = tally_largest_(own, values + 2, -1);
  count->missing = posterior[values];
  count->illegible = posterior[values + 1];
  count->own_value = outcome < values ? outcome : TALLY_NO_VALUE;
  count->value = count->second = TALLY_NO_VALUE;
  if (outcome == values) {
    count->status = TALLY_COUNT_MISSING;
    count->probability = count->missing;
    if (own[values] < 1 - risk && posterior[values] < 1 - risk) {
      count->status = TALLY_COUNT_REVIEW;
      tally_print_(count->reason, sizeof count->reason, "probably nothing is written here");
    }
  } else if (outcome == values + 1 || own[values + 1] >= 0.5) {
    count->status = TALLY_COUNT_UNREAD;
    count->probability = count->illegible;
    tally_print_(count->reason, sizeof count->reason, "the cells do not make a number");
  } else {
    count->value = tally_largest_(posterior, values, -1);
    count->probability = posterior[count->value];
    count->changed = count->value != count->own_value;
    if (count->probability < 1 - risk) {
      int share = (int)(count->probability * 10000 + 0.5); /* %f would have the locale's point */
      count->status = TALLY_COUNT_REVIEW;
      tally_print_(count->reason, sizeof count->reason, "probability %d.%04d", share / 10000,
                   share % 10000);
    }
    if (count->changed) {
      count->status = TALLY_COUNT_REVIEW;
      tally_print_(count->reason, sizeof count->reason,
                   "the cells alone read %d, the sum makes it %d", count->own_value, count->value);
    }
  }
  outcome = tally_largest_(posterior, values, count->value);
  if (outcome >= 0 && posterior[outcome] > 0) {
    count->second = outcome;
    count->second_probability = posterior[outcome];
  }
}

/* State of a sum as read; a sum that fails sends its counts to review. */
static void tally_check_sum_(const tally_template *form, int s, tally_counts *out) {
  const tally_sum *sum = &form->sum[s];
  const tally_count *total = &out->count[sum->total];
  int i, added = 0, known = total->value >= 0;
  for (i = 0; i < sum->parts; i++) {
    const tally_count *part = &out->count[sum->part[i]];
    if (part->value >= 0)
      added += part->value;
    else if (part->status == TALLY_COUNT_UNREAD)
      known = 0;
  }
  out->sum[s].state = !known                  ? TALLY_SUM_UNCHECKED
                      : added == total->value ? TALLY_SUM_HOLDS
                                              : TALLY_SUM_FAILS;
  if (out->sum[s].state != TALLY_SUM_FAILS) return;
  for (i = 0; i <= sum->parts; i++) {
    tally_count *count = &out->count[i < sum->parts ? sum->part[i] : sum->total];
    if (count->value < 0) continue;
    count->status = TALLY_COUNT_REVIEW;
    tally_print_(count->reason, sizeof count->reason,
                 "does not add up on paper: %s reads %d, its parts make %d",
                 form->field[sum->total].name, total->value, added);
  }
}

TALLY_API const char *tally_count_status_text(tally_count_status status) {
  switch (status) {
  case TALLY_COUNT_OK:
    return "ok";
  case TALLY_COUNT_REVIEW:
    return "review";
  case TALLY_COUNT_MISSING:
    return "missing";
  case TALLY_COUNT_UNREAD:
    return "unread";
  }
  return "unknown";
}

TALLY_API void tally_counts_free(tally_counts *counts) {
  int f;
  if (!counts) return;
  for (f = 0; f < TALLY_MAX_FIELDS; f++) TALLY_FREE(counts->distribution[f]);
  memset(counts, 0, sizeof *counts);
}

static void tally_decoder_free_(tally_decoder_ *d) {
  int s, k;
  for (k = 0; k < TALLY_MAX_FIELDS; k++) TALLY_FREE(d->own[k]);
  for (s = 0; s < TALLY_MAX_SUMS; s++)
    for (k = 0; k <= TALLY_MAX_FIELDS; k++) TALLY_FREE(d->message[s][k]);
  TALLY_FREE(d->work);
  TALLY_FREE(d);
}

/* Room for all messages; they start as 1, saying nothing. */
static tally_result tally_decoder_room_(tally_decoder_ *d) {
  const tally_template *form = d->form;
  size_t work = 1;
  int s, k, i;
  for (s = 0; s < form->sums; s++) {
    size_t need = tally_sum_work_(d, s);
    if (need > work) work = need;
    for (k = 0; k <= form->sum[s].parts; k++) {
      int n = d->size[k < form->sum[s].parts ? form->sum[s].part[k] : form->sum[s].total];
      d->message[s][k] = (double *)tally_alloc_((size_t)n, sizeof(double));
      if (!d->message[s][k]) return TALLY_ERROR_MEMORY;
      for (i = 0; i < n; i++) d->message[s][k][i] = 1;
    }
  }
  d->work = (double *)tally_alloc_(work, sizeof(double));
  return d->work ? TALLY_OK : TALLY_ERROR_MEMORY;
}

static tally_result tally_decode_own_(tally_decoder_ *d, const double *probabilities,
                                      const tally_cell *cells, double temperature) {
  const tally_template *form = d->form;
  int f, i;
  for (f = 0; f < form->fields; f++) {
    const tally_field *field = &form->field[f];
    tally_symbol_ *symbol = d->symbol[f];
    d->size[f] = tally_power_(field->digits) + 2;
    d->own[f] = (double *)tally_alloc_((size_t)d->size[f], sizeof(double));
    if (!d->own[f]) return TALLY_ERROR_MEMORY;
    for (i = 0; i < field->digits; i++) {
      int cell = field->first_cell + i;
      TALLY_TRY_(tally_symbol_of_(form, probabilities + (size_t)cell * TALLY_CLASSES,
                                  cells ? &cells[cell] : NULL, temperature, &symbol[i]));
    }
    tally_own_distribution_(form, symbol, field->digits, d->own[f]);
  }
  return TALLY_OK;
}

static tally_result tally_decode_in_(tally_decoder_ *d, const double *probabilities,
                                     const tally_cell *cells, const tally_decode_options *options,
                                     tally_counts *out) {
  const tally_template *form = d->form;
  int f, s, i;
  TALLY_TRY_(tally_decode_own_(d, probabilities, cells, options->temperature));
  TALLY_TRY_(tally_decoder_room_(d));
  tally_pass_all_(d);
  out->fields = form->fields;
  out->sums = form->sums;
  for (f = 0; f < form->fields; f++) {
    const tally_field *field = &form->field[f];
    double *posterior = (double *)tally_alloc_((size_t)d->size[f], sizeof(double)), sum = 0;
    if (!posterior) return TALLY_ERROR_MEMORY;
    out->distribution[f] = posterior;
    out->values[f] = d->size[f] - 2;
    tally_to_sum_(d, f, -1, posterior);
    for (i = 0; i < d->size[f]; i++) sum += posterior[i];
    for (i = 0; i < d->size[f]; i++) posterior[i] /= sum;
    tally_report_(d->own[f], posterior, out->values[f], options->risk, &out->count[f]);
    out->count[f].quality =
        tally_quality_(probabilities + (size_t)field->first_cell * TALLY_CLASSES, field->digits);
    out->quality += out->count[f].quality / form->fields;
  }
  out->high_quality = out->quality > 0.9;
  for (s = 0; s < form->sums; s++) {
    out->sum[s].probability = d->holds[s];
    tally_check_sum_(form, s, out);
  }
  return TALLY_OK;
}

TALLY_API tally_result tally_decode(const tally_template *form, const double *probabilities,
                                    const tally_cell *cells, const tally_decode_options *options,
                                    tally_counts *out) {
  tally_decode_options chosen = {1, 0.002, 0.005};
  tally_decoder_ *d;
  tally_result result;
  if (!out) return TALLY_ERROR_ARGUMENT;
  memset(out, 0, sizeof *out);
  if (!form || !probabilities || form->fields < 1) return TALLY_ERROR_ARGUMENT;
  if (options) {
    if (options->temperature != 0) chosen.temperature = options->temperature;
    if (options->wrong_sum != 0) chosen.wrong_sum = options->wrong_sum;
    if (options->risk != 0) chosen.risk = options->risk;
  }
  if (!(chosen.temperature > 0.01 && chosen.temperature < 100) ||
      !(chosen.wrong_sum >= 1e-6 && chosen.wrong_sum <= 1) || !(chosen.risk > 0 && chosen.risk < 1))
    return TALLY_ERROR_ARGUMENT;
  d = (tally_decoder_ *)tally_alloc_zero_(1, sizeof *d);
  if (!d) return TALLY_ERROR_MEMORY;
  d->form = form;
  d->wrong = chosen.wrong_sum;
  result = tally_decode_in_(d, probabilities, cells, &chosen, out);
  tally_decoder_free_(d);
  if (result != TALLY_OK) tally_counts_free(out);
  return result;
}

/* ---- 6. totals ----------------------------------------------------------------------------------
   */

/* splitmix64 (Steele, Lea and Flood 2014). */
static uint64_t tally_random_(uint64_t *state) {
  uint64_t z = (*state += 0x9e3779b97f4a7c15u);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

/* Uniform in [0, 1). */
static double tally_uniform_(uint64_t *state) {
  return (double)(tally_random_(state) >> 11) / 9007199254740992.0;
}

/* Values that a count in doubt may have: more than these matter to no sum. */
#define TALLY_OUTCOMES_ 12

struct tally_doubt_ {
  uint64_t state; /* of the random numbers */
  int field, high_quality, outcomes;
  float illegible;                /* posterior that nothing readable is written */
  float weight[TALLY_OUTCOMES_];  /* posterior of each value */
  int32_t value[TALLY_OUTCOMES_]; /* TALLY_NO_VALUE: missing */
};

/* How large counts are is kept in TALLY_BINS_ steps of a quarter of an octave of value + 2; the
   last bin is for missing. */
#define TALLY_BINS_ 82
#define TALLY_BINS_AN_OCTAVE_ 4
#define TALLY_UNKNOWN_ 5 /* settled counts that weigh as much as knowing nothing */

static double tally_bin_(int value) {
  return TALLY_BINS_AN_OCTAVE_ * (log2(value + 2.0) - 1);
}

static double *tally_draws_(const tally_totals *totals, double *sums, int group, int field) {
  return sums + ((size_t)group * (size_t)totals->fields + (size_t)field) * TALLY_DRAWS;
}

TALLY_API tally_result tally_totals_begin(const tally_template *form, uint64_t seed,
                                          tally_totals *out) {
  size_t draws;
  int f, s;
  if (!out) return TALLY_ERROR_ARGUMENT;
  memset(out, 0, sizeof *out);
  if (!form || form->fields < 1) return TALLY_ERROR_ARGUMENT;
  draws = (size_t)TALLY_GROUPS * (size_t)form->fields * TALLY_DRAWS;
  out->sums = (double *)tally_alloc_zero_(draws, sizeof *out->sums);
  out->drawn = (double *)tally_alloc_zero_(draws, sizeof *out->drawn);
  out->settled =
      (double *)tally_alloc_zero_((size_t)form->fields * TALLY_BINS_, sizeof *out->settled);
  if (!out->sums || !out->drawn || !out->settled) {
    tally_totals_free(out);
    return TALLY_ERROR_MEMORY;
  }
  out->fields = form->fields;
  out->seed = seed;
  for (f = 0; f < form->fields; f++) out->values[f] = tally_power_(form->field[f].digits);
  for (s = 0; s < form->sums; s++) out->is_total[form->sum[s].total] = 1;
  return TALLY_OK;
}

TALLY_API void tally_totals_free(tally_totals *totals) {
  if (!totals) return;
  TALLY_FREE(totals->settled);
  TALLY_FREE(totals->sums);
  TALLY_FREE(totals->drawn);
  TALLY_FREE(totals->doubt);
  memset(totals, 0, sizeof *totals);
}

/* Adds to each draw's sum a value drawn from a settled count's posterior, `best` being by far the
   likeliest. */
static void tally_draw_settled_(const tally_counts *counts, int field, int best, uint64_t *state,
                                double *all, double *high) {
  const double *p = counts->distribution[field];
  int values = counts->values[field], i, v;
  double mass = 0;
  for (v = 0; v < values; v++) mass += p[v];
  for (i = 0; i < TALLY_DRAWS; i++) {
    double u = tally_uniform_(state) * mass - p[best];
    int value = best;
    for (v = 0; v < values && u >= 0; v++) {
      if (v == best) continue;
      u -= p[v];
      value = v;
    }
    all[i] += value;
    if (high) high[i] += value;
  }
}

static int tally_is_settled_(const tally_count *count) {
  return count->status == TALLY_COUNT_OK || count->status == TALLY_COUNT_MISSING;
}

/* Room for all counts in doubt of one tally, before anything of it is added. */
static tally_result tally_doubt_room_(tally_totals *totals, const tally_counts *counts) {
  size_t needed = totals->doubts, room = totals->doubt_room ? totals->doubt_room : 64;
  tally_doubt_ *doubt;
  int f;
  for (f = 0; f < counts->fields; f++) needed += !tally_is_settled_(&counts->count[f]);
  if (needed <= totals->doubt_room) return TALLY_OK;
  while (room < needed) room *= 2;
  if (room > SIZE_MAX / sizeof *doubt) return TALLY_ERROR_MEMORY;
  doubt = (tally_doubt_ *)TALLY_REALLOC(totals->doubt, room * sizeof *doubt);
  if (!doubt) return TALLY_ERROR_MEMORY;
  totals->doubt = doubt;
  totals->doubt_room = room;
  return TALLY_OK;
}

/* Keeps a count in doubt: its likeliest outcomes, largest first. */
static void tally_keep_doubt_(tally_totals *totals, const tally_counts *counts, int field,
                              uint64_t state) {
  const double *p = counts->distribution[field];
  int values = counts->values[field], v, k;
  tally_doubt_ *doubt = &totals->doubt[totals->doubts++];
  memset(doubt, 0, sizeof *doubt);
  doubt->state = state;
  doubt->field = field;
  doubt->high_quality = counts->high_quality;
  doubt->illegible = (float)p[values + 1];
  for (v = 0; v <= values; v++) {
    if (!(p[v] > 0)) continue;
    for (k = doubt->outcomes; k > 0 && (double)doubt->weight[k - 1] < p[v]; k--) {
      if (k == TALLY_OUTCOMES_) continue;
      doubt->weight[k] = doubt->weight[k - 1];
      doubt->value[k] = doubt->value[k - 1];
    }
    if (k == TALLY_OUTCOMES_) continue;
    doubt->weight[k] = (float)p[v];
    doubt->value[k] = v < values ? v : TALLY_NO_VALUE;
    if (doubt->outcomes < TALLY_OUTCOMES_) doubt->outcomes++;
  }
}

TALLY_API tally_result tally_totals_add(tally_totals *totals, const tally_counts *counts) {
  int f, g, groups;
  uint64_t state;
  if (!totals || !totals->sums || (counts && counts->fields != totals->fields))
    return TALLY_ERROR_ARGUMENT;
  if (counts) TALLY_TRY_(tally_doubt_room_(totals, counts));
  state = totals->seed + (uint64_t)totals->tallies[TALLY_ALL] * 0xd1342543de82ef95u;
  totals->finished = 0;
  groups = counts && counts->high_quality ? TALLY_GROUPS : 1;
  for (g = 0; g < groups; g++) totals->tallies[g]++;
  if (!counts) totals->unregistered++;
  for (f = 0; f < totals->fields; f++) {
    const tally_count *count = counts ? &counts->count[f] : NULL;
    for (g = 0; g < groups; g++) {
      if (count && count->value >= 0) {
        totals->read[g][f]++;
        totals->votes[g][f] += count->value;
      } else if (count && count->status != TALLY_COUNT_UNREAD) {
        totals->missing[g][f]++;
      } else {
        totals->unread[g][f]++;
      }
    }
    if (!count) continue;
    if (!tally_is_settled_(count)) {
      tally_keep_doubt_(totals, counts, f, tally_random_(&state));
      continue;
    }
    totals->settled[f * TALLY_BINS_ + (count->value >= 0 ? (int)(tally_bin_(count->value) + 0.5)
                                                         : TALLY_BINS_ - 1)]++;
    if (count->value >= 0)
      tally_draw_settled_(
          counts, f, count->value, &state, tally_draws_(totals, totals->sums, TALLY_ALL, f),
          groups > 1 ? tally_draws_(totals, totals->sums, TALLY_HIGH_QUALITY, f) : NULL);
  }
  return TALLY_OK;
}

/* How likely each value of a field is before a count is looked at, then that it is missing: the
   settled counts, each smoothed by a triangle of an octave to each side, and TALLY_UNKNOWN_ more
   that could be any value. The weights sum to 1. */
static void tally_field_prior_(const tally_totals *totals, int field, double *prior) {
  const double *settled = totals->settled + field * TALLY_BINS_;
  int values = totals->values[field], reach = TALLY_BINS_AN_OCTAVE_, v, bin;
  double known = 0, missing = settled[TALLY_BINS_ - 1], sum = 0, all;
  for (bin = 0; bin < TALLY_BINS_ - 1; bin++) known += settled[bin];
  all = known + missing + TALLY_UNKNOWN_;
  for (v = 0; v < values; v++) {
    double at = tally_bin_(v), density = 0;
    for (bin = tally_max_((int)at - reach, 0); bin <= (int)at + reach + 1; bin++)
      if (bin < TALLY_BINS_ - 1 && fabs(at - bin) < reach)
        density += settled[bin] * (1 - fabs(at - bin) / reach);
    prior[v] = density / (v + 2); /* a bin's share is its values' together */
    sum += prior[v];
  }
  for (v = 0; v < values; v++)
    prior[v] = ((sum > 0 ? known * prior[v] / sum : 0) + (double)TALLY_UNKNOWN_ / values) / all;
  prior[values] = missing / all;
}

/* Index of the entry of a cumulated distribution in which u, below its last entry, falls. */
static int tally_pick_(const double *cumulated, int n, double u) {
  int low = 0, high = n - 1;
  while (low < high) {
    int middle = (low + high) / 2;
    if (u < cumulated[middle])
      high = middle;
    else
      low = middle + 1;
  }
  return low;
}

/* Adds the draws of one count in doubt. An illegible count could be any outcome, all values and
   missing being equally well borne out by it. */
static void tally_draw_doubt_(const tally_doubt_ *doubt, const double *prior,
                              const double *cumulated, int values, double *all, double *high) {
  double weight[TALLY_OUTCOMES_ + 1], sum = 0;
  uint64_t state = doubt->state;
  int i, k;
  for (k = 0; k < doubt->outcomes; k++) {
    int v = doubt->value[k];
    weight[k] = sum += (double)doubt->weight[k] * prior[v == TALLY_NO_VALUE ? values : v];
  }
  weight[k] = sum += (double)doubt->illegible / (values + 1);
  for (i = 0; i < TALLY_DRAWS; i++) {
    int pick = tally_pick_(weight, doubt->outcomes + 1, tally_uniform_(&state) * sum), value;
    if (pick < doubt->outcomes) {
      value = doubt->value[pick];
    } else {
      value = tally_pick_(cumulated, values + 1, tally_uniform_(&state) * cumulated[values]);
      if (value == values) value = TALLY_NO_VALUE;
    }
    if (value == TALLY_NO_VALUE) continue;
    all[i] += value;
    if (high) high[i] += value;
  }
}

TALLY_API tally_result tally_totals_finish(tally_totals *totals) {
  size_t k, draws;
  int f, v;
  if (!totals || !totals->sums) return TALLY_ERROR_ARGUMENT;
  totals->finished = 0;
  draws = (size_t)TALLY_GROUPS * (size_t)totals->fields * TALLY_DRAWS;
  memcpy(totals->drawn, totals->sums, draws * sizeof *totals->drawn);
  for (f = 0; f < totals->fields; f++) {
    int values = totals->values[f];
    double *prior = (double *)tally_alloc_(2 * ((size_t)values + 1), sizeof *prior);
    double *cumulated, sum = 0;
    if (!prior) return TALLY_ERROR_MEMORY;
    cumulated = prior + values + 1;
    tally_field_prior_(totals, f, prior);
    for (v = 0; v <= values; v++) cumulated[v] = sum += prior[v];
    for (k = 0; k < totals->doubts; k++) {
      const tally_doubt_ *doubt = &totals->doubt[k];
      if (doubt->field == f)
        tally_draw_doubt_(
            doubt, prior, cumulated, values, tally_draws_(totals, totals->drawn, TALLY_ALL, f),
            doubt->high_quality ? tally_draws_(totals, totals->drawn, TALLY_HIGH_QUALITY, f)
                                : NULL);
    }
    TALLY_FREE(prior);
  }
  totals->finished = 1;
  return TALLY_OK;
}

static int tally_compare_(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

/* Mean, 5th and 95th percentile of TALLY_DRAWS values, which are sorted. */
static void tally_interval_(double *values, double *mean, double *low, double *high) {
  int i;
  qsort(values, TALLY_DRAWS, sizeof *values, tally_compare_);
  *mean = 0;
  for (i = 0; i < TALLY_DRAWS; i++) *mean += values[i] / TALLY_DRAWS;
  *low = values[TALLY_DRAWS / 20];
  *high = values[TALLY_DRAWS - 1 - TALLY_DRAWS / 20];
}

TALLY_API tally_result tally_totals_get(const tally_totals *totals, int group, int field,
                                        const int *in_share, tally_total *out) {
  double values[TALLY_DRAWS];
  int i, f;
  if (!totals || !totals->finished || !out || group < 0 || group >= TALLY_GROUPS || field < 0 ||
      field >= totals->fields)
    return TALLY_ERROR_ARGUMENT;
  memset(out, 0, sizeof *out);
  out->votes = totals->votes[group][field];
  out->read = totals->read[group][field];
  out->missing = totals->missing[group][field];
  out->unread = totals->unread[group][field];
  memcpy(values, tally_draws_(totals, totals->drawn, group, field), sizeof values);
  tally_interval_(values, &out->estimate, &out->low, &out->high);
  memset(values, 0, sizeof values);
  for (f = 0; f < totals->fields; f++) {
    const double *draws = tally_draws_(totals, totals->drawn, group, f);
    if (in_share ? !in_share[f] : totals->is_total[f]) continue;
    for (i = 0; i < TALLY_DRAWS; i++) values[i] += draws[i];
  }
  for (i = 0; i < TALLY_DRAWS; i++)
    values[i] =
        values[i] > 0 ? tally_draws_(totals, totals->drawn, group, field)[i] / values[i] : 0;
  tally_interval_(values, &out->share, &out->share_low, &out->share_high);
  return TALLY_OK;
}

#if defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__
#if defined(__clang__)
#pragma float_control(pop)
#elif defined(__GNUC__)
#pragma GCC pop_options
#endif
#endif

#endif /* TALLY_IMPLEMENTED_ */
#endif /* TALLY_IMPLEMENTATION */

/* MIT licence

   Copyright (c) 2026 the convnet.h authors

   Permission is hereby granted, free of charge, to any person obtaining a copy of this software and
   associated documentation files (the "Software"), to deal in the Software without restriction,
   including without limitation the rights to use, copy, modify, merge, publish, distribute,
   sublicense, and/or sell copies of the Software, and to permit persons to whom the Software is
   furnished to do so, subject to the following conditions:

   The above copyright notice and this permission notice shall be included in all copies or
   substantial portions of the Software.

   THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT
   NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND
   NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM,
   DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM,
   OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE. */
