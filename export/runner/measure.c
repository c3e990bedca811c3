/* Run times, taken as mobileprune/bench/timing.py takes them: in short blocks, of two models in turn. */
#include "runner.h"

#include <math.h>
#include <stdlib.h>

enum { MIN_BLOCKS = 5, MIN_BLOCK_RUNS = 3, STEADY_BLOCKS = 5, MAX_KEPT = 1000000 };
static const double BLOCK_SECS = 0.05, INTERVAL_SECS = 5, STEADY = 0.02; /* coefficient of variation */

static double secs_since(int64_t start) { return 1e-9 * (double)(now_ns() - start); }

static void *grown(void *memory, size_t *space, size_t size) {
  *space = *space ? 2 * *space : 1024;
  memory = realloc(memory, *space * size);
  if (!memory) fail(INFERENCE_FAILED, "out of memory for run times");
  return memory;
}

static int64_t timed(const model *m, const ort_value *input) {
  const int64_t start = now_ns();
  ort_value *output = run(m, input);
  const int64_t taken = now_ns() - start;
  release(output);
  return taken;
}

/* Runs for BLOCK_SECS and MIN_BLOCK_RUNS at least; gives the seconds that were timed. */
static double block(const model *m, const ort_value *input, timing *t) {
  int64_t total = 0;
  size_t runs = 0;
  for (; runs < MIN_BLOCK_RUNS || 1e-9 * (double)total < BLOCK_SECS; runs++) {
    if (t->count == t->space) t->ns = grown(t->ns, &t->space, sizeof *t->ns);
    total += t->ns[t->count++] = timed(m, input);
  }
  if (t->blocks == t->block_space) t->ends = grown(t->ends, &t->block_space, sizeof *t->ends);
  t->ends[t->blocks++] = t->count;
  return 1e-9 * (double)total;
}

static int ascending(const void *a, const void *b) {
  const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
  return (x > y) - (x < y);
}

static double median(timing *t, size_t index) { /* of one block, which is sorted by it */
  const size_t start = index ? t->ends[index - 1] : 0, count = t->ends[index] - start;
  int64_t *ns = t->ns + start;
  qsort(ns, count, sizeof *ns, ascending);
  return 0.5 * ((double)ns[(count - 1) / 2] + (double)ns[count / 2]);
}

static double variation(timing *t) { /* standard deviation / mean of the last blocks' medians */
  double medians[STEADY_BLOCKS], mean = 0, squares = 0;
  for (int i = 0; i < STEADY_BLOCKS; i++) mean += (medians[i] = median(t, t->blocks - 1 - (size_t)i)) / STEADY_BLOCKS;
  for (int i = 0; i < STEADY_BLOCKS; i++) squares += (medians[i] - mean) * (medians[i] - mean);
  return mean > 0 ? sqrt(squares / (STEADY_BLOCKS - 1)) / mean : 0;
}

/* Until the last blocks of every model are alike, or the time for it is over. */
static void warm_up(const options *o, const model *models, size_t count, const ort_value *input, measurement *found) {
  timing warm[MODELS] = {{0}};
  const int64_t start = now_ns();
  found->warmup_variation = -1;
  while (!found->stable && secs_since(start) < o->warmup_secs && warm[0].count < MAX_KEPT) {
    for (size_t i = 0; i < count; i++) block(&models[i], input, &warm[i]);
    found->warmup_blocks++;
    if (found->warmup_blocks < STEADY_BLOCKS) continue;
    found->warmup_variation = 0;
    for (size_t i = 0; i < count; i++) found->warmup_variation = fmax(found->warmup_variation, variation(&warm[i]));
    found->stable = found->warmup_variation <= STEADY;
  }
  for (size_t i = 0; i < count; i++) free(warm[i].ns), free(warm[i].ends);
}

/* What one model does for as long as asked, in intervals: a phone grows hot. */
static void sustain(const options *o, const model *m, const ort_value *input, measurement *found) {
  const double length = fmin(INTERVAL_SECS, o->sustained_secs);
  const int64_t start = now_ns();
  size_t space = 0;
  while (secs_since(start) < o->sustained_secs) {
    timing t = {0};
    const int64_t began = now_ns();
    const double at = secs_since(start);
    while (secs_since(began) < length && t.count < MAX_KEPT) block(m, input, &t);
    qsort(t.ns, t.count, sizeof *t.ns, ascending);
    if (found->interval_count == space) found->intervals = grown(found->intervals, &space, sizeof *found->intervals);
    found->intervals[found->interval_count++] =
        (interval){at, 1e-6 * (double)t.ns[t.count / 2], 1e-6 * (double)t.ns[t.count * 9 / 10], t.count, fastest_khz()};
    free(t.ns), free(t.ends);
  }
}

measurement measure(const options *o, const model *models, size_t count, const ort_value *input) {
  measurement found = {0};
  for (size_t i = 0; i < count; i++)
    for (int64_t n = 0; n < o->warmup; n++) timed(&models[i], input);
  if (o->warmup) warm_up(o, models, count, input, &found);
  double secs[MODELS] = {0};
  for (int enough = 0; !enough;) {
    enough = 1;
    for (size_t i = 0; i < count; i++) {
      timing *t = &found.times[i];
      secs[i] += block(&models[i], input, t);
      if (t->blocks < MIN_BLOCKS || ((t->count < (size_t)o->runs || secs[i] < o->secs) && t->count < MAX_KEPT)) enough = 0;
    }
  }
  if (o->sustained_secs > 0) sustain(o, models, input, &found);
  return found;
}
