#include "indices.h"
#define DT_HEADER "embedding.h"
#include "each_isa.h"

using namespace nb::literals;

static nb::object take_rows(Array array, Array indices) {
  const bool plain = PyTypeNum_ISNUMBER(array.type()) || PyTypeNum_ISBOOL(array.type());
  if (!array.contiguous() || !plain || array.ndim() < 1 || !array.size() || !are_indices(indices)) return declined();
  npy_intp dims[NPY_MAXDIMS];
  int ndim = 0;
  if (indices.ndim() + array.ndim() - 1 > NPY_MAXDIMS || !all_within(indices, -array.shape(0), array.shape(0))) return declined();
  for (int axis = 0; axis < indices.ndim(); ++axis) dims[ndim++] = indices.shape(axis);
  for (int axis = 1; axis < array.ndim(); ++axis) dims[ndim++] = array.shape(axis);
  nb::object result = nb::steal(PyArray_SimpleNew(ndim, dims, array.type()));
  if (!result.is_valid()) nb::raise_python_error();
  const Index known = indices.size() + num_following(indices, -array.shape(0), array.shape(0));
  const Index row_bytes = PyArray_NBYTES(reinterpret_cast<PyArrayObject*>(array.object())) / array.shape(0);
  by_index_type(indices, [&](auto zero) {
    using I = decltype(zero);
    const Unlocked unlocked(indices.size() * row_bytes / 8);
    DT_CALL(take_rows, indices.size(), known, indices.data<const I>(), array.shape(0), array.data<const char>(), row_bytes, view(result).data<char>());
  });
  return result;
}

static nb::object embedding_backward(Array gradient, Array indices, Index num_rows, nb::object padding, Array out) {
  if (!all_floating({&gradient, &out}) || !are_indices(indices) || gradient.ndim() < 1) return declined();
  const Index width = gradient.shape(-1);
  if (num_rows < 1 || width < 1 || gradient.size() != indices.size() * width || !all_within(indices, 0, num_rows)) return declined();
  if (out && (!out.writeable() || out.ndim() != 2 || out.shape(0) != num_rows || out.shape(1) != width)) return declined();
  nb::object result = out ? nb::borrow(out.object()) : empty({num_rows, width}, gradient.type());
  const Index skipped = padding.is_none() ? -1 : nb::cast<Index>(padding);
  const auto run = [&](auto zero) {
    using T = decltype(zero);
    by_index_type(indices, [&](auto first) {
      using I = decltype(first);
      const Unlocked unlocked(gradient.size() + num_rows * width);
      DT_CALL(embedding_backward, indices.size(), indices.data<const I>(), gradient.data<const T>(), num_rows, width, skipped,
              view(result).template data<T>());
    });
  };
  gradient.is_float32() ? run(float()) : run(double());
  return result;
}

void bind_embedding(nb::module_& module) {
  module.def("take_rows", &take_rows, "array"_a, "indices"_a);
  module.def("embedding_backward", &embedding_backward, "gradient"_a, "indices"_a, "num_rows"_a, "padding_index"_a.none(),
             "out"_a.none() = nb::none());
}
