#include "array.h"
#define DT_HEADER "optim.h"
#include "each_isa.h"

using namespace nb::literals;

// Whether a rule can run on these arrays; `param` and the state are written.
static bool suits(const Array& param, const Array& grad, std::initializer_list<const Array*> state) {
  if (!all_floating({&param, &grad}) || !param.writeable() || !grad.same_shape(param)) return false;
  for (const Array* array : state)
    if (*array && (!all_floating({&param, array}) || !array->writeable() || !array->same_shape(param))) return false;
  return true;
}

template <class T>
static T* pointer(const Array& array) {
  return array ? array.data<T>() : nullptr;
}

// Makes `call` with a value of the arrays' type.
template <class Call>
static nb::object by_type(const Array& param, const Call& call) {
  Unlocked unlocked(param.size());
  if (param.is_float32())
    call(float());
  else
    call(double());
  return nb::none();
}

static nb::object adam(Array param, Array grad, Array exp_avg, Array exp_avg_sq, Array max_exp_avg_sq, double step_size, double beta1, double beta2,
                       double eps, double weight_decay, double shrink, bool maximize, double grad_divisor) {
  if (!suits(param, grad, {&exp_avg, &exp_avg_sq, &max_exp_avg_sq})) return declined();
  return by_type(param, [&](auto zero) {
    using T = decltype(zero);
    DT_CALL(adam<T>, param.size(), pointer<T>(param), pointer<T>(grad), pointer<T>(exp_avg), pointer<T>(exp_avg_sq), pointer<T>(max_exp_avg_sq),
            {step_size, beta1, beta2, eps, weight_decay, shrink, grad_divisor, maximize});
  });
}

static nb::object sgd(Array param, Array grad, Array momentum_buffer, double lr, double momentum, double dampening, double weight_decay,
                      bool nesterov, bool maximize, bool first, double grad_divisor) {
  if (!suits(param, grad, {&momentum_buffer})) return declined();
  return by_type(param, [&](auto zero) {
    using T = decltype(zero);
    DT_CALL(sgd<T>, param.size(), pointer<T>(param), pointer<T>(grad), pointer<T>(momentum_buffer),
            {lr, momentum, dampening, weight_decay, grad_divisor, nesterov, maximize, first});
  });
}

static nb::object adagrad(Array param, Array grad, Array sum, double lr, double eps, double weight_decay, bool maximize, double grad_divisor) {
  if (!suits(param, grad, {&sum})) return declined();
  return by_type(param, [&](auto zero) {
    using T = decltype(zero);
    DT_CALL(adagrad<T>, param.size(), pointer<T>(param), pointer<T>(grad), pointer<T>(sum), {lr, eps, weight_decay, grad_divisor, maximize});
  });
}

static nb::object adadelta(Array param, Array grad, Array square_avg, Array acc_delta, double lr, double rho, double eps, double weight_decay,
                           bool maximize, double grad_divisor) {
  if (!suits(param, grad, {&square_avg, &acc_delta})) return declined();
  return by_type(param, [&](auto zero) {
    using T = decltype(zero);
    DT_CALL(adadelta<T>, param.size(), pointer<T>(param), pointer<T>(grad), pointer<T>(square_avg), pointer<T>(acc_delta),
            {lr, rho, eps, weight_decay, grad_divisor, maximize});
  });
}

static nb::object rmsprop(Array param, Array grad, Array square_avg, Array momentum_buffer, Array grad_avg, double lr, double alpha, double eps,
                          double weight_decay, double momentum, bool maximize, double grad_divisor) {
  if (!suits(param, grad, {&square_avg, &momentum_buffer, &grad_avg})) return declined();
  return by_type(param, [&](auto zero) {
    using T = decltype(zero);
    DT_CALL(rmsprop<T>, param.size(), pointer<T>(param), pointer<T>(grad), pointer<T>(square_avg), pointer<T>(momentum_buffer),
            pointer<T>(grad_avg), {lr, alpha, eps, weight_decay, momentum, grad_divisor, maximize});
  });
}

void bind_optim(nb::module_& module) {
  module.def("adam", &adam, "param"_a, "grad"_a, "exp_avg"_a, "exp_avg_sq"_a, "max_exp_avg_sq"_a.none(), nb::kw_only(), "step_size"_a, "beta1"_a,
             "beta2"_a, "eps"_a, "weight_decay"_a, "shrink"_a, "maximize"_a, "grad_divisor"_a = 1.0);
  module.def("sgd", &sgd, "param"_a, "grad"_a, "momentum_buffer"_a.none(), nb::kw_only(), "lr"_a, "momentum"_a, "dampening"_a, "weight_decay"_a,
             "nesterov"_a, "maximize"_a, "first"_a, "grad_divisor"_a = 1.0);
  module.def("adagrad", &adagrad, "param"_a, "grad"_a, "sum"_a, nb::kw_only(), "lr"_a, "eps"_a, "weight_decay"_a, "maximize"_a, "grad_divisor"_a = 1.0);
  module.def("adadelta", &adadelta, "param"_a, "grad"_a, "square_avg"_a, "acc_delta"_a, nb::kw_only(), "lr"_a, "rho"_a, "eps"_a, "weight_decay"_a,
             "maximize"_a, "grad_divisor"_a = 1.0);
  module.def("rmsprop", &rmsprop, "param"_a, "grad"_a, "square_avg"_a, "momentum_buffer"_a.none(), "grad_avg"_a.none(), nb::kw_only(), "lr"_a,
             "alpha"_a, "eps"_a, "weight_decay"_a, "momentum"_a, "maximize"_a, "grad_divisor"_a = 1.0);
}
