#include "array.h"
#define DT_HEADER "fold.h"
#include "each_isa.h"

#include <algorithm>
#include <vector>

using namespace nb::literals;

template <class Call>
static nb::object by_type(const Array& array, const Call& call) {
  Unlocked unlocked(array.size());
  if (array.is_float32())
    call(float());
  else
    call(double());
  return nb::none();
}

static nb::object scale(Array source, double factor, Array out) {
  if (!all_floating({&source, &out}) || !out.same_shape(source) || !out.writeable()) return declined();
  if (factor == 1 && out.object() == source.object()) return nb::none();
  return by_type(out, [&](auto zero) {
    using T = decltype(zero);
    DT_CALL(scale<T>, out.size(), source.data<T>(), T(factor), out.data<T>());
  });
}

// The most sums that wait at a time; −1 where the additions are not those of a tree over all sources.
static int depth_of(const std::vector<int>& additions) {
  int depth = 0, most = 0;
  for (int count : additions) {
    most = std::max(most, ++depth);
    if (count < 0 || count >= depth) return -1;
    depth -= count;
  }
  return depth == 1 ? most : -1;
}

static nb::object fold_blocks(Array out, nb::sequence sources, nb::sequence weights, nb::sequence additions, Array squares) {
  std::vector<Array> arrays;
  for (nb::handle source : sources) {
    if (!PyArray_Check(source.ptr())) return declined();
    arrays.emplace_back(source.ptr());
    if (!all_floating({&out, &arrays.back()}) || !arrays.back().same_shape(out)) return declined();
  }
  std::vector<int> counts;
  for (nb::handle count : additions) counts.push_back(nb::cast<int>(count));
  std::vector<double> factors;
  for (nb::handle weight : weights) factors.push_back(nb::cast<double>(weight));
  const int depth = depth_of(counts);
  if (depth < 0 || arrays.size() != counts.size() || factors.size() != counts.size()) throw nb::value_error("no tree over the sources");
  const Index blocks = out.size() / base::fold_block;
  if (depth > base::fold_depth || out.ndim() != 1 || out.size() % base::fold_block || !out.writeable()) return declined();
  if (squares && !(squares.is_float64() && squares.contiguous() && squares.writeable() && squares.size() == blocks)) return declined();
  return by_type(out, [&](auto zero) {
    using T = decltype(zero);
    std::vector<const T*> pointers;
    for (const Array& array : arrays) pointers.push_back(array.data<T>());
    const std::vector<T> scales(factors.begin(), factors.end());
    DT_CALL(fold_blocks<T>, out.size(), out.data<T>(), static_cast<int>(counts.size()), pointers.data(), scales.data(), counts.data(),
            squares ? squares.data<double>() : nullptr);
  });
}

static nb::object take_and_sum(Array source, Array index, Array out, Index first) {
  const bool vectors = source.ndim() == 1 && index.ndim() == 1 && out.ndim() == 1 && index.type() == NPY_INT64 && index.contiguous();
  if (!vectors || !all_floating({&source, &out}) || !source.is_float64() || !out.writeable()) return declined();
  if (out.size() != index.size() || !source.size() || first < 0) return declined();
  return nb::float_(DT_CALL(take_and_sum, out.size(), source.data<double>(), source.size(), index.data<std::int64_t>(), out.data<double>(), first));
}

void bind_fold(nb::module_& module) {
  module.def("scale", &scale, "source"_a, "factor"_a, "out"_a);
  module.def("fold_blocks", &fold_blocks, "out"_a, "sources"_a, "weights"_a, "additions"_a, "squares"_a.none());
  module.def("take_and_sum", &take_and_sum);
}
