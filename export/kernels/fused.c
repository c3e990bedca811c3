/* A block's run: bands of output rows, whose expanded channels stay in the cache. For each band a chunk of channels after
   the other is expanded into padded planes and from there, by the depthwise layer, into planes without pads; from those of
   all channels follow the band's rows of the output. A worker takes a band after the other; when none is left it helps with
   the last ones, so a lone worker uses the scratch of one. */
#include "fused.h"

typedef struct {
  const mp_packed_block *packed;
  const float *x, *residual;
  float *y, *scratch;
} call;

/* Rows of an image: the output's, and those of the padded planes, of which `count` from `valid` on are the image's. */
typedef struct {
  const mp_packed_block *packed;
  const float *x;        /* of the image */
  const float *residual; /* of the band, as y */
  float *y, *home;       /* the scratch of the worker that took the band */
  int64_t rows, top, valid, count;
  int64_t opened, chunks, made, items; /* of all workers: whether it can be worked on; chunks taken, and done; tiles taken */
} band;

typedef struct {
  call c;
  int64_t bands, taken;
  band last[MAX_WORKERS];
} queue;

static int64_t take(int64_t *next) { return __atomic_fetch_add(next, 1, __ATOMIC_RELAXED); }

/* What is waited for was taken by a worker that runs. */
static void wait_for(const int64_t *counter, int64_t value) {
  while (__atomic_load_n(counter, __ATOMIC_ACQUIRE) < value) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__) || defined(__arm__)
    __asm__ volatile("yield");
#endif
  }
}

static int64_t tiles_of(const mp_packed *p, int64_t pixels) {
  return divided_up(divided_up(pixels, p->set->lanes), p->set->max_tile[p->quads]);
}

/* Tile `number` of a line of pixels, for a chunk of p's output channels. Fewer pixels than a vector come from `sums`, where
   the line may not be written behind its end; else sums that wait for the next block of channels lie in y. */
static void run_tile(const mp_packed *p, tile *t, int64_t pixels, int64_t number, int64_t chunk, float *sums) {
  const int64_t lanes = p->set->lanes, vectors = divided_up(pixels, lanes), tiles = tiles_of(p, pixels);
  const int64_t from = number * vectors / tiles * lanes, to = least((number + 1) * vectors / tiles * lanes, pixels);
  t->in += from;
  t->y += from;
  if (t->residual) t->residual += from;
  if (t->kept) t->kept += from;
  t->bias = p->bias;
  t->place = to - from >= lanes || !sums ? DIRECT : APART;
  t->partial = t->place == DIRECT ? t->y : sums;
  t->partial_stride = t->place == DIRECT ? t->y_stride : MAX_LANES;
  t->last = most(to - from - lanes, 0);
  t->rows = 1;
  t->pitch = t->width = to - from;
  t->activation = p->layer.activation;
  const tile_kernel kernel = p->set->kernels[p->quads][divided_up(to - from, lanes)];
  for (int64_t block = 0; block < p->blocks; block++) {
    const int64_t part = chunk * p->blocks + block;
    t->first = block == 0;
    t->final = block == p->blocks - 1;
    kernel(t, p->segments + p->segment_starts[part], p->segments + p->segment_starts[part + 1],
           (const char *)p->list + p->list_starts[part]);
  }
}

/* Rows of the image from `first` on, zeros where it has none, at the pitch of padded planes. */
static void copy_rows(const mp_packed_block *p, const float *x, int64_t channels, int64_t first, geometry at, float *to) {
  const int64_t *size = p->at.block.in_size;
  const mp_layer image = {.in_size = {size[0], size[1]}, .stride = {1, 1}, .dilation = {1, 1}, .pad = {-first}};
  at.pitch = p->at.pitch;
  at.phases[0] = at.phases[1] = 1;
  p->set->copy(&image, &at, x, to, channels);
}

static void clear(float *from, int64_t count) {
  for (int64_t i = 0; i < count; i++) from[i] = 0;
}

static void expand(const band *b, int64_t chunk, int64_t channels, float *padded) {
  const fused_shape *s = &b->packed->at;
  const mp_packed *p = b->packed->expand[chunk];
  const int64_t pixels = b->count * s->pitch, begin = s->lead + b->valid * s->pitch;
  const int64_t before = b->valid * s->pitch + s->block.pad[1], behind = (s->in_rows - b->valid) * s->pitch - pixels;
  tile t;
  for (int64_t number = 0; number < tiles_of(p, pixels); number++)
    for (int64_t part = 0; part < p->chunks; part++) {
      t.in = b->home + s->copies;
      t.y = padded + begin;
      t.y_stride = s->padded_plane;
      t.residual = NULL;
      t.kept = b->packed->kept;
      run_tile(p, &t, pixels, number, part, NULL);
    }
  for (int64_t channel = 0; channel < channels; channel++) {
    float *first = padded + channel * s->padded_plane + begin;
    clear(first - before, before);
    clear(first + pixels, behind);
  }
}

static void run_chunk(const band *b, int64_t chunk, float *padded) {
  const fused_shape *s = &b->packed->at;
  const mp_block *l = &s->block;
  const int64_t first = chunk * s->chunk, channels = least(s->chunk, l->channels - first);
  if (l->expands)
    expand(b, chunk, channels, padded);
  else
    copy_rows(b->packed, b->x + first * l->in_size[0] * l->in_size[1], channels, b->top,
              (geometry){.rows = s->in_rows, .plane = s->padded_plane, .lead = s->lead}, padded);
  const depthwise d = {.in = padded + s->lead - l->pad[1],
                       .out = b->home + s->wholes + first * s->whole_plane,
                       .in_plane = s->padded_plane,
                       .out_plane = s->whole_plane,
                       .pitch = s->pitch,
                       .rows = b->rows,
                       .columns = s->out[1],
                       .channels = channels,
                       .taps = b->packed->taps + first * l->kernel * l->kernel,
                       .bias = b->packed->bias + first,
                       .kernel = (int)l->kernel,
                       .stride = (int)l->stride,
                       .activation = l->activation};
  b->packed->set->depthwise(&d);
}

static void project(const band *b, int64_t item) {
  const fused_shape *s = &b->packed->at;
  const mp_packed *p = b->packed->project;
  tile t;
  t.in = b->home + s->wholes;
  t.y = b->y;
  t.y_stride = s->out[0] * s->out[1];
  t.residual = b->residual;
  t.kept = NULL;
  float *sums = b->home + s->sums; /* rows of it are of one item each */
  run_tile(p, &t, b->rows * s->out[1], item / p->chunks, item % p->chunks, sums);
}

static void open_band(const call *c, band *b, int64_t item, float *home) {
  const mp_packed_block *p = c->packed;
  const fused_shape *s = &p->at;
  const mp_block *l = &s->block;
  const int64_t image = item / s->bands, row = item % s->bands * s->out_rows;
  const int64_t start = image * l->out_channels * s->out[0] * s->out[1] + row * s->out[1];
  const int64_t top = row * l->stride - l->pad[0], source = least(most(top, 0), l->in_size[0]);
  b->packed = p;
  b->chunks = b->made = b->items = 0;
  b->x = c->x + image * l->in_channels * l->in_size[0] * l->in_size[1];
  b->residual = c->residual ? c->residual + start : NULL;
  b->y = c->y + start;
  b->home = home;
  b->rows = least(s->out_rows, s->out[0] - row);
  b->top = top;
  b->valid = least(most(source - top, 0), s->in_rows);
  b->count = least(l->in_size[0] - source, s->in_rows - b->valid);
  if (l->expands && b->count)
    copy_rows(p, b->x, l->in_channels, source, (geometry){.rows = b->count, .plane = s->copy_plane}, home + s->copies);
  __atomic_store_n(&b->opened, 1, __ATOMIC_RELEASE);
}

static void work_on(band *b, float *padded) {
  const mp_packed_block *p = b->packed;
  for (int64_t chunk; (chunk = take(&b->chunks)) < p->at.chunks;) {
    run_chunk(b, chunk, padded);
    __atomic_fetch_add(&b->made, 1, __ATOMIC_RELEASE);
  }
  wait_for(&b->made, p->at.chunks);
  const int64_t items = tiles_of(p->project, b->rows * p->at.out[1]) * p->project->chunks;
  for (int64_t item; (item = take(&b->items)) < items;) project(b, item);
}

static void worker(void *argument, size_t index) {
  queue *q = argument;
  float *scratch = q->c.scratch + (int64_t)index * q->c.packed->at.worker;
  const int64_t shared = least(q->bands, MAX_WORKERS), alone = q->bands - shared;
  for (int64_t item; (item = take(&q->taken)) < q->bands;) {
    band mine, *b = item < alone ? &mine : &q->last[item - alone];
    open_band(&q->c, b, item, scratch);
    work_on(b, scratch);
  }
  for (int64_t i = 0; i < shared; i++) {
    wait_for(&q->last[i].opened, 1);
    work_on(&q->last[i], scratch);
  }
}

static int64_t workers(const mp_packed_block *p, int64_t images) {
  return least(least(images, MAX_WORKERS) * p->at.bands * p->at.chunks, MAX_WORKERS);
}

size_t mp_block_scratch_bytes(const mp_packed_block *p, int64_t images) {
  return (size_t)(workers(p, images) * p->at.worker) * sizeof(float);
}

void mp_block_run(const mp_packed_block *p, const float *x, const float *residual, float *y, int64_t images, void *scratch,
                  const mp_threads *threads) {
  queue q;
  q.c = (call){p, x, residual, y, scratch};
  q.bands = images * p->at.bands;
  q.taken = 0;
  for (int i = 0; i < MAX_WORKERS; i++) q.last[i].opened = 0;
  if (threads)
    threads->run(threads->pool, worker, &q, (size_t)workers(p, images));
  else
    worker(&q, 0);
}
