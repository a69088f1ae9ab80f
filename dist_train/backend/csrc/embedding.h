// Rows of a table, and their gradient; see reference/embedding.py. Rows have `width` elements of T (for the forward, any type of that size).
namespace DT_ISA {

// Whether all indices lie in [0, num_rows).
template <class I>
bool all_within(std::ptrdiff_t count, const I* indices, std::ptrdiff_t num_rows);

template <class I>
void embedding(std::ptrdiff_t count, const I* indices, const char* table, std::ptrdiff_t row_bytes, char* rows);

// result[row] = the sum of the gradients of `row`, in the order in which they occur; 0 for `padding` (-1: none).
template <class T, class I>
void embedding_backward(std::ptrdiff_t count, const I* indices, const T* gradient, std::ptrdiff_t num_rows, std::ptrdiff_t width,
                        std::ptrdiff_t padding, T* result);

}  // namespace DT_ISA
