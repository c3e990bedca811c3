/* The kernels for vectors of LANES floats, of an instruction set SET that keeps MAX_ROWS vectors of one row, or MAX_QUADS
   of four, in registers. Included once by each instruction set's file. */
#include "internal.h"

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 24")

typedef float vector __attribute__((vector_size(4 * LANES)));
typedef float loose __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int32_t mask __attribute__((vector_size(4 * LANES)));
typedef int32_t loose_mask __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

INLINE vector load(const float *from) { return *(const loose *)from; }
INLINE void store(float *to, vector x) { *(loose *)to = x; }
INLINE vector all(float x) { return x - (vector){0}; }
static inline __attribute__((always_inline, unused)) vector chosen(mask m, vector yes, vector no) { return (vector)((m & (mask)yes) | (~m & (mask)no)); }

/* Both give x where it is NaN. */
#ifndef LARGER
#define LARGER(low, x) chosen(x < low, low, x)
#define SMALLER(high, x) chosen(x > high, high, x)
#endif

/* For all vectors at once: one decision, not one for each of them. */
INLINE void activate(const int vectors, vector *x, mp_activation f) {
  const vector zero = {0}, one = all(1), six = all(6);
  if (f == MP_RELU || f == MP_RELU6)
    UNROLL for (int i = 0; i < vectors; i++) x[i] = LARGER(zero, x[i]);
  if (f == MP_RELU6)
    UNROLL for (int i = 0; i < vectors; i++) x[i] = SMALLER(six, x[i]);
  if (f == MP_HARD_SWISH)
    UNROLL for (int i = 0; i < vectors; i++) {
      vector gate = x[i] * all(1.0f / 6) + all(0.5f);
      gate = LARGER(zero, gate);
      x[i] *= SMALLER(one, gate);
    }
}

INLINE vector activated(vector x, mp_activation f) {
  activate(1, &x, f);
  return x;
}

typedef float four __attribute__((vector_size(16), aligned(4), may_alias));

/* Copies of any length, the last vector over the one before. */
INLINE void move(float *to, const float *from, int64_t count) {
  if (count >= LANES) {
    for (int64_t i = 0; i < count - LANES; i += LANES) store(to + i, load(from + i));
    store(to + count - LANES, load(from + count - LANES));
  } else if (count >= 4) {
    for (int64_t i = 0; i < count - 4; i += 4) *(four *)(to + i) = *(const four *)(from + i);
    *(four *)(to + count - 4) = *(const four *)(from + count - 4);
  } else {
    for (int64_t i = 0; i < count; i++) to[i] = from[i];
  }
}

/* to[i] = from[2 i]; nothing behind the last of them is read. */
INLINE void move_even(float *to, const float *from, int64_t count) {
  int64_t i = 0;
#if defined(__clang__) || __GNUC__ >= 12
  for (; count >= LANES; i = least(i + LANES, count - LANES)) {
    const vector a = load(from + 2 * i), b = load(from + 2 * i + LANES - 1);
    store(to + i, __builtin_shufflevector(a, b, EVEN_THEN_ODD));
    if (i == count - LANES) return;
  }
  for (; count >= 4; i = least(i + 4, count - 4)) {
    const four a = *(const four *)(from + 2 * i), b = *(const four *)(from + 2 * i + 3);
    *(four *)(to + i) = __builtin_shufflevector(a, b, 0, 2, 5, 7);
    if (i == count - 4) return;
  }
#endif
  for (; i < count; i++) to[i] = from[2 * i];
}

/* The rest of a row of the tile whose sums are in `sums`: residual, activation, and its pixels without those between. */
static void finish(const tile *t, const float *sums, int64_t row) {
  float *y = t->y + row * t->y_stride;
  const float *residual = t->residual ? t->residual + row * t->y_stride : NULL;
  for (const piece *p = t->pieces; p < t->pieces + t->num_pieces; p++) {
    const float *from = sums + p->from;
    float *to = y + p->to;
    if (p->count < LANES) {
      float values[LANES];
      vector x = load(from);
      if (residual) {
        move(values, residual + p->to, p->count);
        x += load(values);
      }
      store(values, activated(x, t->activation));
      move(to, values, p->count);
      continue;
    }
    for (int64_t k = 0;; k = least(k + LANES, p->count - LANES)) {
      vector x = load(from + k);
      if (residual) x += load(residual + p->to + k);
      store(to + k, activated(x, t->activation));
      if (k == p->count - LANES) break;
    }
  }
}

/* Vector i of a tile of `vectors`; a literal in every use, but for the last. */
#define AT(i) ((i) == vectors - 1 ? last : (i) * LANES)

INLINE void end_row(const int vectors, vector *sums, const tile *t, int64_t row) {
  const int64_t last = t->last;
  if (t->direct && t->final) {
    const float *residual = t->residual;
    const int32_t *kept = t->kept;
    float *y = t->y + row * t->y_stride;
    if (residual) {
      residual += row * t->y_stride;
      UNROLL for (int i = 0; i < vectors; i++) sums[i] += load(residual + AT(i));
    }
    activate(vectors, sums, t->activation);
    if (kept)
      UNROLL for (int i = 0; i < vectors; i++) sums[i] = (vector)((mask)sums[i] & *(const loose_mask *)(kept + AT(i)));
    UNROLL for (int i = 0; i < vectors; i++) store(y + AT(i), sums[i]);
    return;
  }
  float finished[(MAX_TILE + 1) * LANES];
  float *to = t->final ? finished : t->partial + row * t->partial_stride;
  UNROLL for (int i = 0; i < vectors; i++) store(to + AT(i), sums[i]);
  if (t->final) finish(t, finished, row);
}

INLINE void begin_row(const int vectors, vector *sums, const tile *t, int64_t row) {
  const int64_t last = t->last;
  const float *partial = t->partial + row * t->partial_stride;
  UNROLL for (int i = 0; i < vectors; i++) sums[i] = t->first ? all(t->bias[row]) : load(partial + AT(i));
}

/* `chains` sums a vector, so that small tiles do not wait for the last addition. */
INLINE void unstructured(const int vectors, const int chains, const tile *t, const segment *s, const segment *end,
                         const void *list) {
  const int64_t last = t->last;
  const nonzero *z = list;
  for (; s < end; s++) {
    vector sums[MAX_TILE];
    begin_row(vectors, sums, t, s->unit);
    UNROLL for (int i = vectors; i < chains * vectors; i++) sums[i] = all(0);
    const nonzero *stop = z + s->count, *whole = z + s->count / chains * chains;
    for (; z < whole; z += chains)
      UNROLL for (int c = 0; c < chains; c++) {
        const float *in = t->in + z[c].offset;
        UNROLL for (int i = 0; i < vectors; i++) sums[c * vectors + i] += load(in + AT(i)) * all(z[c].weight);
      }
    for (; z < stop; z++) {
      const float *in = t->in + z->offset;
      UNROLL for (int i = 0; i < vectors; i++) sums[i] += load(in + AT(i)) * all(z->weight);
    }
    UNROLL for (int i = vectors; i < chains * vectors; i++) sums[i % vectors] += sums[i];
    end_row(vectors, sums, t, s->unit);
  }
}

INLINE void quads(const int vectors, const tile *t, const segment *s, const segment *end, const void *list) {
  const int64_t last = t->last;
  const quad *z = list;
  for (; s < end; s++) {
    vector sums[QUAD][MAX_TILE / QUAD];
    UNROLL for (int r = 0; r < QUAD; r++) begin_row(vectors, sums[r], t, QUAD * (int64_t)s->unit + r);
    for (const quad *stop = z + s->count; z < stop; z++) {
      const float *in = t->in + z->offset;
      vector x[MAX_TILE / QUAD];
      UNROLL for (int i = 0; i < vectors; i++) x[i] = load(in + AT(i));
      UNROLL for (int r = 0; r < QUAD; r++)
        UNROLL for (int i = 0; i < vectors; i++) sums[r][i] += x[i] * all(z->weight[r]);
    }
    UNROLL for (int r = 0; r < QUAD; r++) end_row(vectors, sums[r], t, QUAD * (int64_t)s->unit + r);
  }
}

#define CHAINS(n) ((n) * 2 > 8 ? 1 : 8 / (n))
#define ROWS(n)                                                                                            \
  static void rows_##n(const tile *t, const segment *s, const segment *end, const void *list) {           \
    unstructured(n, CHAINS(n), t, s, end, list);                                                          \
  }
#define QUADS(n)                                                                                           \
  static void quads_##n(const tile *t, const segment *s, const segment *end, const void *list) {          \
    quads(n, t, s, end, list);                                                                            \
  }
KERNELS(ROWS, QUADS)

INLINE void zero(float *to, int64_t count) {
  for (; count >= LANES; count -= LANES, to += LANES) store(to, all(0));
  for (int64_t i = 0; i < count; i++) to[i] = 0;
}

/* Divisions by 1 are most of all, and slow. */
INLINE int64_t steps(int64_t length, int64_t stride) { return stride == 1 ? length : divided_up(length, stride); }
INLINE int64_t rest(int64_t length, int64_t stride) { return stride == 1 ? 0 : length % stride; }

/* The planes of `channels` channels at `x`, height x width each. */
static void copy(const mp_layer *l, const geometry *at, const float *x, float *to, int64_t channels) {
  const int64_t height = l->in_size[0], width = l->in_size[1], sh = l->stride[0], sw = l->stride[1];
  const int64_t last_row = at->plane - at->lead - (at->rows - 1) * at->pitch;
  for (int64_t down = 0; down < at->phases[0]; down++)
    for (int64_t across = 0; across < at->phases[1]; across++) {
      const int64_t top = rest(down * l->dilation[0], sh) - l->pad[0], column = across * l->dilation[1];
      const int64_t left = (at->kind == SHIFTED ? column : rest(column, sw)) - l->pad[1];
      const int64_t begin = left < 0 ? steps(-left, sw) : 0;
      const int64_t end = most(begin, least(steps(most(width - left, 0), sw), at->pitch));
      float *plane = to + (down * at->phases[1] + across) * at->plane;
      for (int64_t channel = 0; channel < channels; channel++, plane += channel_floats(at)) {
        const float *image = x + channel * height * width;
        float *row = plane + at->lead;
        zero(plane, at->lead);
        for (int64_t r = 0, from = top; r < at->rows; r++, from += sh, row += at->pitch) {
          const int64_t length = r + 1 < at->rows ? at->pitch : last_row;
          if (from < 0 || from >= height) {
            zero(row, length);
            continue;
          }
          const float *source = image + from * width + left;
          for (int64_t c = 0; c < begin; c++) row[c] = 0;
          if (sw == 1)
            move(row + begin, source + begin, end - begin);
          else if (sw == 2)
            move_even(row + begin, source + 2 * begin, end - begin);
          else
            for (int64_t c = begin; c < end; c++) row[c] = source[c * sw];
          for (int64_t c = end; c < length; c++) row[c] = 0;
        }
      }
    }
}

#include "depthwise.h"

#define ROW_ENTRY(n) [n] = rows_##n,
#define QUAD_ENTRY(n) [n] = quads_##n,
const instruction_set SET = {NAME, LANES, {MAX_ROWS, MAX_QUADS}, {{KERNELS(ROW_ENTRY, NONE)}, {KERNELS(NONE, QUAD_ENTRY)}}, copy, depthwise_planes};
