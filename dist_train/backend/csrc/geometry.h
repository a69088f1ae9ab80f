// How bindings read the shapes and geometry of images.
#pragma once

#include "array.h"

constexpr Index limit = Index(1) << 31;  // of steps and widths: their products with array sizes do not overflow

// Reads a tuple of `count` integers between low and limit.
inline bool read(const nb::tuple& from, Index low, Index* to, size_t count) {
  if (from.size() != count) return false;
  for (size_t i = 0; i < count; ++i) {
    to[i] = nb::cast<Index>(from[i]);
    if (to[i] < low || to[i] > limit) return false;
  }
  return true;
}

struct Shape {
  Index extent[4];
  Index operator[](int i) const { return extent[i]; }
};

inline bool read(const Array& array, Shape& shape) {
  for (int i = 0; i < 4 && array.ndim() == 4; ++i) shape.extent[i] = array.shape(i);
  return array.ndim() == 4;
}
