/* Sparse convolution and matrix product at batch sizes of phones: plain C, no libc call but memcpy, no allocation.

   A layer computes, for image n, output channel o and output pixel p,

       y[n, o, p] = f(bias[o] + sum over nonzero w[o, i, k] of w[o, i, k] * x[n, i, p * stride + k * dilation - pad]
                      + residual[n, o, p])

   with f of `activation`. Vectors run over pixels, never over nonzeros: a weight is a broadcast, nothing is gathered.
   The caller owns all memory: ask for sizes, pack once, then run; `mp_run` may be called from several threads with
   scratch of their own. All sizes are checked for overflow before anything is written. */
#ifndef MOBILEPRUNE_KERNELS_H
#define MOBILEPRUNE_KERNELS_H

#include <stddef.h>
#include <stdint.h>

#if defined(_WIN32)
#define MP_API __declspec(dllexport)
#else
#define MP_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

typedef enum { MP_IDENTITY, MP_RELU, MP_RELU6, MP_HARD_SWISH, MP_NUM_ACTIVATIONS } mp_activation;

/* Everything of a layer but its numbers; a matrix product is a convolution of 1 x 1 pixels. */
typedef struct {
  int64_t in_channels, out_channels, groups;
  int64_t in_size[2], kernel[2], stride[2], dilation[2]; /* height, width */
  int64_t pad[4];                                        /* top, left, bottom, right */
  mp_activation activation;
} mp_layer;

/* NULL, or what is wrong with the layer (a constant string). Call it before anything else. */
MP_API const char *mp_check(const mp_layer *layer);

/* Height and width of the output of a layer that was checked. */
MP_API void mp_out_size(const mp_layer *layer, int64_t out[2]);

/* The kernels of this build: a name such as "avx2-unstructured"; NULL from the last index on. */
MP_API const char *mp_kernel_name(int kernel);

/* Whether this CPU runs the kernel. */
MP_API int mp_kernel_runs(int kernel);

/* The kernel that suits the weights (out_channels, in_channels / groups, kernel...) on this CPU. */
MP_API int mp_choose(const mp_layer *layer, const float *weights);

/* Bytes of the packed form of the weights for a kernel; 0 where they do not fit its 32-bit offsets. */
MP_API size_t mp_packed_bytes(const mp_layer *layer, const float *weights, int kernel);

typedef struct mp_packed mp_packed;

/* Pack weights and bias (out_channels; NULL: zeros) into `memory` of that many bytes, aligned to 64. */
MP_API const mp_packed *mp_pack(const mp_layer *layer, const float *weights, const float *bias, int kernel, void *memory);

/* Bytes of scratch for one call with `images` images; 0 on overflow. Aligned to 64. */
MP_API size_t mp_scratch_bytes(const mp_packed *packed, int64_t images);

/* Calls task(argument, i) for i in [0, count), in any order, possibly at once, and waits for all. */
typedef void (*mp_task)(void *argument, size_t index);
typedef struct {
  void (*run)(void *pool, mp_task task, void *argument, size_t count);
  void *pool;
} mp_threads;

/* x (images, in_channels, height, width) and residual (NULL or of y's shape) -> y (images, out_channels, height, width);
   threads NULL: in this one. The same bits for any number of threads. */
MP_API void mp_run(const mp_packed *packed, const float *x, const float *residual, float *y, int64_t images, void *scratch,
            const mp_threads *threads);

/* What mp_run multiplies and adds for an image: the nonzeros that are stored times the pixels of the output. */
MP_API int64_t mp_multiply_adds(const mp_packed *packed);

/* Three layers in one, of which only the last one's result is kept: 1 x 1 pixels from in_channels to `channels` (left out
   where not `expands`; then both are the same), depthwise kernel x kernel pixels, both with the activation, and 1 x 1
   pixels to out_channels with nothing but the residual. */
typedef struct {
  int64_t in_channels, channels, out_channels;
  int64_t in_size[2], kernel, stride; /* the kernel 3 or 5, the stride 1 or 2, both ways */
  int64_t pad[4];                     /* of the depthwise layer, less than its kernel: top, left, bottom, right */
  int expands;
  mp_activation activation;
} mp_block;

/* Of the three layers in this order, each as mp_pack takes them. */
typedef struct {
  const float *weights[3], *bias[3];
} mp_block_weights;

/* All as the functions of one layer; `kernels`: the one that expands and the one that projects. */
MP_API const char *mp_block_check(const mp_block *block);
MP_API void mp_block_out_size(const mp_block *block, int64_t out[2]);
MP_API void mp_block_choose(const mp_block *block, const mp_block_weights *weights, int kernels[2]);
MP_API size_t mp_block_packed_bytes(const mp_block *block, const mp_block_weights *weights, const int kernels[2]);

typedef struct mp_packed_block mp_packed_block;

MP_API const mp_packed_block *mp_block_pack(const mp_block *block, const mp_block_weights *weights, const int kernels[2],
                                            void *memory);
MP_API size_t mp_block_scratch_bytes(const mp_packed_block *packed, int64_t images);
MP_API void mp_block_run(const mp_packed_block *packed, const float *x, const float *residual, float *y, int64_t images,
                         void *scratch, const mp_threads *threads);
MP_API int64_t mp_block_multiply_adds(const mp_packed_block *packed);

#ifdef __cplusplus
}
#endif
#endif
