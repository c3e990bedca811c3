/* The part of ONNX Runtime's C interface that a custom operator needs, in our own declarations: the wheel brings no
   headers. The function table only grows at its end, so an entry is its position; tests hold positions and layouts against
   the real header where there is one. */
#ifndef MOBILEPRUNE_ORT_API_H
#define MOBILEPRUNE_ORT_API_H

#include <stddef.h>
#include <stdint.h>

#define ORT_API_VERSION_USED 18 /* of ONNX Runtime 1.18, the first that has every entry below */

enum { ORT_CODE_INVALID_ARGUMENT = 2, ORT_CODE_NOT_IMPLEMENTED = 9, ORT_TYPE_FLOAT = 1 };

typedef struct ort_status ort_status; /* NULL is success */
typedef struct ort_value ort_value;
typedef struct ort_info ort_info;
typedef struct ort_context ort_context;
typedef struct ort_shape ort_shape;
typedef struct ort_options ort_options;
typedef struct ort_domain ort_domain;
typedef const void *const *ort_api;

typedef struct ort_allocator {
  uint32_t version;
  void *(*alloc)(struct ort_allocator *, size_t);
  void (*free)(struct ort_allocator *, void *);
} ort_allocator;

typedef struct {
  ort_api (*get_api)(uint32_t version);
} ort_base;

typedef struct ort_op {
  uint32_t version;
  void *create_v1;
  const char *(*name)(const struct ort_op *);
  const char *(*provider)(const struct ort_op *);
  int (*input_type)(const struct ort_op *, size_t);
  size_t (*input_count)(const struct ort_op *);
  int (*output_type)(const struct ort_op *, size_t);
  size_t (*output_count)(const struct ort_op *);
  void *compute_v1;
  void (*destroy)(void *);
  int (*input_kind)(const struct ort_op *, size_t); /* 0: required */
  int (*output_kind)(const struct ort_op *, size_t);
  int (*input_memory)(const struct ort_op *, size_t); /* 0: the processor's */
  int (*input_arity)(const struct ort_op *);
  int (*input_same)(const struct ort_op *);
  int (*output_arity)(const struct ort_op *);
  int (*output_same)(const struct ort_op *);
  ort_status *(*create)(const struct ort_op *, ort_api, const ort_info *, void **);
  ort_status *(*compute)(void *, ort_context *);
  void *optional[7]; /* shapes, versions and aliases: NULL */
} ort_op;

/* position, what it gives, name, arguments */
#define ORT_ENTRIES(E)                                                                                        \
  E(0, ort_status *, CreateStatus, (int code, const char *message))                                           \
  E(26, ort_status *, CreateCustomOpDomain, (const char *name, ort_domain **))                                \
  E(27, ort_status *, CustomOpDomain_Add, (ort_domain *, const ort_op *))                                     \
  E(28, ort_status *, AddCustomOpDomain, (ort_options *, ort_domain *))                                       \
  E(51, ort_status *, GetTensorMutableData, (ort_value *, void **))                                           \
  E(60, ort_status *, GetTensorElementType, (const ort_shape *, int *))                                       \
  E(61, ort_status *, GetDimensionsCount, (const ort_shape *, size_t *))                                      \
  E(62, ort_status *, GetDimensions, (const ort_shape *, int64_t *, size_t))                                  \
  E(65, ort_status *, GetTensorTypeAndShape, (const ort_value *, ort_shape **))                               \
  E(86, ort_status *, KernelInfoGetAttribute_int64, (const ort_info *, const char *, int64_t *))              \
  E(90, ort_status *, KernelContext_GetInput, (const ort_context *, size_t, const ort_value **))              \
  E(91, ort_status *, KernelContext_GetOutput, (ort_context *, size_t, const int64_t *, size_t, ort_value **)) \
  E(93, void, ReleaseStatus, (ort_status *))                                                                  \
  E(99, void, ReleaseTensorTypeAndShapeInfo, (ort_shape *))                                                   \
  E(132, void, ReleaseAllocator, (ort_allocator *))                                                           \
  E(163, ort_status *, KernelInfoGetAttributeArray_int64, (const ort_info *, const char *, int64_t *, size_t *)) \
  E(249, ort_status *, KernelInfoGetConstantInput_tensor, (const ort_info *, size_t, int *, const ort_value **)) \
  E(274, ort_status *, KernelContext_ParallelFor,                                                             \
    (const ort_context *, void (*)(void *, size_t), size_t count, size_t batches, void *))                    \
  E(278, ort_status *, KernelInfoGetAllocator, (const ort_info *, int memory, ort_allocator **))

#define ORT_DECLARE(position, gives, name, arguments) \
  typedef gives(*ort_##name) arguments;               \
  enum { ORT_AT_##name = position };
ORT_ENTRIES(ORT_DECLARE)

#define ORT(api, name) ((ort_##name)(api)[ORT_AT_##name])

#endif
