/* A plugin for QEMU's user emulation: counts the instructions that a program executes between two marks, which it sets by
   the system call getpriority(MARK, BEGIN | END). The kernel refuses that `which`, so it has no effect. Every END writes
   one line with the count. For programs of one thread: what others execute meanwhile is counted too.

   QEMU's plugin interface in declarations of our own, since distributions ship no header. A block's callback, and not the
   faster inline addition, because it is what QEMU 4.2 and QEMU 10 have in common. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { MARK = 0x6d70, BEGIN = 1, END = 2 };
enum { GETPRIORITY = 141 }; /* of aarch64, as of every 64-bit system that took the common table of system calls */
enum { READS_NO_REGISTERS = 0 };

typedef uint64_t plugin_id;
struct block; /* a translated block of instructions */
typedef void (*translated)(plugin_id, struct block *);
typedef void (*executed)(unsigned cpu, void *data);
typedef void (*called)(plugin_id, unsigned cpu, int64_t number, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t,
                       uint64_t, uint64_t);
extern void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id, translated);
extern size_t qemu_plugin_tb_n_insns(const struct block *);
extern void qemu_plugin_register_vcpu_tb_exec_cb(struct block *, executed, int flags, void *data);
extern void qemu_plugin_register_vcpu_syscall_cb(plugin_id, called);
extern void *qemu_plugin_scoreboard_new(size_t) __attribute__((weak));

#define PUBLIC __attribute__((visibility("default")))
/* QEMU 4.2 to 8 take interface 1, QEMU 9 and later 2 and up; what is used here is the same in all. */
PUBLIC int qemu_plugin_version = 1;
__attribute__((constructor)) static void choose_version(void) {
  if (qemu_plugin_scoreboard_new) qemu_plugin_version = 2;
}

static uint64_t counted, begun;
static FILE *out;

static void add(unsigned cpu, void *length) {
  (void)cpu;
  counted += (uintptr_t)length;
}

static void watch(plugin_id id, struct block *block) {
  (void)id;
  qemu_plugin_register_vcpu_tb_exec_cb(block, add, READS_NO_REGISTERS, (void *)(uintptr_t)qemu_plugin_tb_n_insns(block));
}

static void mark(plugin_id id, unsigned cpu, int64_t number, uint64_t which, uint64_t who, uint64_t c, uint64_t d, uint64_t e,
                 uint64_t f, uint64_t g, uint64_t h) {
  (void)id, (void)cpu, (void)c, (void)d, (void)e, (void)f, (void)g, (void)h;
  if (number != GETPRIORITY || which != MARK) return;
  if (who == BEGIN) begun = counted;
  if (who != END) return;
  fprintf(out, "%" PRIu64 "\n", counted - begun);
  fflush(out);
}

/* Argument: out=FILE. */
PUBLIC int qemu_plugin_install(plugin_id id, const void *info, int argc, char **argv) {
  (void)info;
  for (int i = 0; i < argc; i++)
    if (!strncmp(argv[i], "out=", 4)) out = fopen(argv[i] + 4, "w");
  if (!out) return 1;
  qemu_plugin_register_vcpu_tb_trans_cb(id, watch);
  qemu_plugin_register_vcpu_syscall_cb(id, mark);
  return 0;
}
