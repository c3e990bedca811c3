/* Vectors of 4 floats, which every compiler lowers to what its target has: NEON with 32 registers on aarch64, SSE2 with
   16 on x86-64, single floats elsewhere. */
#define SET mp_portable
#define LANES 4
#define EVEN_THEN_ODD 0, 2, 5, 7
#define EVEN_PAIRS 0, 2, 4, 6
#define ODD_PAIRS 1, 3, 5, 7
#define IN_ORDER 0, 1, 2, 3
#define NONE(n)
#if defined(__aarch64__)
#define NAME "neon"
#define MAX_ROWS 24
#define MAX_QUADS 6
#define KERNELS(R, Q)                                                                                      \
  R(1) R(2) R(3) R(4) R(5) R(6) R(7) R(8) R(9) R(10) R(11) R(12) R(13) R(14) R(15) R(16) R(17) R(18) R(19) R(20) \
  R(21) R(22) R(23) R(24) Q(1) Q(2) Q(3) Q(4) Q(5) Q(6)
#elif defined(MP_X86) /* for processors without AVX2, of which hardly any is left: small */
#define NAME "portable"
#define MAX_ROWS 8
#define MAX_QUADS 2
#define KERNELS(R, Q) R(1) R(2) R(3) R(4) R(5) R(6) R(7) R(8) Q(1) Q(2)
#else
#define NAME "portable"
#define MAX_ROWS 12
#define MAX_QUADS 2
#define KERNELS(R, Q) R(1) R(2) R(3) R(4) R(5) R(6) R(7) R(8) R(9) R(10) R(11) R(12) Q(1) Q(2)
#endif
#include "lanes.h"
