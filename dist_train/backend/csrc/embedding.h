// Rows of a table, and their gradient; see reference/embedding.py.
namespace DT_ISA {

// rows[i] = table[indices[i]] for i < count; the `known` >= count indices lie within ±num_rows, negative ones count from the end.
template <class I>
void take_rows(std::ptrdiff_t count, std::ptrdiff_t known, const I* indices, std::ptrdiff_t num_rows, const char* table, std::ptrdiff_t row_bytes,
               char* rows);

// result[row] = the sum of the gradients of `row`, in the order in which they occur; 0 for `padding` (-1: none).
template <class T, class I>
void embedding_backward(std::ptrdiff_t count, const I* indices, const T* gradient, std::ptrdiff_t num_rows, std::ptrdiff_t width,
                        std::ptrdiff_t padding, T* result);

}  // namespace DT_ISA
