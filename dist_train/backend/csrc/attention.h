// Scaled dot-product attention in blocks; see reference/attention.py for what is computed.
#include "attention_arguments.h"

namespace DT_ISA {

// `visible` and `added` are masks, or null; `largest` and `total` are (batch, heads, num_queries), contiguous. Outputs have unit last strides.
template <class T>
void attention(const AttentionShape& shape, const AttentionRules& rules, Strided<const T> query, Strided<const T> key, Strided<const T> value,
               Strided<const bool> visible, Strided<const T> added, Strided<T> output, T* largest, T* total);

template <class T>
void attention_backward(const AttentionShape& shape, const AttentionRules& rules, Strided<const T> gradient, Strided<const T> query,
                        Strided<const T> key, Strided<const T> value, Strided<const bool> visible, Strided<const T> added,
                        Strided<const T> output, const T* largest, const T* total, Strided<T> of_query, Strided<T> of_key,
                        Strided<T> of_value);

}  // namespace DT_ISA
