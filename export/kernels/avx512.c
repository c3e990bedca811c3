/* 32 registers of 16 floats. */
#include <immintrin.h>

#define SET mp_avx512
#define NAME "avx512"
#define LANES 16
#define MAX_ROWS 16
#define MAX_QUADS 5
#define AHEAD 1024
#define LARGER(low, x) (vector) _mm512_max_ps((__m512)(low), (__m512)(x))
#define SMALLER(high, x) (vector) _mm512_min_ps((__m512)(high), (__m512)(x))
#define EVEN_THEN_ODD 0, 2, 4, 6, 8, 10, 12, 14, 17, 19, 21, 23, 25, 27, 29, 31
#define EVEN_PAIRS 0, 2, 16, 18, 4, 6, 20, 22, 8, 10, 24, 26, 12, 14, 28, 30
#define ODD_PAIRS 1, 3, 17, 19, 5, 7, 21, 23, 9, 11, 25, 27, 13, 15, 29, 31
#define IN_ORDER 0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15
#define NONE(n)
#define KERNELS(R, Q)                                                                                      \
  R(1) R(2) R(3) R(4) R(5) R(6) R(7) R(8) R(9) R(10) R(11) R(12) R(13) R(14) R(15) R(16) Q(1) Q(2) Q(3) Q(4) Q(5)
#include "lanes.h"
