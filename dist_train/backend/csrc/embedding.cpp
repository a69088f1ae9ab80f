#include <cstddef>

#include "ahead.h"
#include "embedding.h"

namespace DT_ISA {

template <class I>
void take_rows(Index count, Index known, const I* indices, Index num_rows, const char* table, Index row_bytes, char* rows) {
  const auto row = [=](Index i) { return table + (indices[i] < 0 ? indices[i] + num_rows : Index(indices[i])) * row_bytes; };
  parallel_for(count, max(Index(1), 65536 / row_bytes), [=](Index begin, Index end) {
    for_rows_ahead(begin, end, known, num_rows, row_bytes, row, [=](Index i, const Ahead& ahead) {
      for (Index k = 0; k < row_bytes; k += cache_line) fetch(ahead, k);
      fetch(ahead, row_bytes - 1);
      __builtin_memcpy(rows + i * row_bytes, row(i), std::size_t(row_bytes));
    });
  });
}

// Threads share out the table's rows, and each goes through all indices: a row's sum is made by one thread, in order.
template <class T, class I>
void embedding_backward(Index count, const I* indices, const T* gradient, Index num_rows, Index width, Index padding, T* result) {
  const Index pieces = count * width + num_rows * width > (1 << 20) ? 8 : 1;
  parallel_for(num_rows, (num_rows + pieces - 1) / pieces, [=](Index begin, Index end) {
    __builtin_memset(result + begin * width, 0, std::size_t((end - begin) * width) * sizeof(T));
    for (Index i = 0; i < count; ++i) {
      const Index row = Index(indices[i]);
      if (row < begin || row >= end || row == padding) continue;
      T* sum = result + row * width;
      const T* term = gradient + i * width;
#pragma GCC ivdep
      for (Index j = 0; j < width; ++j) sum[j] += term[j];
    }
  });
}

#define INSTANTIATE(I)                                                                                                \
  template void take_rows<I>(Index, Index, const I*, Index, const char*, Index, char*);                               \
  template void embedding_backward<float, I>(Index, const I*, const float*, Index, Index, Index, float*);             \
  template void embedding_backward<double, I>(Index, const I*, const double*, Index, Index, Index, double*);
INSTANTIATE(std::int32_t)
INSTANTIATE(std::int64_t)

}  // namespace DT_ISA
