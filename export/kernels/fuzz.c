/* Fuzz target: a layer and its numbers from bytes, in buffers of the exact sizes, through every kernel that this CPU
   runs; what comes out is held against the definition. For libFuzzer, or by itself with -DFUZZ_MAIN:

       fuzz FILE...       runs each file
       fuzz SEED COUNT    runs COUNT inputs of random bytes; input i of SEED is input 0 of SEED + i

   Build with -fsanitize=address,undefined. A wrong result aborts. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mobileprune_kernels.h"

#define MAX_NUMBERS (1 << 16) /* of an input, an output or the weights; larger layers are only checked */
#define MAX_PRODUCTS (1 << 19)
#define PATCHY 1000
#define TOLERANCE 1e-5 /* of the sum of all products' sizes */

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

/* A layer that is valid, for the most part. */
static mp_layer draw_layer(source *s) {
  mp_layer l = {.groups = PICK(s, 1, 1, 1, 1, 2, 3)};
  l.in_channels = l.groups * PICK(s, 1, 2, 3, 5, 16, 17, 40, 150, 400);
  l.out_channels = l.groups * PICK(s, 1, 2, 4, 4, 7, 8, 12, 64, 132, 260);
  if (below(s, 8) == 0) l.groups = l.in_channels, l.out_channels = l.in_channels * PICK(s, 1, 2, 4);
  for (int i = 0; i < 4; i++) l.pad[i] = PICK(s, 0, 0, 1, 1, 2, 5);
  for (int d = 0; d < 2; d++) {
    l.kernel[d] = PICK(s, 1, 1, 1, 2, 3, 3, 5, 7);
    l.stride[d] = PICK(s, 1, 1, 1, 2, 2, 3, 5);
    l.dilation[d] = PICK(s, 1, 1, 1, 2, 3);
    const int64_t least = (l.kernel[d] - 1) * l.dilation[d] + 1 - l.pad[d] - l.pad[d + 2];
    l.in_size[d] = (least < 1 ? 1 : least) + PICK(s, 0, 0, 1, 2, 3, 6, 7, 13, 14, 15, 16, 17, 31, 32, 60);
  }
  if (below(s, 8) == 0) l.in_size[1] += 300;
  l.activation = (mp_activation)below(s, MP_NUM_ACTIVATIONS);
  if (below(s, 6) == 0) { /* one of the numbers is anything */
    int64_t *numbers = &l.in_channels;
    const int64_t any = PICK(s, 0, -1, 1, 2, 4, 1000, 65536, 65537, 1 << 24, INT32_MAX, INT32_MIN, INT64_MAX,
                             INT64_MIN);
    numbers[below(s, (int64_t)(offsetof(mp_layer, activation) / sizeof(int64_t)))] = any;
  }
  return l;
}

static void *exactly(size_t bytes) {
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

/* Output pixel (row, column) of channel o by the definition; `size`: the sum of the products' sizes. */
static double defined(const mp_layer *l, const float *w, const float *x, int64_t o, int64_t row, int64_t column,
                      double *size) {
  const int64_t channels = l->in_channels / l->groups, group = o / (l->out_channels / l->groups);
  double sum = 0;
  for (int64_t i = 0; i < channels; i++)
    for (int64_t kr = 0; kr < l->kernel[0]; kr++)
      for (int64_t kc = 0; kc < l->kernel[1]; kc++) {
        const double weight = w[((o * channels + i) * l->kernel[0] + kr) * l->kernel[1] + kc];
        const int64_t r = row * l->stride[0] + kr * l->dilation[0] - l->pad[0];
        const int64_t c = column * l->stride[1] + kc * l->dilation[1] - l->pad[1];
        if (weight == 0 || r < 0 || r >= l->in_size[0] || c < 0 || c >= l->in_size[1]) continue;
        const double product = weight * x[((group * channels + i) * l->in_size[0] + r) * l->in_size[1] + c];
        sum += product;
        *size += fabs(product);
      }
  return sum;
}

static void fail(const mp_layer *l, const char *kernel, const char *what) {
  const int64_t *n = &l->in_channels;
  fprintf(stderr, "%s: %s; layer:", kernel, what);
  for (size_t i = 0; i < offsetof(mp_layer, activation) / sizeof *n; i++) fprintf(stderr, " %lld", (long long)n[i]);
  fprintf(stderr, ", activation %d\n", (int)l->activation);
  abort();
}

static void backwards(void *pool, mp_task task, void *argument, size_t count) {
  (void)pool;
  while (count--) task(argument, count);
}

typedef struct {
  mp_layer layer;
  int64_t images, in, out; /* numbers of an image */
  float *w, *bias, *x, *residual;
  double *expected, *error; /* NULL: some numbers are not finite */
} example;

static void expect(example *e, const int64_t out[2]) {
  const mp_layer *l = &e->layer;
  const size_t bytes = (size_t)(e->images * e->out) * sizeof(double);
  double *expected = e->expected = exactly(bytes), *error = e->error = exactly(bytes);
  for (int64_t n = 0, at = 0; n < e->images; n++)
    for (int64_t o = 0; o < l->out_channels; o++)
      for (int64_t row = 0; row < out[0]; row++)
        for (int64_t column = 0; column < out[1]; column++, at++) {
          const double more = (e->bias ? e->bias[o] : 0) + (e->residual ? e->residual[at] : 0);
          error[at] = 1 + fabs(more);
          const double sum = defined(l, e->w, e->x + n * e->in, o, row, column, error + at);
          expected[at] = activated(sum + more, l->activation);
          error[at] *= TOLERANCE;
        }
}

static uint64_t layers, kernels; /* that were run */

static void run(const example *e, int kernel) {
  const mp_layer *l = &e->layer;
  const size_t bytes = mp_packed_bytes(l, e->w, kernel), out = (size_t)(e->images * e->out);
  const char *name = mp_kernel_name(kernel);
  if (!bytes) {
    if (l->out_channels / l->groups % 4 == 0 || !strstr(name, "quads")) fail(l, name, "refuses a checked layer");
    return;
  }
  void *memory = exactly(bytes);
  const mp_packed *packed = mp_pack(l, e->w, e->bias, kernel, memory);
  if (!packed || mp_multiply_adds(packed) < 0) fail(l, name, "cannot be packed");
  float *y[2] = {exactly(out * sizeof(float)), exactly(out * sizeof(float))};
  for (int i = 0; i < 2; i++) {
    void *scratch = exactly(mp_scratch_bytes(packed, e->images));
    mp_run(packed, e->x, e->residual, y[i], e->images, scratch, i ? &(mp_threads){backwards, NULL} : NULL);
    free(scratch);
  }
  if (memcmp(y[0], y[1], out * sizeof(float))) fail(l, name, "the order of tasks changes bits");
  for (size_t i = 0; e->expected && i < out; i++)
    if (!(fabs(y[0][i] - e->expected[i]) <= e->error[i])) fail(l, name, "a number is wrong");
  free(y[0]), free(y[1]), free(memory);
  kernels++;
}

static int fits(int64_t *product, const int64_t *factors, int count, int64_t limit) {
  for (int i = 0; i < count; i++) {
    if (factors[i] > limit / *product) return 0;
    *product *= factors[i];
  }
  return 1;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
  source s = {bytes, bytes + size, 0x9E3779B97F4A7C15u};
  example e = {.layer = draw_layer(&s), .images = 1 + below(&s, 3)};
  const mp_layer *l = &e.layer;
  if (mp_check(l)) return 0;
  int64_t out[2], weights = 1, products = e.images;
  mp_out_size(l, out);
  const int64_t row[] = {l->in_channels / l->groups, l->kernel[0], l->kernel[1]};
  e.in = e.out = 1;
  if (!fits(&e.in, (int64_t[]){l->in_channels, l->in_size[0], l->in_size[1]}, 3, MAX_NUMBERS)) return 0;
  if (!fits(&e.out, (int64_t[]){l->out_channels, out[0], out[1]}, 3, MAX_NUMBERS)) return 0;
  if (!fits(&weights, row, 3, MAX_NUMBERS) || !fits(&weights, &l->out_channels, 1, MAX_NUMBERS)) return 0;
  if (!fits(&products, &e.out, 1, MAX_PRODUCTS) || !fits(&products, row, 3, MAX_PRODUCTS)) return 0;
  const int64_t density = PICK(&s, 0, 10, 25, 77, 256, PATCHY);
  const float wild = below(&s, 8) ? 0 : (const float[]){INFINITY, -INFINITY, NAN, 3e38f}[below(&s, 4)];
  e.w = draw_numbers(&s, weights, density, 0);
  e.bias = below(&s, 8) ? draw_numbers(&s, l->out_channels, 200, 0) : NULL;
  e.x = draw_numbers(&s, e.images * e.in, 256, wild);
  e.residual = below(&s, 2) ? draw_numbers(&s, e.images * e.out, 256, wild) : NULL;
  if (wild == 0) expect(&e, out);
  if (!mp_kernel_runs(mp_choose(l, e.w))) fail(l, "mp_choose", "a kernel that this CPU does not run");
  for (int kernel = 0; mp_kernel_name(kernel); kernel++)
    if (mp_kernel_runs(kernel)) run(&e, kernel);
  layers++;
  free(e.w), free(e.bias), free(e.x), free(e.residual), free(e.expected), free(e.error);
  return 0;
}

#ifdef FUZZ_MAIN
static void run_file(const char *path) {
  static uint8_t bytes[1 << 20];
  FILE *file = fopen(path, "rb");
  if (!file) exit((perror(path), 2));
  const size_t size = fread(bytes, 1, sizeof bytes, file);
  fclose(file);
  LLVMFuzzerTestOneInput(bytes, size);
}

static void run_seed(uint64_t seed) {
  source s = {.state = (seed + 1) * 0x9E3779B97F4A7C15u};
  uint8_t bytes[256];
  for (size_t i = 0; i < sizeof bytes; i++) bytes[i] = byte(&s);
  LLVMFuzzerTestOneInput(bytes, sizeof bytes);
}

int main(int argc, char **argv) {
  char *end = NULL;
  const uint64_t seed = argc == 3 ? strtoull(argv[1], &end, 10) : 0;
  if (end && !*end)
    for (uint64_t i = 0, count = strtoull(argv[2], NULL, 10); i < count; i++) run_seed(seed + i);
  else
    for (int i = 1; i < argc; i++) run_file(argv[i]);
  printf("layers %llu kernels %llu\n", (unsigned long long)layers, (unsigned long long)kernels);
  return 0;
}
#endif
