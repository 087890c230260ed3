/* Several labels a picture: is there an upright stroke, is there a level one? Any of both, or none.

     cc -O2 -I. examples/multilabel.c -o multilabel -lm */
#define CONVNET_IMPLEMENTATION
#include "convnet.h"
#include <stdio.h>

enum { COUNT = 100, SIDE = 8, PIXELS = SIDE * SIDE, LABELS = 2 };
static float images[COUNT][PIXELS], targets[COUNT * LABELS], answers[COUNT * LABELS];

static void draw(cn_random *random) {
  for (int i = 0; i < COUNT; i++) {
    const int column = (int)cn_random_below(random, SIDE), row = (int)cn_random_below(random, SIDE);
    for (int k = 0; k < LABELS; k++) targets[i * LABELS + k] = (float)cn_random_below(random, 2);
    for (int p = 0; p < PIXELS; p++)
      images[i][p] = (float)((targets[i * LABELS] > 0 && p % SIDE == column) ||
                             (targets[i * LABELS + 1] > 0 && p / SIDE == row));
  }
}

int main(void) {
  cn_error error;
  cn_random random = {1, 0};
  const cn_batch batch = {.count = COUNT, .inputs = images[0], .targets = targets};
  cn_metrics metrics = {0, 0};
  cn_network *net = cn_network_parse(
      "input 8x8x1\nconv 8 3x3 pad=1\nrelu\ndense 16\nrelu\ndense 2\nsigmoid\n", &error);
  cn_trainer *trainer = net ? cn_trainer_create(net, COUNT, NULL, &error) : NULL;
  for (int step = 0; trainer && step < 400; step++, draw(&random))
    if (cn_train_step(trainer, &batch, &metrics, &error)) return puts(error.message), 1;
  cn_predictor *predictor = trainer ? cn_predictor_create(net, COUNT, NULL, &error) : NULL;
  if (!predictor) return puts(error.message), 1;
  cn_predict(predictor, images[0], COUNT, answers); /* the last pictures, which it has not seen */
  int right = 0;
  for (int i = 0; i < COUNT * LABELS; i++) right += (answers[i] > 0.5f) == (targets[i] > 0.5f);
  printf("%d of %d labels right\n", right, COUNT * LABELS);
  cn_predictor_free(predictor), cn_trainer_free(trainer), cn_network_free(net);
  return right < 9 * COUNT * LABELS / 10;
}
