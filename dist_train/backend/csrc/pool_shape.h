// The geometry of pooling, as bindings and kernels see it.
#pragma once

#include <cstddef>

// `planes` images under a window; pairs are (height, width).
struct PoolShape {
  std::ptrdiff_t planes;
  std::ptrdiff_t input[2], window[2], output[2], stride[2], dilation[2];
  std::ptrdiff_t before[2];  // padding above and to the left; what a window covers beyond the image does not count
};
