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
     takes part in a sum has at most 4 digits. Printed rules and boxes are
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
                   least three anchors visible, one of four may be hidden; or two, of a form with
                   rules across and down whose page is seen nearly from above
   (tests/test_tally.c draws pages over this envelope.) Beyond it a form is either found as closely
   or refused with a reason: it is accepted only if 95 % of its printed rules are seen where they
   should be (80 % if every row bears its label, see reference prints), within 2.5 template pixels,
   root mean square below 1.25, and if no other position can be right: rules that only this one has
   are seen, those that only another one has are not. So a template should name printed rules, the
   table's outermost ones above all, or have boxed cells; one with neither is accepted on four anchors
   that agree within 4 template pixels, if they do not look much the same from another side or the
   labels tell which side is up.

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
     sum TOTAL = A [+ B - ...]                     the field TOTAL must be the sum of the others
     sum TOTAL >= A [+ B - ...]                    the sum of the others is TOTAL at most
     blank empty = M  cross = M  dash = M          what marks without a digit mean (once)

   HSV is hsv(H1..H2, S1..S2, V1..V2): hue in degrees, 0..360, H1 > H2 wraps through 0; saturation
   and value in percent. A mark meaning M is one of
     leading-zero   allowed before the first digit of a count; a count of crosses only (or dashes
                    only) is 0
     illegible      makes the count unreadable
   The defaults are empty = leading-zero, cross = illegible, dash = illegible. A count whose cells
   are all empty is missing, never 0. A mark to the right of a digit is never a number.
   There must be at least three anchors and one field.

   A reference print is a grey picture and a text in the same manner:

     form NAME                                     the form's name (once)
     print X,Y WxH                                 the part of the page that the picture shows, one
                                                   pixel per template pixel (once)
     label FIELD X,Y WxH beside CX,CY              the label of the field, whose first cell has its
                                                   top left corner at CX,CY on that page
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
  int at_most;                /* 1: the sum must be this field's value at most */
  int parts;                  /* how many fields are added */
  int part[TALLY_MAX_FIELDS]; /* their indices */
  int sign[TALLY_MAX_FIELDS]; /* 1: added, -1: taken away */
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
  int labels_compared;               /* fields whose printed label is that of the reference print */
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

typedef struct {
  int16_t x, y; /* from the field's first cell, template pixels */
  uint8_t light;
} tally_dot;

/* The printed label of a field: its name or number, what is printed in its row beside the cells. */
typedef struct {
  char field[TALLY_MAX_NAME];
  tally_box box; /* on the page */
  int x, y;      /* top left corner of the field's first cell on that page */
  int dots;      /* pixels of ink, and of the paper close to it */
  tally_dot *dot;
  int left, top, right, bottom; /* where these lie from the field's first cell; inclusive */
} tally_label;

/* A reference print: what is printed on every copy of a form, by which a template is checked that
   names the fields: not the template's word, so that one with two fields exchanged, or a row off, is
   found out. */
typedef struct {
  char name[TALLY_MAX_NAME]; /* the form's */
  tally_box place;           /* the picture's, on the page */
  int labels;
  tally_label label[TALLY_MAX_FIELDS];
  tally_image picture; /* one pixel per template pixel: light as tally_print_view sees it */
} tally_print;

/* Reads a reference print's text (grammar above) and copies its picture, which must be grey and of
   the size that the text says. On TALLY_ERROR_TEMPLATE, error (may be NULL) says where and why.
   tally_print_free releases it. */
TALLY_API tally_result tally_print_make(const char *text, size_t length, const tally_image *picture,
                                        tally_print *out, tally_error *error);
TALLY_API void tally_print_free(tally_print *print);

/* Part of a registered page as reference prints keep it: one grey pixel per template pixel, white
   but for what is narrow and darker than its surroundings. */
TALLY_API tally_result tally_print_view(const tally_image *picture,
                                        const tally_registration *registration,
                                        const tally_box *box, tally_image *out);

/* Finds the form as tally_register does, with a reference print (NULL: without). The labels settle
   where the page lies if the rules and anchors leave that open, and a template is refused
   (TALLY_FORM_WRONG) if the row of one of its fields bears the label of another. Where the print is
   another than the reference's nothing is compared, and out->labels_compared is 0. */
TALLY_API tally_result tally_register_print(const tally_image *picture, const tally_template *form,
                                            const tally_print *print, tally_registration *out);

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

#define TALLY_NO_VALUE (-1)  /* nothing is written */
#define TALLY_NOT_KNOWN (-2) /* in tally_decode_options.known */

typedef struct tally_habits tally_habits; /* see part 6 */

/* Zero in a member means its default. */
typedef struct {
  double temperature; /* probabilities are raised to 1 / temperature and normalised; default 1 */
  double slip;        /* how often a sum does not add up as it is written, 1e-6 to 0.4; default: as
                         habits say, or 0.04 */
  double risk;        /* a count that a sum confirms is accepted when it is wrong with this
                         probability at most; default 0.005 */
  double alone;       /* the same for a count that nothing confirms; default 0.003 */
  const int *known; /* form->fields values known beforehand - corrections, printed or official ones
                         - TALLY_NO_VALUE for nothing written, TALLY_NOT_KNOWN for the others; NULL
                         if there are none. They are certain */
  const tally_habits *habits; /* of the run, or NULL. Samples of counts that are not settled follow
                         them; values and probabilities reported never do, but for the slips */
  int samples;                /* joint samples drawn; default 1 */
  uint64_t seed;              /* of the samples */
} tally_decode_options;

typedef enum {
  TALLY_COUNT_OK,      /* accepted */
  TALLY_COUNT_REVIEW,  /* read, but a person should look; see reason */
  TALLY_COUNT_MISSING, /* nothing is written there */
  TALLY_COUNT_UNREAD,  /* written, but not as a number that can be read */
  TALLY_COUNT_INFERRED /* the same, but the sums say what it must be: never accepted */
} tally_count_status;

/* What an accepted count rests on. */
typedef enum {
  TALLY_BASIS_NONE,  /* it is not accepted */
  TALLY_BASIS_CELLS, /* its own cells: wrong with probability `alone` at most */
  TALLY_BASIS_SUM,   /* a sum was checked and holds */
  TALLY_BASIS_PERSON /* it was known beforehand */
} tally_basis;

typedef struct {
  tally_count_status status;
  tally_basis basis;
  int value;          /* TALLY_NO_VALUE when missing or unread */
  double probability; /* posterior of value (of being missing or unreadable without one) */
  int second;         /* the runner-up number, TALLY_NO_VALUE if there is none */
  double second_probability;
  double missing;   /* posterior that nothing is written */
  double illegible; /* posterior that a cell it rests on cannot be read */
  int own_value;    /* what the cells say by themselves, without the sums */
  int changed;      /* 1: the sums made value differ from own_value */
  int altered;      /* TALLY_CLASS_STRUCK, _SEVERAL or _OVERWRITTEN where a cell was altered; 0 */
  double quality;   /* Torres & Cantu: .5/.35/.15 weighted top probabilities of the hundreds,
                                tens and units; other lengths weigh position i of n by n - i */
  char reason[160]; /* why it needs a look; empty when ok */
} tally_count;

typedef enum {
  TALLY_SUM_HOLDS,
  TALLY_SUM_FAILS,    /* the paper as read does not add up */
  TALLY_SUM_UNCHECKED /* its total is missing, or one of its counts is unread or inferred */
} tally_sum_state;

typedef struct {
  tally_sum_state state; /* of the values reported; a missing part adds nothing */
  int difference;     /* of the values reported: the total less what its parts make; 0 unchecked */
  double probability; /* posterior that the paper adds up, over all readings */
} tally_sum_check;

typedef struct {
  int fields, sums;
  tally_count count[TALLY_MAX_FIELDS];
  tally_sum_check sum[TALLY_MAX_SUMS];
  double quality;   /* mean of the quality of the counts that are written */
  int high_quality; /* 1: above .9, and no sum fails */
  double left_out;  /* probability that posteriors leave out where sums close loops; 0 elsewhere */
  int values[TALLY_MAX_FIELDS]; /* 10^digits */
  double
      *distribution[TALLY_MAX_FIELDS]; /* values + 1 posterior probabilities that sum to 1: of each
                                             value, then of missing. Owned */
  int samples;
  int *
      sample; /* samples x fields: all counts of the tally, drawn from their joint posterior. Owned */
} tally_counts;

/* Counts from the cells' class probabilities, jointly over the form's sums.

   probabilities: form->cells x TALLY_CLASSES, in the order of tally_cut; each row non-negative with
   a positive finite sum (it is normalised). cells: what tally_cut saw, or NULL. It is evidence, no
   verdict: the class empty is weighed by 1 - written and all others by written; what the network
   says of digits counts in the measure in which the ink is whole, else any digit is as likely. A
   dash is a dash with 0.98.

   Model. A cell that cannot be read (illegible, struck out, altered) is any digit, and a row of
   cells that is no number (a blank behind a digit) any number. The weight of all counts x is the
   product of the fields' own weights L_f(x_f) - over all ways to write x_f, leading zeros as the
   template has them, or nothing (missing) - and of one factor a sum. With S what the parts make (a
   missing one adds nothing), the clerk writes the total S with probability 1 - slip, else one digit
   wrong, two digits swapped, a carry too many or too few, the sum without one of its parts, or
   anything (the shares are stated with the code); a total is left blank with 0.05. Given the parts,
   that is a distribution of the total, so the prior that a paper adds up does not depend on the
   number of digits. `TOTAL >= ...` holds with 1 - slip.
   Marginals are exact: sum-product over the graph of sums, parts convolved. Sums that close loops
   (rows and columns of a table) are opened at fields whose likely values are listed, up to 256 cases
   in all; out->left_out is about what the others would have: each sum by itself gives them this
   probability at most.

   A count whose cells cannot be read, and a count that the sums changed, are never accepted, nor is
   one with a cell that was struck out or altered, nor any of a sum that fails as read. Nothing is
   repaired silently.

   out is filled in and must be released with tally_counts_free. Errors: TALLY_ERROR_ARGUMENT,
   TALLY_ERROR_MEMORY (out is then empty). */
TALLY_API tally_result tally_decode(const tally_template *form, const double *probabilities,
                                    const tally_cell *cells, const tally_decode_options *options,
                                    tally_counts *out);
TALLY_API void tally_counts_free(tally_counts *counts);

/* "ok", "review", "missing", "unread", "inferred". */
TALLY_API const char *tally_count_status_text(tally_count_status status);
/* "", "cells", "sum", "person". */
TALLY_API const char *tally_basis_text(tally_basis basis);
/* A few words for tally_count.altered; "" for 0. */
TALLY_API const char *tally_altered_text(int altered);

/* ---- 6. totals ----------------------------------------------------------------------------------
   */

/* What the tallies of one run have in common, and one tally alone does not tell: how often clerks
   slip, and how large each field's counts are. Collected from all tallies in a first pass, and given
   to tally_decode in a second one. Owns its pointer; release with tally_habits_free. */
struct tally_habits {
  int fields;
  int values[TALLY_MAX_FIELDS]; /* 10^digits */
  double *settled;              /* how many settled counts of each field are how large; private */
  double sums, slips;           /* sums that were checked, and how many of them fail, expected */
};

/* Starts with nothing learnt. Errors: TALLY_ERROR_ARGUMENT, TALLY_ERROR_MEMORY (out is then empty). */
TALLY_API tally_result tally_habits_begin(const tally_template *form, tally_habits *out);
/* Adds the counts of one tally of that form. Settled ones, accepted or missing, say how large counts
   are. TALLY_ERROR_ARGUMENT if the counts are another form's. */
TALLY_API tally_result tally_habits_add(tally_habits *habits, const tally_template *form,
                                        const tally_counts *counts);
/* How often a sum does not add up: the mean of a beta distribution with 1 + slips and 24 + sums that
   hold (before anything is seen, and for NULL, .04: 2 of 25 real papers of two sums each). */
TALLY_API double tally_habits_slip(const tally_habits *habits);
/* How likely each value of a field is before its cells are looked at, then that it is missing
   (values + 1 weights that sum to 1): the settled counts, each smoothed by an octave to each side,
   and 5 more that could be anything (empirical Bayes, Robbins 1956). */
TALLY_API void tally_habits_prior(const tally_habits *habits, int field, double *out);
TALLY_API void tally_habits_free(tally_habits *habits);

#define TALLY_DRAWS 1000 /* Monte Carlo draws that intervals are made of */

enum { TALLY_ALL = 0, TALLY_HIGH_QUALITY = 1, TALLY_GROUPS = 2 };

/* Where a tally comes from. */
typedef struct {
  int group; /* 0 or more: tallies of one district, one hand or one scanner resemble each other,
                     in what is voted and in how they are misread */
  int registered; /* registered voters, which no count exceeds; 0 if that is not known */
} tally_origin;

/* One tally as totals keep it. Private. */
typedef struct tally_paper_ tally_paper_;

/* Running totals of many tallies. Owns its pointers. A tally takes about 40 bytes and 4 a field;
   one in doubt that much for each of the ways to read it that its samples hold. */
typedef struct {
  int fields, groups;
  uint64_t seed;
  int values[TALLY_MAX_FIELDS];                  /* 10^digits */
  int tallies[TALLY_GROUPS];                     /* added, the unread ones included */
  int unregistered;                              /* added as NULL */
  int is_total[TALLY_MAX_FIELDS];                /* total of some sum */
  int read[TALLY_GROUPS][TALLY_MAX_FIELDS];      /* tallies with a value that was read */
  int missing[TALLY_GROUPS][TALLY_MAX_FIELDS];   /* with nothing written */
  int unread[TALLY_GROUPS][TALLY_MAX_FIELDS];    /* unreadable, inferred or not registered */
  int64_t votes[TALLY_GROUPS][TALLY_MAX_FIELDS]; /* sums of the values read */
  double least[TALLY_GROUPS][TALLY_MAX_FIELDS];  /* bounds without a model */
  double most[TALLY_GROUPS][TALLY_MAX_FIELDS];
  double *drawn; /* TALLY_GROUPS x fields x TALLY_DRAWS: sums, once finished */
  int finished;
  tally_paper_ *paper;
  size_t papers, paper_room;
  int *row; /* ways to read them: how often drawn, then a value for each field */
  size_t rows, row_room;
} tally_totals;

/* One field over all tallies added. `votes` is the sum of the values read and nothing else.

   estimate, low and high say how many votes are written on these tallies: the mean, the 5th and the
   95th percentile of TALLY_DRAWS draws of all tallies together (so 90 % intervals); the shares are
   those of the same draws, so drawn parts add up as the papers do.
   A tally that was read is drawn from its joint samples. The odds that it is not what it most likely
   is vary from draw to draw by a factor that its whole group shares (log-normal, sigma .7): one hand, one scanner is misread as a whole, and intervals of many tallies do
   not shrink as if errors were independent.
   A tally that was not read is one of those read, drawn from its own group with probability
   n / (n + 5), n being those read of the group, else from all; how often each stands for others
   varies from draw to draw (Bayesian bootstrap, Rubin 1981; hierarchical as in Teh et al. 2006).
   That takes the unread tallies of a group to be like the read ones: see tally_totals_unevenness.

   least and most are bounds without any model: accepted and missing counts are what they are, any
   other count, and any of an unread tally, is 0 to the number of registered voters, or to what its
   cells can hold. */
typedef struct {
  int64_t votes; /* sum of the values read */
  double estimate, low, high;
  double share, share_low, share_high; /* 0..1 of the votes of all fields in the share; 0 if none */
  double least, most, share_least, share_most;
  int read, missing, unread; /* tallies */
  double covered;            /* share of the tallies in which it is read or missing, 0..1 */
} tally_total;

/* Starts totals for a form. Release with tally_totals_free. */
TALLY_API tally_result tally_totals_begin(const tally_template *form, uint64_t seed,
                                          tally_totals *out);
/* Adds one tally; NULL counts for one that could not be read at all, NULL origin for group 0 and
   unknown registered voters. counts should hold 50 samples or more. Draws depend on the seed and on
   the order of adding, nothing else. After an error nothing of it is added. */
TALLY_API tally_result tally_totals_add(tally_totals *totals, const tally_counts *counts,
                                        const tally_origin *origin);
/* To be called when all tallies are added: draws. More may be added after it, but then it must be
   called again. */
TALLY_API tally_result tally_totals_finish(tally_totals *totals);
/* The total of one field, of finished totals. in_share: totals->fields flags, the fields whose
   votes make 100 %; NULL for all fields that are not the total of a sum. */
TALLY_API tally_result tally_totals_get(const tally_totals *totals, int group, int field,
                                        const int *in_share, tally_total *out);
/* Whether the unread tallies lie where some field is strong: for each field the covariance, over
   groups, of its share among the tallies read with the share of tallies unread; the largest is held
   against 999 random ways to spread the unread ones over all tallies (a permutation test). Returns
   its p-value, 0.001 to 1; 1 where there is but one group. A small one says that the intervals,
   which take unread tallies to be like the others of their group, rest on few of them. */
TALLY_API double tally_totals_unevenness(const tally_totals *totals, const int *in_share);
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

/* A probability that rules nothing out. */
static double tally_probability_(double p) {
  return p > 1e-6 ? (p < 1 - 1e-6 ? p : 1 - 1e-6) : 1e-6;
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
  int i, sign;
  if (form->sums == TALLY_MAX_SUMS)
    return tally_fault_at_(p, p->word_line, p->word_column, "more than %d sums", TALLY_MAX_SUMS);
  sum->parts = 0;
  TALLY_TRY_(tally_read_field_(p, &sum->total));
  sum->at_most = tally_more_(p) && tally_peek_(p) == '>';
  TALLY_TRY_(tally_read_text_(p, sum->at_most ? ">=" : "="));
  for (sign = 1;;) {
    int field;
    TALLY_TRY_(tally_read_field_(p, &field));
    if (field == sum->total)
      return tally_fault_at_(p, p->word_line, p->word_column, "field '%s' is a part of itself",
                             form->field[field].name);
    for (i = 0; i < sum->parts; i++)
      if (sum->part[i] == field)
        return tally_fault_at_(p, p->word_line, p->word_column, "field '%s' is added twice",
                               form->field[field].name);
    sum->sign[sum->parts] = sign;
    sum->part[sum->parts++] = field;
    if (!tally_more_(p)) break;
    sign = tally_peek_(p) == '-' ? -1 : 1;
    TALLY_TRY_(tally_read_text_(p, sign < 0 ? "-" : "+"));
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

static tally_result tally_parse_statement_(tally_parser_ *p) {
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
  while (p.at < length) {
    if (tally_more_(&p)) TALLY_TRY_(tally_parse_statement_(&p));
    if (tally_peek_(&p) == '\n') tally_next_(&p);
  }
  if (!p.paged) return tally_fault_at_(&p, 0, 0, "there is no page statement");
  if (out->anchors < 3) return tally_fault_at_(&p, 0, 0, "there must be at least three anchors");
  if (out->fields < 1) return tally_fault_at_(&p, 0, 0, "there must be at least one field");
  return TALLY_OK;
}

/* ---- reference prints */

static int tally_whole_box_(const tally_box *box) {
  double right = box->x + box->width, bottom = box->y + box->height;
  return box->x >= 0 && box->y >= 0 && right <= 10000 && bottom <= 10000 &&
         box->x == floor(box->x) && box->y == floor(box->y) && right == floor(right) &&
         bottom == floor(bottom);
}

static tally_result tally_parse_label_(tally_parser_ *p, tally_print *print) {
  tally_label *label = &print->label[print->labels];
  double x, y;
  int i, line = p->word_line, column = p->word_column;
  if (print->labels == TALLY_MAX_FIELDS)
    return tally_fault_at_(p, line, column, "more than %d labels", TALLY_MAX_FIELDS);
  TALLY_TRY_(tally_read_name_(p, "a field's name", label->field));
  for (i = 0; i < print->labels; i++)
    if (strcmp(label->field, print->label[i].field) == 0)
      return tally_fault_at_(p, line, column, "a second label of '%s'", label->field);
  (void)tally_more_(p);
  line = p->word_line;
  column = p->word_column;
  TALLY_TRY_(tally_read_point_(p, &label->box.x, &label->box.y));
  TALLY_TRY_(tally_read_size_(p, &label->box.width, &label->box.height));
  TALLY_TRY_(tally_read_text_(p, "beside"));
  TALLY_TRY_(tally_read_point_(p, &x, &y));
  if (!(x >= 0 && y >= 0 && x <= 10000 && y <= 10000))
    return tally_fault_at_(p, p->word_line, p->word_column, "the cell lies off the page");
  label->x = (int)x;
  label->y = (int)y;
  if (!tally_whole_box_(&label->box))
    return tally_fault_at_(p, line, column, "a label has whole numbers, within 0..10000");
  if (label->box.x < print->place.x || label->box.y < print->place.y ||
      label->box.x + label->box.width > print->place.x + print->place.width ||
      label->box.y + label->box.height > print->place.y + print->place.height)
    return tally_fault_at_(p, line, column, "the label lies outside the picture");
  print->labels++;
  return TALLY_OK;
}

static tally_result tally_parse_print_(tally_parser_ *p, tally_print *print) {
  char word[TALLY_MAX_NAME];
  int line, column;
  TALLY_TRY_(tally_read_name_(p, "a statement", word));
  line = p->word_line;
  column = p->word_column;
  if (strcmp(word, "form") == 0) {
    TALLY_TRY_(tally_read_name_(p, "the form's name", print->name));
  } else if (strcmp(word, "print") == 0) {
    TALLY_TRY_(tally_read_point_(p, &print->place.x, &print->place.y));
    TALLY_TRY_(tally_read_size_(p, &print->place.width, &print->place.height));
    if (p->paged) return tally_fault_at_(p, line, column, "a second print statement");
    if (!tally_whole_box_(&print->place))
      return tally_fault_at_(p, line, column, "a picture has whole numbers, within 0..10000");
    p->paged = 1;
  } else if (strcmp(word, "label") == 0) {
    if (!p->paged) return tally_fault_at_(p, line, column, "the print statement must come first");
    TALLY_TRY_(tally_parse_label_(p, print));
  } else {
    return tally_fault_at_(p, line, column, "unknown statement '%s'", word);
  }
  if (tally_more_(p))
    return tally_fault_at_(p, p->word_line, p->word_column, "unexpected text after the statement");
  return TALLY_OK;
}

/* Light of a label's print at a place counted from the field's first cell; -1 outside the label. */
static int tally_label_light_(const tally_print *print, const tally_label *label, int x, int y) {
  x += label->x;
  y += label->y;
  if (!(x >= label->box.x && y >= label->box.y && x < label->box.x + label->box.width &&
        y < label->box.y + label->box.height))
    return -1;
  return tally_row_(&print->picture, y - (int)print->place.y)[x - (int)print->place.x];
}

#define TALLY_INK_LIGHT_ 180 /* print is darker in a reference print, of 255 */

static int tally_ink_near_(const tally_print *print, const tally_label *label, int x, int y) {
  int i, k;
  for (i = -2; i <= 2; i++)
    for (k = -2; k <= 2; k++) {
      int light = tally_label_light_(print, label, x + k, y + i);
      if (light >= 0 && light < TALLY_INK_LIGHT_) return 1;
    }
  return 0;
}

/* Fills in the dots of a label; 0 without memory. */
static int tally_list_dots_(const tally_print *print, tally_label *label) {
  int left = (int)label->box.x - label->x, top = (int)label->box.y - label->y, x, y;
  label->dot = (tally_dot *)tally_alloc_((size_t)label->box.width * (size_t)label->box.height,
                                         sizeof *label->dot);
  if (!label->dot) return 0;
  for (y = top; y < top + (int)label->box.height; y++)
    for (x = left; x < left + (int)label->box.width; x++) {
      tally_dot *dot = &label->dot[label->dots];
      if (!tally_ink_near_(print, label, x, y)) continue;
      dot->x = (int16_t)x;
      dot->y = (int16_t)y;
      dot->light = (uint8_t)tally_label_light_(print, label, x, y);
      if (label->dots++ == 0) {
        label->left = label->right = x;
        label->top = y;
      }
      label->left = tally_min_(label->left, x);
      label->right = tally_max_(label->right, x);
      label->bottom = y;
    }
  return 1;
}

TALLY_API tally_result tally_print_make(const char *text, size_t length, const tally_image *picture,
                                        tally_print *out, tally_error *error) {
  tally_parser_ p;
  int i;
  if (error) memset(error, 0, sizeof *error);
  if (!text || !out || !tally_grey_ok_(picture)) return TALLY_ERROR_ARGUMENT;
  memset(out, 0, sizeof *out);
  memset(&p, 0, sizeof p);
  p.text = text;
  p.length = length;
  p.line = p.column = 1;
  p.error = error;
  while (p.at < length) {
    if (tally_more_(&p)) TALLY_TRY_(tally_parse_print_(&p, out));
    if (tally_peek_(&p) == '\n') tally_next_(&p);
  }
  if (!p.paged) return tally_fault_at_(&p, 0, 0, "there is no print statement");
  if (picture->width != out->place.width || picture->height != out->place.height)
    return tally_fault_at_(&p, 0, 0, "the picture measures %d x %d, the text says %.0f x %.0f",
                           picture->width, picture->height, out->place.width, out->place.height);
  TALLY_TRY_(tally_image_make(picture->width, picture->height, 1, &out->picture));
  memcpy(out->picture.pixels, picture->pixels, tally_count_(picture));
  for (i = 0; i < out->labels; i++)
    if (!tally_list_dots_(out, &out->label[i])) {
      tally_print_free(out);
      return TALLY_ERROR_MEMORY;
    }
  return TALLY_OK;
}

TALLY_API void tally_print_free(tally_print *print) {
  int i;
  if (!print) return;
  for (i = 0; i < print->labels; i++) TALLY_FREE(print->label[i].dot);
  tally_image_free(&print->picture);
  memset(print, 0, sizeof *print);
}

/* ---- 3. registration ----------------------------------------------------------------------------

   anchors -> candidate blobs -> hypotheses (similarities that bring two anchors or more onto blobs)
   -> homography -> search along the printed rules -> robust refinement -> comparison with every other
   position that fits as well -> per-field correction -> comparison of the rows' labels with a
   reference print. The rules decide: a hypothesis without them is never accepted where there are
   any. */

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
  double coverage; /* share of the printed rules found there; 0 where they were not looked for */
} tally_hypothesis_;

/* A short stretch of a printed rule, the unit of observation. */
typedef struct {
  double x0, y0, x1, y1; /* template pixels, ends */
  int down, field;       /* field: index, or -1 for a rule of the table */
  int inside;            /* whether its place lies in the picture */
  int found;
  double offset; /* of the rule from its place, template pixels, along y or (down) x */
  double weight;
  double contrast; /* of the rule with what lies beside it, 0..1 */
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

/* The similarity that takes two points to two others. */
static int tally_fit_two_(const tally_point from[2], const tally_point to[2], double h[9]) {
  double dx = from[1].x - from[0].x, dy = from[1].y - from[0].y, square = dx * dx + dy * dy;
  double ex = to[1].x - to[0].x, ey = to[1].y - to[0].y;
  double a = (ex * dx + ey * dy) / square, b = (ey * dx - ex * dy) / square;
  double map[9] = {0, 0, 0, 0, 0, 0, 0, 0, 1};
  map[0] = map[4] = a;
  map[1] = -b;
  map[3] = b;
  map[2] = to[0].x - a * from[0].x + b * from[0].y;
  map[5] = to[0].y - b * from[0].x - a * from[0].y;
  memcpy(h, map, sizeof map);
  return square > 0;
}

/* Least-squares map from template points to picture points: a similarity for 2 points, affine for 3,
   a homography for 4 or more. Template coordinates are centred and scaled by the page first, for good condition. */
static int tally_fit_points_(const tally_template *form, const tally_point *from,
                             const tally_point *to, int n, double h[9]) {
  double normal[64] = {0}, right[8] = {0}, scale[9] = {0}, mean_x = 0, mean_y = 0;
  double half = (form->width + form->height) / 4;
  int unknowns = n > 3 ? 8 : 6, i;
  if (n == 2) return tally_fit_two_(from, to, h);
  if (n < 2) return 0;
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
   it puts them. alone: they need not, and are left out. */
static void tally_try_pair_(const tally_scene_ *scene, const tally_template *form, int i, int j,
                            double full_scale, int alone, tally_hypothesis_ *list, int *n) {
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
      fresh.coverage = 0;
      fresh.score = 0;
      for (k = 0; k < form->anchors; k++) {
        tally_point c = tally_centre_(&form->anchor[k].box), at;
        double distance = 0;
        at.x = from->x + fx * (c.x - a.x) - fy * (c.y - a.y);
        at.y = from->y + fy * (c.x - a.x) + fx * (c.y - a.y);
        fresh.match[k] = k == i   ? p
                         : k == j ? q
                         : alone  ? -1
                                 : tally_nearest_blob_(scene, &form->anchor[k], k, at, reach, scale,
                                                       turn, &distance);
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
      if (fresh.matched >= 3 || alone) tally_keep_hypothesis_(list, n, &fresh, form->anchors);
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

/* Fills list with at most TALLY_HYPOTHESES_ positions, the best score first: of three anchors and more,
   or (alone) of two each. */
static int tally_hypothesise_(const tally_scene_ *scene, const tally_template *form,
                              double full_scale, int alone, tally_hypothesis_ *list) {
  int i, j, n = 0;
  double longest = 0;
  for (i = 0; i < form->anchors; i++)
    for (j = 0; j < i; j++)
      if (tally_anchor_distance_(form, i, j) > longest)
        longest = tally_anchor_distance_(form, i, j);
  for (i = 0; i < form->anchors; i++)
    for (j = i + 1; j < form->anchors; j++)
      if (tally_anchor_distance_(form, i, j) > 0.5 * longest)
        tally_try_pair_(scene, form, i, j, full_scale, alone, list, &n);
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
  tally_piece_ *sorted; /* [count]: across, then down, by their places; to find what lies where */
  double contrast;      /* mean contrast of those seen */
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

static double tally_piece_at_(const tally_piece_ *piece) {
  return piece->down ? piece->x0 : piece->y0;
}

static int tally_compare_pieces_(const void *a, const void *b) {
  const tally_piece_ *p = (const tally_piece_ *)a, *q = (const tally_piece_ *)b;
  double x = tally_piece_at_(p), y = tally_piece_at_(q);
  return p->down != q->down ? p->down - q->down : (x > y) - (x < y);
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
  if (!ok || pieces->count == 0) return ok;
  pieces->sorted = (tally_piece_ *)tally_alloc_((size_t)pieces->count, sizeof *pieces->sorted);
  if (!pieces->sorted) return 0;
  memcpy(pieces->sorted, pieces->list, (size_t)pieces->count * sizeof *pieces->sorted);
  qsort(pieces->sorted, (size_t)pieces->count, sizeof *pieces->sorted, tally_compare_pieces_);
  return 1;
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

/* Looks for a piece within reach of its predicted place; nearer is preferred. */
static void tally_observe_piece_(const tally_image *picture, const double h[9], tally_piece_ *piece,
                                 double reach) {
  double profile[TALLY_PROFILE_], step = 0.5, best = 0;
  int middle = (int)((reach + 6) / step), n = (int)(reach / step), at = 0, i;
  tally_profile_(picture, h, piece, middle, step, profile);
  piece->inside = profile[0] >= 0;
  piece->found = 0;
  if (!piece->inside) return;
  for (i = -n; i <= n; i++) {
    double ridge = tally_ridge_(profile, middle + i, step);
    double preference = 1 - 0.5 * i * i / ((double)n * n);
    if (ridge > TALLY_CONTRAST_ && ridge * preference > best) {
      best = ridge * preference;
      at = i;
    }
  }
  if (best <= 0) return;
  piece->found = 1;
  piece->offset = (tally_line_centre_(profile, middle + at, step) - middle) * step;
  piece->contrast = best;
  piece->weight = best < 0.2 ? best / 0.2 : 1;
}

static void tally_observe_(const tally_image *picture, const double h[9], tally_pieces_ *pieces,
                           double reach) {
  int k;
  for (k = 0; k < pieces->count; k++) tally_observe_piece_(picture, h, &pieces->list[k], reach);
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

/* Whether there are rules across, which say where the page lies along y, and down, which say where
   along x. */
static void tally_find_known_(const tally_pieces_ *pieces, int known[2]) {
  int count[2] = {0, 0}, k;
  for (k = 0; k < pieces->count; k++) count[pieces->list[k].down]++;
  for (k = 0; k < 2; k++) known[k] = count[k] > 2;
}

/* One step of the fit: the small homography, template to template, that takes the pieces to where
   they were observed. Tukey's weights of width `width` keep wrong lines out; a weak prior keeps
   what the rules say nothing about where the anchors put it. Rules of one direction say nothing of
   perspective, which would move the other. */
static int tally_fit_pieces_(const tally_template *form, const tally_pieces_ *pieces, double width,
                             double correction[9]) {
  double half = (form->width + form->height) / 4, solution[8] = {0};
  int known[2], round, k, i;
  tally_find_known_(pieces, known);
  for (round = 0; round < 5; round++) {
    double normal[64] = {0}, right[8] = {0};
    static const double prior[8] = {30, 15, 15, 30, 15, 15, 8, 8}; /* template pixels at the edge */
    for (i = 0; i < 8; i++) {
      double row[8] = {0}, most = i >= 6 && known[0] + known[1] < 2 ? 0.1 : prior[i];
      row[i] = 1;
      tally_equation_(normal, right, 8, row, 0, 1 / (most * most));
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

static int tally_seen_(const tally_piece_ *piece) {
  return piece->found && fabs(piece->offset) <= TALLY_CLOSE_;
}

/* Share of pieces found where predicted, and the root mean square of their offsets. */
static double tally_coverage_(tally_pieces_ *pieces, int *found, double *rms) {
  double sum = 0, contrast = 0;
  int k, n = 0;
  for (k = 0; k < pieces->count; k++) {
    const tally_piece_ *piece = &pieces->list[k];
    if (!tally_seen_(piece)) continue;
    n++;
    sum += piece->offset * piece->offset;
    contrast += piece->contrast;
  }
  pieces->contrast = n ? contrast / n : 0;
  *found = n;
  *rms = n ? sqrt(sum / n) : -1;
  return pieces->count ? (double)n / pieces->count : 0;
}

/* Moves h onto the printed rules near it, in ever narrower searches. Returns the coverage reached.
   */
static double tally_tighten_(const tally_image *picture, const tally_template *form,
                             tally_pieces_ *pieces, double h[9]) {
  static const double reach[3] = {10, 5, 4};
  double correction[9], rms;
  int i, found;
  for (i = 0; i < 3; i++) {
    tally_observe_(picture, h, pieces, reach[i]);
    if (i == 2) break;
    if (tally_fit_pieces_(form, pieces, reach[i] * 0.7, correction))
      tally_homography_multiply(h, correction, h);
  }
  return tally_coverage_(pieces, &found, &rms);
}

/* The map that puts the page where h puts it when it is shifted first. */
static void tally_shifted_(const double h[9], double x, double y, double out[9]) {
  double shift[9] = {1, 0, 0, 0, 1, 0, 0, 0, 1};
  shift[2] = x;
  shift[5] = y;
  tally_homography_multiply(h, shift, out);
}

/* The same after a search for the shift of all rules. */
static double tally_refine_(const tally_image *picture, const tally_template *form,
                            tally_pieces_ *pieces, double h[9]) {
  double shift[2], strength[2];
  tally_common_shift_(picture, h, pieces, shift, strength);
  tally_shifted_(h, shift[1], shift[0], h);
  return tally_tighten_(picture, form, pieces, h);
}

/* ---- positions told apart

   A table of equal rows fits nearly everywhere when it is moved by a row, and some tables fit upside
   down. What tells two positions apart are the rules that only one of them has: in the right position
   they are seen, and those that only the other has are not. */

#define TALLY_APART_ 5 /* nearer than that, one line on paper is taken for two rules' */
#define TALLY_ALIKE_                                                                               \
  0.7 /* positions that share less of their rules cannot be taken for each other */
#define TALLY_SHIFTS_ 64 /* shifts of the table onto itself that are tried */

/* Whether the template has a rule at a point, given along the rule and across it. */
static int tally_rule_near_(const tally_pieces_ *pieces, int down, double at, double along) {
  int low = 0, high = pieces->count;
  while (low < high) {
    int middle = (low + high) / 2;
    const tally_piece_ *piece = &pieces->sorted[middle];
    if (piece->down < down || (piece->down == down && tally_piece_at_(piece) < at - TALLY_APART_))
      low = middle + 1;
    else
      high = middle;
  }
  for (; low < pieces->count; low++) {
    const tally_piece_ *piece = &pieces->sorted[low];
    if (piece->down != down || tally_piece_at_(piece) > at + TALLY_APART_) return 0;
    if (along > (down ? piece->y0 : piece->x0) - TALLY_APART_ &&
        along < (down ? piece->y1 : piece->x1) + TALLY_APART_)
      return 1;
  }
  return 0;
}

/* Whether most of a piece lies on rules of the template once it is mapped. */
static int tally_falls_on_rules_(const tally_pieces_ *pieces, const tally_piece_ *piece,
                                 const double map[9]) {
  tally_point from = tally_homography_map(map, piece->x0, piece->y0),
              to = tally_homography_map(map, piece->x1, piece->y1);
  int down = fabs(to.y - from.y) > fabs(to.x - from.x), covered = 0, i;
  for (i = 1; i <= 5; i += 2) {
    double x = from.x + i * (to.x - from.x) / 6, y = from.y + i * (to.y - from.y) / 6;
    covered += tally_rule_near_(pieces, down, down ? x : y, down ? y : x);
  }
  return covered >= 2;
}

/* The share that is seen of the rules that position a has and b has not; *only is how many these
   are. What lies outside the picture says nothing, and what is much fainter than the form's rules is
   none of them. */
static double tally_only_seen_(const tally_image *picture, const tally_pieces_ *pieces,
                               const double a[9], const double b[9], int *only) {
  double map[9];
  int k, seen = 0;
  *only = 0;
  if (tally_homography_invert(b, map) != TALLY_OK) return 0;
  tally_homography_multiply(map, a, map);
  for (k = 0; k < pieces->count; k++) {
    tally_piece_ piece = pieces->list[k];
    if (tally_falls_on_rules_(pieces, &piece, map)) continue;
    tally_observe_piece_(picture, a, &piece, 4);
    if (!piece.inside) continue;
    ++*only;
    seen += tally_seen_(&piece) && piece.contrast > pieces->contrast / 4;
  }
  return *only ? (double)seen / *only : 0;
}

/* What speaks for position a against b, -1..1: the share seen of the rules that only a has, less
   that of those that only b has. *doubt is the standard error of that, were half of them seen. */
static double tally_advantage_(const tally_image *picture, const tally_pieces_ *pieces,
                               const double a[9], const double b[9], double *doubt) {
  int only_a, only_b;
  double seen_a = tally_only_seen_(picture, pieces, a, b, &only_a);
  double seen_b = tally_only_seen_(picture, pieces, b, a, &only_b);
  *doubt = 1 / sqrt(fmax(only_a + only_b, 1));
  return only_a + only_b == 0 ? 0 : (only_a ? seen_a : 1) - seen_b;
}

/* Mean distance between where two maps put the rules, template pixels. */
static double tally_distance_(const tally_pieces_ *pieces, const double a[9], const double b[9]) {
  double map[9], sum = 0;
  int k;
  if (tally_homography_invert(b, map) != TALLY_OK) return DBL_MAX;
  tally_homography_multiply(map, a, map);
  for (k = 0; k < pieces->count; k++) {
    double x = (pieces->list[k].x0 + pieces->list[k].x1) / 2,
           y = (pieces->list[k].y0 + pieces->list[k].y1) / 2;
    tally_point p = tally_homography_map(map, x, y);
    sum += fmin(fabs(p.x - x) + fabs(p.y - y), 1e6);
  }
  return sum / pieces->count;
}

static int tally_is_alike_(const tally_pieces_ *pieces, double x, double y) {
  static const double still[9] = {1, 0, 0, 0, 1, 0, 0, 0, 1};
  double map[9];
  double misses = (1 - TALLY_ALIKE_) * pieces->count;
  int k;
  tally_shifted_(still, x, y, map);
  for (k = 0; k < pieces->count && misses >= 0; k++)
    misses -= !tally_falls_on_rules_(pieces, &pieces->list[k], map);
  return misses >= 0;
}

/* The shifts that bring most rules onto rules: rows or columns of one size. A row has up to four
   rules, so one of them goes to one of the next four. */
static int tally_list_shifts_(const tally_pieces_ *pieces, tally_point shift[TALLY_SHIFTS_]) {
  int n = 0, i, k, j;
  for (i = 0; i < pieces->count; i++) {
    const tally_piece_ *piece = &pieces->sorted[i];
    double at = tally_piece_at_(piece), last = at;
    if (i > 0 && piece[-1].down == piece->down && tally_piece_at_(&piece[-1]) > at - 1) continue;
    for (k = i + 1, j = 0; k < pieces->count && j < 4; k++) {
      double next = tally_piece_at_(&pieces->sorted[k]), size = next - at;
      tally_point s = {piece->down ? size : 0, piece->down ? 0 : size};
      int known = 0, m;
      if (pieces->sorted[k].down != piece->down) break;
      if (next < last + 1) continue;
      last = next;
      j++;
      for (m = 0; m < n; m++) known |= fabs(shift[m].x - s.x) < 1 && fabs(shift[m].y - s.y) < 1;
      if (known || size <= TALLY_APART_ || n == TALLY_SHIFTS_) continue;
      if (tally_is_alike_(pieces, s.x, s.y)) shift[n++] = s;
    }
  }
  return n;
}

/* Moves h by rows and columns for as long as another position is better told by the rules that it
   alone has. Returns the certain advantage over the position that comes next: 1 where there is
   none. */
static double tally_settle_(const tally_image *picture, const tally_template *form,
                            tally_pieces_ *pieces, double h[9]) {
  tally_point shift[TALLY_SHIFTS_];
  int n = tally_list_shifts_(pieces, shift), moves = 0, better = 1, i;
  double certain = 1;
  while (better && moves++ < 8) {
    double there[9], next[9], least = 0;
    better = 0;
    certain = 1;
    for (i = 0; i < 2 * n; i++) {
      double sign = i & 1 ? -1 : 1, advantage, doubt;
      tally_shifted_(h, sign * shift[i / 2].x, sign * shift[i / 2].y, there);
      advantage = tally_advantage_(picture, pieces, h, there, &doubt);
      certain = fmin(certain, advantage - doubt);
      if (advantage >= least) continue;
      least = advantage;
      better = 1;
      memcpy(next, there, sizeof next);
    }
    if (!better) break;
    memcpy(h, next, sizeof next);
    tally_tighten_(picture, form, pieces, h);
  }
  return certain;
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

/* ---- printed labels */

#define TALLY_BROAD_PRINT_ 6  /* what is wider than twice this is a bar or a shade, no letter */
#define TALLY_LABEL_STRAY_ 6  /* a label lies at most this far from its place, template pixels */
#define TALLY_LABEL_FITS_ 0.5 /* correlation of print that is the same */
#define TALLY_LABEL_LEAST_ 40 /* pixels in which two labels that can be told apart differ */
/* Where two labels differ, the row shows one (1), the other (-1), or something between: */
#define TALLY_LABEL_SURE_ 0.4 /* at least so much of a field's own */
#define TALLY_LABEL_LEAD_ 1.2 /* by so much less its own than the other, to be that */

static void tally_dilate_square_(uint8_t *values, int width, int height, int reach, uint8_t *line);

/* The level of the paper round each pixel: the light with all that is narrow closed up. */
static tally_result tally_close_print_(const tally_image *light, tally_image *paper) {
  int longer = tally_max_(light->width, light->height), shorter, reach = TALLY_BROAD_PRINT_, k;
  size_t count = tally_count_(light), i;
  uint8_t *line;
  shorter = tally_min_(light->width, light->height);
  TALLY_TRY_(tally_image_make(light->width, light->height, 1, paper));
  line = (uint8_t *)tally_alloc_((size_t)longer + 2 * (size_t)reach,
                                 (size_t)shorter + 2 * (size_t)reach);
  if (!line) {
    tally_image_free(paper);
    return TALLY_ERROR_MEMORY;
  }
  memcpy(paper->pixels, light->pixels, count);
  for (k = 0; k < 2; k++) {
    tally_dilate_square_(paper->pixels, light->width, light->height, reach, line);
    for (i = 0; i < count; i++) paper->pixels[i] = (uint8_t)(255 - paper->pixels[i]);
  }
  TALLY_FREE(line);
  return TALLY_OK;
}

/* Light of a part of the page, read in the green channel as rules are. */
static tally_result tally_sample_print_(const tally_image *picture, const double h[9],
                                        const tally_box *box, tally_image *out) {
  int channel = picture->channels == 3, x, y;
  TALLY_TRY_(tally_image_make((int)box->width, (int)box->height, 1, out));
  for (y = 0; y < out->height; y++)
    for (x = 0; x < out->width; x++) {
      tally_point p = tally_homography_map(h, box->x + x + 0.5, box->y + y + 0.5);
      int inside = p.x >= 0 && p.y >= 0 && p.x < picture->width && p.y < picture->height;
      tally_row_(out, y)[x] =
          inside
              ? (uint8_t)(tally_sample_(picture, channel, (int)(p.x * 256), (int)(p.y * 256)) >> 16)
              : 255;
    }
  return TALLY_OK;
}

/* Means of 3 x 3 pixels, so that pictures of any resolution come out about as sharp; the edge keeps
   what it has. */
static tally_result tally_soften_(tally_image *image) {
  tally_image from;
  int x, y, k;
  TALLY_TRY_(tally_image_make(image->width, image->height, 1, &from));
  memcpy(from.pixels, image->pixels, tally_count_(image));
  for (y = 1; y + 1 < image->height; y++)
    for (x = 1; x + 1 < image->width; x++) {
      int sum = 0;
      for (k = -1; k <= 1; k++) {
        const uint8_t *p = tally_row_(&from, y + k) + x;
        sum += p[-1] + p[0] + p[1];
      }
      tally_row_(image, y)[x] = (uint8_t)(sum / 9);
    }
  tally_image_free(&from);
  return TALLY_OK;
}

static tally_result tally_print_of_(const tally_image *picture, const double h[9],
                                    const tally_box *box, tally_image *out) {
  tally_image paper;
  tally_result result;
  size_t i;
  int brightest = 0;
  TALLY_TRY_(tally_sample_print_(picture, h, box, out));
  result = tally_soften_(out);
  if (result == TALLY_OK) result = tally_close_print_(out, &paper);
  if (result != TALLY_OK) {
    tally_image_free(out);
    return result;
  }
  for (i = 0; i < tally_count_(out); i++) brightest = tally_max_(brightest, paper.pixels[i]);
  for (i = 0; i < tally_count_(out); i++) {
    int level = paper.pixels[i], is_bar = 3 * level < brightest || level == 0;
    out->pixels[i] = (uint8_t)(is_bar ? 255 : tally_min_(255, 255 * out->pixels[i] / level));
  }
  tally_image_free(&paper);
  return TALLY_OK;
}

TALLY_API tally_result tally_print_view(const tally_image *picture,
                                        const tally_registration *registration,
                                        const tally_box *box, tally_image *out) {
  if (!tally_image_ok_(picture) || !registration || !box || !out || !(box->width >= 1) ||
      !(box->height >= 1) || !(box->width <= 10000) || !(box->height <= 10000))
    return TALLY_ERROR_ARGUMENT;
  return tally_print_of_(picture, registration->page, box, out);
}

/* What a field's row shows: a view whose first pixel lies (left, top) from the field's first cell. */
typedef struct {
  tally_image view;
  int left, top;
} tally_row_view_;

/* Sums for the correlation of two pictures. */
typedef struct {
  int64_t n, a, b, aa, bb, ab;
} tally_sums_;

static void tally_add_pair_(tally_sums_ *sums, int a, int b) {
  sums->n++;
  sums->a += a;
  sums->b += b;
  sums->aa += a * a;
  sums->bb += b * b;
  sums->ab += a * b;
}

static double tally_correlation_(const tally_sums_ *sums) {
  double n = (double)sums->n, a = (double)sums->a, b = (double)sums->b;
  double aa = n * (double)sums->aa - a * a, bb = n * (double)sums->bb - b * b;
  return aa > 0 && bb > 0 ? (n * (double)sums->ab - a * b) / sqrt(aa * bb) : 0;
}

static int tally_row_light_(const tally_row_view_ *row, int x, int y) {
  return tally_row_(&row->view, y - row->top)[x - row->left];
}

/* Sums over every `step`th dot of a label, shifted by (x, y), and the row. */
static tally_sums_ tally_label_sums_(const tally_row_view_ *row, const tally_label *label, int x,
                                     int y, int step) {
  tally_sums_ sums = {0, 0, 0, 0, 0, 0};
  int i;
  for (i = 0; i < label->dots; i += step) {
    const tally_dot *dot = &label->dot[i];
    tally_add_pair_(&sums, tally_row_light_(row, dot->x + x, dot->y + y), dot->light);
  }
  return sums;
}

/* Where a label fits a row best, how well, and what its light is in the row: level + gain light. */
typedef struct {
  double fit, level, gain;
  int x, y;
} tally_match_;

static void tally_try_shift_(const tally_row_view_ *row, const tally_label *label, int x, int y,
                             int step, tally_match_ *best) {
  tally_sums_ sums = tally_label_sums_(row, label, x, y, step);
  double fit = tally_correlation_(&sums), n = (double)sums.n, a = (double)sums.a,
         b = (double)sums.b;
  if (fit <= best->fit) return;
  best->fit = fit;
  best->gain = (n * (double)sums.ab - a * b) / (n * (double)sums.bb - b * b);
  best->level = (a - best->gain * b) / n;
  best->x = x;
  best->y = y;
}

static tally_match_ tally_match_label_(const tally_row_view_ *row, const tally_label *label) {
  tally_match_ coarse = {0, 0, 1, 0, 0}, best = coarse;
  int x, y;
  if (label->dots < TALLY_LABEL_LEAST_) return best;
  for (y = -TALLY_LABEL_STRAY_; y <= TALLY_LABEL_STRAY_; y += 2)
    for (x = -TALLY_LABEL_STRAY_; x <= TALLY_LABEL_STRAY_; x += 2)
      tally_try_shift_(row, label, x, y, 3, &coarse);
  for (y = coarse.y - 1; y <= coarse.y + 1; y++)
    for (x = coarse.x - 1; x <= coarse.x + 1; x++) tally_try_shift_(row, label, x, y, 1, &best);
  return best;
}

/* What the row shows where two labels differ, its contrast made that of the reference print: 1 if
   just the label, -1 if just the other, 0 in the middle. *different is in how many pixels they do. */
static double tally_label_against_(const tally_print *print, const tally_row_view_ *row,
                                   const tally_label *label, const tally_match_ *match,
                                   const tally_label *other, int *different) {
  double sum = 0, most = 0;
  const tally_label *from[2];
  int k, i;
  from[0] = label;
  from[1] = other;
  *different = 0;
  for (k = 0; k < 2; k++)
    for (i = 0; i < from[k]->dots; i++) {
      const tally_dot *dot = &from[k]->dot[i];
      int there = tally_label_light_(print, from[1 - k], dot->x, dot->y);
      int gap = (k ? -1 : 1) * (dot->light - there);
      double shown;
      if (there < 0 || abs(gap) < 60) continue;
      shown = tally_row_light_(row, dot->x + match->x, dot->y + match->y);
      shown = (shown - match->level) / match->gain;
      sum += (shown - (dot->light + there) / 2.0) * gap;
      most += gap * gap / 2.0;
      ++*different;
    }
  return most > 0 ? fmax(-1, fmin(1, sum / most)) : 0;
}

/* The view of a field's row that all labels fit into, wherever they are tried. */
static tally_result tally_row_view_of_(const tally_image *picture, const double h[9],
                                       const tally_print *print, const tally_box *cell,
                                       tally_row_view_ *out) {
  int right = 0, bottom = 0, room = TALLY_LABEL_STRAY_ + 1, i;
  tally_box box;
  out->left = out->top = 0;
  for (i = 0; i < print->labels; i++) {
    const tally_label *label = &print->label[i];
    out->left = tally_min_(out->left, label->left);
    out->top = tally_min_(out->top, label->top);
    right = tally_max_(right, label->right);
    bottom = tally_max_(bottom, label->bottom);
  }
  out->left -= room;
  out->top -= room;
  box.x = cell->x + out->left;
  box.y = cell->y + out->top;
  box.width = right + room - out->left + 1;
  box.height = bottom + room - out->top + 1;
  return tally_print_of_(picture, h, &box, &out->view);
}

/* Index of the label that a row bears: `own` if it fits and is told from all others by what they
   differ in, the other that is clearly shown instead, or -1 if none is. */
static int tally_label_of_(const tally_print *print, const tally_row_view_ *row, int own,
                           const tally_match_ *match) {
  int fits = match->fit >= TALLY_LABEL_FITS_, bears = fits ? own : -1, j, different;
  double most = fits ? TALLY_LABEL_LEAD_ : TALLY_LABEL_LEAD_ / 2;
  for (j = 0; j < print->labels; j++) {
    const tally_label *label = &print->label[own], *other = &print->label[j];
    tally_match_ its;
    double shown = 0, lead;
    if (j == own || other->dots == 0) continue;
    if (fits) shown = tally_label_against_(print, row, label, match, other, &different);
    if (fits && shown >= TALLY_LABEL_SURE_ && different >= TALLY_LABEL_LEAST_) continue;
    its = tally_match_label_(row, other);
    if (bears == own && its.fit > match->fit - 0.3) bears = -1; /* else it is handwriting */
    if (its.fit < TALLY_LABEL_FITS_) continue;
    lead = tally_label_against_(print, row, other, &its, label, &different) - shown;
    if (different < TALLY_LABEL_LEAST_ || lead <= most) continue;
    most = lead;
    bears = j;
  }
  return bears;
}

/* How well the labels of a template's fields fit at a position: the mean, 0 without any. match
   receives where each fits best; those of other forms' fields are left alone. */
static tally_result tally_print_fit_(const tally_image *picture, const tally_template *form,
                                     const tally_print *print, const double h[9],
                                     tally_match_ match[TALLY_MAX_FIELDS], double *fit) {
  double sum = 0;
  int i, n = 0;
  for (i = 0; i < print->labels; i++) {
    int f = tally_template_field(form, print->label[i].field);
    tally_row_view_ row;
    if (f < 0) continue;
    TALLY_TRY_(tally_row_view_of_(picture, h, print, &form->field[f].cell[0], &row));
    match[i] = tally_match_label_(&row, &print->label[i]);
    tally_image_free(&row.view);
    sum += match[i].fit;
    n++;
  }
  *fit = n ? sum / n : 0;
  return TALLY_OK;
}

/* Moves h by what the labels lie off, along the directions that rules say nothing about: a shift
   that grows down the page, shrunk towards none. */
static tally_result tally_fit_labels_(const tally_image *picture, const tally_template *form,
                                      const tally_print *print, const int known[2], double h[9]) {
  tally_match_ match[TALLY_MAX_FIELDS];
  double normal[2][4], right[2][2], fit, move[9] = {1, 0, 0, 0, 1, 0, 0, 0, 1};
  int i, k;
  memset(match, 0, sizeof match);
  memset(right, 0, sizeof right);
  for (k = 0; k < 2; k++) {
    normal[k][0] = normal[k][3] = 0.1;
    normal[k][1] = normal[k][2] = 0;
  }
  TALLY_TRY_(tally_print_fit_(picture, form, print, h, match, &fit));
  for (i = 0; i < print->labels; i++) {
    const tally_label *label = &print->label[i];
    double row[2] = {1, 0};
    if (match[i].fit < TALLY_LABEL_FITS_) continue;
    row[1] = form->field[tally_template_field(form, label->field)].cell[0].y / form->height - 0.5;
    tally_equation_(normal[0], right[0], 2, row, match[i].y, 1);
    tally_equation_(normal[1], right[1], 2, row, match[i].x, 1);
  }
  for (k = 0; k < 2; k++) {
    double *to = k ? move : move + 3;
    if (known[k] || !tally_solve_(normal[k], right[k], 2)) continue;
    to[1] += right[k][1] / form->height;
    to[2] += right[k][0] - 0.5 * right[k][1];
  }
  tally_homography_multiply(h, move, h);
  return TALLY_OK;
}

/* Compares the labels of a registered form with the reference print's. */
static tally_result tally_check_labels_(const tally_image *picture, const tally_template *form,
                                        const tally_print *print, tally_registration *out) {
  int i;
  for (i = 0; i < print->labels; i++) {
    int f = tally_template_field(form, print->label[i].field), bears;
    tally_row_view_ row;
    tally_match_ match;
    if (f < 0) continue;
    TALLY_TRY_(tally_row_view_of_(picture, out->page, print, &form->field[f].cell[0], &row));
    match = tally_match_label_(&row, &print->label[i]);
    bears = tally_label_of_(print, &row, i, &match);
    tally_image_free(&row.view);
    out->labels_compared += bears == i;
    if (bears < 0 || bears == i) continue;
    out->status = TALLY_FORM_WRONG;
    tally_print_(out->reason, sizeof out->reason,
                 "the row of %s bears the label of %s: the template's fields are in another order, "
                 "or a row off",
                 print->label[i].field, print->label[bears].field);
    return TALLY_OK;
  }
  return TALLY_OK;
}

/* Whether the rows of all fields, two at least, bear the labels that the reference print has for them. */
static tally_result tally_labels_agree_(const tally_image *picture, const tally_template *form,
                                        const tally_print *print, const double h[9], int *agree) {
  tally_registration *trial = (tally_registration *)tally_alloc_zero_(1, sizeof *trial);
  tally_result result;
  if (!trial) return TALLY_ERROR_MEMORY;
  memcpy(trial->page, h, sizeof trial->page);
  result = tally_check_labels_(picture, form, print, trial);
  *agree = trial->labels_compared == form->fields && form->fields > 1;
  TALLY_FREE(trial);
  return result;
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

/* Whether two maps put the page in about the same place. */
static int tally_same_place_(const tally_template *form, const double a[9], const double b[9]) {
  tally_point p = tally_homography_map(a, form->width / 2, 0),
              q = tally_homography_map(b, form->width / 2, 0);
  tally_point r = tally_homography_map(a, form->width / 2, form->height);
  double size = fabs(p.x - r.x) + fabs(p.y - r.y);
  return fabs(p.x - q.x) + fabs(p.y - q.y) < 0.02 * size;
}

/* Tries some hypotheses on the rules: a rough look at all, then a fit of those that look best.
   Returns the best of all so far, -1 for none. */
static int tally_try_batch_(const tally_image *picture, const tally_template *form,
                            const tally_scene_ *scene, tally_pieces_ *pieces, double full_scale,
                            tally_hypothesis_ *list, int from, int to, int best) {
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
    if (strength[i - from] < 0 || strength[i - from] < 0.6 * strongest) continue;
    list[i].coverage = tally_refine_(picture, form, pieces, list[i].h);
    if (best < 0 || list[i].coverage > list[best].coverage) best = i;
  }
  return best;
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

#define TALLY_ENOUGH_ 0.95     /* the share of the rules that a registered form shows at least */
#define TALLY_WITH_LABELS_ 0.8 /* the same where every row bears its label */

/* The hypothesis that fits the rules best, its map fitted to them; -1 for none. */
static int tally_choose_(const tally_image *picture, const tally_template *form,
                         const tally_scene_ *scene, tally_pieces_ *pieces, double full_scale,
                         tally_hypothesis_ *list, int n) {
  int best = -1, from;
  for (from = 0; from < n && (best < 0 || list[best].coverage < TALLY_ENOUGH_);
       from += TALLY_BATCH_)
    best = tally_try_batch_(picture, form, scene, pieces, full_scale, list, from,
                            tally_min_(from + TALLY_BATCH_, n), best);
  return best;
}

/* The least certain advantage of the best hypothesis over any other that shows as much of the rules
   elsewhere; the best is brought to the rows and columns that it belongs to first. */
static double tally_stand_out_(const tally_image *picture, const tally_template *form,
                               tally_pieces_ *pieces, tally_hypothesis_ *list, int n, int best) {
  double least = tally_settle_(picture, form, pieces, list[best].h);
  int i;
  for (i = 0; i < n; i++) {
    double advantage, doubt;
    if (i == best || list[i].coverage < TALLY_ALIKE_ * list[best].coverage ||
        tally_distance_(pieces, list[best].h, list[i].h) < TALLY_APART_)
      continue;
    advantage = tally_advantage_(picture, pieces, list[best].h, list[i].h, &doubt);
    least = fmin(least, advantage - doubt);
  }
  return least;
}

/* Where neither rules nor anchors tell several positions apart, the labels may: *best becomes the one
   where they fit best, and *lead by how much. */
static tally_result tally_choose_by_print_(const tally_image *picture, const tally_template *form,
                                           const tally_print *print, const tally_scene_ *scene,
                                           const tally_pieces_ *pieces, double full_scale,
                                           tally_hypothesis_ *list, int n, int *best,
                                           double *lead) {
  double enough = pieces->count ? TALLY_ALIKE_ * list[*best].coverage : 0, most = 0, next = 0, fit;
  tally_match_ match[TALLY_MAX_FIELDS];
  int tried[TALLY_HYPOTHESES_], tries = 0, i, k;
  for (i = 0; i < n; i++) {
    if (list[i].coverage < enough) continue;
    if (!pieces->count && !tally_fit_hypothesis_(scene, form, &list[i], full_scale)) continue;
    for (k = 0; k < tries; k++)
      if (tally_same_place_(form, list[i].h, list[tried[k]].h)) break;
    if (k < tries) continue;
    tried[tries++] = i;
    TALLY_TRY_(tally_print_fit_(picture, form, print, list[i].h, match, &fit));
    next = fmax(next, fmin(fit, most));
    if (fit <= most) continue;
    most = fit;
    *best = i;
  }
  *lead = most < TALLY_LABEL_FITS_ ? 0 : most - next;
  return TALLY_OK;
}

#define TALLY_LEAD_ 0.15   /* share of the anchors' score by which the best position has to lead */
#define TALLY_CLEARLY_ 0.3 /* the certain advantage over any other position that is enough */

/* Judges a fit by the anchors, of a form that has no printed rules. */
static void tally_judge_anchors_(double error, double lead, tally_registration *out) {
  out->residual = error;
  if (out->anchors_found < 4)
    tally_refuse_(out, TALLY_FORM_POOR, "three anchors and no printed rules to check them by");
  else if (error > 4)
    tally_refuse_(out, TALLY_FORM_WRONG, "the anchors do not lie as on this form");
  else if (lead < TALLY_LEAD_)
    tally_refuse_(
        out, TALLY_FORM_AMBIGUOUS,
        "the anchors look the same from another side: the template needs printed rules, an anchor "
        "off their symmetry, or a reference print");
}

/* Judges it by the printed rules, after a correction for each field. */
static void tally_judge_rules_(const tally_image *picture, const tally_template *form,
                               tally_pieces_ *pieces, double enough, double anchor_error,
                               double advantage, tally_registration *out) {
  double coverage;
  int f;
  tally_observe_(picture, out->page, pieces, 4);
  for (f = 0; f < form->fields; f++) tally_fit_field_(form, pieces, f, out->local[f]);
  tally_apply_local_((const double(*)[6])out->local, pieces);
  coverage = tally_coverage_(pieces, &out->rules_found, &out->residual);
  if (coverage < enough)
    tally_refuse_(out, coverage < 0.45 ? TALLY_FORM_WRONG : TALLY_FORM_POOR,
                  coverage < 0.45 ? "the printed rules are not where this form has them"
                                  : "too few of the printed rules can be seen");
  else if (out->residual > 1.25)
    tally_refuse_(out, TALLY_FORM_POOR, "the printed rules do not lie straight enough");
  else if (advantage < TALLY_CLEARLY_)
    tally_refuse_(
        out, TALLY_FORM_AMBIGUOUS,
        "two different positions fit the printed rules; the template should name all rules, "
        "the table's outermost ones above all");
  else if (anchor_error > 15)
    tally_refuse_(out, TALLY_FORM_WRONG,
                  "the anchors and the printed rules do not belong together");
}

/* Judges the fit in out->page, and adds what only an accepted form has. */
static void tally_judge_(const tally_image *picture, const tally_template *form,
                         const tally_scene_ *scene, const tally_hypothesis_ *hypothesis,
                         tally_pieces_ *pieces, double full_scale, double enough, double lead,
                         tally_registration *out) {
  double error = tally_anchor_error_(scene, form, hypothesis, hypothesis->h), large, small;
  tally_point top = tally_homography_map(out->page, form->width / 2, form->height / 2), right;
  int outside;
  right = tally_homography_map(out->page, form->width / 2 + 1, form->height / 2);
  out->rotation = atan2(right.y - top.y, right.x - top.x) * 180 / TALLY_PI_;
  tally_stretch_(out->page, form->width / 2, form->height / 2, &large, &small);
  out->scale = sqrt(large * small);
  out->anchors_found = hypothesis->matched;
  out->rules_expected = pieces->count;
  if (pieces->count == 0)
    tally_judge_anchors_(error, lead, out);
  else
    tally_judge_rules_(picture, form, pieces, enough, error, lead, out);
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
                                       const tally_print *print, tally_scene_ *scene,
                                       tally_pieces_ *pieces, tally_registration *out) {
  double full_scale = tally_full_scale_(picture, form);
  tally_hypothesis_ list[TALLY_HYPOTHESES_], two[TALLY_HYPOTHESES_];
  double lead; /* of the best position over the next */
  int n, best, agree = 0, known[2], longest = tally_max_(picture->width, picture->height);
  scene->factor = (longest + TALLY_WORK_SIDE_ - 1) / TALLY_WORK_SIDE_;
  if (tally_min_(picture->width, picture->height) / scene->factor < 32) {
    tally_refuse_(out, TALLY_FORM_POOR, "the picture is too small");
    return TALLY_OK;
  }
  TALLY_TRY_(tally_reduce_(picture, scene->factor, &scene->small));
  tally_find_paper_(scene);
  TALLY_TRY_(tally_find_anchors_(scene, form, full_scale));
  if (!tally_list_pieces_(form, pieces)) return TALLY_ERROR_MEMORY;
  tally_find_known_(pieces, known);
  n = tally_hypothesise_(scene, form, full_scale, 0, list);
  best = tally_choose_(picture, form, scene, pieces, full_scale, list, n);
  if (known[0] && known[1] && (best < 0 || list[best].coverage < TALLY_ALIKE_)) {
    int many = tally_hypothesise_(scene, form, full_scale, 1, two);
    int other = tally_choose_(picture, form, scene, pieces, full_scale, two, many);
    if (other >= 0 && two[other].coverage >= TALLY_ALIKE_) {
      memcpy(list, two, sizeof list);
      n = many;
      best = other;
    }
  }
  if (n == 0) {
    out->status = TALLY_FORM_NO_ANCHORS;
    tally_name_missing_(scene, form, out);
    return TALLY_OK;
  }
  if (best < 0) {
    tally_refuse_(out, TALLY_FORM_POOR, "the anchors lie in a way no flat page can");
    return TALLY_OK;
  }
  lead = pieces->count ? tally_stand_out_(picture, form, pieces, list, n, best)
                       : 1 - tally_second_by_anchors_(form, scene, full_scale, list, n, best);
  if (print && lead < (pieces->count ? TALLY_CLEARLY_ : TALLY_LEAD_))
    TALLY_TRY_(tally_choose_by_print_(picture, form, print, scene, pieces, full_scale, list, n,
                                      &best, &lead));
  memcpy(out->page, list[best].h, sizeof out->page);
  if (print && known[0] + known[1] < 2)
    TALLY_TRY_(tally_fit_labels_(picture, form, print, known, out->page));
  if (print && list[best].coverage < TALLY_ENOUGH_ + 0.02 && list[best].coverage > TALLY_ALIKE_)
    TALLY_TRY_(tally_labels_agree_(picture, form, print, out->page, &agree));
  tally_judge_(picture, form, scene, &list[best], pieces, full_scale,
               agree ? TALLY_WITH_LABELS_ : TALLY_ENOUGH_, lead, out);
  return TALLY_OK;
}

TALLY_API tally_result tally_register(const tally_image *picture, const tally_template *form,
                                      tally_registration *out) {
  return tally_register_print(picture, form, NULL, out);
}

TALLY_API tally_result tally_register_print(const tally_image *picture, const tally_template *form,
                                            const tally_print *print, tally_registration *out) {
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
  result = tally_register_in_(picture, form, print, scene, &pieces, out);
  if (result == TALLY_OK && print && out->status == TALLY_FORM_OK)
    result = tally_check_labels_(picture, form, print, out);
  for (i = 0; i < TALLY_MAX_ANCHORS; i++) TALLY_FREE(scene->labels[i]);
  tally_image_free(&scene->small);
  TALLY_FREE(scene);
  TALLY_FREE(pieces.list);
  TALLY_FREE(pieces.sorted);
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

   Cells become symbols, symbols a field's weights, fields and sums a graph. Where the graph is a
   tree, messages over it are exact (Pearl 1988; Kschischang, Frey and Loeliger 2001): from the
   leaves to a root, then back. Where sums close loops, the fields that close them are tried value by
   value, which leaves trees (cutset conditioning, Pearl 1988, section 4.4.1). */

/* A weight this far below the largest cannot move a posterior by 1e-10: at worst 10^4 values of 64
   parts are dropped, against a total of at least the slips' share. */
#define TALLY_NEGLIGIBLE_ 1e-18

/* Of a sum that does not add up, what the clerk did, where it is `=`: shares that add up to 1. No
   count of such slips is published; what is counted (2 of 25 papers fail) says that they happen. */
#define TALLY_SLIP_DIGIT_ 0.40     /* one digit of the total is another one */
#define TALLY_SLIP_SWAP_ 0.10      /* two neighbouring digits have changed places */
#define TALLY_SLIP_CARRY_ 0.15     /* a carry too many or too few */
#define TALLY_SLIP_FORGOTTEN_ 0.15 /* one part was not added */
#define TALLY_SLIP_ANY_ 0.20       /* anything */
#define TALLY_NO_TOTAL_ 0.05       /* how often a total is left blank */

#define TALLY_CANDIDATE_ 1e-9 /* outcomes less likely than this are left out first */
#define TALLY_ALTERED_ 0.1    /* probability from which an alteration is reported */
#define TALLY_INFERRED_ 0.9 /* probability from which what only the sums say is given as a value */

/* What a cell may hold, as the template reads it. The weights sum to 1. */
typedef struct {
  double digit[10], mark, empty; /* mark: a cross or dash that stands for a leading zero */
  double any;                    /* written, but not to be read: any digit */
} tally_symbol_;

/* One field by itself. Weights are of each value, then of missing. */
typedef struct {
  int values;
  double *own;   /* L_f */
  double *clear; /* the part of it that rests on cells that can be read */
  double even;   /* weight of rows that are no number: the same for every value, all together */
  tally_symbol_ symbol[TALLY_MAX_DIGITS];
  int altered; /* class of a cell that was struck out or altered, or 0 */
  int fixed;   /* the one outcome that is considered (`values`: missing), or -1 */
  double
      *score;  /* where sums close loops: of each outcome, the most that any one sum makes of it */
  int follows; /* 1: own follows habits, and is no product of symbols any more */
} tally_likelihood_;

/* What a part says in one sum. */
typedef struct {
  int field, sign, values;
  double *add; /* weight of adding v; missing adds 0 */
  double all;  /* of adding anything */
  int *live;   /* the values that are not negligible, ascending */
  int lives;
  int digits; /* > 0: no other sum has a say, so the part is made of these symbols alone */
  const tally_likelihood_ *evidence;
  int leading; /* 1: blanks may lead */
} tally_part_;

/* One sum. S is what its parts make: entry S - least of arrays of `lines`. Layer 1 holds the ways in
   which one part was forgotten. forward[l] are the sums of the first 0, 1, ... parts; `end` is what
   the total says about S, and backward what it and the parts behind say. */
typedef struct {
  const tally_sum *sum;
  int parts, most, least, lines, layers;
  int parent; /* place of the field by which it hangs on the sum before it: a part, always the last,
                 or `parts` for the total; -1: a root */
  tally_part_ part[TALLY_MAX_FIELDS];
  double *total, *forward[2], *end[2], *back[2], *next[2], *spare, *block;
  double all_parts;                      /* weight of everything that the parts may be */
  double floor;                          /* weight of any parts with any total */
  double *message[TALLY_MAX_FIELDS + 1]; /* to each part, then to the total */
  double holds, written; /* posteriors that it adds up, and that its total is written */
} tally_adder_;

typedef struct {
  const tally_template *form;
  double slip;
  tally_likelihood_ field[TALLY_MAX_FIELDS];
  tally_adder_ sum[TALLY_MAX_SUMS];
  int order[TALLY_MAX_SUMS]; /* of sums: parents before children */
  double evidence;           /* logarithm of the weight of all readings */
  double holds[TALLY_MAX_SUMS], written[TALLY_MAX_SUMS]; /* of each sum, over all cases */
} tally_decoder_;

static int tally_power_(int digits) {
  int n = 1;
  while (digits-- > 0) n *= 10;
  return n;
}

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

/* ---- one field by itself */

/* The cell's classes as evidence: cooled or heated by the temperature, then weighed by what the
   cutter saw. */
static tally_result tally_weigh_classes_(const double *p, const tally_cell *cell,
                                         double temperature, double *v) {
  double sum = 0, most = 0, digits = 0, written, whole;
  int k;
  for (k = 0; k < TALLY_CLASSES; k++) {
    if (!(p[k] >= 0) || !(p[k] <= DBL_MAX)) return TALLY_ERROR_ARGUMENT;
    if (p[k] > most) most = p[k];
  }
  if (most <= 0) return TALLY_ERROR_ARGUMENT;
  written = cell ? tally_probability_(cell->written) : 0.5;
  whole = cell ? tally_probability_(cell->whole) : 1;
  for (k = 0; k < TALLY_CLASSES; k++) {
    v[k] = p[k] > 0 ? (temperature == 1 ? p[k] / most : pow(p[k] / most, 1 / temperature)) : 0;
    v[k] *= k == TALLY_CLASS_EMPTY ? 1 - written : written;
    sum += v[k];
  }
  for (k = 0; k < TALLY_CLASSES; k++) v[k] /= sum;
  for (k = 0; k < 10; k++) digits += v[k];
  for (k = 0; k < 10; k++) v[k] = whole * v[k] + (1 - whole) * digits / 10;
  if (cell && cell->dash) {
    for (k = 0; k < TALLY_CLASSES; k++) v[k] *= 1 - TALLY_SEEN_;
    v[TALLY_CLASS_DASH] += TALLY_SEEN_;
  }
  return TALLY_OK;
}

/* What the classes mean in the template. */
static tally_symbol_ tally_symbol_of_(const tally_template *form, const double *v) {
  tally_symbol_ out;
  int k;
  memset(&out, 0, sizeof out);
  for (k = 0; k < 10; k++) out.digit[k] = v[k];
  out.empty = v[TALLY_CLASS_EMPTY];
  *(form->cross == TALLY_MARK_LEADING_ZERO ? &out.mark : &out.any) += v[TALLY_CLASS_CROSS];
  *(form->dash == TALLY_MARK_LEADING_ZERO ? &out.mark : &out.any) += v[TALLY_CLASS_DASH];
  out.any += v[TALLY_CLASS_ILLEGIBLE] + v[TALLY_CLASS_STRUCK] + v[TALLY_CLASS_SEVERAL] +
             v[TALLY_CLASS_OVERWRITTEN];
  return out;
}

/* The weight of each value and of missing: the sum, over all rows of symbols that mean it, of the
   products of their weights. A number is a run of leading marks or blanks and then digits; a row of
   marks and blanks that ends in a mark is 0; all blank is missing. With `any`, a cell that cannot be
   read is any digit. Returns the weight of all these rows together. */
static double tally_own_weights_(const tally_template *form, const tally_symbol_ *symbol,
                                 int digits, int any, double *out) {
  int values = tally_power_(digits), v, i, k;
  double lead[TALLY_MAX_DIGITS + 1], digit[TALLY_MAX_DIGITS][10], missing = 1, sum = 0;
  lead[0] = 1;
  for (i = 0; i < digits; i++) {
    double blank = form->empty == TALLY_MARK_LEADING_ZERO ? symbol[i].empty : 0;
    lead[i + 1] = lead[i] * (symbol[i].mark + blank);
    missing *= symbol[i].empty;
    for (k = 0; k < 10; k++) digit[i][k] = symbol[i].digit[k] + (any ? symbol[i].any / 10 : 0);
  }
  for (v = 0; v < values; v++) {
    int written[TALLY_MAX_DIGITS], rest = v, zeros = 0;
    double tail = 1, total = 0;
    for (i = digits - 1; i >= 0; i--, rest /= 10) written[i] = rest % 10;
    while (zeros < digits - 1 && written[zeros] == 0) zeros++;
    for (k = digits - 1; k >= 0; k--) {
      tail *= digit[k][written[k]];
      if (k <= zeros) total += lead[k] * tail;
    }
    out[v] = total;
    sum += total;
  }
  out[0] += lead[digits - 1] * symbol[digits - 1].mark;
  out[values] = missing;
  return sum + lead[digits - 1] * symbol[digits - 1].mark + missing;
}

/* The evidence of field f. What is no number (a blank behind a digit) may be any. */
static tally_result tally_weigh_field_(const tally_template *form, int f,
                                       const double *probabilities, const tally_cell *cells,
                                       double temperature, tally_likelihood_ *out) {
  const tally_field *field = &form->field[f];
  int n = tally_power_(field->digits), i, k;
  double numbers, worst = TALLY_ALTERED_;
  out->values = n;
  out->fixed = -1;
  out->own = (double *)tally_alloc_(2 * ((size_t)n + 1), sizeof *out->own);
  if (!out->own) return TALLY_ERROR_MEMORY;
  out->clear = out->own + n + 1;
  for (i = 0; i < field->digits; i++) {
    double v[TALLY_CLASSES];
    size_t cell = (size_t)(field->first_cell + i);
    TALLY_TRY_(tally_weigh_classes_(probabilities + cell * TALLY_CLASSES,
                                    cells ? &cells[cell] : NULL, temperature, v));
    out->symbol[i] = tally_symbol_of_(form, v);
    for (k = TALLY_CLASS_STRUCK; k <= TALLY_CLASS_OVERWRITTEN; k++)
      if (v[k] >= worst) {
        worst = v[k];
        out->altered = k;
      }
  }
  (void)tally_own_weights_(form, out->symbol, field->digits, 0, out->clear);
  numbers = tally_own_weights_(form, out->symbol, field->digits, 1, out->own);
  out->even = numbers < 1 ? 1 - numbers : 0;
  for (i = 0; i < n; i++) out->own[i] += out->even / n;
  return TALLY_OK;
}

/* ---- adding and its slips */

/* out += w times in, moved by `shift` entries (up or down) within n. */
static void tally_add_shifted_(const double *in, double w, int shift, int up, int n, double *out) {
  const double *from = up ? in : in + shift;
  double *to = up ? out + shift : out;
  int s;
  for (s = 0; s < n - shift; s++) to[s] += w * from[s];
}

/* out += w times the sum of in moved by each of 0 .. values - 1. */
static void tally_add_even_(const double *in, double w, int values, int up, int n, double *out) {
  double window = 0;
  int s;
  if (w <= 0) return;
  for (s = 0; s < n; s++) {
    int at = up ? s : n - 1 - s, gone = s - values;
    window += in[at];
    if (gone >= 0) window -= in[up ? gone : n - 1 - gone];
    out[at] += w * (window > 0 ? window : 0);
  }
}

/* The same as tally_add_part_ for a part of known symbols, digit by digit: ten additions per
   position where the plain way takes ten to the number of positions. `started` are the sums in
   which a digit has been written, and lead is the weight of nothing but leading marks so far. */
static void tally_add_digits_(const tally_part_ *part, const double *in, int up, int n, double *out,
                              double *started) {
  size_t bytes = (size_t)n * sizeof *out;
  double lead = 1, missing = 1, zero = 0;
  int place = part->values, i, k, s;
  memset(out, 0, bytes);
  for (i = 0; i < part->digits; i++) {
    const tally_symbol_ *symbol = &part->evidence->symbol[i];
    place /= 10;
    for (s = 0; s < n; s++) started[s] = out[s] + lead * in[s];
    memset(out, 0, bytes);
    for (k = 0; k < 10 && k * place < n; k++)
      tally_add_shifted_(started, symbol->digit[k] + symbol->any / 10, k * place, up, n, out);
    zero = lead * symbol->mark;
    lead *= symbol->mark + (part->leading ? symbol->empty : 0);
    missing *= symbol->empty;
  }
  tally_add_shifted_(in, zero + missing, 0, up, n, out);
  tally_add_even_(in, part->evidence->even / part->values, part->values, up, n, out);
}

/* out[s] = sum over v of add[v] in[s - v] (up) or in[s + v] (down), for n entries. spare is scratch
   of the same size. */
static void tally_add_part_(const tally_part_ *part, const double *in, int up, int n, double *out,
                            double *spare) {
  int i;
  if (part->digits > 0) {
    tally_add_digits_(part, in, up, n, out, spare);
    return;
  }
  memset(out, 0, (size_t)n * sizeof *out);
  for (i = 0; i < part->lives && part->live[i] < n; i++)
    tally_add_shifted_(in, part->add[part->live[i]], part->live[i], up, n, out);
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

/* The totals of `digits` digits that a clerk may write for s by a slip, each with its share of all
   slips; never s itself. Returns how many, at most TALLY_SLIPS_. The relation is symmetric. */
#define TALLY_SLIPS_ (9 * TALLY_MAX_SUM_DIGITS + 3 * (TALLY_MAX_SUM_DIGITS - 1))
static int tally_slips_(int s, int digits, int *total, double *share) {
  int n = 0, place = 1, i, k, most = tally_power_(digits);
  for (i = 0; i < digits; i++, place *= 10) {
    int here = s / place % 10, left = s / place / 10 % 10;
    for (k = 0; k < 10; k++)
      if (k != here) {
        total[n] = s + (k - here) * place;
        share[n++] = TALLY_SLIP_DIGIT_ / (9 * digits);
      }
    if (i + 1 == digits) break;
    if (left != here) {
      total[n] = s + (left - here) * place + (here - left) * place * 10;
      share[n++] = TALLY_SLIP_SWAP_ / (digits - 1);
    }
    for (k = -1; k <= 1; k += 2)
      if (s + 10 * k * place >= 0 && s + 10 * k * place < most) {
        total[n] = s + 10 * k * place;
        share[n++] = TALLY_SLIP_CARRY_ / (2 * (digits - 1));
      }
  }
  return n;
}

/* What S makes of weights of S, or of the total: out[t] = sum over s of in[s] K(t | s), where K is
   (1 - slip) at t = s, and the slips of one number. Both run over 0 .. 10^digits - 1. */
static void tally_slip_over_(const double *in, int digits, double slip, double *out) {
  int values = tally_power_(digits), s, k, total[TALLY_SLIPS_];
  double share[TALLY_SLIPS_];
  for (s = 0; s < values; s++) out[s] = (1 - slip) * in[s];
  for (s = 0; s < values; s++) {
    int n;
    if (in[s] <= 0) continue;
    n = tally_slips_(s, digits, total, share);
    for (k = 0; k < n; k++) out[total[k]] += slip * share[k] * in[s];
  }
}

/* ---- one sum */

static int tally_place_field_(const tally_sum *sum, int place) {
  return place < sum->parts ? sum->part[place] : sum->total;
}

/* The message from a field to a sum: its own evidence and what all other sums say. */
static void tally_to_sum_(const tally_decoder_ *d, int field, const tally_adder_ *except,
                          double *out) {
  const tally_likelihood_ *e = &d->field[field];
  int n = e->values + 1, s, i, k;
  if (e->fixed >= 0) {
    memset(out, 0, (size_t)n * sizeof *out);
    out[e->fixed] = 1;
    return;
  }
  memcpy(out, e->own, (size_t)n * sizeof *out);
  for (s = 0; s < d->form->sums; s++) {
    const tally_adder_ *a = &d->sum[s];
    if (a == except) continue;
    for (k = 0; k <= a->parts; k++)
      if ((k < a->parts ? a->part[k].field : a->sum->total) == field)
        for (i = 0; i < n; i++) out[i] *= a->message[k][i];
  }
}

static int tally_sums_of_(const tally_template *form, int field) {
  int s, k, n = 0;
  for (s = 0; s < form->sums; s++)
    for (k = 0; k <= form->sum[s].parts; k++) n += tally_place_field_(&form->sum[s], k) == field;
  return n;
}

static void tally_gather_part_(const tally_decoder_ *d, const tally_adder_ *a, tally_part_ *p) {
  double largest = 0;
  int v;
  p->evidence = &d->field[p->field];
  p->leading = d->form->empty == TALLY_MARK_LEADING_ZERO;
  tally_to_sum_(d, p->field, a, p->add);
  p->add[0] += p->add[p->values];
  p->all = 0;
  for (v = 0; v < p->values; v++) {
    p->all += p->add[v];
    if (p->add[v] > largest) largest = p->add[v];
  }
  for (v = p->lives = 0; v < p->values; v++)
    if (p->add[v] > largest * TALLY_NEGLIGIBLE_) p->live[p->lives++] = v;
  p->digits =
      p->evidence->fixed < 0 && !p->evidence->follows && tally_sums_of_(d->form, p->field) == 1
          ? d->form->field[p->field].digits
          : 0;
}

/* What the total says about S, for both layers, and the weight of any parts with any total. */
static void tally_gather_total_(const tally_decoder_ *d, tally_adder_ *a) {
  int digits = d->form->field[a->sum->total].digits, values = a->most + 1, s;
  double slip = d->slip, *zero = a->end[0] - a->least, missing, all = 0;
  tally_to_sum_(d, a->sum->total, a, a->total);
  missing = TALLY_NO_TOTAL_ * a->total[values];
  for (s = 0; s < values; s++) all += a->total[s];
  memset(a->end[0], 0, (size_t)a->lines * sizeof(double));
  memset(a->end[1], 0, (size_t)a->lines * sizeof(double));
  if (a->sum->at_most) { /* S <= total */
    double above = 0;
    for (s = a->least + a->lines - 1; s >= a->least; s--) {
      if (s >= 0 && s < values) above += a->total[s];
      zero[s] = (1 - 2 * slip) * above;
    }
    a->floor = slip * all + missing;
    return;
  }
  tally_slip_over_(a->total, digits, slip, zero);
  for (s = 0; s < values; s++)
    a->end[1][s - a->least] = slip * TALLY_SLIP_FORGOTTEN_ / a->parts * a->total[s];
  a->floor = slip * TALLY_SLIP_ANY_ / values * all + missing;
}

/* Collects what the fields say, and adds the parts up one by one. */
static void tally_add_forward_(const tally_decoder_ *d, tally_adder_ *a) {
  size_t line = (size_t)a->lines;
  int i, l, s;
  tally_gather_total_(d, a);
  a->all_parts = 1;
  for (l = 0; l < a->layers; l++) memset(a->forward[l], 0, line * sizeof(double));
  a->forward[0][-a->least] = 1;
  for (i = 0; i < a->parts; i++) {
    tally_part_ *p = &a->part[i];
    tally_gather_part_(d, a, p);
    a->all_parts *= p->all;
    for (l = 0; l < a->layers; l++)
      tally_add_part_(p, a->forward[l] + (size_t)i * line, p->sign > 0, a->lines,
                      a->forward[l] + (size_t)(i + 1) * line, a->spare);
    if (a->layers > 1)
      for (s = 0; s < a->lines; s++)
        a->forward[1][(size_t)(i + 1) * line + (size_t)s] +=
            (p->all - p->add[0]) * a->forward[0][(size_t)i * line + (size_t)s];
  }
}

/* Divides by the largest entry, so that products of many messages stay in range; returns its
   logarithm. */
static double tally_rescale_(double *v, int n) {
  double most = 0;
  int i;
  for (i = 0; i < n; i++)
    if (v[i] > most) most = v[i];
  for (i = 0; i < n && most > 0; i++) v[i] /= most;
  return most > 0 ? log(most) : -DBL_MAX;
}

/* The message to the total, from the sums of all parts. */
static double tally_tell_total_(const tally_decoder_ *d, tally_adder_ *a) {
  int values = a->most + 1, digits = d->form->field[a->sum->total].digits, s;
  const double *plain = a->forward[0] + (size_t)a->parts * (size_t)a->lines - a->least;
  const double *forgot = a->forward[1] + (size_t)a->parts * (size_t)a->lines - a->least;
  double slip = d->slip, *out = a->message[a->parts], below = 0;
  if (a->sum->at_most) {
    for (s = a->least; s < values; s++) {
      below += plain[s];
      if (s >= 0) out[s] = (1 - 2 * slip) * below + slip * a->all_parts;
    }
  } else {
    tally_slip_over_(plain, digits, slip, out);
    for (s = 0; s < values; s++)
      out[s] += slip * (TALLY_SLIP_FORGOTTEN_ / a->parts * forgot[s] +
                        TALLY_SLIP_ANY_ / values * a->all_parts);
  }
  out[values] = TALLY_NO_TOTAL_ * a->all_parts;
  return tally_rescale_(out, values + 1);
}

/* The message to part i: back[l] is what the parts behind it and the total say. */
static double tally_tell_part_(tally_adder_ *a, int i, double *const back[2]) {
  const tally_part_ *p = &a->part[i];
  const double *plain = a->forward[0] + (size_t)i * (size_t)a->lines;
  const double *forgot = a->forward[1] + (size_t)i * (size_t)a->lines;
  const double *own = p->evidence->own;
  double others = a->floor, forgets = 0, largest = 0, *out = a->message[i];
  int k, v, fixed = p->evidence->fixed;
  for (k = 0; k < a->parts; k++)
    if (k != i) others *= a->part[k].all;
  if (a->layers > 1) forgets = tally_dot_(plain, back[1], a->lines);
  for (v = 0; v < p->values; v++) largest = own[v] > largest ? own[v] : largest;
  for (v = 0; v < p->values; v++) {
    int n = a->lines - v, from = p->sign > 0 ? 0 : v, to = p->sign > 0 ? v : 0;
    out[v] = others + (v > 0 ? forgets : 0);
    if (n <= 0 || (fixed >= 0 ? v != fixed : v > 0 && own[v] <= largest * TALLY_NEGLIGIBLE_))
      continue;
    out[v] += tally_dot_(plain + from, back[0] + to, n);
    if (a->layers > 1) out[v] += tally_dot_(forgot + from, back[1] + to, n);
  }
  out[p->values] = out[0];
  return tally_rescale_(out, p->values + 1);
}

/* One part further back. */
static void tally_step_back_(tally_adder_ *a, int i) {
  const tally_part_ *p = &a->part[i];
  int l, s;
  for (l = 0; l < a->layers; l++)
    tally_add_part_(p, a->back[l], p->sign < 0, a->lines, a->next[l], a->spare);
  if (a->layers > 1)
    for (s = 0; s < a->lines; s++) a->next[0][s] += (p->all - p->add[0]) * a->back[1][s];
  for (l = 0; l < a->layers; l++) {
    double *swap = a->back[l];
    a->back[l] = a->next[l];
    a->next[l] = swap;
  }
}

/* The messages to all fields of a sum, once those to it are final. */
static void tally_tell_all_(const tally_decoder_ *d, tally_adder_ *a) {
  const double *plain;
  double scale, written, all, agree, *total = a->message[a->parts];
  int i, l, values = a->most + 1;
  tally_add_forward_(d, a);
  plain = a->forward[0] + (size_t)a->parts * (size_t)a->lines - a->least;
  scale = exp(tally_tell_total_(d, a));
  written = scale * tally_dot_(total, a->total, values);
  all = written + scale * total[values] * a->total[values];
  agree = a->sum->at_most ? tally_dot_(a->forward[0] + (size_t)a->parts * (size_t)a->lines,
                                       a->end[0], a->lines) *
                                (1 - d->slip) / (1 - 2 * d->slip)
                          : (1 - d->slip) * tally_dot_(plain, a->total, values);
  a->holds = all > 0 ? agree / all : 0;
  a->written = all > 0 ? written / all : 0;
  for (l = 0; l < a->layers; l++) memcpy(a->back[l], a->end[l], (size_t)a->lines * sizeof(double));
  for (i = a->parts - 1; i >= 0; i--) {
    (void)tally_tell_part_(a, i, a->back);
    tally_step_back_(a, i);
  }
}

/* The message to the field that a sum hangs on, or for a root the weight of all readings of its
   tree. */
static void tally_tell_parent_(tally_decoder_ *d, tally_adder_ *a) {
  tally_add_forward_(d, a);
  if (a->parent == a->parts) {
    d->evidence += tally_tell_total_(d, a);
  } else if (a->parent >= 0) {
    d->evidence += tally_tell_part_(a, a->parent, a->end);
  } else {
    size_t last = (size_t)a->parts * (size_t)a->lines;
    double all = a->floor * a->all_parts;
    int l;
    for (l = 0; l < a->layers; l++) all += tally_dot_(a->forward[l] + last, a->end[l], a->lines);
    d->evidence += all > 0 ? log(all) : -DBL_MAX;
  }
}

/* ---- the graph of sums */

/* A field that is not fixed and takes part in both sums, or -1. */
static int tally_shared_field_(const tally_decoder_ *d, const tally_sum *a, const tally_sum *b) {
  int i, k;
  for (i = 0; i <= a->parts; i++)
    for (k = 0; k <= b->parts; k++) {
      int field = tally_place_field_(a, i);
      if (field == tally_place_field_(b, k) && d->field[field].fixed < 0) return field;
    }
  return -1;
}

/* How many loops the sums close if `without` were fixed too (-1: as it is): sums and the fields that
   are not fixed are nodes of a graph, united edge by edge. */
static int tally_loops_(const tally_decoder_ *d, int without) {
  int root[TALLY_MAX_FIELDS + TALLY_MAX_SUMS], loops = 0, s, k;
  for (k = 0; k < TALLY_MAX_FIELDS + TALLY_MAX_SUMS; k++) root[k] = k;
  for (s = 0; s < d->form->sums; s++)
    for (k = 0; k <= d->form->sum[s].parts; k++) {
      int field = tally_place_field_(&d->form->sum[s], k), a = field, b = TALLY_MAX_FIELDS + s;
      if (field == without || d->field[field].fixed >= 0) continue;
      while (root[a] != a) a = root[a];
      while (root[b] != b) b = root[b];
      loops += a == b;
      root[a] = b;
    }
  return loops;
}

/* How many outcomes of a field have a score of at least `least`. */
static int tally_candidates_(const tally_likelihood_ *e, double least) {
  int v, n = 0;
  for (v = 0; v <= e->values; v++) n += e->score[v] >= least;
  return n;
}

/* The field whose values are listed to open a loop: the fewest cases for each loop that it opens. -1
   if there is no loop. */
static int tally_loop_field_(const tally_decoder_ *d) {
  int loops = tally_loops_(d, -1), best = -1, f;
  double least = DBL_MAX;
  for (f = 0; f < d->form->fields && loops > 0; f++) {
    int opened = d->field[f].fixed >= 0 ? 0 : loops - tally_loops_(d, f);
    double cost =
        opened > 0 ? log(tally_candidates_(&d->field[f], TALLY_CANDIDATE_)) / opened : DBL_MAX;
    if (cost < least) {
      least = cost;
      best = f;
    }
  }
  return best;
}

/* Parts that are added first, so that nothing falls below `least` that can come back, and the one by
   which the sum hangs last. */
static void tally_order_parts_(tally_adder_ *a, int parent_field) {
  const tally_sum *sum = a->sum;
  int sign, i, n = 0;
  a->parts = sum->parts;
  a->parent = parent_field < 0 ? -1 : a->parts;
  for (sign = 1; sign >= -1; sign -= 2)
    for (i = 0; i < sum->parts; i++)
      if (sum->sign[i] == sign && sum->part[i] != parent_field) {
        a->part[n].field = sum->part[i];
        a->part[n++].sign = sign;
      }
  for (i = 0; i < sum->parts; i++)
    if (sum->part[i] == parent_field) {
      a->parent = n;
      a->part[n].field = parent_field;
      a->part[n++].sign = sum->sign[i];
    }
}

/* Room for one sum. */
static tally_result tally_adder_room_(const tally_decoder_ *d, tally_adder_ *a) {
  size_t n = 0, line, ints = 0;
  double *at;
  int i, k, values, widest = 0;
  a->most = d->field[a->sum->total].values - 1;
  a->layers = a->sum->at_most ? 1 : 2;
  for (i = 0; i < a->parts; i++) {
    a->part[i].values = d->field[a->part[i].field].values;
    if (a->part[i].sign < 0) a->least -= a->part[i].values - 1;
    n += 2 * ((size_t)a->part[i].values + 1);
    ints += (size_t)a->part[i].values;
    widest = tally_max_(widest, a->part[i].values);
  }
  a->lines = a->most - 2 * a->least + 1;
  line = (size_t)a->lines;
  n += 2 * ((size_t)a->most + 2) + line * (2 * ((size_t)a->parts + 1) + 7) + (size_t)widest;
  a->block = (double *)tally_alloc_(n, sizeof(double));
  a->part[0].live = (int *)tally_alloc_(ints, sizeof(int));
  if (!a->block || !a->part[0].live) return TALLY_ERROR_MEMORY;
  at = a->block;
  for (k = 0; k <= a->parts; k++) {
    values = k < a->parts ? a->part[k].values : a->most + 1;
    a->message[k] = at;
    at += values + 1;
    if (k == a->parts)
      a->total = at;
    else
      a->part[k].add = at;
    at += values + 1;
    if (k > 0 && k < a->parts) a->part[k].live = a->part[k - 1].live + a->part[k - 1].values;
  }
  for (k = 0; k < 2; k++, at += line * ((size_t)a->parts + 1)) a->forward[k] = at;
  for (k = 0; k < 2; k++, at += line) a->end[k] = at;
  for (k = 0; k < 2; k++, at += line) a->back[k] = at;
  for (k = 0; k < 2; k++, at += line) a->next[k] = at;
  a->spare = at;
  return TALLY_OK;
}

static void tally_uproot_(tally_decoder_ *d) {
  int s;
  for (s = 0; s < TALLY_MAX_SUMS; s++) {
    TALLY_FREE(d->sum[s].block);
    TALLY_FREE(d->sum[s].part[0].live);
  }
  memset(d->sum, 0, sizeof d->sum);
}

/* Hangs the sums on one another, breadth first from a root in each tree. */
static tally_result tally_plant_(tally_decoder_ *d) {
  const tally_template *form = d->form;
  int seen[TALLY_MAX_SUMS] = {0}, n = 0, next = 0, root, s;
  for (root = 0; root < form->sums; root++) {
    if (seen[root]) continue;
    seen[root] = 1;
    d->sum[root].sum = &form->sum[root];
    tally_order_parts_(&d->sum[root], -1);
    d->order[n++] = root;
    for (; next < n; next++)
      for (s = 0; s < form->sums; s++) {
        int field =
            seen[s] ? -1 : tally_shared_field_(d, d->sum[d->order[next]].sum, &form->sum[s]);
        if (field < 0) continue;
        seen[s] = 1;
        d->sum[s].sum = &form->sum[s];
        tally_order_parts_(&d->sum[s], field);
        d->order[n++] = s;
      }
  }
  for (s = 0; s < n; s++) TALLY_TRY_(tally_adder_room_(d, &d->sum[s]));
  return TALLY_OK;
}

/* Makes all messages 1, so that they say nothing. */
static void tally_silence_(tally_decoder_ *d) {
  int s, k, i;
  for (s = 0; s < d->form->sums; s++)
    for (k = 0; k <= d->sum[s].parts; k++) {
      tally_adder_ *a = &d->sum[s];
      int n = (k < a->parts ? a->part[k].values : a->most + 1) + 1;
      for (i = 0; i < n; i++) a->message[k][i] = 1;
    }
}

/* From the leaves to the roots: d->evidence becomes the weight of all readings. */
static void tally_pass_up_(tally_decoder_ *d) {
  int s;
  d->evidence = 0;
  tally_silence_(d);
  for (s = d->form->sums - 1; s >= 0; s--) tally_tell_parent_(d, &d->sum[d->order[s]]);
}

/* ---- joint samples

   Drawn after the way up, from the roots down: given the field that a sum hangs on, what the sum
   says of its other fields is in its forward arrays. */

/* Index at which the weights' running sum exceeds u. */
static int tally_draw_index_(const double *weight, int n, double u) {
  int i, last = 0;
  for (i = 0; i < n; i++) {
    if (weight[i] <= 0) continue;
    last = i;
    u -= weight[i];
    if (u < 0) break;
  }
  return last;
}

static double tally_sum_of_(const double *v, int n) {
  double sum = 0;
  int i;
  for (i = 0; i < n; i++) sum += v[i];
  return sum;
}

/* A value or missing, by weights of values and then of missing. */
static int tally_draw_outcome_(const double *weight, int values, uint64_t *random) {
  double all = tally_sum_of_(weight, values + 1);
  int v = tally_draw_index_(weight, values + 1, tally_uniform_(random) * all);
  return v < values ? v : TALLY_NO_VALUE;
}

/* What a part says, with missing apart from 0 again. */
static int tally_missing_or_zero_(const tally_part_ *p, int v, uint64_t *random) {
  if (v > 0 || p->add[p->values] <= 0) return v;
  return tally_uniform_(random) * p->add[0] < p->add[p->values] ? TALLY_NO_VALUE : 0;
}

/* Weights of S over the parts but the parent, for both layers, given what the parent's field is:
   into next[0] and next[1]. Returns the weight of any parts with any total. */
static double tally_weigh_draw_(const tally_decoder_ *d, tally_adder_ *a, int given) {
  int others = a->parent >= 0 && a->parent < a->parts ? a->parts - 1 : a->parts;
  int total[TALLY_SLIPS_], v = given > 0 ? given : 0, l, i, s, n;
  double share[TALLY_SLIPS_], slip = d->slip, floor_weight = a->floor;
  for (l = 0; l < 2; l++) memset(a->next[l], 0, (size_t)a->lines * sizeof(double));
  if (a->parent < 0) {
    for (l = 0; l < a->layers; l++)
      memcpy(a->next[l], a->end[l], (size_t)a->lines * sizeof(double));
  } else if (a->parent < a->parts) {
    int shift = a->part[a->parent].sign * v;
    for (l = 0; l < a->layers; l++)
      for (s = 0; s < a->lines; s++)
        if (s + shift >= 0 && s + shift < a->lines) a->next[l][s] = a->end[l][s + shift];
    if (a->layers > 1 && v > 0)
      for (s = 0; s < a->lines; s++) a->next[0][s] += a->end[1][s];
  } else if (given == TALLY_NO_VALUE) {
    floor_weight = TALLY_NO_TOTAL_;
  } else if (a->sum->at_most) {
    for (s = a->least; s <= v; s++) a->next[0][s - a->least] = 1 - 2 * slip;
    floor_weight = slip;
  } else {
    a->next[0][v - a->least] = 1 - slip;
    n = tally_slips_(v, d->form->field[a->sum->total].digits, total, share);
    for (i = 0; i < n; i++) a->next[0][total[i] - a->least] += slip * share[i];
    a->next[1][v - a->least] = slip * TALLY_SLIP_FORGOTTEN_ / a->parts;
    floor_weight = slip * TALLY_SLIP_ANY_ / (a->most + 1);
  }
  for (l = 0; l < a->layers; l++)
    for (s = 0; s < a->lines; s++)
      a->next[l][s] *= a->forward[l][(size_t)others * (size_t)a->lines + (size_t)s];
  for (i = 0; i < others; i++) floor_weight *= a->part[i].all;
  return floor_weight;
}

/* The total that stands where S is `at`, or any if at < 0. */
static int tally_draw_total_(const tally_decoder_ *d, const tally_adder_ *a, int at, int exact,
                             uint64_t *random) {
  int values = a->most + 1, s = at + a->least, i, n, total[TALLY_SLIPS_ + 1];
  double weight[TALLY_SLIPS_ + 1];
  if (at < 0) {
    double any = (a->sum->at_most ? d->slip : d->slip * TALLY_SLIP_ANY_ / values) *
                 tally_sum_of_(a->total, values);
    if (tally_uniform_(random) * a->floor >= any) return TALLY_NO_VALUE;
    return tally_draw_index_(a->total, values,
                             tally_uniform_(random) * tally_sum_of_(a->total, values));
  }
  if (a->sum->at_most) {
    int from = s > 0 ? s : 0;
    double all = tally_sum_of_(a->total + from, values - from);
    return from + tally_draw_index_(a->total + from, values - from, tally_uniform_(random) * all);
  }
  if (exact) return s;
  n = tally_slips_(s, d->form->field[a->sum->total].digits, total, weight);
  for (i = 0; i < n; i++) weight[i] *= d->slip * a->total[total[i]];
  total[n] = s;
  weight[n] = (1 - d->slip) * a->total[s];
  return total[tally_draw_index_(weight, n + 1,
                                 tally_uniform_(random) * tally_sum_of_(weight, n + 1))];
}

/* The parts [0, n) whose sum stands at entry `at` of layer l; sets x. */
static void tally_draw_parts_(tally_adder_ *a, int n, int l, int at, uint64_t *random, int *x) {
  while (n-- > 0) {
    const tally_part_ *p = &a->part[n];
    const double *from = a->forward[l] + (size_t)n * (size_t)a->lines;
    double all = 0, u, forget = 0;
    int i, v = 0;
    if (l) forget = (p->all - p->add[0]) * a->forward[0][(size_t)n * (size_t)a->lines + (size_t)at];
    for (i = 0; i < p->lives; i++) {
      int before = at - p->sign * p->live[i];
      a->spare[i] = before >= 0 && before < a->lines ? p->add[p->live[i]] * from[before] : 0;
      all += a->spare[i];
    }
    u = tally_uniform_(random) * (all + forget);
    if (u < forget) {
      l = 0;
      v = 1 + tally_draw_index_(p->add + 1, p->values - 1,
                                tally_uniform_(random) * tally_sum_of_(p->add + 1, p->values - 1));
    } else {
      v = p->live[tally_draw_index_(a->spare, p->lives, u - forget)];
      at -= p->sign * v;
    }
    x[p->field] = tally_missing_or_zero_(p, v, random);
  }
}

/* Draws the fields of one sum, given the one it hangs on. */
static void tally_draw_sum_(const tally_decoder_ *d, tally_adder_ *a, uint64_t *random, int *x) {
  int hangs = a->parent >= 0 && a->parent < a->parts, others = a->parts - hangs, l, at, i;
  int given = a->parent < 0 ? 0 : x[hangs ? a->part[a->parent].field : a->sum->total];
  int shift = hangs && given > 0 ? a->part[a->parent].sign * given : 0, exact;
  double any = tally_weigh_draw_(d, a, given), weight[2] = {0, 0}, u;
  for (l = 0; l < a->layers; l++) weight[l] = tally_sum_of_(a->next[l], a->lines);
  u = tally_uniform_(random) * (any + weight[0] + weight[1]);
  if (u < any || weight[0] + weight[1] <= 0) {
    for (i = 0; i < others; i++)
      x[a->part[i].field] =
          tally_missing_or_zero_(&a->part[i],
                                 tally_draw_index_(a->part[i].add, a->part[i].values,
                                                   tally_uniform_(random) * a->part[i].all),
                                 random);
    if (a->parent != a->parts) x[a->sum->total] = tally_draw_total_(d, a, -1, 0, random);
    return;
  }
  u -= any;
  l = u >= weight[0];
  at = tally_draw_index_(a->next[l], a->lines, l ? u - weight[0] : u);
  if (a->parent != a->parts) {
    exact = l;
    if (hangs && !l && a->layers > 1 && given > 0) { /* was the part it hangs on forgotten? */
      int moved = at + shift;
      double added = moved >= 0 && moved < a->lines ? a->end[0][moved] : 0;
      exact = tally_uniform_(random) * (added + a->end[1][at]) >= added;
      if (exact) shift = 0;
    }
    x[a->sum->total] = tally_draw_total_(d, a, at + shift, exact, random);
  }
  tally_draw_parts_(a, others, l, at, random, x);
}

/* One joint sample; x holds the fixed fields already. */
static void tally_draw_fields_(tally_decoder_ *d, uint64_t *random, int *x) {
  int f, s;
  for (f = 0; f < d->form->fields; f++)
    if (d->field[f].fixed < 0 && tally_sums_of_(d->form, f) == 0)
      x[f] = tally_draw_outcome_(d->field[f].own, d->field[f].values, random);
  for (s = 0; s < d->form->sums; s++) tally_draw_sum_(d, &d->sum[d->order[s]], random, x);
}

/* ---- cases

   Fields that close loops are tried value by value; each case is a tree. */

#define TALLY_CASES_ 256

typedef struct {
  int cuts, cut[TALLY_MAX_FIELDS]; /* fields that close loops */
  int cases;
  int *outcome;    /* cases x cuts */
  double *weight;  /* of each case; they sum to 1 */
  double left_out; /* scores of the outcomes that are in no case */
} tally_cases_;

/* Scores every outcome of every field by each of its sums alone: what is likely by its own cells, and
   what a sum would make of it, are both among the candidates. */
static tally_result tally_score_(tally_decoder_ *d) {
  int f, s, k, v;
  for (f = 0; f < d->form->fields; f++) {
    tally_likelihood_ *e = &d->field[f];
    e->score = (double *)tally_alloc_zero_((size_t)e->values + 1, sizeof(double));
    if (!e->score) return TALLY_ERROR_MEMORY;
  }
  for (s = 0; s < d->form->sums; s++) {
    tally_adder_ *a = &d->sum[s];
    tally_silence_(d);
    tally_tell_all_(d, a);
    for (k = 0; k <= a->parts; k++) {
      tally_likelihood_ *e = &d->field[k < a->parts ? a->part[k].field : a->sum->total];
      double all = tally_dot_(e->own, a->message[k], e->values + 1);
      for (v = 0; v <= e->values; v++) {
        double score = all > 0 ? e->own[v] * a->message[k][v] / all : 1;
        if (score > e->score[v]) e->score[v] = score;
      }
    }
  }
  return TALLY_OK;
}

/* The combinations of all candidates of the fields that close loops, or of the best of them. */
static tally_result tally_list_cases_(const tally_decoder_ *d, tally_cases_ *out) {
  int count[TALLY_MAX_FIELDS], i, c, v, stride = 1;
  double all, least = 0;
  for (;; least = least > 0 ? 10 * least : TALLY_CANDIDATE_) {
    for (i = 0, all = 1; i < out->cuts; i++)
      all *= count[i] = tally_candidates_(&d->field[out->cut[i]], least);
    if (all <= TALLY_CASES_) break;
  }
  out->cases = all < 1 ? 1 : (int)all;
  out->weight = (double *)tally_alloc_zero_((size_t)out->cases, sizeof(double));
  out->outcome =
      (int *)tally_alloc_zero_((size_t)out->cases * ((size_t)out->cuts + 1), sizeof(int));
  if (!out->weight || !out->outcome) return TALLY_ERROR_MEMORY;
  for (i = 0; i < out->cuts; i++) {
    const tally_likelihood_ *e = &d->field[out->cut[i]];
    int n = 0;
    for (v = 0; v <= e->values; v++) {
      if (e->score[v] < least) {
        out->left_out += e->score[v];
        continue;
      }
      for (c = 0; c < out->cases; c++)
        if (c / stride % count[i] == n) out->outcome[c * out->cuts + i] = v;
      n++;
    }
    stride *= n;
  }
  return TALLY_OK;
}

static void tally_take_case_(tally_decoder_ *d, const tally_cases_ *cases, int c) {
  int i;
  for (i = 0; i < cases->cuts; i++)
    d->field[cases->cut[i]].fixed = cases->outcome[c * cases->cuts + i];
  tally_pass_up_(d);
}

/* Weighs the cases by their evidence. */
static void tally_weigh_cases_(tally_decoder_ *d, tally_cases_ *cases) {
  double most = -DBL_MAX, sum = 0;
  int c, i;
  for (c = 0; c < cases->cases; c++) {
    tally_take_case_(d, cases, c);
    cases->weight[c] = d->evidence;
    for (i = 0; i < cases->cuts; i++) {
      const tally_likelihood_ *e = &d->field[cases->cut[i]];
      cases->weight[c] += e->own[e->fixed] > 0 ? log(e->own[e->fixed]) : -DBL_MAX;
    }
    if (cases->weight[c] > most) most = cases->weight[c];
  }
  for (c = 0; c < cases->cases; c++) sum += cases->weight[c] = exp(cases->weight[c] - most);
  for (c = 0; c < cases->cases; c++) cases->weight[c] /= sum;
}

/* From the roots down, and the marginals of all fields and sums, each times `weight`. work is scratch
   of the largest field's size. */
static void tally_pass_down_(tally_decoder_ *d, double weight, double *work, tally_counts *out) {
  int f, s, i;
  for (s = 0; s < d->form->sums; s++) {
    tally_adder_ *a = &d->sum[d->order[s]];
    tally_tell_all_(d, a);
    d->holds[d->order[s]] += weight * a->holds;
    d->written[d->order[s]] += weight * a->written;
  }
  for (f = 0; f < d->form->fields; f++) {
    int n = d->field[f].values + 1;
    double all;
    tally_to_sum_(d, f, NULL, work);
    all = tally_sum_of_(work, n);
    if (!(all > 0)) { /* lost in underflow: the cells alone */
      memcpy(work, d->field[f].own, (size_t)n * sizeof *work);
      all = tally_sum_of_(work, n);
    }
    for (i = 0; i < n; i++) out->distribution[f][i] += weight * work[i] / all;
  }
}

/* Samples of all cases, and marginals too if they are wanted. Samples are shared out among the cases
   by their weights. */
static tally_result tally_infer_(tally_decoder_ *d, tally_cases_ *cases, uint64_t *random,
                                 int marginals, tally_counts *out) {
  double before = 0, *work;
  size_t largest = 1;
  int c, f, drawn = 0;
  for (f = 0; f < d->form->fields; f++)
    if ((size_t)d->field[f].values + 1 > largest) largest = (size_t)d->field[f].values + 1;
  work = (double *)tally_alloc_(largest, sizeof(double));
  if (!work) return TALLY_ERROR_MEMORY;
  tally_weigh_cases_(d, cases);
  for (c = 0; c < cases->cases; c++) {
    before += cases->weight[c];
    if (cases->weight[c] < 1e-16 && c + 1 < cases->cases) continue;
    if (cases->cases > 1) tally_take_case_(d, cases, c);
    while (drawn < out->samples && (drawn + 0.5 < before * out->samples || c + 1 == cases->cases)) {
      int *x = out->sample + (size_t)drawn++ * (size_t)out->fields;
      for (f = 0; f < out->fields; f++)
        x[f] = d->field[f].fixed < d->field[f].values ? d->field[f].fixed : TALLY_NO_VALUE;
      tally_draw_fields_(d, random, x);
    }
    if (marginals) tally_pass_down_(d, cases->weight[c], work, out);
  }
  TALLY_FREE(work);
  return TALLY_OK;
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

TALLY_API const char *tally_altered_text(int altered) {
  switch (altered) {
  case TALLY_CLASS_STRUCK:
    return "something is struck out";
  case TALLY_CLASS_SEVERAL:
    return "a cell holds more than one digit";
  case TALLY_CLASS_OVERWRITTEN:
    return "a digit is written over another";
  }
  return "";
}

static void tally_review_(tally_count *count, const char *format, ...) {
  va_list list;
  count->status = TALLY_COUNT_REVIEW;
  va_start(list, format);
  (void)vsnprintf(count->reason, sizeof count->reason, format, list);
  va_end(list);
}

/* Four places of a probability, whatever the locale's point is. */
static void tally_review_doubt_(tally_count *count, const char *why) {
  int share = (int)(count->probability * 10000 + 0.5);
  tally_review_(count, "%sprobability %d.%04d", why, share / 10000, share % 10000);
}

/* What the cells of a field say by themselves: a value, or none where a blank or nothing readable is
   likelier. */
static int tally_own_value_(const tally_likelihood_ *e) {
  int best = tally_largest_(e->clear, e->values, -1);
  double readable = tally_sum_of_(e->clear, e->values), missing = e->own[e->values];
  return missing > readable || 1 - missing - readable > readable ? TALLY_NO_VALUE : best;
}

/* The outcome of one count before the sums are looked at as they were read. */
static void tally_judge_count_(const tally_likelihood_ *e, const double *posterior, double risk,
                               tally_count *count) {
  int values = e->values, best = tally_largest_(posterior, values, -1), v;
  count->own_value = tally_own_value_(e);
  count->altered = e->altered;
  count->missing = posterior[values];
  for (v = 0; v < values; v++)
    if (posterior[v] > 0) count->illegible += posterior[v] * (1 - e->clear[v] / e->own[v]);
  count->value = count->second = TALLY_NO_VALUE;
  count->probability = count->missing;
  if (count->missing >= 0.5) {
    count->status = TALLY_COUNT_MISSING;
    if (count->own_value >= 0)
      tally_review_(count, "the cells alone read %d, the sums make it blank", count->own_value);
    else if (count->missing < 1 - risk)
      tally_review_(count, "probably nothing is written here");
  } else if (e->clear[best] < 0.5 * e->own[best]) {
    count->status = TALLY_COUNT_UNREAD;
    count->probability = count->illegible;
    tally_print_(count->reason, sizeof count->reason, "%s",
                 e->altered ? tally_altered_text(e->altered) : "the cells do not make a number");
    if (posterior[best] >= TALLY_INFERRED_) {
      count->status = TALLY_COUNT_INFERRED;
      count->value = best;
      count->probability = posterior[best];
      tally_print_(count->reason, sizeof count->reason, "%s; the sums make it %d",
                   e->altered ? tally_altered_text(e->altered) : "the cells do not make a number",
                   best);
    }
  } else {
    count->status = TALLY_COUNT_OK;
    count->value = best;
    count->probability = posterior[best];
    count->changed = best != count->own_value;
    if (count->probability < 1 - risk) tally_review_doubt_(count, "");
    if (count->changed && count->own_value >= 0)
      tally_review_(count, "the cells alone read %d, the sums make it %d", count->own_value, best);
    if (e->altered) tally_review_(count, "%s", tally_altered_text(e->altered));
  }
  v = tally_largest_(posterior, values, count->value);
  if (v >= 0 && posterior[v] > 0) {
    count->second = v;
    count->second_probability = posterior[v];
  }
}

/* State of a sum as read; a sum that fails sends its counts to review. */
static void tally_check_sum_(const tally_template *form, int s, tally_counts *out) {
  const tally_sum *sum = &form->sum[s];
  const tally_count *total = &out->count[sum->total];
  tally_sum_check *check = &out->sum[s];
  int i, added = 0, known = total->value >= 0 && total->status != TALLY_COUNT_INFERRED;
  for (i = 0; i < sum->parts; i++) {
    const tally_count *part = &out->count[sum->part[i]];
    if (part->status == TALLY_COUNT_UNREAD || part->status == TALLY_COUNT_INFERRED) known = 0;
    if (part->value >= 0) added += sum->sign[i] * part->value;
  }
  check->difference = known ? total->value - added : 0;
  check->state = !known ? TALLY_SUM_UNCHECKED
                 : (sum->at_most ? check->difference >= 0 : !check->difference) ? TALLY_SUM_HOLDS
                                                                                : TALLY_SUM_FAILS;
  if (check->state != TALLY_SUM_FAILS) return;
  for (i = 0; i <= sum->parts; i++) {
    tally_count *count = &out->count[tally_place_field_(sum, i)];
    if (count->value < 0 || count->basis == TALLY_BASIS_PERSON) continue;
    tally_review_(count, "does not add up on paper: %s reads %d, its parts make %d",
                  form->field[sum->total].name, total->value, added);
  }
}

/* Whether a sum that was checked and holds takes part in the count. */
static int tally_is_corroborated_(const tally_template *form, const tally_counts *counts,
                                  int field) {
  int s, i;
  for (s = 0; s < form->sums; s++)
    for (i = 0; i <= form->sum[s].parts; i++)
      if (tally_place_field_(&form->sum[s], i) == field && !form->sum[s].at_most &&
          counts->sum[s].state == TALLY_SUM_HOLDS)
        return 1;
  return 0;
}

/* What an accepted count rests on; one that nothing corroborates must be surer. */
static void tally_settle_counts_(const tally_template *form, const tally_decode_options *options,
                                 tally_counts *out) {
  int f;
  for (f = 0; f < form->fields; f++) {
    tally_count *count = &out->count[f];
    if (count->status != TALLY_COUNT_OK || count->basis == TALLY_BASIS_PERSON) continue;
    count->basis = TALLY_BASIS_SUM;
    if (tally_is_corroborated_(form, out, f)) continue;
    count->basis = TALLY_BASIS_CELLS;
    if (count->probability < 1 - options->alone) {
      count->basis = TALLY_BASIS_NONE;
      tally_review_doubt_(count, "no sum confirms it; ");
    }
  }
}

/* A person's word, or what was printed, is final, even where it does not add up. */
static void tally_take_known_(int known, tally_count *count) {
  count->status = known == TALLY_NO_VALUE ? TALLY_COUNT_MISSING : TALLY_COUNT_OK;
  count->basis = TALLY_BASIS_PERSON;
  count->value = count->own_value = known;
  count->second = TALLY_NO_VALUE;
  count->probability = 1;
  count->missing = known == TALLY_NO_VALUE;
}

static void tally_report_(const tally_decoder_ *d, const double *probabilities,
                          const tally_decode_options *options, tally_counts *out) {
  const tally_template *form = d->form;
  int f, s, written = 0, fails = 0;
  for (f = 0; f < form->fields; f++) {
    tally_count *count = &out->count[f];
    int known = options->known ? options->known[f] : TALLY_NOT_KNOWN;
    if (known == TALLY_NOT_KNOWN)
      tally_judge_count_(&d->field[f], out->distribution[f], options->risk, count);
    else
      tally_take_known_(known, count);
    count->quality = tally_quality_(
        probabilities + (size_t)form->field[f].first_cell * TALLY_CLASSES, form->field[f].digits);
    if (count->missing >= 0.5) continue;
    written++;
    out->quality += count->quality;
  }
  if (written) out->quality /= written;
  for (s = 0; s < form->sums; s++) {
    double holds = d->written[s] > 0 ? d->holds[s] / d->written[s] : 0;
    out->sum[s].probability = holds < 1 ? holds : 1;
    tally_check_sum_(form, s, out);
    fails += out->sum[s].state == TALLY_SUM_FAILS;
  }
  out->high_quality = out->quality > 0.9 && !fails;
  tally_settle_counts_(form, options, out);
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
  case TALLY_COUNT_INFERRED:
    return "inferred";
  }
  return "unknown";
}

TALLY_API const char *tally_basis_text(tally_basis basis) {
  switch (basis) {
  case TALLY_BASIS_NONE:
    return "";
  case TALLY_BASIS_CELLS:
    return "cells";
  case TALLY_BASIS_SUM:
    return "sum";
  case TALLY_BASIS_PERSON:
    return "person";
  }
  return "";
}

TALLY_API void tally_counts_free(tally_counts *counts) {
  int f;
  if (!counts) return;
  for (f = 0; f < TALLY_MAX_FIELDS; f++) TALLY_FREE(counts->distribution[f]);
  TALLY_FREE(counts->sample);
  memset(counts, 0, sizeof *counts);
}

static void tally_decoder_free_(tally_decoder_ *d) {
  int f;
  for (f = 0; f < TALLY_MAX_FIELDS; f++) {
    TALLY_FREE(d->field[f].own);
    TALLY_FREE(d->field[f].score);
  }
  tally_uproot_(d);
  TALLY_FREE(d);
}

static tally_result tally_counts_room_(const tally_decoder_ *d, int samples, tally_counts *out) {
  int f;
  out->fields = d->form->fields;
  out->sums = d->form->sums;
  out->samples = samples;
  out->sample = (int *)tally_alloc_((size_t)samples, (size_t)out->fields * sizeof(int));
  if (!out->sample) return TALLY_ERROR_MEMORY;
  for (f = 0; f < out->fields; f++) {
    out->values[f] = d->field[f].values;
    out->distribution[f] =
        (double *)tally_alloc_zero_((size_t)d->field[f].values + 1, sizeof(double));
    if (!out->distribution[f]) return TALLY_ERROR_MEMORY;
  }
  return TALLY_OK;
}

/* Takes one known value. */
static tally_result tally_fix_(tally_likelihood_ *e, int known) {
  if (known == TALLY_NOT_KNOWN) return TALLY_OK;
  if (known != TALLY_NO_VALUE && (known < 0 || known >= e->values)) return TALLY_ERROR_ARGUMENT;
  e->fixed = known == TALLY_NO_VALUE ? e->values : known;
  return TALLY_OK;
}

static int tally_is_settled_(const tally_count *count) {
  return count->status == TALLY_COUNT_OK || count->status == TALLY_COUNT_MISSING;
}

/* Draws the samples again where counts are in doubt, with the sizes that are usual. */
static tally_result tally_follow_habits_(tally_decoder_ *d, const tally_habits *habits,
                                         tally_cases_ *cases, uint64_t *random, tally_counts *out) {
  int f, v, doubts = 0;
  for (f = 0; f < out->fields; f++) {
    tally_likelihood_ *e = &d->field[f];
    double *prior = e->clear; /* not needed any more */
    if (tally_is_settled_(&out->count[f])) continue;
    doubts++;
    tally_habits_prior(habits, f, prior);
    for (v = 0; v <= e->values; v++) e->own[v] *= prior[v];
    e->follows = 1;
  }
  if (!doubts) return TALLY_OK;
  return tally_infer_(d, cases, random, 0, out);
}

static tally_result tally_decode_in_(tally_decoder_ *d, const double *probabilities,
                                     const tally_cell *cells, const tally_decode_options *options,
                                     tally_cases_ *cases, tally_counts *out) {
  const tally_template *form = d->form;
  uint64_t random = options->seed;
  int f;
  for (f = 0; f < form->fields; f++) {
    TALLY_TRY_(
        tally_weigh_field_(form, f, probabilities, cells, options->temperature, &d->field[f]));
    if (options->known) TALLY_TRY_(tally_fix_(&d->field[f], options->known[f]));
  }
  TALLY_TRY_(tally_counts_room_(d, options->samples, out));
  TALLY_TRY_(tally_plant_(d));
  if (tally_loops_(d, -1) > 0) {
    TALLY_TRY_(tally_score_(d));
    while ((f = tally_loop_field_(d)) >= 0) {
      cases->cut[cases->cuts++] = f;
      d->field[f].fixed = 0;
    }
    tally_uproot_(d);
    TALLY_TRY_(tally_plant_(d));
  }
  TALLY_TRY_(tally_list_cases_(d, cases));
  out->left_out = cases->left_out;
  TALLY_TRY_(tally_infer_(d, cases, &random, 1, out));
  tally_report_(d, probabilities, options, out);
  return options->habits ? tally_follow_habits_(d, options->habits, cases, &random, out) : TALLY_OK;
}

/* The options with their defaults filled in. */
static tally_result tally_fill_options_(const tally_decode_options *given,
                                        tally_decode_options *out) {
  memset(out, 0, sizeof *out);
  if (given) *out = *given;
  if (out->temperature == 0) out->temperature = 1;
  if (out->slip == 0) out->slip = tally_habits_slip(out->habits);
  if (out->risk == 0) out->risk = 0.005;
  if (out->alone == 0) out->alone = 0.003;
  if (out->samples == 0) out->samples = 1;
  return out->temperature > 0.01 && out->temperature < 100 && out->slip >= 1e-6 &&
                 out->slip <= 0.4 && out->risk > 0 && out->risk < 1 && out->alone > 0 &&
                 out->alone < 1 && out->samples > 0 && out->samples <= 100000
             ? TALLY_OK
             : TALLY_ERROR_ARGUMENT;
}

TALLY_API tally_result tally_decode(const tally_template *form, const double *probabilities,
                                    const tally_cell *cells, const tally_decode_options *options,
                                    tally_counts *out) {
  tally_decode_options chosen;
  tally_decoder_ *d;
  tally_cases_ cases;
  tally_result result;
  if (!out) return TALLY_ERROR_ARGUMENT;
  memset(out, 0, sizeof *out);
  if (!form || !probabilities || form->fields < 1) return TALLY_ERROR_ARGUMENT;
  TALLY_TRY_(tally_fill_options_(options, &chosen));
  d = (tally_decoder_ *)tally_alloc_zero_(1, sizeof *d);
  if (!d) return TALLY_ERROR_MEMORY;
  memset(&cases, 0, sizeof cases);
  d->form = form;
  d->slip = chosen.slip;
  result = tally_decode_in_(d, probabilities, cells, &chosen, &cases, out);
  TALLY_FREE(cases.outcome);
  TALLY_FREE(cases.weight);
  tally_decoder_free_(d);
  if (result != TALLY_OK) tally_counts_free(out);
  return result;
}

/* ---- 6. totals ----------------------------------------------------------------------------------
   */

/* How large counts are is kept in TALLY_BINS_ steps of a quarter of an octave of value + 2; the
   last bin is for missing. */
#define TALLY_BINS_ 82
#define TALLY_BINS_AN_OCTAVE_ 4
#define TALLY_UNKNOWN_ 5 /* settled counts that weigh as much as knowing nothing */

static double tally_bin_(int value) {
  return TALLY_BINS_AN_OCTAVE_ * (log2(value + 2.0) - 1);
}

/* ---- habits */

TALLY_API tally_result tally_habits_begin(const tally_template *form, tally_habits *out) {
  int f;
  if (!out) return TALLY_ERROR_ARGUMENT;
  memset(out, 0, sizeof *out);
  if (!form || form->fields < 1) return TALLY_ERROR_ARGUMENT;
  out->settled =
      (double *)tally_alloc_zero_((size_t)form->fields * TALLY_BINS_, sizeof *out->settled);
  if (!out->settled) return TALLY_ERROR_MEMORY;
  out->fields = form->fields;
  for (f = 0; f < form->fields; f++) out->values[f] = tally_power_(form->field[f].digits);
  return TALLY_OK;
}

TALLY_API void tally_habits_free(tally_habits *habits) {
  if (!habits) return;
  TALLY_FREE(habits->settled);
  memset(habits, 0, sizeof *habits);
}

TALLY_API tally_result tally_habits_add(tally_habits *habits, const tally_template *form,
                                        const tally_counts *counts) {
  int f, s;
  if (!habits || !habits->settled || !form || !counts || counts->fields != habits->fields ||
      form->fields != habits->fields || counts->sums != form->sums)
    return TALLY_ERROR_ARGUMENT;
  for (s = 0; s < counts->sums; s++) {
    if (form->sum[s].at_most || counts->sum[s].state == TALLY_SUM_UNCHECKED) continue;
    habits->sums++;
    habits->slips += 1 - counts->sum[s].probability;
  }
  for (f = 0; f < habits->fields; f++) {
    const tally_count *count = &counts->count[f];
    if (!tally_is_settled_(count)) continue;
    habits->settled[f * TALLY_BINS_ + (count->value >= 0 ? (int)(tally_bin_(count->value) + 0.5)
                                                         : TALLY_BINS_ - 1)]++;
  }
  return TALLY_OK;
}

TALLY_API double tally_habits_slip(const tally_habits *habits) {
  return habits ? (1 + habits->slips) / (25 + habits->sums) : 0.04;
}

TALLY_API void tally_habits_prior(const tally_habits *habits, int field, double *out) {
  const double *settled = habits->settled + field * TALLY_BINS_;
  int values = habits->values[field], reach = TALLY_BINS_AN_OCTAVE_, v, bin;
  double known = 0, missing = settled[TALLY_BINS_ - 1], sum = 0, all;
  for (bin = 0; bin < TALLY_BINS_ - 1; bin++) known += settled[bin];
  all = known + missing + TALLY_UNKNOWN_;
  for (v = 0; v < values; v++) {
    double at = tally_bin_(v), density = 0;
    for (bin = tally_max_((int)at - reach, 0); bin <= (int)at + reach + 1; bin++)
      if (bin < TALLY_BINS_ - 1 && fabs(at - bin) < reach)
        density += settled[bin] * (1 - fabs(at - bin) / reach);
    out[v] = density / (v + 2); /* a bin's share is its values' together */
    sum += out[v];
  }
  for (v = 0; v < values; v++)
    out[v] = ((sum > 0 ? known * out[v] / sum : 0) + (double)TALLY_UNKNOWN_ / (values + 1) +
              (sum > 0 ? 0 : known / values)) /
             all;
  out[values] = (missing + (double)TALLY_UNKNOWN_ / (values + 1)) / all;
}

/* ---- adding */

struct tally_paper_ {
  int group, registered, high_quality;
  int rows;     /* ways to read it; 0: it was not read */
  size_t first; /* of them */
};

static double *tally_draws_(const tally_totals *totals, int group, int field) {
  return totals->drawn + ((size_t)group * (size_t)totals->fields + (size_t)field) * TALLY_DRAWS;
}

TALLY_API tally_result tally_totals_begin(const tally_template *form, uint64_t seed,
                                          tally_totals *out) {
  size_t draws;
  int f, s;
  if (!out) return TALLY_ERROR_ARGUMENT;
  memset(out, 0, sizeof *out);
  if (!form || form->fields < 1) return TALLY_ERROR_ARGUMENT;
  draws = (size_t)TALLY_GROUPS * (size_t)form->fields * TALLY_DRAWS;
  out->drawn = (double *)tally_alloc_zero_(draws, sizeof *out->drawn);
  if (!out->drawn) return TALLY_ERROR_MEMORY;
  out->fields = form->fields;
  out->seed = seed;
  for (f = 0; f < form->fields; f++) out->values[f] = tally_power_(form->field[f].digits);
  for (s = 0; s < form->sums; s++) out->is_total[form->sum[s].total] = 1;
  return TALLY_OK;
}

TALLY_API void tally_totals_free(tally_totals *totals) {
  if (!totals) return;
  TALLY_FREE(totals->drawn);
  TALLY_FREE(totals->paper);
  TALLY_FREE(totals->row);
  memset(totals, 0, sizeof *totals);
}

/* Room for `more` items of `size` bytes behind `used` ones. */
static tally_result tally_grow_(void **items, size_t *room, size_t used, size_t more, size_t size) {
  size_t wanted = *room ? *room : 64;
  void *grown;
  if (more > SIZE_MAX / 2 - used) return TALLY_ERROR_MEMORY;
  if (used + more <= *room) return TALLY_OK;
  while (wanted < used + more) wanted *= 2;
  if (wanted > SIZE_MAX / size) return TALLY_ERROR_MEMORY;
  grown = TALLY_REALLOC(*items, wanted * size);
  if (!grown) return TALLY_ERROR_MEMORY;
  *items = grown;
  *room = wanted;
  return TALLY_OK;
}

/* Keeps each different sample once, with how often it was drawn. */
static int tally_keep_rows_(tally_totals *totals, const tally_counts *counts) {
  size_t fields = (size_t)totals->fields, stride = fields + 1;
  int *first = totals->row + totals->rows * stride;
  int n = 0, i, k;
  for (i = 0; i < counts->samples; i++) {
    const int *sample = counts->sample + (size_t)i * fields;
    for (k = 0; k < n; k++)
      if (memcmp(first + (size_t)k * stride + 1, sample, fields * sizeof *sample) == 0) break;
    if (k == n) {
      first[(size_t)n * stride] = 0;
      memcpy(first + (size_t)n * stride + 1, sample, fields * sizeof *sample);
      n++;
    }
    first[(size_t)k * stride]++;
  }
  return n;
}

/* What of one count is counted, and its bounds; count NULL: of an unread tally. */
static void tally_add_count_(tally_totals *totals, int group, int field, const tally_count *count,
                             int registered) {
  int limit = totals->values[field] - 1;
  if (registered > 0 && registered < limit) limit = registered;
  if (count && count->value >= 0 && count->status != TALLY_COUNT_INFERRED) {
    totals->read[group][field]++;
    totals->votes[group][field] += count->value;
  } else if (count && count->value < 0 && count->status != TALLY_COUNT_UNREAD) {
    totals->missing[group][field]++;
  } else {
    totals->unread[group][field]++;
  }
  if (count && tally_is_settled_(count)) {
    totals->least[group][field] += tally_max_(count->value, 0);
    totals->most[group][field] += tally_max_(count->value, 0);
  } else {
    totals->most[group][field] += limit;
  }
}

TALLY_API tally_result tally_totals_add(tally_totals *totals, const tally_counts *counts,
                                        const tally_origin *origin) {
  int group = origin ? origin->group : 0, registered = origin ? origin->registered : 0, f, g;
  size_t stride;
  tally_paper_ *paper;
  if (!totals || !totals->drawn || group < 0 || group >= INT_MAX || registered < 0 ||
      (counts && (counts->fields != totals->fields || counts->samples < 1)))
    return TALLY_ERROR_ARGUMENT;
  stride = ((size_t)totals->fields + 1) * sizeof(int);
  TALLY_TRY_(tally_grow_((void **)&totals->paper, &totals->paper_room, totals->papers, 1,
                         sizeof *totals->paper));
  if (counts)
    TALLY_TRY_(tally_grow_((void **)&totals->row, &totals->row_room, totals->rows,
                           (size_t)counts->samples, stride));
  totals->finished = 0;
  totals->groups = tally_max_(totals->groups, group + 1);
  paper = &totals->paper[totals->papers++];
  memset(paper, 0, sizeof *paper);
  paper->group = group;
  paper->registered = registered;
  paper->high_quality = counts && counts->high_quality;
  paper->first = totals->rows;
  if (counts) paper->rows = tally_keep_rows_(totals, counts);
  totals->rows += (size_t)paper->rows;
  totals->unregistered += !counts;
  for (g = 0; g < 1 + paper->high_quality; g++) {
    totals->tallies[g]++;
    for (f = 0; f < totals->fields; f++)
      tally_add_count_(totals, g, f, counts ? &counts->count[f] : NULL, registered);
  }
  return TALLY_OK;
}

/* ---- drawing */

#define TALLY_SPREAD_ 0.7  /* standard deviation of a group's log odds of being misread: assumed */
#define TALLY_OWN_GROUP_ 5 /* tallies read of a group that weigh as much as all others together */

/* One draw of everything. The papers lie by group: place[p] is where paper p lies among all of them
   in this order, and group g's are those from begin[g] to begin[g + 1]. */
typedef struct {
  const tally_totals *totals;
  size_t *begin, *by_group; /* by_group: papers in this order */
  int *reads;               /* how many of each group were read */
  double *factor;           /* of each group: how much more often it is misread in this draw */
  double *cumulated;        /* running sums of the weights as donors, in this order */
  int *row;                 /* which row of each paper is drawn */
} tally_lottery_;

static void tally_lottery_free_(tally_lottery_ *lottery) {
  TALLY_FREE(lottery->begin);
  TALLY_FREE(lottery->by_group);
  TALLY_FREE(lottery->reads);
  TALLY_FREE(lottery->factor);
  TALLY_FREE(lottery->cumulated);
  TALLY_FREE(lottery->row);
}

static tally_result tally_lottery_begin_(const tally_totals *totals, tally_lottery_ *out) {
  size_t groups = (size_t)totals->groups + 1, papers = totals->papers + 1, p, g;
  memset(out, 0, sizeof *out);
  out->totals = totals;
  out->begin = (size_t *)tally_alloc_zero_(groups + 1, sizeof *out->begin);
  out->by_group = (size_t *)tally_alloc_zero_(papers, sizeof *out->by_group);
  out->reads = (int *)tally_alloc_zero_(groups, sizeof *out->reads);
  out->factor = (double *)tally_alloc_zero_(groups, sizeof *out->factor);
  out->cumulated = (double *)tally_alloc_zero_(papers, sizeof *out->cumulated);
  out->row = (int *)tally_alloc_zero_(papers, sizeof *out->row);
  if (!out->begin || !out->by_group || !out->reads || !out->factor || !out->cumulated || !out->row)
    return TALLY_ERROR_MEMORY;
  for (p = 0; p < totals->papers; p++) {
    out->begin[totals->paper[p].group + 2]++;
    out->reads[totals->paper[p].group] += totals->paper[p].rows > 0;
  }
  for (g = 2; g <= groups; g++) out->begin[g] += out->begin[g - 1];
  for (p = 0; p < totals->papers; p++) out->by_group[out->begin[totals->paper[p].group + 1]++] = p;
  return TALLY_OK;
}

/* The way in which a paper that was read is read in this draw. */
static int tally_draw_row_(const tally_totals *totals, const tally_paper_ *paper, double factor,
                           uint64_t *random) {
  size_t stride = (size_t)totals->fields + 1;
  const int *rows = totals->row + paper->first * stride;
  int all = 0, likeliest = 0, i;
  double other, u;
  for (i = 0; i < paper->rows; i++) {
    int times = rows[(size_t)i * stride];
    all += times;
    if (times > rows[(size_t)likeliest * stride]) likeliest = i;
  }
  other = all - rows[(size_t)likeliest * stride];
  if (other <= 0) return 0;
  /* the odds of another reading than the likeliest, times the factor */
  u = tally_uniform_(random) * (factor * other + rows[(size_t)likeliest * stride]) / factor;
  for (i = 0; i < paper->rows; i++) {
    if (i == likeliest) continue;
    u -= rows[(size_t)i * stride];
    if (u < 0) return i;
  }
  return likeliest;
}

/* Index in [from, to) of running sums at which u, above the sum before from, falls. */
static size_t tally_pick_(const double *cumulated, size_t from, size_t to, double u) {
  while (from + 1 < to) {
    size_t middle = from + (to - from) / 2;
    if (u < cumulated[middle - 1])
      to = middle;
    else
      from = middle;
  }
  return from;
}

/* The paper that stands for an unread one. */
static size_t tally_draw_donor_(const tally_lottery_ *lottery, int group, uint64_t *random) {
  size_t from = 0, to = lottery->totals->papers;
  int reads = lottery->reads[group];
  double low, high;
  if (tally_uniform_(random) * (reads + TALLY_OWN_GROUP_) < reads) {
    from = lottery->begin[group];
    to = lottery->begin[group + 1];
  }
  low = from ? lottery->cumulated[from - 1] : 0;
  high = lottery->cumulated[to - 1];
  return lottery->by_group[tally_pick_(lottery->cumulated, from, to,
                                       low + tally_uniform_(random) * (high - low))];
}

/* Adds a paper's row, or a donor's in its stead, to draw i of the totals. */
static void tally_add_row_(const tally_totals *totals, const tally_paper_ *paper,
                           const tally_paper_ *from, int row, int i) {
  const int *value = totals->row + (from->first + (size_t)row) * ((size_t)totals->fields + 1) + 1;
  int f, g;
  for (g = 0; g < 1 + paper->high_quality; g++)
    for (f = 0; f < totals->fields; f++) {
      int v = tally_max_(value[f], 0);
      if (paper->registered > 0 && paper->rows == 0) v = tally_min_(v, paper->registered);
      tally_draws_(totals, g, f)[i] += v;
    }
}

/* Standard normal (Box and Muller 1958). */
static double tally_normal_(uint64_t *random) {
  double radius = sqrt(-2 * log(1 - tally_uniform_(random)));
  return radius * cos(6.283185307179586 * tally_uniform_(random));
}

/* One draw of all tallies: first how groups are misread and how often each paper stands for others,
   then every paper. */
static void tally_draw_all_(tally_lottery_ *lottery, int i, int reads, uint64_t *random) {
  const tally_totals *totals = lottery->totals;
  size_t p;
  double sum = 0;
  int g;
  for (g = 0; g < totals->groups; g++)
    lottery->factor[g] = exp(TALLY_SPREAD_ * tally_normal_(random));
  for (p = 0; p < totals->papers; p++) {
    const tally_paper_ *paper = &totals->paper[p];
    if (paper->rows == 0) continue;
    lottery->row[p] =
        paper->rows > 1 ? tally_draw_row_(totals, paper, lottery->factor[paper->group], random) : 0;
    if (paper->rows > 1) tally_add_row_(totals, paper, paper, lottery->row[p], i);
  }
  if (reads == 0 || totals->unregistered == 0) return;
  for (p = 0; p < totals->papers; p++) {
    if (totals->paper[lottery->by_group[p]].rows > 0) sum -= log(1 - tally_uniform_(random));
    lottery->cumulated[p] = sum;
  }
  for (p = 0; p < totals->papers; p++) {
    const tally_paper_ *paper = &totals->paper[p];
    size_t donor;
    if (paper->rows > 0) continue;
    donor = tally_draw_donor_(lottery, paper->group, random);
    tally_add_row_(totals, paper, &totals->paper[donor], lottery->row[donor], i);
  }
}

TALLY_API tally_result tally_totals_finish(tally_totals *totals) {
  size_t draws, p;
  tally_lottery_ lottery;
  tally_result result;
  uint64_t random;
  int i, reads = 0;
  if (!totals || !totals->drawn) return TALLY_ERROR_ARGUMENT;
  totals->finished = 0;
  draws = (size_t)TALLY_GROUPS * (size_t)totals->fields * TALLY_DRAWS;
  memset(totals->drawn, 0, draws * sizeof *totals->drawn);
  result = tally_lottery_begin_(totals, &lottery);
  random = totals->seed;
  for (p = 0; p < totals->papers && result == TALLY_OK; p++) {
    reads += totals->paper[p].rows > 0;
    for (i = 0; i < TALLY_DRAWS && totals->paper[p].rows == 1; i++)
      tally_add_row_(totals, &totals->paper[p], &totals->paper[p], 0, i);
  }
  for (i = 0; i < TALLY_DRAWS && result == TALLY_OK; i++)
    tally_draw_all_(&lottery, i, reads, &random);
  tally_lottery_free_(&lottery);
  totals->finished = result == TALLY_OK;
  return result;
}

/* ---- what is reported */

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

static int tally_in_share_(const tally_totals *totals, const int *in_share, int field) {
  return in_share ? in_share[field] != 0 : !totals->is_total[field];
}

static double tally_ratio_(double part, double rest) {
  return part + rest > 0 ? part / (part + rest) : 0;
}

TALLY_API tally_result tally_totals_get(const tally_totals *totals, int group, int field,
                                        const int *in_share, tally_total *out) {
  double values[TALLY_DRAWS], others_least = 0, others_most = 0;
  int i, f;
  if (!totals || !totals->finished || !out || group < 0 || group >= TALLY_GROUPS || field < 0 ||
      field >= totals->fields)
    return TALLY_ERROR_ARGUMENT;
  memset(out, 0, sizeof *out);
  out->votes = totals->votes[group][field];
  out->read = totals->read[group][field];
  out->missing = totals->missing[group][field];
  out->unread = totals->unread[group][field];
  out->least = totals->least[group][field];
  out->most = totals->most[group][field];
  if (totals->tallies[group])
    out->covered = (double)(out->read + out->missing) / totals->tallies[group];
  memcpy(values, tally_draws_(totals, group, field), sizeof values);
  tally_interval_(values, &out->estimate, &out->low, &out->high);
  memset(values, 0, sizeof values);
  for (f = 0; f < totals->fields; f++) {
    if (!tally_in_share_(totals, in_share, f)) continue;
    for (i = 0; i < TALLY_DRAWS; i++) values[i] += tally_draws_(totals, group, f)[i];
    if (f == field) continue;
    others_least += totals->least[group][f];
    others_most += totals->most[group][f];
  }
  for (i = 0; i < TALLY_DRAWS; i++)
    values[i] = values[i] > 0 ? tally_draws_(totals, group, field)[i] / values[i] : 0;
  tally_interval_(values, &out->share, &out->share_low, &out->share_high);
  out->share_least = tally_ratio_(out->least, others_most);
  out->share_most = tally_ratio_(out->most, others_least);
  return TALLY_OK;
}

/* Largest covariance, over papers, of being unread with the share that a field has among those read
   of the group. unread[p] says which papers are taken to be unread. */
static double tally_covariance_(const tally_totals *totals, const double *share,
                                const uint8_t *unread) {
  double most = 0, rate = 0;
  size_t p;
  int f;
  for (p = 0; p < totals->papers; p++) rate += unread[p];
  rate /= (double)totals->papers;
  for (f = 0; f < totals->fields; f++) {
    double sum = 0;
    for (p = 0; p < totals->papers; p++)
      sum += (unread[p] - rate) *
             share[(size_t)totals->paper[p].group * (size_t)totals->fields + (size_t)f];
    most = fabs(sum) > most ? fabs(sum) : most;
  }
  return most;
}

TALLY_API double tally_totals_unevenness(const tally_totals *totals, const int *in_share) {
  size_t fields, p, swap;
  double *share, seen;
  uint8_t *unread;
  uint64_t random;
  int f, g, round, as_large = 1;
  if (!totals || totals->groups < 2 || totals->unregistered == 0) return 1;
  fields = (size_t)totals->fields;
  share = (double *)tally_alloc_zero_((size_t)totals->groups * fields, sizeof *share);
  unread = (uint8_t *)tally_alloc_zero_(totals->papers, 1);
  if (share && unread) {
    for (p = 0; p < totals->papers; p++) {
      const int *row = totals->row + totals->paper[p].first * (fields + 1) + 1;
      unread[p] = totals->paper[p].rows == 0;
      for (f = 0; f < totals->fields && !unread[p]; f++)
        if (tally_in_share_(totals, in_share, f))
          share[(size_t)totals->paper[p].group * fields + (size_t)f] += tally_max_(row[f], 0);
    }
    for (g = 0; g < totals->groups; g++) {
      double *of = share + (size_t)g * fields, all = 0;
      for (f = 0; f < totals->fields; f++) all += of[f];
      for (f = 0; f < totals->fields && all > 0; f++) of[f] /= all;
    }
    seen = tally_covariance_(totals, share, unread);
    random = totals->seed;
    for (round = 0; round < 999; round++) {
      for (p = totals->papers; p > 1; p--) { /* Fisher and Yates 1938 */
        uint8_t kept = unread[p - 1];
        swap = (size_t)(tally_uniform_(&random) * (double)p);
        unread[p - 1] = unread[swap];
        unread[swap] = kept;
      }
      as_large += tally_covariance_(totals, share, unread) >= seen * (1 - 1e-12);
    }
  }
  as_large = share && unread ? as_large : -1000;
  TALLY_FREE(share);
  TALLY_FREE(unread);
  return as_large / 1000.0;
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
