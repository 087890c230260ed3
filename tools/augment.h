/* augment.h - random changes to training pictures: a piece cut out, colours, turns, zooms, shifts,
   elastic bends, mirroring.

   Internal to tools/; include it after tool.h. Each picture's changes are drawn from a seed of its
   own, so they do not depend on which thread makes them, or when. In this order: piece and resizing,
   colours, then one warp for everything that moves pixels, so that they are interpolated once. */
#ifndef TALLY_AUGMENT_H
#define TALLY_AUGMENT_H

/* What may happen to a picture; all zero: nothing. */
typedef struct augmentation {
  float crop; /* smallest share of the area of the piece that is cut out; 0: the whole picture */
  float brightness, contrast, saturation; /* factors up to 1 +- this */
  float hue;                              /* turns of the colour circle up to this, 0 to 0.5 */
  float rotate;                           /* degrees */
  float zoom;                             /* factors of height and width up to 1 +- this */
  float shift, elastic;                   /* pixels of the network's input */
  int flip;
} augmentation;

static inline int augments_colours(const augmentation *set) {
  return set->brightness > 0 || set->contrast > 0 || set->saturation > 0 || set->hue > 0;
}

static inline int augments_shape(const augmentation *set) {
  return set->rotate > 0 || set->zoom > 0 || set->shift > 0 || set->elastic > 0 || set->flip;
}

static inline float uniform_between(cn_random *random, float low, float high) {
  return low + (high - low) * cn_random_uniform(random);
}

static inline float clamp(float value, float low, float high) {
  return value < low ? low : value > high ? high : value;
}

/* ---- a piece cut out ------------------------------------------------------------------------- */

#define CROP_RATIO (4.0f / 3.0f) /* sides of the piece, as seen in the input: 3:4 to 4:3 */

typedef struct crop_box {
  int top, left, height, width;
} crop_box;

/* Random resized crop (Szegedy et al. 2015), drawn as torchvision's RandomResizedCrop does: a share
   of the area uniform in [crop, 1] and the logarithm of the ratio of the sides uniform, ten attempts
   to fit that into the picture, else the largest piece in the middle whose ratio is allowed. Ratios
   are relative to the network's input. */
static inline crop_box draw_crop(const augmentation *set, const picture *from,
                                 const preprocess *pre, cn_random *random) {
  crop_box box;
  double height = from->height, width = from->width;
  double square = (double)pre->width / pre->height, limit = log((double)CROP_RATIO);
  for (int attempt = 0; attempt < 10; attempt++) {
    double area = (double)uniform_between(random, set->crop, 1) * height * width;
    double ratio = square * exp(limit * (2 * (double)cn_random_uniform(random) - 1));
    double piece_width = rint(sqrt(area * ratio)), piece_height = rint(sqrt(area / ratio));
    if (!(piece_width >= 1 && piece_width <= width && piece_height >= 1 && piece_height <= height))
      continue;
    box.height = (int)piece_height;
    box.width = (int)piece_width;
    box.top = (int)cn_random_below(random, (uint32_t)(from->height - box.height + 1));
    box.left = (int)cn_random_below(random, (uint32_t)(from->width - box.width + 1));
    return box;
  }
  double least = square / (double)CROP_RATIO, most = square * (double)CROP_RATIO;
  box.height = width / height < least ? (int)fmax(1, rint(width / least)) : from->height;
  box.width = width / height > most ? (int)fmax(1, rint(height * most)) : from->width;
  box.top = (from->height - box.height) / 2;
  box.left = (from->width - box.width) / 2;
  return box;
}

/* The piece at the network's input size. Pixels outside it do not count. */
static inline void crop_resized(const picture *from, crop_box box, const preprocess *pre,
                                uint8_t *to) {
  size_t channels = (size_t)from->channels, row = (size_t)box.width * channels;
  uint8_t *piece = allocate((size_t)box.height, row);
  for (size_t y = 0; y < (size_t)box.height; y++)
    memcpy(piece + y * row,
           from->pixels +
               (((size_t)box.top + y) * (size_t)from->width + (size_t)box.left) * channels,
           row);
  resize_squash(piece, box.height, box.width, to, pre->height, pre->width, from->channels);
  free(piece);
}

/* ---- colours --------------------------------------------------------------------------------- */

static inline uint8_t colour_byte(float value) {
  return (uint8_t)(clamp(value, 0, 255) + 0.5f);
}

/* Luminance of a pixel, in levels (Rec. 601). */
static inline float luminance(const uint8_t *pixel, int channels) {
  if (channels == 1) return (float)pixel[0];
  return 0.299f * (float)pixel[0] + 0.587f * (float)pixel[1] + 0.114f * (float)pixel[2];
}

/* Turns a colour's hue by a share of the circle; its largest and smallest values stay. */
static inline void turn_hue(uint8_t *rgb, float turns) {
  float red = (float)rgb[0], green = (float)rgb[1], blue = (float)rgb[2];
  float most = fmaxf(red, fmaxf(green, blue)), least = fminf(red, fminf(green, blue));
  float chroma = most - least;
  if (chroma <= 0) return;
  float sector = most == red     ? (green - blue) / chroma
                 : most == green ? 2 + (blue - red) / chroma
                                 : 4 + (red - green) / chroma;
  for (int c = 0; c < 3; c++) {
    /* distance on the circle, in sixths, between the hue and the one this channel is largest at */
    float away = fabsf(fmodf(sector + 6 * turns + 15 - 2 * (float)c, 6) - 3);
    rgb[c] = colour_byte(most - chroma * clamp(away - 1, 0, 1));
  }
}

/* The four changes of colour, in place, with the meaning of torchvision's adjust_*: brightness scales
   from black, contrast from the picture's mean luminance, saturation from each pixel's own. Grey
   pictures have no saturation and no hue. */
static inline void adjust_brightness(uint8_t *bytes, size_t pixels, int channels, float factor) {
  for (size_t i = 0; i < pixels * (size_t)channels; i++)
    bytes[i] = colour_byte(factor * (float)bytes[i]);
}

static inline void adjust_contrast(uint8_t *bytes, size_t pixels, int channels, float factor) {
  size_t size = pixels * (size_t)channels;
  double sum = 0;
  for (size_t i = 0; i < size; i += (size_t)channels) sum += (double)luminance(bytes + i, channels);
  float mean = (float)(sum / (double)pixels);
  for (size_t i = 0; i < size; i++)
    bytes[i] = colour_byte(mean + factor * ((float)bytes[i] - mean));
}

static inline void adjust_saturation(uint8_t *bytes, size_t pixels, int channels, float factor) {
  if (channels != 3) return;
  for (size_t i = 0; i < pixels * 3; i += 3) {
    float grey = luminance(bytes + i, 3);
    for (size_t c = i; c < i + 3; c++)
      bytes[c] = colour_byte(grey + factor * ((float)bytes[c] - grey));
  }
}

static inline void adjust_hue(uint8_t *bytes, size_t pixels, int channels, float turns) {
  if (channels != 3) return;
  for (size_t i = 0; i < pixels * 3; i += 3) turn_hue(bytes + i, turns);
}

/* Colour jitter, in place: each change that is switched on, by a factor uniform in 1 +- its option,
   in an order drawn anew each time, as torchvision's ColorJitter does. */
static inline void jitter_colours(const augmentation *set, int channels, size_t pixels,
                                  cn_random *random, uint8_t *bytes) {
  static void (*const changes[])(uint8_t *, size_t, int, float) = {
      adjust_brightness, adjust_contrast, adjust_saturation, adjust_hue};
  const float reach[4] = {set->brightness, set->contrast, set->saturation, set->hue};
  float amounts[4];
  int order[4] = {0, 1, 2, 3};
  for (int k = 0; k < 3; k++)
    amounts[k] = uniform_between(random, fmaxf(0, 1 - reach[k]), 1 + reach[k]);
  amounts[3] = uniform_between(random, -set->hue, set->hue);
  cn_random_shuffle(random, order, 4);
  for (int k = 0; k < 4; k++)
    if (reach[order[k]] > 0) changes[order[k]](bytes, pixels, channels, amounts[order[k]]);
}

/* ---- warps ----------------------------------------------------------------------------------- */

/* Control points of the elastic field per side: a cubic B-spline over 4 intervals needs 4 + 3. One
   interval is a quarter of the picture, about the smoothness that Simard, Steinkraus & Platt (2003)
   found best for digits (a Gaussian of 4 pixels on 29). */
#define ELASTIC_POINTS 7
/* Deviation of the spline's value when its control points have deviation 1, averaged over a cell:
   the integral of B(t)^2 is 151/315 in each of two dimensions. */
#define ELASTIC_DEVIATION 0.479365f

/* A field of smooth random displacements: control points, and for each column or row of the picture
   the first control point it feels and the weights of that and the next three. */
typedef struct spline {
  int *first;
  float (*weights)[4];
} spline;

static inline spline spline_create(int size) {
  spline out;
  out.first = allocate((size_t)size, sizeof *out.first);
  out.weights = allocate((size_t)size, sizeof *out.weights);
  for (int i = 0; i < size; i++) {
    float u = ((float)i + 0.5f) / (float)size * (float)(ELASTIC_POINTS - 3);
    int cell = (int)u;
    float t = u - (float)cell, s = 1 - t;
    out.first[i] = cell;
    out.weights[i][0] = s * s * s / 6;
    out.weights[i][1] = (3 * t * t * t - 6 * t * t + 4) / 6;
    out.weights[i][2] = (3 * s * s * s - 6 * s * s + 4) / 6;
    out.weights[i][3] = t * t * t / 6;
  }
  return out;
}

static inline void spline_free(spline *s) {
  free(s->first);
  free(s->weights);
}

/* What augmenting needs beside the picture: the options, and tables made once. */
typedef struct augmenter {
  const augmentation *set;
  const preprocess *pre;
  spline rows, columns;
} augmenter;

static inline augmenter augmenter_create(const augmentation *set, const preprocess *pre) {
  augmenter with = {set, pre, spline_create(pre->height), spline_create(pre->width)};
  return with;
}

static inline void augmenter_free(augmenter *with) {
  spline_free(&with->rows);
  spline_free(&with->columns);
}

/* Where an output pixel comes from: source = matrix * (output - centre) + centre + offset. */
typedef struct warp {
  float matrix[2][2], offset[2]; /* y first */
} warp;

static inline warp draw_warp(const augmentation *set, cn_random *random) {
  float angle = uniform_between(random, -set->rotate, set->rotate) * 3.14159265f / 180;
  float zoom_y = uniform_between(random, 1 - set->zoom, 1 + set->zoom);
  float zoom_x = uniform_between(random, 1 - set->zoom, 1 + set->zoom);
  float mirror = set->flip && cn_random_below(random, 2) ? -1.0f : 1.0f;
  warp out;
  out.matrix[0][0] = cosf(angle) / zoom_y;
  out.matrix[0][1] = -sinf(angle) / zoom_y;
  out.matrix[1][0] = sinf(angle) / zoom_x * mirror;
  out.matrix[1][1] = cosf(angle) / zoom_x * mirror;
  out.offset[0] = uniform_between(random, -set->shift, set->shift);
  out.offset[1] = uniform_between(random, -set->shift, set->shift);
  return out;
}

/* Copies bytes into floats with one pixel of black before and two behind, so that interpolation at
   any position in [-1, size] stays inside the buffer. */
static inline void pad_picture(const preprocess *pre, const uint8_t *bytes, float *padded) {
  size_t channels = (size_t)pre->channels, row = (size_t)pre->width * channels;
  size_t pitch = row + 3 * channels;
  memset(padded, 0, pitch * ((size_t)pre->height + 3) * sizeof(float));
  for (size_t y = 0; y < (size_t)pre->height; y++)
    for (size_t i = 0; i < row; i++)
      padded[(y + 1) * pitch + channels + i] = (float)bytes[y * row + i];
}

static inline size_t padded_size(const preprocess *pre) {
  return ((size_t)pre->height + 3) * ((size_t)pre->width + 3) * (size_t)pre->channels;
}

/* Bilinear value of each channel at (y, x) of a padded picture, as the network's input. */
static inline void sample_pixel(const preprocess *pre, const float *padded, float y, float x,
                                float *to) {
  y = clamp(y, -1, (float)pre->height) + 1;
  x = clamp(x, -1, (float)pre->width) + 1;
  int row = (int)y, column = (int)x;
  float down = y - (float)row, right = x - (float)column;
  size_t channels = (size_t)pre->channels, pitch = ((size_t)pre->width + 3) * channels;
  const float *at = padded + (size_t)row * pitch + (size_t)column * channels;
  for (size_t c = 0; c < channels; c++) {
    float top = at[c] + right * (at[c + channels] - at[c]);
    float bottom = at[c + pitch] + right * (at[c + pitch + channels] - at[c + pitch]);
    float value = (top + down * (bottom - top)) / 255.0f;
    to[c] = (value - pre->mean[c]) / pre->deviation[c];
  }
}

/* One picture of the network's input size as its input, warped as the random stream says. */
static inline void warp_picture(const augmenter *with, const uint8_t *bytes, cn_random *random,
                                float *padded, float *to) {
  const preprocess *pre = with->pre;
  warp map = draw_warp(with->set, random);
  float points[ELASTIC_POINTS][ELASTIC_POINTS][2], line[ELASTIC_POINTS][2];
  int elastic = with->set->elastic > 0;
  float strength = with->set->elastic / ELASTIC_DEVIATION;
  if (elastic)
    for (int i = 0; i < ELASTIC_POINTS * ELASTIC_POINTS * 2; i++)
      points[i / (2 * ELASTIC_POINTS)][i / 2 % ELASTIC_POINTS][i % 2] =
          strength * cn_random_normal(random);
  pad_picture(pre, bytes, padded);
  float centre_y = 0.5f * (float)(pre->height - 1), centre_x = 0.5f * (float)(pre->width - 1);
  for (int y = 0; y < pre->height; y++) {
    if (elastic)
      for (int k = 0; k < 2 * ELASTIC_POINTS; k++) {
        float sum = 0;
        for (int t = 0; t < 4; t++)
          sum += with->rows.weights[y][t] * points[with->rows.first[y] + t][k / 2][k % 2];
        line[k / 2][k % 2] = sum;
      }
    float dy = (float)y - centre_y;
    for (int x = 0; x < pre->width; x++) {
      float dx = (float)x - centre_x;
      float from_y = map.matrix[0][0] * dy + map.matrix[0][1] * dx + centre_y + map.offset[0];
      float from_x = map.matrix[1][0] * dy + map.matrix[1][1] * dx + centre_x + map.offset[1];
      if (elastic)
        for (int t = 0; t < 4; t++) {
          const float *point = line[with->columns.first[x] + t];
          from_y += with->columns.weights[x][t] * point[0];
          from_x += with->columns.weights[x][t] * point[1];
        }
      sample_pixel(pre, padded, from_y, from_x,
                   to + ((size_t)y * (size_t)pre->width + (size_t)x) * (size_t)pre->channels);
    }
  }
}

/* ---- all of it ------------------------------------------------------------------------------- */

/* Streams of one picture's seed; the warp's is the seed itself. */
enum { AUGMENT_CROP = 1, AUGMENT_COLOURS };

/* What one thread needs: room for a picture of the input's size, as bytes and padded. */
typedef struct augment_room {
  uint8_t *bytes;
  float *padded;
} augment_room;

static inline augment_room augment_room_create(const preprocess *pre) {
  augment_room room = {allocate(preprocess_size(pre), 1),
                       allocate(padded_size(pre), sizeof(float))};
  return room;
}

static inline void augment_room_free(augment_room *room) {
  free(room->bytes);
  free(room->padded);
}

/* A sample as the network's input, changed as the seed says. */
static inline void augment_sample(const augmenter *with, const dataset *data, int index,
                                  uint64_t seed, augment_room *room, float *to) {
  const preprocess *pre = with->pre;
  const uint8_t *bytes = room->bytes;
  cn_random random = {mix_seed(seed, AUGMENT_CROP), 0};
  if (with->set->crop > 0) {
    int own;
    picture from = dataset_original(data, index, pre, &own);
    crop_resized(&from, draw_crop(with->set, &from, pre, &random), pre, room->bytes);
    if (own) free(from.pixels);
  } else {
    bytes = dataset_bytes(data, index, pre, room->bytes);
  }
  if (augments_colours(with->set)) {
    random = (cn_random){mix_seed(seed, AUGMENT_COLOURS), 0};
    if (bytes != room->bytes) memcpy(room->bytes, bytes, preprocess_size(pre));
    bytes = room->bytes;
    jitter_colours(with->set, pre->channels, (size_t)pre->height * (size_t)pre->width, &random,
                   room->bytes);
  }
  random = (cn_random){seed, 0};
  if (augments_shape(with->set))
    warp_picture(with, bytes, &random, room->padded, to);
  else
    preprocess_bytes(pre, bytes, to);
}

#endif
