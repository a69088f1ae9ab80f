// Reductions of a row whose order depends on nothing but its length: element i is added to lane i mod 16, and the lanes in pairs.
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
  Lanes<T> lanes(0);
  for_lanes(size, [&](Index i, Index lane) { lanes.lane[lane] += term(i); });
  return lanes.sum();
}

// The largest element that is not nan; −inf where there is none.
template <class T>
static inline T lane_max(Index size, const T* x) {
  Lanes<T> lanes(-T(__builtin_inf()));
  for_lanes(size, [&](Index i, Index lane) { lanes.lane[lane] = x[i] > lanes.lane[lane] ? x[i] : lanes.lane[lane]; });
  return lanes.joined([](T a, T b) { return a > b ? a : b; });
}

}  // namespace DT_ISA
