/* Any feature map: what the filters of a layer see in a picture, and a layer's values as an embedding.

     cc -O2 -I. examples/maps.c -o maps -lm */
#define CONVNET_IMPLEMENTATION
#include "convnet.h"
#include <math.h>
#include <stdio.h>
enum { SIDE = 28, PIXELS = SIDE * SIDE, SIZE = 50 };
static float pictures[3 * PIXELS], outputs[3 * 10]; /* two rings, a stroke */

static double distance(const float *a, const float *b) {
  double sum = 0;
  for (int i = 0; i < SIZE; i++) sum += pow((double)a[i] - (double)b[i], 2);
  return sqrt(sum);
}

int main(void) {
  for (int p = 0; p < PIXELS; p++) {
    const int x = p % SIDE - 14, y = p / SIDE - 14, d = x * x + y * y;
    pictures[p] = (float)(d > 50 && d < 90), pictures[PIXELS + p] = (float)(d > 55 && d < 95);
    pictures[2 * PIXELS + p] = (float)(x > -2 && x < 2 && y > -9 && y < 9);
  }
  cn_error error;
  cn_network *net = cn_arch_network("base", NULL, &error); /* not trained: cn_load has others */
  if (!net) return puts(error.message), 1;
  const int keep[] = {cn_network_find(net, "conv1"), cn_network_find(net, "relu4")};
  const cn_predict_options options = {.keep = keep, .keep_count = 2};
  cn_predictor *predictor = cn_predictor_create(net, 3, &options, &error);
  if (!predictor) return puts(error.message), 1;
  cn_predict(predictor, pictures, 3, outputs);
  const float *map = cn_predictor_feature_map(predictor, keep[0]); /* [3][28][28][16]; filter 5: */
  for (int p = 0; p < PIXELS; p += p % SIDE == SIDE - 2 ? SIDE + 2 : 2)
    printf("%c%s", fabsf(map[p * 16 + 5]) > 0.1f ? '#' : '.', p % SIDE == SIDE - 2 ? "\n" : "");
  const float *embedding = cn_predictor_feature_map(predictor, keep[1]); /* [3][50] */
  const double rings = distance(embedding, embedding + SIZE),
               stroke = distance(embedding, embedding + 2 * SIZE);
  printf("a ring is %.3f from another ring, %.3f from a stroke\n", rings, stroke);
  cn_predictor_free(predictor), cn_network_free(net);
  return rings > stroke;
}
