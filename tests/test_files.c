/* Files: what is saved comes back byte for byte, what other programs write is read, and a damaged or
   hostile file gives an error that names it, changes nothing and crashes nothing. */
#define _XOPEN_SOURCE 700
#include "convnet.h"
#include "support.h"

#include <dirent.h>
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define LENGTH(array) ((int)(sizeof(array) / sizeof *(array)))

static char folder[64]; /* of this run, emptied at the end */

static const char *in_folder(const char *name) {
  static char paths[4][160];
  static int next;
  char *path = paths[next++ % 4];
  snprintf(path, sizeof paths[0], "%s/%s", folder, name);
  return path;
}

static int files_in_folder(void) {
  DIR *directory = opendir(folder);
  assert_non_null(directory);
  int count = -2; /* . and .. */
  while (readdir(directory)) count++;
  closedir(directory);
  return count;
}

/* Removes what earlier tests left, so that each finds an empty folder. */
static int empty_folder(void **state) {
  (void)state;
  DIR *directory = opendir(folder);
  if (!directory) return -1;
  for (struct dirent *entry; (entry = readdir(directory));)
    if (entry->d_name[0] != '.' || strlen(entry->d_name) > 2) remove(in_folder(entry->d_name));
  closedir(directory);
  return 0;
}

static void write_bytes(const char *path, const void *bytes, size_t count) {
  FILE *file = fopen(path, "wb");
  assert_non_null(file);
  assert_int_equal(fwrite(bytes, 1, count, file), count);
  assert_int_equal(fclose(file), 0);
}

static unsigned char *read_bytes(const char *path, size_t *count) {
  FILE *file = fopen(path, "rb");
  if (!file) fail_msg("cannot open %s", path);
  assert_int_equal(fseek(file, 0, SEEK_END), 0);
  long size = ftell(file);
  rewind(file);
  unsigned char *bytes = (unsigned char *)malloc((size_t)size + 1);
  assert_non_null(bytes);
  assert_int_equal(fread(bytes, 1, (size_t)size, file), size);
  fclose(file);
  bytes[size] = 0;
  *count = (size_t)size;
  return bytes;
}

static void assert_same_bytes(const char *a, const char *b) {
  size_t a_count, b_count;
  unsigned char *a_bytes = read_bytes(a, &a_count), *b_bytes = read_bytes(b, &b_count);
  assert_int_equal(a_count, b_count);
  assert_memory_equal(a_bytes, b_bytes, a_count);
  free(a_bytes);
  free(b_bytes);
}

/* A safetensors file from a header as text and data bytes 0, 1, 2, ... */
static void write_file(const char *path, const char *header, size_t data_count) {
  size_t length = strlen(header);
  unsigned char *bytes = (unsigned char *)malloc(8 + length + data_count);
  assert_non_null(bytes);
  for (int i = 0; i < 8; i++) bytes[i] = (unsigned char)((uint64_t)length >> (8 * i));
  memcpy(bytes + 8, header, length);
  for (size_t i = 0; i < data_count; i++) bytes[8 + length + i] = (unsigned char)i;
  write_bytes(path, bytes, 8 + length + data_count);
  free(bytes);
}

static void must_save(cn_network *net, const char *path) {
  cn_error error;
  if (cn_save(net, path, &error) != CN_OK) fail_msg("%s", error.message);
}

static cn_network *must_load(const char *path) {
  cn_error error;
  cn_network *net = cn_load(path, &error);
  if (!net) fail_msg("%s", error.message);
  return net;
}

static cn_safetensors *must_read(const char *path) {
  cn_error error;
  cn_safetensors *file = cn_safetensors_read(path, &error);
  if (!file) fail_msg("%s", error.message);
  return file;
}

static const char net_text[] = "input 6x5x4\n"
                               "layer1.0.conv1: conv 6 3x3 pad=1 groups=2\n"
                               "layer1.0.bn1: batchnorm\n"
                               "relu\n"
                               "maxpool 2x2\n"
                               "dropout 0.5\n"
                               "fc: dense 5\n"
                               "relu\n"
                               "last: dense 3 bias=no\n"
                               "softmax\n";

/* A network whose every value differs from every other. */
static cn_network *network_of(const char *text) {
  cn_network *net = must_parse(text);
  float next = 0.25f;
  for (int i = 0; i < cn_network_parameter_count(net); i++) {
    cn_parameter p = cn_network_parameter(net, i);
    for (size_t k = 0; k < p.count; k++) p.values[k] = next += 0.001f;
  }
  cn_network_touch(net);
  return net;
}

/* ---- round trips ------------------------------------------------------------------------------- */

static void save_and_load(void **state) {
  (void)state;
  cn_network *net = network_of(net_text);
  cn_error error;
  assert_int_equal(cn_network_set_note(net, "classes",
                                       "cat\tdog\n\"bird\" \\ \x01 \xc3\xa9\xf0\x9f\x90\xa6",
                                       &error),
                   CN_OK);
  assert_int_equal(cn_network_set_note(net, "empty", "", &error), CN_OK);
  must_save(net, in_folder("a"));
  cn_network *loaded = must_load(in_folder("a"));
  assert_string_equal(cn_network_text(loaded), cn_network_text(net));
  assert_same_parameters(loaded, net);
  assert_string_equal(cn_network_note(loaded, "classes"), cn_network_note(net, "classes"));
  assert_string_equal(cn_network_note(loaded, "empty"), "");
  must_save(loaded, in_folder("b"));
  assert_same_bytes(in_folder("a"), in_folder("b"));
  must_save(loaded, in_folder("a")); /* over an old file */
  assert_same_bytes(in_folder("a"), in_folder("b"));
  assert_int_equal(files_in_folder(), 2);
  cn_network_free(net);
  cn_network_free(loaded);
}

static void odd_values_survive(void **state) {
  (void)state;
  cn_network *net = must_parse("input 1x1x4\ndense 2"), *loaded;
  static const uint32_t bits[] = {0x7fc00001, 0xff800000, 0x7f800000, 0x80000000,
                                  0x00000001, 0x807fffff, 0x7f7fffff, 0x3f800001};
  memcpy(cn_network_parameter(net, 0).values, bits, sizeof bits);
  must_save(net, in_folder("a"));
  loaded = must_load(in_folder("a"));
  assert_same_parameters(net, loaded);
  cn_network_free(net);
  cn_network_free(loaded);
}

static void network_without_parameters(void **state) {
  (void)state;
  cn_network *net = must_parse("input 4x4x1\nmaxpool 2x2"), *loaded;
  must_save(net, in_folder("a"));
  loaded = must_load(in_folder("a"));
  assert_string_equal(cn_network_text(loaded), cn_network_text(net));
  cn_network_free(net);
  cn_network_free(loaded);
}

/* Names, shapes and order of values are PyTorch's; the text is in the metadata. */
static void contents_are_pytorchs(void **state) {
  (void)state;
  cn_network *net = network_of(net_text);
  must_save(net, in_folder("a"));
  cn_safetensors *file = must_read(in_folder("a"));
  assert_string_equal(cn_safetensors_note(file, "network"), cn_network_text(net));
  assert_null(cn_safetensors_note(file, "nothing"));
  assert_null(cn_safetensors_find(file, "nothing"));
  static const struct {
    const char *name;
    int rank;
    int64_t dims[4];
  } expected[] = {
      {"layer1.0.conv1.weight", 4, {6, 2, 3, 3}},
      {"layer1.0.conv1.bias", 1, {6, 0, 0, 0}},
      {"layer1.0.bn1.weight", 1, {6, 0, 0, 0}},
      {"layer1.0.bn1.bias", 1, {6, 0, 0, 0}},
      {"layer1.0.bn1.running_mean", 1, {6, 0, 0, 0}},
      {"layer1.0.bn1.running_var", 1, {6, 0, 0, 0}},
      {"fc.weight", 2, {5, 36, 0, 0}},
      {"fc.bias", 1, {5, 0, 0, 0}},
      {"last.weight", 2, {3, 5, 0, 0}},
  };
  assert_int_equal(file->tensor_count, LENGTH(expected));
  for (int i = 0; i < LENGTH(expected); i++) {
    const cn_tensor *tensor = cn_safetensors_find(file, expected[i].name);
    if (!tensor) fail_msg("no %s", expected[i].name);
    assert_int_equal(tensor->dtype, CN_F32);
    assert_int_equal(tensor->rank, expected[i].rank);
    for (int d = 0; d < tensor->rank; d++) assert_int_equal(tensor->dims[d], expected[i].dims[d]);
  }
  const float *hwio = cn_network_parameter(net, 0).values;
  const char *oihw = (const char *)cn_safetensors_find(file, "layer1.0.conv1.weight")->data;
  for (int o = 0, n = 0; o < 6; o++)
    for (int i = 0; i < 2; i++)
      for (int y = 0; y < 3; y++)
        for (int x = 0; x < 3; x++, n++)
          assert_memory_equal(oihw + n * 4, &hwio[((y * 3 + x) * 2 + i) * 6 + o], 4);
  const float *ours = cn_network_parameter(net, 6).values; /* [3][2][6][5] */
  const char *theirs = (const char *)cn_safetensors_find(file, "fc.weight")->data;
  for (int o = 0, n = 0; o < 5; o++)
    for (int c = 0; c < 6; c++)
      for (int y = 0; y < 3; y++)
        for (int x = 0; x < 2; x++, n++)
          assert_memory_equal(theirs + n * 4, &ours[((y * 2 + x) * 6 + c) * 5 + o], 4);
  cn_safetensors_free(file);
  cn_safetensors_free(NULL);
  cn_network_free(net);
}

static void header_is_aligned(void **state) {
  (void)state;
  cn_network *net = network_of(net_text);
  for (int length = 0; length < 9; length++) {
    char note[16] = "xxxxxxxx";
    note[length] = 0;
    assert_int_equal(cn_network_set_note(net, "x", note, NULL), CN_OK);
    must_save(net, in_folder("a"));
    size_t count;
    unsigned char *bytes = read_bytes(in_folder("a"), &count);
    assert_int_equal(bytes[0] % 8, 0);
    assert_int_equal(bytes[8], '{');
    free(bytes);
  }
  cn_network_free(net);
}

static void plain_tensors(void **state) {
  (void)state;
  static const float values[] = {1, 2, 3, 4, 5, 6, 7};
  cn_tensor tensors[3] = {
      {"zebra", CN_F32, 2, {2, 3}, values, 24, ""},
      {"a \"quoted\" \\ name \xc3\xa9", CN_F32, 0, {0}, values + 6, 4, ""},
      {"empty", CN_F32, 2, {0, 5}, values, 0, ""},
  };
  static const cn_note notes[] = {{"k\n", "v\x1f\x7f\"\\/\t"}, {"", ""}};
  cn_error error;
  assert_int_equal(cn_safetensors_write(in_folder("a"), tensors, 3, notes, 2, &error), CN_OK);
  cn_safetensors *file = must_read(in_folder("a"));
  assert_int_equal(file->tensor_count, 3);
  assert_int_equal(file->note_count, 2);
  for (int i = 0; i < 3; i++) {
    const cn_tensor *tensor = cn_safetensors_find(file, tensors[i].name);
    if (!tensor) fail_msg("no %s", tensors[i].name);
    assert_int_equal(tensor->rank, tensors[i].rank);
    assert_int_equal(tensor->bytes, tensors[i].bytes);
    if (tensor->bytes) assert_memory_equal(tensor->data, tensors[i].data, tensor->bytes);
  }
  assert_string_equal(file->tensors[0].name, "zebra"); /* in the order of writing */
  assert_string_equal(cn_safetensors_note(file, "k\n"), notes[0].value);
  cn_safetensors_free(file);

  tensors[0].bytes = 20;
  assert_int_equal(cn_safetensors_write(in_folder("b"), tensors, 3, notes, 2, &error),
                   CN_ERROR_ARGUMENT);
  assert_contains(error.message, "zebra");
  assert_int_equal(files_in_folder(), 1);
}

static void many_tensors(void **state) {
  (void)state;
  enum { MANY = 20000 };
  static char names[MANY][16];
  cn_tensor *tensors = (cn_tensor *)calloc(MANY, sizeof *tensors);
  assert_non_null(tensors);
  static const float value = 1;
  for (int i = 0; i < MANY; i++) {
    snprintf(names[i], sizeof names[i], "t%d", i * 7919 % MANY);
    tensors[i].name = names[i];
    tensors[i].rank = 1;
    tensors[i].dims[0] = 1;
    tensors[i].data = &value;
    tensors[i].bytes = 4;
  }
  cn_error error;
  assert_int_equal(cn_safetensors_write(in_folder("a"), tensors, MANY, NULL, 0, &error), CN_OK);
  cn_safetensors *file = must_read(in_folder("a"));
  assert_int_equal(file->tensor_count, MANY);
  assert_non_null(cn_safetensors_find(file, "t12345"));
  cn_safetensors_free(file);
  free(tensors);
}

/* ---- reading others' files --------------------------------------------------------------------- */

static void header_variations(void **state) {
  (void)state;
  static const char *const headers[] = {
      "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},\"b\":{\"dtype\":\"F32\","
      "\"shape\":[1],\"data_offsets\":[8,12]}}",
      "{\"b\":{\"data_offsets\":[8,12],\"dtype\":\"F32\",\"shape\":[1]},\"a\":{\"shape\":[2],"
      "\"dtype\":\"F32\",\"data_offsets\":[0,8]}}",
      "{ \"\\u0061\" :\t{ \"dtype\" : \"F32\" ,\n\"shape\" : [ 2 ] , \"data_offsets\" : [ 0 , 8 ] "
      "} ,\r\"b\":"
      "{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[8,12]} }     ",
      "{\"__metadata__\":{},\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},\"b\":{"
      "\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[8,12]}}",
      "{\"a\":{\"dtype\":\"F32\",\"shape\":[2,1,1],\"data_offsets\":[0,8]},\"b\":{\"dtype\":"
      "\"I32\",\"shape\":[1],\"data_offsets\":[8,12]},"
      "\"c\":{\"dtype\":\"F32\",\"shape\":[0,9],\"data_offsets\":[12,12]},\"__metadata__\":{\"k\":"
      "\"\\ud83d\\udc26\"}}",
  };
  for (int i = 0; i < LENGTH(headers); i++) {
    write_file(in_folder("a"), headers[i], 12);
    cn_safetensors *file = must_read(in_folder("a"));
    const cn_tensor *a = cn_safetensors_find(file, "a"), *b = cn_safetensors_find(file, "b");
    assert_true(a && b);
    assert_int_equal(a->dims[0], 2);
    assert_int_equal(a->bytes, 8);
    assert_int_equal(*(const unsigned char *)a->data, 0);
    assert_int_equal(*(const unsigned char *)b->data, 8);
    assert_ptr_equal(&file->tensors[0], a); /* in the data's order */
    if (i == 4) {
      assert_int_equal(b->dtype, CN_OTHER);
      assert_string_equal(cn_safetensors_note(file, "k"), "\xf0\x9f\x90\xa6");
    }
    cn_safetensors_free(file);
  }
  write_file(in_folder("a"), "{}", 0);
  cn_safetensors *file = must_read(in_folder("a"));
  assert_int_equal(file->tensor_count, 0);
  cn_safetensors_free(file);
}

static void half_precision(void **state) {
  (void)state;
  static const uint16_t half[] = {0x3c00, 0xc000, 0x0001, 0x83ff, 0x7bff,
                                  0x7c00, 0x8000, 0x3555, 0x7e01};
  static const float half_values[] = {
      1,  -2, 5.9604644775390625e-8f, -6.097555160522461e-5f, 65504, INFINITY, 0, 0.333251953125f,
      NAN};
  static const uint16_t brain[] = {0x3f80, 0xc000, 0x0001, 0x7f7f, 0xff80,
                                   0x8000, 0x3eab, 0x4049, 0x7fc0};
  cn_network *net = must_parse("input 1x1x9\ndense 1 bias=no");
  float *values = cn_network_parameter(net, 0).values;
  unsigned char bytes[128];
  for (int kind = 0; kind < 2; kind++) {
    char header[128];
    int length =
        snprintf(header, sizeof header,
                 "{\"dense1.weight\":{\"dtype\":\"%s\",\"shape\":[1,9],\"data_offsets\":[0,18]}}",
                 kind ? "BF16" : "F16");
    memset(bytes, 0, 8);
    bytes[0] = (unsigned char)length;
    memcpy(bytes + 8, header, (size_t)length);
    for (int i = 0; i < 9; i++) {
      uint16_t bits = kind ? brain[i] : half[i];
      bytes[8 + length + 2 * i] = (unsigned char)bits;
      bytes[9 + length + 2 * i] = (unsigned char)(bits >> 8);
    }
    write_bytes(in_folder("a"), bytes, (size_t)length + 26);
    cn_error error;
    if (cn_load_weights(net, in_folder("a"), NULL, NULL, &error) != 1)
      fail_msg("%s", error.message);
    for (int i = 0; i < 9; i++) {
      uint32_t wide = (uint32_t)brain[i] << 16;
      float expected = half_values[i];
      if (kind) memcpy(&expected, &wide, 4);
      if (memcmp(&values[i], &expected, 4) != 0 && !(expected == 0 && values[i] == 0) &&
          !(isnan(expected) && isnan(values[i])))
        fail_msg("%s value %d is %g, should be %g", kind ? "BF16" : "F16", i, (double)values[i],
                 (double)expected);
    }
  }
  cn_network_free(net);
}

/* Counts reports by kind and remembers the last tensor. */
typedef struct reports {
  int counts[3];
  char last[3][200];
} reports;

static void count_report(cn_mismatch kind, const char *tensor, const char *details, void *user) {
  reports *seen = (reports *)user;
  assert_true(kind >= CN_TENSOR_MISSING && kind <= CN_TENSOR_SHAPE);
  assert_non_null(details);
  seen->counts[kind]++;
  snprintf(seen->last[kind], sizeof seen->last[kind], "%s", tensor);
}

static void weights_of_another_network(void **state) {
  (void)state;
  cn_network *from =
      network_of("input 6x6x2\nstem: conv 4 3x3\nrelu\nhead: dense 5\nextra: dense 3");
  cn_network *same =
      must_parse("input 6x6x2\nstem: conv 4 3x3\nrelu\nhead: dense 5\nextra: dense 3");
  cn_network *other =
      must_parse("input 6x6x2\nstem: conv 4 3x3\nrelu\nhead: dense 7\nfresh: dense 3");
  must_save(from, in_folder("a"));
  cn_error error;
  assert_int_equal(cn_load_weights(same, in_folder("a"), NULL, NULL, &error), 6);
  assert_same_parameters(from, same);

  size_t count, count_after;
  float *before = copy_parameters(other, &count);
  assert_int_equal(cn_load_weights(other, in_folder("a"), NULL, NULL, &error), -1);
  assert_int_equal(error.status, CN_ERROR_FORMAT);
  assert_true(strstr(error.message, "head.weight") || strstr(error.message, "fresh.weight"));
  float *after = copy_parameters(other, &count_after);
  assert_memory_equal(before, after, count * sizeof(float));
  free(before);
  free(after);

  reports seen;
  memset(&seen, 0, sizeof seen);
  assert_int_equal(cn_load_weights(other, in_folder("a"), count_report, &seen, &error), 2);
  assert_int_equal(seen.counts[CN_TENSOR_MISSING], 2);
  assert_int_equal(seen.counts[CN_TENSOR_EXTRA], 2);
  assert_int_equal(seen.counts[CN_TENSOR_SHAPE], 2);
  assert_string_equal(seen.last[CN_TENSOR_MISSING], "fresh.bias");
  assert_string_equal(seen.last[CN_TENSOR_EXTRA], "extra.bias");
  assert_memory_equal(cn_network_parameter(other, 0).values, cn_network_parameter(from, 0).values,
                      72 * sizeof(float));
  cn_network_free(from);
  cn_network_free(same);
  cn_network_free(other);
}

/* A state dict has tensors that are not ours, such as batch norm's int64 counter. */
static void extra_and_wrong_types(void **state) {
  (void)state;
  cn_network *net = must_parse("input 1x1x2\nfc: dense 1 bias=no");
  cn_error error;
  write_file(in_folder("a"),
             "{\"fc.weight\":{\"dtype\":\"F32\",\"shape\":[1,2],\"data_offsets\":[0,8]},"
             "\"bn.num_batches_tracked\":{\"dtype\":\"I64\",\"shape\":[],\"data_offsets\":[8,16]}}",
             16);
  assert_int_equal(cn_load_weights(net, in_folder("a"), NULL, NULL, &error), 1);
  static const char *const types[] = {"I32", "U32", "F8_E4M3", "F64", "I64", "BOOL"};
  static const int sizes[] = {4, 4, 1, 8, 8, 1};
  for (int i = 0; i < LENGTH(types); i++) {
    char header[128];
    snprintf(header, sizeof header,
             "{\"fc.weight\":{\"dtype\":\"%s\",\"shape\":[1,2],\"data_offsets\":[0,%d]}}", types[i],
             2 * sizes[i]);
    write_file(in_folder("a"), header, (size_t)(2 * sizes[i]));
    assert_int_equal(cn_load_weights(net, in_folder("a"), NULL, NULL, &error), -1);
    assert_int_equal(error.status, CN_ERROR_FORMAT);
    assert_contains(error.message, "fc.weight is ");
    assert_contains(error.message, types[i]);
  }
  cn_network_free(net);
}

/* Quantised models have dtypes of which nothing is known here, not even a value's size. They are in
   nobody's way, unless the network needs one. */
static void unknown_types(void **state) {
  (void)state;
  cn_network *net = must_parse("input 1x1x2\nfc: dense 1 bias=no");
  const char *good = "{\"fc.weight\":{\"dtype\":\"F32\",\"shape\":[1,2],\"data_offsets\":[0,8]},"
                     "\"zip\":{\"dtype\":\"F4\",\"shape\":[3],\"data_offsets\":[8,10]},"
                     "\"odd\":{\"dtype\":\"F8_E8M0_OF_ANOTHER_KIND\",\"shape\":[2],"
                     "\"data_offsets\":[10,12]},\"__metadata__\": null }";
  write_file(in_folder("a"), good, 12);
  cn_safetensors *file = must_read(in_folder("a"));
  assert_int_equal(file->note_count, 0);
  assert_int_equal(cn_safetensors_find(file, "zip")->dtype, CN_OTHER);
  assert_string_equal(cn_safetensors_find(file, "zip")->dtype_name, "F4");
  assert_int_equal(cn_safetensors_find(file, "zip")->bytes, 2);
  assert_string_equal(cn_safetensors_find(file, "odd")->dtype_name, "F8_E8M0_OF_ANOT");
  cn_safetensors_free(file);
  cn_error error;
  reports seen;
  memset(&seen, 0, sizeof seen);
  assert_int_equal(cn_load_weights(net, in_folder("a"), NULL, NULL, &error), 1);
  assert_int_equal(cn_load_weights(net, in_folder("a"), count_report, &seen, &error), 1);
  assert_int_equal(seen.counts[CN_TENSOR_EXTRA], 2);
  write_file(in_folder("a"),
             "{\"fc.weight\":{\"dtype\":\"F4\",\"shape\":[1,2],\"data_offsets\":[0,1]}}", 1);
  assert_int_equal(cn_load_weights(net, in_folder("a"), NULL, NULL, &error), -1);
  assert_int_equal(error.status, CN_ERROR_FORMAT);
  assert_contains(error.message, "fc.weight is F4, neither F32 nor F16 nor BF16");
  cn_network_free(net);
}

/* ---- hostile files ----------------------------------------------------------------------------- */

#define TENSOR(name, dtype, shape, offsets)                                                        \
  "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" offsets "}"
#define GOOD TENSOR("a", "F32", "[2]", "[0,8]")

/* Headers that a reader must refuse when 16 bytes of data follow. */
static const char *const hostile_headers[] = {
    "",
    " ",
    "[]",
    "null",
    "{",
    "}",
    "{\"a\"",
    "{\"a\":",
    "{\"a\":{}}",
    "{\"a\":1}",
    "{\"a\":[]}",
    "{" GOOD,
    "{" GOOD ",}",
    "{" GOOD "}}",
    "{" GOOD "} x",
    "{," GOOD "}",
    "{" GOOD "}", /* half of the data belongs to nothing */
    "{" TENSOR("a", "F32", "[2]", "[0,8]") "," TENSOR("b", "F32", "[1]", "[8,12]") "}", /* a rest */
    "{" TENSOR("a", "F32", "[2]", "[0,8]") "," TENSOR("b", "F32", "[1]",
                                                      "[12,16]") "}", /* a hole */
    "{" TENSOR("a", "F32", "[2]", "[0,8]") "," TENSOR("b", "F32", "[3]",
                                                      "[4,16]") "}", /* overlap */
    "{" TENSOR("a", "F32", "[4]", "[0,16]") "," TENSOR("b", "F32", "[4]",
                                                       "[0,16]") "}", /* twice the same */
    "{" TENSOR("a", "F32", "[3]", "[4,16]") "}",                      /* begins late */
    "{" TENSOR("a", "F32", "[5]", "[0,20]") "}",                      /* outside */
    "{" TENSOR("a", "F32", "[4]", "[16,0]") "}",                      /* backwards */
    "{" TENSOR("a", "F32", "[4]", "[0,12]") "}",                      /* too few bytes */
    "{" TENSOR("a", "F16", "[4]", "[0,16]") "}",                      /* too many */
    "{" TENSOR("a", "F32", "[4]", "[0]") "}",
    "{" TENSOR("a", "F32", "[4]", "[0,16,16]") "}",
    "{" TENSOR("a", "F32", "[4]", "[-16,0]") "}",
    "{" TENSOR("a", "F32", "[4]", "[0,1.6e1]") "}",
    "{" TENSOR("a", "F32", "[4]", "[0,\"16\"]") "}",
    "{" TENSOR("a", "F32", "[4]", "[0,0016]") "}",
    "{" TENSOR("a", "F32", "[4]", "[0,18446744073709551632]") "}", /* 2^64 + 16 */
    "{" TENSOR("a", "F32", "[4]", "[18446744073709551600,16]") "}",
    "{" TENSOR("a", "F32", "[4]", "[0,99999999999999999999999999999999]") "}",
    "{" TENSOR("a", "F32", "4", "[0,16]") "}",
    "{" TENSOR("a", "F32", "[-4]", "[0,16]") "}",
    "{" TENSOR("a", "F32", "[-2,-2]", "[0,16]") "}",
    "{" TENSOR("a", "F32", "[4.0]", "[0,16]") "}",
    "{" TENSOR("a", "F32", "[4,]", "[0,16]") "}",
    "{" TENSOR("a", "F32", "[\"4\"]", "[0,16]") "}",
    "{" TENSOR("a", "F32", "[4294967296,4294967296,4]", "[0,16]") "}", /* 2^64 * 4 wraps to 0 */
    "{" TENSOR("a", "F32", "[4611686018427387905,4]", "[0,16]") "}",   /* wraps to 4 values */
    "{" TENSOR("a", "F32", "[4611686018427387908]", "[0,16]") "}",     /* wraps to 16 bytes */
    "{" TENSOR("a", "F32", "[18446744073709551620]", "[0,16]") "}",    /* 2^64 + 4 */
    "{" TENSOR("a", "F32", "[0,9223372036854775807,9223372036854775807,4]", "[0,16]") "}",
    "{" TENSOR("a", "F32", "[1,1,1,1,1,1,1,1,1,1,1,1,4]",
               "[0,16]") "}", /* more than 8 dimensions */
    "{" TENSOR("a", "", "[4]", "[0,16]") "}",
    "{\"a\":{\"dtype\":4,\"shape\":[4],\"data_offsets\":[0,16]}}",
    "{\"a\":{\"shape\":[4],\"data_offsets\":[0,16]}}",
    "{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,16]}}",
    "{\"a\":{\"dtype\":\"F32\",\"shape\":[4]}}",
    "{\"a\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,16],\"more\":1}}",
    "{\"a\":{\"dtype\":\"F32\",\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,16]}}",
    "{" GOOD "," TENSOR("a", "F32", "[2]", "[8,16]") "}",                /* the same name */
    "{" GOOD "," TENSOR("\\u0061", "F32", "[2]", "[8,16]") "}",          /* written otherwise */
    "{" GOOD "," TENSOR("\xff", "F32", "[2]", "[8,16]") "}",             /* not UTF-8 */
    "{" GOOD "," TENSOR("\xc0\xaf", "F32", "[2]", "[8,16]") "}",         /* overlong */
    "{" GOOD "," TENSOR("\xed\xa0\x80", "F32", "[2]", "[8,16]") "}",     /* a surrogate */
    "{" GOOD "," TENSOR("\xf5\x80\x80\x80", "F32", "[2]", "[8,16]") "}", /* beyond Unicode */
    "{" GOOD "," TENSOR("\xe2\x82", "F32", "[2]", "[8,16]") "}",         /* cut */
    "{" GOOD "," TENSOR("\\ud800", "F32", "[2]", "[8,16]") "}",          /* half a pair */
    "{" GOOD "," TENSOR("\\ud800\\u0041", "F32", "[2]", "[8,16]") "}",
    "{" GOOD "," TENSOR("\\udc00", "F32", "[2]", "[8,16]") "}",
    "{" GOOD "," TENSOR("\\u00g0", "F32", "[2]", "[8,16]") "}",
    "{" GOOD "," TENSOR("\\x41", "F32", "[2]", "[8,16]") "}",
    "{" GOOD "," TENSOR("b\\u0000c", "F32", "[2]", "[8,16]") "}", /* ends in C */
    "{" GOOD "," TENSOR("b\nc", "F32", "[2]", "[8,16]") "}",      /* a bare newline */
    "{\"__metadata__\":1," TENSOR("a", "F32", "[4]", "[0,16]") "}",
    "{\"__metadata__\":{\"k\":1}," TENSOR("a", "F32", "[4]", "[0,16]") "}",
    "{\"__metadata__\":{\"k\":{}}," TENSOR("a", "F32", "[4]", "[0,16]") "}",
    "{\"__metadata__\":{\"k\":\"1\",\"k\":\"2\"}," TENSOR("a", "F32", "[4]", "[0,16]") "}",
    "{\"__metadata__\":{},\"__metadata__\":{}," TENSOR("a", "F32", "[4]", "[0,16]") "}",
};

static void assert_refused(const char *path, const char *what) {
  cn_error error = {CN_OK, 0, 0, ""};
  cn_safetensors *file = cn_safetensors_read(path, &error);
  if (file) fail_msg("accepted: %s", what);
  if (error.status != CN_ERROR_FORMAT)
    fail_msg("status %d, %s: %s", error.status, error.message, what);
  assert_contains(error.message, path);
  assert_null(strchr(error.message, '\n'));
}

static void hostile_headers_refused(void **state) {
  (void)state;
  for (int i = 0; i < LENGTH(hostile_headers); i++) {
    write_file(in_folder("a"), hostile_headers[i], 16);
    assert_refused(in_folder("a"), hostile_headers[i]);
  }
}

static void wrong_header_lengths(void **state) {
  (void)state;
  static const uint64_t lengths[] = {
      UINT64_MAX, UINT64_C(1) << 63, UINT64_MAX - 7, UINT64_C(1) << 32, 1000000, 100, 0, 1};
  static const char rest[] = "{" TENSOR("a", "F32", "[2]", "[0,8]") "}01234567";
  unsigned char bytes[sizeof rest + 8];
  memcpy(bytes + 8, rest, sizeof rest);
  for (int i = 0; i < LENGTH(lengths); i++) {
    for (int k = 0; k < 8; k++) bytes[k] = (unsigned char)(lengths[i] >> (8 * k));
    write_bytes(in_folder("a"), bytes, sizeof rest + 7);
    assert_refused(in_folder("a"), "a wrong header length");
  }
  write_bytes(in_folder("a"), "", 0);
  assert_refused(in_folder("a"), "an empty file");
}

static void deep_json(void **state) {
  (void)state;
  static const char *const openings[] = {"[", "{\"a\":", "{\"__metadata__\":{\"a\":"};
  for (int i = 0; i < LENGTH(openings); i++) {
    size_t size = strlen(openings[i]), depth = 200000;
    char *header = (char *)malloc(depth * size + 16);
    assert_non_null(header);
    for (size_t k = 0; k < depth; k++) memcpy(header + k * size, openings[i], size);
    strcpy(header + depth * size, "1");
    write_file(in_folder("a"), header, 0);
    assert_refused(in_folder("a"), openings[i]);
    free(header);
  }
}

/* Every proper prefix of a saved file, through every reader. */
static void cut_anywhere(void **state) {
  (void)state;
  cn_network *net = network_of("input 4x4x1\nconv 2 3x3\nrelu\ndense 2\nsoftmax");
  must_save(net, in_folder("whole"));
  size_t count, values;
  unsigned char *bytes = read_bytes(in_folder("whole"), &count);
  float *before = copy_parameters(net, &values);
  for (size_t cut = 0; cut < count; cut++) {
    write_bytes(in_folder("cut"), bytes, cut);
    assert_refused(in_folder("cut"), "a cut file");
    cn_error error = {CN_OK, 0, 0, ""};
    assert_null(cn_load(in_folder("cut"), &error));
    assert_int_equal(error.status, CN_ERROR_FORMAT);
    assert_int_equal(cn_load_weights(net, in_folder("cut"), NULL, NULL, &error), -1);
  }
  bytes[count] = 'x';
  write_bytes(in_folder("cut"), bytes, count + 1);
  assert_refused(in_folder("cut"), "a byte too many");
  size_t values_after;
  float *after = copy_parameters(net, &values_after);
  assert_memory_equal(before, after, values * sizeof(float));
  free(before);
  free(after);
  free(bytes);
  cn_network_free(net);
}

/* Any byte of the header changed to any of a few values: refused or read, but nothing crashes. */
static void changed_anywhere(void **state) {
  (void)state;
  cn_network *net = network_of("input 1x1x2\nfc: dense 1");
  must_save(net, in_folder("whole"));
  size_t count;
  unsigned char *bytes = read_bytes(in_folder("whole"), &count);
  size_t header = 8 + (size_t)bytes[0] + 256 * (size_t)bytes[1];
  static const unsigned char others[] = {0, ' ', '"', ',', '9', '[', '}', '\\', 0x80, 0xff};
  for (size_t at = 0; at < header; at++) {
    unsigned char kept = bytes[at];
    for (int i = 0; i < LENGTH(others); i++) {
      bytes[at] = others[i];
      write_bytes(in_folder("changed"), bytes, count);
      cn_safetensors_free(cn_safetensors_read(in_folder("changed"), NULL));
      cn_network_free(cn_load(in_folder("changed"), NULL));
    }
    bytes[at] = kept;
  }
  free(bytes);
  cn_network_free(net);
}

/* Readable tensors, but not a network of ours. */
static void networks_refused(void **state) {
  (void)state;
  static const struct {
    const char *header;
    size_t bytes;
    const char *part;
  } cases[] = {
      {"{}", 0, "network"},
      {"{\"__metadata__\":{\"network\":\"\"}}", 0, "input"},
      {"{\"__metadata__\":{\"network\":\"input 2x2x1\\nconvolution\"}}", 0, "convolution"},
      {"{\"__metadata__\":{\"network\":\"input 1x1x2\\nfc: dense 1 bias=no\"}}", 0, "fc.weight"},
      {"{\"__metadata__\":{\"network\":\"input 1x1x2\\nfc: dense 1 bias=no\"}," TENSOR(
           "fc.weight", "F32", "[1,3]", "[0,12]") "}",
       12, "fc.weight"},
      {"{\"__metadata__\":{\"network\":\"input 1x1x2\\nfc: dense 1 bias=no\"}," TENSOR(
           "fc.weight", "F32", "[2]", "[0,8]") "}",
       8, "fc.weight"},
      {"{\"__metadata__\":{\"network\":\"input 1x1x2\\nfc: dense 1 bias=no\"}," TENSOR(
           "fc.weight", "I32", "[1,2]", "[0,8]") "}",
       8, "fc.weight"},
  };
  for (int i = 0; i < LENGTH(cases); i++) {
    write_file(in_folder("a"), cases[i].header, cases[i].bytes);
    cn_error error = {CN_OK, 0, 0, ""};
    assert_null(cn_load(in_folder("a"), &error));
    assert_int_not_equal(error.status, CN_OK);
    assert_contains(error.message, cases[i].part);
    assert_contains(error.message, in_folder("a"));
  }
}

/* A header of a hundred bytes may ask for a gigabyte: what the file has is looked at first. */
static void large_networks_of_small_files(void **state) {
  (void)state;
  static const char *const headers[] = {
      "{\"__metadata__\":{\"network\":\"input 16384x16384x1\\ndense 1\"}}",
      "{\"__metadata__\":{\"network\":\"input 32768x32768x1\\ndense 1\"}}",
      "{\"__metadata__\":{\"network\":\"input 1x1x65536\\ndense 16384\\ndense 65536\"}}",
  };
  struct rusage before, after;
  getrusage(RUSAGE_SELF, &before);
  for (int i = 0; i < LENGTH(headers); i++) {
    cn_error error = {CN_OK, 0, 0, ""};
    write_file(in_folder("a"), headers[i], 0);
    assert_null(cn_load(in_folder("a"), &error));
    assert_int_equal(error.status, CN_ERROR_FORMAT);
    assert_contains(error.message, "dense1.weight is missing");
  }
  getrusage(RUSAGE_SELF, &after);
  assert_in_range(after.ru_maxrss - before.ru_maxrss, 0, 50000); /* KiB */
}

/* ---- what could not be read back is not written ------------------------------------------------ */

static void writer_refuses(void **state) {
  (void)state;
  static const float values[4] = {1, 2, 3, 4};
  const cn_tensor good = {"good", CN_F32, 1, {4}, values, 16, ""};
  const cn_tensor bad[] = {
      {"good", CN_F32, 1, {4}, values, 16, ""}, /* a second one */
      {"__metadata__", CN_F32, 1, {4}, values, 16, ""},
      {"\xff", CN_F32, 1, {4}, values, 16, ""},
      {"\xed\xa0\x80", CN_F32, 1, {4}, values, 16, ""},
      {NULL, CN_F32, 1, {4}, values, 16, ""},
      {"bad", CN_F16, 1, {4}, values, 8, ""},
      {"bad", CN_F32, 1, {4}, NULL, 16, ""},
      {"bad", CN_F32, 1, {3}, values, 16, ""},
      {"bad", CN_F32, -1, {4}, values, 4, ""},
      {"bad", CN_F32, 9, {1, 1, 1, 1, 1, 1, 1, 1}, values, 4, ""},
      {"bad", CN_F32, 2, {-2, -2}, values, 16, ""},
      {"bad", CN_F32, 2, {-4, 0}, values, 0, ""},
      {"bad", CN_F32, 2, {INT64_C(1) << 62, 4}, values, 0, ""}, /* 2^64 */
      {"bad", CN_F32, 3, {INT64_C(1) << 32, INT64_C(1) << 32, 4}, values, 0, ""},
      {"bad", CN_F32, 1, {(INT64_C(1) << 62) + 4}, values, 16, ""}, /* times 4: 2^64 + 16 */
      {"bad",
       CN_F32,
       2,
       {0, INT64_C(1100000000000000000)},
       values,
       0,
       ""}, /* more digits than are read */
      {"bad", CN_F32, 2, {INT64_MIN, INT64_MIN}, values, 0, ""},
  };
  for (int i = 0; i < LENGTH(bad); i++) {
    cn_error error = {CN_OK, 0, 0, ""};
    cn_tensor tensors[2];
    tensors[0] = good, tensors[1] = bad[i];
    if (cn_safetensors_write(in_folder("a"), tensors, 2, NULL, 0, &error) != CN_ERROR_ARGUMENT)
      fail_msg("tensor %d: status %d, %s", i, error.status, error.message);
    assert_contains(error.message, in_folder("a"));
  }
  static const cn_note bad_notes[][2] = {
      {{"a", "1"}, {"a", "2"}},      {{"a", "1"}, {"\xc3", "2"}},
      {{"a", "1"}, {"b", "\x80"}},   {{"a", "1"}, {NULL, "2"}},
      {{"a", "1"}, {"b", NULL}},     {{"a", "\xf5\x80\x80\x80"}, {"b", ""}},
      {{"a", "\xe2\x82"}, {"b", ""}}};
  for (int i = 0; i < LENGTH(bad_notes); i++) {
    cn_error error = {CN_OK, 0, 0, ""};
    if (cn_safetensors_write(in_folder("a"), &good, 1, bad_notes[i], 2, &error) !=
        CN_ERROR_ARGUMENT)
      fail_msg("notes %d: status %d, %s", i, error.status, error.message);
  }
  assert_int_equal(files_in_folder(), 0);
}

/* Whatever cn_safetensors_write takes, the reader takes. */
static void written_is_readable(void **state) {
  (void)state;
  static const int64_t sizes[] = {-1, 0, 1, 2, 3, INT64_C(1) << 31, INT64_C(1) << 60, INT64_MAX};
  static const char *const names[] = {"",     "a",    "\n",           "\"",
                                      "\x7f", "\xff", "__metadata__", "\xc3\xa9"};
  static const float values[512];
  cn_random random = {5, 0};
  int written = 0;
  for (int run = 0; run < 3000; run++) {
    cn_tensor tensor = {.dtype = CN_F32, .data = values, .bytes = 4};
    cn_note note;
    cn_error error = {CN_OK, 0, 0, ""};
    tensor.name = names[cn_random_below(&random, LENGTH(names))];
    tensor.rank = (int)cn_random_below(&random, 4);
    for (int i = 0; i < tensor.rank; i++) {
      tensor.dims[i] = sizes[cn_random_below(&random, LENGTH(sizes))];
      tensor.bytes =
          tensor.dims[i] >= 0 && tensor.dims[i] < 4 ? tensor.bytes * (size_t)tensor.dims[i] : 0;
    }
    note.key = names[cn_random_below(&random, LENGTH(names))];
    note.value = names[cn_random_below(&random, LENGTH(names))];
    if (cn_safetensors_write(in_folder("a"), &tensor, 1, &note, 1, &error) != CN_OK) continue;
    cn_safetensors *file = must_read(in_folder("a"));
    assert_string_equal(file->tensors[0].name, tensor.name);
    assert_int_equal(file->tensors[0].rank, tensor.rank);
    assert_string_equal(file->notes[0].key, note.key);
    assert_string_equal(file->notes[0].value, note.value);
    cn_safetensors_free(file);
    written++;
  }
  assert_true(written > 100);
}

/* ---- models in memory -------------------------------------------------------------------------- */

/* A model's bytes in a block of exactly their size, so that a sanitizer sees what is read behind it. */
static unsigned char *must_save_memory(cn_network *net, size_t *size) {
  cn_error error;
  *size = cn_save_memory(net, NULL, 0, &error);
  if (!*size) fail_msg("%s", error.message);
  unsigned char *bytes = (unsigned char *)malloc(*size);
  assert_non_null(bytes);
  assert_int_equal(cn_save_memory(net, bytes, *size, &error), *size);
  return bytes;
}

static void memory_equals_file(void **state) {
  (void)state;
  static const char *const texts[] = {net_text, "input 4x4x1\nmaxpool 2x2",
                                      "input 1x1x3000\nwide: dense 7\nsoftmax"};
  for (int i = 0; i < LENGTH(texts); i++) {
    cn_network *net = network_of(texts[i]);
    cn_error error;
    size_t size, file_size;
    assert_int_equal(cn_network_set_note(net, "classes", "\xc3\xa9\n\"", &error), CN_OK);
    must_save(net, in_folder("a"));
    unsigned char *bytes = must_save_memory(net, &size),
                  *file = read_bytes(in_folder("a"), &file_size);
    assert_int_equal(size, file_size);
    assert_memory_equal(bytes, file, size);

    bytes[0] ^= 1; /* what does not fit is not written */
    assert_int_equal(cn_save_memory(net, bytes, size - 1, &error), size);
    assert_int_equal(bytes[0] ^ 1, file[0]);
    bytes[0] ^= 1;

    cn_network *loaded = cn_load_memory(bytes, size, &error);
    if (!loaded) fail_msg("%s", error.message);
    memset(bytes, 0, size); /* which it no longer needs */
    assert_string_equal(cn_network_text(loaded), cn_network_text(net));
    assert_string_equal(cn_network_note(loaded, "classes"), "\xc3\xa9\n\"");
    assert_same_parameters(loaded, net);
    cn_network_init(loaded, 9);
    assert_int_equal(cn_load_weights_memory(loaded, file, file_size, NULL, NULL, &error),
                     cn_network_parameter_count(net));
    assert_same_parameters(loaded, net);
    free(bytes);
    free(file);
    cn_network_free(loaded);
    cn_network_free(net);
  }
}

static void tensors_lie_in_memory(void **state) {
  (void)state;
  cn_network *net = network_of(net_text);
  cn_error error;
  size_t size;
  unsigned char *bytes = must_save_memory(net, &size);
  cn_safetensors *file = cn_safetensors_read_memory(bytes, size, &error);
  if (!file) fail_msg("%s", error.message);
  for (int i = 0; i < file->tensor_count; i++) {
    const unsigned char *data = (const unsigned char *)file->tensors[i].data;
    assert_true(data > bytes && data + file->tensors[i].bytes <= bytes + size);
  }
  cn_safetensors_free(file); /* but not the bytes */
  /* At any address. */
  unsigned char *moved = (unsigned char *)malloc(size + 1);
  assert_non_null(moved);
  memcpy(moved + 1, bytes, size);
  cn_network *loaded = cn_load_memory(moved + 1, size, &error);
  if (!loaded) fail_msg("%s", error.message);
  assert_same_parameters(loaded, net);
  cn_network_free(loaded);
  cn_network_free(net);
  free(moved);
  free(bytes);
}

static void cut_memory_refused(void **state) {
  (void)state;
  cn_network *net = network_of("input 4x4x1\nconv 2 3x3\nrelu\ndense 2\nsoftmax");
  size_t size, values;
  unsigned char *bytes = must_save_memory(net, &size);
  float *before = copy_parameters(net, &values);
  for (size_t cut = 0; cut < size; cut++) {
    unsigned char *part = (unsigned char *)malloc(cut ? cut : 1);
    assert_non_null(part);
    memcpy(part, bytes, cut);
    cn_error error = {CN_OK, 0, 0, ""};
    assert_null(cn_load_memory(part, cut, &error));
    assert_int_equal(error.status, CN_ERROR_FORMAT);
    assert_contains(error.message, "memory");
    assert_null(cn_safetensors_read_memory(part, cut, &error));
    assert_int_equal(cn_load_weights_memory(net, part, cut, NULL, NULL, &error), -1);
    assert_int_equal(error.status, CN_ERROR_FORMAT);
    assert_null(cn_load_memory(part, cut, NULL));
    free(part);
  }
  size_t values_after;
  float *after = copy_parameters(net, &values_after);
  assert_memory_equal(before, after, values * sizeof(float));
  free(before);
  free(after);
  free(bytes);
  cn_network_free(net);
}

/* Values are little-endian in the file, whatever they are here. */
static void bytes_are_little_endian(void **state) {
  (void)state;
  static const unsigned char expected[] = {0, 0, 0x80, 0x3f, 0x0b, 0x8c, 0xba, 0xc5};
  cn_network *net = must_parse("input 1x1x2\nfc: dense 1 bias=no");
  float *values = cn_network_parameter(net, 0).values;
  values[0] = 1.0f, values[1] = -5969.50537109375f;
  size_t size;
  unsigned char *bytes = must_save_memory(net, &size);
  assert_memory_equal(bytes + size - sizeof expected, expected, sizeof expected);
  free(bytes);
  cn_network_free(net);
}

/* ---- where a file goes ------------------------------------------------------------------------- */

/* The three functions that write files make the same promises. */
typedef struct written {
  cn_network *net;
  cn_trainer *trainer;
  cn_status (*write)(const struct written *what, const char *path, cn_error *error);
  const char *path; /* of write_elsewhere */
  cn_status status;
} written;

static cn_status write_model(const written *what, const char *path, cn_error *error) {
  return cn_save(what->net, path, error);
}

static cn_status write_checkpoint(const written *what, const char *path, cn_error *error) {
  return cn_trainer_save(what->trainer, path, error);
}

static cn_status write_tensors(const written *what, const char *path, cn_error *error) {
  cn_parameter first = cn_network_parameter(what->net, 0);
  cn_tensor tensor = {.name = "values",
                      .dtype = CN_F32,
                      .rank = 1,
                      .dims = {(int64_t)first.count},
                      .data = first.values,
                      .bytes = first.count * sizeof(float)};
  return cn_safetensors_write(path, &tensor, 1, NULL, 0, error);
}

static void must_write(const written *what, const char *path) {
  cn_error error;
  if (what->write(what, path, &error) != CN_OK) fail_msg("%s", error.message);
}

/* Calls a test for each of the three, in an empty folder, with a file `copy` of what it writes. */
static void with_each_writer(void (*check)(const written *what)) {
  static cn_status (*const writers[])(const written *, const char *,
                                      cn_error *) = {write_model, write_checkpoint, write_tensors};
  for (int i = 0; i < LENGTH(writers); i++) {
    written what = {must_parse(net_text), NULL, writers[i], NULL, CN_OK};
    cn_network_init(what.net, 7);
    what.trainer = must_train(what.net, 1, NULL);
    assert_int_equal(empty_folder(NULL), 0);
    must_write(&what, in_folder("copy"));
    check(&what);
    cn_trainer_free(what.trainer);
    cn_network_free(what.net);
  }
}

static void must_link(const char *target, const char *path) {
  assert_int_equal(symlink(target, path), 0);
}

static int is_link(const char *path) {
  char target[200];
  return readlink(path, target, sizeof target) > 0;
}

static void check_links(const written *what) {
  must_link("model", in_folder("link")); /* to a file that is not there yet */
  must_link(in_folder("link"), in_folder("chain"));
  must_write(what, in_folder("chain"));
  assert_true(is_link(in_folder("link")) && is_link(in_folder("chain")));
  assert_false(is_link(in_folder("model")));
  assert_same_bytes(in_folder("model"), in_folder("copy"));
  write_bytes(in_folder("model"), "old", 3);
  must_write(what, in_folder("link"));
  assert_true(is_link(in_folder("link")));
  assert_same_bytes(in_folder("model"), in_folder("copy"));
  assert_int_equal(files_in_folder(), 4);

  cn_error error = {CN_OK, 0, 0, ""};
  must_link("b", in_folder("a"));
  must_link("a", in_folder("b"));
  assert_int_equal(what->write(what, in_folder("a"), &error), CN_ERROR_IO);
  assert_contains(error.message, in_folder("a"));
  assert_int_equal(files_in_folder(), 6);
}

static void links_are_followed(void **state) {
  (void)state;
  with_each_writer(check_links);
}

static void check_permissions(const written *what) {
  static const mode_t modes[] = {0600, 0640, 0666, 0444};
  struct stat now;
  mode_t mask = umask(022);
  must_write(what, in_folder("model"));
  assert_int_equal(stat(in_folder("model"), &now), 0);
  assert_int_equal(now.st_mode & 0777, 0644);
  for (int i = 0; i < LENGTH(modes); i++) {
    assert_int_equal(chmod(in_folder("model"), modes[i]), 0);
    must_write(what, in_folder("model"));
    assert_int_equal(stat(in_folder("model"), &now), 0);
    assert_int_equal(now.st_mode & 0777, modes[i]);
  }
  umask(mask);
}

static void permissions_stay(void **state) {
  (void)state;
  with_each_writer(check_permissions);
}

static void *write_elsewhere(void *argument) {
  written *what = (written *)argument;
  what->status = what->write(what, what->path, NULL);
  return NULL;
}

/* A pipe is written into, also by a link to it, and its reader gets all. */
static void check_pipe(const written *what) {
  struct stat now;
  size_t size;
  unsigned char *bytes = read_bytes(in_folder("copy"), &size),
                *got = (unsigned char *)malloc(size + 1);
  static char link[160];
  written other = *what;
  pthread_t thread;
  assert_non_null(got);
  assert_int_equal(mkfifo(in_folder("pipe"), 0600), 0);
  must_link("pipe", in_folder("link"));
  strcpy(link, in_folder("link"));
  other.path = link;
  assert_int_equal(pthread_create(&thread, NULL, write_elsewhere, &other), 0);
  alarm(60); /* nobody writes: better to die than to wait */
  FILE *file = fopen(in_folder("pipe"), "rb");
  assert_non_null(file);
  assert_int_equal(fread(got, 1, size + 1, file), size);
  fclose(file);
  alarm(0);
  assert_int_equal(pthread_join(thread, NULL), 0);
  assert_int_equal(other.status, CN_OK);
  assert_memory_equal(got, bytes, size);
  assert_int_equal(lstat(in_folder("pipe"), &now), 0);
  assert_true(S_ISFIFO(now.st_mode));
  assert_true(is_link(in_folder("link")));
  assert_int_equal(files_in_folder(), 3);
  free(bytes);
  free(got);
}

/* A device of our own, as a mistake would replace that of the machine. */
static void check_device(const written *what) {
  struct stat null, now;
  if (stat("/dev/null", &null) || mknod(in_folder("null"), S_IFCHR | 0600, null.st_rdev)) return;
  if (access(in_folder("null"), W_OK)) return; /* some folders have no devices */
  must_write(what, in_folder("null"));
  assert_int_equal(lstat(in_folder("null"), &now), 0);
  assert_true(S_ISCHR(now.st_mode));
  assert_int_equal(files_in_folder(), 2);
}

static void special_files(void **state) {
  (void)state;
  cn_network *net = network_of(net_text), *loaded;
  with_each_writer(check_pipe);
  with_each_writer(check_device);
  /* what comes through a pipe is loaded as well */
  static char path[160];
  written other = {net, NULL, write_model, path, CN_OK};
  pthread_t thread;
  empty_folder(NULL);
  assert_int_equal(mkfifo(in_folder("pipe"), 0600), 0);
  strcpy(path, in_folder("pipe"));
  assert_int_equal(pthread_create(&thread, NULL, write_elsewhere, &other), 0);
  alarm(60);
  loaded = must_load(in_folder("pipe"));
  alarm(0);
  assert_int_equal(pthread_join(thread, NULL), 0);
  assert_same_parameters(net, loaded);
  cn_network_free(loaded);
  cn_network_free(net);
}

/* Unfinished files that somebody else has there are left alone, whatever their number. */
static void check_names(const written *what) {
  char name[64];
  size_t size;
  for (int i = 0; i < 3; i++) {
    snprintf(name, sizeof name, "model.%ld-%d.part", (long)getpid(), i);
    write_bytes(in_folder(name), "kept", 4);
  }
  must_write(what, in_folder("model"));
  assert_same_bytes(in_folder("model"), in_folder("copy"));
  assert_int_equal(files_in_folder(), 5);
  for (int i = 0; i < 3; i++) {
    snprintf(name, sizeof name, "model.%ld-%d.part", (long)getpid(), i);
    unsigned char *bytes = read_bytes(in_folder(name), &size);
    assert_string_equal((char *)bytes, "kept");
    free(bytes);
  }
}

static void unfinished_files_of_others(void **state) {
  (void)state;
  with_each_writer(check_names);
}

typedef struct saver {
  cn_network *net;
  const char *path;
  int saves, done;
} saver;

static void *save_again(void *argument) {
  saver *s = (saver *)argument;
  while (s->done < s->saves && cn_save(s->net, s->path, NULL) == CN_OK) s->done++;
  return NULL;
}

/* Several that save under one name do not write into each other's files. */
static void saved_at_the_same_time(void **state) {
  (void)state;
  enum { SAVERS = 4, SAVES = 50 };
  static char path[160];
  saver savers[SAVERS];
  pthread_t threads[SAVERS];
  strcpy(path, in_folder("model"));
  for (int i = 0; i < SAVERS; i++) {
    saver s = {must_parse("input 1x1x500\nfc: dense 40\nsoftmax"), path, SAVES, 0};
    cn_network_init(s.net, (uint64_t)i);
    savers[i] = s;
  }
  must_save(savers[0].net, path);
  for (int i = 0; i < SAVERS; i++)
    assert_int_equal(pthread_create(&threads[i], NULL, save_again, &savers[i]), 0);
  for (int i = 0; i < SAVES; i++) cn_network_free(must_load(path));
  for (int i = 0; i < SAVERS; i++) {
    assert_int_equal(pthread_join(threads[i], NULL), 0);
    assert_int_equal(savers[i].done, SAVES);
  }
  assert_int_equal(files_in_folder(), 1);
  /* A file of that name that somebody else left is nobody's temporary file. */
  write_bytes(in_folder("model.part"), "kept", 4);
  must_save(savers[0].net, path);
  assert_int_equal(files_in_folder(), 2);
  for (int i = 0; i < SAVERS; i++) cn_network_free(savers[i].net);
}

/* ---- the operating system says no -------------------------------------------------------------- */

static void missing_files(void **state) {
  (void)state;
  cn_network *net = network_of(net_text);
  cn_error error = {CN_OK, 0, 0, ""};
  assert_null(cn_load(in_folder("nothing"), &error));
  assert_int_equal(error.status, CN_ERROR_IO);
  assert_contains(error.message, in_folder("nothing"));
  assert_null(cn_safetensors_read(folder, &error)); /* a directory */
  assert_int_equal(error.status, CN_ERROR_IO);
  assert_int_equal(cn_load_weights(net, in_folder("nothing"), NULL, NULL, &error), -1);
  assert_int_equal(cn_save(net, in_folder("no/where"), &error), CN_ERROR_IO);
  assert_contains(error.message, in_folder("no/where"));
  assert_int_equal(cn_save(net, folder, &error), CN_ERROR_IO);
  assert_int_equal(cn_save(net, folder, NULL), CN_ERROR_IO);
  assert_int_equal(files_in_folder(), 0);
  cn_network_free(net);
}

/* Files cannot grow beyond `bytes`, as on a disk that is full. */
static void limit_file_size(rlim_t bytes) {
  struct rlimit limit;
  assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
  limit.rlim_cur = bytes;
  assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

static void check_full_disk(const written *what) {
  size_t count, size;
  free(read_bytes(in_folder("copy"), &count));
  write_bytes(in_folder("model"), "the old one", 11);
  signal(SIGXFSZ, SIG_IGN);
  for (rlim_t limit = 0; limit < count; limit += 100) {
    cn_error error = {CN_OK, 0, 0, ""};
    limit_file_size(limit);
    cn_status status = what->write(what, in_folder("model"), &error);
    limit_file_size(RLIM_INFINITY);
    assert_int_equal(status, CN_ERROR_IO);
    assert_contains(error.message, "model");
    assert_int_equal(files_in_folder(), 2);
    unsigned char *bytes = read_bytes(in_folder("model"), &size);
    assert_string_equal((char *)bytes, "the old one");
    free(bytes);
  }
  signal(SIGXFSZ, SIG_DFL);
  must_write(what, in_folder("model"));
  assert_same_bytes(in_folder("model"), in_folder("copy"));
  assert_int_equal(files_in_folder(), 2);
}

static void full_disk_keeps_old_file(void **state) {
  (void)state;
  with_each_writer(check_full_disk);
}

/* ---- checkpoints ------------------------------------------------------------------------------- */

enum { IMAGES = 6, VALUES = 6 * 5 * 4 };

static cn_batch batch_number(int step, float *inputs, int *labels) {
  fill_random(inputs, IMAGES * VALUES, 100 + (uint64_t)step);
  fill_labels(labels, IMAGES, 3, 200 + (uint64_t)step);
  cn_batch batch = {.count = IMAGES, .inputs = inputs, .labels = labels};
  return batch;
}

static void train_steps(cn_trainer *trainer, int first, int last) {
  float inputs[IMAGES * VALUES];
  int labels[IMAGES];
  for (int step = first; step <= last; step++) {
    cn_batch batch = batch_number(step, inputs, labels);
    must_step(trainer, &batch);
  }
}

static cn_training_options options_of(cn_optimizer optimizer) {
  cn_training_options options = cn_training_defaults();
  options.optimizer = optimizer;
  options.momentum = 0.9f;
  options.decay = 0.01f;
  options.schedule = CN_SCHEDULE_COSINE;
  options.decay_steps = 20;
  options.warmup_steps = 2;
  return options;
}

static void resume_equals_uninterrupted(void **state) {
  (void)state;
  static const cn_optimizer optimizers[] = {CN_SGD, CN_ADAGRAD, CN_ADAM, CN_ADAMW};
  for (int i = 0; i < LENGTH(optimizers); i++) {
    cn_training_options options = options_of(optimizers[i]);
    cn_error error;
    cn_network *whole = must_parse(net_text), *begun = must_parse(net_text),
               *resumed = network_of(net_text);
    cn_trainer *trainer = must_train(whole, IMAGES, &options);
    train_steps(trainer, 1, 6);
    cn_trainer_free(trainer);

    trainer = must_train(begun, IMAGES, &options);
    train_steps(trainer, 1, 3);
    if (cn_trainer_save(trainer, in_folder("checkpoint"), &error) != CN_OK)
      fail_msg("%s", error.message);
    cn_trainer_free(trainer);

    trainer = must_train(resumed, IMAGES, &options);
    if (cn_trainer_load(trainer, in_folder("checkpoint"), &error) != CN_OK)
      fail_msg("%s", error.message);
    assert_int_equal(cn_trainer_steps(trainer), 3);
    assert_same_parameters(begun, resumed);
    assert_int_equal(cn_trainer_save(trainer, in_folder("again"), &error), CN_OK);
    assert_same_bytes(in_folder("checkpoint"), in_folder("again"));
    train_steps(trainer, 4, 6);
    cn_trainer_free(trainer);
    assert_same_parameters(whole, resumed);
    must_save(whole, in_folder("a"));
    must_save(resumed, in_folder("b"));
    assert_same_bytes(in_folder("a"), in_folder("b"));
    cn_network_free(whole);
    cn_network_free(begun);
    cn_network_free(resumed);
  }
  assert_int_equal(files_in_folder(), 4);
}

static void checkpoints_refused(void **state) {
  (void)state;
  cn_training_options options = options_of(CN_ADAM);
  cn_error error = {CN_OK, 0, 0, ""};
  cn_network *net = must_parse(net_text), *other = must_parse("input 6x5x4\ndense 3\nsoftmax");
  cn_trainer *trainer = must_train(net, IMAGES, &options),
             *other_trainer = must_train(other, IMAGES, &options);
  train_steps(trainer, 1, 2);
  assert_int_equal(cn_trainer_save(trainer, in_folder("checkpoint"), &error), CN_OK);
  must_save(net, in_folder("model"));
  train_steps(trainer, 3, 3);
  size_t values, values_after, count;
  float *before = copy_parameters(net, &values),
        *other_before = copy_parameters(other, &values_after);

  assert_int_not_equal(cn_trainer_load(other_trainer, in_folder("checkpoint"), &error), CN_OK);
  assert_contains(error.message, in_folder("checkpoint"));
  float *other_after = copy_parameters(other, &values_after);
  assert_memory_equal(other_before, other_after, values_after * sizeof(float));
  assert_int_equal(cn_trainer_load(trainer, in_folder("model"), &error),
                   CN_ERROR_FORMAT); /* no optimiser inside */
  assert_int_equal(cn_trainer_load(trainer, in_folder("nothing"), &error), CN_ERROR_IO);
  unsigned char *bytes = read_bytes(in_folder("checkpoint"), &count);
  for (size_t cut = 0; cut < count; cut += 97) {
    write_bytes(in_folder("cut"), bytes, cut);
    assert_int_equal(cn_trainer_load(trainer, in_folder("cut"), &error), CN_ERROR_FORMAT);
  }
  float *after = copy_parameters(net, &values_after);
  assert_memory_equal(before, after, values * sizeof(float));
  assert_int_equal(cn_trainer_steps(trainer), 3);

  /* Another optimiser's memory does not fit. */
  cn_training_options sgd = options_of(CN_SGD);
  cn_network *third = must_parse(net_text);
  cn_trainer *sgd_trainer = must_train(third, IMAGES, &sgd);
  assert_int_not_equal(cn_trainer_load(sgd_trainer, in_folder("checkpoint"), &error), CN_OK);
  cn_trainer_free(sgd_trainer);
  cn_network_free(third);
  free(before);
  free(after);
  free(other_before);
  free(other_after);
  free(bytes);
  cn_trainer_free(trainer);
  cn_trainer_free(other_trainer);
  cn_network_free(net);
  cn_network_free(other);
}

/* The checkpoint again with another note, and another value in the optimiser's memory of a tensor. */
static void change_checkpoint(const char *from, const char *to, const char *key, const char *value,
                              const char *tensor, float number) {
  cn_safetensors *file = must_read(from);
  cn_note notes[8];
  float *changed = NULL;
  cn_error error;
  assert_in_range(file->note_count, 1, LENGTH(notes));
  for (int i = 0; i < file->note_count; i++) {
    notes[i] = file->notes[i];
    if (strcmp(notes[i].key, key) == 0) notes[i].value = value;
  }
  for (int i = 0; i < file->tensor_count; i++)
    if (strcmp(file->tensors[i].name, tensor) == 0) {
      changed = (float *)malloc(file->tensors[i].bytes);
      assert_non_null(changed);
      memcpy(changed, file->tensors[i].data, file->tensors[i].bytes);
      memcpy(changed + 1, &number, sizeof number);
      file->tensors[i].data = changed;
    }
  if (cn_safetensors_write(to, file->tensors, file->tensor_count, notes, file->note_count,
                           &error) != CN_OK)
    fail_msg("%s", error.message);
  free(changed);
  cn_safetensors_free(file);
}

static void garbage_in_checkpoints(void **state) {
  (void)state;
  static const char *const steps[] = {"-1",
                                      "-9223372036854775808",
                                      "9223372036854775807",
                                      "",
                                      "9007199254740992",
                                      "99999999999999999999999",
                                      "1e3",
                                      " 1",
                                      "+1",
                                      "1 ",
                                      "0x1",
                                      "1.5",
                                      "two",
                                      "18446744073709551617"};
  static const struct {
    const char *tensor;
    float value;
  } values[] = {
      {"optimizer.first.fc.weight", NAN},         {"optimizer.first.fc.weight", INFINITY},
      {"optimizer.first.last.weight", -INFINITY}, {"optimizer.second.fc.weight", NAN},
      {"optimizer.second.fc.weight", -1.0f},      {"optimizer.second.last.weight", -1e-30f}};
  cn_training_options options = options_of(CN_ADAM);
  cn_network *net = must_parse(net_text);
  cn_trainer *trainer = must_train(net, IMAGES, &options);
  cn_error error = {CN_OK, 0, 0, ""};
  size_t count;
  train_steps(trainer, 1, 2);
  assert_int_equal(cn_trainer_save(trainer, in_folder("good"), &error), CN_OK);
  train_steps(trainer, 3, 3);
  float *before = copy_parameters(net, &count);
  for (int i = 0; i < LENGTH(steps); i++) {
    change_checkpoint(in_folder("good"), in_folder("bad"), "optimizer.step", steps[i], "", 0);
    if (cn_trainer_load(trainer, in_folder("bad"), &error) != CN_ERROR_FORMAT)
      fail_msg("accepted: step %s", steps[i]);
    assert_contains(error.message, "steps");
  }
  for (int i = 0; i < LENGTH(values); i++) {
    change_checkpoint(in_folder("good"), in_folder("bad"), "", "", values[i].tensor,
                      values[i].value);
    if (cn_trainer_load(trainer, in_folder("bad"), &error) != CN_ERROR_FORMAT)
      fail_msg("accepted: %s with %g", values[i].tensor, (double)values[i].value);
    assert_contains(error.message, "memory");
  }
  float *after = copy_parameters(net, &count);
  assert_memory_equal(before, after, count * sizeof(float));
  assert_int_equal(cn_trainer_steps(trainer), 3);
  free(before);
  free(after);

  static const char *const good[] = {"0", "00", "9007199254740991"};
  for (int i = 0; i < LENGTH(good); i++) {
    change_checkpoint(in_folder("good"), in_folder("bad"), "optimizer.step", good[i], "", 0);
    assert_int_equal(cn_trainer_load(trainer, in_folder("bad"), &error), CN_OK);
    train_steps(trainer, 1, 1);
    after = copy_parameters(net, &count);
    for (size_t k = 0; k < count; k++) assert_true(isfinite(after[k]));
    free(after);
  }
  cn_trainer_free(trainer);
  cn_network_free(net);
}

static void rates_of_any_step(void **state) {
  (void)state;
  static const int64_t steps[] = {INT64_MIN, -1, 0, 1, 2, INT64_C(1) << 53, INT64_MAX};
  static const int64_t counts[] = {0, 1, 1000, INT64_MAX};
  for (int i = 0; i < LENGTH(steps); i++)
    for (int kind = 0; kind < 3; kind++)
      for (int w = 0; w < LENGTH(counts); w++)
        for (int d = 0; d < LENGTH(counts); d++) {
          cn_training_options options = cn_training_defaults();
          options.schedule = (cn_schedule)kind;
          options.warmup_steps = counts[w], options.decay_steps = counts[d];
          float rate = cn_learning_rate(&options, steps[i]);
          if (!(rate >= 0 && rate <= options.learning_rate))
            fail_msg("step %lld: rate %g", (long long)steps[i], (double)rate);
        }
}

/* A node's name may look like the optimiser's memory: then there is no checkpoint rather than a wrong
   one. */
static void checkpoint_names_that_collide(void **state) {
  (void)state;
  cn_network *net = must_parse("input 1x1x2\nx: dense 2\noptimizer.first.x: dense 2\nsoftmax");
  cn_trainer *trainer = must_train(net, 1, NULL);
  cn_error error = {CN_OK, 0, 0, ""};
  assert_int_equal(cn_trainer_save(trainer, in_folder("a"), &error), CN_ERROR_ARGUMENT);
  assert_contains(error.message, "optimizer.first.x.");
  assert_int_equal(files_in_folder(), 0);
  cn_trainer_free(trainer);
  cn_network_free(net);
}

#define test(function) cmocka_unit_test_setup(function, empty_folder)

int main(void) {
  strcpy(folder, "/tmp/convnet-files-XXXXXX");
  if (!mkdtemp(folder)) return 1;
  static const struct CMUnitTest tests[] = {
      test(save_and_load),
      test(odd_values_survive),
      test(network_without_parameters),
      test(contents_are_pytorchs),
      test(header_is_aligned),
      test(plain_tensors),
      test(many_tensors),
      test(header_variations),
      test(half_precision),
      test(weights_of_another_network),
      test(extra_and_wrong_types),
      test(unknown_types),
      test(hostile_headers_refused),
      test(wrong_header_lengths),
      test(deep_json),
      test(cut_anywhere),
      test(changed_anywhere),
      test(networks_refused),
      test(large_networks_of_small_files),
      test(writer_refuses),
      test(written_is_readable),
      test(memory_equals_file),
      test(tensors_lie_in_memory),
      test(cut_memory_refused),
      test(bytes_are_little_endian),
      test(links_are_followed),
      test(permissions_stay),
      test(special_files),
      test(unfinished_files_of_others),
      test(saved_at_the_same_time),
      test(missing_files),
      test(full_disk_keeps_old_file),
      test(resume_equals_uninterrupted),
      test(checkpoints_refused),
      test(garbage_in_checkpoints),
      test(rates_of_any_step),
      test(checkpoint_names_that_collide),
  };
  int failed = cmocka_run_group_tests(tests, NULL, NULL);
  empty_folder(NULL);
  rmdir(folder);
  return failed;
}
