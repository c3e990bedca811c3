/* The kernels for vectors of LANES floats, of an instruction set SET that keeps MAX_ROWS vectors of one row, or MAX_QUADS
   of four, in registers. Included once by each instruction set's file. */
#include "internal.h"

#define INLINE static inline __attribute__((always_inline))
#define OUTLINE __attribute__((noinline))
#define UNROLL _Pragma("GCC unroll 24")

typedef float vector __attribute__((vector_size(4 * LANES)));
typedef float loose __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int32_t mask __attribute__((vector_size(4 * LANES)));
typedef int32_t loose_mask __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

INLINE vector load(const float *from) { return *(const loose *)from; }
INLINE void store(float *to, vector x) { *(loose *)to = x; }
INLINE vector all(float x) { return x - (vector){0}; }
static inline __attribute__((always_inline, unused)) vector chosen(mask m, vector yes, vector no) { return (vector)((m & (mask)yes) | (~m & (mask)no)); }

INLINE vector masked(vector x, mask m) { return (vector)((mask)x & m); }

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

INLINE void zero(float *to, int64_t count) {
  if (count >= LANES) {
    for (int64_t i = 0; i < count - LANES; i += LANES) store(to + i, all(0));
    store(to + count - LANES, all(0));
  } else {
    for (; count >= 4; count -= 4, to += 4) *(four *)to = (four){0};
    for (int64_t i = 0; i < count; i++) to[i] = 0;
  }
}

/* Vector i of a tile of `vectors`; a literal in every use, but for the last. */
#define AT(i) ((i) == vectors - 1 ? last : (i) * LANES)

static OUTLINE vector activated(vector x, mp_activation f) {
  activate(1, &x, f);
  return x;
}

/* The last `t->tail` pixels of a row's output, from their sums. */
static OUTLINE void cut(const tile *t, const float *sums, const float *residual, float *y) {
  float values[LANES];
  store(values, all(0));
  if (residual) move(values, residual, t->tail);
  store(values, activated(load(sums) + load(values), t->activation));
  move(y, values, t->tail);
}

/* A row's output from its sums, where vectors and rows of pixels do not begin together. */
static OUTLINE void take_apart(const tile *t, int vectors, const float *sums, const float *residual, float *y) {
  float added[(MAX_TILE + 1) * LANES], values[(MAX_TILE + 1) * LANES];
  zero(added, (vectors + 1) * LANES);
  for (int64_t row = 0; residual && row < t->rows; row++)
    move(added + row * t->pitch, residual + row * t->width, t->width);
  for (int i = 0; i < vectors; i++) {
    const int64_t at = i == vectors - 1 ? t->last : i * LANES;
    store(values + at, activated(load(sums + at) + load(added + at), t->activation));
  }
  for (int64_t row = 0; row < t->rows; row++) move(y + row * t->width, values + row * t->pitch, t->width);
}

/* Sums that wait for the next block of channels, or a row of the tile's output. */
INLINE void end_row(const int vectors, vector *sums, const tile *t, int64_t row) {
  const int64_t last = t->last;
  float values[(MAX_TILE + 1) * LANES], *y = t->y + row * t->y_stride;
  const float *residual = t->residual ? t->residual + row * t->y_stride : NULL;
  if (!t->final || t->place == APART) {
    float *to = t->final ? values : t->partial + row * t->partial_stride;
    UNROLL for (int i = 0; i < vectors; i++) store(to + AT(i), sums[i]);
    if (t->final) take_apart(t, vectors, values, residual, y);
    return;
  }
  const int32_t *to = t->to;
  const int cutting = t->place == PLACED && t->tail;
  if (cutting) store(values, sums[vectors - 1]);
  if (residual && t->place == DIRECT) {
    UNROLL for (int i = 0; i < vectors; i++) sums[i] += load(residual + AT(i));
  } else if (residual) {
    UNROLL for (int i = 0; i < vectors - 1; i++) sums[i] += load(residual + to[i]);
    if (!cutting) sums[vectors - 1] += load(residual + to[vectors - 1]);
  }
  activate(vectors, sums, t->activation);
  if (t->kept)
    UNROLL for (int i = 0; i < vectors; i++) sums[i] = masked(sums[i], *(const loose_mask *)(t->kept + AT(i)));
  if (t->place == DIRECT) {
    UNROLL for (int i = 0; i < vectors; i++) store(y + AT(i), sums[i]);
    return;
  }
  UNROLL for (int i = 0; i < vectors - 1; i++) store(y + to[i], sums[i]);
  if (cutting)
    cut(t, values, residual ? residual + to[vectors - 1] : NULL, y + to[vectors - 1]);
  else
    store(y + to[vectors - 1], sums[vectors - 1]);
}

INLINE void begin_row(const int vectors, vector *sums, const tile *t, int64_t row) {
  const int64_t last = t->last;
  const float *partial = t->partial + row * t->partial_stride;
  UNROLL for (int i = 0; i < vectors; i++) sums[i] = t->first ? all(t->bias[row]) : load(partial + AT(i));
}

/* Lists are read once a run and come from far; processors whose own foresight was measured to be too short say AHEAD bytes. */
#ifdef AHEAD
#define FORESEE(z) __builtin_prefetch((const char *)(z) + AHEAD)
#else
#define FORESEE(z) (void)0
#endif

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
    for (; z < whole; z += chains) {
      FORESEE(z);
      UNROLL for (int c = 0; c < chains; c++) {
        const float *in = t->in + z[c].offset;
        UNROLL for (int i = 0; i < vectors; i++) sums[c * vectors + i] += load(in + AT(i)) * all(z[c].weight);
      }
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
      FORESEE(z);
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

#include "copy.h"
#include "depthwise.h"

#define ROW_ENTRY(n) [n] = rows_##n,
#define QUAD_ENTRY(n) [n] = quads_##n,
const instruction_set SET = {NAME, LANES, {MAX_ROWS, MAX_QUADS}, {{KERNELS(ROW_ENTRY, NONE)}, {KERNELS(NONE, QUAD_ENTRY)}}, copy, depthwise_planes};
