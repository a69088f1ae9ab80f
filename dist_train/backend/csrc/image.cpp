#include "ahead.h"
#include "image.h"

#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace DT_ISA {

// The arithmetic of one channel. Divisions are the slow part: a quotient is also the product with the reciprocal, given as the sum of two
// floats, wherever that has the same bits for all 256 values of a pixel (`products`).
struct Channel {
  float mean, deviation, inverse, inverse_rest;
  bool products;
};

static constexpr float inverse255 = 1.0f / 255.0f;
static constexpr float inverse255_rest = float(1.0 / 255.0 - double(inverse255));

static inline float by_division(float pixel, const Channel& c) { return (pixel / 255.0f - c.mean) / c.deviation; }

static void divide(const std::uint8_t* pixels, float* out, Index size, const Channel& c) {
  for (Index i = 0; i < size; ++i) out[i] = by_division(float(int(pixels[i])), c);
}

#if defined(__FMA__) || defined(__ARM_FEATURE_FMA)
static inline float by_products(float pixel, const Channel& c) {
  const float x = __builtin_fmaf(pixel, inverse255, pixel * inverse255_rest) - c.mean;
  return __builtin_fmaf(x, c.inverse, x * c.inverse_rest);
}

// `lanes` pixels. The compiler's own widening of bytes takes twice as long.
#if defined(__AVX512F__)
static constexpr Index lanes = 16;

// p / 255 is 0.pppp... to the base 256, and of its first four digits a float holds all bits but as many as p has. Those are p itself, at least
// half a unit, with more to follow: rounding up is rounding to nearest. The digits stay an integer, 2^32 times the quotient, and the powers of
// two go into the constants: a subtraction and two products are left, which run in units of their own.
static inline void multiply_lanes(const std::uint8_t* pixels, float* out, const Channel& c) {
  const __m512i four_times = _mm512_set_epi32(0x0f0f0f0f, 0x0e0e0e0e, 0x0d0d0d0d, 0x0c0c0c0c, 0x0b0b0b0b, 0x0a0a0a0a, 0x09090909, 0x08080808,
                                              0x07070707, 0x06060606, 0x05050505, 0x04040404, 0x03030303, 0x02020202, 0x01010101, 0);
  const __m512i pixel = _mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(pixels)));
  const __m512 digits = _mm512_cvt_roundepu32_ps(_mm512_shuffle_epi8(pixel, four_times), _MM_FROUND_TO_POS_INF | _MM_FROUND_NO_EXC);
  const __m512 x = _mm512_sub_ps(digits, _mm512_set1_ps(c.mean * 0x1p32f));
  const __m512 rest = _mm512_mul_ps(x, _mm512_set1_ps(c.inverse_rest * 0x1p-32f));
  _mm512_storeu_ps(out, _mm512_fmadd_ps(x, _mm512_set1_ps(c.inverse * 0x1p-32f), rest));
}
#elif defined(__AVX2__)
static constexpr Index lanes = 8;

static inline void multiply_lanes(const std::uint8_t* pixels, float* out, const Channel& c) {
  const __m256 pixel = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(pixels))));
  const __m256 rest = _mm256_mul_ps(pixel, _mm256_set1_ps(inverse255_rest));
  const __m256 x = _mm256_sub_ps(_mm256_fmadd_ps(pixel, _mm256_set1_ps(inverse255), rest), _mm256_set1_ps(c.mean));
  _mm256_storeu_ps(out, _mm256_fmadd_ps(x, _mm256_set1_ps(c.inverse), _mm256_mul_ps(x, _mm256_set1_ps(c.inverse_rest))));
}
#else
static constexpr Index lanes = 1;

static inline void multiply_lanes(const std::uint8_t* pixels, float* out, const Channel& c) { *out = by_products(float(int(*pixels)), c); }
#endif

static void multiply(const std::uint8_t* pixels, float* out, Index size, const Channel& channel, const Ahead& ahead) {
  const Channel c = channel;  // of our own: the constants stay in registers, whatever `out` is
  const Index lines = size / cache_line * cache_line, whole = size / lanes * lanes;
  for (Index i = 0; i < lines; i += cache_line) {
    fetch(ahead, i);
    for (Index k = i; k < i + cache_line; k += lanes) multiply_lanes(pixels + k, out + k, c);
  }
  fetch(ahead, size - 1);
  for (Index i = lines; i < whole; i += lanes) multiply_lanes(pixels + i, out + i, c);
  for (Index i = whole; i < size; ++i) out[i] = by_products(float(int(pixels[i])), c);
}

static bool same_products(const Channel& c) {
  std::uint8_t pixels[256];
  float products[256], quotients[256];
  for (int i = 0; i < 256; ++i) pixels[i] = std::uint8_t(i);
  multiply(pixels, products, 256, c, Ahead());
  divide(pixels, quotients, 256, c);
  return __builtin_memcmp(products, quotients, sizeof products) == 0;
}
#else
static void multiply(const std::uint8_t* pixels, float* out, Index size, const Channel& c, const Ahead&) { divide(pixels, out, size, c); }
static bool same_products(const Channel&) { return false; }
#endif

static Channel channel_of(float mean, float deviation) {
  static thread_local Channel last{};  // a loader asks for the same again and again
  if (last.mean == mean && last.deviation == deviation) return last;
  const float inverse = 1.0f / deviation;
  last = {mean, deviation, inverse, float(1.0 / double(deviation) - double(inverse)), false};
  last.products = same_products(last);
  return last;
}

static inline void normalize(const std::uint8_t* pixels, float* out, Index size, const Channel& c, const Ahead& ahead) {
  if (c.products)
    multiply(pixels, out, size, c, ahead);
  else
    divide(pixels, out, size, c);
}

// One channel of an image whose channels alternate.
static void normalize_every(const std::uint8_t* pixels, Index step, float* out, Index size, const Channel& c) {
  constexpr Index piece = 1024;
  std::uint8_t own[piece];
  for (Index begin = 0; begin < size; begin += piece) {
    const Index length = min(piece, size - begin);
    const std::uint8_t* from = pixels + begin * step;
    if (step == 3)
      for (Index i = 0; i < length; ++i) own[i] = from[3 * i];
    else
      for (Index i = 0; i < length; ++i) own[i] = from[step * i];
    normalize(own, out + begin, length, c, Ahead());
  }
}

void normalized_samples(Index count, Index known, Index num_images, Index pixels, Index channels, const std::uint8_t* images, const std::int64_t* indices,
                        const float* mean, Index mean_step, const float* deviation, Index deviation_step, float* out,
                        const std::int64_t* targets, std::int64_t* labels) {
  Channel each[most_channels];
  for (Index k = 0; k < channels; ++k) each[k] = channel_of(mean[k * mean_step], deviation[k * deviation_step]);
  const Index size = pixels * channels;
  const auto index = [=](Index i) { return indices[i] < 0 ? indices[i] + num_images : indices[i]; };
  const auto image = [=](Index i) { return images + index(i) * size; };
  parallel_for(count, max(Index(1), Index(1 << 18) / max(Index(1), size)), [=, &each](Index begin, Index end) {
    for_rows_ahead(begin, end, known, num_images, size, image, [=, &each](Index i, const Ahead& ahead) {
      if (targets) __builtin_prefetch(targets + index(i), 0, 2);
      if (channels == 1)
        normalize(image(i), out + i * size, size, each[0], ahead);
      else
        for (Index k = 0; k < channels; ++k) normalize_every(image(i) + k, channels, out + i * size + k * pixels, pixels, each[k]);
    });
    for (Index i = begin; i < end && targets; ++i) labels[i] = targets[index(i)];
  });
}

}  // namespace DT_ISA
