// Reductions of a row whose order depends on nothing but its length: element i is added to lane i mod 16, and the lanes in pairs; rows shorter
// than that are added one by one.
#pragma once

#include "kernel.h"

namespace DT_ISA {

static constexpr Index num_lanes = 16;

// Calls body(i, lane) for all i below `size`.
template <class Body>
static inline void for_lanes(Index size, const Body& body) {
  Index i = 0;
  for (; i + num_lanes <= size; i += num_lanes)
    for (Index lane = 0; lane < num_lanes; ++lane) body(i + lane, lane);
  for (Index lane = 0; i + lane < size; ++lane) body(i + lane, lane);
}

template <class T>
struct Lanes {
  T lane[num_lanes];
  explicit Lanes(T value) {
    for (T& x : lane) x = value;
  }
  template <class Join>
  T joined(const Join& join) const {
    T x[num_lanes];
    for (Index i = 0; i < num_lanes; ++i) x[i] = lane[i];
#pragma GCC unroll 4
    for (Index width = num_lanes / 2; width; width /= 2)
      for (Index i = 0; i < width; ++i) x[i] = join(x[i], x[i + width]);
    return x[0];
  }
  T sum() const {
    return joined([](T a, T b) { return a + b; });
  }
};

// Σ term(i)
template <class T, class Term>
static inline T lane_sum(Index size, const Term& term) {
  if (size < num_lanes) {
    T sum = 0;
    for (Index i = 0; i < size; ++i) sum += term(i);
    return sum;
  }
  Lanes<T> lanes(0);
  for_lanes(size, [&](Index i, Index lane) { lanes.lane[lane] += term(i); });
  return lanes.sum();
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
