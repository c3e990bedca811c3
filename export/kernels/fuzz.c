/* Fuzz target: a layer, or a block of layers, and its numbers from bytes, in buffers of the exact sizes, through every kernel
   that this CPU runs; what comes out is held against the definition. For libFuzzer, or by itself with -DFUZZ_MAIN:

       fuzz FILE...       runs each file
       fuzz SEED COUNT    runs COUNT inputs of random bytes; input i of SEED is input 0 of SEED + i

   Build with -fsanitize=address,undefined, or thread. A wrong result aborts. */
#include <pthread.h>

#include "fuzz.h"

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

/* As it is drawn, a block of MobileNets. */
static mp_block draw_block(source *s) {
  mp_block b = {.kernel = PICK(s, 3, 3, 5), .stride = PICK(s, 1, 1, 2), .expands = below(s, 3) != 0};
  b.channels = PICK(s, 1, 3, 4, 16, 17, 40, 100, 150);
  b.in_channels = b.expands ? PICK(s, 1, 2, 3, 5, 16, 17, 40) : b.channels;
  b.out_channels = PICK(s, 1, 2, 4, 4, 7, 8, 12, 24, 33);
  for (int i = 0; i < 4; i++) b.pad[i] = PICK(s, 0, 1, 1, 1, 2) % b.kernel;
  for (int d = 0; d < 2; d++) b.in_size[d] = b.kernel + PICK(s, 0, 1, 2, 3, 4, 9, 11, 12, 13, 28, 53);
  b.activation = (mp_activation)below(s, MP_NUM_ACTIVATIONS);
  if (below(s, 6) == 0) { /* one of the numbers is anything */
    int64_t *any = &b.in_channels;
    any[below(s, (int64_t)(offsetof(mp_block, expands) / sizeof(int64_t)))] =
        PICK(s, 0, -1, 1, 2, 6, 1000, 65536, 1 << 24, INT32_MAX, INT32_MIN, INT64_MAX, INT64_MIN);
  }
  return b;
}

/* What runs: layers[0] alone, or all three as `block`; with what, and what has to come out of each image. */
typedef struct {
  mp_layer layers[3];
  const mp_block *block; /* NULL: one layer */
  int count;
  int64_t images, in, out; /* numbers of an image */
  float *w[3], *bias[3], *x, *residual;
  numbers *expected; /* NULL: some numbers are not finite */
} example;

static void fail(const example *e, const char *kernel, const char *what) {
  fprintf(stderr, "%s: %s; %s:", kernel, what, e->block ? "block" : "layer");
  for (int k = 0; k < e->count; k++) {
    const int64_t *n = &e->layers[k].in_channels;
    for (size_t i = 0; i < offsetof(mp_layer, activation) / sizeof *n; i++) fprintf(stderr, " %lld", (long long)n[i]);
    fprintf(stderr, ", activation %d;", (int)e->layers[k].activation);
  }
  fprintf(stderr, "\n");
  abort();
}

static int fits(int64_t *product, const int64_t *factors, int count, int64_t limit) {
  for (int i = 0; i < count; i++) {
    if (factors[i] > limit / *product) return 0;
    *product *= factors[i];
  }
  return 1;
}

/* Whether the layers are small enough to be run; the numbers of their images then are known. */
static int sized(example *e) {
  int64_t products = 0;
  for (int k = 0; k < e->count; k++) {
    const mp_layer *l = &e->layers[k];
    const int64_t row[] = {l->in_channels / l->groups, l->kernel[0], l->kernel[1]};
    int64_t out[2], in = 1, made = 1, weights = 1, here = e->images;
    mp_out_size(l, out);
    if (!fits(&in, (int64_t[]){l->in_channels, l->in_size[0], l->in_size[1]}, 3, MAX_NUMBERS)) return 0;
    if (!fits(&made, (int64_t[]){l->out_channels, out[0], out[1]}, 3, MAX_NUMBERS)) return 0;
    if (!fits(&weights, row, 3, MAX_NUMBERS) || !fits(&weights, &l->out_channels, 1, MAX_NUMBERS)) return 0;
    if (!fits(&here, &made, 1, MAX_PRODUCTS) || !fits(&here, row, 3, MAX_PRODUCTS)) return 0;
    products += here;
    if (k == 0) e->in = in;
    e->out = made;
  }
  return products <= MAX_PRODUCTS;
}

/* Weights and bias of every layer, the images and what is added to them. */
static void draw_all(source *s, example *e) {
  const float wild = below(s, 8) ? 0 : (const float[]){INFINITY, -INFINITY, NAN, 3e38f}[below(s, 4)];
  for (int k = 0; k < e->count; k++) {
    const mp_layer *l = &e->layers[k];
    const int64_t density = PICK(s, 0, 10, 25, 77, 256, PATCHY);
    const int64_t row = l->in_channels / l->groups * l->kernel[0] * l->kernel[1];
    e->w[k] = draw_numbers(s, l->out_channels * row, density, 0);
    e->bias[k] = below(s, 8) ? draw_numbers(s, l->out_channels, 200, 0) : NULL;
  }
  e->x = draw_numbers(s, e->images * e->in, 256, wild);
  e->residual = below(s, 2) ? draw_numbers(s, e->images * e->out, 256, wild) : NULL;
  if (wild != 0) return;
  e->expected = exactly((size_t)e->images * sizeof(numbers));
  for (int64_t n = 0; n < e->images; n++) {
    numbers x = given(e->x + n * e->in, e->in);
    for (int k = 0; k < e->count; k++) {
      const float *residual = e->residual && k == e->count - 1 ? e->residual + n * e->out : NULL;
      const numbers y = by_definition(&e->layers[k], e->w[k], e->bias[k], residual, x);
      free_numbers(x);
      x = y;
    }
    e->expected[n] = x;
  }
}

static void free_all(example *e) {
  for (int64_t n = 0; e->expected && n < e->images; n++) free_numbers(e->expected[n]);
  for (int k = 0; k < e->count; k++) free(e->w[k]), free(e->bias[k]);
  free(e->x), free(e->residual), free(e->expected);
}

/* Tasks from the last to the first, one after the other. */
static void backwards(void *pool, mp_task task, void *argument, size_t count) {
  (void)pool;
  while (count--) task(argument, count);
}

typedef struct {
  mp_task task;
  void *argument;
  size_t count, taken;
} crowd;

static void *take_part(void *argument) {
  crowd *c = argument;
  for (size_t i; (i = __atomic_fetch_add(&c->taken, 1, __ATOMIC_RELAXED)) < c->count;) c->task(c->argument, i);
  return NULL;
}

/* In three threads. */
static void at_once(void *pool, mp_task task, void *argument, size_t count) {
  (void)pool;
  crowd c = {task, argument, count, 0};
  pthread_t others[2];
  for (int i = 0; i < 2; i++)
    if (pthread_create(&others[i], NULL, take_part, &c)) abort();
  take_part(&c);
  for (int i = 0; i < 2; i++) pthread_join(others[i], NULL);
}

static uint64_t layers, blocks, kernels; /* that were run */

/* `packed`: an mp_packed, or of a block an mp_packed_block. */
static void run(const example *e, const void *packed, const char *name) {
  const size_t out = (size_t)(e->images * e->out);
  const mp_threads pools[] = {{backwards, NULL}, {at_once, NULL}};
  float *y[3];
  for (int i = 0; i < 3; i++) {
    const mp_threads *threads = i ? &pools[i - 1] : NULL;
    y[i] = exactly(out * sizeof(float));
    void *scratch = exactly(e->block ? mp_block_scratch_bytes(packed, e->images) : mp_scratch_bytes(packed, e->images));
    if (e->block)
      mp_block_run(packed, e->x, e->residual, y[i], e->images, scratch, threads);
    else
      mp_run(packed, e->x, e->residual, y[i], e->images, scratch, threads);
    free(scratch);
  }
  if (memcmp(y[0], y[1], out * sizeof(float))) fail(e, name, "the order of tasks changes bits");
  if (memcmp(y[0], y[2], out * sizeof(float))) fail(e, name, "threads change bits");
  for (int64_t n = 0; e->expected && n < e->images; n++)
    for (int64_t i = 0; i < e->out; i++)
      if (!(fabs(y[0][n * e->out + i] - e->expected[n].value[i]) <= e->expected[n].error[i]))
        fail(e, name, "a number is wrong");
  for (int i = 0; i < 3; i++) free(y[i]);
  kernels++;
}

static void run_layer(const example *e, int kernel) {
  const mp_layer *l = e->layers;
  const size_t bytes = mp_packed_bytes(l, e->w[0], kernel);
  const char *name = mp_kernel_name(kernel);
  if (!bytes) {
    if (l->out_channels / l->groups % 4 == 0 || !strstr(name, "quads")) fail(e, name, "refuses a checked layer");
    return;
  }
  void *memory = exactly(bytes);
  const mp_packed *packed = mp_pack(l, e->w[0], e->bias[0], kernel, memory);
  if (!packed || mp_multiply_adds(packed) < 0) fail(e, name, "cannot be packed");
  run(e, packed, name);
  free(memory);
}

static void run_block(const example *e, const int kernel[2]) {
  const mp_block_weights w = {{e->w[0], e->w[1], e->w[2]}, {e->bias[0], e->bias[1], e->bias[2]}};
  const mp_block_weights shorter = {{NULL, e->w[0], e->w[1]}, {NULL, e->bias[0], e->bias[1]}};
  const mp_block_weights *given = e->block->expands ? &w : &shorter;
  int chosen[2];
  mp_block_choose(e->block, given, chosen);
  if (!mp_kernel_runs(chosen[0]) || !mp_kernel_runs(chosen[1])) fail(e, "mp_block_choose", "a kernel that this CPU does not run");
  const size_t bytes = mp_block_packed_bytes(e->block, given, kernel ? kernel : chosen);
  if (!bytes && !kernel) fail(e, "mp_block_choose", "refuses a checked block");
  if (!bytes) return; /* quads do not fit all of its layers */
  void *memory = exactly(bytes);
  const mp_packed_block *packed = mp_block_pack(e->block, given, kernel ? kernel : chosen, memory);
  if (!packed || mp_block_multiply_adds(packed) < 0) fail(e, "block", "cannot be packed");
  run(e, packed, mp_kernel_name(kernel ? kernel[1] : chosen[1]));
  free(memory);
}

static void fuzz_layer(source *s, example *e) {
  e->layers[0] = draw_layer(s);
  e->count = 1;
  if (mp_check(e->layers) || !sized(e)) return;
  draw_all(s, e);
  if (!mp_kernel_runs(mp_choose(e->layers, e->w[0]))) fail(e, "mp_choose", "a kernel that this CPU does not run");
  for (int kernel = 0; mp_kernel_name(kernel); kernel++)
    if (mp_kernel_runs(kernel)) run_layer(e, kernel);
  layers++;
}

static void fuzz_block(source *s, example *e) {
  const mp_block b = draw_block(s);
  e->block = &b;
  if (mp_block_check(&b)) return;
  int64_t out[2];
  mp_block_out_size(&b, out);
  const mp_layer plain = {.groups = 1, .kernel = {1, 1}, .stride = {1, 1}, .dilation = {1, 1}};
  mp_layer expand = plain, project = plain, *next = e->layers;
  expand.in_channels = b.in_channels, expand.out_channels = b.channels, expand.activation = b.activation;
  project.in_channels = b.channels, project.out_channels = b.out_channels;
  mp_layer depthwise = {.in_channels = b.channels, .out_channels = b.channels, .groups = b.channels, .activation = b.activation};
  for (int d = 0; d < 2; d++) {
    expand.in_size[d] = depthwise.in_size[d] = b.in_size[d];
    depthwise.kernel[d] = b.kernel, depthwise.stride[d] = b.stride, depthwise.dilation[d] = 1;
    project.in_size[d] = out[d];
  }
  memcpy(depthwise.pad, b.pad, sizeof b.pad);
  if (b.expands) *next++ = expand;
  *next++ = depthwise, *next++ = project;
  e->count = (int)(next - e->layers);
  if (!sized(e)) return;
  draw_all(s, e);
  run_block(e, NULL);
  for (int kernel = 0; mp_kernel_name(kernel); kernel++)
    if (mp_kernel_runs(kernel)) run_block(e, (const int[]){kernel, kernel});
  blocks++;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
  source s = {bytes, bytes + size, 0x9E3779B97F4A7C15u};
  example e = {.images = 1 + below(&s, 3)};
  (below(&s, 4) ? fuzz_layer : fuzz_block)(&s, &e);
  free_all(&e);
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
  printf("layers %llu blocks %llu kernels %llu\n", (unsigned long long)layers, (unsigned long long)blocks,
         (unsigned long long)kernels);
  return 0;
}
#endif
