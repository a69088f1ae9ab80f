// What a kernel file may use. A family of kernels is three files:
//
//   <family>.h          declarations inside `namespace DT_ISA`; no include guard
//   <family>.cpp        the kernels; compiled once per instruction set with DT_ISA = base, avx2 or avx512
//   bind_<family>.cpp   checks the arrays, declines what is not supported, and calls DT_CALL(kernel, ...); compiled once
//
// Kernel files see no Python and no header that defines inline functions outside `namespace DT_ISA` (no STL): the linker keeps one copy of such
// a function, which could be the one made for AVX-512.
//
// Results are the same for every instruction set, number of threads and address of the data: elementwise arithmetic is rounded operation by
// operation (no FMA contraction), reductions run over a fixed number of lanes (`Lanes`), and threads share out pieces whose size does
// not depend on their number.
#pragma once

#include <cstddef>
#include <cstdint>

#ifndef DT_ISA
#error "DT_ISA is set by CMakeLists.txt"
#endif

namespace DT_ISA {

using Index = std::ptrdiff_t;

// Calls piece(begin, end) for consecutive pieces of `grain` elements that cover [0, size).
template <class Piece>
static inline void parallel_for(Index size, Index grain, const Piece& piece) {
  if (size <= grain) {
    if (size > 0) piece(Index(0), size);
    return;
  }
  const Index count = (size + grain - 1) / grain;
#pragma omp parallel for schedule(static)
  for (Index i = 0; i < count; ++i) {
    const Index begin = i * grain, end = begin + grain < size ? begin + grain : size;
    piece(begin, end);
  }
}

template <class T>
static inline T min(T a, T b) {
  return b < a ? b : a;
}

template <class T>
static inline T max(T a, T b) {
  return a < b ? b : a;
}

}  // namespace DT_ISA
