#include "array.h"
#define DT_HEADER "softmax.h"
#include "each_isa.h"

#include <cmath>
#include <cstring>

using namespace nb::literals;

// Whether `axis` is the last one of an array that the kernels take.
static bool suits(const Array& x, Index axis) {
  return all_floating({&x}) && x.ndim() > 0 && (axis == -1 || axis == x.ndim() - 1);
}

// Calls call(value of the array's type, rows, width).
template <class Call>
static void on_rows(const Array& x, const Call& call) {
  const Index width = x.shape(-1), rows = width ? x.size() / width : 0;
  Unlocked unlocked(x.size());
  if (x.is_float32())
    call(float(), rows, width);
  else
    call(double(), rows, width);
}

static nb::object softmax(Array x, Index axis) {
  if (!suits(x, axis)) return declined();
  nb::object result = empty_like(x);
  const Array y = view(result);
  on_rows(x, [&](auto zero, Index rows, Index width) {
    using T = decltype(zero);
    DT_CALL(softmax<T>, rows, width, x.data<T>(), y.data<T>());
  });
  return result;
}

static nb::object log_softmax(Array x, Index axis) {
  if (!suits(x, axis)) return declined();
  nb::object result = empty_like(x);
  const Array y = view(result);
  on_rows(x, [&](auto zero, Index rows, Index width) {
    using T = decltype(zero);
    DT_CALL(log_softmax<T>, rows, width, x.data<T>(), y.data<T>());
  });
  return result;
}

static nb::object softmax_backward(Array gradient, Array y, Index axis) {
  if (!suits(y, axis) || !all_floating({&gradient, &y}) || !gradient.same_shape(y)) return declined();
  nb::object result = empty_like(y);
  const Array of_x = view(result);
  on_rows(y, [&](auto zero, Index rows, Index width) {
    using T = decltype(zero);
    DT_CALL(softmax_backward<T>, rows, width, gradient.data<T>(), y.data<T>(), of_x.data<T>());
  });
  return result;
}

static nb::object log_softmax_backward(Array gradient, Array y, Index axis) {
  if (!suits(y, axis) || !all_floating({&gradient, &y}) || !gradient.same_shape(y)) return declined();
  nb::object result = empty_like(y);
  const Array of_x = view(result);
  on_rows(y, [&](auto zero, Index rows, Index width) {
    using T = decltype(zero);
    DT_CALL(log_softmax_backward<T>, rows, width, gradient.data<T>(), y.data<T>(), of_x.data<T>());
  });
  return result;
}

static bool is_labels(const Array& labels, Index rows) {
  return labels.type() == NPY_INT64 && labels.contiguous() && labels.ndim() == 1 && labels.size() == rows;
}

// Whether all labels are classes; ignored ones are left to the reference, and wrong ones to its error.
static bool are_classes(const Array& labels, Index classes, std::int64_t ignore_index) {
  const std::int64_t* label = labels.data<std::int64_t>();
  bool right = true;
  for (Index row = 0; row < labels.size(); ++row) right &= std::uint64_t(label[row]) < std::uint64_t(classes) && label[row] != ignore_index;
  return right;
}

// The mean or the sum of the losses.
static nb::object reduced(const Array& losses, double share) {
  nb::object result = empty({}, losses.type());
  if (losses.is_float32())
    *view(result).data<float>() = DT_CALL(sum<float>, losses.size(), losses.data<float>()) * float(share);
  else
    *view(result).data<double>() = DT_CALL(sum<double>, losses.size(), losses.data<double>()) * share;
  return result;
}

static nb::object cross_entropy(Array x, Array labels, nb::object weight, std::int64_t ignore_index, const char* reduction) {
  if (!all_floating({&x}) || x.ndim() != 2 || !is_labels(labels, x.shape(0)) || !weight.is_none()) return declined();
  if (!are_classes(labels, x.shape(1), ignore_index)) return declined();
  nb::object probabilities = empty_like(x), losses = empty({labels.size()}, x.type());
  on_rows(x, [&](auto zero, Index rows, Index width) {
    using T = decltype(zero);
    DT_CALL(cross_entropy<T>, rows, width, x.data<T>(), labels.data<std::int64_t>(), view(probabilities).data<T>(), view(losses).data<T>());
  });
  const double share = std::strcmp(reduction, "mean") ? 1 : labels.size() ? 1.0 / double(labels.size()) : std::nan("");
  return nb::make_tuple(std::strcmp(reduction, "none") ? reduced(view(losses), share) : losses, probabilities, nb::borrow(labels.object()), share);
}

template <class T>
static void differentiate(const Array& probabilities, const Array& labels, const Array& factors, const Array& result) {
  on_rows(probabilities, [&](auto, Index rows, Index width) {
    DT_CALL(cross_entropy_backward<T>, rows, width, probabilities.data<T>(), labels.data<std::int64_t>(), factors.data<T>(),
            factors.ndim() == 0, result.data<T>());
  });
}

// `gradient` is one number, or one per row.
static nb::object cross_entropy_backward(Array probabilities, Array gradient, Array labels, nb::object share) {
  if (!all_floating({&probabilities, &gradient}) || probabilities.ndim() != 2 || !is_labels(labels, probabilities.shape(0))) return declined();
  if (gradient.ndim() > 1 || (gradient.ndim() == 1 && gradient.size() != labels.size()) || !PyFloat_Check(share.ptr())) return declined();
  if (!are_classes(labels, probabilities.shape(1), -1)) return declined();
  nb::object result = empty_like(probabilities), factors = empty_like(gradient);
  const double by = PyFloat_AS_DOUBLE(share.ptr());
  if (gradient.is_float32()) {
    for (Index i = 0; i < gradient.size(); ++i) view(factors).data<float>()[i] = gradient.data<float>()[i] * float(by);
    differentiate<float>(probabilities, labels, view(factors), view(result));
  } else {
    for (Index i = 0; i < gradient.size(); ++i) view(factors).data<double>()[i] = gradient.data<double>()[i] * by;
    differentiate<double>(probabilities, labels, view(factors), view(result));
  }
  return result;
}

void bind_softmax(nb::module_& module) {
  module.def("softmax", &softmax);
  module.def("softmax_backward", &softmax_backward);
  module.def("log_softmax", &log_softmax);
  module.def("log_softmax_backward", &log_softmax_backward);
  module.def("cross_entropy", &cross_entropy, "x"_a, "labels"_a, "weight"_a.none(), "ignore_index"_a, "reduction"_a);
  module.def("cross_entropy_backward", &cross_entropy_backward);
}
