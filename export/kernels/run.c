/* A layer's run: copies of the input where it is padded or strided, then tiles of pixels, each for a chunk of output
   channels. Images go through in groups whose copies take a few MiB at most. */
#include "internal.h"

#define GROUP_BYTES ((int64_t)4 << 20)
#define COPY_CHANNELS 16 /* of a task */

typedef struct {
  const mp_packed *packed;
  const float *x, *residual;
  float *y, *copies;
  int64_t images, tiles;
} call;

static int64_t image_floats(const mp_packed *p) { return p->layer.in_channels * p->layer.in_size[0] * p->layer.in_size[1]; }
static int64_t plane_floats(const mp_packed *p) { return p->at.out[0] * p->at.out[1]; }

static int64_t copy_floats(const mp_packed *p) {
  return p->at.copied ? p->layer.in_channels * channel_floats(&p->at) : 0;
}

static int64_t group_images(const mp_packed *p, int64_t images) {
  return most(least(images, GROUP_BYTES / (4 * copy_floats(p) + 1)), 1);
}

size_t mp_scratch_bytes(const mp_packed *p, int64_t images) {
  return (size_t)(group_images(p, images) * copy_floats(p) + SLACK) * sizeof(float);
}

static void copy_channels(void *argument, size_t index) {
  const call *c = argument;
  const mp_packed *p = c->packed;
  const int64_t from = (int64_t)index * COPY_CHANNELS, to = least(from + COPY_CHANNELS, p->layer.in_channels * c->images);
  const float *x = c->x + from * p->layer.in_size[0] * p->layer.in_size[1];
  p->set->copy(&p->layer, &p->at, x, c->copies + from * channel_floats(&p->at), to - from);
}

/* Tile `number` of an image: where it starts in a plane of the input and of the output. */
typedef struct {
  int64_t in, out, vectors;
} start;

static start place(tile *t, const mp_packed *p, int64_t number) {
  const int64_t width = p->at.out[1], pitch = p->at.pitch, per_row = p->tiles_per_row, lanes = p->set->lanes;
  const int64_t across = number % per_row, vectors = divided_up(width, lanes);
  const int64_t row = number / per_row * p->rows_per_tile, rows = least(p->rows_per_tile, p->at.out[0] - row);
  const int64_t from = across * vectors / per_row * lanes;
  const int64_t to = per_row == 1 ? width : least((across + 1) * vectors / per_row * lanes, width);
  const int64_t count = (rows - 1) * pitch + to - from;
  const start s = {row * pitch + from, row * width + from, divided_up(count, lanes)};
  t->rows = rows;
  t->pitch = pitch;
  t->width = to - from;
  const int wide = pitch % lanes == 0 && pitch <= 2 * width; /* what a row has too much fits into the next */
  t->place = (rows == 1 || pitch == width) && count >= lanes ? DIRECT : wide ? PLACED : APART;
  t->tail = (int)(t->width < lanes ? t->width : 0);
  /* Where nobody has what lies behind the tile's pixels, neither sums nor the caller, its last vector need not overlap. */
  const int free = t->place == PLACED ? t->tail : t->place == APART && p->at.copied && row + rows == p->at.out[0];
  t->last = free ? (s.vectors - 1) * lanes : most(count - lanes, 0);
  for (int64_t i = 0; t->place == PLACED && i < s.vectors; i++) {
    const int64_t at = i == s.vectors - 1 ? t->last : i * lanes;
    t->to[i] = (int32_t)(at / pitch * width + at % pitch);
  }
  return s;
}

/* Tile `number` of an image for a chunk; `in`: the image's planes. */
static void run_tile(const call *c, int64_t image, int64_t chunk, int64_t number, const float *in) {
  const mp_packed *p = c->packed;
  tile t;
  const start s = place(&t, p, number);
  t.in = in + s.in;
  t.bias = p->bias;
  t.kept = NULL;
  /* Sums that wait for the next block of channels: 100 kB of the thread's stack at most, which stay in its cache. */
  float sums[CHUNK_ROWS * (MAX_TILE + 1) * MAX_LANES] __attribute__((aligned(64)));
  t.partial_stride = s.vectors * p->set->lanes + MAX_LANES; /* a tile of less than a vector still stores one */
  t.partial = sums - chunk * p->chunk_units * (p->quads ? QUAD : 1) * t.partial_stride;
  t.y_stride = plane_floats(p);
  t.activation = p->layer.activation;
  const int64_t first = image * p->layer.out_channels * plane_floats(p) + s.out;
  t.y = c->y + first;
  t.residual = c->residual ? c->residual + first : NULL;
  const tile_kernel kernel = p->set->kernels[p->quads][s.vectors];
  for (int64_t block = 0; block < p->blocks; block++) {
    const int64_t part = chunk * p->blocks + block;
    t.first = block == 0;
    t.final = block == p->blocks - 1;
    kernel(&t, p->segments + p->segment_starts[part], p->segments + p->segment_starts[part + 1],
           (const char *)p->list + p->list_starts[part]);
  }
}

static void run_task(void *argument, size_t index) {
  const call *c = argument;
  const mp_packed *p = c->packed;
  const int64_t chunk = (int64_t)index % p->chunks, number = (int64_t)index / p->chunks % c->tiles;
  const int64_t image = (int64_t)index / p->chunks / c->tiles;
  const float *in = p->at.copied ? c->copies + image * copy_floats(p) : c->x + image * image_floats(p);
  run_tile(c, image, chunk, number, in);
}

static void each(const mp_threads *threads, mp_task task, call *c, int64_t count) {
  if (threads && count > 1)
    threads->run(threads->pool, task, c, (size_t)count);
  else
    for (int64_t i = 0; i < count; i++) task(c, (size_t)i);
}

void mp_run(const mp_packed *p, const float *x, const float *residual, float *y, int64_t images, void *scratch,
            const mp_threads *threads) {
  const int64_t group = group_images(p, images);
  call c = {.packed = p, .copies = scratch};
  c.tiles = divided_up(p->at.out[0], p->rows_per_tile) * p->tiles_per_row;
  for (int64_t done = 0; done < images; done += c.images) {
    c.images = least(group, images - done);
    c.x = x + done * image_floats(p);
    c.y = y + done * p->layer.out_channels * plane_floats(p);
    c.residual = residual ? residual + done * p->layer.out_channels * plane_floats(p) : NULL;
    if (p->at.copied) each(threads, copy_channels, &c, divided_up(p->layer.in_channels * c.images, COPY_CHANNELS));
    each(threads, run_task, &c, c.images * c.tiles * p->chunks);
  }
}

int64_t mp_multiply_adds(const mp_packed *p) { return p->stored * plane_floats(p); }
