// Matrix products by our own kernels, for processors with AVX2 or AVX-512.
namespace DT_ISA {

// C (m × n, rows `ldc` apart) = A (m × k) · B (k × n) + the bias in every row, which may be null; element (i, j) of A lies at
// a[i·a_row + j·a_column], that of B at b[i·b_row + j·b_column]. Each element of C is one chain of fused multiply-adds over k from 0 up that begins
// with the bias: its bits depend neither on the other rows and columns, nor on the number of threads or the width of the vectors. False: not
// supported by this instruction set.
template <class T>
bool product(std::ptrdiff_t m, std::ptrdiff_t n, std::ptrdiff_t k, const T* a, std::ptrdiff_t a_row, std::ptrdiff_t a_column, const T* b,
             std::ptrdiff_t b_row, std::ptrdiff_t b_column, const T* bias, T* c, std::ptrdiff_t ldc);

}  // namespace DT_ISA
