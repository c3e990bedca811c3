/* What fuzz targets share: numbers from bytes, in buffers of the exact sizes, and layers by their definition in float64. */
#ifndef MOBILEPRUNE_FUZZ_H
#define MOBILEPRUNE_FUZZ_H

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mobileprune_kernels.h"

#define MAX_NUMBERS (1 << 16) /* of an input, an output or the weights; larger layers are only checked */
#define MAX_PRODUCTS (1 << 19)
#define PATCHY 1000
#define TOLERANCE 1e-5 /* of the sum of all products' sizes */
#define STEEPEST 1.5   /* of the activations: hard-swish at 3 */

typedef struct {
  const uint8_t *at, *end;
  uint64_t state; /* bytes come from here when the input is used up */
} source;

static uint8_t byte(source *s) {
  if (s->at < s->end) return *s->at++;
  s->state ^= s->state << 13, s->state ^= s->state >> 7, s->state ^= s->state << 17;
  return (uint8_t)(s->state >> 32);
}

static int64_t below(source *s, int64_t limit) {
  const int64_t high = byte(s);
  return (high << 8 | byte(s)) % limit;
}

#define COUNT(...) (sizeof((const int64_t[]){__VA_ARGS__}) / sizeof(int64_t))
#define PICK(s, ...) ((const int64_t[]){__VA_ARGS__}[below(s, COUNT(__VA_ARGS__))])

static inline void *exactly(size_t bytes) {
  void *memory = NULL;
  if (posix_memalign(&memory, 64, bytes ? bytes : 1)) abort();
  memset(memory, 0xFF, bytes); /* NaN where nobody writes */
  return memory;
}

/* `density` of 256 numbers are not zero; PATCHY: all of some stretches, none of others. */
static float *draw_numbers(source *s, int64_t count, int64_t density, float wild) {
  float *numbers = exactly((size_t)count * sizeof(float));
  int64_t here = density, left = 0;
  for (int64_t i = 0; i < count; i++) {
    if (density == PATCHY && left-- == 0) here = PICK(s, 0, 0, 256), left = below(s, 1000);
    numbers[i] = below(s, 256) < here ? (float)(int8_t)byte(s) / 16 : 0;
  }
  if (wild != 0) numbers[below(s, count)] = wild;
  return numbers;
}

static double activated(double x, mp_activation f) {
  if (f == MP_RELU) return fmax(x, 0);
  if (f == MP_RELU6) return fmin(fmax(x, 0), 6);
  return f == MP_HARD_SWISH ? x * fmin(fmax(x / 6 + 0.5, 0), 1) : x;
}

/* Numbers, and how far off each may be. */
typedef struct {
  double *value, *error;
} numbers;

static numbers some_numbers(int64_t count) {
  const size_t bytes = (size_t)count * sizeof(double);
  return (numbers){exactly(bytes), exactly(bytes)};
}

static void free_numbers(numbers n) { free(n.value), free(n.error); }

static numbers given(const float *x, int64_t count) {
  const numbers n = some_numbers(count);
  for (int64_t i = 0; i < count; i++) n.value[i] = x[i], n.error[i] = 0;
  return n;
}

/* Output pixel (row, column) of channel o, before bias and activation; `error` grows by how far off it may be. */
static double pixel(const mp_layer *l, const float *w, numbers x, int64_t o, int64_t row, int64_t column, double *error) {
  const int64_t channels = l->in_channels / l->groups, group = o / (l->out_channels / l->groups);
  double sum = 0;
  for (int64_t i = 0; i < channels; i++)
    for (int64_t kr = 0; kr < l->kernel[0]; kr++)
      for (int64_t kc = 0; kc < l->kernel[1]; kc++) {
        const double weight = w[((o * channels + i) * l->kernel[0] + kr) * l->kernel[1] + kc];
        const int64_t r = row * l->stride[0] + kr * l->dilation[0] - l->pad[0];
        const int64_t c = column * l->stride[1] + kc * l->dilation[1] - l->pad[1];
        if (weight == 0 || r < 0 || r >= l->in_size[0] || c < 0 || c >= l->in_size[1]) continue;
        const int64_t at = ((group * channels + i) * l->in_size[0] + r) * l->in_size[1] + c;
        sum += weight * x.value[at];
        *error += fabs(weight) * (TOLERANCE * fabs(x.value[at]) + x.error[at]);
      }
  return sum;
}

/* A layer of one image; `bias`, `residual` NULL: none. */
static numbers by_definition(const mp_layer *l, const float *w, const float *bias, const float *residual, numbers x) {
  int64_t out[2], at = 0;
  mp_out_size(l, out);
  const numbers y = some_numbers(l->out_channels * out[0] * out[1]);
  for (int64_t o = 0; o < l->out_channels; o++)
    for (int64_t row = 0; row < out[0]; row++)
      for (int64_t column = 0; column < out[1]; column++, at++) {
        const double more = (bias ? bias[o] : 0) + (residual ? residual[at] : 0);
        double error = TOLERANCE * (1 + fabs(more));
        y.value[at] = activated(pixel(l, w, x, o, row, column, &error) + more, l->activation);
        y.error[at] = STEEPEST * error;
      }
  return y;
}

#endif
