// Random numbers that are a function of a key and an element's number: Philox4x32-7 (Salmon et al. 2011, "Parallel random numbers: as easy
// as 1, 2, 3"). Element e is word e mod 4 of block e div 4; see reference/dropout.py.
#pragma once

#include "kernel.h"

#if defined(__AVX2__)
#include <immintrin.h>
#elif defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace DT_ISA {
namespace {

// As many 64-bit lanes as a register has. A 32-bit word is the low half of a lane; what is in the high half does not matter.
#if defined(__AVX512F__)
constexpr int philox_lanes = 8;
#elif defined(__AVX2__)
constexpr int philox_lanes = 4;
#else
constexpr int philox_lanes = 2;
#endif
typedef std::uint64_t PhiloxLanes __attribute__((vector_size(8 * philox_lanes)));

// The product of a's low halves and m.
static inline PhiloxLanes multiply_words(PhiloxLanes a, std::uint32_t m) {
#if defined(__AVX512F__)
  return PhiloxLanes(_mm512_maskz_mul_epu32(0xff, __m512i(a), _mm512_set1_epi64(m)));
#elif defined(__AVX2__)
  return PhiloxLanes(_mm256_mul_epu32(__m256i(a), _mm256_set1_epi64x(m)));
#elif defined(__SSE2__)
  return PhiloxLanes(_mm_mul_epu32(__m128i(a), _mm_set1_epi64x(m)));
#else
  return (a & 0xffffffffu) * std::uint64_t(m);
#endif
}

// Words of the blocks first_block … first_block + num_blocks, a multiple of 8.
static inline void philox(std::uint64_t key, std::uint64_t first_block, Index num_blocks, std::uint32_t* words) {
  PhiloxLanes places;
  for (int l = 0; l < philox_lanes; ++l) places[l] = std::uint64_t(l);
  for (Index i = 0; i < num_blocks; i += philox_lanes) {
    const PhiloxLanes number = places + (first_block + std::uint64_t(i));
    PhiloxLanes c0 = number, c1 = number >> 32, c2 = {}, c3 = {};
    std::uint32_t k0 = std::uint32_t(key), k1 = std::uint32_t(key >> 32);
#pragma GCC unroll 7
    for (int round = 0; round < 7; ++round, k0 += 0x9E3779B9u, k1 += 0xBB67AE85u) {
      const PhiloxLanes a = multiply_words(c0, 0xD2511F53u), b = multiply_words(c2, 0xCD9E8D57u);
      c0 = (b >> 32) ^ c1 ^ std::uint64_t(k0);
      c1 = b;
      c2 = (a >> 32) ^ c3 ^ std::uint64_t(k1);
      c3 = a;
    }
    const PhiloxLanes low = (c0 & 0xffffffffu) | (c1 << 32), high = (c2 & 0xffffffffu) | (c3 << 32);
    std::uint64_t pairs[2 * philox_lanes];
    for (int l = 0; l < philox_lanes; ++l) {
      pairs[2 * l] = low[l];
      pairs[2 * l + 1] = high[l];
    }
    __builtin_memcpy(words + 4 * i, pairs, sizeof pairs);
  }
}

}  // namespace
}  // namespace DT_ISA
