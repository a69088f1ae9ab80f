// Pooling; the meaning is that of reference/pool.py. Arrays are contiguous; Place is uint8_t or int32_t.
#include <cstdint>

#include "pool_shape.h"

namespace DT_ISA {

template <class T, class Place>
void max_pool(const PoolShape& shape, const T* x, T* y, Place* index);
template <class T, class Place>
void max_pool_backward(const PoolShape& shape, const T* gradient, const Place* index, T* of_x);

// `divisors` has one element per output position of an image; if null, `divisor` holds for all.
template <class T>
void avg_pool(const PoolShape& shape, const T* x, T divisor, const T* divisors, T* y);
template <class T>
void avg_pool_backward(const PoolShape& shape, const T* gradient, T divisor, const T* divisors, T* of_x);

}  // namespace DT_ISA
