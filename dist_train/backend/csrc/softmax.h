// Softmax, log-softmax and cross-entropy over the rows of (rows, width) arrays; the meaning is that of reference/softmax.py and loss.py.
namespace DT_ISA {

template <class T>
void softmax(std::ptrdiff_t rows, std::ptrdiff_t width, const T* x, T* y);

template <class T>
void softmax_backward(std::ptrdiff_t rows, std::ptrdiff_t width, const T* gradient, const T* y, T* result);

template <class T>
void log_softmax(std::ptrdiff_t rows, std::ptrdiff_t width, const T* x, T* y);

template <class T>
void log_softmax_backward(std::ptrdiff_t rows, std::ptrdiff_t width, const T* gradient, const T* y, T* result);

// Labels lie in [0, width).
template <class T>
void cross_entropy(std::ptrdiff_t rows, std::ptrdiff_t width, const T* x, const std::int64_t* labels, T* probabilities, T* losses);

// `factors` holds one per row, or one for all rows.
template <class T>
void cross_entropy_backward(std::ptrdiff_t rows, std::ptrdiff_t width, const T* probabilities, const std::int64_t* labels, const T* factors,
                            bool one_factor, T* result);

template <class T>
T sum(std::ptrdiff_t size, const T* x);

}  // namespace DT_ISA
