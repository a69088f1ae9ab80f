// Passes over groups of group_rows rows which consist of whole, aligned cache lines.
#pragma once

#include "elementary.h"
#include "fused.h"

namespace DT_ISA {
namespace {

// A cache line as one value. (Loops over its elements GCC does not always vectorise.)
template <class T>
using Line = Vectors<T, int(line<T>)>;

template <class T>
static inline Line<T>& line_at(T* elements) {
  return *reinterpret_cast<Line<T>*>(elements);
}

// join(…, …) over the lanes of each row, in a fixed tree; the result is in lane 0.
template <class T, int size = int(line<T>), class Join>
static inline void join_lanes(T (*rows)[line<T>], Join join) {
  if constexpr (size > 1) {
    for (Index r = 0; r < group_rows; ++r) {
      Vectors<T, size / 2> low, high;
      __builtin_memcpy(&low, rows[r], sizeof low);
      __builtin_memcpy(&high, rows[r] + size / 2, sizeof high);
      join(low, high);
      __builtin_memcpy(rows[r], &low, sizeof low);
    }
    join_lanes<T, size / 2>(rows, join);
  }
}

// results = the reduction of each row.
template <class T, class Join>
static inline void reduce(T* group, Index ld, Index columns, Join join, T* results) {
  Line<T> lanes[group_rows];
  for (Index r = 0; r < group_rows; ++r) lanes[r] = line_at(group + r * ld);
  for (Index j = line<T>; j < columns; j += line<T>)
    for (Index r = 0; r < group_rows; ++r) join(lanes[r], line_at(group + r * ld + j));
  T rows[group_rows][line<T>];
  __builtin_memcpy(rows, lanes, sizeof rows);
  join_lanes<T>(rows, join);
  for (Index r = 0; r < group_rows; ++r) results[r] = rows[r][0];
}

// A row gets `value` behind its first `kept` elements.
template <class T>
static inline void overwrite_from(T* row, Index kept, Index columns, T value) {
  using Place = typename Floating<T>::Bits;
  Vectors<Place, int(line<T>)> places;
  for (Index l = 0; l < line<T>; ++l) places[l] = Place(l);
  for (Index j = kept / line<T> * line<T>; j < columns; j += line<T>) {
    Line<T>& elements = line_at(row + j);
    elements = places + Place(j) < Place(kept) ? elements : Line<T>{} + value;
  }
}

template <class T>
constexpr T infinity = T(__builtin_inf());
template <class T>
constexpr T lowest = sizeof(T) == 4 ? T(-0x1.fffffep127) : T(-0x1.fffffffffffffp1023);

// Each row becomes exp(row − largest), where `largest` is its largest element that is not nan; `total` is the sum of that.
template <class T>
static inline void exponentials(T* group, Index ld, Index columns, T* largest, T* total) {
  reduce(group, ld, columns, [](auto& a, const auto& b) { a = a > b ? a : b; }, largest);
  for (Index r = 0; r < group_rows; ++r) largest[r] = max(largest[r], lowest<T>);
  for (Index j = 0; j < columns; j += line<T>)
    for (Index r = 0; r < group_rows; ++r) {
      T* elements = group + r * ld + j;
      const T shift = largest[r];
      for (Index l = 0; l < line<T>; ++l) elements[l] = exp_of_negative(elements[l] - shift);
    }
  reduce(group, ld, columns, [](auto& a, const auto& b) { a += b; }, total);
}

}  // namespace
}  // namespace DT_ISA
