/* What the runner uses of ONNX Runtime's C interface beside ort_api.h's, declared in the same way. */
#ifndef MOBILEPRUNE_ORT_SESSION_H
#define MOBILEPRUNE_ORT_SESSION_H

#include "ort_api.h"

enum { ORT_LOG_FATAL = 4, ORT_ARENA_ALLOCATOR = 1, ORT_MEMORY_DEFAULT = 0 };

typedef struct ort_env ort_env;
typedef struct ort_session ort_session;
typedef struct ort_memory ort_memory;
typedef struct ort_type ort_type;
typedef struct ort_run_options ort_run_options;

typedef struct {
  ort_base base;
  const char *(*version)(void);
} ort_named_base;

#define ORT_SESSION_ENTRIES(E)                                                                       \
  E(2, const char *, GetErrorMessage, (const ort_status *))                                          \
  E(3, ort_status *, CreateEnv, (int severity, const char *name, ort_env **))                        \
  E(6, ort_status *, DisableTelemetryEvents, (const ort_env *))                                      \
  E(7, ort_status *, CreateSession, (const ort_env *, const char *path, const ort_options *, ort_session **)) \
  E(9, ort_status *, Run,                                                                            \
    (ort_session *, const ort_run_options *, const char *const *, const ort_value *const *, size_t,  \
     const char *const *, size_t, ort_value **))                                                     \
  E(10, ort_status *, CreateSessionOptions, (ort_options **))                                        \
  E(14, ort_status *, EnableProfiling, (ort_options *, const char *prefix))                          \
  E(22, ort_status *, SetSessionLogSeverityLevel, (ort_options *, int))                              \
  E(24, ort_status *, SetIntraOpNumThreads, (ort_options *, int))                                    \
  E(25, ort_status *, SetInterOpNumThreads, (ort_options *, int))                                    \
  E(30, ort_status *, SessionGetInputCount, (const ort_session *, size_t *))                         \
  E(31, ort_status *, SessionGetOutputCount, (const ort_session *, size_t *))                        \
  E(36, ort_status *, SessionGetInputName, (const ort_session *, size_t, ort_allocator *, char **))  \
  E(37, ort_status *, SessionGetOutputName, (const ort_session *, size_t, ort_allocator *, char **)) \
  E(49, ort_status *, CreateTensorWithDataAsOrtValue,                                                \
    (const ort_memory *, void *, size_t, const int64_t *, size_t, int type, ort_value **))           \
  E(50, ort_status *, IsTensor, (const ort_value *, int *))                                          \
  E(69, ort_status *, CreateCpuMemoryInfo, (int allocator, int memory, ort_memory **))               \
  E(78, ort_status *, GetAllocatorWithDefaultOptions, (ort_allocator **))                            \
  E(96, void, ReleaseValue, (ort_value *))                                                           \
  E(100, void, ReleaseSessionOptions, (ort_options *))                                               \
  E(110, ort_status *, SessionEndProfiling, (ort_session *, ort_allocator *, char **))               \
  E(130, ort_status *, AddSessionConfigEntry, (ort_options *, const char *, const char *))           \
  E(228, ort_status *, RegisterCustomOpsLibrary_V2, (ort_options *, const char *path))

ORT_SESSION_ENTRIES(ORT_DECLARE)

#endif
