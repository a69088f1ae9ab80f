#include "elementary.h"
#include "rows.h"
#include "softmax.h"

namespace DT_ISA {

template <class T>
static void subtract_and_exponentiate(Index size, const T* x, T top, T* y) {
#pragma GCC ivdep
  for (Index i = 0; i < size; ++i) y[i] = exp_of_negative(x[i] - top);
}

// y = exp(x − maximum of the row), with the maxima and the sums of y. The exponentials of short rows are one loop over all of them.
template <class T>
static void exponentials_of_rows(Index rows, Index width, const T* x, T* y, T* maxima, T* sums) {
  const bool wide = width >= 64;
  for (Index r = 0; r < rows; ++r) {
    const T* in = x + r * width;
    T* out = y + r * width;
    const T top = maxima[r] = max_of(width, in);
    if (wide) {
      subtract_and_exponentiate(width, in, top, out);
    } else {
#pragma GCC ivdep
      for (Index i = 0; i < width; ++i) out[i] = in[i] - top;
    }
  }
  if (!wide) subtract_and_exponentiate(rows * width, y, T(0), y);
  for (Index r = 0; r < rows; ++r) {
    const T* out = y + r * width;
    sums[r] = sum_of<T>(width, [=](Index i) { return out[i]; });
  }
}

template <class T>
static void normalize_rows(Index rows, Index width, T* y, const T* sums) {
  for (Index r = 0; r < rows; ++r) {
    const T scale = 1 / sums[r];
    T* out = y + r * width;
    for (Index i = 0; i < width; ++i) out[i] *= scale;
  }
}

template <class T>
static void logarithms(Index size, T* x) {
  for (Index i = 0; i < size; ++i) x[i] = log(x[i]);
}

template <class T>
void softmax(Index rows, Index width, const T* x, T* y) {
  for_blocks(rows, width, [=](Index begin, Index end) {
    T maxima[block_size], sums[block_size];
    exponentials_of_rows(end - begin, width, x + begin * width, y + begin * width, maxima, sums);
    normalize_rows(end - begin, width, y + begin * width, sums);
  });
}

template <class T>
void log_softmax(Index rows, Index width, const T* x, T* y) {
  for_blocks(rows, width, [=](Index begin, Index end) {
    T maxima[block_size], sums[block_size];
    exponentials_of_rows(end - begin, width, x + begin * width, y + begin * width, maxima, sums);
    logarithms(end - begin, sums);
    for (Index row = begin; row < end; ++row) {
      const T top = maxima[row - begin], rest = sums[row - begin];
#pragma GCC ivdep
      for (Index i = row * width; i < (row + 1) * width; ++i) y[i] = (x[i] - top) - rest;
    }
  });
}

template <class T>
void cross_entropy(Index rows, Index width, const T* x, const std::int64_t* labels, T* probabilities, T* losses) {
  for_blocks(rows, width, [=](Index begin, Index end) {
    T maxima[block_size], sums[block_size];
    exponentials_of_rows(end - begin, width, x + begin * width, probabilities + begin * width, maxima, sums);
    normalize_rows(end - begin, width, probabilities + begin * width, sums);
    logarithms(end - begin, sums);
    for (Index row = begin; row < end; ++row) losses[row] = sums[row - begin] - (x[row * width + labels[row]] - maxima[row - begin]);
  });
}

template <class T>
void cross_entropy_backward(Index rows, Index width, const T* probabilities, const std::int64_t* labels, const T* factors, bool one_factor,
                            T* result) {
  for_blocks(rows, width, [=](Index begin, Index end) {
    for (Index row = begin; row < end; ++row) {
      const T factor = factors[one_factor ? 0 : row];
      const T* p = probabilities + row * width;
      T* out = result + row * width;
#pragma GCC ivdep
      for (Index i = 0; i < width; ++i) out[i] = p[i] * factor;
      out[labels[row]] -= factor;
    }
  });
}

template <class T>
void softmax_backward(Index rows, Index width, const T* gradient, const T* y, T* result) {
  for_blocks(rows, width, [=](Index begin, Index end) {
    for (Index row = begin; row < end; ++row) {
      const T *g = gradient + row * width, *p = y + row * width;
      T* out = result + row * width;
      const T total = sum_of<T>(width, [=](Index i) { return g[i] * p[i]; });
#pragma GCC ivdep
      for (Index i = 0; i < width; ++i) out[i] = (g[i] - total) * p[i];
    }
  });
}

template <class T>
void log_softmax_backward(Index rows, Index width, const T* gradient, const T* y, T* result) {
  for_blocks(rows, width, [=](Index begin, Index end) {
#pragma GCC ivdep
    for (Index i = begin * width; i < end * width; ++i) result[i] = exp_of_negative(y[i]);
    for (Index row = begin; row < end; ++row) {
      const T* g = gradient + row * width;
      T* out = result + row * width;
      const T total = sum_of<T>(width, [=](Index i) { return g[i]; });
#pragma GCC ivdep
      for (Index i = 0; i < width; ++i) out[i] = g[i] - out[i] * total;
    }
  });
}

template <class T>
T sum(Index size, const T* x) {
  return sum_of<T>(size, [=](Index i) { return x[i]; });
}

#define INSTANTIATE(T)                                                                                             \
  template void softmax<T>(Index, Index, const T*, T*);                                                            \
  template void softmax_backward<T>(Index, Index, const T*, const T*, T*);                                         \
  template void log_softmax<T>(Index, Index, const T*, T*);                                                        \
  template void log_softmax_backward<T>(Index, Index, const T*, const T*, T*);                                     \
  template void cross_entropy<T>(Index, Index, const T*, const std::int64_t*, T*, T*);                             \
  template void cross_entropy_backward<T>(Index, Index, const T*, const std::int64_t*, const T*, bool, T*);        \
  template T sum<T>(Index, const T*);
INSTANTIATE(float)
INSTANTIATE(double)

}  // namespace DT_ISA
