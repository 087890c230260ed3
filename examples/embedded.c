/* A model inside the program: no file is opened, and none can be. The array is what `xxd -i` makes of a
   file that cn_save wrote.

     cc -O2 -I. examples/embedded.c -o embedded -lm */
#define CONVNET_NO_FILES
#define CONVNET_IMPLEMENTATION
#include "convnet.h"
#include "embedded_model.h"
#include <stdio.h>

int main(void) {
  cn_error error;
  cn_network *net = cn_load_memory(strokes_safetensors, strokes_safetensors_len, &error);
  cn_predictor *predictor = net ? cn_predictor_create(net, 16, NULL, &error) : NULL;
  if (!predictor) return puts(error.message), 1;

  float images[16][64], outputs[16][2]; /* a stroke in each column, and in each row */
  for (int i = 0; i < 16; i++)
    for (int p = 0; p < 64; p++) images[i][p] = (i < 8 ? p % 8 : p / 8) == i % 8 ? 1.0f : 0.0f;
  cn_predict(predictor, images[0], 16, outputs[0]);

  int right = 0;
  for (int i = 0; i < 16; i++) right += (outputs[i][1] > outputs[i][0]) == (i < 8);
  printf("%d of 16 strokes right\n", right);
  cn_predictor_free(predictor);
  cn_network_free(net);
  return right != 16;
}
