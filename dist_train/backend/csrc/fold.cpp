#include "kernel.h"
#include "fold.h"

namespace DT_ISA {

static constexpr Index grain = 65536, lanes = 64;

template <class T>
void scale(Index size, const T* source, T factor, T* out) {
  parallel_for(size, grain, [=](Index begin, Index end) {
#pragma GCC ivdep
    for (Index i = begin; i < end; ++i) out[i] = source[i] * factor;
  });
}

// sum + value². The square of a float is exact in float64: rounding it and the sum at once gives the same bits as one after the other.
static inline double add_square(double sum, float value) {
#if defined(__FMA__)
  return __builtin_fma(double(value), double(value), sum);
#else
  return sum + double(value) * double(value);
#endif
}

static inline double add_square(double sum, double value) { return sum + value * value; }

// The sum of squares of a block, over a fixed number of lanes that are then added in pairs.
template <class T>
static inline double square_sum(const T* block) {
  double sums[lanes] = {};
  for (Index row = 0; row < fold_block; row += lanes) {
    for (Index i = 0; i < lanes; ++i) sums[i] = add_square(sums[i], block[row + i]);
  }
#pragma GCC unroll 6
  for (Index half = lanes / 2; half; half /= 2)
    for (Index i = 0; i < half; ++i) sums[i] += sums[i + half];
  return sums[0];
}

template <class T>
static inline void copy_block(const T* source, T weight, T* out) {
#pragma GCC ivdep
  for (Index i = 0; i < fold_block; ++i) out[i] = source[i] * weight;
}

template <class T>
static inline void add_block(T* total, const T* source, T weight) {
#pragma GCC ivdep
  for (Index i = 0; i < fold_block; ++i) total[i] += source[i] * weight;
}

// Two sources at once; `out` may be one of them.
template <class T>
static inline void add_two(const T* left, T left_weight, const T* right, T right_weight, T* out) {
#pragma GCC ivdep
  for (Index i = 0; i < fold_block; ++i) out[i] = left[i] * left_weight + right[i] * right_weight;
}

// One block of any tree: the sums that wait lie in cache, so that every source is read once and `out` written once.
template <class T>
static inline void fold_tree(Index at, T* out, int count, const T* const* sources, const T* weights, const int* additions) {
  T stack[fold_depth][fold_block];
  int depth = 0;
  for (int i = 0; i < count; ++i) {
    if (i + 1 < count && !additions[i] && additions[i + 1]) {
      add_two(sources[i] + at, weights[i], sources[i + 1] + at, weights[i + 1], stack[depth++]);
      ++i;
    } else if (!additions[i]) {
      copy_block(sources[i] + at, weights[i], stack[depth++]);
    } else {
      add_block(stack[depth - 1], sources[i] + at, weights[i]);
    }
    for (int left = additions[i]; left > 1; --left, --depth) add_block(stack[depth - 2], stack[depth - 1], T(1));
  }
  copy_block(stack[0], T(1), out + at);
}

template <class T>
void fold_blocks(Index size, T* out, int count, const T* const* sources, const T* weights, const int* additions, double* squares) {
  const bool in_place = count == 1 && weights[0] == 1 && sources[0] == out;
  parallel_for(size, grain, [=](Index begin, Index end) {
    for (Index at = begin; at < end; at += fold_block) {
      if (count == 2)
        add_two(sources[0] + at, weights[0], sources[1] + at, weights[1], out + at);
      else if (!in_place)
        fold_tree(at, out, count, sources, weights, additions);
      if (squares) squares[at / fold_block] = square_sum(out + at);
    }
  });
}

double take_and_sum(Index size, const double* source, Index length, const std::int64_t* index, double* out, Index first) {
  for (Index i = 0; i < size; ++i) out[i] = source[max(Index(0), min(Index(index[i]), length - 1))];
  constexpr Index width = 8;
  double sums[width] = {};
  Index i = first;
  for (; i + width <= size; i += width)
    for (Index lane = 0; lane < width; ++lane) sums[lane] += out[i + lane];
  for (; i < size; ++i) sums[(i - first) % width] += out[i];
  for (Index half = width / 2; half; half /= 2)
    for (Index lane = 0; lane < half; ++lane) sums[lane] += sums[lane + half];
  return sums[0];
}

#define INSTANTIATE(T)                                    \
  template void scale<T>(Index, const T*, T, T*);         \
  template void fold_blocks<T>(Index, T*, int, const T* const*, const T*, const int*, double*);
INSTANTIATE(float)
INSTANTIATE(double)

}  // namespace DT_ISA
