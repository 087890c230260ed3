/* Reads a digit with a trained network: one image in, ten probabilities out.

     cc -O2 -I. examples/predict.c -o predict -lm
     ./predict digits.safetensors data/t10k-images-idx3-ubyte 7      network, IDX file, number of image */
#define CONVNET_IMPLEMENTATION
#include "convnet.h"

#include <stdio.h>
#include <stdlib.h>

enum { SIDE = 28, PIXELS = SIDE * SIDE, HEADER = 16 };

/* Reads image `number` (from 0) of an IDX file, values 0 to 1. Returns 0 on failure. */
static int read_image(const char *path, long number, float *image) {
  unsigned char bytes[PIXELS];
  FILE *file = fopen(path, "rb");
  int ok = file && number >= 0 && fseek(file, HEADER + number * PIXELS, SEEK_SET) == 0 &&
           fread(bytes, 1, PIXELS, file) == PIXELS;
  if (file) fclose(file);
  for (int i = 0; ok && i < PIXELS; i++) image[i] = (float)bytes[i] / 255.0f;
  return ok;
}

static void print_image(const float *image) {
  for (int y = 0; y < SIDE; y++) {
    for (int x = 0; x < SIDE; x++) putchar(" .+#"[(int)(image[y * SIDE + x] * 3.999f)]);
    putchar('\n');
  }
}

int main(int argc, char **argv) {
  float image[PIXELS], probabilities[10];
  cn_error error;
  if (argc != 4) {
    fprintf(stderr, "usage: %s NETWORK IDX-FILE NUMBER\n", argv[0]);
    return 2;
  }
  if (!read_image(argv[2], atol(argv[3]), image)) {
    fprintf(stderr, "%s has no image %s\n", argv[2], argv[3]);
    return 1;
  }
  cn_network *net = cn_load(argv[1], &error);
  cn_predictor *predictor = net ? cn_predictor_create(net, 1, NULL, &error) : NULL;
  if (!predictor) {
    fprintf(stderr, "%s\n", error.message);
    return 1;
  }
  if (cn_network_node(net, 0)->shape.height != SIDE || cn_predictor_outputs(predictor) != 10) {
    fprintf(stderr, "%s does not read digits of 28 x 28\n", argv[1]);
    return 1;
  }
  cn_predict(predictor, image, 1, probabilities);
  print_image(image);
  for (int digit = 0; digit < 10; digit++)
    printf("%d  %5.1f %%\n", digit, 100.0 * (double)probabilities[digit]);
  cn_predictor_free(predictor);
  cn_network_free(net);
  return 0;
}
