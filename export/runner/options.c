/* The command line, and the ways to give up. */
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runner.h"

enum { MAX_THREADS = 256, MAX_DIMENSION = 1 << 24, MAX_BATCH = 4096, MAX_RUNS = 1000000, MAX_SECS = 86400 };
static const int64_t MAX_NUMBERS = (int64_t)1 << 40, MAX_IMAGE = 1 << 26; /* all together, and one image's */

void fail(int code, const char *format, ...) {
  char text[1024];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  for (unsigned char *c = (unsigned char *)text; *c; c++)
    if (*c < ' ') *c = ' '; /* the runtime's messages have several lines */
  fprintf(stderr, "runner: %s\n", text);
  fflush(NULL);
  _exit(code); /* without the runtime's own way to end */
}

void *room(size_t count, size_t size) {
  void *memory = calloc(count ? count : 1, size);
  if (!memory) fail(INFERENCE_FAILED, "out of memory: %zu x %zu bytes", count, size);
  return memory;
}

static int64_t whole(const char *name, const char *text, char **end, int64_t low, int64_t high) {
  errno = 0;
  const long long value = strtoll(text, end, 10);
  if (errno || *end == text || value < low || value > high)
    fail(USAGE, "%s %s: must be a whole number from %lld to %lld", name, text, (long long)low, (long long)high);
  return value;
}

static int64_t number(const char *name, const char *text, int64_t low, int64_t high) {
  char *end = NULL;
  const int64_t value = whole(name, text, &end, low, high);
  if (*end) fail(USAGE, "%s %s: must be a whole number", name, text);
  return value;
}

static double seconds(const char *name, const char *text) {
  char *end = NULL;
  const double value = strtod(text, &end);
  if (end == text || *end || !(value >= 0 && value <= MAX_SECS)) fail(USAGE, "%s %s: must be seconds from 0 to %d", name, text, MAX_SECS);
  return value;
}

static void shape(const char *name, const char *text, int64_t found[RANK]) {
  int64_t total = 1;
  const char *next = text;
  for (int i = 0; i < RANK; i++) {
    char *end = NULL;
    found[i] = whole(name, next, &end, 1, MAX_DIMENSION);
    if (*end != (i + 1 < RANK ? ',' : '\0')) fail(USAGE, "%s %s: must be N,C,H,W", name, text);
    next = end + 1;
    if (found[i] > MAX_NUMBERS / total) fail(USAGE, "%s %s: is too large", name, text);
    total *= found[i];
  }
  if (total / found[0] > MAX_IMAGE) fail(USAGE, "%s %s: is too large", name, text);
}

static void need(const char *name, const char *value) {
  if (!value) fail(USAGE, "%s is missing", name);
}

options parsed(int argc, char **argv) {
  options o = {.threads = 1, .batch = 256, .warmup_secs = 10};
  const struct {
    const char *name, **text;
    int64_t *number, low, high;
    double *secs;
  } known[] = {
      {.name = "--runtime", .text = &o.runtime},
      {.name = "--operators", .text = &o.operators},
      {.name = "--model", .text = &o.model[0]},
      {.name = "--sha256", .text = &o.sha256[0]},
      {.name = "--baseline", .text = &o.model[1]},
      {.name = "--baseline-sha256", .text = &o.sha256[1]},
      {.name = "--inputs", .text = &o.inputs},
      {.name = "--outputs", .text = &o.outputs},
      {.name = "--result", .text = &o.result},
      {.name = "--profile", .text = &o.profile},
      {.name = "--cpus", .text = &o.cpus},
      {.name = "--threads", .number = &o.threads, .low = 1, .high = MAX_THREADS},
      {.name = "--batch", .number = &o.batch, .low = 1, .high = MAX_BATCH},
      {.name = "--runs", .number = &o.runs, .high = MAX_RUNS},
      {.name = "--warmup", .number = &o.warmup, .high = MAX_RUNS},
      {.name = "--secs", .secs = &o.secs},
      {.name = "--warmup-secs", .secs = &o.warmup_secs},
      {.name = "--sustained-secs", .secs = &o.sustained_secs},
  };
  for (int i = 1; i < argc; i++) {
    const char *name = argv[i];
    if (!strcmp(name, "--count-markers")) {
      o.count_markers = 1;
      continue;
    }
    if (i + 1 == argc) fail(USAGE, "%s: is no option, or its value is missing", name);
    const char *value = argv[++i];
    size_t at = 0;
    while (at < sizeof known / sizeof *known && strcmp(name, known[at].name)) at++;
    if (!strcmp(name, "--shape"))
      shape(name, value, o.shape);
    else if (at == sizeof known / sizeof *known)
      fail(USAGE, "%s: no such option", name);
    else if (known[at].text)
      *known[at].text = value;
    else if (known[at].number)
      *known[at].number = number(name, value, known[at].low, known[at].high);
    else
      *known[at].secs = seconds(name, value);
  }
  need("--runtime", o.runtime);
  need("--model", o.model[0]);
  need("--sha256", o.sha256[0]);
  need("--inputs", o.inputs);
  need("--shape", o.shape[0] ? "" : NULL);
  need("--outputs", o.outputs);
  need("--result", o.result);
  if (!o.model[1] != !o.sha256[1]) fail(USAGE, "--baseline and --baseline-sha256 go together");
  return o;
}
