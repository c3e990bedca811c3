/* What Linux and Android tell of the machine and of this process; other systems tell less. */
#include "runner.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>
#ifdef __linux__
#include <sched.h>
#include <sys/syscall.h>
#endif

enum { MARK = 0x6d70, MAX_CPUS = 1024, MAX_ZONES = 64, LINE = 4096 };

int64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static int64_t read_number(const char *format, int at) {
  char path[128];
  long long value = -1;
  snprintf(path, sizeof path, format, at);
  FILE *file = fopen(path, "r");
  if (!file) return -1;
  if (fscanf(file, "%lld", &value) != 1) value = -1;
  fclose(file);
  return value;
}

static int may_run_on(int cpu) {
#ifdef __linux__
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  return cpu < CPU_SETSIZE && !sched_getaffinity(0, sizeof allowed, &allowed) && CPU_ISSET(cpu, &allowed);
#else
  return cpu < cores();
#endif
}

long cores(void) {
  const long found = sysconf(_SC_NPROCESSORS_ONLN);
  return found < 1 ? 1 : found > MAX_CPUS ? MAX_CPUS : found;
}

static int64_t over_cpus(const char *format, int sum) {
  int64_t found = -1;
  for (int cpu = 0; cpu < MAX_CPUS; cpu++) {
    const int64_t value = may_run_on(cpu) ? read_number(format, cpu) : -1;
    if (value >= 0) found = sum && found > 0 ? found + value : value > found ? value : found;
  }
  return found;
}

int64_t fastest_khz(void) { return over_cpus("/sys/devices/system/cpu/cpu%d/cpufreq/scaling_cur_freq", 0); }

static int64_t hottest(void) {
  int64_t found = -1;
  for (int zone = 0; zone < MAX_ZONES; zone++) {
    const int64_t value = read_number("/sys/class/thermal/thermal_zone%d/temp", zone);
    if (value > found) found = value;
  }
  return found;
}

static double other_cpu_secs(void) {
  FILE *file = fopen("/proc/stat", "r");
  unsigned long long t[8] = {0};
  if (!file) return -1;
  const int got = fscanf(file, "cpu %llu %llu %llu %llu %llu %llu %llu %llu", t, t + 1, t + 2, t + 3, t + 4, t + 5, t + 6, t + 7);
  fclose(file);
  struct rusage own;
  const long ticks = sysconf(_SC_CLK_TCK);
  if (got != 8 || ticks < 1 || getrusage(RUSAGE_SELF, &own)) return -1;
  double busy = 0; /* all but idle and waiting for disks */
  for (int i = 0; i < 8; i++) busy += i == 3 || i == 4 ? 0 : (double)t[i];
  const double ours = (double)(own.ru_utime.tv_sec + own.ru_stime.tv_sec) + 1e-6 * (double)(own.ru_utime.tv_usec + own.ru_stime.tv_usec);
  return busy / (double)ticks - ours;
}

vitals vital_signs(void) {
  const int64_t throttles = over_cpus("/sys/devices/system/cpu/cpu%d/thermal_throttle/core_throttle_count", 1);
  return (vitals){fastest_khz(), hottest(), throttles, other_cpu_secs()};
}

int64_t peak_memory_bytes(void) {
  FILE *file = fopen("/proc/self/status", "r");
  char line[LINE];
  long long kib = -1;
  while (file && kib < 0 && fgets(line, sizeof line, file)) sscanf(line, "VmHWM: %lld kB", &kib);
  if (file) fclose(file);
  return kib < 0 ? -1 : 1024 * kib;
}

void pin(const char *cpus) {
#ifdef __linux__
  cpu_set_t set;
  CPU_ZERO(&set);
  for (const char *next = cpus;;) {
    char *end = NULL;
    const long cpu = strtol(next, &end, 10);
    if (!isdigit((unsigned char)*next) || cpu < 0 || cpu >= CPU_SETSIZE || (*end && *end != ','))
      fail(USAGE, "--cpus %s: must be numbers of CPUs with commas between", cpus);
    CPU_SET(cpu, &set);
    if (!*end) break;
    next = end + 1;
  }
  if (sched_setaffinity(0, sizeof set, &set)) fail(USAGE, "--cpus %s: this device has no such CPU, or does not let us choose", cpus);
#else
  fail(USAGE, "--cpus %s: this system does not let a process choose its CPUs", cpus);
#endif
}

void mark(int tag) {
#ifdef __linux__
  syscall(SYS_getpriority, MARK, tag);
#else
  fail(USAGE, "--count-markers: not on this system (tag %d)", tag);
#endif
}

/* `text` after "key :" if that is how `line` begins. */
static int field(const char *line, const char *key, char *text, size_t space) {
  const size_t length = strlen(key);
  const char *colon = strchr(line, ':');
  if (strncmp(line, key, length) || !colon || *text) return 0;
  colon += 1 + strspn(colon + 1, " \t");
  snprintf(text, space, "%.*s", (int)strcspn(colon, "\n"), colon);
  return 1;
}

void cpu_facts(char name[256], char features[4096]) {
  FILE *file = fopen("/proc/cpuinfo", "r");
  char line[LINE];
  *name = *features = '\0';
  while (file && fgets(line, sizeof line, file)) {
    field(line, "model name", name, 256);
    field(line, "CPU part", name, 256);
    if (!field(line, "flags", features, 4096)) field(line, "Features", features, 4096);
  }
  if (file) fclose(file);
}
