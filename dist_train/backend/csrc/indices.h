// Indices as the bindings see them: C-contiguous arrays of int32 or int64.
#pragma once

#include "array.h"

inline bool are_indices(const Array& array) {
  return array.contiguous() && PyTypeNum_ISSIGNED(array.type()) && PyTypeNum_ISINTEGER(array.type()) &&
         PyArray_ITEMSIZE(reinterpret_cast<PyArrayObject*>(array.object())) >= 4;
}

// Makes `call` with a value of the indices' type.
template <class Call>
auto by_index_type(const Array& indices, const Call& call) {
  return PyArray_ITEMSIZE(reinterpret_cast<PyArrayObject*>(indices.object())) == 4 ? call(std::int32_t()) : call(std::int64_t());
}

// Whether `count` indices lie in [lowest, end).
template <class I>
bool all_within(const I* indices, Index count, Index lowest, Index end) {
  bool outside = false;
  for (Index i = 0; i < count; ++i) outside |= std::size_t(Index(indices[i]) - lowest) >= std::size_t(end - lowest);
  return !outside;
}

inline bool all_within(const Array& indices, Index lowest, Index end) {
  return by_index_type(indices, [&](auto zero) { return all_within(indices.data<const decltype(zero)>(), indices.size(), lowest, end); });
}

// How many indices, at most a few, come after these in the array that these are a slice of, as a loader's batches are of an epoch's order: it
// will ask for them next. 0 unless they lie in [lowest, end).
inline Index num_following(const Array& indices, Index lowest, Index end) {
  constexpr Index few = 12;  // `earliest` of ahead.h: more are not fetched
  PyObject* base = PyArray_BASE(reinterpret_cast<PyArrayObject*>(indices.object()));
  if (!base || !PyArray_Check(base)) return 0;
  const Array whole(base);
  if (!whole.contiguous() || whole.type() != indices.type()) return 0;
  return by_index_type(indices, [&](auto zero) {
    using I = decltype(zero);
    const I* next = indices.data<const I>() + indices.size();
    const Index left = whole.data<const I>() + whole.size() - next, count = left < few ? left : few;
    return count > 0 && all_within(next, count, lowest, end) ? count : Index(0);
  });
}
