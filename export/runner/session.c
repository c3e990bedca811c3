/* Sessions of the ONNX Runtime that is there when the runner starts. */
#include "runner.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

static ort_api api; /* of the one runtime of this process */
static ort_env *environment;

/* Ends the runner when the runtime refuses. */
static void need(int code, const char *what, ort_status *status) {
  if (!status) return;
  fail(code, "%s: %s", what, ORT(api, GetErrorMessage)(status));
}

/* A name without a slash would be searched for among the system's libraries. */
static char *as_path(const char *name) {
  const char *prefix = strchr(name, '/') ? "" : "./";
  const size_t length = strlen(prefix) + strlen(name) + 1;
  char *path = room(length, 1);
  snprintf(path, length, "%s%s", prefix, name);
  return path;
}

const char *open_runtime(const options *o) {
  setenv("ORT_DISABLE_TELEMETRY", "1", 1); /* read when the library is loaded */
  void *library = dlopen(as_path(o->runtime), RTLD_NOW | RTLD_LOCAL);
  if (!library) fail(NO_RUNTIME, "cannot load the runtime: %s", dlerror());
  const ort_named_base *(*get_base)(void) = NULL;
  *(void **)&get_base = dlsym(library, "OrtGetApiBase");
  if (!get_base) fail(NO_RUNTIME, "%s is no ONNX Runtime: it has no OrtGetApiBase", o->runtime);
  const ort_named_base *base = get_base();
  api = base->base.get_api(ORT_API_VERSION_USED);
  if (!api) fail(NO_RUNTIME, "ONNX Runtime %s is too old: needs 1.%d", base->version(), ORT_API_VERSION_USED);
  need(NO_RUNTIME, "ONNX Runtime", ORT(api, CreateEnv)(ORT_LOG_FATAL, "mobileprune", &environment));
  need(NO_RUNTIME, "ONNX Runtime", ORT(api, DisableTelemetryEvents)(environment));
  return base->version();
}

static const char *format_of(const char *path) {
  const size_t length = strlen(path);
  return length > 4 && !strcmp(path + length - 4, ".ort") ? "ORT" : "ONNX";
}

static ort_options *session_options(const options *o, const char *path, const char *profile) {
  ort_options *made = NULL;
  need(NO_RUNTIME, "options", ORT(api, CreateSessionOptions)(&made));
  need(NO_RUNTIME, "options", ORT(api, SetSessionLogSeverityLevel)(made, ORT_LOG_FATAL));
  need(NO_RUNTIME, "--threads", ORT(api, SetIntraOpNumThreads)(made, (int)o->threads));
  need(NO_RUNTIME, "options", ORT(api, SetInterOpNumThreads)(made, 1));
  /* As the workstation's sessions, whose answers these are held against; waiting in a loop would be counted as work. */
  need(NO_RUNTIME, "options", ORT(api, AddSessionConfigEntry)(made, "session.intra_op.allow_spinning", "0"));
  need(NO_RUNTIME, "options", ORT(api, AddSessionConfigEntry)(made, "session.load_model_format", format_of(path)));
  if (profile) need(DISK, "--profile", ORT(api, EnableProfiling)(made, profile));
  if (o->operators) need(NO_RUNTIME, "--operators", ORT(api, RegisterCustomOpsLibrary_V2)(made, as_path(o->operators)));
  return made;
}

static ort_allocator *default_allocator(void) {
  ort_allocator *found = NULL;
  need(NO_RUNTIME, "allocator", ORT(api, GetAllocatorWithDefaultOptions)(&found));
  return found;
}

model load(const options *o, const char *path, const char *profile) {
  model m = {0};
  ort_options *how = session_options(o, path, profile);
  const int64_t start = now_ns();
  need(MODEL_REFUSED, path, ORT(api, CreateSession)(environment, path, how, &m.session));
  m.load_ms = 1e-6 * (double)(now_ns() - start);
  ORT(api, ReleaseSessionOptions)(how);
  size_t inputs = 0, outputs = 0;
  need(MODEL_REFUSED, path, ORT(api, SessionGetInputCount)(m.session, &inputs));
  need(MODEL_REFUSED, path, ORT(api, SessionGetOutputCount)(m.session, &outputs));
  if (inputs != 1 || outputs < 1) fail(MODEL_REFUSED, "%s: has %zu inputs and %zu outputs, must have one of each", path, inputs, outputs);
  need(MODEL_REFUSED, path, ORT(api, SessionGetInputName)(m.session, 0, default_allocator(), &m.input));
  need(MODEL_REFUSED, path, ORT(api, SessionGetOutputName)(m.session, 0, default_allocator(), &m.output));
  return m;
}

char *end_profile(model *m) {
  char *name = NULL;
  need(DISK, "--profile", ORT(api, SessionEndProfiling)(m->session, default_allocator(), &name));
  return name;
}

ort_value *input_tensor(float *numbers, const int64_t dimensions[RANK]) {
  static ort_memory *memory;
  ort_value *made = NULL;
  if (!memory) need(INFERENCE_FAILED, "memory", ORT(api, CreateCpuMemoryInfo)(ORT_ARENA_ALLOCATOR, ORT_MEMORY_DEFAULT, &memory));
  size_t bytes = sizeof *numbers;
  for (int i = 0; i < RANK; i++) bytes *= (size_t)dimensions[i];
  need(INFERENCE_FAILED, "input",
       ORT(api, CreateTensorWithDataAsOrtValue)(memory, numbers, bytes, dimensions, RANK, ORT_TYPE_FLOAT, &made));
  return made;
}

ort_value *run(const model *m, const ort_value *input) {
  ort_value *output = NULL;
  const char *in = m->input, *out = m->output;
  need(INFERENCE_FAILED, "inference", ORT(api, Run)(m->session, NULL, &in, &input, 1, &out, 1, &output));
  return output;
}

answer checked(ort_value *output, int64_t n) {
  ort_shape *info = NULL;
  int type = 0, is_tensor = 0;
  size_t rank = 0;
  int64_t dimensions[2] = {0};
  need(MODEL_REFUSED, "output", ORT(api, IsTensor)(output, &is_tensor));
  if (!is_tensor) fail(MODEL_REFUSED, "the model's output is no tensor");
  need(MODEL_REFUSED, "output", ORT(api, GetTensorTypeAndShape)(output, &info));
  need(MODEL_REFUSED, "output", ORT(api, GetTensorElementType)(info, &type));
  need(MODEL_REFUSED, "output", ORT(api, GetDimensionsCount)(info, &rank));
  if (type != ORT_TYPE_FLOAT || rank != 2) fail(MODEL_REFUSED, "the model's output is not float32 of shape (N, classes)");
  need(MODEL_REFUSED, "output", ORT(api, GetDimensions)(info, dimensions, rank));
  ORT(api, ReleaseTensorTypeAndShapeInfo)(info);
  if (dimensions[0] != n || dimensions[1] < 1)
    fail(MODEL_REFUSED, "the model's output has shape (%lld, %lld) for %lld images", (long long)dimensions[0], (long long)dimensions[1],
         (long long)n);
  void *numbers = NULL;
  need(MODEL_REFUSED, "output", ORT(api, GetTensorMutableData)(output, &numbers));
  return (answer){output, numbers, dimensions[1]};
}

void release(ort_value *value) { ORT(api, ReleaseValue)(value); }
