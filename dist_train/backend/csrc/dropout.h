// Dropout; see reference/dropout.py.
namespace DT_ISA {

// y = x·scale, or x·0 for the elements whose random word is below `threshold`.
template <class T>
void dropout(std::ptrdiff_t size, const T* x, std::uint64_t key, std::uint32_t threshold, double scale, T* y);

}  // namespace DT_ISA
