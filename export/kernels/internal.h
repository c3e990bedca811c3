/* What the files of the kernels share. A *unit* is what shares one list of nonzeros: a row of the weight matrix (an output
   channel), or four neighbouring rows. Offsets count floats. */
#ifndef MOBILEPRUNE_INTERNAL_H
#define MOBILEPRUNE_INTERNAL_H

#include "mobileprune_kernels.h"

#define QUAD 4
#define MAX_TILE 24    /* vectors that a kernel keeps in registers */
#define CHUNK_ROWS 64    /* output channels of a task at most, so that small images have several */
#define MAX_LANES 16   /* floats of a vector */
#define SLACK MAX_LANES /* floats behind a buffer that a vector may read and whose values are not used */

typedef struct {
  float weight;
  int32_t offset; /* of the input that it multiplies, from the tile's first pixel in channel 0 */
} nonzero;

typedef struct {
  float weight[QUAD];
  int32_t offset;
} quad;

typedef struct {
  int32_t unit, count;
} segment; /* `count` nonzeros of `unit` lie next in the list */

/* How an input lies in memory: planes of each channel, each the padded image (for strides every s-th row and column of it)
   with rows at `pitch`. Output pixel (r, c) is pixel r * pitch + c; those with c >= out[1] are computed and dropped.
   TIGHT    rows follow each other
   ALIGNED  rows start at whole vectors, and so do the loads for the kernel's column over the pixel itself
   SHIFTED  each column of the kernel has a plane of its own, which starts where that column's first input is: no pixel is
            dropped, for as many copies as the kernel has columns */
typedef enum { TIGHT, ALIGNED, SHIFTED, NUM_LAYOUTS } layout;
typedef struct {
  layout kind;
  int copied; /* not: the caller's x is used as it is */
  int same;   /* a copy of x and no more, for the sake of what a vector reads behind the last image */
  int64_t out[2], rows, pitch, plane;
  int64_t lead;      /* floats before a plane's first row */
  int64_t phases[2]; /* planes a channel: down and across */
} geometry;

/* How a tile's sums lie in y, and its residual: as in the tile; every vector at a place of its own, over what those before it
   have too much; or in rows that do not begin where vectors do. */
typedef enum { DIRECT, PLACED, APART } placement;

/* One tile of pixels for a list of segments: some rows of the output, or a part of one. */
typedef struct {
  const float *in;       /* first pixel of the tile in channel 0 */
  const float *bias;
  float *partial;        /* sums so far; a unit's rows are `partial_stride` apart */
  int64_t partial_stride;
  float *y;              /* first pixel of the tile; a unit's rows are `y_stride` apart */
  const float *residual; /* NULL, or laid out as y */
  int64_t y_stride;
  int64_t last;          /* where the last vector starts: tiles need not be multiples of a vector, so it may overlap */
  int first, final;
  mp_activation activation;
  const int32_t *kept;        /* NULL, or all bits for a pixel that keeps its value and none for one that becomes 0 (DIRECT) */
  placement place;
  int32_t to[MAX_TILE];       /* PLACED; and the pixels of the last vector, 0: all of it */
  int tail;
  int64_t rows, pitch, width; /* APART: rows of `width` floats, in the tile `pitch` apart */
} tile;

typedef void (*tile_kernel)(const tile *, const segment *, const segment *end, const void *list);

/* Channels of a depthwise convolution on padded planes. */
typedef struct {
  const float *in;   /* the first input of the first output pixel */
  float *out;        /* rows of `columns` floats, without any between; may be written for a vector behind the last */
  int64_t in_plane, out_plane, pitch, rows, columns, channels;
  const float *taps, *bias;
  int kernel, stride;
  mp_activation activation;
} depthwise;

#define DEPTHWISE_ROWS 4 /* that are computed at a time */

/* An instruction set: its kernels by the number of vectors of the tile, and how it copies an input. */
typedef struct {
  const char *name;
  int lanes;
  int max_tile[2];                    /* [0] unstructured, [1] quads */
  tile_kernel kernels[2][MAX_TILE + 1];
  void (*copy)(const mp_layer *, const geometry *, const float *x, float *to, int64_t channels);
  void (*depthwise)(const depthwise *);
} instruction_set;

extern const instruction_set mp_portable;
#ifdef MP_X86
extern const instruction_set mp_avx2, mp_avx512;
#endif

struct mp_packed {
  mp_layer layer;
  geometry at;
  const instruction_set *set;
  int quads;
  int64_t tiles_per_row, rows_per_tile; /* one of them is 1 */
  int64_t chunks, blocks, chunk_units; /* of output channels, of input channels */
  int64_t stored;                      /* nonzeros, with those that only fill quads */
  const float *bias;
  const int64_t *segment_starts, *list_starts; /* [chunk][block], and one more */
  const segment *segments;
  const void *list;
};

mp_layer mp_flat(const mp_layer *layer); /* neighbouring rows of a 1 x 1 convolution make one long one */
geometry mp_geometry(const mp_layer *layer, int lanes, layout kind);
int64_t mp_offset(const mp_layer *layer, const geometry *at, int64_t row, int64_t column); /* in a channel */

static inline int64_t channel_floats(const geometry *at) { return at->phases[0] * at->phases[1] * at->plane; }
static inline int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }
static inline int64_t divided_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

#endif
