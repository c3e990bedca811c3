/* Which kernel suits a layer, and its nonzeros in the order in which that kernel meets them:
   chunk of output channels -> block of input channels -> unit, those with the most nonzeros first -> nonzero. */
#include "internal.h"

static const instruction_set *const sets[] = {
    &mp_portable,
#ifdef MP_X86
    &mp_avx2,
    &mp_avx512,
#endif
};
enum { NUM_SETS = sizeof sets / sizeof *sets, KINDS = 2 };
static const char *const kinds[KINDS] = {"unstructured", "quads"};

/* Chosen by benchmarks/kernels.py; every choice is made from the layer alone, so that sums have one order. */
enum {
  SLAB_BYTES = 24 * 1024, /* of input that a block of channels reads for a tile: it should stay in the L1 cache */
  MIN_COUNT = 12,         /* nonzeros of a unit in a block, on average: fewer do not pay for its sums' way to memory */
};

const char *mp_kernel_name(int kernel) {
  static char names[NUM_SETS * KINDS][32];
  if (kernel < 0 || kernel >= NUM_SETS * KINDS) return NULL;
  char *to = names[kernel]; /* every call writes the same bytes */
  for (const char *from = sets[kernel / KINDS]->name; *from;) *to++ = *from++;
  *to++ = '-';
  for (const char *from = kinds[kernel % KINDS]; *from;) *to++ = *from++;
  return names[kernel];
}

int mp_kernel_runs(int kernel) {
  if (kernel < 0 || kernel >= NUM_SETS * KINDS) return 0;
#ifdef MP_X86
  if (sets[kernel / KINDS] == &mp_avx2) return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (sets[kernel / KINDS] == &mp_avx512) return !!__builtin_cpu_supports("avx512f");
#endif
  return 1;
}

static int64_t row_length(const mp_layer *l) { return l->in_channels / l->groups * l->kernel[0] * l->kernel[1]; }

/* Whether an element of the kernel meets the image for any pixel of the output: on small maps some meet only padding. */
static int meets_image(const mp_layer *l, int64_t element) {
  const int64_t at[] = {element / l->kernel[1], element % l->kernel[1]};
  int64_t out[2];
  mp_out_size(l, out);
  for (int d = 0; d < 2; d++) {
    const int64_t start = at[d] * l->dilation[d] - l->pad[d]; /* the row or column that it meets first */
    const int64_t first = start < 0 ? divided_up(-start, l->stride[d]) : 0;
    if (first >= out[d] || start + first * l->stride[d] >= l->in_size[d]) return 0;
  }
  return 1;
}

/* The nonzeros of `rows` neighbouring output channels from `row` on: places where one of them is not zero, and counts. */
static int filled(const mp_layer *l, const float *weights, int rows, int64_t row, int64_t place) {
  const int padded = l->pad[0] || l->pad[1] || l->pad[2] || l->pad[3];
  for (int r = 0; r < rows; r++)
    if (weights[(row + r) * row_length(l) + place] != 0)
      return !padded || meets_image(l, place % (l->kernel[0] * l->kernel[1]));
  return 0;
}

static int64_t count_filled(const mp_layer *l, const float *weights, int rows) {
  int64_t n = 0;
  for (int64_t row = 0; row < l->out_channels; row += rows)
    for (int64_t place = 0; place < row_length(l); place++) n += filled(l, weights, rows, row, place);
  return n;
}

static int fits_quads(const mp_layer *l) { return l->out_channels / l->groups % QUAD == 0; }

int mp_choose(const mp_layer *l, const float *weights) {
  int set = NUM_SETS - 1;
  while (set > 0 && !mp_kernel_runs(set * KINDS)) set--;
  /* A quad costs about three nonzeros: its loads serve four rows. */
  const int quads = fits_quads(l) && 3 * count_filled(l, weights, QUAD) <= count_filled(l, weights, 1);
  return set * KINDS + quads;
}

/* Tiles are parts of a row, or some rows: how many, and the vectors of an image. */
typedef struct {
  int64_t tiles_per_row, rows_per_tile, floats, vectors;
} tiling;

static tiling tiled(const geometry *at, int64_t lanes, int64_t max_vectors) {
  tiling t = {.tiles_per_row = divided_up(divided_up(at->out[1], lanes), max_vectors)};
  const int64_t fitting = least(most(max_vectors * lanes - at->out[1], 0) / at->pitch + 1, at->out[0]);
  const int64_t tiles = divided_up(at->out[0], fitting);
  t.rows_per_tile = divided_up(at->out[0], tiles); /* even, as far as it goes */
  t.floats = least((t.rows_per_tile - 1) * at->pitch + at->out[1], max_vectors * lanes);
  const int64_t whole = at->out[0] / t.rows_per_tile, rest = at->out[0] % t.rows_per_tile;
  t.vectors = whole * divided_up((t.rows_per_tile - 1) * at->pitch + at->out[1], lanes);
  if (rest) t.vectors += divided_up((rest - 1) * at->pitch + at->out[1], lanes);
  return t;
}

typedef struct {
  const float *weights;
  mp_layer layer; /* flat */
  geometry at;
  const instruction_set *set;
  int rows;
  tiling tiles;
  int64_t block_channels, blocks, chunk_units, chunks, units, filled;
  size_t bias, segment_starts, list_starts, segments, list, bytes; /* where the parts lie */
} plan;

static size_t aligned(size_t bytes) { return (bytes + 63) / 64 * 64; }

static int64_t first_channel(const plan *p, int64_t row) {
  return row / (p->layer.out_channels / p->layer.groups) * (p->layer.in_channels / p->layer.groups);
}

/* Cycles, in hundredths, of a vector that a nonzero or a quad multiplies, more for one that lies in two cache lines, of a
   vector of sums that wait for another block of channels, and of one that is copied. */
enum { ROW_COST = 92, QUAD_COST = 220, CROSSING_COST = 34, PARTIAL_COST = 150, COPY_COST = 680 };

/* Input channels that a block has, about. */
static int64_t block_channels(const plan *p, const geometry *at, const tiling *tiles) {
  const mp_layer *l = &p->layer;
  const int64_t below = (l->kernel[0] - 1) * l->dilation[0] / l->stride[0] * at->pitch;
  const int64_t slab = 4 * at->phases[0] * at->phases[1] * least(tiles->floats + below, at->plane);
  if (l->groups > 1 || slab * l->in_channels <= SLAB_BYTES) return l->in_channels;
  const int64_t enough = divided_up(MIN_COUNT * p->units * l->in_channels, most(p->filled, 1));
  return least(most(most(SLAB_BYTES / slab, enough), 1), l->in_channels);
}

/* Elements of the kernel whose vectors do not start where cache lines do. */
static int64_t crossings(const mp_layer *l, const geometry *at, int64_t lanes) {
  int64_t n = 0;
  for (int64_t row = 0; row < l->kernel[0]; row++)
    for (int64_t column = 0; column < l->kernel[1]; column++)
      n += at->pitch * 2 % lanes || at->plane % lanes || mp_offset(l, at, row, column) % lanes;
  return n;
}

/* What a layout costs for one image, about. A vector that may start anywhere lies in two cache lines the more often, the
   longer it is. */
static int64_t cost(const plan *p, const geometry *at, const tiling *tiles) {
  const mp_layer *l = &p->layer;
  const int64_t lanes = p->set->lanes;
  const int64_t crossing = CROSSING_COST * lanes * crossings(l, at, lanes) / (MAX_LANES * l->kernel[0] * l->kernel[1]);
  const int64_t each = (p->rows == QUAD ? QUAD_COST : ROW_COST) + crossing;
  const int64_t partials = (divided_up(l->in_channels, block_channels(p, at, tiles)) - 1) * l->out_channels;
  return tiles->vectors * (p->filled * each + partials * PARTIAL_COST) +
         (at->copied ? COPY_COST * l->in_channels * channel_floats(at) / lanes : 0);
}

/* The cheapest layout; nothing is copied for the sake of alignment alone. */
static void plan_layout(plan *p, int64_t max_vectors) {
  int64_t best = INT64_MAX;
  for (layout kind = TIGHT; kind < NUM_LAYOUTS; kind++) {
    const geometry at = mp_geometry(&p->layer, p->set->lanes, kind);
    const tiling tiles = tiled(&at, p->set->lanes, max_vectors);
    const int64_t needed = cost(p, &at, &tiles);
    if (needed > best) continue;
    best = needed;
    p->at = at;
    p->tiles = tiles;
    if (!at.copied || at.same) break;
  }
}

static void plan_order(plan *p, int kernel) {
  const mp_layer *l = &p->layer;
  p->set = sets[kernel / KINDS];
  p->rows = kernel % KINDS ? QUAD : 1;
  p->units = l->out_channels / p->rows;
  p->filled = count_filled(l, p->weights, p->rows);
  plan_layout(p, p->set->max_tile[kernel % KINDS]);
  p->block_channels = block_channels(p, &p->at, &p->tiles);
  p->blocks = divided_up(l->in_channels, p->block_channels);
  p->block_channels = divided_up(l->in_channels, p->blocks);
  p->blocks = divided_up(l->in_channels, p->block_channels);
  p->chunks = divided_up(p->units * p->rows, CHUNK_ROWS);
  p->chunk_units = divided_up(p->units, p->chunks);
  p->chunks = divided_up(p->units, p->chunk_units);
}

/* Every unit has a segment in the first block, which starts its sums, and in the last, which ends them; in between only
   those with nonzeros. */
static int64_t count_segment(const plan *p, int64_t unit, int64_t block) {
  const mp_layer *l = &p->layer;
  const int64_t area = l->kernel[0] * l->kernel[1], base = first_channel(p, unit * p->rows);
  const int64_t from = most(block * p->block_channels - base, 0) * area;
  const int64_t to = least((block + 1) * p->block_channels - base, l->in_channels / l->groups) * area;
  int64_t n = 0;
  for (int64_t place = from; place < to; place++) n += filled(l, p->weights, p->rows, unit * p->rows, place);
  return n;
}

static int has_segment(const plan *p, int64_t block, int64_t count) {
  return count || block == 0 || block == p->blocks - 1;
}

static int plan_layer(plan *p, const mp_layer *layer, const float *weights, int kernel) {
  p->layer = mp_flat(layer);
  p->weights = weights;
  if (!mp_kernel_name(kernel) || (kernel % KINDS && !fits_quads(layer))) return 0;
  plan_order(p, kernel);
  if (layer->in_channels > (INT32_MAX - SLACK) / channel_floats(&p->at)) return 0;
  int64_t segments = 0;
  for (int64_t unit = 0; unit < p->units; unit++)
    for (int64_t block = 0; block < p->blocks; block++)
      segments += has_segment(p, block, count_segment(p, unit, block));
  const size_t starts = (size_t)(p->chunks * p->blocks + 1) * sizeof(int64_t);
  p->bias = aligned(sizeof(mp_packed));
  p->segment_starts = p->bias + aligned((size_t)layer->out_channels * sizeof(float));
  p->list_starts = p->segment_starts + aligned(starts);
  p->segments = p->list_starts + aligned(starts);
  p->list = p->segments + aligned((size_t)segments * sizeof(segment));
  p->bytes = p->list + aligned((size_t)p->filled * (p->rows == QUAD ? sizeof(quad) : sizeof(nonzero)));
  return 1;
}

size_t mp_packed_bytes(const mp_layer *layer, const float *weights, int kernel) {
  plan p;
  return plan_layer(&p, layer, weights, kernel) ? p.bytes : 0;
}

static char *pack_segment(const plan *p, const segment *s, int64_t block, char *list) {
  const mp_layer *l = &p->layer;
  const int64_t area = l->kernel[0] * l->kernel[1], row = s->unit * (int64_t)p->rows, base = first_channel(p, row);
  const int64_t from = most(block * p->block_channels - base, 0) * area;
  const int64_t to = least((block + 1) * p->block_channels - base, l->in_channels / l->groups) * area;
  for (int64_t place = from; place < to; place++) {
    if (!filled(l, p->weights, p->rows, row, place)) continue;
    const float *weight = p->weights + row * row_length(l) + place;
    const int64_t inside = place % area, channel = base + place / area;
    const int32_t offset = (int32_t)(channel * channel_floats(&p->at) +
                                     mp_offset(l, &p->at, inside / l->kernel[1], inside % l->kernel[1]));
    if (p->rows == QUAD) {
      quad *z = (quad *)list;
      for (int r = 0; r < QUAD; r++) z->weight[r] = weight[r * row_length(l)];
      z->offset = offset;
      list += sizeof(quad);
    } else {
      *(nonzero *)list = (nonzero){*weight, offset};
      list += sizeof(nonzero);
    }
  }
  return list;
}

/* Loops of equal length follow each other, so that their ends are foreseen. Insertion sort: stable, and short lists. */
static void sort(segment *s, int64_t count) {
  for (int64_t i = 1; i < count; i++) {
    const segment moved = s[i];
    int64_t at = i;
    for (; at > 0 && s[at - 1].count < moved.count; at--) s[at] = s[at - 1];
    s[at] = moved;
  }
}

const mp_packed *mp_pack(const mp_layer *layer, const float *weights, const float *bias, int kernel, void *memory) {
  plan p;
  if (!plan_layer(&p, layer, weights, kernel)) return NULL;
  char *bytes = memory;
  mp_packed *packed = memory;
  float *biases = (float *)(bytes + p.bias);
  int64_t *segment_starts = (int64_t *)(bytes + p.segment_starts), *list_starts = (int64_t *)(bytes + p.list_starts);
  segment *segments = (segment *)(bytes + p.segments);
  char *list = bytes + p.list;
  for (int64_t o = 0; o < layer->out_channels; o++) biases[o] = bias ? bias[o] : 0;
  int64_t n = 0, part = 0;
  for (int64_t chunk = 0; chunk < p.chunks; chunk++)
    for (int64_t block = 0; block < p.blocks; block++, part++) {
      segment_starts[part] = n;
      list_starts[part] = list - (bytes + p.list);
      const int64_t end = least((chunk + 1) * p.chunk_units, p.units);
      for (int64_t unit = chunk * p.chunk_units; unit < end; unit++) {
        const int64_t count = count_segment(&p, unit, block);
        if (has_segment(&p, block, count)) segments[n++] = (segment){(int32_t)unit, (int32_t)count};
      }
      sort(segments + segment_starts[part], n - segment_starts[part]);
      for (int64_t i = segment_starts[part]; i < n; i++) list = pack_segment(&p, segments + i, block, list);
    }
  segment_starts[part] = n;
  list_starts[part] = list - (bytes + p.list);
  *packed = (mp_packed){.layer = p.layer,
                        .at = p.at,
                        .set = p.set,
                        .quads = p.rows == QUAD,
                        .tiles_per_row = p.tiles.tiles_per_row,
                        .rows_per_tile = p.tiles.rows_per_tile,
                        .chunks = p.chunks,
                        .blocks = p.blocks,
                        .chunk_units = p.chunk_units,
                        .stored = p.filled * p.rows,
                        .bias = biases,
                        .segment_starts = segment_starts,
                        .list_starts = list_starts,
                        .segments = segments,
                        .list = bytes + p.list};
  return packed;
}
