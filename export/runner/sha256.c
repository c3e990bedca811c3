/* SHA-256 (FIPS 180-4). */
#include <errno.h>
#include <string.h>

#include "runner.h"

static const uint32_t K[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5, 0xd807aa98, 0x12835b01, 0x243185be,
    0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa,
    0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967, 0x27b70a85,
    0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3,
    0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f,
    0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

static uint32_t turned(uint32_t x, int by) { return x >> by | x << (32 - by); }

static void digest_block(uint32_t state[8], const unsigned char block[64]) {
  uint32_t w[64], v[8];
  for (int i = 0; i < 16; i++)
    w[i] = (uint32_t)block[4 * i] << 24 | (uint32_t)block[4 * i + 1] << 16 | (uint32_t)block[4 * i + 2] << 8 | block[4 * i + 3];
  for (int i = 16; i < 64; i++) {
    const uint32_t a = turned(w[i - 15], 7) ^ turned(w[i - 15], 18) ^ w[i - 15] >> 3;
    const uint32_t b = turned(w[i - 2], 17) ^ turned(w[i - 2], 19) ^ w[i - 2] >> 10;
    w[i] = w[i - 16] + a + w[i - 7] + b;
  }
  memcpy(v, state, sizeof v);
  for (int i = 0; i < 64; i++) {
    const uint32_t s1 = turned(v[4], 6) ^ turned(v[4], 11) ^ turned(v[4], 25), chosen = (v[4] & v[5]) ^ (~v[4] & v[6]);
    const uint32_t s0 = turned(v[0], 2) ^ turned(v[0], 13) ^ turned(v[0], 22);
    const uint32_t most = (v[0] & v[1]) ^ (v[0] & v[2]) ^ (v[1] & v[2]), t = v[7] + s1 + chosen + K[i] + w[i];
    memmove(v + 1, v, 7 * sizeof *v);
    v[4] += t;
    v[0] = t + s0 + most;
  }
  for (int i = 0; i < 8; i++) state[i] += v[i];
}

sha256 sha256_begin(void) {
  return (sha256){.state = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19}};
}

void sha256_add(sha256 *hash, const void *bytes, size_t count) {
  const unsigned char *next = bytes;
  while (count) {
    const size_t at = hash->bytes % 64, part = count < 64 - at ? count : 64 - at;
    memcpy(hash->block + at, next, part);
    hash->bytes += part;
    next += part;
    count -= part;
    if (at + part == 64) digest_block(hash->state, hash->block);
  }
}

void sha256_end(sha256 *hash, char text[SHA256_TEXT]) {
  const uint64_t bits = 8 * hash->bytes;
  const unsigned char padding[64] = {0x80};
  unsigned char length[8];
  for (int i = 0; i < 8; i++) length[i] = (unsigned char)(bits >> (56 - 8 * i));
  sha256_add(hash, padding, 1 + (119 - hash->bytes % 64) % 64);
  sha256_add(hash, length, sizeof length);
  for (int i = 0; i < 8; i++) snprintf(text + 8 * i, 9, "%08x", hash->state[i]);
}

uint64_t sha256_of_file(const char *path, char text[SHA256_TEXT]) {
  enum { CHUNK = 1 << 16 };
  FILE *file = fopen(path, "rb");
  if (!file) fail(DISK, "cannot read %s: %s", path, strerror(errno));
  unsigned char *chunk = room(CHUNK, 1);
  sha256 hash = sha256_begin();
  uint64_t total = 0;
  for (size_t got; (got = fread(chunk, 1, CHUNK, file)) > 0; total += got) sha256_add(&hash, chunk, got);
  if (ferror(file)) fail(DISK, "cannot read %s: %s", path, strerror(errno));
  fclose(file);
  sha256_end(&hash, text);
  return total;
}
