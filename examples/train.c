/* Trains a network on MNIST, in as few lines as that takes: reads the IDX files, makes mini-batches in
   a random order, saves the network.

     cc -O2 -I. examples/train.c -o train -lm
     ./train data digits.safetensors 3        folder with MNIST, file to write, epochs */
#define CONVNET_IMPLEMENTATION
#include "convnet.h"

#include <stdio.h>
#include <stdlib.h>

enum { BATCH = 200, PIXELS = 28 * 28, HEADER_IMAGES = 16, HEADER_LABELS = 8 };

/* A whole file in memory, freed by the caller; leaves the program if it cannot be read. */
static unsigned char *read_file(const char *folder, const char *name, size_t *bytes) {
  char path[1024];
  snprintf(path, sizeof path, "%s/%s", folder, name);
  FILE *file = fopen(path, "rb");
  if (!file || fseek(file, 0, SEEK_END) != 0) {
    perror(path);
    exit(1);
  }
  long size = ftell(file);
  rewind(file);
  unsigned char *content = (unsigned char *)malloc((size_t)size + 1);
  if (!content || fread(content, 1, (size_t)size, file) != (size_t)size) {
    fprintf(stderr, "%s: cannot be read\n", path);
    exit(1);
  }
  fclose(file);
  *bytes = (size_t)size;
  return content;
}

/* Fills the batch with the images and labels that order names; pixels become 0 to 1. */
static void fill_batch(const unsigned char *images, const unsigned char *labels, const int *order,
                       float *batch_images, int *batch_labels) {
  for (int i = 0; i < BATCH; i++) {
    const unsigned char *image = images + HEADER_IMAGES + (size_t)order[i] * PIXELS;
    for (int p = 0; p < PIXELS; p++) batch_images[i * PIXELS + p] = (float)image[p] / 255.0f;
    batch_labels[i] = labels[HEADER_LABELS + order[i]];
  }
}

int main(int argc, char **argv) {
  if (argc != 4) {
    fprintf(stderr, "usage: %s FOLDER-WITH-MNIST NETWORK-TO-WRITE EPOCHS\n", argv[0]);
    return 2;
  }
  size_t image_bytes, label_bytes;
  unsigned char *images = read_file(argv[1], "train-images-idx3-ubyte", &image_bytes);
  unsigned char *labels = read_file(argv[1], "train-labels-idx1-ubyte", &label_bytes);
  int count = (int)((image_bytes - HEADER_IMAGES) / PIXELS), epochs = atoi(argv[3]);
  if (count < BATCH || label_bytes != (size_t)count + HEADER_LABELS) {
    fprintf(stderr, "%s: images and labels do not belong together\n", argv[1]);
    return 1;
  }

  cn_error error;
  cn_network *net = cn_arch_network("base", NULL, &error);
  cn_training_options options = cn_training_defaults();
  cn_trainer *trainer = net ? cn_trainer_create(net, BATCH, &options, &error) : NULL;
  float *batch_images = (float *)malloc(sizeof(float) * BATCH * PIXELS);
  int *order = (int *)malloc(sizeof(int) * (size_t)count), batch_labels[BATCH];
  if (!trainer || !batch_images || !order) {
    fprintf(stderr, "%s\n", trainer ? "out of memory" : error.message);
    return 1;
  }
  for (int i = 0; i < count; i++) order[i] = i;

  cn_random random = {1, 0};
  for (int epoch = 1; epoch <= epochs; epoch++) {
    double loss = 0;
    int correct = 0, steps = count / BATCH;
    cn_random_shuffle(&random, order, count);
    for (int step = 0; step < steps; step++) {
      cn_batch batch = {.count = BATCH, .inputs = batch_images, .labels = batch_labels};
      cn_metrics metrics;
      fill_batch(images, labels, order + step * BATCH, batch_images, batch_labels);
      if (cn_train_step(trainer, &batch, &metrics, &error) != CN_OK) {
        fprintf(stderr, "%s\n", error.message);
        return 1;
      }
      loss += metrics.loss;
      correct += metrics.correct;
    }
    printf("epoch %d: loss %.4f, %.2f %% right\n", epoch, loss / steps,
           100.0 * correct / (steps * BATCH));
  }

  if (cn_save(net, argv[2], &error) != CN_OK) {
    fprintf(stderr, "%s\n", error.message);
    return 1;
  }
  cn_trainer_free(trainer);
  cn_network_free(net);
  free(images);
  free(labels);
  free(batch_images);
  free(order);
  return 0;
}
