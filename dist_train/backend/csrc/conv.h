// Convolution; the meaning is that of reference/conv.py. Arrays are contiguous and not empty; `bias` and `of_bias` may be null.
#include "conv_shape.h"

namespace DT_ISA {

template <class T>
void conv2d(const ConvShape& shape, const T* x, const T* weight, const T* bias, T* y);
template <class T>
void conv2d_backward_input(const ConvShape& shape, const T* gradient, const T* weight, T* of_x);
template <class T>
void conv2d_backward_weight(const ConvShape& shape, const T* gradient, const T* x, T* of_weight, T* of_bias);

}  // namespace DT_ISA
