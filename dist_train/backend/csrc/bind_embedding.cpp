#include "array.h"
#define DT_HEADER "embedding.h"
#include "each_isa.h"

using namespace nb::literals;

// Makes `call` with a value of the indices' type.
template <class Call>
static auto by_index_type(const Array& indices, const Call& call) {
  return PyArray_ITEMSIZE(reinterpret_cast<PyArrayObject*>(indices.object())) == 4 ? call(std::int32_t()) : call(std::int64_t());
}

static bool indices_suit(const Array& indices) {
  return indices.contiguous() && PyTypeNum_ISSIGNED(indices.type()) && PyTypeNum_ISINTEGER(indices.type()) &&
         PyArray_ITEMSIZE(reinterpret_cast<PyArrayObject*>(indices.object())) >= 4;
}

// Whether all indices are rows of a table.
static bool indices_within(const Array& indices, Index num_rows) {
  return by_index_type(indices, [&](auto zero) {
    using I = decltype(zero);
    return DT_CALL(all_within, indices.size(), indices.data<const I>(), num_rows);
  });
}

static nb::object embedding(Array weight, Array indices) {
  if (!all_floating({&weight}) || weight.ndim() != 2 || !weight.size() || !indices_suit(indices) || indices.ndim() >= 31) return declined();
  if (!indices_within(indices, weight.shape(0))) return declined();
  npy_intp dims[32];
  for (int axis = 0; axis < indices.ndim(); ++axis) dims[axis] = indices.shape(axis);
  dims[indices.ndim()] = weight.shape(1);
  nb::object rows = nb::steal(PyArray_SimpleNew(indices.ndim() + 1, dims, weight.type()));
  by_index_type(indices, [&](auto zero) {
    using I = decltype(zero);
    const Unlocked unlocked(view(rows).size());
    const Index row_bytes = weight.shape(1) * (weight.is_float32() ? 4 : 8);
    DT_CALL(embedding, indices.size(), indices.data<const I>(), weight.data<const char>(), row_bytes, view(rows).data<char>());
  });
  return rows;
}

static nb::object embedding_backward(Array gradient, Array indices, Index num_rows, nb::object padding, Array out) {
  if (!all_floating({&gradient, &out}) || !indices_suit(indices) || gradient.ndim() < 1) return declined();
  const Index width = gradient.shape(-1);
  if (num_rows < 1 || width < 1 || gradient.size() != indices.size() * width || !indices_within(indices, num_rows)) return declined();
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
  module.def("embedding", &embedding, "weight"_a, "indices"_a);
  module.def("embedding_backward", &embedding_backward, "gradient"_a, "indices"_a, "num_rows"_a, "padding_index"_a.none(),
             "out"_a.none() = nb::none());
}
