/* Without malloc: network and plan lie in two arrays; the plan's size is asked for first.

     cc -O2 -I. examples/allocator.c -o allocator -lm */
#define CONVNET_IMPLEMENTATION
#include "convnet.h"
#include <stdio.h>
typedef struct {
  long double bytes[1 << 16]; /* aligned as malloc aligns */
  size_t used;
} pile; /* things are put on top and never taken off */

static void *put(size_t bytes, void *user) {
  pile *p = (pile *)user;
  void *place = (char *)p->bytes + p->used;
  bytes = (bytes + 15) / 16 * 16;
  if (bytes > sizeof p->bytes - p->used) return NULL;
  p->used += bytes;
  return place;
}
static void leave(void *memory, void *user) {
  (void)memory, (void)user;
}
static pile networks, plans;

int main(void) {
  cn_error error;
  const cn_allocator allocator = {put, leave, &networks};
  cn_network *net = cn_network_create_with(&allocator, &error);
  if (!net || cn_network_add_text(net, "input 8x8x1\nconv 8 3x3\nrelu\ndense 3\nsoftmax\n", &error))
    return puts(error.message), 1;
  cn_predict_options options = {.threads = 1};
  options.memory_bytes = cn_predictor_size(net, 1, &options, &error);
  options.memory = put(options.memory_bytes, &plans);
  cn_predictor *predictor = cn_predictor_create(net, 1, &options, &error);
  if (!options.memory || !predictor) return puts(error.message), 1;
  float image[64] = {0}, outputs[3];
  cn_predict(predictor, image, 1, outputs);
  printf("network %zu bytes, plan %zu; 1/3 = %.3f\n", networks.used, plans.used, (double)*outputs);
  cn_predictor_free(predictor), cn_network_free(net);
}
