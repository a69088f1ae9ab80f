// The geometry of a convolution, as bindings and kernels see it.
#pragma once

#include <cstddef>

// Images (N, C, H, W) under filters (O, C / groups, kh, kw); pairs are (height, width).
struct ConvShape {
  std::ptrdiff_t images, channels, filters, groups;
  std::ptrdiff_t input[2], window[2], output[2], stride[2], dilation[2];
  std::ptrdiff_t before[2];  // zeros above and to the left; negative: rows and columns cut off
};
