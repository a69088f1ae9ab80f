#include "array.h"
#define DT_HEADER "activation.h"
#include "each_isa.h"

using namespace nb::literals;

static nb::object value(Activation function, const Array& x, double a = 0, double b = 0) {
  if (!all_floating({&x})) return declined();
  nb::object result = empty_like(x);
  const Array y = view(result);
  Unlocked unlocked(x.size());
  if (x.is_float32())
    DT_CALL(activate<float>, function, x.size(), x.data<float>(), y.data<float>(), a, b);
  else
    DT_CALL(activate<double>, function, x.size(), x.data<double>(), y.data<double>(), a, b);
  return result;
}

// `x` is the function's input or output.
static nb::object slope(Activation function, const Array& gradient, const Array& x, double a = 0, double b = 0) {
  if (!all_floating({&gradient, &x}) || !gradient.same_shape(x)) return declined();
  nb::object result = empty_like(x);
  const Array of_x = view(result);
  Unlocked unlocked(x.size());
  if (x.is_float32())
    DT_CALL(activate_backward<float>, function, x.size(), gradient.data<float>(), x.data<float>(), of_x.data<float>(), a, b);
  else
    DT_CALL(activate_backward<double>, function, x.size(), gradient.data<double>(), x.data<double>(), of_x.data<double>(), a, b);
  return result;
}

static nb::object bias_gradient(Array gradient) {
  if (!all_floating({&gradient}) || gradient.ndim() != 2) return declined();
  const Index rows = gradient.shape(0), width = gradient.shape(1);
  nb::object result = empty({width}, gradient.type());
  const Array sums = view(result);
  Unlocked unlocked(gradient.size());
  if (gradient.is_float32())
    DT_CALL(bias_gradient<float>, rows, width, gradient.data<float>(), sums.data<float>());
  else
    DT_CALL(bias_gradient<double>, rows, width, gradient.data<double>(), sums.data<double>());
  return result;
}

// A function without parameters, which takes its arguments by position alone: that is the fastest call.
template <Activation function>
static void define(nb::module_& module, const char* name, const char* name_backward) {
  module.def(name, [](Array x) { return value(function, x); });
  module.def(name_backward, [](Array gradient, Array x) { return slope(function, gradient, x); });
}

template <Activation function>
static void define(nb::module_& module, const char* name, const char* name_backward, const char* a) {
  module.def(name, [](Array x, double a) { return value(function, x, a); }, "x"_a, nb::arg(a));
  module.def(
      name_backward, [](Array gradient, Array x, double a) { return slope(function, gradient, x, a); }, "gradient"_a, "x"_a, nb::arg(a));
}

template <Activation function>
static void define(nb::module_& module, const char* name, const char* name_backward, const char* a, const char* b) {
  module.def(name, [](Array x, double a, double b) { return value(function, x, a, b); }, "x"_a, nb::arg(a), nb::arg(b));
  module.def(
      name_backward, [](Array gradient, Array x, double a, double b) { return slope(function, gradient, x, a, b); }, "gradient"_a, "x"_a,
      nb::arg(a), nb::arg(b));
}

void bind_activation(nb::module_& module) {
  define<Activation::relu>(module, "relu", "relu_backward");
  define<Activation::silu>(module, "silu", "silu_backward");
  define<Activation::gelu>(module, "gelu", "gelu_backward");
  define<Activation::gelu_tanh>(module, "gelu_tanh", "gelu_tanh_backward");
  define<Activation::sigmoid>(module, "sigmoid", "sigmoid_backward");
  define<Activation::erf>(module, "erf", "erf_gradient");
  define<Activation::hardswish>(module, "hardswish", "hardswish_backward");
  define<Activation::clip>(module, "clip", "clip_backward", "low", "high");
  define<Activation::leaky_relu>(module, "leaky_relu", "leaky_relu_backward", "slope");
  define<Activation::elu>(module, "elu", "elu_backward", "alpha");
  define<Activation::softplus>(module, "softplus", "softplus_backward", "beta", "threshold");
  module.def("tanh_backward", [](Array gradient, Array y) { return slope(Activation::tanh, gradient, y); });  // forward: NumPy's is as fast
  module.def("bias_gradient", &bias_gradient);
}
