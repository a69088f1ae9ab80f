// Activation functions and their gradients, element by element, and the gradient of a bias. The meaning of the arguments is that of reference/activation.py.
#ifndef DT_ACTIVATION
#define DT_ACTIVATION
enum class Activation { relu, clip, leaky_relu, elu, softplus, hardswish, silu, gelu, gelu_tanh, sigmoid, tanh, erf };
#endif

namespace DT_ISA {

// `a` and `b` are the function's parameters, in the order of its reference.
template <class T>
void activate(Activation function, std::ptrdiff_t size, const T* x, T* y, double a, double b);

// `x` is the output where the reference takes that (relu, sigmoid, tanh), else the input.
template <class T>
void activate_backward(Activation function, std::ptrdiff_t size, const T* gradient, const T* x, T* result, double a, double b);

template <class T>
void bias_gradient(std::ptrdiff_t rows, std::ptrdiff_t width, const T* gradient, T* result);

}  // namespace DT_ISA
