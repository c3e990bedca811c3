/* 16 registers of 8 floats. */
#include <immintrin.h>

#define SET mp_avx2
#define NAME "avx2"
#define LANES 8
#define MAX_ROWS 12
#define MAX_QUADS 3
#define AHEAD 1024
#define LARGER(low, x) (vector) _mm256_max_ps((__m256)(low), (__m256)(x))
#define SMALLER(high, x) (vector) _mm256_min_ps((__m256)(high), (__m256)(x))
#define EVEN_THEN_ODD 0, 2, 4, 6, 9, 11, 13, 15
#define EVEN_PAIRS 0, 2, 8, 10, 4, 6, 12, 14
#define ODD_PAIRS 1, 3, 9, 11, 5, 7, 13, 15
#define IN_ORDER 0, 1, 4, 5, 2, 3, 6, 7
#define NONE(n)
#define KERNELS(R, Q) R(1) R(2) R(3) R(4) R(5) R(6) R(7) R(8) R(9) R(10) R(11) R(12) Q(1) Q(2) Q(3)
#include "lanes.h"
