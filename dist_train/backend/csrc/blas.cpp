// Our own kernels (product.h) where they run, else the library that backend/blas.py has found.
#include "blas.h"

#include "array.h"
#define DT_HEADER "product.h"
#include "each_isa.h"

#include <cstring>

// CBLAS with 32-bit or with 64-bit integers.
template <class T, class Int>
using Gemm = void (*)(int order, int transpose_a, int transpose_b, Int m, Int n, Int k, T alpha, const T* a, Int lda, const T* b, Int ldb, T beta,
                      T* c, Int ldc);

static void* float_gemm = nullptr;
static void* double_gemm = nullptr;
static bool wide_integers = false;
static bool own_kernels = true;  // unless a library was asked for

template <class T, class Int>
static void call(void* function, bool transpose_a, bool transpose_b, Index m, Index n, Index k, const T* a, Index lda, const T* b, Index ldb, T beta,
                 T* c, Index ldc) {
  constexpr int row_major = 101, no_transpose = 111, transpose = 112;
  reinterpret_cast<Gemm<T, Int>>(function)(row_major, transpose_a ? transpose : no_transpose, transpose_b ? transpose : no_transpose, Int(m), Int(n),
                                           Int(k), T(1), a, Int(lda), b, Int(ldb), beta, c, Int(ldc));
}

// C begins as the bias in every row, to which the library adds the products.
template <class T>
static void dispatch(void* function, bool transpose_a, bool transpose_b, Index m, Index n, Index k, const T* a, Index lda, const T* b, Index ldb,
                     const T* bias, T* c, Index ldc) {
  if (bias)
    for (Index i = 0; i < m; ++i) std::memcpy(c + i * ldc, bias, n * sizeof(T));
  const T beta(bias ? 1 : 0);
  if (wide_integers)
    call<T, std::int64_t>(function, transpose_a, transpose_b, m, n, k, a, lda, b, ldb, beta, c, ldc);
  else
    call<T, std::int32_t>(function, transpose_a, transpose_b, m, n, k, a, lda, b, ldb, beta, c, ldc);
}

void gemm(bool ta, bool tb, Index m, Index n, Index k, const float* a, Index lda, const float* b, Index ldb, const float* bias, float* c, Index ldc) {
  if (own_kernels && DT_CALL(product<float>, m, n, k, a, ta ? 1 : lda, ta ? lda : 1, b, tb ? 1 : ldb, tb ? ldb : 1, bias, c, ldc)) return;
  dispatch(float_gemm, ta, tb, m, n, k, a, lda, b, ldb, bias, c, ldc);
}

void gemm(bool ta, bool tb, Index m, Index n, Index k, const double* a, Index lda, const double* b, Index ldb, const double* bias, double* c,
          Index ldc) {
  if (own_kernels && DT_CALL(product<double>, m, n, k, a, ta ? 1 : lda, ta ? lda : 1, b, tb ? 1 : ldb, tb ? ldb : 1, bias, c, ldc)) return;
  dispatch(double_gemm, ta, tb, m, n, k, a, lda, b, ldb, bias, c, ldc);
}

bool have_blas() { return float_gemm && double_gemm; }

// The library for what our own kernels do not do, or for everything.
static void set_blas(std::uintptr_t float_function, std::uintptr_t double_function, bool wide, bool everything) {
  own_kernels = !everything;
  float_gemm = reinterpret_cast<void*>(float_function);
  double_gemm = reinterpret_cast<void*>(double_function);
  wide_integers = wide;
}

void bind_blas(nb::module_& module) { module.def("set_blas", &set_blas); }
