// Products of a few rows with a matrix, their results in registers: for kernels that make and use up the rows on the spot, where a call of BLAS
// per piece would cost more than the product.
//
// Every element of a result is one chain of fused multiply-adds over the depth, in order: it depends neither on the instruction set (the
// base set of x86-64 has none and calls libm's, which is slow and right) nor on the size of the tiles.
#pragma once

#include "kernel.h"

#if defined(__FMA__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace DT_ISA {
namespace {

template <class T, int size>
struct VectorOfSize {
  typedef T type __attribute__((vector_size(size * sizeof(T)), may_alias));
  typedef T unaligned __attribute__((vector_size(size * sizeof(T)), may_alias, aligned(sizeof(T))));
};
template <class T, int size>
using Vectors = typename VectorOfSize<T, size>::type;

// Elements of T in the widest register.
#if defined(__AVX512F__)
template <class T>
constexpr int register_lanes = 64 / int(sizeof(T));
#elif defined(__AVX2__)
template <class T>
constexpr int register_lanes = 32 / int(sizeof(T));
#else
template <class T>
constexpr int register_lanes = 16 / int(sizeof(T));
#endif

#if defined(__AVX512F__)
static inline __m512 multiply_add(__m512 a, __m512 b, __m512 c) { return _mm512_fmadd_ps(a, b, c); }
static inline __m512d multiply_add(__m512d a, __m512d b, __m512d c) { return _mm512_fmadd_pd(a, b, c); }
#elif defined(__FMA__)
static inline __m256 multiply_add(__m256 a, __m256 b, __m256 c) { return _mm256_fmadd_ps(a, b, c); }
static inline __m256d multiply_add(__m256d a, __m256d b, __m256d c) { return _mm256_fmadd_pd(a, b, c); }
#elif defined(__aarch64__)
static inline float32x4_t multiply_add(float32x4_t a, float32x4_t b, float32x4_t c) { return vfmaq_f32(c, a, b); }
static inline float64x2_t multiply_add(float64x2_t a, float64x2_t b, float64x2_t c) { return vfmaq_f64(c, a, b); }
#else
static inline float multiply_add(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
static inline double multiply_add(double a, double b, double c) { return __builtin_fma(a, b, c); }
template <class Piece>
static inline Piece multiply_add(Piece a, Piece b, Piece c) {
  for (unsigned lane = 0; lane < sizeof(Piece) / sizeof(a[0]); ++lane) c[lane] = multiply_add(a[lane], b[lane], c[lane]);
  return c;
}
#endif

constexpr Index group_rows = 8;

// Elements of a cache line: columns come in multiples of it.
template <class T>
constexpr Index line = 64 / Index(sizeof(T));

// The left factor: element (row, k), stored by rows, or by columns (the transpose of what lies there).
template <class T>
struct ByRows {
  const T* data;
  Index stride;
  T operator()(Index row, Index k) const { return data[row * stride + k]; }
  ByRows from(Index row) const { return {data + row * stride, stride}; }
};

template <class T>
struct ByColumns {
  const T* data;
  Index stride;
  T operator()(Index row, Index k) const { return data[k * stride + row]; }
  ByColumns from(Index row) const { return {data + row, stride}; }
};

// c (+)= a·b for `rows` rows and `vectors` registers of columns.
template <class T, int rows, int vectors, class Left>
static inline __attribute__((always_inline)) void multiply_tile(Index depth, Left a, const T* b, Index ldb, T* c, Index ldc, bool add) {
  constexpr int size = register_lanes<T>;
  using Piece = Vectors<T, size>;
  using Unaligned = typename VectorOfSize<T, size>::unaligned;
  Piece sums[rows][vectors];
#pragma GCC unroll 16
  for (int r = 0; r < rows; ++r)
#pragma GCC unroll 16
    for (int v = 0; v < vectors; ++v)
      if (add)
        sums[r][v] = *reinterpret_cast<const Unaligned*>(c + r * ldc + v * size);
      else
        sums[r][v] = Piece{};
  for (Index k = 0; k < depth; ++k, b += ldb) {
    Piece right[vectors];
#pragma GCC unroll 16
    for (int v = 0; v < vectors; ++v) right[v] = *reinterpret_cast<const Unaligned*>(b + v * size);
#pragma GCC unroll 16
    for (int r = 0; r < rows; ++r) {
      const Piece left = a(r, k) - Piece{};
#pragma GCC unroll 16
      for (int v = 0; v < vectors; ++v) sums[r][v] = multiply_add(left, right[v], sums[r][v]);
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < rows; ++r)
#pragma GCC unroll 16
    for (int v = 0; v < vectors; ++v) *reinterpret_cast<Unaligned*>(c + r * ldc + v * size) = sums[r][v];
}

// c (+)= a·b: group_rows × depth times depth × columns, where columns is a multiple of line<T>.
template <class T, class Left>
static inline void multiply_group(Index columns, Index depth, Left a, const T* b, Index ldb, T* c, Index ldc, bool add) {
  constexpr int vectors = int(line<T>) / register_lanes<T>;  // of a line
  constexpr int rows = vectors == 1 ? 8 : 4;                  // 16 registers hold 4 rows of a line, 32 hold 8 rows of two
  Index column = 0;
  if (vectors == 1)
    for (; column + 2 * line<T> <= columns; column += 2 * line<T>)
      multiply_tile<T, rows, 2 * vectors>(depth, a, b + column, ldb, c + column, ldc, add);
  for (; column < columns; column += line<T>)
    for (Index row = 0; row < group_rows; row += rows)
      multiply_tile<T, rows, vectors>(depth, a.from(row), b + column, ldb, c + row * ldc + column, ldc, add);
}

}  // namespace
}  // namespace DT_ISA
