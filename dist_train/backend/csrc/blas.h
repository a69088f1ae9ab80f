// Matrix products: by our own kernels, or by the BLAS library that the user has chosen (backend/blas.py). Plain functions, compiled once: kernel
// files may call them.
#pragma once

#include <cstddef>

// Row-major C (m × n) = op(A) (m × k) · op(B) (k × n) + the bias in every row, which may be null; ld* are the distances of rows in elements.
void gemm(bool transpose_a, bool transpose_b, std::ptrdiff_t m, std::ptrdiff_t n, std::ptrdiff_t k, const float* a, std::ptrdiff_t lda,
          const float* b, std::ptrdiff_t ldb, const float* bias, float* c, std::ptrdiff_t ldc);
void gemm(bool transpose_a, bool transpose_b, std::ptrdiff_t m, std::ptrdiff_t n, std::ptrdiff_t k, const double* a, std::ptrdiff_t lda,
          const double* b, std::ptrdiff_t ldb, const double* bias, double* c, std::ptrdiff_t ldc);

// Whether a library has been chosen; without one the kernels that need products decline.
bool have_blas();
