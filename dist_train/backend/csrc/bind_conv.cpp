#include "array.h"
#define DT_HEADER "conv.h"
#include "each_isa.h"
#include "geometry.h"

using namespace nb::literals;

// The geometry; false where the reference must say what is wrong, or takes care of empty arrays.
static bool read_shape(ConvShape& s, const Shape& image, const Shape& weight, const nb::tuple& stride, const nb::tuple& padding,
                       const nb::tuple& dilation, Index groups) {
  Index widths[2][2];
  if (groups < 1 || padding.size() != 2) return false;
  if (!read(stride, 1, s.stride, 2) || !read(dilation, 1, s.dilation, 2)) return false;
  s.images = image[0];
  s.channels = image[1];
  s.filters = weight[0];
  s.groups = groups;
  if (s.filters % groups || weight[1] * groups != s.channels || s.images < 1 || s.channels < 1 || s.filters < 1) return false;
  for (int i = 0; i < 2; ++i) {
    if (!read(nb::cast<nb::tuple>(padding[i]), -limit, widths[i], 2)) return false;
    s.input[i] = image[2 + i];
    s.window[i] = weight[2 + i];
    s.before[i] = widths[i][0];
    const Index room = s.input[i] + widths[i][0] + widths[i][1] - s.dilation[i] * (s.window[i] - 1) - 1;
    if (s.input[i] < 1 || s.window[i] < 1 || room < 0) return false;
    s.output[i] = room / s.stride[i] + 1;
  }
  return true;
}

static bool is_output(const Array& array, const ConvShape& s) {
  return array.ndim() == 4 && array.shape(0) == s.images && array.shape(1) == s.filters && array.shape(2) == s.output[0] &&
         array.shape(3) == s.output[1];
}

template <class T>
static T* pointer(const Array& array) {
  return array ? array.data<T>() : nullptr;
}

static nb::object conv2d(Array x_given, Array weight_given, Array bias_given, nb::tuple stride, nb::tuple padding, nb::tuple dilation, Index groups) {
  const Contiguous x(x_given), weight(weight_given), bias(bias_given);
  ConvShape s;
  Shape image, filters;
  if (!all_floating({&x, &weight, &bias}) || !read(x, image) || !read(weight, filters)) return declined();
  if (!read_shape(s, image, filters, stride, padding, dilation, groups)) return declined();
  if (bias && (bias.ndim() != 1 || bias.size() != s.filters)) return declined();
  nb::object y = empty({s.images, s.filters, s.output[0], s.output[1]}, x.type());
  const Unlocked unlocked(view(y).size());
  if (x.is_float32())
    DT_CALL(conv2d<float>, s, pointer<float>(x), pointer<float>(weight), pointer<float>(bias), pointer<float>(view(y)));
  else
    DT_CALL(conv2d<double>, s, pointer<double>(x), pointer<double>(weight), pointer<double>(bias), pointer<double>(view(y)));
  return y;
}

static nb::object conv2d_backward_input(Array gradient_given, Array weight_given, nb::tuple shape, nb::tuple stride, nb::tuple padding,
                                        nb::tuple dilation, Index groups) {
  const Contiguous gradient(gradient_given), weight(weight_given);
  ConvShape s;
  Shape image, filters;
  if (!all_floating({&gradient, &weight}) || !read(shape, 0, image.extent, 4) || !read(weight, filters)) return declined();
  if (!read_shape(s, image, filters, stride, padding, dilation, groups) || !is_output(gradient, s)) return declined();
  nb::object of_x = empty({image[0], image[1], image[2], image[3]}, gradient.type());
  const Unlocked unlocked(view(of_x).size());
  if (gradient.is_float32())
    DT_CALL(conv2d_backward_input<float>, s, pointer<float>(gradient), pointer<float>(weight), pointer<float>(view(of_x)));
  else
    DT_CALL(conv2d_backward_input<double>, s, pointer<double>(gradient), pointer<double>(weight), pointer<double>(view(of_x)));
  return of_x;
}

static nb::object conv2d_backward_weight(Array gradient_given, Array x_given, nb::tuple shape, nb::tuple stride, nb::tuple padding,
                                         nb::tuple dilation, Index groups, bool with_bias) {
  const Contiguous gradient(gradient_given), x(x_given);
  ConvShape s;
  Shape image, filters;
  if (!all_floating({&gradient, &x}) || !read(x, image) || !read(shape, 0, filters.extent, 4)) return declined();
  if (!read_shape(s, image, filters, stride, padding, dilation, groups) || !is_output(gradient, s)) return declined();
  nb::object of_weight = empty({filters[0], filters[1], filters[2], filters[3]}, x.type()), of_bias = nb::none();
  if (with_bias) of_bias = empty({s.filters}, x.type());
  const Array bias = with_bias ? view(of_bias) : Array();
  {
    const Unlocked unlocked(gradient.size());
    if (x.is_float32())
      DT_CALL(conv2d_backward_weight<float>, s, pointer<float>(gradient), pointer<float>(x), pointer<float>(view(of_weight)), pointer<float>(bias));
    else
      DT_CALL(conv2d_backward_weight<double>, s, pointer<double>(gradient), pointer<double>(x), pointer<double>(view(of_weight)),
              pointer<double>(bias));
  }
  return nb::make_tuple(of_weight, of_bias);
}

void bind_conv(nb::module_& module) {
  module.def("conv2d", &conv2d, "x"_a, "weight"_a, "bias"_a.none(), "stride"_a, "padding"_a, "dilation"_a, "groups"_a);
  module.def("conv2d_backward_input", &conv2d_backward_input, "gradient"_a, "weight"_a, "shape"_a, "stride"_a, "padding"_a, "dilation"_a, "groups"_a);
  module.def("conv2d_backward_weight", &conv2d_backward_weight, "gradient"_a, "x"_a, "shape"_a, "stride"_a, "padding"_a, "dilation"_a, "groups"_a,
             "with_bias"_a);
}
