// Matrix products: by our own kernels, or by the BLAS library that the user has chosen (backend/blas.py). Plain functions, compiled once: kernel
// files may call them.
#pragma once

#include <cstddef>

// Row-major C (m × n) = alpha · op(A) (m × k) · op(B) (k × n) + beta · C; ld* are the distances of rows in elements.
void gemm(bool transpose_a, bool transpose_b, std::ptrdiff_t m, std::ptrdiff_t n, std::ptrdiff_t k, float alpha, const float* a, std::ptrdiff_t lda,
          const float* b, std::ptrdiff_t ldb, float beta, float* c, std::ptrdiff_t ldc);
void gemm(bool transpose_a, bool transpose_b, std::ptrdiff_t m, std::ptrdiff_t n, std::ptrdiff_t k, double alpha, const double* a, std::ptrdiff_t lda,
          const double* b, std::ptrdiff_t ldb, double beta, double* c, std::ptrdiff_t ldc);

// Whether a library has been chosen; without one the kernels that need products decline.
bool have_blas();
