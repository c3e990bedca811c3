/* The device runner: runs a model file on the ONNX Runtime that it is given, and tells what came out and what it took.
   Plain C and POSIX; nothing is linked but the C library. README.md of export/ has its command line. */
#ifndef MOBILEPRUNE_RUNNER_H
#define MOBILEPRUNE_RUNNER_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "ort_session.h"

/* Exit codes. */
enum { USAGE = 2, WRONG_SHA256 = 3, NO_RUNTIME = 4, MODEL_REFUSED = 5, INFERENCE_FAILED = 6, DISK = 7 };
enum { RANK = 4, SHA256_TEXT = 65, MODELS = 2 };

/* One line to stderr, then the end. */
_Noreturn void fail(int code, const char *format, ...) __attribute__((format(printf, 2, 3)));
void *room(size_t count, size_t size); /* zeroed; never NULL */

typedef struct {
  const char *runtime, *operators, *inputs, *outputs, *result, *profile, *cpus;
  const char *model[MODELS], *sha256[MODELS]; /* the one in question, and its baseline or NULL */
  int64_t shape[RANK];                        /* N, C, H, W of the inputs */
  int64_t threads, batch, runs, warmup;
  double secs, warmup_secs, sustained_secs;
  int count_markers;
} options;

options parsed(int argc, char **argv);

/* sha256.c */
typedef struct {
  uint32_t state[8];
  uint64_t bytes;
  unsigned char block[64];
} sha256;
sha256 sha256_begin(void);
void sha256_add(sha256 *, const void *bytes, size_t count);
void sha256_end(sha256 *, char text[SHA256_TEXT]);
uint64_t sha256_of_file(const char *path, char text[SHA256_TEXT]); /* gives its bytes */

/* session.c */
typedef struct {
  ort_session *session;
  char *input, *output;
  double load_ms;
} model;
typedef struct {
  ort_value *value;
  const float *numbers; /* (n, classes) */
  int64_t classes;
} answer;
const char *open_runtime(const options *); /* gives its version */
model load(const options *, const char *path, const char *profile);
char *end_profile(model *); /* gives the file's name */
ort_value *input_tensor(float *numbers, const int64_t shape[RANK]);
ort_value *run(const model *, const ort_value *input);
answer checked(ort_value *output, int64_t n);
void release(ort_value *);

/* measure.c */
typedef struct {
  int64_t *ns; /* run times */
  size_t count, space;
  size_t *ends; /* of each block, in ns */
  size_t blocks, block_space;
} timing;
typedef struct {
  double at_secs, p50_ms, p90_ms;
  size_t runs;
  int64_t khz;
} interval; /* of a sustained run */
typedef struct {
  timing times[MODELS];
  size_t warmup_blocks;
  double warmup_variation; /* < 0: there was no warm-up in blocks */
  int stable;
  interval *intervals;
  size_t interval_count;
} measurement;
measurement measure(const options *, const model *models, size_t count, const ort_value *input);

/* system.c */
typedef struct {
  int64_t khz, millicelsius, throttles; /* -1: the system does not tell */
  double other_cpu_secs;                /* of all other processes since boot; < 0 likewise */
} vitals;
int64_t now_ns(void); /* of a clock that never goes back */
vitals vital_signs(void);
int64_t fastest_khz(void); /* of the CPUs that this process may use, now; -1: unknown */
int64_t peak_memory_bytes(void);
void pin(const char *cpus);
enum { MARK_BEGIN = 1, MARK_END = 2 };
void mark(int tag); /* a system call that every system refuses, and an emulator sees */
long cores(void);
void cpu_facts(char name[256], char features[4096]);

/* report.c */
typedef struct {
  const char *runtime;
  int64_t classes, output_bytes, memory_before, memory_peak;
  double load_ms, first_run_ms;
  char output_sha256[SHA256_TEXT];
  const measurement *measured; /* or NULL */
  vitals before, after;
  double measured_secs;
  char *profiles[MODELS];
} report;
void write_report(const options *, const report *);
void check_place(const char *path);
FILE *begin_file(const char *path, char **temporary);
void end_file(FILE *, char *temporary, const char *path); /* by one rename */

#endif
