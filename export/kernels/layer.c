/* What a layer may be, and how its input lies in memory. */
#include "internal.h"

#define MAX_EXTENT 65536          /* of an image, a kernel, a stride, a dilation or a padding */
#define MAX_CHANNELS (1 << 24)
#define MAX_FLOATS ((int64_t)1 << 29) /* of an input, padded; of an output; of the weights: offsets are 32 bits */

static int within(const int64_t *values, int count, int64_t low, int64_t high) {
  for (int i = 0; i < count; i++)
    if (values[i] < low || values[i] > high) return 0;
  return 1;
}

static int product_fits(const int64_t *values, int count) {
  int64_t product = 1;
  for (int i = 0; i < count; i++) {
    if (values[i] > MAX_FLOATS / product) return 0;
    product *= values[i];
  }
  return 1;
}

const char *mp_check(const mp_layer *l) {
  if (!within(&l->in_channels, 1, 1, MAX_CHANNELS) || !within(&l->out_channels, 1, 1, MAX_CHANNELS))
    return "channels must lie in [1, 16777216]";
  if (l->groups < 1 || l->in_channels % l->groups || l->out_channels % l->groups)
    return "group must divide the channels of input and output";
  if (!within(l->in_size, 2, 1, MAX_EXTENT) || !within(l->kernel, 2, 1, MAX_EXTENT))
    return "height and width of input and kernel must lie in [1, 65536]";
  if (!within(l->stride, 2, 1, MAX_EXTENT) || !within(l->dilation, 2, 1, MAX_EXTENT))
    return "strides and dilations must lie in [1, 65536]";
  if (!within(l->pad, 4, 0, MAX_EXTENT)) return "pads must lie in [0, 65536]";
  if ((int)l->activation < 0 || l->activation >= MP_NUM_ACTIVATIONS) return "unknown activation";
  for (int d = 0; d < 2; d++)
    if (l->in_size[d] + l->pad[d] + l->pad[d + 2] < (l->kernel[d] - 1) * l->dilation[d] + 1)
      return "the kernel is larger than the padded input";
  const int64_t weights[] = {l->out_channels, l->in_channels / l->groups, l->kernel[0], l->kernel[1]};
  int fits = product_fits(weights, 4);
  for (layout kind = 0; kind < NUM_LAYOUTS; kind++) {
    const mp_layer flat = mp_flat(l);
    const geometry at = mp_geometry(&flat, MAX_LANES, kind);
    const int64_t input[] = {l->in_channels, at.phases[0], at.phases[1], at.plane};
    const int64_t output[] = {l->out_channels, at.out[0], at.pitch + SLACK};
    fits &= product_fits(input, 4) && product_fits(output, 3);
  }
  if (!fits)
    return "weights, padded input or output have more than 536870912 numbers";
  return NULL;
}

mp_layer mp_flat(const mp_layer *l) {
  mp_layer flat = *l;
  const int plain = l->kernel[0] * l->kernel[1] * l->stride[0] * l->stride[1] == 1;
  if (plain && !(l->pad[0] || l->pad[1] || l->pad[2] || l->pad[3])) {
    flat.in_size[0] = 1;
    flat.in_size[1] = l->in_size[0] * l->in_size[1];
  }
  return flat;
}

void mp_out_size(const mp_layer *l, int64_t out[2]) {
  for (int d = 0; d < 2; d++) {
    const int64_t reach = (l->kernel[d] - 1) * l->dilation[d] + 1;
    out[d] = (l->in_size[d] + l->pad[d] + l->pad[d + 2] - reach) / l->stride[d] + 1;
  }
}

/* Elements of the kernel along an axis that start on different rows, or columns, modulo the stride; then they repeat. */
static int64_t distinct_phases(const mp_layer *l, int d) {
  int64_t n = 1;
  while (n < l->kernel[d] && n * l->dilation[d] % l->stride[d]) n++;
  return n;
}

geometry mp_geometry(const mp_layer *l, int lanes, layout kind) {
  geometry at = {.kind = kind};
  mp_out_size(l, at.out);
  const int64_t across = (l->kernel[1] - 1) * l->dilation[1] / l->stride[1];
  const int padded = l->pad[0] || l->pad[1] || l->pad[2] || l->pad[3];
  at.copied = kind != TIGHT || padded || l->stride[0] > 1 || l->stride[1] > 1 || at.out[1] < lanes;
  at.rows = at.out[0] + (l->kernel[0] - 1) * l->dilation[0] / l->stride[0];
  at.phases[0] = distinct_phases(l, 0);
  at.phases[1] = kind == SHIFTED ? l->kernel[1] : distinct_phases(l, 1);
  int64_t row = at.out[1] + across; /* what the kernel reads for a row of the output */
  if (kind == SHIFTED) {
    row = at.out[1];
    const int64_t half = row > lanes / 4 ? lanes / 2 : 1; /* of every other row the loads are aligned, without long gaps */
    at.pitch = divided_up(row, half) * half;
  } else if (l->stride[1] == 1) { /* the zeros behind a row are those before the next */
    at.pitch = most(l->in_size[1] + most(l->pad[1], l->pad[3]), at.out[1]);
  } else {
    at.pitch = row;
  }
  if (kind == ALIGNED) {
    at.pitch = divided_up(at.pitch, lanes) * lanes;
    at.lead = l->stride[1] == 1 ? divided_up(l->pad[1], lanes) * lanes - l->pad[1] : 0;
  }
  at.plane = at.lead + (at.rows - 1) * at.pitch + row;
  if (kind != TIGHT) at.plane = divided_up(at.plane, lanes) * lanes;
  at.same = !padded && l->stride[0] * l->stride[1] * at.phases[1] == 1 && at.plane == l->in_size[0] * l->in_size[1];
  if (at.copied && !at.same && at.plane % 1024 == 0) at.plane += MAX_LANES; /* channels 4 KiB apart would share cache sets */
  return at;
}

/* Where element (row, column) of the kernel reads for output pixel 0, in the planes of a channel. */
int64_t mp_offset(const mp_layer *l, const geometry *at, int64_t row, int64_t column) {
  const int64_t plane = row % at->phases[0] * at->phases[1] + column % at->phases[1];
  const int64_t shift = at->kind == SHIFTED ? 0 : column * l->dilation[1] / l->stride[1];
  return plane * at->plane + at->lead + row * l->dilation[0] / l->stride[0] * at->pitch + shift;
}
