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

// Whether all indices lie in [lowest, end).
inline bool all_within(const Array& indices, Index lowest, Index end) {
  return by_index_type(indices, [&](auto zero) {
    const auto* values = indices.data<const decltype(zero)>();
    bool outside = false;
    for (Index i = 0; i < indices.size(); ++i) outside |= std::size_t(Index(values[i]) - lowest) >= std::size_t(end - lowest);
    return !outside;
  });
}
