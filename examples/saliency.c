/* What drove a prediction: the gradient of a class by the picture's pixels, times the pixels.

     cc -O2 -I. examples/saliency.c -o saliency -lm && ./saliency */
#define CONVNET_IMPLEMENTATION
#include "convnet.h"
#include <stdio.h>

enum { COUNT = 50, SIDE = 8, PIXELS = SIDE * SIDE };
static float images[COUNT * PIXELS];
static int labels[COUNT];
int main(void) { /* class 1 has a bright square, and noise is everywhere */
  cn_error error;
  cn_random random = {1, 0};
  cn_network *net = cn_network_parse(
      "input 8x8x1\nconv 8 3x3 pad=1\nrelu\nmaxpool 2x2\ndense 2\nsoftmax\n", &error);
  cn_trainer *trainer = net ? cn_trainer_create(net, COUNT, NULL, &error) : NULL;
  const cn_batch batch = {.count = COUNT, .inputs = images, .labels = labels};
  for (int step = 0; trainer && step < 300; step++) {
    for (int i = 0; i < COUNT * PIXELS; i++) images[i] = 0.3f * cn_random_uniform(&random);
    for (int i = 0; i < COUNT; i++) {
      const int at = (int)cn_random_below(&random, 6) * SIDE + (int)cn_random_below(&random, 6);
      float *corner = images + i * PIXELS + at;
      labels[i] = i % 2;
      for (int p = 0; p < 4 && labels[i]; p++) corner[p / 2 * SIDE + p % 2] = 1.0f;
    }
    if (cn_train_step(trainer, &batch, NULL, &error)) return puts(error.message), 1;
  }
  const cn_predict_options options = {.gradients = 1, .logits = 1};
  cn_predictor *predictor = trainer ? cn_predictor_create(net, 1, &options, &error) : NULL;
  if (!predictor) return puts(error.message), 1;
  float of_class_1[2] = {0, 1}, gradient[PIXELS], *to = gradient, most = 0;
  const float *picture = images + (COUNT - 1) * PIXELS, *derivative = of_class_1;
  if (cn_input_gradient(predictor, &picture, 1, &derivative, NULL, &to, &error)) return 1;
  for (int p = 0; p < PIXELS; p++) gradient[p] *= picture[p];
  for (int p = 0; p < PIXELS; p++) most = gradient[p] > most ? gradient[p] : most;
  for (int p = 0; p < PIXELS; p++)
    printf("%c%s", ".:+#"[gradient[p] > 0 ? (int)(3 * gradient[p] / most) : 0],
           p % SIDE == SIDE - 1 ? "\n" : "");
  cn_predictor_free(predictor), cn_trainer_free(trainer), cn_network_free(net);
}
