// Work on rows: (rows, width) arrays in blocks, and reductions of a row whose order depends on nothing but its length: element i is added to
// lane i mod 32 (16 in short rows), and the lanes in pairs; rows shorter than 16 are added one by one.
#pragma once

#include "kernel.h"

namespace DT_ISA {

// Rows are taken in blocks of about this many elements, which stay in the first-level cache; the reductions of a block's rows overlap.
static constexpr Index block_size = 2048;

// Calls piece(begin, end) for blocks of at most block_size rows.
template <class Piece>
static inline void for_blocks(Index rows, Index width, const Piece& piece) {
  if (width == 0) return;
  const Index block = max(Index(1), block_size / width), grain = 32768;
  parallel_for(rows, block * max(Index(1), grain / (block * width)), [=](Index begin, Index end) {
    for (Index row = begin; row < end; row += block) piece(row, min(row + block, end));
  });
}

// Calls body(i, lane) for all i below `size`; calls for different lanes must not depend on each other.
template <Index count, class Body>
static inline void for_lanes(Index size, const Body& body) {
  Index i = 0;
  for (; i + count <= size; i += count) {
#pragma GCC ivdep
    for (Index lane = 0; lane < count; ++lane) body(i + lane, lane);
  }
  for (Index lane = 0; i + lane < size; ++lane) body(i + lane, lane);
}

template <class T, Index count>
static inline T sum_of_lanes(T (&lane)[count]) {
#pragma GCC unroll 6
  for (Index width = count / 2; width; width /= 2)
    for (Index i = 0; i < width; ++i) lane[i] += lane[i + width];
  return lane[0];
}

template <Index count, class T, class Term>
static inline T sum_of(Index size, const Term& term) {
  T lanes[count] = {};
  for_lanes<count>(size, [&](Index i, Index lane) { lanes[lane] += term(i); });
  return sum_of_lanes(lanes);
}

// Σ term(i)
template <class T, class Term>
static inline T sum_of(Index size, const Term& term) {
  if (size >= 64) return sum_of<32, T>(size, term);
  if (size >= 16) return sum_of<16, T>(size, term);
  T sum = 0;
  for (Index i = 0; i < size; ++i) sum += term(i);
  return sum;
}

template <class T>
static inline T larger(T a, T b) {
  return b > a ? b : a;
}

// The largest of at least `count` elements; the last part overlaps the one before.
template <Index count, class T>
static inline T max_of(Index size, const T* x) {
  T top[count];
  for (Index lane = 0; lane < count; ++lane) top[lane] = x[lane];
  for (Index i = count; i < size; i += count) {
    const T* part = x + (i + count <= size ? i : size - count);
    for (Index lane = 0; lane < count; ++lane) top[lane] = larger(top[lane], part[lane]);
  }
#pragma GCC unroll 6
  for (Index width = count / 2; width; width /= 2)
    for (Index lane = 0; lane < width; ++lane) top[lane] = larger(top[lane], top[lane + width]);
  return top[0];
}

// The largest element; with nan among them, any. Selections instead of branches: the data would decide them.
template <class T>
static inline T max_of(Index size, const T* x) {
  if (size >= 64) return max_of<64>(size, x);
  if (size >= 16) return max_of<16>(size, x);
  T top = -T(__builtin_inf());
  for (Index i = 0; i < size; ++i) top = larger(top, x[i]);
  return top;
}

}  // namespace DT_ISA
