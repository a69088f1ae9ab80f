// Declarations; no include guard.
// The arithmetic of the reduction; see reference/fold.py.
namespace DT_ISA {

// The numbers of elements of a block, and of partial sums that can wait on the stack of `fold_blocks`: enough for 2^23 micro-batches.
static constexpr std::ptrdiff_t fold_block = 1024;
static constexpr int fold_depth = 24;

template <class T>
void scale(std::ptrdiff_t size, const T* source, T factor, T* out);

// `sources`, `weights` and `additions` have `count` entries; `squares` may be null.
template <class T>
void fold_blocks(std::ptrdiff_t size, T* out, int count, const T* const* sources, const T* weights, const int* additions, double* squares);

// `index` counts from 0 to `length`, the elements of `source`; what lies outside is taken from the nearest end.
double take_and_sum(std::ptrdiff_t size, const double* source, std::ptrdiff_t length, const std::int64_t* index, double* out, std::ptrdiff_t first);

}  // namespace DT_ISA
