#include "array.h"
#define DT_HEADER "norm.h"
#include "each_isa.h"

using namespace nb::literals;

template <class T>
static T* pointer(const Array& array) {
  return array ? array.data<T>() : nullptr;
}

template <class T>
static T* pointer(const nb::object& object) {
  return object.is_none() ? nullptr : view(object).data<T>();
}

// Calls call(value of the array's type).
template <class Call>
static void by_type(const Array& x, const Call& call) {
  Unlocked unlocked(x.size());
  if (x.is_float32())
    call(float());
  else
    call(double());
}

// Whether all arrays (none are skipped) are vectors of `size`, of the type of `x`.
static bool are_vectors(const Array& x, Index size, std::initializer_list<const Array*> arrays) {
  for (const Array* array : arrays)
    if (*array && (!all_floating({&x, array}) || array->ndim() != 1 || array->size() != size)) return false;
  return true;
}

// Rows

static bool are_rows(const Array& x) { return all_floating({&x}) && x.ndim() == 2 && x.shape(1) > 0; }

static bool is_column(const Array& x, const Array& column) {
  return all_floating({&x, &column}) && column.ndim() == 2 && column.shape(0) == x.shape(0) && column.shape(1) == 1;
}

static nb::object layer_norm(Array x, Array weight, Array bias, double eps) {
  if (!are_rows(x) || !are_vectors(x, x.shape(1), {&weight, &bias}) || (bias && !weight)) return declined();
  const Index rows = x.shape(0), width = x.shape(1);
  nb::object y = empty_like(x), mean = empty({rows, 1}, x.type()), scale = empty({rows, 1}, x.type());
  by_type(x, [&](auto zero) {
    using T = decltype(zero);
    DT_CALL(layer_norm<T>, rows, width, x.data<T>(), pointer<T>(weight), pointer<T>(bias), T(eps), pointer<T>(y), pointer<T>(mean),
            pointer<T>(scale));
  });
  return nb::make_tuple(y, mean, scale);
}

static nb::object layer_norm_backward(Array gradient, Array x, Array weight, Array mean, Array scale) {
  if (!are_rows(x) || !all_floating({&x, &gradient}) || !gradient.same_shape(x) || !are_vectors(x, x.shape(1), {&weight}) ||
      !is_column(x, mean) || !is_column(x, scale))
    return declined();
  const Index rows = x.shape(0), width = x.shape(1);
  nb::object of_x = empty_like(x), of_weight = nb::none(), of_bias = nb::none(), partial = nb::none();
  if (weight) {
    of_weight = empty({width}, x.type()), of_bias = empty({width}, x.type());
    partial = empty({DT_CALL(layer_norm_parts, rows), 2, width}, x.type());
  }
  by_type(x, [&](auto zero) {
    using T = decltype(zero);
    DT_CALL(layer_norm_backward<T>, rows, width, gradient.data<T>(), x.data<T>(), pointer<T>(weight), mean.data<T>(), scale.data<T>(),
            pointer<T>(partial), pointer<T>(of_x), pointer<T>(of_weight), pointer<T>(of_bias));
  });
  return nb::make_tuple(of_x, of_weight, of_bias);
}

// Channels: (count, channels, length)

static bool are_channels(const Array& x) { return all_floating({&x}) && x.ndim() == 3 && x.size() > 0; }

static nb::object batch_norm(Array x, Array weight, Array bias, double eps) {
  if (!are_channels(x) || !are_vectors(x, x.shape(1), {&weight, &bias})) return declined();
  const Index channels = x.shape(1);
  nb::object y = empty_like(x), mean = empty({channels}, x.type()), variance = empty({channels}, x.type()), scale = empty({channels}, x.type());
  by_type(x, [&](auto zero) {
    using T = decltype(zero);
    DT_CALL(batch_norm<T>, x.shape(0), channels, x.shape(2), x.data<T>(), pointer<T>(weight), pointer<T>(bias), T(eps), pointer<T>(y),
            pointer<T>(mean), pointer<T>(variance), pointer<T>(scale));
  });
  return nb::make_tuple(y, mean, variance, scale);
}

static nb::object normalize_channels(Array x, Array mean, Array variance, Array weight, Array bias, double eps) {
  if (!are_channels(x) || !are_vectors(x, x.shape(1), {&mean, &variance, &weight, &bias})) return declined();
  nb::object y = empty_like(x), scale = empty({x.shape(1)}, x.type());
  by_type(x, [&](auto zero) {
    using T = decltype(zero);
    DT_CALL(normalize_channels<T>, x.shape(0), x.shape(1), x.shape(2), x.data<T>(), mean.data<T>(), variance.data<T>(), pointer<T>(weight),
            pointer<T>(bias), T(eps), pointer<T>(y), pointer<T>(scale));
  });
  return nb::make_tuple(y, scale);
}

static nb::object batch_norm_backward(Array gradient, Array x, Array weight, Array mean, Array scale, bool training) {
  if (!are_channels(x) || !all_floating({&x, &gradient}) || !gradient.same_shape(x) || !are_vectors(x, x.shape(1), {&weight, &mean, &scale}))
    return declined();
  nb::object of_x = empty_like(x), of_weight = empty({x.shape(1)}, x.type()), of_bias = empty({x.shape(1)}, x.type());
  by_type(x, [&](auto zero) {
    using T = decltype(zero);
    DT_CALL(batch_norm_backward<T>, x.shape(0), x.shape(1), x.shape(2), gradient.data<T>(), x.data<T>(), pointer<T>(weight), mean.data<T>(),
            scale.data<T>(), training, pointer<T>(of_x), pointer<T>(of_weight), pointer<T>(of_bias));
  });
  return nb::make_tuple(of_x, of_weight, of_bias);
}

static nb::object scale_channels(Array x, Array factor, Array shift) {
  if (!are_channels(x) || !are_vectors(x, x.shape(1), {&factor, &shift})) return declined();
  nb::object y = empty_like(x);
  by_type(x, [&](auto zero) {
    using T = decltype(zero);
    DT_CALL(scale_channels<T>, x.shape(0), x.shape(1), x.shape(2), x.data<T>(), factor.data<T>(), pointer<T>(shift), pointer<T>(y));
  });
  return y;
}

static nb::object channel_sum(Array x) {
  if (!are_channels(x)) return declined();
  nb::object sums = empty({x.shape(1)}, x.type());
  by_type(x, [&](auto zero) {
    using T = decltype(zero);
    DT_CALL(channel_sums<T>, x.shape(0), x.shape(1), x.shape(2), x.data<T>(), nullptr, pointer<T>(sums), nullptr);
  });
  return sums;
}

static nb::object channel_sums(Array gradient, Array y) {
  if (!are_channels(gradient) || !all_floating({&gradient, &y}) || !y.same_shape(gradient)) return declined();
  nb::object sums = empty({y.shape(1)}, y.type()), products = empty({y.shape(1)}, y.type());
  by_type(y, [&](auto zero) {
    using T = decltype(zero);
    DT_CALL(channel_sums<T>, y.shape(0), y.shape(1), y.shape(2), gradient.data<T>(), y.data<T>(), pointer<T>(sums), pointer<T>(products));
  });
  return nb::make_tuple(sums, products);
}

void bind_norm(nb::module_& module) {
  module.def("layer_norm", &layer_norm, "x"_a, "weight"_a.none(), "bias"_a.none(), "eps"_a);
  module.def("layer_norm_backward", &layer_norm_backward, "gradient"_a, "x"_a, "weight"_a.none(), "mean"_a, "scale"_a);
  module.def("batch_norm", &batch_norm, "x"_a, "weight"_a.none(), "bias"_a.none(), "eps"_a);
  module.def("normalize_channels", &normalize_channels, "x"_a, "mean"_a, "variance"_a, "weight"_a.none(), "bias"_a.none(), "eps"_a);
  module.def("batch_norm_backward", &batch_norm_backward, "gradient"_a, "x"_a, "weight"_a.none(), "mean"_a, "scale"_a, "training"_a);
  module.def("scale_channels", &scale_channels, "x"_a, "factor"_a, "shift"_a.none());
  module.def("channel_sum", &channel_sum);
  module.def("channel_sums", &channel_sums);
}
