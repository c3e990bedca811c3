/* What a block may be, how it is cut into bands and chunks, and its packed form. */
#include "fused.h"

#define ROUNDED(n) (divided_up(n, MAX_LANES) * MAX_LANES)
#define MAX_SCRATCH ((int64_t)1 << 26) /* floats of a worker */

/* Chosen by measurement, for caches of 32 KiB and 512 KiB; from the block alone, so that sums have one order. */
enum {
  CHUNK_FLOATS = 32 * 1024, /* of padded planes */
  BAND_FLOATS = 64 * 1024,  /* of the depthwise layer's output, for all channels */
  MIN_CHUNK = 16,
  MAX_CHUNK = 96,
};

static mp_layer pointwise(int64_t in_channels, int64_t out_channels, int64_t pixels, mp_activation activation) {
  return (mp_layer){.in_channels = in_channels,
                    .out_channels = out_channels,
                    .groups = 1,
                    .in_size = {1, pixels},
                    .kernel = {1, 1},
                    .stride = {1, 1},
                    .dilation = {1, 1},
                    .activation = activation};
}

static mp_layer depthwise_layer(const mp_block *b) {
  return (mp_layer){.in_channels = b->channels,
                    .out_channels = b->channels,
                    .groups = b->channels,
                    .in_size = {b->in_size[0], b->in_size[1]},
                    .kernel = {b->kernel, b->kernel},
                    .stride = {b->stride, b->stride},
                    .dilation = {1, 1},
                    .pad = {b->pad[0], b->pad[1], b->pad[2], b->pad[3]},
                    .activation = b->activation};
}

void mp_block_out_size(const mp_block *b, int64_t out[2]) {
  const mp_layer layer = depthwise_layer(b);
  mp_out_size(&layer, out);
}

static int64_t plane(int64_t floats) {
  const int64_t rounded = ROUNDED(floats);
  return rounded % 1024 ? rounded : rounded + MAX_LANES; /* channels 4 KiB apart would share cache sets */
}

static fused_shape shaped(const mp_block *b) {
  fused_shape s = {.block = *b, .pitch = b->in_size[1] + most(b->pad[1], b->pad[3]), .lead = ROUNDED(b->pad[1])};
  mp_block_out_size(b, s.out);
  const int64_t rows = CHUNK_FLOATS / (least(b->channels, MIN_CHUNK) * s.pitch); /* of padded planes */
  s.out_rows = least(BAND_FLOATS / (b->channels * s.out[1]), (rows - b->kernel) / b->stride + 1);
  s.bands = divided_up(s.out[0], most(least(s.out_rows, s.out[0]), 1));
  s.out_rows = divided_up(s.out[0], s.bands); /* even, as far as it goes */
  s.bands = divided_up(s.out[0], s.out_rows);
  s.in_rows = (s.out_rows - 1) * b->stride + b->kernel;
  s.padded_plane = plane(s.lead + s.in_rows * s.pitch + 2 * MAX_LANES); /* vectors over the last column read further */
  s.chunks = divided_up(b->channels, most(least(CHUNK_FLOATS / s.padded_plane, MAX_CHUNK) / QUAD * QUAD, QUAD));
  s.chunk = divided_up(divided_up(b->channels, s.chunks), QUAD) * QUAD;
  s.chunks = divided_up(b->channels, s.chunk);
  s.copy_plane = plane(s.in_rows * s.pitch + MAX_LANES);
  s.whole_plane = plane(s.out_rows * s.out[1] + MAX_LANES);
  s.copies = least(s.chunk, b->channels) * s.padded_plane;
  s.wholes = s.copies + (b->expands ? b->in_channels * s.copy_plane : 0);
  s.sums = s.wholes + b->channels * s.whole_plane;
  s.worker = ROUNDED(s.sums + b->out_channels * MAX_LANES);
  return s;
}

const char *mp_block_check(const mp_block *b) {
  const mp_layer layers[] = {pointwise(b->in_channels, b->channels, 1, b->activation), depthwise_layer(b),
                             pointwise(b->channels, b->out_channels, 1, MP_IDENTITY)};
  for (int i = 0; i < 3; i++) {
    const char *wrong = mp_check(&layers[i]);
    if (wrong) return wrong;
  }
  if (b->kernel != 3 && b->kernel != 5) return "the depthwise kernel must be 3 x 3 or 5 x 5";
  if (b->stride != 1 && b->stride != 2) return "the depthwise stride must be 1 or 2";
  for (int i = 0; i < 4; i++)
    if (b->pad[i] >= b->kernel) return "pads must be smaller than the depthwise kernel";
  if (!b->expands && b->in_channels != b->channels)
    return "without an expanding layer the input must have the channels of the depthwise one";
  if (shaped(b).worker > MAX_SCRATCH) return "the block needs more than 67108864 numbers of scratch";
  return NULL;
}

void mp_block_choose(const mp_block *b, const mp_block_weights *w, int kernels[2]) {
  const mp_layer expand = pointwise(b->in_channels, b->channels, 1, b->activation);
  const mp_layer project = pointwise(b->channels, b->out_channels, 1, MP_IDENTITY);
  kernels[1] = mp_choose(&project, w->weights[2]);
  kernels[0] = b->expands ? mp_choose(&expand, w->weights[0]) : kernels[1];
}

static size_t aligned(size_t bytes) { return (bytes + 63) / 64 * 64; }

/* Where the parts lie. */
typedef struct {
  size_t taps, bias, kept, expand, packs;
} parts;

static parts parts_of(const fused_shape *s) {
  const mp_block *b = &s->block;
  parts p = {.taps = aligned(sizeof(mp_packed_block))};
  p.bias = p.taps + aligned((size_t)(b->channels * b->kernel * b->kernel) * sizeof(float));
  p.kept = p.bias + aligned((size_t)b->channels * sizeof(float));
  p.expand = p.kept + aligned((size_t)(s->in_rows * s->pitch + MAX_LANES) * sizeof(int32_t));
  p.packs = p.expand + aligned((size_t)s->chunks * sizeof(mp_packed *));
  return p;
}

/* Layer `chunk` of those that expand, or behind them the one that projects. */
typedef struct {
  mp_layer layer;
  const float *weights, *bias;
  int kernel;
} part;

static part part_of(const fused_shape *s, const mp_block_weights *w, const int kernels[2], int64_t chunk) {
  const mp_block *b = &s->block;
  if (chunk == s->chunks)
    return (part){pointwise(b->channels, b->out_channels, s->whole_plane, MP_IDENTITY), w->weights[2], w->bias[2], kernels[1]};
  const int64_t first = chunk * s->chunk, channels = least(s->chunk, b->channels - first);
  return (part){pointwise(b->in_channels, channels, s->copy_plane, b->activation), w->weights[0] + first * b->in_channels,
                w->bias[0] ? w->bias[0] + first : NULL, kernels[0]};
}

size_t mp_block_packed_bytes(const mp_block *b, const mp_block_weights *w, const int kernels[2]) {
  const fused_shape s = shaped(b);
  size_t bytes = parts_of(&s).packs;
  for (int64_t chunk = b->expands ? 0 : s.chunks; chunk <= s.chunks; chunk++) {
    const part p = part_of(&s, w, kernels, chunk);
    const size_t more = mp_packed_bytes(&p.layer, p.weights, p.kernel);
    if (!more) return 0;
    bytes += aligned(more);
  }
  return bytes;
}

const mp_packed_block *mp_block_pack(const mp_block *b, const mp_block_weights *w, const int kernels[2], void *memory) {
  const fused_shape s = shaped(b);
  const parts at = parts_of(&s);
  char *bytes = memory, *pack = bytes + at.packs;
  float *taps = (float *)(bytes + at.taps), *bias = (float *)(bytes + at.bias);
  int32_t *kept = (int32_t *)(bytes + at.kept);
  const mp_packed **expand = (const mp_packed **)(bytes + at.expand), *packed = NULL;
  for (int64_t i = 0; i < b->channels * b->kernel * b->kernel; i++) taps[i] = w->weights[1][i];
  for (int64_t i = 0; i < b->channels; i++) bias[i] = w->bias[1] ? w->bias[1][i] : 0;
  for (int64_t i = 0; i < s.in_rows * s.pitch + MAX_LANES; i++) kept[i] = i % s.pitch < b->in_size[1] ? -1 : 0;
  for (int64_t chunk = b->expands ? 0 : s.chunks; chunk <= s.chunks; chunk++) {
    const part p = part_of(&s, w, kernels, chunk);
    packed = mp_pack(&p.layer, p.weights, p.bias, p.kernel, pack);
    if (!packed) return NULL;
    if (chunk < s.chunks) expand[chunk] = packed;
    pack += aligned(mp_packed_bytes(&p.layer, p.weights, p.kernel));
  }
  mp_packed_block *made = memory;
  *made = (mp_packed_block){s, packed->set, taps, bias, kept, expand, packed};
  return made;
}

int64_t mp_block_multiply_adds(const mp_packed_block *p) {
  const mp_block *b = &p->at.block;
  const int64_t pixels = p->at.out[0] * p->at.out[1];
  int64_t sum = (p->project->stored + b->channels * b->kernel * b->kernel) * pixels;
  for (int64_t chunk = 0; b->expands && chunk < p->at.chunks; chunk++)
    sum += p->expand[chunk]->stored * b->in_size[0] * b->in_size[1];
  return sum;
}
