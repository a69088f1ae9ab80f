#include <cstdint>

#include "dropout.h"

#include "elementary.h"
#include "philox.h"

namespace DT_ISA {

static constexpr Index grain = 32768, piece = 1024;  // elements of a thread, and of a pass through the first cache

template <class T>
void dropout(Index size, const T* x, std::uint64_t key, std::uint32_t threshold, double scale, T* y) {
  const auto factor = bits_of(T(scale));
  parallel_for(size, grain, [=](Index begin, Index end) {
    std::uint32_t words[piece];
    for (Index first = begin; first < end; first += piece) {
      philox(key, std::uint64_t(first) / 4, piece / 4, words);
      const Index count = min(piece, end - first);
      const T* from = x + first;
      T* to = y + first;
#pragma GCC ivdep
      for (Index i = 0; i < count; ++i) to[i] = from[i] * from_bits<T>(factor & (decltype(factor)(words[i] < threshold) - 1));
    }
  });
}

template void dropout<float>(Index, const float*, std::uint64_t, std::uint32_t, double, float*);
template void dropout<double>(Index, const double*, std::uint64_t, std::uint32_t, double, double*);

}  // namespace DT_ISA
