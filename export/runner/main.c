/* runner --runtime LIBRARY --model FILE --sha256 HEX --inputs FILE --shape N,C,H,W --outputs FILE --result FILE [...]
   runner --hash FILE...    "HEX BYTES" of each file, "-" for one that is not there */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runner.h"

enum { PROFILED_RUNS = 20 };

static int hash_files(int count, char **names) {
  for (int i = 0; i < count; i++) {
    char text[SHA256_TEXT];
    struct stat found;
    if (stat(names[i], &found) || !S_ISREG(found.st_mode))
      puts("-");
    else {
      const uint64_t bytes = sha256_of_file(names[i], text);
      printf("%s %" PRIu64 "\n", text, bytes);
    }
  }
  return 0;
}

static void check_model(const char *path, const char *expected) {
  char found[SHA256_TEXT];
  sha256_of_file(path, found);
  if (strcmp(found, expected)) fail(WRONG_SHA256, "%s: sha256 is %s, must be %s", path, found, expected);
}

static size_t image_numbers(const options *o) { return (size_t)(o->shape[1] * o->shape[2] * o->shape[3]); }

static FILE *open_inputs(const options *o) {
  FILE *file = fopen(o->inputs, "rb");
  struct stat found;
  if (!file || fstat(fileno(file), &found)) fail(DISK, "cannot read %s: %s", o->inputs, strerror(errno));
  const uint64_t expected = (uint64_t)o->shape[0] * image_numbers(o) * sizeof(float);
  if ((uint64_t)found.st_size != expected)
    fail(USAGE, "%s: has %lld bytes, --shape says %" PRIu64, o->inputs, (long long)found.st_size, expected);
  return file;
}

/* Reads n images; the tensor looks at `numbers`. */
static ort_value *next_batch(const options *o, FILE *file, float *numbers, int64_t n) {
  const size_t count = (size_t)n * image_numbers(o);
  if (fread(numbers, sizeof *numbers, count, file) != count) fail(DISK, "cannot read %s: it ended early", o->inputs);
  return input_tensor(numbers, (int64_t[]){n, o->shape[1], o->shape[2], o->shape[3]});
}

/* Every input's output into the file; gives the first batch, for what is timed. */
static ort_value *answer_all(const options *o, const model *m, report *r) {
  const int64_t n = o->shape[0], size = o->batch < n ? o->batch : n;
  FILE *in = open_inputs(o);
  char *temporary = NULL;
  FILE *out = begin_file(o->outputs, &temporary);
  float *first = room(image_numbers(o), (size_t)size * sizeof *first), *rest = room(image_numbers(o), (size_t)size * sizeof *rest);
  ort_value *kept = NULL;
  sha256 hash = sha256_begin();
  for (int64_t at = 0, part; at < n; at += part) {
    part = n - at < size ? n - at : size;
    ort_value *input = next_batch(o, in, at ? rest : first, part);
    const int64_t start = now_ns();
    ort_value *output = run(m, input);
    if (!at) r->first_run_ms = 1e-6 * (double)(now_ns() - start);
    const answer a = checked(output, part);
    if (at && a.classes != r->classes) fail(MODEL_REFUSED, "the model's number of classes changes");
    r->classes = a.classes;
    const size_t bytes = (size_t)(part * a.classes) * sizeof(float);
    fwrite(a.numbers, 1, bytes, out); /* errors show at its end */
    sha256_add(&hash, a.numbers, bytes);
    r->output_bytes += (int64_t)bytes;
    release(a.value);
    if (at)
      release(input);
    else
      kept = input;
  }
  free(rest);
  fclose(in);
  end_file(out, temporary, o->outputs);
  sha256_end(&hash, r->output_sha256);
  return kept;
}

static void count_one(const model *m, const ort_value *input) {
  mark(MARK_BEGIN);
  ort_value *output = run(m, input);
  mark(MARK_END);
  release(output);
}

static char *profiled(const options *o, const char *path, const char *prefix, const ort_value *input) {
  model m = load(o, path, prefix);
  for (int i = 0; i < PROFILED_RUNS; i++) release(run(&m, input));
  return end_profile(&m);
}

static void profile_all(const options *o, size_t count, const ort_value *input, report *r) {
  for (size_t i = 0; i < count; i++) {
    char prefix[512];
    snprintf(prefix, sizeof prefix, "%s-%s", o->profile, i ? "baseline" : "model");
    r->profiles[i] = profiled(o, o->model[i], prefix, input);
  }
}

int main(int argc, char **argv) {
  if (argc > 1 && !strcmp(argv[1], "--hash")) return hash_files(argc - 2, argv + 2);
  const options o = parsed(argc, argv);
  const size_t count = o.model[1] ? 2 : 1;
  for (size_t i = 0; i < count; i++) check_model(o.model[i], o.sha256[i]);
  if (o.cpus) pin(o.cpus);
  check_place(o.result);
  remove(o.result); /* of an earlier run */
  report r = {.runtime = open_runtime(&o), .memory_before = peak_memory_bytes()};
  model models[MODELS] = {load(&o, o.model[0], NULL)};
  const ort_value *input = answer_all(&o, &models[0], &r);
  r.memory_peak = peak_memory_bytes();
  r.load_ms = models[0].load_ms;
  if (count > 1) {
    models[1] = load(&o, o.model[1], NULL);
    release(run(&models[1], input));
  }
  if (o.count_markers)
    for (size_t i = 0; i < count; i++) {
      for (int64_t n = 0; n < o.warmup; n++) release(run(&models[i], input));
      count_one(&models[i], input);
    }
  measurement measured;
  if (o.runs && !o.count_markers) {
    const int64_t start = now_ns();
    r.before = vital_signs();
    measured = measure(&o, models, count, input);
    r.after = vital_signs();
    r.measured_secs = 1e-9 * (double)(now_ns() - start);
    r.measured = &measured;
  }
  if (o.profile) profile_all(&o, count, input, &r);
  write_report(&o, &r);
  fflush(stdout);
  _exit(0); /* the runtime's threads are not waited for */
}
