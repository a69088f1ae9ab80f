#include "elementary.h"
#include "rows.h"
#include "norm.h"

namespace DT_ISA {

static constexpr Index grain = 32768;

// How many items of `size` elements make a piece of work.
static inline Index items_per_piece(Index size) { return max(Index(1), grain / max(Index(1), size)); }

// Rows

template <class T>
void layer_norm(Index rows, Index width, const T* x, const T* weight, const T* bias, T eps, T* y, T* mean, T* scale) {
  for_blocks(rows, width, [=](Index begin, Index end) {
    for (Index row = begin; row < end; ++row) {
      const T* in = x + row * width;
      mean[row] = sum_of<T>(width, [=](Index i) { return in[i]; }) / T(width);
    }
    for (Index row = begin; row < end; ++row) {
      const T *in = x + row * width, m = mean[row];
      const T squares = sum_of<T>(width, [=](Index i) { return (in[i] - m) * (in[i] - m); });
      scale[row] = 1 / square_root(squares / T(width) + eps);
    }
    for (Index row = begin; row < end; ++row) {
      const T *in = x + row * width, m = mean[row], s = scale[row];
      T* out = y + row * width;
      if (bias) {
#pragma GCC ivdep
        for (Index i = 0; i < width; ++i) out[i] = (in[i] - m) * s * weight[i] + bias[i];
      } else if (weight) {
#pragma GCC ivdep
        for (Index i = 0; i < width; ++i) out[i] = (in[i] - m) * s * weight[i];
      } else {
#pragma GCC ivdep
        for (Index i = 0; i < width; ++i) out[i] = (in[i] - m) * s;
      }
    }
  });
}

static constexpr Index max_parts = 16, min_rows_of_part = 32;

static inline Index rows_of_part(Index rows) { return max(min_rows_of_part, (rows + max_parts - 1) / max_parts); }

Index layer_norm_parts(Index rows) { return (rows + rows_of_part(rows) - 1) / rows_of_part(rows); }

// Of one row, with normal = (x − mean)·scale and g = gradient·weight: the means of g and of g·normal; adds to the gradients of weight and bias.
template <class T>
struct RowMeans {
  T sum, product;
  RowMeans(Index width, const T* gradient, const T* x, const T* weight, T mean, T scale, T* of_weight, T* of_bias) {
    T sums[16] = {}, products[16] = {};
    for_lanes<16>(width, [&](Index i, Index lane) {
      const T normal = (x[i] - mean) * scale, g = gradient[i] * weight[i];
      of_weight[i] += gradient[i] * normal;
      of_bias[i] += gradient[i];
      sums[lane] += g;
      products[lane] += g * normal;
    });
    sum = sum_of_lanes(sums) / T(width), product = sum_of_lanes(products) / T(width);
  }
  RowMeans(Index width, const T* gradient, const T* x, T mean, T scale) {
    T sums[16] = {}, products[16] = {};
    for_lanes<16>(width, [&](Index i, Index lane) {
      sums[lane] += gradient[i];
      products[lane] += gradient[i] * ((x[i] - mean) * scale);
    });
    sum = sum_of_lanes(sums) / T(width), product = sum_of_lanes(products) / T(width);
  }
};

template <class T>
static inline void add_parts(Index parts, Index distance, Index width, const T* partial, T* result) {
  for (Index i = 0; i < width; ++i) result[i] = 0;
  for (Index part = 0; part < parts; ++part) {
    const T* of_part = partial + part * distance;
#pragma GCC ivdep
    for (Index i = 0; i < width; ++i) result[i] += of_part[i];
  }
}

template <class T>
void layer_norm_backward(Index rows, Index width, const T* gradient, const T* x, const T* weight, const T* mean, const T* scale, T* partial,
                         T* of_x, T* of_weight, T* of_bias) {
  parallel_for(rows, rows_of_part(rows), [=](Index begin, Index end) {
    T* part = partial ? partial + begin / rows_of_part(rows) * 2 * width : nullptr;
    for (Index i = 0; part && i < 2 * width; ++i) part[i] = 0;
    for (Index row = begin; row < end; ++row) {
      const T *g = gradient + row * width, *in = x + row * width;
      const T m = mean[row], s = scale[row];
      T* out = of_x + row * width;
      if (weight) {
        const RowMeans<T> means(width, g, in, weight, m, s, part, part + width);
#pragma GCC ivdep
        for (Index i = 0; i < width; ++i) out[i] = ((g[i] * weight[i] - means.sum) - (in[i] - m) * s * means.product) * s;
      } else {
        const RowMeans<T> means(width, g, in, m, s);
#pragma GCC ivdep
        for (Index i = 0; i < width; ++i) out[i] = ((g[i] - means.sum) - (in[i] - m) * s * means.product) * s;
      }
    }
  });
  if (!weight) return;
  add_parts(layer_norm_parts(rows), 2 * width, width, partial, of_weight);
  add_parts(layer_norm_parts(rows), 2 * width, width, partial + width, of_bias);
}

// Channels. Where the length is 1 they lie side by side, and loops run over channels; else over the elements of one channel.

struct Shape {
  Index count, channels, length;
  Index first(Index n, Index channel) const { return (n * channels + channel) * length; }
};

static constexpr Index max_tile = 16;

// Calls work(begin, end) for tiles of channels whose elements are worth to stay in the cache from one pass to the next.
template <class Work>
static void for_channels(Shape s, const Work& work) {
  const Index tile = s.length == 1 ? Index(512) : max(Index(1), min(max_tile, 512 / s.length));
  parallel_for(s.channels, tile * max(Index(1), items_per_piece(tile * s.count * s.length)), [=](Index begin, Index end) {
    for (Index c = begin; c < end; c += tile) work(c, min(c + tile, end));
  });
}

// result[c] = Σ term(i, c) over the elements i of channel c: four samples are added in pairs, then to the sum so far.
template <class T, class Term>
static inline void sum_columns(Shape s, Index begin, Index end, T* result, const Term& term) {
  const Index step = s.channels;
  for (Index c = begin; c < end; ++c) result[c] = 0;
  Index n = 0;
  for (; n + 4 <= s.count; n += 4) {
#pragma GCC ivdep
    for (Index c = begin; c < end; ++c) {
      const Index i = n * step + c;
      result[c] += (term(i, c) + term(i + step, c)) + (term(i + 2 * step, c) + term(i + 3 * step, c));
    }
  }
  for (; n < s.count; ++n) {
#pragma GCC ivdep
    for (Index c = begin; c < end; ++c) result[c] += term(n * step + c, c);
  }
}

// Adds term(i) to the lanes.
template <Index count, class T, class Term>
static inline void add_to_lanes(Index length, T (&lanes)[count], const Term& term) {
  if (length <= 4 * count) return for_lanes<count>(length, [&](Index i, Index lane) { lanes[lane] += term(i); });
  T part[count];  // stays in registers
  for (Index lane = 0; lane < count; ++lane) part[lane] = lanes[lane];
  for_lanes<count>(length, [&](Index i, Index lane) { part[lane] += term(i); });
  for (Index lane = 0; lane < count; ++lane) lanes[lane] = part[lane];
}

// The same for longer channels: the lanes go on from sample to sample.
template <Index count, class T, class Term>
static inline void sum_samples(Shape s, Index begin, Index end, T* result, const Term& term) {
  T lanes[max_tile][count] = {};
  for (Index n = 0; n < s.count; ++n) {
    for (Index c = begin; c < end; ++c) {
      const Index first = s.first(n, c);
      add_to_lanes(s.length, lanes[c - begin], [=](Index i) { return term(first + i, c); });
    }
  }
  for (Index c = begin; c < end; ++c) result[c] = sum_of_lanes(lanes[c - begin]);
}

template <class T, class Term>
static inline void sum_channels(Shape s, Index begin, Index end, T* result, const Term& term) {
  if (s.length == 1)
    sum_columns(s, begin, end, result, term);
  else if (s.length < 64)
    sum_samples<16>(s, begin, end, result, term);
  else
    sum_samples<32>(s, begin, end, result, term);
}

// result[i] = of(c)(i) for the elements i of the samples [first, last) of all channels c in [begin, end)
template <class T, class Of>
static inline void write_channels(Shape s, Index first, Index last, Index begin, Index end, T* result, const Of& of) {
  for (Index n = first; n < last; ++n) {
    if (s.length == 1) {
#pragma GCC ivdep
      for (Index c = begin; c < end; ++c) result[s.first(n, c)] = of(c)(s.first(n, c));
    } else {
      for (Index c = begin; c < end; ++c) {
        const auto element = of(c);
        const Index start = s.first(n, c), stop = s.first(n, c + 1);
#pragma GCC ivdep
        for (Index i = start; i < stop; ++i) result[i] = element(i);
      }
    }
  }
}

template <class T, class Of>
static inline void write_channels(Shape s, Index begin, Index end, T* result, const Of& of) {
  write_channels(s, 0, s.count, begin, end, result, of);
}

// The same for all channels, in the order of memory.
template <class T, class Of>
static inline void write_samples(Shape s, T* result, const Of& of) {
  parallel_for(s.count, items_per_piece(s.channels * s.length), [=](Index first, Index last) {
    write_channels(s, first, last, 0, s.channels, result, of);
  });
}

template <class T>
static auto affine(const T* x, const T* factor, const T* shift) {
  return [=](Index c) {
    const T f = factor[c], add = shift ? shift[c] : T(0);
    return [=](Index i) { return x[i] * f + add; };
  };
}

// y = x·factor + shift, where factor = scale·weight and shift = bias − mean·factor
template <class T>
static auto normalized(const T* x, const T* mean, const T* scale, const T* weight, const T* bias) {
  return [=](Index c) {
    const T factor = weight ? scale[c] * weight[c] : scale[c], shift = bias ? bias[c] - mean[c] * factor : -mean[c] * factor;
    return [=](Index i) { return x[i] * factor + shift; };
  };
}

template <class T>
void batch_norm(Index count, Index channels, Index length, const T* x, const T* weight, const T* bias, T eps, T* y, T* mean, T* variance,
                T* scale) {
  const Shape s{count, channels, length};
  const T size = T(count * length);
  for_channels(s, [=](Index begin, Index end) {
    sum_channels(s, begin, end, mean, [=](Index i, Index) { return x[i]; });
    for (Index c = begin; c < end; ++c) mean[c] /= size;
    sum_channels(s, begin, end, variance, [=](Index i, Index c) { return (x[i] - mean[c]) * (x[i] - mean[c]); });
    for (Index c = begin; c < end; ++c) {
      variance[c] /= size;
      scale[c] = 1 / square_root(variance[c] + eps);
    }
    write_channels(s, begin, end, y, normalized(x, mean, scale, weight, bias));
  });
}

template <class T>
void normalize_channels(Index count, Index channels, Index length, const T* x, const T* mean, const T* variance, const T* weight, const T* bias,
                        T eps, T* y, T* scale) {
  for (Index c = 0; c < channels; ++c) scale[c] = 1 / square_root(variance[c] + eps);
  write_samples(Shape{count, channels, length}, y, normalized(x, mean, scale, weight, bias));
}

template <class T>
void batch_norm_backward(Index count, Index channels, Index length, const T* gradient, const T* x, const T* weight, const T* mean, const T* scale,
                         bool training, T* of_x, T* of_weight, T* of_bias) {
  const Shape s{count, channels, length};
  const T size = T(count * length);
  for_channels(s, [=](Index begin, Index end) {
    sum_channels(s, begin, end, of_bias, [=](Index i, Index) { return gradient[i]; });
    sum_channels(s, begin, end, of_weight, [=](Index i, Index c) { return gradient[i] * (x[i] - mean[c]); });
    for (Index c = begin; c < end; ++c) of_weight[c] *= scale[c];
    const auto factor = [=](Index c) { return weight ? scale[c] * weight[c] : scale[c]; };
    if (training) {
      write_channels(s, begin, end, of_x, [=](Index c) {
        const T m = mean[c], f = factor(c), slope = of_weight[c] * scale[c] / size, shift = of_bias[c] / size;
        return [=](Index i) { return ((gradient[i] - shift) - (x[i] - m) * slope) * f; };
      });
    } else {
      write_channels(s, begin, end, of_x, [=](Index c) {
        const T f = factor(c);
        return [=](Index i) { return gradient[i] * f; };
      });
    }
  });
}

template <class T>
void scale_channels(Index count, Index channels, Index length, const T* x, const T* factor, const T* shift, T* y) {
  write_samples(Shape{count, channels, length}, y, affine(x, factor, shift));
}

template <class T>
void channel_sums(Index count, Index channels, Index length, const T* gradient, const T* y, T* sums, T* products) {
  const Shape s{count, channels, length};
  for_channels(s, [=](Index begin, Index end) {
    sum_channels(s, begin, end, sums, [=](Index i, Index) { return gradient[i]; });
    if (products) sum_channels(s, begin, end, products, [=](Index i, Index) { return gradient[i] * y[i]; });
  });
}

#define INSTANTIATE(T)                                                                                                                      \
  template void layer_norm<T>(Index, Index, const T*, const T*, const T*, T, T*, T*, T*);                                                   \
  template void layer_norm_backward<T>(Index, Index, const T*, const T*, const T*, const T*, const T*, T*, T*, T*, T*);                     \
  template void batch_norm<T>(Index, Index, Index, const T*, const T*, const T*, T, T*, T*, T*, T*);                                        \
  template void normalize_channels<T>(Index, Index, Index, const T*, const T*, const T*, const T*, const T*, T, T*, T*);                    \
  template void batch_norm_backward<T>(Index, Index, Index, const T*, const T*, const T*, const T*, const T*, bool, T*, T*, T*);            \
  template void scale_channels<T>(Index, Index, Index, const T*, const T*, const T*, T*);                                                   \
  template void channel_sums<T>(Index, Index, Index, const T*, const T*, T*, T*);
INSTANTIATE(float)
INSTANTIATE(double)

}  // namespace DT_ISA
