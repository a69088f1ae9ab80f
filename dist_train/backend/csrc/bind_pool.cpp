#include "array.h"
#define DT_HEADER "pool.h"
#include "each_isa.h"
#include "geometry.h"

using namespace nb::literals;

// The geometry; false where the reference must say what is wrong, or takes care of empty arrays.
static bool read_shape(PoolShape& s, const Shape& image, const nb::tuple& window, const nb::tuple& stride, const nb::tuple& padding,
                       const nb::tuple& dilation, const Index* output) {
  Index widths[2][2];
  if (!read(window, 1, s.window, 2) || !read(stride, 1, s.stride, 2) || !read(dilation, 1, s.dilation, 2) || padding.size() != 2) return false;
  s.planes = image[0] * image[1];
  for (int i = 0; i < 2; ++i) {
    if (!read(nb::cast<nb::tuple>(padding[i]), 0, widths[i], 2)) return false;
    s.before[i] = widths[i][0];
    s.input[i] = image[2 + i];
    s.output[i] = output[i];
    if (s.input[i] < 1 || s.output[i] < 1) return false;
  }
  return s.planes > 0;
}

static bool is_output(const Shape& shape, const Shape& image) { return shape[0] == image[0] && shape[1] == image[1]; }

// Makes `call` with a value of the array's type.
template <class Call>
static void by_type(const Array& array, const Call& call) {
  const Unlocked unlocked(array.size());
  if (array.is_float32())
    call(float());
  else
    call(double());
}

static nb::object max_pool(Array given, nb::tuple window, nb::tuple stride, nb::tuple padding, nb::tuple dilation, nb::tuple size) {
  const Contiguous x(given);
  PoolShape s;
  Shape image;
  Index output[2];
  if (!all_floating({&x}) || !read(x, image) || !read(size, 1, output, 2)) return declined();
  if (!read_shape(s, image, window, stride, padding, dilation, output)) return declined();
  const bool narrow = s.window[0] * s.window[1] <= 256;
  nb::object y = empty({image[0], image[1], output[0], output[1]}, x.type());
  nb::object index = empty({image[0], image[1], output[0], output[1]}, narrow ? NPY_UINT8 : NPY_INT32);
  by_type(x, [&](auto zero) {
    using T = decltype(zero);
    if (narrow)
      DT_CALL(max_pool, s, x.data<T>(), view(y).data<T>(), view(index).data<uint8_t>());
    else
      DT_CALL(max_pool, s, x.data<T>(), view(y).data<T>(), view(index).data<int32_t>());
  });
  return nb::make_tuple(y, index);
}

static nb::object max_pool_backward(Array given, Array index, nb::tuple shape, nb::tuple window, nb::tuple stride, nb::tuple padding,
                                    nb::tuple dilation) {
  const Contiguous gradient(given);
  PoolShape s;
  Shape image, output;
  if (!all_floating({&gradient}) || !read(gradient, output) || !read(shape, 0, image.extent, 4) || !is_output(output, image)) return declined();
  if (!index || !index.contiguous() || !index.same_shape(gradient) || (index.type() != NPY_UINT8 && index.type() != NPY_INT32)) return declined();
  if (!read_shape(s, image, window, stride, padding, dilation, output.extent + 2)) return declined();
  nb::object of_x = empty({image[0], image[1], image[2], image[3]}, gradient.type());
  by_type(gradient, [&](auto zero) {
    using T = decltype(zero);
    if (index.type() == NPY_UINT8)
      DT_CALL(max_pool_backward, s, gradient.data<T>(), index.data<uint8_t>(), view(of_x).data<T>());
    else
      DT_CALL(max_pool_backward, s, gradient.data<T>(), index.data<int32_t>(), view(of_x).data<T>());
  });
  return of_x;
}

// What sums are divided by: one number, or an array with one per output position.
struct Divisor {
  double number = 1;
  Array each;

  bool read(const nb::object& from, int type, const Index* output) {
    if (!PyArray_Check(from.ptr())) return nb::try_cast(from, number);
    each = view(from);
    return each.contiguous() && each.type() == type && each.ndim() == 2 && each.shape(0) == output[0] && each.shape(1) == output[1];
  }
  template <class T>
  const T* data() const {
    return each ? each.data<T>() : nullptr;
  }
};

static nb::object avg_pool(Array given, nb::tuple window, nb::tuple stride, nb::tuple padding, nb::tuple size, nb::object divisor) {
  const Contiguous x(given);
  PoolShape s;
  Shape image;
  Index output[2];
  Divisor by;
  if (!all_floating({&x}) || !read(x, image) || !read(size, 1, output, 2) || !by.read(divisor, x.type(), output)) return declined();
  if (!read_shape(s, image, window, stride, padding, nb::make_tuple(1, 1), output)) return declined();
  nb::object y = empty({image[0], image[1], output[0], output[1]}, x.type());
  by_type(x, [&](auto zero) {
    using T = decltype(zero);
    DT_CALL(avg_pool<T>, s, x.data<T>(), T(by.number), by.data<T>(), view(y).data<T>());
  });
  return y;
}

static nb::object avg_pool_backward(Array given, nb::tuple shape, nb::tuple window, nb::tuple stride, nb::tuple padding, nb::object divisor) {
  const Contiguous gradient(given);
  PoolShape s;
  Shape image, output;
  Divisor by;
  if (!all_floating({&gradient}) || !read(gradient, output) || !read(shape, 0, image.extent, 4) || !is_output(output, image)) return declined();
  if (!by.read(divisor, gradient.type(), output.extent + 2)) return declined();
  if (!read_shape(s, image, window, stride, padding, nb::make_tuple(1, 1), output.extent + 2)) return declined();
  nb::object of_x = empty({image[0], image[1], image[2], image[3]}, gradient.type());
  by_type(gradient, [&](auto zero) {
    using T = decltype(zero);
    DT_CALL(avg_pool_backward<T>, s, gradient.data<T>(), T(by.number), by.data<T>(), view(of_x).data<T>());
  });
  return of_x;
}

void bind_pool(nb::module_& module) {
  module.def("max_pool", &max_pool, "x"_a, "window"_a, "stride"_a, "padding"_a, "dilation"_a, "size"_a);
  module.def("max_pool_backward", &max_pool_backward, "gradient"_a, "index"_a, "shape"_a, "window"_a, "stride"_a, "padding"_a, "dilation"_a);
  module.def("avg_pool", &avg_pool, "x"_a, "window"_a, "stride"_a, "padding"_a, "size"_a, "divisor"_a);
  module.def("avg_pool_backward", &avg_pool_backward, "gradient"_a, "shape"_a, "window"_a, "stride"_a, "padding"_a, "divisor"_a);
}
