// Normalisation of rows and of channels; the meaning of the arguments is that of reference/norm.py. Optional arrays may be null.
//
// Arrays of (count, channels, length) are given by these three numbers.
namespace DT_ISA {

template <class T>
void layer_norm(std::ptrdiff_t rows, std::ptrdiff_t width, const T* x, const T* weight, const T* bias, T eps, T* y, T* mean, T* scale);

// How many partial sums of the gradients of weight and bias layer_norm_backward needs.
std::ptrdiff_t layer_norm_parts(std::ptrdiff_t rows);

// `partial`: (layer_norm_parts(rows), 2, width); it, of_weight and of_bias are null where there is no weight.
template <class T>
void layer_norm_backward(std::ptrdiff_t rows, std::ptrdiff_t width, const T* gradient, const T* x, const T* weight, const T* mean,
                         const T* scale, T* partial, T* of_x, T* of_weight, T* of_bias);

template <class T>
void batch_norm(std::ptrdiff_t count, std::ptrdiff_t channels, std::ptrdiff_t length, const T* x, const T* weight, const T* bias, T eps, T* y,
                T* mean, T* variance, T* scale);

template <class T>
void normalize_channels(std::ptrdiff_t count, std::ptrdiff_t channels, std::ptrdiff_t length, const T* x, const T* mean, const T* variance,
                        const T* weight, const T* bias, T eps, T* y, T* scale);

template <class T>
void batch_norm_backward(std::ptrdiff_t count, std::ptrdiff_t channels, std::ptrdiff_t length, const T* gradient, const T* x, const T* weight,
                         const T* mean, const T* scale, bool training, T* of_x, T* of_weight, T* of_bias);

template <class T>
void scale_channels(std::ptrdiff_t count, std::ptrdiff_t channels, std::ptrdiff_t length, const T* x, const T* factor, const T* shift, T* y);

template <class T>
void channel_sums(std::ptrdiff_t count, std::ptrdiff_t channels, std::ptrdiff_t length, const T* gradient, const T* y, T* sums, T* products);

}  // namespace DT_ISA
