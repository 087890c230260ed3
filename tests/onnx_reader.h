/* onnx_reader.h - reads the parts of ONNX's protobuf files that the conformance cases need: a
   model's nodes, attributes and initialisers, and tensors. Every length is checked against what
   is left of the message around it; a file that does not fit is refused (functions return 0),
   never trusted.

   Tensors become floats whatever their type, as long as a float holds every value exactly or the
   type is double. Field numbers are those of onnx.proto. */
#ifndef ONNX_READER_H
#define ONNX_READER_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
  ONNX_MAX_RANK = 8,
  ONNX_MAX_NAME = 128,
  ONNX_MAX_ARGUMENTS = 16, /* inputs, outputs or attributes of a node */
  ONNX_MAX_INTS = 16,      /* of one attribute */
  ONNX_MAX_NODES = 64,
  ONNX_MAX_TENSORS = 64,    /* initialisers */
  ONNX_MAX_VALUES = 1 << 26 /* of one tensor */
};

enum {
  ONNX_FLOAT = 1,
  ONNX_UINT8 = 2,
  ONNX_INT8 = 3,
  ONNX_INT32 = 6,
  ONNX_INT64 = 7,
  ONNX_BOOL = 9,
  ONNX_DOUBLE = 11
};

typedef struct onnx_tensor {
  char name[ONNX_MAX_NAME];
  int type, rank;
  ptrdiff_t dims[ONNX_MAX_RANK], count;
  float *values; /* count floats from malloc */
} onnx_tensor;

typedef struct onnx_attribute {
  char name[ONNX_MAX_NAME], text[ONNX_MAX_NAME];
  float number;
  int64_t integer, ints[ONNX_MAX_INTS];
  int int_count;
  onnx_tensor tensor; /* values NULL if there is none */
} onnx_attribute;

typedef struct onnx_node {
  char type[ONNX_MAX_NAME];
  char inputs[ONNX_MAX_ARGUMENTS][ONNX_MAX_NAME], outputs[ONNX_MAX_ARGUMENTS][ONNX_MAX_NAME];
  int input_count, output_count, attribute_count;
  onnx_attribute attributes[ONNX_MAX_ARGUMENTS];
} onnx_node;

typedef struct onnx_model {
  int64_t opset; /* of the default domain */
  onnx_node nodes[ONNX_MAX_NODES];
  onnx_tensor initialisers[ONNX_MAX_TENSORS];
  char inputs[ONNX_MAX_TENSORS][ONNX_MAX_NAME], outputs[ONNX_MAX_TENSORS][ONNX_MAX_NAME];
  int node_count, initialiser_count, input_count, output_count;
} onnx_model;

/* ---- protobuf -------------------------------------------------------------------------------- */

/* What is left of a message. */
typedef struct onnx_bytes {
  const uint8_t *at;
  size_t left;
} onnx_bytes;

enum { ONNX_VARINT = 0, ONNX_FIXED64 = 1, ONNX_BYTES = 2, ONNX_FIXED32 = 5 }; /* wire types */

typedef struct onnx_field {
  uint64_t number;
  int wire;
  uint64_t value;   /* varint and fixed */
  onnx_bytes bytes; /* of text, messages and packed numbers */
} onnx_field;

static inline int onnx_varint(onnx_bytes *in, uint64_t *value) {
  *value = 0;
  for (unsigned shift = 0; shift < 64 && in->left; shift += 7) {
    const uint8_t byte = *in->at++;
    in->left--;
    *value |= (uint64_t)(byte & 127u) << shift;
    if (byte < 128) return 1;
  }
  return 0;
}

static inline int onnx_fixed(onnx_bytes *in, size_t size, uint64_t *value) {
  if (in->left < size) return 0;
  *value = 0;
  for (size_t i = 0; i < size; i++) *value |= (uint64_t)in->at[i] << (8 * i);
  in->at += size;
  in->left -= size;
  return 1;
}

/* The next field: 1, 0 for a malformed one. Ask only while in->left is not 0. */
static inline int onnx_next(onnx_bytes *in, onnx_field *field) {
  uint64_t key;
  if (!onnx_varint(in, &key)) return 0;
  memset(field, 0, sizeof *field);
  field->number = key >> 3;
  field->wire = (int)(key & 7);
  if (field->wire == ONNX_VARINT) return onnx_varint(in, &field->value);
  if (field->wire == ONNX_FIXED64) return onnx_fixed(in, 8, &field->value);
  if (field->wire == ONNX_FIXED32) return onnx_fixed(in, 4, &field->value);
  if (field->wire != ONNX_BYTES || !onnx_varint(in, &field->value)) return 0;
  if (field->value > in->left) return 0;
  field->bytes.at = in->at;
  field->bytes.left = (size_t)field->value;
  in->at += field->bytes.left;
  in->left -= field->bytes.left;
  return 1;
}

static inline int onnx_text(const onnx_field *field, char *text) {
  if (field->wire != ONNX_BYTES || field->bytes.left >= ONNX_MAX_NAME) return 0;
  if (field->bytes.left) memcpy(text, field->bytes.at, field->bytes.left);
  text[field->bytes.left] = 0;
  return 1;
}

static inline float onnx_float_of_bits(uint64_t bits) {
  const uint32_t low = (uint32_t)bits;
  float value;
  memcpy(&value, &low, sizeof value);
  return value;
}

static inline double onnx_double_of_bits(uint64_t bits) {
  double value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

/* ---- tensors --------------------------------------------------------------------------------- */

/* A whole number as a float, or 0 if that would change it. */
static inline int onnx_store_integer(onnx_tensor *t, ptrdiff_t at, int64_t value) {
  if (at >= t->count || value > 16777216 || value < -16777216) return 0;
  t->values[at] = (float)value;
  return 1;
}

static inline int onnx_store_raw(onnx_tensor *t, ptrdiff_t at, onnx_bytes *in) {
  static const struct {
    int type;
    size_t size;
  } sizes[] = {{ONNX_FLOAT, 4}, {ONNX_UINT8, 1}, {ONNX_INT8, 1},  {ONNX_INT32, 4},
               {ONNX_INT64, 8}, {ONNX_BOOL, 1},  {ONNX_DOUBLE, 8}};
  uint64_t bits = 0;
  size_t size = 0;
  for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
    if (sizes[i].type == t->type) size = sizes[i].size;
  }
  if (!size || at >= t->count || !onnx_fixed(in, size, &bits)) return 0;
  if (t->type == ONNX_FLOAT) {
    t->values[at] = onnx_float_of_bits(bits);
    return 1;
  }
  if (t->type == ONNX_DOUBLE) {
    t->values[at] = (float)onnx_double_of_bits(bits);
    return 1;
  }
  if (t->type == ONNX_INT8) return onnx_store_integer(t, at, (int8_t)bits);
  if (t->type == ONNX_INT32) return onnx_store_integer(t, at, (int32_t)bits);
  return onnx_store_integer(t, at, (int64_t)bits);
}

static inline int onnx_store_bits(onnx_tensor *t, ptrdiff_t at, int wire, uint64_t bits) {
  if (at >= t->count) return 0;
  if (wire == ONNX_VARINT) return onnx_store_integer(t, at, (int64_t)bits);
  t->values[at] =
      wire == ONNX_FIXED32 ? onnx_float_of_bits(bits) : (float)onnx_double_of_bits(bits);
  return 1;
}

/* Values in one of the typed fields, packed or one by one; *at counts them. */
static inline int onnx_store_typed(onnx_tensor *t, ptrdiff_t *at, const onnx_field *field) {
  const int wire = field->number == 4    ? ONNX_FIXED32
                   : field->number == 10 ? ONNX_FIXED64
                                         : ONNX_VARINT;
  onnx_bytes in = field->bytes;
  if (field->wire == wire) return onnx_store_bits(t, (*at)++, wire, field->value);
  if (field->wire != ONNX_BYTES) return 0;
  while (in.left) {
    uint64_t bits;
    if (wire == ONNX_VARINT && !onnx_varint(&in, &bits)) return 0;
    if (wire != ONNX_VARINT && !onnx_fixed(&in, wire == ONNX_FIXED32 ? 4 : 8, &bits)) return 0;
    if (!onnx_store_bits(t, (*at)++, wire, bits)) return 0;
  }
  return 1;
}

static inline int onnx_add_dim(onnx_tensor *t, uint64_t dim) {
  if (t->rank == ONNX_MAX_RANK || dim > ONNX_MAX_VALUES) return 0;
  if (dim && t->count > (ptrdiff_t)(ONNX_MAX_VALUES / dim)) return 0;
  t->dims[t->rank++] = (ptrdiff_t)dim;
  t->count *= (ptrdiff_t)dim;
  return 1;
}

/* First pass over a TensorProto: name, type and dimensions, wherever they stand. */
static inline int onnx_read_shape(onnx_bytes in, onnx_tensor *t) {
  onnx_field field;
  memset(t, 0, sizeof *t);
  t->count = 1;
  while (in.left) {
    if (!onnx_next(&in, &field)) return 0;
    if (field.number == 1 && field.wire == ONNX_VARINT && !onnx_add_dim(t, field.value)) return 0;
    if (field.number == 1 && field.wire == ONNX_BYTES) {
      uint64_t dim;
      while (field.bytes.left) {
        if (!onnx_varint(&field.bytes, &dim) || !onnx_add_dim(t, dim)) return 0;
      }
    }
    if (field.number == 2) t->type = (int)(field.value & 0xFFFF);
    if (field.number == 8 && !onnx_text(&field, t->name)) return 0;
    if (field.number == 13) return 0; /* data in another file */
  }
  return 1;
}

static inline int onnx_read_values(onnx_bytes in, onnx_tensor *t) {
  onnx_field field;
  ptrdiff_t stored = 0;
  while (in.left) {
    if (!onnx_next(&in, &field)) return 0;
    if (field.number == 4 || field.number == 5 || field.number == 7 || field.number == 10) {
      if (!onnx_store_typed(t, &stored, &field)) return 0;
    }
    if (field.number != 9) continue;
    if (field.wire != ONNX_BYTES) return 0;
    while (field.bytes.left) {
      if (!onnx_store_raw(t, stored++, &field.bytes)) return 0;
    }
  }
  return stored == t->count;
}

/* A TensorProto; t->values is to be freed if this succeeds. */
static inline int onnx_read_tensor(onnx_bytes in, onnx_tensor *t) {
  if (!onnx_read_shape(in, t)) return 0;
  /* a tensor cannot hold more values than the message has bytes: no large block for a small lie */
  if ((size_t)t->count > in.left) return 0;
  t->values = malloc((size_t)(t->count ? t->count : 1) * sizeof *t->values);
  if (!t->values) return 0;
  if (onnx_read_values(in, t)) return 1;
  free(t->values);
  t->values = NULL;
  return 0;
}

/* ---- models ---------------------------------------------------------------------------------- */

static inline int onnx_add_int(onnx_attribute *a, uint64_t value) {
  if (a->int_count == ONNX_MAX_INTS) return 0;
  a->ints[a->int_count++] = (int64_t)value;
  return 1;
}

static inline int onnx_read_attribute(onnx_bytes in, onnx_attribute *a) {
  onnx_field field;
  memset(a, 0, sizeof *a);
  while (in.left) {
    if (!onnx_next(&in, &field)) return 0;
    if (field.number == 1 && !onnx_text(&field, a->name)) return 0;
    if (field.number == 2) a->number = onnx_float_of_bits(field.value);
    if (field.number == 3) a->integer = (int64_t)field.value;
    if (field.number == 4 && !onnx_text(&field, a->text)) return 0;
    if (field.number == 5 && (a->tensor.values || !onnx_read_tensor(field.bytes, &a->tensor)))
      return 0;
    if (field.number != 8) continue;
    if (field.wire == ONNX_VARINT && !onnx_add_int(a, field.value)) return 0;
    while (field.wire == ONNX_BYTES && field.bytes.left) {
      uint64_t value;
      if (!onnx_varint(&field.bytes, &value) || !onnx_add_int(a, value)) return 0;
    }
  }
  return 1;
}

static inline int onnx_read_node(onnx_bytes in, onnx_node *node) {
  onnx_field field;
  while (in.left) {
    if (!onnx_next(&in, &field)) return 0;
    if (field.number == 1) {
      if (node->input_count == ONNX_MAX_ARGUMENTS) return 0;
      if (!onnx_text(&field, node->inputs[node->input_count++])) return 0;
    }
    if (field.number == 2) {
      if (node->output_count == ONNX_MAX_ARGUMENTS) return 0;
      if (!onnx_text(&field, node->outputs[node->output_count++])) return 0;
    }
    if (field.number == 4 && !onnx_text(&field, node->type)) return 0;
    if (field.number == 5) {
      if (node->attribute_count == ONNX_MAX_ARGUMENTS) return 0;
      if (!onnx_read_attribute(field.bytes, &node->attributes[node->attribute_count++])) return 0;
    }
  }
  return 1;
}

/* The name in a ValueInfoProto. */
static inline int onnx_read_name(onnx_bytes in, char *name) {
  onnx_field field;
  while (in.left) {
    if (!onnx_next(&in, &field)) return 0;
    if (field.number == 1) return onnx_text(&field, name);
  }
  return 0;
}

static inline int onnx_read_graph(onnx_bytes in, onnx_model *model) {
  onnx_field field;
  while (in.left) {
    if (!onnx_next(&in, &field)) return 0;
    if (field.number == 1) {
      if (model->node_count == ONNX_MAX_NODES) return 0;
      if (!onnx_read_node(field.bytes, &model->nodes[model->node_count++])) return 0;
    }
    if (field.number == 5) {
      if (model->initialiser_count == ONNX_MAX_TENSORS) return 0;
      if (!onnx_read_tensor(field.bytes, &model->initialisers[model->initialiser_count])) return 0;
      model->initialiser_count++;
    }
    if (field.number == 11) {
      if (model->input_count == ONNX_MAX_TENSORS) return 0;
      if (!onnx_read_name(field.bytes, model->inputs[model->input_count++])) return 0;
    }
    if (field.number == 12) {
      if (model->output_count == ONNX_MAX_TENSORS) return 0;
      if (!onnx_read_name(field.bytes, model->outputs[model->output_count++])) return 0;
    }
  }
  return 1;
}

/* Version of an OperatorSetIdProto of the default domain, else 0. */
static inline int64_t onnx_read_opset(onnx_bytes in) {
  onnx_field field;
  int64_t version = 0;
  while (in.left) {
    if (!onnx_next(&in, &field)) return 0;
    if (field.number == 1 && field.bytes.left) return 0;
    if (field.number == 2) version = (int64_t)field.value;
  }
  return version;
}

static inline void onnx_free_model(onnx_model *model) {
  if (!model) return;
  for (int i = 0; i < model->initialiser_count; i++) free(model->initialisers[i].values);
  for (int i = 0; i < model->node_count; i++) {
    for (int j = 0; j < model->nodes[i].attribute_count; j++) {
      free(model->nodes[i].attributes[j].tensor.values);
    }
  }
  free(model);
}

/* A ModelProto, or NULL. */
static inline onnx_model *onnx_read_model(onnx_bytes in) {
  onnx_model *model = calloc(1, sizeof *model);
  onnx_field field;
  int fine = model != NULL, graphs = 0;
  while (fine && in.left) {
    fine = onnx_next(&in, &field);
    if (fine && field.number == 7) fine = graphs++ == 0 && onnx_read_graph(field.bytes, model);
    if (fine && field.number == 8) {
      const int64_t version = onnx_read_opset(field.bytes);
      if (version) model->opset = version;
    }
  }
  if (fine && graphs == 1) return model;
  onnx_free_model(model);
  return NULL;
}

/* ---- files ----------------------------------------------------------------------------------- */

/* A whole file, freed by onnx_free_file; at is NULL if it cannot be read. */
static inline onnx_bytes onnx_read_file(const char *path) {
  onnx_bytes bytes = {NULL, 0};
  FILE *file = fopen(path, "rb");
  if (!file) return bytes;
  size_t room = 1 << 16, used = 0;
  uint8_t *data = malloc(room);
  while (data) {
    used += fread(data + used, 1, room - used, file);
    if (used < room) break;
    uint8_t *larger = room < ((size_t)1 << 30) ? realloc(data, room * 2) : NULL;
    if (!larger) free(data);
    data = larger;
    room *= 2;
  }
  if (data && ferror(file)) {
    free(data);
    data = NULL;
  }
  fclose(file);
  bytes.at = data;
  bytes.left = data ? used : 0;
  return bytes;
}

static inline void onnx_free_file(onnx_bytes file) {
  free((void *)(uintptr_t)file.at);
}

#endif
