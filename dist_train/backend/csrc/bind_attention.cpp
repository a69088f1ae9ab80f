#include "array.h"
#include "dropout_rule.h"
#define DT_HEADER "attention.h"
#include "each_isa.h"

using namespace nb::literals;

// `array` with two to four dimensions as (batch, head, row, column); axes of length 1 repeat.
template <class T>
static Strided<T> strided(const Array& array) {
  using Element = std::remove_const_t<T>;
  Strided<T> result{array ? array.data<Element>() : nullptr, {0, 0, 0, 0}};
  if (!array) return result;
  for (int axis = 0; axis < array.ndim(); ++axis)
    if (array.shape(axis) != 1) result.strides[4 - array.ndim() + axis] = array.stride(axis) / Index(sizeof(Element));
  return result;
}

// Whether elements can be read in place: aligned, in the machine's byte order, whole elements apart.
static bool readable(const Array& array) {
  auto* object = reinterpret_cast<PyArrayObject*>(array.object());
  if (array.ndim() > 4 || !PyArray_ISBEHAVED_RO(object)) return false;
  for (int axis = 0; axis < array.ndim(); ++axis)
    if (array.stride(axis) % PyArray_ITEMSIZE(object)) return false;
  return true;
}

// Whether `array` has the leading lengths of `like`, then these two.
static bool has_shape(const Array& array, const Array& like, Index rows, Index columns) {
  if (array.ndim() != like.ndim() || array.shape(-2) != rows || array.shape(-1) != columns) return false;
  for (int axis = 0; axis + 2 < like.ndim(); ++axis)
    if (array.shape(axis) != like.shape(axis)) return false;
  return true;
}

// Whether `mask` (or none) broadcasts against the scores of `query` and is of a type that is supported.
static bool mask_suits(const Array& mask, const Array& query, Index keys) {
  if (!mask) return true;
  if (!mask.ndim() || mask.ndim() > query.ndim() || !readable(mask) || (mask.type() != NPY_BOOL && mask.type() != query.type())) return false;
  for (int axis = 1; axis <= mask.ndim(); ++axis) {
    const Index length = axis == 1 ? keys : query.shape(-axis);
    if (mask.shape(-axis) != 1 && mask.shape(-axis) != length) return false;
  }
  return true;
}

static bool suits(const Array& query, const Array& key, const Array& value, const Array& mask) {
  if (query.ndim() < 2 || key.ndim() < 2 || value.ndim() < 2 || !query.size() || !key.size() || !value.size()) return false;
  for (const Array* array : {&query, &key, &value})
    if (!readable(*array) || array->type() != query.type()) return false;
  return (query.is_float32() || query.is_float64()) && has_shape(key, query, key.shape(-2), query.shape(-1)) &&
         has_shape(value, query, key.shape(-2), value.shape(-1)) && mask_suits(mask, query, key.shape(-2));
}

static AttentionShape shape_of(const Array& query, const Array& value) {
  const int ndim = query.ndim();
  return {ndim > 3 ? query.shape(-4) : 1, ndim > 2 ? query.shape(-3) : 1, query.shape(-2), value.shape(-2), query.shape(-1), value.shape(-1)};
}

// `dropout` is None or (key, p).
static AttentionRules rules_of(bool causal, double scale, const nb::object& dropout) {
  if (dropout.is_none()) return {causal, scale, false, 0, 0, 0.0};
  const DropoutRule rule(nb::cast<double>(dropout[1]));
  return {causal, scale, true, nb::cast<std::uint64_t>(dropout[0]), rule.threshold, rule.keep_scale};
}

// A new array of the shape of `like` with another last length, its axes but the last one in the order in which they lie in `like`, so that
// merging the heads of what came from splitting a projection takes no copy.
static nb::object in_layout_of(const Array& like, Index columns) {
  const int ndim = like.ndim();
  int order[4];
  for (int i = 0; i + 1 < ndim; ++i) {
    int place = i;
    for (; place && std::abs(like.stride(order[place - 1])) < std::abs(like.stride(i)); --place) order[place] = order[place - 1];
    order[place] = i;
  }
  order[ndim - 1] = ndim - 1;
  npy_intp dims[4], inverse[4];
  for (int i = 0; i < ndim; ++i) {
    dims[i] = order[i] == ndim - 1 ? columns : like.shape(order[i]);
    inverse[order[i]] = i;
  }
  nb::object array = nb::steal(PyArray_SimpleNew(ndim, dims, like.type()));
  PyArray_Dims axes{inverse, ndim};
  return nb::steal(PyArray_Transpose(reinterpret_cast<PyArrayObject*>(array.ptr()), &axes));
}

static nb::object statistics(const Array& query) {
  return nb::steal(PyArray_SimpleNew(query.ndim() - 1, PyArray_DIMS(reinterpret_cast<PyArrayObject*>(query.object())), query.type()));
}

template <class T>
static Strided<const T> added(const Array& mask) {
  return mask && mask.type() != NPY_BOOL ? strided<const T>(mask) : Strided<const T>{};
}

static Strided<const bool> visible(const Array& mask) {
  return mask && mask.type() == NPY_BOOL ? strided<const bool>(mask) : Strided<const bool>{};
}

// Calls `run` with a value of the arrays' type and without Python's lock.
template <class Run>
static void run_by_type(const Array& query, const Array& key, const Run& run) {
  const Unlocked unlocked(query.size() * key.shape(-2));
  query.is_float32() ? run(float()) : run(double());
}

static nb::object attention(Array query, Array key, Array value, Array mask, bool causal, double scale, nb::object dropout) {
  if (!suits(query, key, value, mask)) return declined();
  const AttentionShape shape = shape_of(query, value);
  const AttentionRules rules = rules_of(causal, scale, dropout);
  const nb::object output = in_layout_of(query, value.shape(-1)), largest = statistics(query), total = statistics(query);
  run_by_type(query, key, [&](auto zero) {
    using T = decltype(zero);
    DT_CALL(attention<T>, shape, rules, strided<const T>(query), strided<const T>(key), strided<const T>(value), visible(mask), added<T>(mask),
                   strided<T>(view(output)), view(largest).data<T>(), view(total).data<T>());
  });
  return nb::make_tuple(output, largest, total);
}

static nb::object attention_backward(Array gradient, Array query, Array key, Array value, Array mask, Array output, Array largest, Array total,
                                     bool causal, double scale, nb::object dropout, bool of_mask) {
  if (of_mask || !suits(query, key, value, mask)) return declined();
  for (const Array* array : {&gradient, &output})
    if (!readable(*array) || array->type() != query.type() || !has_shape(*array, query, query.shape(-2), value.shape(-1))) return declined();
  for (const Array* array : {&largest, &total})
    if (!array->contiguous() || array->type() != query.type() || array->size() * query.shape(-1) != query.size()) return declined();
  const AttentionShape shape = shape_of(query, value);
  const AttentionRules rules = rules_of(causal, scale, dropout);
  const nb::object of_query = in_layout_of(query, query.shape(-1)), of_key = in_layout_of(key, key.shape(-1));
  const nb::object of_value = in_layout_of(value, value.shape(-1));
  run_by_type(query, key, [&](auto zero) {
    using T = decltype(zero);
    DT_CALL(attention_backward<T>, shape, rules, strided<const T>(gradient), strided<const T>(query), strided<const T>(key),
                   strided<const T>(value), visible(mask), added<T>(mask), strided<const T>(output), largest.data<const T>(), total.data<const T>(),
                   strided<T>(view(of_query)), strided<T>(view(of_key)), strided<T>(view(of_value)));
  });
  return nb::make_tuple(of_query, of_key, of_value, nb::none());
}

void bind_attention(nb::module_& module) {
  module.def("attention", &attention, "query"_a, "key"_a, "value"_a, "mask"_a.none(), "causal"_a, "scale"_a, "dropout"_a.none());
  module.def("attention_backward", &attention_backward, "gradient"_a, "query"_a, "key"_a, "value"_a, "mask"_a.none(), "output"_a, "largest"_a,
             "total"_a, "causal"_a, "scale"_a, "dropout"_a.none(), "of_mask"_a);
}
