/* result.json: written last, so that its presence means a whole run. */
#include "runner.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>

/* What is removed, or renamed to its name, is gone: a device too, for root. */
void check_place(const char *path) {
  struct stat there;
  if (!stat(path, &there) && !S_ISREG(there.st_mode)) fail(DISK, "cannot write %s: it is no plain file", path);
}

FILE *begin_file(const char *path, char **temporary) {
  const size_t length = strlen(path) + sizeof ".part";
  check_place(path);
  *temporary = room(length, 1);
  snprintf(*temporary, length, "%s.part", path);
  FILE *file = fopen(*temporary, "wb");
  if (!file) fail(DISK, "cannot write %s: %s", path, strerror(errno));
  return file;
}

void end_file(FILE *file, char *temporary, const char *path) {
  const int full = ferror(file);
  if (fclose(file) || full || rename(temporary, path)) {
    const int why = errno;
    remove(temporary);
    fail(DISK, "cannot write %s: %s", path, strerror(why));
  }
  free(temporary);
}

static void quoted(FILE *f, const char *value) {
  fputc('"', f);
  for (const unsigned char *c = (const unsigned char *)value; *c; c++)
    if (*c == '"' || *c == '\\')
      fprintf(f, "\\%c", *c);
    else
      fputc(*c >= ' ' && *c < 127 ? *c : '?', f);
  fputc('"', f);
}

static void text(FILE *f, const char *name, const char *value) {
  fprintf(f, "\"%s\":", name);
  quoted(f, value);
  fputc(',', f);
}

static void known(FILE *f, const char *name, int64_t value) { /* -1: null */
  if (value < 0)
    fprintf(f, "\"%s\":null,", name);
  else
    fprintf(f, "\"%s\":%lld,", name, (long long)value);
}

static void write_vitals(FILE *f, const char *name, const vitals *v) {
  fprintf(f, "\"%s\":{", name);
  known(f, "frequency_khz", v->khz);
  known(f, "temperature_millicelsius", v->millicelsius);
  known(f, "throttles", v->throttles);
  fprintf(f, v->other_cpu_secs < 0 ? "\"other_cpu_secs\":null}," : "\"other_cpu_secs\":%.3f},", v->other_cpu_secs);
}

static void write_blocks(FILE *f, const char *name, const timing *t) {
  fprintf(f, "\"%s\":[", name);
  for (size_t at = 0, b = 0; b < t->blocks; b++) {
    fputs(b ? ",[" : "[", f);
    for (const size_t start = at; at < t->ends[b]; at++) fprintf(f, at > start ? ",%lld" : "%lld", (long long)t->ns[at]);
    fputc(']', f);
  }
  fputs("],", f);
}

static void write_timing(FILE *f, const options *o, const report *r) {
  const measurement *m = r->measured;
  fputs("\"timing\":", f);
  if (!m) {
    fputs("null,", f);
    return;
  }
  fputc('{', f);
  write_blocks(f, "model_ns", &m->times[0]);
  if (o->model[1]) write_blocks(f, "baseline_ns", &m->times[1]);
  fprintf(f, "\"warmup_blocks\":%zu,\"warmup_variation\":", m->warmup_blocks);
  fprintf(f, m->warmup_variation < 0 ? "null," : "%.6g,", m->warmup_variation);
  fprintf(f, "\"stable\":%s,\"measured_secs\":%.6f,", m->stable ? "true" : "false", r->measured_secs);
  write_vitals(f, "before", &r->before);
  write_vitals(f, "after", &r->after);
  fputs("\"sustained\":[", f);
  for (size_t i = 0; i < m->interval_count; i++) {
    const interval *s = &m->intervals[i];
    fprintf(f, "%s{\"at_secs\":%.3f,\"runs\":%zu,\"p50_ms\":%.6g,", i ? "," : "", s->at_secs, s->runs, s->p50_ms);
    known(f, "frequency_khz", s->khz);
    fprintf(f, "\"p90_ms\":%.6g}", s->p90_ms);
  }
  fputs("]},", f);
}

void write_report(const options *o, const report *r) {
  char *temporary = NULL, name[256], features[4096];
  struct utsname system;
  FILE *f = begin_file(o->result, &temporary);
  cpu_facts(name, features);
  if (uname(&system)) memset(&system, 0, sizeof system);
  fputs("{\"schema\":\"mobileprune.runner/1\",", f);
  text(f, "model_sha256", o->sha256[0]);
  text(f, "runtime", r->runtime);
  fprintf(f, "\"operators\":%s,\"threads\":%lld,", o->operators ? "true" : "false", (long long)o->threads);
  fprintf(f, "\"outputs\":{\"shape\":[%lld,%lld],\"bytes\":%lld,", (long long)o->shape[0], (long long)r->classes,
          (long long)r->output_bytes);
  fprintf(f, "\"sha256\":\"%s\"},", r->output_sha256);
  fprintf(f, "\"load_ms\":%.6f,\"first_run_ms\":%.6f,", r->load_ms, r->first_run_ms);
  known(f, "memory_before_bytes", r->memory_before);
  known(f, "peak_memory_bytes", r->memory_peak);
  write_timing(f, o, r);
  fputs("\"profiles\":[", f);
  for (int i = 0; i < MODELS && r->profiles[i]; i++) {
    if (i) fputc(',', f);
    quoted(f, r->profiles[i]);
  }
  fputs("],\"machine\":{", f);
  text(f, "architecture", system.machine);
  text(f, "system", system.sysname);
  text(f, "cpu", name);
  text(f, "features", features);
  fprintf(f, "\"cores\":%ld}}\n", cores());
  end_file(f, temporary, o->result);
}
