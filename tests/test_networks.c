/* Networks, training and inference: grammar and its errors, shapes, initialisation, gradients of
   whole networks against finite differences of an independent double-precision interpreter, and
   what options of training do. */
#define CONVNET_IMPLEMENTATION
#include "convnet.h"
#include "reference_network.h"

#define LENGTH(array) ((int)(sizeof(array) / sizeof *(array)))

/* ---- text --------------------------------------------------------------------------------------
 */

/* Every kind of node and every option. */
static const char every_kind[] = "input 11x9x3\n"
                                 "stem: conv 8 3x3 stride=2 pad=1 bias=no init=he\n"
                                 "norm1: batchnorm\n"
                                 "first: relu\n"
                                 "depthwise: conv 8 3x3 pad=1 groups=8\n"
                                 "pointwise: conv 12 1x1 init=gaussian:0.2\n"
                                 "norm2: batchnorm eps=0.001 momentum=0.2\n"
                                 "side: conv 12 3x3 pad=same padding=replicate from=first\n"
                                 "bent: tanh\n"
                                 "sum: add from=norm2,bent\n"
                                 "second: relu\n"
                                 "largest: maxpool 3x3 stride=2 pad=1 from=second\n"
                                 "mean: meanpool 3x3 stride=2 pad=1 count=all from=second\n"
                                 "smallest: minpool 3x3 stride=2 pad=1 from=sum\n"
                                 "mixed: mixpool 3x3 stride=2 pad=1 mix=0.3 from=second\n"
                                 "joined: concat from=largest,mean,smallest,mixed\n"
                                 "wide: conv 10 3x3 dilation=2 pad=2 groups=2 padding=wrap\n"
                                 "squashed: sigmoid\n"
                                 "thinned: dropout 0.25\n"
                                 "pooled: globalmean\n"
                                 "last: dense 5 init=constant:0.1\n"
                                 "softmax\n";

static const cn_node *find_node(const cn_network *net, const char *name) {
  int index = cn_network_find(net, name);
  if (index < 0) fail_msg("no node %s", name);
  return cn_network_node(net, index);
}

static void assert_shape(const cn_node *node, int height, int width, int channels) {
  if (node->shape.height != height || node->shape.width != width ||
      node->shape.channels != channels)
    fail_msg("%s is %dx%dx%d, should be %dx%dx%d", node->name, node->shape.height,
             node->shape.width, node->shape.channels, height, width, channels);
}

static void parse_every_kind(void **state) {
  (void)state;
  cn_network *net = must_parse(every_kind);
  assert_int_equal(cn_network_node_count(net), 22);
  assert_shape(cn_network_node(net, 0), 11, 9, 3);

  const cn_node *stem = find_node(net, "stem");
  assert_int_equal(stem->op, CN_OP_CONV);
  assert_int_equal(stem->filters, 8);
  assert_int_equal(stem->window.height, 3);
  assert_int_equal(stem->window.stride_y, 2);
  assert_int_equal(stem->window.stride_x, 2);
  assert_int_equal(stem->window.pad_top, 1);
  assert_int_equal(stem->window.pad_right, 1);
  assert_int_equal(stem->bias, 0);
  assert_int_equal(stem->init, CN_INIT_HE);
  assert_int_equal(stem->inputs[0], 0);
  assert_shape(stem, 6, 5, 8);

  assert_int_equal(find_node(net, "depthwise")->groups, 8);
  assert_int_equal(find_node(net, "pointwise")->init, CN_INIT_GAUSSIAN);
  assert_true(find_node(net, "pointwise")->init_value == 0.2f);
  assert_true(find_node(net, "norm1")->eps == 1e-5f && find_node(net, "norm1")->momentum == 0.1f);
  assert_true(find_node(net, "norm2")->eps == 0.001f && find_node(net, "norm2")->momentum == 0.2f);
  assert_int_equal(find_node(net, "side")->window.padding, CN_PADDING_REPLICATE);
  assert_int_equal(find_node(net, "side")->window.pad_left, 1);
  assert_int_equal(find_node(net, "sum")->input_count, 2);
  assert_int_equal(find_node(net, "sum")->inputs[1], cn_network_find(net, "bent"));
  assert_int_equal(find_node(net, "mean")->count_padding, 1);
  assert_shape(find_node(net, "mean"), 3, 3, 12);
  assert_true(find_node(net, "mixed")->mix == 0.3f);
  assert_int_equal(find_node(net, "joined")->input_count, 4);
  assert_shape(find_node(net, "joined"), 3, 3, 48);
  assert_int_equal(find_node(net, "wide")->window.dilation_x, 2);
  assert_int_equal(find_node(net, "wide")->window.padding, CN_PADDING_WRAP);
  assert_true(find_node(net, "thinned")->rate == 0.25f);
  assert_shape(find_node(net, "pooled"), 1, 1, 10);
  assert_int_equal(find_node(net, "last")->filters, 5);
  assert_int_equal(cn_network_node(net, 21)->op, CN_OP_SOFTMAX);
  assert_int_equal(cn_network_find(net, "nowhere"), -1);
  assert_null(cn_network_node(net, 22));
  assert_null(cn_network_node(net, -1));
  cn_network_free(net);
}

static void parse_windows(void **state) {
  (void)state;
  cn_network *net = must_parse("# a comment\r\n"
                               "\n"
                               "  input\t20x30x2   # sizes\r\n"
                               "conv 4 5x3 stride=2x3 pad=1,2,3,4 dilation=1x2\n"
                               "conv 3 2x4 pad=2x1\n"
                               "maxpool 3x2 stride=1x2 ceil=yes\n"
                               "meanpool 2 count=inside\n"
                               "dense 7 bias=no\n"
                               "dense 2");
  const cn_node *first = find_node(net, "conv1"), *second = find_node(net, "conv2");
  assert_int_equal(first->window.height, 5);
  assert_int_equal(first->window.width, 3);
  assert_int_equal(first->window.stride_y, 2);
  assert_int_equal(first->window.stride_x, 3);
  assert_int_equal(first->window.pad_top, 1);
  assert_int_equal(first->window.pad_left, 2);
  assert_int_equal(first->window.pad_bottom, 3);
  assert_int_equal(first->window.pad_right, 4);
  assert_int_equal(first->window.dilation_y, 1);
  assert_int_equal(first->window.dilation_x, 2);
  assert_shape(first, 10, 11, 4); /* (20+4-5)/2+1, (30+6-5)/3+1 */
  assert_int_equal(second->window.pad_top, 2);
  assert_int_equal(second->window.pad_left, 1);
  assert_shape(second, 13, 10, 3);
  assert_shape(find_node(net, "maxpool1"), 11, 5, 3);
  assert_shape(find_node(net, "meanpool1"), 5, 2,
               3); /* the window without a stride steps by itself */
  assert_int_equal(cn_network_parameter_count(net), 2 + 2 + 1 + 2);
  cn_network_free(net);
}

static void default_names(void **state) {
  (void)state;
  cn_network *net =
      must_parse("input 8x8x1\nconv 2 3x3\nrelu\nconv 2 3x3\nrelu\nconv2b: conv 2 1x1\nconv 2 1x1");
  static const char *const names[] = {"input", "conv1", "relu1", "conv2", "relu2", "conv2b"};
  for (int i = 0; i < LENGTH(names); i++)
    if (i > 0) assert_int_equal(cn_network_find(net, names[i]), i);
  assert_int_equal(cn_network_find(net, cn_network_node(net, 6)->name), 6);
  cn_parameter weight = cn_network_parameter(net, 0), bias = cn_network_parameter(net, 1);
  assert_string_equal(weight.name, "conv1.weight");
  assert_string_equal(bias.name, "conv1.bias");
  static const int dims[4] = {2, 1, 3, 3};
  assert_int_equal(weight.rank, 4);
  assert_memory_equal(weight.dims, dims, sizeof dims);
  assert_int_equal(bias.rank, 1);
  assert_int_equal(bias.dims[0], 2);
  assert_null(cn_network_parameter(net, cn_network_parameter_count(net)).name);
  assert_null(cn_network_parameter(net, -1).name);
  cn_network_free(net);
}

static void assert_same_graph(const cn_network *a, const cn_network *b) {
  assert_int_equal(cn_network_node_count(a), cn_network_node_count(b));
  for (int i = 0; i < cn_network_node_count(a); i++) {
    const cn_node *x = cn_network_node(a, i), *y = cn_network_node(b, i);
    assert_string_equal(x->name, y->name);
    assert_int_equal(x->op, y->op);
    assert_int_equal(x->input_count, y->input_count);
    assert_memory_equal(x->inputs, y->inputs, (size_t)x->input_count * sizeof(int));
    assert_int_equal(x->filters, y->filters);
    assert_int_equal(x->groups, y->groups);
    assert_int_equal(x->bias, y->bias);
    assert_memory_equal(&x->window, &y->window, sizeof x->window);
    assert_memory_equal(&x->shape, &y->shape, sizeof x->shape);
    assert_int_equal(x->count_padding, y->count_padding);
    assert_int_equal(x->init, y->init);
    assert_true(x->init_value == y->init_value && x->mix == y->mix && x->eps == y->eps &&
                x->momentum == y->momentum && x->rate == y->rate && x->factor == y->factor &&
                x->loss_weight == y->loss_weight);
  }
}

static void assert_round_trip(const char *text) {
  cn_network *net = must_parse(text);
  char *canonical = strdup(cn_network_text(net));
  cn_network *again = must_parse(canonical);
  assert_same_graph(net, again);
  assert_string_equal(cn_network_text(again), canonical);
  assert_same_parameters(net, again);
  free(canonical);
  cn_network_free(net);
  cn_network_free(again);
}

static void canonical_text(void **state) {
  (void)state;
  assert_round_trip(every_kind);
  assert_round_trip(
      "input 20x30x2\nconv 4 5x3 stride=2x3 pad=1,2,3,4 dilation=1x2\nconv 3 2x4 pad=2x1\n"
      "maxpool 3x2 stride=1x2 ceil=yes\nmeanpool 2\ndense 7 bias=no\nsigmoid");
  /* Numbers that need all nine digits come back as they were. */
  assert_round_trip(
      "input 4x4x1\nbatchnorm eps=1.00000012e-6 momentum=0.123456791\ndropout 0.333333343\n"
      "conv 2 3x3 init=gaussian:0.0123456791");
  assert_round_trip("input 8x8x1\nadaptivemean 3x4\nscale -0.170000002\na: dense 3\n"
                    "softmax loss=0.3\nadaptivemean 2 from=scale1\ndense 3\nsoftmax");
}

/* What is known of a built-in network from elsewhere: weights (torchvision's num_params, timm's) and
   the nodes that end the stages of its paper's table. */
static const struct known_network {
  const char *name;
  cn_arch_options options;
  size_t weights;
} known_networks[] = {
    {"base", {0}, 160 + 4640 + (7 * 7 * 32 * 128 + 128) + (128 * 50 + 50) + 510},
    {"revised", {0}, 0},
    {"lenet", {0}, 0},
    {"mlp", {0}, (784 * 256 + 256) + (256 * 128 + 128) + 1290},
    {"mlp-dropout", {0}, (784 * 256 + 256) + (256 * 128 + 128) + 1290},
    {"logistic", {0}, 7850},
    {"alexnet", {0}, 61100840},
    {"vgg11", {0}, 132863336},
    {"vgg11_bn", {0}, 132868840},
    {"vgg13", {0}, 133047848},
    {"vgg13_bn", {0}, 133053736},
    {"vgg16", {0}, 138357544},
    {"vgg16_bn", {0}, 138365992},
    {"vgg19", {0}, 143667240},
    {"vgg19_bn", {0}, 143678248},
    {"resnet18", {0}, 11689512},
    {"resnet34", {0}, 21797672},
    {"resnet50", {0}, 25557032},
    {"resnet101", {0}, 44549160},
    {"resnet152", {0}, 60192808},
    {"resnext50_32x4d", {0}, 25028904},
    {"squeezenet1_0", {0}, 1248424},
    {"squeezenet1_1", {0}, 1235496},
    {"densenet121", {0}, 7978856},
    {"densenet161", {0}, 28681000},
    {"densenet169", {0}, 14149480},
    {"densenet201", {0}, 20013928},
    {"googlenet", {0}, 6624904},
    {"googlenet", {.auxiliary = 1}, 13004888},
    {"inception_v3", {0}, 23834568},
    {"inception_v3", {.auxiliary = 1}, 27161264},
    {"inception_resnet_v2", {0}, 55843464},
    {"xception", {0}, 22855952},
    {"resnet18", {.height = 64, .width = 48, .channels = 1, .classes = 10}, 11175370},
};

static char *architecture_text(const char *name, const cn_arch_options *options) {
  cn_error error;
  size_t length = cn_arch_text(name, options, NULL, 0, &error);
  if (!length) fail_msg("%s", error.message);
  char *text = (char *)malloc(length + 1);
  assert_non_null(text);
  assert_int_equal(cn_arch_text(name, options, text, length + 1, &error), length);
  assert_int_equal(strlen(text), length);
  return text;
}

/* Parses without the initialisation, which takes long for a hundred million weights. */
static cn_network *must_parse_quickly(const char *text) {
  cn_error error;
  cn_network *net = cn_parse_(text, &error);
  if (!net) fail_msg("%d:%d: %s", error.line, error.column, error.message);
  return net;
}

/* AlexNet and VGG have a hundred million weights, too many for the runs of tests/compile.sh under
   sanitizers and emulators, which look for other mistakes. */
static int too_wide(const char *name) {
  return getenv("TEST_BUDGET") && (strstr(name, "vgg") || strstr(name, "alexnet"));
}

static void architectures(void **state) {
  (void)state;
  for (int i = 0; i < LENGTH(known_networks); i++) {
    const struct known_network *known = &known_networks[i];
    if (too_wide(known->name)) continue;
    const cn_arch_options *o = &known->options;
    char *text = architecture_text(known->name, o);
    cn_network *net = must_parse_quickly(text);
    int own = i < 6 ? 28 : strstr(known->name, "ception") ? 299 : 224, last = i < 6 ? 10 : 1000;
    assert_shape(cn_network_node(net, 0), o->height ? o->height : own, o->width ? o->width : own,
                 o->channels ? o->channels
                 : i < 6     ? 1
                             : 3);
    assert_shape(cn_network_node(net, cn_network_node_count(net) - 1), 1, 1,
                 o->classes ? o->classes : last);
    if (known->weights && cn_network_weight_count(net) != known->weights)
      fail_msg("%s has %zu weights, should have %zu", known->name, cn_network_weight_count(net),
               known->weights);
    char *canonical = strdup(cn_network_text(net));
    cn_network_free(net);
    net = must_parse_quickly(canonical);
    assert_string_equal(cn_network_text(net), canonical);
    cn_network_free(net);
    free(canonical);
    free(text);
  }
  for (int i = 0; cn_arch_name(i); i++) {
    int known = 0;
    for (int k = 0; k < LENGTH(known_networks); k++)
      known += strcmp(known_networks[k].name, cn_arch_name(i)) == 0;
    if (!known) fail_msg("%s is not in the list", cn_arch_name(i));
  }
  assert_null(cn_arch_name(-1));
}

/* The least size of a network is really the least: one pixel fewer does not fit its graph. */
static void smallest_inputs(void **state) {
  (void)state;
  for (int i = 0; i < CN_ARCH_COUNT_; i++) {
    const cn_arch_ *arch = &cn_archs_[i];
    if (too_wide(arch->name)) continue;
    for (int auxiliary = 0; auxiliary <= (arch->least_auxiliary > 0); auxiliary++) {
      int least = auxiliary ? arch->least_auxiliary : arch->least;
      cn_arch_options o = {least, least + 3, 2, 3, auxiliary};
      cn_text_ text = {NULL, 0, 0, 0, NULL};
      char *smallest = architecture_text(arch->name, &o);
      cn_network_free(must_parse_quickly(smallest));
      free(smallest);
      if (--o.height == 0) continue;
      cn_error error = {CN_OK, 0, 0, ""};
      assert_int_equal(cn_arch_text(arch->name, &o, NULL, 0, &error), 0);
      assert_int_equal(error.status, CN_ERROR_SHAPE);
      assert_contains(error.message, arch->name);
      cn_text_add_(&text, "input %dx%dx%d\n", o.height, o.width, o.channels);
      arch->write(&text, arch, &o);
      cn_network *net = cn_parse_(text.data, NULL);
      if (net) fail_msg("%s does take %d rows", arch->name, o.height);
      CN_FREE(text.data);
    }
  }
}

static void architectures_refuse(void **state) {
  (void)state;
  static const struct {
    const char *name;
    cn_arch_options options;
    const char *part;
  } wrong[] = {
      {"no such network", {0}, "no such network"},
      {"", {0}, "built-in"},
      {"resnet18", {.height = -1}, "-1x224x3"},
      {"resnet18", {.width = 70000}, "70000"},
      {"resnet18", {.channels = -3}, "224x224x-3"},
      {"resnet18", {.classes = -1}, "classes"},
      {"resnet18", {.classes = 70000}, "70000"},
      {"resnet18", {.auxiliary = 1}, "auxiliary"},
      {"inception_v3", {.height = 75, .width = 75, .auxiliary = 1}, "299x299"},
  };
  for (int i = 0; i < LENGTH(wrong); i++) {
    cn_error error = {CN_OK, 0, 0, ""};
    char text[8] = "kept";
    assert_int_equal(cn_arch_text(wrong[i].name, &wrong[i].options, text, sizeof text, &error), 0);
    assert_int_not_equal(error.status, CN_OK);
    assert_contains(error.message, wrong[i].part);
    assert_string_equal(text, "kept");
    assert_null(cn_arch_network(wrong[i].name, &wrong[i].options, NULL));
  }
  /* A text that does not fit is cut as snprintf cuts it. */
  char text[8];
  size_t length = cn_arch_text("logistic", NULL, text, sizeof text, NULL);
  assert_int_equal(length, strlen("input 28x28x1\ndense 10\nsoftmax\n"));
  assert_string_equal(text, "input 2");
}

/* Each text fails at the line and column given, with a message that contains the words given. */
static const struct text_error {
  const char *text;
  cn_status status;
  int line, column;
  const char *part;
} text_errors[] = {
    {"", CN_ERROR_SYNTAX, 1, 1, "input"},
    {"# nothing\n\n", CN_ERROR_SYNTAX, 3, 1, "input"},
    {"conv 3 3x3\n", CN_ERROR_ARGUMENT, 1, 1, "input"},
    {"input\n", CN_ERROR_SYNTAX, 1, 6, ""},
    {"input 28x28\n", CN_ERROR_SYNTAX, 1, 7, "28x28"},
    {"input 28x28x1x1\n", CN_ERROR_SYNTAX, 1, 7, "28x28x1"},
    {"input 0x28x1\n", CN_ERROR_ARGUMENT, 1, 1, "0x28x1"},
    {"input -3x28x1\n", CN_ERROR_SYNTAX, 1, 7, ""},
    {"input 28x28x70000\n", CN_ERROR_ARGUMENT, 1, 1, "70000"},
    {"input 28x28x99999999999999999999\n", CN_ERROR_SYNTAX, 1, 7, ""},
    {"input 28x28x1\ninput 28x28x1\n", CN_ERROR_SYNTAX, 3, 1, "input"},
    {"input 28x28x1\nrelu\nsecond: input 28x28x1\n", CN_ERROR_SYNTAX, 4, 1, "input"},
    {"input 28x28x1 output=1\nrelu\n", CN_ERROR_SYNTAX, 1, 15, "output"},
    {"input 28x28x1\nrelu output=0\n", CN_ERROR_SYNTAX, 2, 13, "0"},
    {"input 28x28x1\nrelu output=2000\n", CN_ERROR_ARGUMENT, 2, 1, "2000"},
    {"input 28x28x1\nsigmoid output=1\nrelu\n", CN_ERROR_ARGUMENT, 3, 1, "sigmoid1"},
    {"input 28x28x1\ninput 28x28x1 from=x\n", CN_ERROR_SYNTAX, 2, 15, "from"},
    {"input 28x28x1\nconvolution 3 3x3\n", CN_ERROR_SYNTAX, 2, 1, "convolution"},
    {"input 28x28x1\n  Relu\n", CN_ERROR_SYNTAX, 2, 3, "Relu"},
    {"input 28x28x1\nconv\n", CN_ERROR_SYNTAX, 2, 5, ""},
    {"input 28x28x1\nconv 16\n", CN_ERROR_SYNTAX, 2, 8, ""},
    {"input 28x28x1\nconv x 3x3\n", CN_ERROR_SYNTAX, 2, 6, "filters"},
    {"input 28x28x1\nconv 0 3x3\n", CN_ERROR_ARGUMENT, 2, 1, "conv1"},
    {"input 28x28x1\nconv 16 3x\n", CN_ERROR_SYNTAX, 2, 9, "3x"},
    {"input 28x28x1\nconv 16 3x3x3\n", CN_ERROR_SYNTAX, 2, 9, "window"},
    {"input 28x28x1\nconv 16 3x3 pad\n", CN_ERROR_SYNTAX, 2, 13, "pad"},
    {"input 28x28x1\nconv 16 3x3 pad=\n", CN_ERROR_SYNTAX, 2, 17, "pad"},
    {"input 28x28x1\nconv 16 3x3 pad=-1\n", CN_ERROR_SYNTAX, 2, 17, "pad"},
    {"input 28x28x1\nconv 16 3x3 pad=1,2\n", CN_ERROR_SYNTAX, 2, 17, "1,2"},
    {"input 28x28x1\nconv 16 3x3 stride=0\n", CN_ERROR_SYNTAX, 2, 20, "stride"},
    {"input 28x28x1\nconv 16 3x3 stride=2 stride=2\n", CN_ERROR_SYNTAX, 2, 22, "stride"},
    {"input 28x28x1\nconv 16 3x3 padding=mirror\n", CN_ERROR_SYNTAX, 2, 21, "mirror"},
    {"input 28x28x1\nconv 16 3x3 bias=maybe\n", CN_ERROR_SYNTAX, 2, 18, "maybe"},
    {"input 28x28x1\nconv 16 3x3 init=gauss\n", CN_ERROR_SYNTAX, 2, 18, "gauss"},
    {"input 28x28x1\nconv 16 3x3 init=gaussian:wide\n", CN_ERROR_SYNTAX, 2, 18, "wide"},
    {"input 28x28x1\nconv 16 3x3 pad=1 5\n", CN_ERROR_SYNTAX, 2, 19, "5"},
    {"input 28x28x1\nconv 16 3x3 rate=1\n", CN_ERROR_SYNTAX, 2, 13, "rate"},
    {"input 28x28x1\nrelu 3\n", CN_ERROR_SYNTAX, 2, 6, "3"},
    {"input 28x28x1\nrelu pad=1\n", CN_ERROR_SYNTAX, 2, 6, "pad"},
    {"input 28x28x1\nmaxpool 2x2 count=all\n", CN_ERROR_SYNTAX, 2, 13, "count"},
    {"input 28x28x1\nmeanpool 2x2 count=some\n", CN_ERROR_SYNTAX, 2, 20, "some"},
    {"input 28x28x1\nmixpool 2x2 mix=1.5\n", CN_ERROR_ARGUMENT, 2, 1, "mixpool1"},
    {"input 28x28x1\ndropout 1\n", CN_ERROR_ARGUMENT, 2, 1, "dropout1"},
    {"input 28x28x1\ndropout -0.1\n", CN_ERROR_ARGUMENT, 2, 1, "dropout1"},
    {"input 28x28x1\ndropout nan\n", CN_ERROR_SYNTAX, 2, 9, ""},
    {"input 28x28x1\ndropout\n", CN_ERROR_SYNTAX, 2, 8, ""},
    {"input 28x28x1\nbatchnorm eps=0\n", CN_ERROR_ARGUMENT, 2, 1, "batchnorm1"},
    {"input 28x28x1\nbatchnorm eps=1e-40\n", CN_ERROR_ARGUMENT, 2, 1, "batchnorm1"},
    {"input 28x28x1\nbatchnorm momentum=2\n", CN_ERROR_ARGUMENT, 2, 1, "batchnorm1"},
    {"input 28x28x1\nrelu from=nowhere\n", CN_ERROR_SYNTAX, 2, 11, "nowhere"},
    {"input 28x28x1\nrelu from=\n", CN_ERROR_SYNTAX, 2, 11, "name"},
    {"input 28x28x1\na: relu\nb: relu from=c\nc: relu\n", CN_ERROR_SYNTAX, 3, 14, "c"},
    {"input 28x28x1\na: relu\nb: relu\nrelu from=a,b\n", CN_ERROR_ARGUMENT, 4, 1, "relu3"},
    {"input 28x28x1\nadd\n", CN_ERROR_ARGUMENT, 2, 1, "add1"},
    {"input 28x28x1\na: relu\nadd from=a\n", CN_ERROR_ARGUMENT, 3, 1, "add1"},
    {"input 28x28x1\na: relu\na: relu\n", CN_ERROR_ARGUMENT, 3, 4, "a"},
    {"input 28x28x1\na b: relu\n", CN_ERROR_SYNTAX, 2, 1, "a"},
    {"input 28x28x1\n: relu\n", CN_ERROR_SYNTAX, 2, 1, ""},
    {"input 28x28x1\na/b: relu\n", CN_ERROR_SYNTAX, 2, 1, "name"},
    {"input 28x28x1\na:\n", CN_ERROR_SYNTAX, 2, 3, ""},
    {"input 8x8x1\nconv 4 9x9\n", CN_ERROR_SHAPE, 2, 1, "conv1"},
    {"input 8x8x3\nbig: conv 4 3x3 groups=2\n", CN_ERROR_SHAPE, 2, 6, "big"},
    {"input 8x8x4\nconv 3 3x3 groups=2\n", CN_ERROR_SHAPE, 2, 1, "conv1"},
    {"input 8x8x4\na: conv 4 3x3\nb: add from=input,a\n", CN_ERROR_SHAPE, 3, 4, "b"},
    {"input 8x8x4\na: conv 4 3x3\nb: concat from=a,input\n", CN_ERROR_SHAPE, 3, 4, "b"},
    {"input 8x8x4\nmaxpool 9x9\n", CN_ERROR_SHAPE, 2, 1, "maxpool1"},
    {"input 8x8x4\nmaxpool 2x2 pad=2\n", CN_ERROR_SHAPE, 2, 1, "maxpool1"},
    {"input 60000x60000x60000\nrelu\n", CN_ERROR_ARGUMENT, 1, 1, "input"},
    {"input 8x8x4\nsoftmax\nrelu\n", CN_ERROR_ARGUMENT, 3, 1, "softmax"},
    {"input 8x8x4\nsoftmax loss=0\n", CN_ERROR_ARGUMENT, 2, 1, "loss"},
    {"input 8x8x4\nsoftmax loss=x\n", CN_ERROR_SYNTAX, 2, 14, "x"},
    {"input 8x8x4\na: dense 2\nsoftmax\nsoftmax from=a\n", CN_ERROR_ARGUMENT, 4, 1, "softmax1"},
    {"input 8x8x4\nrelu loss=1\n", CN_ERROR_SYNTAX, 2, 6, "loss"},
    {"input 8x8x4\nadaptivemean\n", CN_ERROR_SYNTAX, 2, 13, "size"},
    {"input 8x8x4\nadaptivemean 0x3\n", CN_ERROR_SYNTAX, 2, 14, "size"},
    {"input 8x8x4\nadaptivemean 70000\n", CN_ERROR_ARGUMENT, 2, 1, "70000"},
    {"input 8x8x4\nadaptivemean 3x3 stride=2\n", CN_ERROR_SYNTAX, 2, 18, "stride"},
    {"input 8x8x4\nscale\n", CN_ERROR_SYNTAX, 2, 6, "factor"},
    {"input 8x8x4\nscale big\n", CN_ERROR_SYNTAX, 2, 7, "factor"},
    {"input 8x8x4\nscale 9e99\n", CN_ERROR_SYNTAX, 2, 7, "factor"},
    {"input 4000x4000x64\ndense 60000\n", CN_ERROR_SHAPE, 2, 1, "dense1"},
};

static void errors_of_text(void **state) {
  (void)state;
  int wrong = 0;
  for (int i = 0; i < LENGTH(text_errors); i++) {
    const struct text_error *e = &text_errors[i];
    cn_error error = {CN_OK, -1, -1, ""};
    cn_network *net = cn_network_parse(e->text, &error);
    if (!net && error.status == e->status && error.line == e->line && error.column == e->column &&
        strstr(error.message, e->part) && !strchr(error.message, '\n') && error.message[0])
      continue;
    wrong++;
    print_error("case %d \"%s\":\n  %s, should be status %d %d:%d with \"%s\"\n", i, e->text,
                net ? "accepted" : "", e->status, e->line, e->column, e->part);
    if (!net)
      print_error("  is status %d %d:%d %s\n", error.status, error.line, error.column,
                  error.message);
    cn_network_free(net);
  }
  assert_int_equal(wrong, 0);
}

/* Any text may come from a file: no prefix, no changed byte and no noise may crash the parser. */
static void damaged_text(void **state) {
  (void)state;
  size_t length = strlen(every_kind);
  char text[sizeof every_kind];
  cn_random random = {5, 0};
  for (size_t cut = 0; cut < length; cut++) {
    memcpy(text, every_kind, cut);
    text[cut] = 0;
    cn_network_free(cn_network_parse(text, NULL));
  }
  for (int i = 0; i < 5000; i++) {
    memcpy(text, every_kind, length + 1);
    for (int k = 0; k <= i % 3; k++)
      text[cn_random_below(&random, (uint32_t)length)] = (char)(1 + cn_random_below(&random, 255));
    cn_network_free(cn_network_parse(text, NULL));
  }
}

static void long_names(void **state) {
  (void)state;
  char name[CN_MAX_NAME + 1], text[CN_MAX_NAME + 64];
  memset(name, 'n', sizeof name);
  name[CN_MAX_NAME - 1] = 0;
  snprintf(text, sizeof text, "input 2x2x1\n%s: relu\n", name);
  cn_network *net = must_parse(text);
  assert_int_equal(cn_network_find(net, name), 1);
  cn_network_free(net);
  name[CN_MAX_NAME - 1] = 'n';
  name[CN_MAX_NAME] = 0;
  snprintf(text, sizeof text, "input 2x2x1\n%s: relu\n", name);
  cn_error error;
  assert_null(cn_network_parse(text, &error));
  assert_int_equal(error.status, CN_ERROR_SYNTAX);
  assert_int_equal(error.line, 2);
}

static void many_inputs(void **state) {
  (void)state;
  for (int inputs = CN_MAX_INPUTS; inputs <= CN_MAX_INPUTS + 1; inputs++) {
    char text[1024] = "input 2x2x1\na: relu\nconcat from=a";
    for (int i = 1; i < inputs; i++) strcat(text, ",a");
    cn_error error;
    cn_network *net = cn_network_parse(text, &error);
    assert_int_equal(net != NULL, inputs <= CN_MAX_INPUTS);
    if (net)
      assert_shape(cn_network_node(net, 2), 2, 2, inputs);
    else
      assert_int_equal(error.line, 3);
    cn_network_free(net);
  }
}

/* ---- C calls -----------------------------------------------------------------------------------
 */

static int must_add(cn_network *net, const cn_node *node) {
  cn_error error;
  int index = cn_network_add(net, node, &error);
  if (index < 0) fail_msg("%s", error.message);
  return index;
}

static int add_simple(cn_network *net, cn_op op) {
  cn_node node = cn_node_defaults(op);
  return must_add(net, &node);
}

static cn_network *network_by_calls(void) {
  cn_error error;
  cn_network *net = cn_network_create(&error);
  assert_non_null(net);
  cn_node input = cn_node_defaults(CN_OP_INPUT);
  input.shape.height = 6, input.shape.width = 5, input.shape.channels = 2;
  must_add(net, &input);
  cn_node conv = cn_node_defaults(CN_OP_CONV);
  conv.filters = 4;
  conv.window.height = conv.window.width = 3;
  conv.window.pad_top = conv.window.pad_left = conv.window.pad_bottom = conv.window.pad_right = 1;
  strcpy(conv.name, "first");
  int first = must_add(net, &conv);
  int relu = add_simple(net, CN_OP_RELU);
  conv.name[0] = 0;
  conv.bias = 0;
  conv.init = CN_INIT_HE;
  must_add(net, &conv);
  cn_node sum = cn_node_defaults(CN_OP_ADD);
  sum.inputs[0] = relu, sum.inputs[1] = cn_network_node_count(net) - 1, sum.inputs[2] = first;
  sum.input_count = 3;
  must_add(net, &sum);
  cn_node pool = cn_node_defaults(CN_OP_MIXPOOL);
  pool.window.height = pool.window.width = pool.window.stride_y = pool.window.stride_x = 2;
  pool.mix = 0.25f;
  must_add(net, &pool);
  cn_node dense = cn_node_defaults(CN_OP_DENSE);
  dense.filters = 3;
  must_add(net, &dense);
  add_simple(net, CN_OP_SOFTMAX);
  return net;
}

static void calls_equal_text(void **state) {
  (void)state;
  cn_network *by_calls = network_by_calls();
  cn_network *by_text =
      must_parse("input 6x5x2\nfirst: conv 4 3x3 pad=1\nrelu\nconv 4 3x3 pad=1 bias=no init=he\n"
                 "add from=relu1,conv2,first\nmixpool 2x2 stride=2 mix=0.25\ndense 3\nsoftmax\n");
  if (cn_network_find(by_text, "conv2") < 0) fail_msg("names: %s", cn_network_text(by_text));
  assert_string_equal(cn_network_text(by_calls), cn_network_text(by_text));
  assert_same_graph(by_calls, by_text);
  cn_network_init(by_calls, 1);
  assert_same_parameters(by_calls, by_text);
  cn_network_free(by_calls);
  cn_network_free(by_text);
}

/* Nodes that are added one by one get what a text's nodes get: seed 1. */
static void parameters_start_initialised(void **state) {
  (void)state;
  cn_network *net = network_by_calls();
  size_t count;
  float *values = copy_parameters(net, &count), *again;
  cn_network_init(net, 1);
  again = copy_parameters(net, &count);
  assert_memory_equal(values, again, count * sizeof(float));
  free(values);
  free(again);
  cn_network_free(net);
}

static void assert_add_fails(cn_network *net, const cn_node *node, const char *part) {
  int nodes = cn_network_node_count(net), parameters = cn_network_parameter_count(net);
  char *text = strdup(cn_network_text(net));
  cn_error error = {CN_OK, 0, 0, ""};
  assert_int_equal(cn_network_add(net, node, &error), -1);
  assert_int_equal(cn_network_add(net, node, NULL), -1);
  assert_int_not_equal(error.status, CN_OK);
  assert_contains(error.message, part);
  assert_int_equal(cn_network_node_count(net), nodes);
  assert_int_equal(cn_network_parameter_count(net), parameters);
  assert_string_equal(cn_network_text(net), text);
  free(text);
}

static void add_refuses(void **state) {
  (void)state;
  cn_error error;
  cn_network *net = cn_network_create(&error);
  cn_node conv = cn_node_defaults(CN_OP_CONV), input = cn_node_defaults(CN_OP_INPUT);
  strcpy(conv.name, "early");
  conv.filters = 2;
  conv.window.height = conv.window.width = 3;
  assert_int_equal(cn_network_add(net, &conv, &error), -1);
  assert_contains(error.message, "early");
  assert_int_equal(cn_network_add(net, &input, &error), -1); /* without a shape */
  input.shape.height = input.shape.width = 8, input.shape.channels = 4;
  must_add(net, &input);

  cn_node bad = conv;
  bad.filters = 0;
  assert_add_fails(net, &bad, "early");
  bad = conv, bad.window.height = 0;
  assert_add_fails(net, &bad, "early");
  bad = conv, bad.window.height = 9;
  assert_add_fails(net, &bad, "early");
  bad = conv, bad.groups = 3;
  assert_add_fails(net, &bad, "early");
  bad = conv, bad.groups = -1;
  assert_add_fails(net, &bad, "early");
  bad = conv, bad.window.stride_x = -1;
  assert_add_fails(net, &bad, "early");
  bad = conv, bad.window.pad_top = -1;
  assert_add_fails(net, &bad, "early");
  bad = conv, bad.inputs[0] = 1, bad.input_count = 1;
  assert_add_fails(net, &bad, "early");
  bad = conv, bad.inputs[0] = -1, bad.input_count = 1;
  assert_add_fails(net, &bad, "early");
  bad = conv, bad.input_count = 2;
  assert_add_fails(net, &bad, "early");
  bad = conv, bad.input_count = CN_MAX_INPUTS + 1;
  assert_add_fails(net, &bad, "early");
  bad = conv, strcpy(bad.name, "a b");
  assert_add_fails(net, &bad, "name");
  bad = conv, memset(bad.name, 'x', sizeof bad.name); /* no final 0 */
  assert_add_fails(net, &bad, "");
  bad = conv, bad.op = (cn_op)99;
  assert_add_fails(net, &bad, "99");
  bad = cn_node_defaults(CN_OP_DROPOUT), bad.rate = 1;
  assert_add_fails(net, &bad, "dropout1");
  bad = cn_node_defaults(CN_OP_BATCHNORM), bad.eps = -1;
  assert_add_fails(net, &bad, "batchnorm1");
  must_add(net, &conv);
  assert_add_fails(net, &conv, "early"); /* the name is taken */
  cn_network_free(net);
  cn_network_free(NULL);
}

static void notes(void **state) {
  (void)state;
  cn_network *net = must_parse("input 2x2x1\ndense 1");
  cn_error error;
  assert_null(cn_network_note(net, "classes"));
  assert_int_equal(cn_network_set_note(net, "classes", "a,b\n\"c\" \xc3\xa9", &error), CN_OK);
  assert_int_equal(cn_network_set_note(net, "x.y-z_1", "", &error), CN_OK);
  assert_string_equal(cn_network_note(net, "classes"), "a,b\n\"c\" \xc3\xa9");
  assert_string_equal(cn_network_note(net, "x.y-z_1"), "");
  assert_int_equal(cn_network_set_note(net, "classes", "d", &error), CN_OK);
  assert_string_equal(cn_network_note(net, "classes"), "d");
  assert_int_equal(cn_network_set_note(net, "classes", NULL, &error), CN_OK);
  assert_null(cn_network_note(net, "classes"));
  assert_int_equal(cn_network_set_note(net, "never there", NULL, NULL), CN_ERROR_ARGUMENT);
  assert_int_equal(cn_network_set_note(net, "network", "x", &error), CN_ERROR_ARGUMENT);
  assert_int_equal(cn_network_set_note(net, "", "x", &error), CN_ERROR_ARGUMENT);
  assert_contains(error.message, "note");
  cn_network_free(net);
}

/* ---- initialisation ----------------------------------------------------------------------------
 */

static void init_depends_on_seed(void **state) {
  (void)state;
  cn_network *a = must_parse(every_kind), *b = must_parse(every_kind);
  assert_same_parameters(a, b);
  cn_network_init(b, 1);
  assert_same_parameters(a, b);
  cn_network_init(b, 2);
  int different = 0;
  for (int i = 0; i < cn_network_parameter_count(a); i++) {
    cn_parameter x = cn_network_parameter(a, i), y = cn_network_parameter(b, i);
    different += memcmp(x.values, y.values, x.count * sizeof(float)) != 0;
  }
  assert_int_equal(different, 5); /* weights of stem, depthwise, pointwise, side and wide */
  cn_network_init(b, 1);
  assert_same_parameters(a, b);
  cn_network_free(a);
  cn_network_free(b);
}

/* Mean 0 and the deviation given, both within five of their own deviations; |values| at most limit.
 */
static void assert_distribution(const cn_network *net, const char *name, double deviation,
                                double limit) {
  for (int i = 0; i < cn_network_parameter_count(net); i++) {
    cn_parameter p = cn_network_parameter(net, i);
    if (strcmp(p.name, name) != 0) continue;
    double sum = 0, squares = 0, n = (double)p.count, largest = 0;
    for (size_t k = 0; k < p.count; k++) {
      double value = (double)p.values[k];
      sum += value, squares += value * value;
      largest = fabs(value) > largest ? fabs(value) : largest;
    }
    assert_true(fabs(sum / n) < 5 * deviation / sqrt(n));
    assert_true(fabs(sqrt(squares / n) / deviation - 1) < 5 / sqrt(2 * n));
    assert_true(largest <= limit);
    return;
  }
  fail_msg("no parameter %s", name);
}

static void init_distributions(void **state) {
  (void)state;
  cn_network *net = must_parse(
      "input 12x12x8\na: conv 32 5x5\nb: conv 24 3x3 init=he\nc: conv 16 3x3 init=gaussian:0.01\n"
      "d: conv 4 1x1 init=constant:-0.5\nn: batchnorm\ne: dense 40\n");
  double glorot = sqrt(6.0 / (25 * 8 + 25 * 32)), glorot_dense = sqrt(6.0 / (4 * 4 * 4 + 40));
  assert_distribution(net, "a.weight", glorot / sqrt(3), glorot * (1 + 1e-6));
  assert_distribution(net, "b.weight", sqrt(2.0 / (9 * 32)), INFINITY);
  assert_distribution(net, "c.weight", 0.01, INFINITY);
  assert_distribution(net, "e.weight", glorot_dense / sqrt(3), glorot_dense * (1 + 1e-6));
  for (int i = 0; i < cn_network_parameter_count(net); i++) {
    cn_parameter p = cn_network_parameter(net, i);
    const char *suffix = strrchr(p.name, '.') + 1;
    int norm = strncmp(p.name, "n.", 2) == 0;
    float expected = !strcmp(p.name, "d.weight") ? -0.5f : 0;
    if (norm) expected = !strcmp(suffix, "weight") || !strcmp(suffix, "running_var") ? 1.0f : 0.0f;
    if (!norm && !strcmp(suffix, "weight") && expected == 0) continue;
    for (size_t k = 0; k < p.count; k++) assert_true(p.values[k] == expected);
  }
  cn_network_free(net);
}

/* ---- gradients ---------------------------------------------------------------------------------
 */

#define COUNT 3   /* images of a batch, fewer than the trainers' max_count */
#define SLICED 48 /* a plan for so many takes more than six of them in slices */

/* A network, its batch, and the interpreter. */
typedef struct bench {
  cn_network *net;
  reference truth;
  float *inputs, *targets;
  int *labels, count;
  cn_batch batch;
} bench;

static void scatter_parameters(cn_network *net) {
  for (int i = 0; i < cn_network_parameter_count(net); i++) {
    cn_parameter p = cn_network_parameter(net, i);
    const char *suffix = strrchr(p.name, '.') + 1;
    if (!strcmp(suffix, "weight") && p.rank > 1) continue;
    fill_random(p.values, p.count, 100 + (uint64_t)i);
    int positive = p.rank == 1 && (!strcmp(suffix, "weight") || !strcmp(suffix, "running_var"));
    for (size_t k = 0; k < p.count; k++)
      p.values[k] = positive ? 1 + 0.5f * p.values[k] : 0.2f * p.values[k];
  }
  cn_network_touch(net);
}

static bench bench_open(cn_network *net, int count) {
  bench b;
  memset(&b, 0, sizeof b);
  b.net = net;
  b.count = count;
  scatter_parameters(net);
  const cn_node *first = cn_network_node(net, 0),
                *last = cn_network_node(net, cn_network_node_count(net) - 1);
  size_t in = reference_values(&first->shape) * (size_t)count,
         out = reference_values(&last->shape) * (size_t)count;
  b.inputs = (float *)malloc(in * sizeof(float));
  b.targets = (float *)malloc(out * sizeof(float));
  b.labels = (int *)malloc((size_t)count * sizeof(int));
  assert_true(b.inputs && b.targets && b.labels);
  fill_random(b.inputs, in, 3);
  fill_random(b.targets, out, 4);
  for (size_t i = 0; i < out; i++) b.targets[i] = 0.5f + 0.5f * b.targets[i];
  fill_labels(b.labels, count, last->shape.channels, 5);
  b.batch.count = count;
  b.batch.inputs = b.inputs;
  if (last->op == CN_OP_SOFTMAX)
    b.batch.labels = b.labels;
  else
    b.batch.targets = b.targets;
  b.truth = reference_create(net, count);
  b.truth.training = 1;
  return b;
}

static void bench_close(bench *b) {
  reference_free(&b->truth);
  cn_network_free(b->net);
  free(b->inputs);
  free(b->targets);
  free(b->labels);
}

/* Compares about `samples` values of every trained tensor's gradient with finite differences. */
static void check_gradients(bench *b, const cn_trainer *trainer, const float *class_weights,
                            size_t samples, double bound) {
  for (int i = 0; i < cn_network_parameter_count(b->net); i++) {
    cn_parameter p = cn_network_parameter(b->net, i);
    const float *gradient = cn_trainer_gradient(trainer, i);
    assert_int_equal(gradient != NULL, p.trained);
    if (!gradient) continue;
    size_t stride = p.count / samples + 1, n = 0;
    float *got = (float *)malloc((samples + 1) * sizeof(float));
    double *want = reference_alloc(samples + 1);
    assert_non_null(got);
    for (size_t k = (size_t)i % stride; k < p.count && n < samples; k += stride, n++) {
      got[n] = gradient[k];
      want[n] = reference_derivative(&b->truth, i, k, &b->batch, class_weights);
    }
    /* The gradient of a bias in front of batch norm is 0: there only rounding is to be seen. */
    assert_close(p.name, got, want, n, bound, 0.1);
    free(got);
    free(want);
  }
}

static void check_network(cn_network *net, const cn_training_options *options, double bound) {
  bench b = bench_open(net, COUNT);
  cn_trainer *trainer = must_train(b.net, COUNT + 2, options);
  size_t count;
  float *before = copy_parameters(b.net, &count);
  cn_metrics metrics;
  cn_error error;
  if (cn_train_gradients(trainer, &b.batch, &metrics, &error) != CN_OK)
    fail_msg("%s", error.message);
  size_t count_after;
  float *after = copy_parameters(b.net, &count_after);
  assert_memory_equal(before, after, count * sizeof(float));
  assert_near("loss", metrics.loss, reference_loss(&b.truth, &b.batch, options->class_weights),
              1e-6);
  /* TEST_BUDGET is a percentage, for emulators and memory checkers, as in test_kernels. */
  const char *budget = getenv("TEST_BUDGET");
  size_t samples = 2 + (size_t)(budget ? atoi(budget) : 100) * 22 / 100;
  check_gradients(&b, trainer, options->class_weights, samples, bound);
  free(before);
  free(after);
  cn_trainer_free(trainer);
  bench_close(&b);
}

/* Small networks that between them have every node kind in every place that a planner might treat
   differently: fused or not, first or last, with one or several readers. */
static const struct {
  const char *name, *text;
} gradient_cases[] = {
    {"conv, relu, maxpool",
     "input 9x8x1\nconv 5 3x3 pad=1\nrelu\nmaxpool 2x2\nconv 6 3x3 pad=1\nrelu\n"
     "maxpool 2x2\ndense 7\nrelu\ndense 4\nsoftmax"},
    {"wide enough for winograd",
     "input 14x13x8\nconv 16 3x3 pad=1\nrelu\nconv 24 3x3 pad=1\nrelu\nmaxpool 2x2\n"
     "conv 16 3x3\nrelu\nglobalmean\ndense 4\nsoftmax"},
    {"conv, maxpool, relu", "input 8x8x2\nconv 4 3x3\nmaxpool 2x2\nrelu\ndense 3\nsoftmax"},
    {"conv without relu, maxpool",
     "input 8x8x2\nconv 4 3x3 bias=no\nmaxpool 2x2\nconv 3 2x2\nsigmoid"},
    {"strides and dilation",
     "input 13x12x2\nconv 4 3x3 stride=2 pad=1\nrelu\nconv 5 3x3 dilation=2 pad=2\ntanh\n"
     "conv 3 2x3 stride=1x2\nsigmoid"},
    {"groups", "input 7x7x6\nconv 6 3x3 groups=6 pad=1\nrelu\nconv 9 3x3 groups=3\nrelu\nconv 4 "
               "1x1 groups=1\n"
               "globalmean\nsoftmax"},
    {"padding",
     "input 7x6x2\nconv 3 3x3 pad=1 padding=replicate\ntanh\nconv 4 3x3 pad=1 padding=wrap\ntanh\n"
     "conv 3 4x3 pad=2,1,1,0\ntanh\ndense 2"},
    {"pools", "input 11x11x2\nconv 4 3x3\na: tanh\nb: maxpool 3x3 stride=2 from=a\nc: minpool 3x3 "
              "stride=2 from=a\n"
              "d: meanpool 3x3 stride=2 from=a\ne: mixpool 3x3 stride=2 from=a mix=0.7\nconcat "
              "from=b,c,d,e\n"
              "dense 3\nsoftmax"},
    {"pools with padding",
     "input 10x9x3\na: conv 4 3x3 pad=1\nb: maxpool 3x3 stride=2 pad=1 from=a\n"
     "c: minpool 3x3 stride=2 pad=1 from=a\nd: meanpool 3x3 stride=2 pad=1 from=a\n"
     "e: meanpool 3x3 stride=2 pad=1 count=all from=a\nf: mixpool 3x3 stride=2 pad=1 from=a\n"
     "add from=b,c,d,e,f\nglobalmean\nsoftmax"},
    {"pools rounded up",
     "input 10x9x3\na: conv 4 3x3 pad=1\nb: maxpool 3x3 stride=2 ceil=yes from=a\n"
     "c: meanpool 3x3 stride=2 ceil=yes from=a\nd: minpool 3x3 stride=2 ceil=yes from=a\n"
     "concat from=b,c,d\ndense 3\nsoftmax"},
    {"batch norm", "input 7x7x2\nconv 4 3x3 bias=no\nbatchnorm\nrelu\nconv 5 3x3\nbatchnorm "
                   "eps=0.01\ntanh\ndense 3\n"
                   "softmax"},
    {"batch norm first and last", "input 5x4x3\nbatchnorm\nconv 3 3x3\ntanh\nbatchnorm"},
    {"residual",
     "input 8x8x4\na: conv 6 3x3 pad=1\nb: relu\nc: conv 6 3x3 pad=1\nd: batchnorm\ne: relu\n"
     "f: conv 6 3x3 pad=1\ng: add from=f,b\nh: relu\ni: add from=h,b,h\nglobalmean\ndense "
     "3\nsoftmax"},
    {"dense connections",
     "input 8x7x3\na: conv 4 3x3 pad=1\nb: concat from=a,input\nc: conv 5 1x1\nd: relu\n"
     "e: concat from=d,b,a\nf: conv 3 3x3\ng: maxpool 2x2\ndense 3\nsoftmax"},
    {"a small input spills before a large one",
     "input 8x8x3\na: conv 4 3x3 pad=1\nb: relu\nc: conv 32 3x3 pad=1\nd: relu\ne: concat "
     "from=b,d\n"
     "f: conv 4 3x3 pad=1\ng: relu\nconcat from=b,d,g\nglobalmean\ndense 3\nsoftmax"},
    {"a large input spills before a small one",
     "input 8x8x3\na: conv 4 3x3 pad=1\nb: relu\nc: conv 32 3x3 pad=1\nd: relu\ne: concat "
     "from=d,b\n"
     "f: conv 4 3x3 pad=1\ng: relu\nconcat from=b,d,g\nglobalmean\ndense 3\nsoftmax"},
    {"many readers",
     "input 6x6x2\na: conv 3 3x3 pad=1\nb: relu from=a\nc: tanh from=a\nd: sigmoid from=a\n"
     "e: dense 4 from=b\nf: dense 4 from=c\ng: globalmean from=d\nh: dense 4 from=g\n"
     "add from=e,f,h\nsoftmax"},
    {"concat of vectors",
     "input 1x1x5\na: dense 3\nb: relu\nc: dense 4 from=input\nconcat from=b,c,input\ndense 2\n"
     "sigmoid"},
    {"input pooled and added",
     "input 6x6x3\na: maxpool 2x2\nb: meanpool 2x2 from=input\nc: add from=a,b\n"
     "d: conv 2 3x3\nsoftmax"},
    {"multi-label", "input 5x5x1\ndense 6\nrelu\ndense 3 bias=no\nsigmoid"},
    {"squared error", "input 5x5x1\ndense 6\ntanh\ndense 3"},
    {"squared error of maps", "input 6x6x1\nconv 4 3x3 pad=1\nrelu\nconv 2 3x3 pad=1"},
    {"squared error after tanh", "input 4x4x1\nconv 4 3x3 pad=1\nrelu\ndense 2\ntanh"},
    {"squared error after pool", "input 6x6x1\nconv 4 3x3 pad=1\nrelu\nmaxpool 2x2"},
    {"logistic", "input 4x4x2\ndense 5\nsoftmax"},
    {"relu first", "input 4x4x2\nrelu\ndense 5\nsoftmax"},
    {"relu twice", "input 4x4x2\nconv 4 3x3\nrelu\nrelu\nsigmoid\ndense 5\nsoftmax"},
    {"adaptive mean", "input 7x9x2\nconv 4 3x3 pad=1\nrelu\na: adaptivemean 3x4\nconv 3 2x2\ntanh\n"
                      "b: adaptivemean 5x2\ndense 3\nsoftmax"},
    {"scaled residual",
     "input 6x6x3\na: conv 4 3x3 pad=1\nb: relu\nc: conv 4 1x1\nd: scale -0.17\ne: add from=d,b\n"
     "f: relu\ng: scale 3 from=b\nadd from=g,f\nglobalmean\ndense 3\nsoftmax"},
    {"weighted loss", "input 4x4x2\ndense 5\ntanh\ndense 3\nsoftmax loss=0.25"},
    {"auxiliary heads",
     "input 8x8x2\na: conv 6 3x3 pad=1\nb: relu\nc: maxpool 2x2\nglobalmean from=b\ndense 4\n"
     "softmax loss=0.3\nd: conv 5 3x3 from=c\ne: batchnorm\nf: relu\ng: adaptivemean 1x1\n"
     "h: dense 4 bias=no\ni: softmax loss=0.4\ndense 4 from=h\nsoftmax"},
    {"large windows", "input 12x12x3\nconv 4 7x7 stride=2 pad=3\nrelu\nmaxpool 3x3 stride=2 "
                      "pad=1\nconv 4 5x5 pad=2\n"
                      "relu\nmeanpool 3x3\ndense 3\nsoftmax"},
};

static void gradients_of(void **state) {
  int index = *(const int *)*state;
  cn_training_options options = cn_training_defaults();
  check_network(must_parse(gradient_cases[index].text), &options, 2e-5);
}

static void gradients_of_every_kind(void **state) {
  (void)state;
  char text[sizeof every_kind];
  strcpy(text, every_kind);
  memcpy(strstr(text, "dropout 0.25"), "dropout 0   ", 12); /* the interpreter knows no masks */
  cn_training_options options = cn_training_defaults();
  check_network(must_parse(text), &options, 2e-5);
}

static void gradients_by_math(void **state) {
  (void)state;
  cn_training_options options = cn_training_defaults();
  for (int math = CN_MATH_DIRECT; math <= CN_MATH_FAST; math++) {
    options.math = (cn_math)math;
    check_network(must_parse(gradient_cases[1].text), &options, math == CN_MATH_FAST ? 5e-6 : 2e-6);
  }
}

static void gradients_with_class_weights(void **state) {
  (void)state;
  static const float weights[4] = {0.5f, 2, 0, 1.25f};
  cn_training_options options = cn_training_defaults();
  options.class_weights = weights;
  check_network(must_parse(gradient_cases[0].text), &options, 2e-5);
}

static void gradients_with_frozen_batchnorm(void **state) {
  (void)state;
  cn_network *net =
      must_parse("input 6x6x2\na: conv 3 3x3\nb: batchnorm\nc: relu\nd: conv 4 3x3\ne: batchnorm\n"
                 "dense 3\nsoftmax");
  assert_int_equal(cn_network_freeze_named(net, "b"), 1);
  cn_training_options options = cn_training_defaults();
  check_network(net, &options, 2e-5);
}

/* Loss and gradients with a mask that the fixed seed repeats: derivative along a random direction.
 */
static void gradients_with_dropout(void **state) {
  (void)state;
  bench b = bench_open(
      must_parse(
          "input 6x6x2\nconv 8 3x3\ntanh\ndropout 0.25\ndense 12\ntanh\ndropout 0.5\ndense 4\n"
          "softmax"),
      8);
  cn_training_options options = cn_training_defaults();
  cn_trainer *trainer = must_train(b.net, b.count, &options);
  cn_metrics metrics;
  double slope = 0, losses[4];
  static const int offsets[4] = {-2, -1, 1, 2};
  const float step = 0.02f;
  size_t count;
  float *kept = copy_parameters(b.net, &count), *direction = (float *)malloc(count * sizeof(float));
  assert_non_null(direction);
  fill_random(direction, count, 6);
  assert_int_equal(cn_train_gradients(trainer, &b.batch, &metrics, NULL), CN_OK);
  size_t at = 0;
  for (int i = 0; i < cn_network_parameter_count(b.net);
       at += cn_network_parameter(b.net, i++).count)
    for (size_t k = 0; k < cn_network_parameter(b.net, i).count; k++)
      slope += (double)cn_trainer_gradient(trainer, i)[k] * (double)direction[at + k];
  for (int o = 0; o < 4; o++) {
    at = 0;
    for (int i = 0; i < cn_network_parameter_count(b.net);
         at += cn_network_parameter(b.net, i++).count)
      for (size_t k = 0; k < cn_network_parameter(b.net, i).count; k++)
        cn_network_parameter(b.net, i).values[k] =
            kept[at + k] + (float)offsets[o] * step * direction[at + k];
    cn_network_touch(b.net);
    assert_int_equal(cn_train_gradients(trainer, &b.batch, &metrics, NULL), CN_OK);
    losses[o] = metrics.loss;
  }
  assert_near("slope", slope,
              (losses[0] - 8 * losses[1] + 8 * losses[2] - losses[3]) / (12 * (double)step), 1e-3);
  free(kept);
  free(direction);
  cn_trainer_free(trainer);
  bench_close(&b);
}

/* The gradient of a linear unit's weights is its input times the error, which shows the mask. */
static void read_mask(cn_trainer *trainer, const cn_batch *batch, float *mask, size_t count) {
  cn_metrics metrics;
  assert_int_equal(cn_train_gradients(trainer, batch, &metrics, NULL), CN_OK);
  const float *gradient = cn_trainer_gradient(trainer, 0);
  float largest = 0;
  for (size_t i = 0; i < count; i++)
    largest = fabsf(gradient[i]) > largest ? fabsf(gradient[i]) : largest;
  for (size_t i = 0; i < count; i++) mask[i] = fabsf(gradient[i]) / largest;
}

static void dropout_masks(void **state) {
  (void)state;
  enum { VALUES = 2000 };
  cn_network *net = must_parse("input 1x1x2000\ndropout 0.3\ndense 1 bias=no");
  float inputs[VALUES], first[VALUES], second[VALUES], target = 100;
  for (int i = 0; i < VALUES; i++) inputs[i] = 1;
  cn_batch batch = {.count = 1, .inputs = inputs, .targets = &target};
  cn_training_options options = cn_training_defaults();
  cn_trainer *trainer = must_train(net, 1, &options);
  read_mask(trainer, &batch, first, VALUES);
  int kept = 0;
  for (int i = 0; i < VALUES; i++) {
    assert_true(first[i] == 0 || first[i] == 1);
    kept += first[i] == 1;
  }
  assert_true(kept > 1300 && kept < 1500); /* 1400 expected, deviation 20.5 */
  read_mask(trainer, &batch, second, VALUES);
  assert_memory_equal(first, second, sizeof first); /* no step was made */
  must_step(trainer, &batch);
  read_mask(trainer, &batch, second, VALUES);
  assert_memory_not_equal(first, second, sizeof first);
  cn_trainer_free(trainer);
  options.seed = 2;
  trainer = must_train(net, 1, &options);
  read_mask(trainer, &batch, second, VALUES);
  assert_memory_not_equal(first, second, sizeof first);
  cn_trainer_free(trainer);
  cn_network_free(net);
}

/* Images of a batch and dropouts of a network have masks of their own. */
static void dropout_masks_differ(void **state) {
  (void)state;
  enum { VALUES = 500 };
  cn_network *net = must_parse(
      "input 1x1x500\na: dropout 0.5\nb: dropout 0.5 from=input\nc: dense 1 bias=no from=a\n"
      "d: dense 1 bias=no from=b\nadd from=c,d");
  float inputs[2 * VALUES], both[VALUES], single[VALUES], targets[2] = {100, 100};
  for (int i = 0; i < 2 * VALUES; i++) inputs[i] = 1;
  cn_batch batch = {.count = 1, .inputs = inputs, .targets = targets};
  cn_training_options options = cn_training_defaults();
  cn_trainer *trainer = must_train(net, 2, &options);
  read_mask(trainer, &batch, single, VALUES);
  const float *other = cn_trainer_gradient(trainer, 1);
  int same = 0;
  for (int i = 0; i < VALUES; i++) same += (single[i] != 0) == (other[i] != 0);
  assert_true(same > 180 && same < 320);
  batch.count = 2;
  read_mask(trainer, &batch, both, VALUES);
  int one = 0; /* values that only one of the two images kept */
  for (int i = 0; i < VALUES; i++) one += both[i] > 0 && both[i] < 0.9f;
  assert_true(one > 180 && one < 320);
  cn_trainer_free(trainer);
  cn_network_free(net);
}

/* ---- inference ---------------------------------------------------------------------------------
 */

static void check_outputs(const char *text, const cn_predict_options *options, double bound) {
  bench b = bench_open(must_parse(text), 7);
  b.truth.training = 0;
  reference_run(&b.truth, b.inputs);
  int last = cn_network_node_count(b.net) - 1;
  size_t values = reference_values(&cn_network_node(b.net, last)->shape);
  float *outputs = (float *)malloc(8 * values * sizeof(float));
  assert_non_null(outputs);
  /* max_count below, at and above the number of images, and large enough for slices. */
  static const int max_counts[] = {1, 2, 7, 20, SLICED};
  for (int i = 0; i < LENGTH(max_counts); i++) {
    cn_predictor *predictor = must_predict(b.net, max_counts[i], options);
    assert_int_equal(cn_predictor_outputs(predictor), values);
    assert_true(cn_predictor_bytes(predictor) > 0);
    for (size_t k = 0; k < 8 * values; k++) outputs[k] = 77;
    cn_predict(predictor, b.inputs, 7, outputs);
    assert_close("output", outputs, b.truth.maps[last], 7 * values, bound, 0.01);
    for (size_t k = 7 * values; k < 8 * values; k++) assert_true(outputs[k] == 77);
    cn_predict(predictor, b.inputs, 0, outputs);
    cn_predictor_free(predictor);
  }
  free(outputs);
  bench_close(&b);
}

static void outputs_of(void **state) {
  check_outputs(gradient_cases[*(const int *)*state].text, NULL, 2e-6);
}

static void outputs_by_math(void **state) {
  (void)state;
  cn_predict_options options = {.threads = 1, .math = CN_MATH_DIRECT};
  for (int math = CN_MATH_DIRECT; math <= CN_MATH_FAST; math++) {
    options.math = (cn_math)math;
    check_outputs(gradient_cases[1].text, &options, 2e-6);
  }
  check_outputs(every_kind, NULL, 2e-6); /* dropout does nothing */
}

static void feature_maps(void **state) {
  (void)state;
  bench b = bench_open(must_parse(every_kind), 3);
  b.truth.training = 0;
  reference_run(&b.truth, b.inputs);
  int last = cn_network_node_count(b.net) - 1, keep[CN_MAX_INPUTS];
  float outputs[3 * 5], alone[3 * 5];
  cn_error error;
  assert_true(last < CN_MAX_INPUTS);
  for (int i = 1; i < last; i++) keep[i - 1] = i;
  cn_predict_options options = {.keep = keep, .keep_count = last - 1};
  cn_predictor *predictor = must_predict(b.net, 3, &options);
  cn_predict(predictor, b.inputs, 3, outputs);
  for (int i = 1; i < last; i++) {
    const cn_node *node = cn_network_node(b.net, i);
    const float *map = cn_predictor_feature_map(predictor, i);
    if (!map) fail_msg("%s was not kept", node->name);
    assert_close(node->name, map, b.truth.maps[i], 3 * reference_values(&node->shape), 2e-6, 0.01);
  }
  assert_null(cn_predictor_feature_map(predictor, -1));
  assert_null(cn_predictor_feature_map(predictor, last));
  assert_null(cn_predictor_feature_map(predictor, last + 1));
  cn_predictor_free(predictor);

  /* one of them, in the middle of what runs as one step otherwise; the others are not there */
  for (int i = 1; i < last; i++) {
    options.keep = &i, options.keep_count = 1;
    predictor = must_predict(b.net, 3, &options);
    cn_predict(predictor, b.inputs, 3, alone);
    const cn_node *node = cn_network_node(b.net, i);
    assert_close(node->name, cn_predictor_feature_map(predictor, i), b.truth.maps[i],
                 3 * reference_values(&node->shape), 2e-6, 0.01);
    if (node->op != CN_OP_DROPOUT) /* which passes on the map before it */
      assert_null(cn_predictor_feature_map(predictor, i > 1 ? i - 1 : i + 1));
    for (int j = 0; j < 3 * 5; j++)
      assert_near("output", (double)alone[j], (double)outputs[j], 1e-4);
    cn_predictor_free(predictor);
  }
  for (int wrong = -1; wrong <= last + 1;
       wrong += wrong == 0 ? last : 1) { /* -1, 0, last, last + 1 */
    options.keep = &wrong, options.keep_count = 1;
    assert_null(cn_predictor_create(b.net, 3, &options, &error));
    assert_int_equal(error.status, CN_ERROR_ARGUMENT);
    assert_contains(error.message, "kept");
  }
  bench_close(&b);
}

static void predictor_sees_new_weights(void **state) {
  (void)state;
  cn_network *net =
      must_parse("input 8x8x1\nconv 8 3x3 pad=1\nrelu\nmaxpool 2x2\ndense 4\nsoftmax");
  float inputs[64], before[4], after[4], again[4];
  fill_random(inputs, 64, 1);
  cn_predictor *predictor = must_predict(net, 1, NULL), *other = must_predict(net, 5, NULL);
  cn_predict(predictor, inputs, 1, before);
  cn_network_init(net, 9);
  cn_predict(predictor, inputs, 1, after);
  assert_memory_not_equal(before, after, sizeof before);
  cn_predict(other, inputs, 1, again);
  assert_memory_equal(again, after, sizeof after);
  cn_parameter bias = cn_network_parameter(net, 3);
  bias.values[0] += 1;
  cn_network_touch(net);
  cn_predict(predictor, inputs, 1, again);
  assert_memory_not_equal(again, after, sizeof after);
  cn_training_options options = cn_training_defaults();
  cn_trainer *trainer = must_train(net, 1, &options);
  int label = 2;
  cn_batch batch = {.count = 1, .inputs = inputs, .labels = &label};
  must_step(trainer, &batch);
  cn_predict(predictor, inputs, 1, after);
  assert_memory_not_equal(again, after, sizeof after);
  cn_trainer_free(trainer);
  cn_predictor_free(predictor);
  cn_predictor_free(other);
  cn_network_free(net);
}

static void plans_refuse(void **state) {
  (void)state;
  cn_error error = {CN_OK, 0, 0, ""};
  cn_network *empty = cn_network_create(&error), *net = must_parse("input 4x4x1\ndense 2\nsoftmax");
  cn_training_options options = cn_training_defaults();
  assert_null(cn_predictor_create(empty, 1, NULL, &error));
  assert_int_not_equal(error.status, CN_OK);
  assert_null(cn_trainer_create(empty, 1, &options, &error));
  error.status = CN_OK;
  assert_null(cn_predictor_create(net, 0, NULL, &error));
  assert_int_equal(error.status, CN_ERROR_ARGUMENT);
  assert_null(cn_trainer_create(net, -1, &options, &error));
  assert_null(cn_trainer_create(net, 0, &options, NULL));
  cn_predictor_free(NULL);
  cn_trainer_free(NULL);
  cn_network_free(empty);
  cn_network_free(net);
}

static void options_refused(void **state) {
  (void)state;
  cn_network *net = must_parse("input 4x4x1\ndense 2\nsoftmax");
  cn_training_options bad[13];
  for (int i = 0; i < LENGTH(bad); i++) bad[i] = cn_training_defaults();
  bad[0].learning_rate = -0.1f;
  bad[1].learning_rate = NAN;
  bad[2].momentum = 1;
  bad[3].beta1 = 1;
  bad[4].beta2 = -0.1f;
  bad[5].epsilon = 0;
  bad[6].decay = -1;
  bad[7].l1 = NAN;
  bad[8].l2 = -1;
  bad[9].clip_norm = -1;
  bad[10].warmup_steps = -1;
  bad[11].optimizer = (cn_optimizer)99;
  bad[12].epsilon = 1e-40f; /* where subnormal numbers count as 0 */
  for (int i = 0; i < LENGTH(bad); i++) {
    cn_error error = {CN_OK, 0, 0, ""};
    if (cn_trainer_create(net, 1, &bad[i], &error)) fail_msg("options %d accepted", i);
    assert_int_equal(error.status, CN_ERROR_ARGUMENT);
  }
  cn_network_free(net);
}

/* ---- threads and order -------------------------------------------------------------------------
 */

/* Parameters after five steps on odd-sized batches. */
static float *train_some(const char *text, int max_count, int threads, size_t *count) {
  bench b = bench_open(must_parse(text), 13);
  cn_training_options options = cn_training_defaults();
  options.threads = threads;
  cn_trainer *trainer = must_train(b.net, max_count, &options);
  static const int counts[] = {13, 7, 13, 1, 12};
  for (int step = 0; step < LENGTH(counts); step++) {
    b.batch.count = counts[step];
    must_step(trainer, &b.batch);
  }
  assert_int_equal(cn_trainer_steps(trainer), LENGTH(counts));
  float *parameters = copy_parameters(b.net, count);
  cn_trainer_free(trainer);
  bench_close(&b);
  return parameters;
}

static void threads_do_not_matter(void **state) {
  (void)state;
  char *base = architecture_text("base", NULL), *revised = architecture_text("revised", NULL);
  const char *const texts[] = {every_kind, gradient_cases[1].text, base, revised};
  for (int i = 0; i < LENGTH(texts); i++) {
    for (int max_count = 13; max_count <= SLICED; max_count += SLICED - 13) {
      size_t count;
      float *one = train_some(texts[i], max_count, 1, &count);
      for (int threads = 2; threads <= 3; threads++) {
        float *more = train_some(texts[i], max_count, threads, &count);
        assert_memory_equal(one, more, count * sizeof(float));
        free(more);
      }
      free(one);
    }
  }
  free(base);
  free(revised);
}

static void threads_do_not_matter_in_inference(void **state) {
  (void)state;
  bench b = bench_open(cn_arch_network("revised", NULL, NULL), 13);
  float one[13 * 10], two[13 * 10];
  cn_predict_options options = {.threads = 1, .math = CN_MATH_DEFAULT};
  static const int max_counts[] = {1, 5, 13, SLICED};
  for (int i = 0; i < LENGTH(max_counts); i++) {
    const int max_count = max_counts[i];
    options.threads = 1;
    cn_predictor *predictor = must_predict(b.net, max_count, &options);
    cn_predict(predictor, b.inputs, 13, one);
    cn_predictor_free(predictor);
    options.threads = 2;
    predictor = must_predict(b.net, max_count, &options);
    cn_predict(predictor, b.inputs, 13, two);
    cn_predictor_free(predictor);
    assert_memory_equal(one, two, sizeof one);
  }
  bench_close(&b);
}

static void training_repeats(void **state) {
  (void)state;
  size_t count;
  float *first = train_some(every_kind, 13, 0, &count),
        *second = train_some(every_kind, 13, 0, &count);
  assert_memory_equal(first, second, count * sizeof(float));
  free(first);
  free(second);
}

/* A batch of a trainer with room for more, at unaligned addresses, gives what an exact one gives.
 */
static void room_and_alignment_do_not_matter(void **state) {
  (void)state;
  bench a = bench_open(must_parse(gradient_cases[1].text), 5),
        b = bench_open(must_parse(gradient_cases[1].text), 5);
  cn_training_options options = cn_training_defaults();
  cn_trainer *exact = must_train(a.net, 5, &options), *roomy = must_train(b.net, 64, &options);
  size_t values = 5 * reference_values(&cn_network_node(a.net, 0)->shape);
  float *moved = (float *)malloc((values + 1) * sizeof(float));
  assert_non_null(moved);
  memcpy(moved + 1, b.inputs, values * sizeof(float));
  b.batch.inputs = moved + 1;
  for (int step = 0; step < 3; step++) {
    double exact_loss = must_step(exact, &a.batch), roomy_loss = must_step(roomy, &b.batch);
    assert_near("loss", roomy_loss, exact_loss, 1e-6);
  }
  free(moved);
  cn_trainer_free(exact);
  cn_trainer_free(roomy);
  bench_close(&a);
  bench_close(&b);
}

/* What is taken in slices gives what the whole gives. */
static void slices_of(void **state) {
  const char *text = gradient_cases[*(const int *)*state].text;
  bench a = bench_open(must_parse(text), 13), b = bench_open(must_parse(text), 13);
  cn_training_options options = cn_training_defaults();
  options.threads = 1; /* so that the end of its workspace is the end of all */
  cn_trainer *whole = must_train(a.net, 13, &options),
             *sliced = must_train(b.net, SLICED, &options);
  static const int counts[] = {13, 7, 6, 1};
  for (int step = 0; step < LENGTH(counts); step++) {
    cn_metrics want, got;
    a.batch.count = b.batch.count = counts[step];
    assert_int_equal(cn_train_gradients(whole, &a.batch, &want, NULL), CN_OK);
    assert_int_equal(cn_train_gradients(sliced, &b.batch, &got, NULL), CN_OK);
    assert_near("loss", got.loss, want.loss, 1e-6);
    for (int i = 0; i < cn_network_parameter_count(a.net); i++) {
      const cn_parameter p = cn_network_parameter(a.net, i);
      if (!p.trained) continue;
      double *gradient = reference_alloc(p.count);
      for (size_t k = 0; k < p.count; k++) gradient[k] = (double)cn_trainer_gradient(whole, i)[k];
      assert_close(p.name, cn_trainer_gradient(sliced, i), gradient, p.count, 2e-5, 0.1);
      free(gradient);
    }
  }
  cn_trainer_free(whole);
  cn_trainer_free(sliced);
  bench_close(&a);
  bench_close(&b);
}

/* They spare the memory of a batch's feature maps. */
static void slices_save_memory(void **state) {
  (void)state;
  cn_network *net = cn_arch_network("revised", NULL, NULL);
  const cn_predict_options options = {.threads = 1, .math = CN_MATH_DEFAULT};
  cn_predictor *whole = must_predict(net, SLICED - 1, &options),
               *sliced = must_predict(net, SLICED, &options);
  assert_true(cn_predictor_bytes(sliced) < cn_predictor_bytes(whole));
  cn_predictor_free(whole);
  cn_predictor_free(sliced);
  cn_network_free(net);
}

/* ---- options of training -----------------------------------------------------------------------
 */

/* One step from the same start with the options given; returns parameters before and after. */
typedef struct change {
  float *before, *after, *gradient; /* gradient 0 where a tensor is not trained */
  size_t count;
  double rate;
} change;

static const char plain_text[] = "input 6x6x2\nconv 4 3x3\nbatchnorm\nrelu\ndense 3\nsoftmax";

static cn_training_options plain_sgd(float learning_rate) {
  cn_training_options options = cn_training_defaults();
  options.optimizer = CN_SGD;
  options.learning_rate = learning_rate;
  return options;
}

static change one_step(const cn_training_options *options) {
  change c = {NULL, NULL, NULL, 0, (double)options->learning_rate};
  bench b = bench_open(must_parse(plain_text), 4);
  cn_trainer *trainer = must_train(b.net, 4, options);
  assert_int_equal(cn_train_gradients(trainer, &b.batch, NULL, NULL), CN_OK);
  c.before = copy_parameters(b.net, &c.count);
  c.gradient = (float *)calloc(c.count, sizeof(float));
  assert_non_null(c.gradient);
  size_t at = 0;
  for (int i = 0; i < cn_network_parameter_count(b.net);
       at += cn_network_parameter(b.net, i++).count)
    if (cn_trainer_gradient(trainer, i))
      memcpy(c.gradient + at, cn_trainer_gradient(trainer, i),
             cn_network_parameter(b.net, i).count * sizeof(float));
  must_step(trainer, &b.batch);
  c.after = copy_parameters(b.net, &c.count);
  cn_trainer_free(trainer);
  bench_close(&b);
  return c;
}

static void free_change(change *c) {
  free(c->before);
  free(c->after);
  free(c->gradient);
}

/* Calls check for every trained value: do penalties apply to it, before, after, gradient. */
static void for_each_value(const change *c, void (*check)(int penalised, double before,
                                                          double after, double gradient)) {
  cn_network *net = must_parse(plain_text);
  size_t at = 0;
  for (int i = 0; i < cn_network_parameter_count(net); at += cn_network_parameter(net, i++).count) {
    cn_parameter p = cn_network_parameter(net, i);
    if (!p.trained) continue;
    for (size_t k = 0; k < p.count; k++)
      check(p.rank > 1, (double)c->before[at + k], (double)c->after[at + k],
            (double)c->gradient[at + k]);
  }
  cn_network_free(net);
}

static void check_penalties(int penalised, double before, double after, double gradient) {
  double sign = (before > 0) - (before < 0);
  double expected = before - 0.5 * (gradient + (penalised ? 0.03 * sign + 0.2 * before : 0));
  assert_true(fabs(after - expected) <= 1e-6 * (1 + fabs(expected)));
}

static void penalties(void **state) {
  (void)state;
  cn_training_options options = plain_sgd(0.5f);
  options.l1 = 0.03f;
  options.l2 = 0.2f;
  change c = one_step(&options);
  for_each_value(&c, check_penalties);
  free_change(&c);
}

static void clipping(void **state) {
  (void)state;
  cn_training_options options = plain_sgd(1);
  for (int i = 0; i < 2; i++) {
    options.clip_norm = i ? 1e6f : 0.125f;
    change c = one_step(&options);
    double norm = 0, moved = 0;
    for (size_t k = 0; k < c.count; k++) {
      double step = c.gradient[k] == 0 ? 0 : (double)c.before[k] - (double)c.after[k];
      norm += (double)c.gradient[k] * (double)c.gradient[k];
      moved += step * step;
    }
    assert_true(sqrt(norm) > 0.2);
    assert_near("length of the step", sqrt(moved), i ? sqrt(norm) : 0.125, 1e-4);
    free_change(&c);
  }
}

typedef struct hook_calls {
  int calls, refuse;
  size_t count;
  float factor;
} hook_calls;

static int gradient_hook(float *gradients, size_t count, void *user) {
  hook_calls *calls = (hook_calls *)user;
  calls->calls++;
  calls->count = count;
  for (size_t i = 0; i < count; i++) gradients[i] *= calls->factor;
  return calls->refuse;
}

static void hook_changes_gradients(void **state) {
  (void)state;
  hook_calls calls = {0, 0, 0, 3};
  cn_training_options options = plain_sgd(0.25f), hooked = options;
  hooked.gradient_hook = gradient_hook;
  hooked.hook_user = &calls;
  change plain = one_step(&options), tripled = one_step(&hooked);
  assert_true(calls.calls >= 1);
  cn_network *net = must_parse(plain_text);
  assert_true(calls.count >= cn_network_weight_count(net));
  cn_network_free(net);
  for (size_t i = 0; i < plain.count; i++) {
    double step = plain.gradient[i] == 0 ? 0 : (double)plain.after[i] - (double)plain.before[i];
    if (step != 0)
      assert_true(fabs((double)tripled.after[i] - ((double)plain.before[i] + 3 * step)) < 2e-6);
  }
  free_change(&plain);
  free_change(&tripled);
}

static void hook_stops_step(void **state) {
  (void)state;
  hook_calls calls = {0, 1, 0, 1};
  bench b = bench_open(must_parse(plain_text), 4);
  cn_training_options options = plain_sgd(0.25f);
  options.gradient_hook = gradient_hook;
  options.hook_user = &calls;
  cn_trainer *trainer = must_train(b.net, 4, &options);
  size_t count, after_count;
  float *before = copy_parameters(b.net, &count);
  cn_error error = {CN_OK, 0, 0, ""};
  assert_int_equal(cn_train_step(trainer, &b.batch, NULL, &error), CN_ERROR_ARGUMENT);
  assert_contains(error.message, "hook");
  float *after = copy_parameters(b.net, &after_count);
  assert_memory_equal(before, after, count * sizeof(float));
  assert_int_equal(cn_trainer_steps(trainer), 0);
  free(before);
  free(after);
  cn_trainer_free(trainer);
  bench_close(&b);
}

static void learning_rates(void **state) {
  (void)state;
  cn_training_options options = cn_training_defaults();
  assert_true(options.learning_rate == 0.001f);
  assert_true(cn_learning_rate(&options, 1) == 0.001f &&
              cn_learning_rate(&options, 100000) == 0.001f);
  options.learning_rate = 0.8f;
  options.schedule = CN_SCHEDULE_STEP;
  options.decay_steps = 10;
  assert_near("step 10", (double)cn_learning_rate(&options, 10), 0.8, 1e-6);
  assert_near("step 11", (double)cn_learning_rate(&options, 11), 0.08, 1e-6);
  options.gamma = 0.5f;
  assert_near("step 30", (double)cn_learning_rate(&options, 30), 0.2, 1e-6);
  assert_near("step 31", (double)cn_learning_rate(&options, 31), 0.1, 1e-6);
  options.schedule = CN_SCHEDULE_COSINE;
  options.decay_steps = 100;
  assert_near("cosine 1", (double)cn_learning_rate(&options, 1), 0.8, 1e-3);
  assert_near("cosine 51", (double)cn_learning_rate(&options, 51), 0.4, 0.04);
  for (int64_t step = 2; step <= 100; step++)
    assert_true(cn_learning_rate(&options, step) < cn_learning_rate(&options, step - 1));
  assert_true(cn_learning_rate(&options, 100) < 0.8e-3f);
  assert_true(cn_learning_rate(&options, 101) <= 1e-6f &&
              cn_learning_rate(&options, 5000) == cn_learning_rate(&options, 101));
  options.schedule = CN_SCHEDULE_CONSTANT;
  options.warmup_steps = 4;
  for (int64_t step = 1; step <= 6; step++)
    assert_near("warm-up", (double)cn_learning_rate(&options, step),
                0.8 * (step < 4 ? (double)step / 4 : 1), 1e-6);
}

/* The step's length follows the schedule, and cn_trainer_set_learning_rate. */
static void schedule_takes_effect(void **state) {
  (void)state;
  bench b = bench_open(must_parse("input 1x1x1\ndense 1 bias=no"), 1);
  cn_training_options options = plain_sgd(0.125f);
  options.schedule = CN_SCHEDULE_STEP;
  options.decay_steps = 2;
  options.gamma = 0.5f;
  options.warmup_steps = 2;
  cn_trainer *trainer = must_train(b.net, 1, &options);
  float *weight = cn_network_parameter(b.net, 0).values;
  for (int64_t step = 1; step <= 8; step++) {
    double rate = (double)cn_learning_rate(&options, step);
    if (step > 6) {
      cn_trainer_set_learning_rate(trainer, 0.25f);
      options.learning_rate = 0.25f;
      rate = (double)cn_learning_rate(&options, step);
    }
    double before = (double)*weight, x = (double)b.inputs[0];
    double gradient = (before * x - (double)b.targets[0]) * x;
    must_step(trainer, &b.batch);
    assert_near("weight", (double)*weight, before - rate * gradient, 1e-6);
  }
  cn_trainer_free(trainer);
  bench_close(&b);
}

/* ---- metrics and refusals ----------------------------------------------------------------------
 */

static int expected_correct(bench *b) {
  int last = cn_network_node_count(b->net) - 1, correct = 0;
  const cn_node *node = cn_network_node(b->net, last);
  size_t values = reference_values(&node->shape);
  for (int i = 0; i < b->count; i++) {
    const double *y = b->truth.maps[last] + (size_t)i * values;
    int right = 1;
    for (size_t k = 0; k < values; k++)
      right &= node->op == CN_OP_SOFTMAX
                   ? y[k] <= y[b->labels[i]]
                   : (y[k] > 0.5) == (b->targets[(size_t)i * values + k] > 0.5f);
    correct += right;
  }
  return correct;
}

static void metrics_count_right_rows(void **state) {
  (void)state;
  static const char *const texts[] = {"input 3x3x2\ndense 3\nsoftmax",
                                      "input 3x3x2\ndense 2\nsigmoid"};
  for (int i = 0; i < LENGTH(texts); i++) {
    bench b = bench_open(must_parse(texts[i]), 16);
    for (int k = 0; k < 32 && i == 1; k++) b.targets[k] = b.targets[k] > 0.5f;
    cn_training_options options = cn_training_defaults();
    cn_trainer *trainer = must_train(b.net, 16, &options);
    cn_metrics metrics;
    double loss = reference_loss(&b.truth, &b.batch, NULL);
    assert_int_equal(cn_train_step(trainer, &b.batch, &metrics, NULL), CN_OK);
    int expected = expected_correct(&b);
    assert_true(expected > 0 && expected < 16);
    assert_int_equal(metrics.correct, expected);
    assert_near("loss", metrics.loss, loss, 1e-6);
    cn_trainer_free(trainer);
    bench_close(&b);
  }
}

static void assert_step_refused(cn_network *net, cn_trainer *trainer, const cn_batch *batch,
                                cn_status status, const char *part) {
  size_t count, after_count;
  float *before = copy_parameters(net, &count);
  int64_t steps = cn_trainer_steps(trainer);
  cn_error error = {CN_OK, 0, 0, ""};
  cn_metrics metrics;
  assert_int_equal(cn_train_step(trainer, batch, &metrics, &error), status);
  assert_int_equal(error.status, status);
  assert_contains(error.message, part);
  float *after = copy_parameters(net, &after_count);
  assert_memory_equal(before, after, count * sizeof(float));
  assert_int_equal(cn_trainer_steps(trainer), steps);
  free(before);
  free(after);
}

static void steps_refused(void **state) {
  (void)state;
  bench b = bench_open(must_parse("input 6x6x2\nbatchnorm\ndense 3\nsoftmax"), 4);
  cn_training_options options = cn_training_defaults();
  options.learning_rate = 0.0125f;
  cn_trainer *trainer = must_train(b.net, 4, &options);
  must_step(trainer, &b.batch);
  cn_batch bad = b.batch;
  bad.count = 0;
  assert_step_refused(b.net, trainer, &bad, CN_ERROR_ARGUMENT, "0");
  bad.count = 5;
  assert_step_refused(b.net, trainer, &bad, CN_ERROR_ARGUMENT, "5");
  bad = b.batch, bad.labels = NULL;
  assert_step_refused(b.net, trainer, &bad, CN_ERROR_ARGUMENT, "label");
  bad = b.batch, bad.inputs = NULL;
  assert_step_refused(b.net, trainer, &bad, CN_ERROR_ARGUMENT, "input");
  b.labels[2] = 3;
  assert_step_refused(b.net, trainer, &b.batch, CN_ERROR_ARGUMENT, "3");
  b.labels[2] = -1;
  assert_step_refused(b.net, trainer, &b.batch, CN_ERROR_ARGUMENT, "-1");
  b.labels[2] = 1;
  b.inputs[7] = NAN;
  assert_step_refused(b.net, trainer, &b.batch, CN_ERROR_NUMERIC, "image 0");
  b.inputs[7] = INFINITY;
  assert_step_refused(b.net, trainer, &b.batch, CN_ERROR_NUMERIC, "image 0");
  b.inputs[7] = 1e38f; /* finite, but not its square */
  assert_step_refused(b.net, trainer, &b.batch, CN_ERROR_NUMERIC, "0.0125");
  assert_step_refused(b.net, trainer, &b.batch, CN_ERROR_NUMERIC, "step 2");
  b.inputs[7] = 0;
  must_step(trainer, &b.batch); /* and it goes on */
  cn_trainer_free(trainer);
  bench_close(&b);
}

/* After a refused step training continues as if it had not been asked for. */
static void refused_steps_leave_no_trace(void **state) {
  (void)state;
  const char *text = "input 6x6x2\nconv 4 3x3\nbatchnorm\ntanh\ndropout 0.25\ndense 3\nsoftmax";
  bench a = bench_open(must_parse(text), 4), b = bench_open(must_parse(text), 4);
  cn_training_options options = cn_training_defaults();
  cn_trainer *undisturbed = must_train(a.net, 4, &options),
             *disturbed = must_train(b.net, 4, &options);
  for (int step = 0; step < 3; step++) {
    must_step(undisturbed, &a.batch);
    float kept = b.inputs[0];
    b.inputs[0] = NAN;
    assert_int_equal(cn_train_step(disturbed, &b.batch, NULL, NULL), CN_ERROR_NUMERIC);
    b.inputs[0] = kept;
    must_step(disturbed, &b.batch);
  }
  assert_same_parameters(a.net, b.net);
  cn_trainer_free(undisturbed);
  cn_trainer_free(disturbed);
  bench_close(&a);
  bench_close(&b);
}

/* ---- freezing ----------------------------------------------------------------------------------
 */

static const char freeze_text[] =
    "input 8x8x2\nfeatures.a: conv 4 3x3\nfeatures.b: batchnorm\nrelu\nfeatures.c: conv 4 3x3\n"
    "relu\nhead.d: dense 6\nrelu\nhead.e: dense 3\nsoftmax";

/* Which of the nodes a to e changed anything in two steps, as a string like "--cde". */
static void train_and_compare(cn_network *net, char *changed) {
  bench b = bench_open(net, 4);
  size_t count, after_count, at = 0;
  float *before = copy_parameters(net, &count);
  cn_training_options options = cn_training_defaults();
  options.optimizer = CN_ADAMW; /* decay must not touch frozen weights either */
  options.decay = 0.1f;
  options.l2 = 0.1f;
  cn_trainer *trainer = must_train(net, 4, &options);
  must_step(trainer, &b.batch);
  must_step(trainer, &b.batch);
  float *after = copy_parameters(net, &after_count);
  strcpy(changed, "-----");
  for (int i = 0; i < cn_network_parameter_count(net); i++) {
    cn_parameter p = cn_network_parameter(net, i);
    char letter = strchr(p.name, '.')[1];
    if (memcmp(before + at, after + at, p.count * sizeof(float)) != 0)
      changed[letter - 'a'] = letter;
    at += p.count;
  }
  free(before);
  free(after);
  cn_trainer_free(trainer);
  bench_close(&b);
}

static void freezing(void **state) {
  (void)state;
  char changed[8];
  train_and_compare(must_parse(freeze_text), changed);
  assert_string_equal(changed, "abcde");

  cn_network *net = must_parse(freeze_text);
  assert_int_equal(cn_network_freeze(net, 2), 2);
  assert_int_equal(cn_network_parameter(net, 0).trained, 0);
  train_and_compare(net, changed);
  assert_string_equal(changed, "--cde");

  net = must_parse(freeze_text);
  assert_int_equal(cn_network_freeze_named(net, "features."), 3);
  train_and_compare(net, changed);
  assert_string_equal(changed, "---de");

  net = must_parse(freeze_text);
  assert_int_equal(cn_network_freeze_named(net, "head."), 2);
  train_and_compare(net, changed);
  assert_string_equal(changed, "abc--");

  net = must_parse(freeze_text);
  assert_int_equal(cn_network_freeze(net, 5), 5);
  assert_int_equal(cn_network_freeze(net, 0), 0);
  train_and_compare(net, changed);
  assert_string_equal(changed, "abcde");

  /* a point ends a whole part of the name */
  net = must_parse("input 4x4x1\nlayer1.0: conv 2 1x1\nlayer10.0: conv 2 1x1\nlayer1: dense 3");
  assert_int_equal(cn_network_freeze_named(net, "layer1."), 2);
  assert_int_equal(cn_network_parameter(net, 2).trained, 1);
  assert_int_equal(cn_network_freeze_named(net, "layer1"), 3);
  cn_network_free(net);

  net = must_parse(freeze_text);
  assert_int_equal(cn_network_freeze_named(net, "nowhere"), 0);
  assert_int_equal(cn_network_freeze(net, 4), 4);
  train_and_compare(net, changed);
  assert_string_equal(changed, "----e");
}

/* One step of plain SGD moves a node's parameters by its factor times what they move without one, and
   leaves the others' steps as they are. */
static void rate_factors(void **state) {
  (void)state;
  cn_training_options options = cn_training_defaults();
  options.optimizer = CN_SGD;
  options.learning_rate = 0.5f;
  float *moved[2];
  for (int scaled = 0; scaled < 2; scaled++) {
    cn_network *net = must_parse(freeze_text);
    bench b = bench_open(net, 4);
    size_t count;
    float *before = copy_parameters(net, &count);
    if (scaled) {
      assert_int_equal(cn_network_scale_rate(net, cn_network_find(net, "head.e"), 8, NULL), CN_OK);
      assert_int_equal(cn_network_scale_rate(net, cn_network_find(net, "features.a"), 0, NULL),
                       CN_OK);
    }
    cn_trainer *trainer = must_train(net, 4, &options);
    must_step(trainer, &b.batch);
    moved[scaled] = copy_parameters(net, &count);
    for (size_t i = 0; i < count; i++) moved[scaled][i] -= before[i];
    size_t at = 0;
    for (int i = 0; scaled && i < cn_network_parameter_count(net); i++) {
      cn_parameter p = cn_network_parameter(net, i);
      double factor = !strncmp(p.name, "head.e", 6)        ? 8
                      : !strncmp(p.name, "features.a", 10) ? 0
                                                           : 1;
      double most = 0;
      for (size_t k = 0; k < p.count; k++, at++) {
        double wanted = factor * (double)moved[0][at];
        assert_true(fabs((double)moved[1][at] - wanted) <= 1e-6 + 1e-4 * fabs(wanted));
        most = fmax(most, fabs(wanted));
      }
      assert_true(most > 1e-4 || factor == 0);
    }
    free(before);
    cn_trainer_free(trainer);
    bench_close(&b);
  }
  free(moved[0]);
  free(moved[1]);
  cn_network *net = must_parse(freeze_text);
  cn_error error;
  assert_int_equal(cn_network_scale_rate(net, 1, -1, &error), CN_ERROR_ARGUMENT);
  assert_int_equal(cn_network_scale_rate(net, 1, NAN, &error), CN_ERROR_ARGUMENT);
  assert_int_equal(cn_network_scale_rate(net, 0, 2, &error), CN_ERROR_ARGUMENT);
  assert_contains(error.message, "no parameters");
  cn_network_free(net);
}

/* ---- learning ----------------------------------------------------------------------------------
 */

/* Ten steps on one batch must bring the loss down with every optimiser. */
static void loss_falls(void **state) {
  (void)state;
  static const cn_optimizer optimisers[] = {CN_SGD, CN_ADAGRAD, CN_ADAM, CN_ADAMW};
  static const float rates[] = {0.05f, 0.02f, 0.01f, 0.01f};
  for (int i = 0; i < LENGTH(optimisers); i++) {
    bench b = bench_open(
        must_parse(
            "input 10x10x1\nconv 8 3x3 pad=1\nrelu\nmaxpool 2x2\ndense 16\nrelu\ndense 4\nsoftmax"),
        16);
    cn_training_options options = cn_training_defaults();
    options.optimizer = optimisers[i];
    options.learning_rate = rates[i];
    options.momentum = 0.9f;
    cn_trainer *trainer = must_train(b.net, 16, &options);
    double first = must_step(trainer, &b.batch), last = 0;
    for (int step = 0; step < 9; step++) last = must_step(trainer, &b.batch);
    if (!(last < 0.9 * first))
      fail_msg("optimiser %d: loss %g, then %g", (int)optimisers[i], first, last);
    cn_trainer_free(trainer);
    bench_close(&b);
  }
}

static void early_stopping(void **state) {
  (void)state;
  cn_early_stopping stopping = {2, 0, 0, 0};
  static const struct {
    double loss;
    int result;
  } checks[] = {{3, 1}, {2, 1}, {2, 0}, {1.5, 1}, {1.6, 0}, {NAN, -1}};
  for (int i = 0; i < LENGTH(checks); i++)
    assert_int_equal(cn_early_stopping_check(&stopping, checks[i].loss), checks[i].result);
  assert_int_equal(stopping.best_check, 4);
  assert_true(stopping.best == 1.5);
  cn_early_stopping from_nan = {3, 0, 0, 0}; /* anything is better than no number */
  cn_early_stopping_check(&from_nan, NAN);
  assert_int_equal(cn_early_stopping_check(&from_nan, 5), 1);
}

static void random_numbers(void **state) {
  (void)state;
  /* splitmix64 from seed 1234567, as published with it. */
  cn_random random = {1234567, 0};
  static const uint64_t known[] = {UINT64_C(6457827717110365317), UINT64_C(3203168211198807973),
                                   UINT64_C(9817491932198370423)};
  for (int i = 0; i < LENGTH(known); i++) assert_true(cn_random_bits(&random) == known[i]);
  int seen[10] = {0}, order[100];
  for (int i = 0; i < 10000; i++) {
    seen[cn_random_below(&random, 10)]++;
    float uniform = cn_random_uniform(&random);
    assert_true(uniform >= 0 && uniform < 1);
  }
  for (int i = 0; i < 10; i++) assert_true(seen[i] > 850 && seen[i] < 1150);
  assert_int_equal(cn_random_below(&random, 1), 0);
  double sum = 0, squares = 0;
  for (int i = 0; i < 10000; i++) {
    double value = (double)cn_random_normal(&random);
    sum += value, squares += value * value;
  }
  assert_true(fabs(sum / 10000) < 0.05 && fabs(squares / 10000 - 1) < 0.08);
  for (int i = 0; i < 100; i++) order[i] = i;
  cn_random_shuffle(&random, order, 100);
  int found[100] = {0}, moved = 0;
  for (int i = 0; i < 100; i++) found[order[i]]++, moved += order[i] != i;
  for (int i = 0; i < 100; i++) assert_int_equal(found[i], 1);
  assert_true(moved > 90);
}

int main(void) {
  static const struct CMUnitTest single[] = {
      cmocka_unit_test(parse_every_kind),
      cmocka_unit_test(parse_windows),
      cmocka_unit_test(default_names),
      cmocka_unit_test(canonical_text),
      cmocka_unit_test(architectures),
      cmocka_unit_test(smallest_inputs),
      cmocka_unit_test(architectures_refuse),
      cmocka_unit_test(errors_of_text),
      cmocka_unit_test(damaged_text),
      cmocka_unit_test(long_names),
      cmocka_unit_test(many_inputs),
      cmocka_unit_test(calls_equal_text),
      cmocka_unit_test(parameters_start_initialised),
      cmocka_unit_test(add_refuses),
      cmocka_unit_test(notes),
      cmocka_unit_test(init_depends_on_seed),
      cmocka_unit_test(init_distributions),
      cmocka_unit_test(gradients_of_every_kind),
      cmocka_unit_test(gradients_by_math),
      cmocka_unit_test(gradients_with_class_weights),
      cmocka_unit_test(gradients_with_frozen_batchnorm),
      cmocka_unit_test(gradients_with_dropout),
      cmocka_unit_test(dropout_masks),
      cmocka_unit_test(dropout_masks_differ),
      cmocka_unit_test(outputs_by_math),
      cmocka_unit_test(feature_maps),
      cmocka_unit_test(predictor_sees_new_weights),
      cmocka_unit_test(plans_refuse),
      cmocka_unit_test(options_refused),
      cmocka_unit_test(threads_do_not_matter),
      cmocka_unit_test(threads_do_not_matter_in_inference),
      cmocka_unit_test(training_repeats),
      cmocka_unit_test(room_and_alignment_do_not_matter),
      cmocka_unit_test(slices_save_memory),
      cmocka_unit_test(penalties),
      cmocka_unit_test(clipping),
      cmocka_unit_test(hook_changes_gradients),
      cmocka_unit_test(hook_stops_step),
      cmocka_unit_test(learning_rates),
      cmocka_unit_test(schedule_takes_effect),
      cmocka_unit_test(metrics_count_right_rows),
      cmocka_unit_test(steps_refused),
      cmocka_unit_test(refused_steps_leave_no_trace),
      cmocka_unit_test(freezing),
      cmocka_unit_test(rate_factors),
      cmocka_unit_test(loss_falls),
      cmocka_unit_test(early_stopping),
      cmocka_unit_test(random_numbers),
  };
  static const struct {
    const char *name;
    CMUnitTestFunction function;
  } kinds[] = {{"gradients", gradients_of}, {"outputs", outputs_of}, {"slices", slices_of}};
  enum { CASES = LENGTH(gradient_cases), SINGLE = LENGTH(single), KINDS = LENGTH(kinds) };
  static struct CMUnitTest tests[SINGLE + KINDS * CASES];
  static char names[KINDS * CASES][64];
  static int indices[CASES];
  memcpy(tests, single, sizeof single);
  for (int i = 0; i < KINDS * CASES; i++) {
    struct CMUnitTest *test = &tests[SINGLE + i];
    indices[i % CASES] = i % CASES;
    snprintf(names[i], sizeof names[i], "%s: %s", kinds[i / CASES].name,
             gradient_cases[i % CASES].name);
    test->name = names[i];
    test->test_func = kinds[i / CASES].function;
    test->initial_state = &indices[i % CASES];
  }
  return _cmocka_run_group_tests("networks", tests, SINGLE + KINDS * CASES, NULL, NULL);
}
