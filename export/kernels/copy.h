/* Copies of the input into planes, as the kernels read it: padded, and for strides every s-th row and column. Included by
   lanes.h. */

/* from[0], from[step], ... for a step of 1 or 2; nothing behind the last of them is read. */
INLINE vector every(const float *from, int64_t step) {
  if (step == 1) return load(from);
#if defined(__clang__) || __GNUC__ >= 12
  return __builtin_shufflevector(load(from), load(from + LANES - 1), EVEN_THEN_ODD);
#else
  vector x;
  UNROLL for (int i = 0; i < LANES; i++) x[i] = from[2 * i];
  return x;
#endif
}

/* Divisions by 1 are most of all, and slow. */
INLINE int64_t steps(int64_t length, int64_t stride) { return stride == 1 ? length : divided_up(length, stride); }
INLINE int64_t rest(int64_t length, int64_t stride) { return stride == 1 ? 0 : length % stride; }

/* Rows of the input that a plane takes: every `step`-th float, of which those in [begin, end) are the image's. */
typedef struct {
  int64_t step, begin, end, length, reach; /* floats of a row, and how far its vectors read */
  int simple;                              /* zeros lie in the first and the last vector alone */
  mask first, last;
} line;

/* All bits of the lanes in [begin, end). */
INLINE mask between(int64_t begin, int64_t end) {
  static const int32_t window[3 * LANES] = {[LANES ... 2 * LANES - 1] = -1};
  const int32_t *from = window + LANES - most(least(begin, LANES), 0), *to = window + 2 * LANES - most(least(end, LANES), 0);
  return *(const loose_mask *)from & *(const loose_mask *)to;
}

static line lined(int64_t step, int64_t begin, int64_t end, int64_t length) {
  line l = {.step = step, .begin = least(begin, length), .end = least(end, length), .length = length};
  const int64_t last = most(length - LANES, 0);
  l.reach = step * last + step * LANES - step + 1;
  l.simple = step <= 2 && begin <= LANES && end >= last;
  l.first = between(begin, end);
  l.last = between(begin - last, end - last);
  return l;
}

/* `count` rows in whole vectors, the last over the one before; shorter ones reach over the next row's beginning. */
INLINE void copy_vectors(const line *l, const int step, const float *source, int64_t stride, float *row, int64_t pitch,
                         int64_t count) {
  const int64_t last = l->length - LANES;
  const mask at_first = l->first, at_last = l->last;
  if (last <= 0)
    for (; count > 0; count--, source += stride, row += pitch) store(row, masked(every(source, step), at_first));
  else
    for (; count > 0; count--, source += stride, row += pitch) {
      store(row, masked(every(source, step), at_first));
      for (int64_t c = LANES; c < last; c += LANES) store(row + c, every(source + step * c, step));
      store(row + last, masked(every(source + step * last, step), at_last));
    }
}

/* Where vectors would read or write too far. */
static OUTLINE void copy_carefully(const line *l, const float *source, float *row) {
  zero(row, l->begin);
  if (l->step == 1)
    move(row + l->begin, source + l->begin, l->end - l->begin);
  else
    for (int64_t c = l->begin; c < l->end; c++) row[c] = source[c * l->step];
  zero(row + l->end, l->length - l->end);
}

/* What a plane takes of an image: its rows [first, stop) are the image's from `top` + first * stride on, each from column
   `left` on, and are written from `lead` on; the plane's last row is shorter. */
typedef struct {
  line any, bottom;
  int64_t top, left, lead, first, stop;
} view;

static OUTLINE view seen(const mp_layer *l, const geometry *at, int64_t down, int64_t across) {
  const int64_t height = l->in_size[0], width = l->in_size[1], sh = l->stride[0], sw = l->stride[1];
  const int64_t column = across * l->dilation[1], left = (at->kind == SHIFTED ? column : rest(column, sw)) - l->pad[1];
  const int64_t begin = left < 0 ? steps(-left, sw) : 0;
  const int64_t end = most(begin, least(steps(most(width - left, 0), sw), at->pitch));
  /* Where the image's first float is aligned, the zeros before it go to the row above. */
  const int64_t ahead = (at->lead + begin) % LANES ? 0 : begin;
  const int64_t last_row = at->plane - at->lead - (at->rows - 1) * at->pitch;
  view v = {.left = left + ahead * sw, .lead = at->lead + ahead, .top = rest(down * l->dilation[0], sh) - l->pad[0]};
  v.any = lined(sw, begin - ahead, end - ahead, at->pitch);
  v.bottom = lined(sw, begin - ahead, end - ahead, last_row - ahead);
  v.first = least(v.top < 0 ? steps(-v.top, sh) : 0, at->rows);
  v.stop = most(v.first, least(steps(most(height - v.top, 0), sh), at->rows));
  return v;
}

/* `count` rows of the `floats` at x: the first is at `source`, and they are `stride` apart. Nothing is written from `behind`
   on. */
static OUTLINE void copy_rows(const line *l, const float *x, int64_t floats, int64_t source, int64_t stride, float *row,
                              int64_t pitch, int64_t count, const float *behind) {
  const float *last = row + pitch * (count - 1) + most(l->length, LANES);
  int64_t r = 0, whole = l->simple ? count : 0;
  for (; whole > 0 && (source + (whole - 1) * stride + l->reach > floats || last > behind); last -= pitch) whole--;
  for (; r < whole && source + r * stride < 0; r++) copy_carefully(l, x + source + r * stride, row + r * pitch);
  if (l->step == 1)
    copy_vectors(l, 1, x + source + r * stride, stride, row + r * pitch, pitch, whole - r);
  else
    copy_vectors(l, 2, x + source + r * stride, stride, row + r * pitch, pitch, whole - r);
  for (r = most(r, whole); r < count; r++) copy_carefully(l, x + source + r * stride, row + r * pitch);
}

/* The planes of `channels` channels at x. */
static void copy(const mp_layer *l, const geometry *at, const float *x, float *to, int64_t channels) {
  const int64_t image = l->in_size[0] * l->in_size[1], stride = l->stride[0] * l->in_size[1], floats = channels * image;
  if (at->same) {
    move(to, x, floats);
    return;
  }
  for (int64_t down = 0; down < at->phases[0]; down++)
    for (int64_t across = 0; across < at->phases[1]; across++) {
      const view v = seen(l, at, down, across);
      const int64_t full = least(v.stop, at->rows - 1), zeros = v.lead + v.first * at->pitch;
      float *plane = to + (down * at->phases[1] + across) * at->plane;
      for (int64_t channel = 0; channel < channels; channel++, plane += channel_floats(at)) {
        const float *behind = to + (channel + 1) * channel_floats(at); /* the channel's other planes are written later */
        const int64_t source = channel * image + v.top * l->in_size[1] + v.left;
        zero(plane, least(zeros, at->plane));
        copy_rows(&v.any, x, floats, source + v.first * stride, stride, plane + zeros, at->pitch, full - v.first, behind);
        float *below = plane + v.lead + v.stop * at->pitch;
        if (v.stop < at->rows)
          zero(below, plane + at->plane - below);
        else if (v.stop > v.first)
          copy_rows(&v.bottom, x, floats, source + full * stride, 0, plane + v.lead + full * at->pitch, 0, 1, behind);
      }
    }
}
