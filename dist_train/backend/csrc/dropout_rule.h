// What a probability of dropout means for random words; the numbers of reference/dropout.py.
#pragma once

#include <cmath>
#include <cstdint>

struct DropoutRule {
  std::uint32_t threshold;  // elements with smaller words become 0,
  double keep_scale;        // and the others are multiplied by this

  explicit DropoutRule(double p)
      : threshold(std::uint32_t(std::fmin(std::nearbyint(p * 4294967296.0), 4294967295.0))), keep_scale(p < 1 ? 1 / (1 - p) : 0.0) {}
};
