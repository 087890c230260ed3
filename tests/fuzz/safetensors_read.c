/* safetensors_read.c - cn_safetensors_read_memory on any bytes. What is read lies inside them, without
   overlap or hole, in sizes that match, under names that are found again. Runs: 40000. */
#include "convnet.h"

static void check_tensor(const cn_safetensors *file, const cn_tensor *tensor) {
  int64_t values = 1;
  FUZZ_CHECK(cn_safetensors_find(file, tensor->name) == tensor);
  FUZZ_CHECK(tensor->rank >= 0 && tensor->rank <= 8);
  for (int i = 0; i < tensor->rank; i++) {
    FUZZ_CHECK(tensor->dims[i] >= 0);
    values *= tensor->dims[i];
  }
  if (tensor->dtype == CN_F32) FUZZ_CHECK((uint64_t)values * 4 == tensor->bytes);
  if (tensor->dtype == CN_F16 || tensor->dtype == CN_BF16)
    FUZZ_CHECK((uint64_t)values * 2 == tensor->bytes);
}

static void check_file(const cn_safetensors *file, const uint8_t *bytes, size_t size) {
  const uint8_t *next = file->tensor_count ? file->tensors[0].data : bytes + size;
  FUZZ_CHECK(next >= bytes + 8);
  for (int i = 0; i < file->tensor_count; i++) {
    FUZZ_CHECK(file->tensors[i].data == next);
    check_tensor(file, &file->tensors[i]);
    next += file->tensors[i].bytes;
  }
  FUZZ_CHECK(next == bytes + size);
  for (int i = 0; i < file->note_count; i++)
    FUZZ_CHECK(cn_safetensors_note(file, file->notes[i].key) == file->notes[i].value);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  cn_error error = {CN_OK, 0, 0, ""};
  cn_safetensors *file = cn_safetensors_read_memory(data, size, &error);
  FUZZ_CHECK(file || (error.status != CN_OK && *error.message));
  if (file) check_file(file, data, size);
  cn_safetensors_free(file);
  return 0;
}
