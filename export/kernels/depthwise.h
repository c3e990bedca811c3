/* Depthwise convolution of padded planes: vectors along the pixels of an output row, ROWS rows at a time, so that each
   input vector is loaded once for all the rows that it reaches. Included by lanes.h. */

/* from[0], from[2], ..., in the order of IN_ORDER's inverse: neighbouring lanes are paired within 16 bytes, which is one
   instruction; 2 LANES floats are read. */
#if defined(__clang__) || __GNUC__ >= 12
INLINE vector even(const float *from) { return __builtin_shufflevector(load(from), load(from + LANES), EVEN_PAIRS); }
INLINE vector odd(const float *from) { return __builtin_shufflevector(load(from), load(from + LANES), ODD_PAIRS); }
INLINE vector in_order(vector x) { return __builtin_shufflevector(x, x, IN_ORDER); }
#else
INLINE vector even(const float *from) {
  vector x;
  UNROLL for (int i = 0; i < LANES; i++) x[i] = from[2 * i];
  return x;
}
INLINE vector odd(const float *from) { return even(from + 1); }
INLINE vector in_order(vector x) { return x; }
#endif

/* `in`: the first input of the first pixel; taps: kernel x kernel. */
INLINE void taps_of_rows(const int kernel, const int stride, const int rows, const depthwise *d, const float *in,
                         const float *taps, float bias, float *out) {
  const int64_t pitch = d->pitch, columns = d->columns;
  vector sums[DEPTHWISE_ROWS];
  UNROLL for (int r = 0; r < rows; r++) sums[r] = all(bias);
  UNROLL for (int i = 0; i < (rows - 1) * stride + kernel; i++, in += pitch)
    UNROLL for (int column = 0; column < kernel; column++) {
      const vector x = stride == 1 ? load(in + column) : column % 2 ? odd(in + column - 1) : even(in + column);
      UNROLL for (int r = 0; r < rows; r++)
        if (i >= r * stride && i < r * stride + kernel) sums[r] += x * all(taps[(i - r * stride) * kernel + column]);
    }
  activate(rows, sums, d->activation);
  UNROLL for (int r = 0; r < rows; r++) store(out + r * columns, stride == 1 ? sums[r] : in_order(sums[r]));
}

/* Last vectors and last rows lie over those before them; rows narrower than a vector reach over the next one's beginning. */
INLINE void planes(const int kernel, const int stride, const depthwise *d) {
  const int64_t at_once = d->rows < DEPTHWISE_ROWS ? 1 : DEPTHWISE_ROWS;
  const int64_t last_row = d->rows - at_once, last_column = most(d->columns - LANES, 0);
  for (int64_t channel = 0; channel < d->channels; channel++) {
    const float *plane = d->in + channel * d->in_plane, *taps = d->taps + channel * kernel * kernel;
    for (int64_t row = 0;; row = least(row + at_once, last_row)) {
      for (int64_t column = 0;; column = least(column + LANES, last_column)) {
        const float *in = plane + row * stride * d->pitch + column * stride;
        float *out = d->out + channel * d->out_plane + row * d->columns + column;
        if (at_once == 1)
          taps_of_rows(kernel, stride, 1, d, in, taps, d->bias[channel], out);
        else
          taps_of_rows(kernel, stride, DEPTHWISE_ROWS, d, in, taps, d->bias[channel], out);
        if (column == last_column) break;
      }
      if (row == last_row) break;
    }
  }
}

static void depthwise_planes(const depthwise *d) {
  if (d->kernel == 3 && d->stride == 1) planes(3, 1, d);
  if (d->kernel == 3 && d->stride == 2) planes(3, 2, d);
  if (d->kernel == 5 && d->stride == 1) planes(5, 1, d);
  if (d->kernel == 5 && d->stride == 2) planes(5, 2, d);
}
