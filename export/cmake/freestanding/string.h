/* What the library uses of it, for targets whose C library zig does not bring. */
#ifndef MOBILEPRUNE_STRING_H
#define MOBILEPRUNE_STRING_H

#include <stddef.h>

void *memcpy(void *restrict to, const void *restrict from, size_t bytes);
void *memset(void *to, int value, size_t bytes);

#endif
