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

/* A row in whole vectors, the last over the one before; shorter ones reach over the next row's beginning. */
INLINE void copy_line(const line *l, const int step, const float *source, float *row) {
  const int64_t last = l->length - LANES;
  store(row, masked(every(source, step), l->first));
  if (last <= 0) return;
  for (int64_t c = LANES; c < last; c += LANES) store(row + c, every(source + step * c, step));
  store(row + last, masked(every(source + step * last, step), l->last));
}

/* Where vectors would read or write too far. */
static void copy_carefully(const line *l, const float *source, float *row) {
  zero(row, l->begin);
  if (l->step == 1)
    move(row + l->begin, source + l->begin, l->end - l->begin);
  else
    for (int64_t c = l->begin; c < l->end; c++) row[c] = source[c * l->step];
  zero(row + l->end, l->length - l->end);
}

/* The planes of `channels` channels at `x`, height x width each. */
static void copy(const mp_layer *l, const geometry *at, const float *x, float *to, int64_t channels) {
  const int64_t height = l->in_size[0], width = l->in_size[1], sh = l->stride[0], sw = l->stride[1];
  const int64_t last_row = at->plane - at->lead - (at->rows - 1) * at->pitch;
  for (int64_t down = 0; down < at->phases[0]; down++)
    for (int64_t across = 0; across < at->phases[1]; across++) {
      const int64_t top = rest(down * l->dilation[0], sh) - l->pad[0], column = across * l->dilation[1];
      int64_t left = (at->kind == SHIFTED ? column : rest(column, sw)) - l->pad[1];
      const int64_t begin = left < 0 ? steps(-left, sw) : 0;
      const int64_t end = most(begin, least(steps(most(width - left, 0), sw), at->pitch));
      /* Where the image's first float is aligned, the zeros before it go to the row above. */
      const int64_t ahead = (at->lead + begin) % LANES ? 0 : begin, lead = at->lead + ahead;
      const line any = lined(sw, begin - ahead, end - ahead, at->pitch);
      const line bottom = lined(sw, begin - ahead, end - ahead, last_row - ahead);
      left += ahead * sw;
      float *plane = to + (down * at->phases[1] + across) * at->plane;
      for (int64_t channel = 0; channel < channels; channel++, plane += channel_floats(at)) {
        const float *behind = plane + at->plane;
        float *row = plane + lead;
        zero(plane, lead);
        for (int64_t r = 0, from = top; r < at->rows; r++, from += sh, row += at->pitch) {
          const line *taken = r + 1 < at->rows ? &any : &bottom;
          const int64_t source = (channel * height + from) * width + left;
          if (from < 0 || from >= height)
            zero(row, taken->length);
          else if (!taken->simple || source < 0 || source + taken->reach > channels * height * width ||
                   row + most(taken->length, LANES) > behind)
            copy_carefully(taken, x + source, row);
          else if (sw == 1)
            copy_line(taken, 1, x + source, row);
          else
            copy_line(taken, 2, x + source, row);
        }
      }
    }
}
