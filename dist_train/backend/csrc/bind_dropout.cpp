#include "array.h"
#include "dropout_rule.h"
#define DT_HEADER "dropout.h"
#include "each_isa.h"

using namespace nb::literals;

static nb::object dropout(Array x, std::uint64_t key, double p) {
  if ((!x.is_float32() && !x.is_float64()) || !(p >= 0 && p <= 1)) return declined();
  const nb::object contiguous = nb::steal(PyArray_FROMANY(x.object(), x.type(), 0, 0, NPY_ARRAY_CARRAY_RO | NPY_ARRAY_NOTSWAPPED));
  const Array source = view(contiguous);
  nb::object result = empty_like(source);
  const DropoutRule rule(p);
  const auto run = [&](auto zero) {
    using T = decltype(zero);
    const Unlocked unlocked(source.size());
    DT_CALL(dropout<T>, source.size(), source.data<const T>(), key, rule.threshold, rule.keep_scale, view(result).data<T>());
  };
  x.is_float32() ? run(float()) : run(double());
  return result;
}

void bind_dropout(nb::module_& module) { module.def("dropout", &dropout, "x"_a, "key"_a, "p"_a); }
