// What attention's kernels get; plain data, the same for bindings and for every instruction set.
#pragma once

#include <cstddef>
#include <cstdint>

// An array (batch, head, row, column) with any strides, in elements.
template <class T>
struct Strided {
  T* data;
  std::ptrdiff_t strides[4];
};

// Queries are (batch, heads, num_queries, width), keys (…, num_keys, width), values (…, num_keys, value_width).
struct AttentionShape {
  std::ptrdiff_t batch, heads, num_queries, num_keys, width, value_width;
};

struct AttentionRules {
  bool causal;
  double scale;
  bool drops;  // a weight becomes 0 where its random word (philox.h) is below `threshold`, and is multiplied by keep_scale elsewhere
  std::uint64_t key;
  std::uint32_t threshold;
  double keep_scale;
};
