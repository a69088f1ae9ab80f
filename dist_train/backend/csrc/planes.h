// Convolution with few result channels per group (depthwise above all): a channel cannot fill a block, so blocks run along the image.
//
// Images are packed into long rows with the zeros around them, so that a tap is one offset for the whole image; what the rows' margins give is
// left out. With a stride above 1, rows and columns are first parted by their remainder.
#pragma once

#include "sweep.h"

namespace DT_ISA {
namespace {

static inline bool suits_planes(const Sweep& s, Index lanes) { return s.width * 2 < lanes; }

template <class T>
struct Planes {
  static constexpr Index unroll = 4;  // blocks at a time

  const Sweep& s;
  const Index pitch, height, part, plane, length;  // of packed rows; of a part (rows and columns of one remainder); of a packed channel; of results

  explicit Planes(const Sweep& sweep)
      : s(sweep),
        pitch(divided_up(s.columns.packed(s.columns.steps()), s.columns.in_step)),
        height(divided_up(s.rows.packed(s.rows.steps()), s.rows.in_step)),
        part(height * pitch),
        plane(part * s.rows.in_step * s.columns.in_step),
        length(divided_up((s.rows.steps() - 1) * pitch + s.columns.steps(), unroll * lanes<T>) * unroll * lanes<T>) {}

  // Of `channels` packed channels, with what is read beyond the end.
  Index packed_size(Index channels) const { return channels * plane + unroll * lanes<T> + pitch; }

  void pack(const T* planes, Index channels, T* to) const {
    memset(to, 0, sizeof(T) * packed_size(channels));
    for (Index c = 0; c < channels; ++c)
      for (Index row = 0; row < s.rows.packed(s.rows.steps()); ++row) {
        const Index source = row + s.rows.low;
        if (source < 0 || source >= s.rows.source) continue;
        T* line = to + c * plane + (row % s.rows.in_step * s.columns.in_step) * part + row / s.rows.in_step * pitch;
        pack_row(planes + (c * s.rows.source + source) * s.columns.source, line);
      }
  }

  Index offset(Index row_shift, Index column_shift) const {
    const Index row = row_shift - s.rows.low, column = column_shift - s.columns.low;
    return (row % s.rows.in_step * s.columns.in_step + column % s.columns.in_step) * part + row / s.rows.in_step * pitch + column / s.columns.in_step;
  }

 private:
  void pack_row(const T* from, T* line) const {
    const Index first = max(s.columns.low, Index(0)), last = min(s.columns.low + s.columns.packed(s.columns.steps()), s.columns.source);
    if (s.columns.in_step == 1) {
      if (last > first) memcpy(line + first - s.columns.low, from + first, sizeof(T) * (last - first));
      return;
    }
    for (Index x = first; x < min(last, first + s.columns.in_step); ++x) {
      const Index column = x - s.columns.low;
      T* to = line + column % s.columns.in_step * part + column / s.columns.in_step;
      for (Index i = x; i < last; i += s.columns.in_step) *to++ = from[i];
    }
  }
};

// to[i] = bias + Σ_k from[offset[k] + i]·weight[k] for `length` results.
template <class T>
static inline void weigh(const T* from, const Index* offset, const T* weight, Index depth, T bias, Index length, T* to) {
  constexpr int unroll = Planes<T>::unroll;
  for (Index i = 0; i < length; i += unroll * lanes<T>) {
    Block<T> sum[unroll];
    DT_UNROLL for (int u = 0; u < unroll; ++u) sum[u] = Block<T>::filled(bias);
    for (Index k = 0; k < depth; ++k) {
      const T* at = from + offset[k] + i;
      DT_UNROLL for (int u = 0; u < unroll; ++u) sum[u].add_product(weight[k], Block<T>::load(at + u * lanes<T>));
    }
    DT_UNROLL for (int u = 0; u < unroll; ++u) sum[u].store(to + i + u * lanes<T>);
  }
}

// Where every weight of a result channel finds its factors: phase by phase, then by source channel.
template <class T>
static inline void fill_plane_offsets(const Planes<T>& planes, Index* offset) {
  const Sweep& s = planes.s;
  for_phases(s, [&](const Phase& phase) {
    for (Index c = 0; c < s.depth; ++c)
      for_taps(s, phase, [&](Index i, Index j) {
        *offset++ = c * planes.plane + planes.offset(s.rows.shift(phase.row, i), s.columns.shift(phase.column, j));
      });
  });
}

template <class T>
static inline void fill_plane_weights(const Sweep& s, const T* weight, T* to) {
  for (Index o = 0; o < s.groups * s.width; ++o)
    for_phases(s, [&](const Phase& phase) {
      for (Index c = 0; c < s.depth; ++c)
        for_taps(s, phase, [&](Index i, Index j) {
          *to++ = weight[o / s.width * s.weight_group + o % s.width * s.weight_result + c * s.weight_source + i * s.columns.taps + j];
        });
    });
}

// Long rows of one phase → their places in the result.
template <class T>
static inline void scatter_phase(const Planes<T>& planes, const Phase& phase, const T* line, T* result) {
  const Axis &rows = planes.s.rows, &columns = planes.s.columns;
  for (Index i = 0; i < rows.steps(phase.row); ++i) {
    T* to = result + (phase.row + rows.out_step * i) * columns.result + phase.column;
    const T* from = line + i * planes.pitch;
    if (columns.out_step == 1)
      memcpy(to, from, sizeof(T) * columns.result);
    else
      for (Index j = 0; j < columns.steps(phase.column); ++j) to[j * columns.out_step] = from[j];
  }
}

template <class T>
static void sweep_planes(const Sweep& s, const T* source, const T* weight, const T* bias, T* result) {
  const Planes<T> planes(s);
  const Index per_channel = s.taps() * s.depth;  // weights, at most
  const Scratch<Index> offsets(per_channel);
  const Scratch<T> weights(s.groups * s.width * per_channel);
  fill_plane_offsets(planes, offsets.data());
  fill_plane_weights(s, weight, weights.data());
  const Index used = for_phases(s, [](const Phase&) {});
  parallel_for(s.images * s.groups, 1, [&](Index begin, Index end) {
    const Scratch<T> packed(planes.packed_size(s.depth)), line(planes.length);
    for (Index i = begin; i < end; ++i) {
      planes.pack(source + i * s.depth * s.source_pixels(), s.depth, packed);
      for (Index o = 0; o < s.width; ++o) {
        const Index channel = i % s.groups * s.width + o;
        for_phases(s, [&](const Phase& phase) {
          weigh<T>(packed, offsets + phase.weights, weights + channel * used + phase.weights, phase.taps * s.depth, bias ? bias[channel] : T(0),
                   planes.length, line);
          scatter_phase<T>(planes, phase, line, result + (i * s.width + o) * s.result_pixels());
        });
      }
    }
  });
}

// The gradient of the weight

// sum[k] += Σ_i from[offset[k] + i]·gradient[i], by lanes, for up to R offsets.
template <class T, int R>
static inline void correlate(const T* from, const Index* offset, const T* gradient, Index length, T* sum) {
  Block<T> total[R];
  DT_UNROLL for (int r = 0; r < R; ++r) total[r] = Block<T>::zero();
  for (Index i = 0; i < length; i += lanes<T>) {
    const Block<T> factor = Block<T>::load(gradient + i);
    DT_UNROLL for (int r = 0; r < R; ++r) total[r] = total[r] + factor * Block<T>::load(from + offset[r] + i);
  }
  DT_UNROLL for (int r = 0; r < R; ++r) (Block<T>::load(sum + r * lanes<T>) + total[r]).store(sum + r * lanes<T>);
}

template <class T>
static inline void correlate(const T* from, const Index* offset, Index taps, const T* gradient, Index length, T* sum) {
  constexpr int few = 3;
  Index k = 0;
  for (; k + few <= taps; k += few) correlate<T, few>(from, offset + k, gradient, length, sum + k * lanes<T>);
  for (; k < taps; ++k) correlate<T, 1>(from, offset + k, gradient, length, sum + k * lanes<T>);
}

// Of the filters' weights for one source channel. Returns whether all are finite.
template <class T>
static bool correlate_channel(const Planes<T>& planes, const Index* offsets, Index group, Index channel, const T* gradient, const T* x, T* of_weight) {
  const Sweep& s = planes.s;
  const Index taps = s.taps();
  const Scratch<T> packed(planes.packed_size(1)), line(planes.length), sums(s.width * taps * lanes<T>);
  memset(sums, 0, sizeof(T) * s.width * taps * lanes<T>);
  memset(line, 0, sizeof(T) * planes.length);
  for (Index image = 0; image < s.images; ++image) {
    planes.pack(x + ((image * s.groups + group) * s.depth + channel) * s.source_pixels(), 1, packed);
    for (Index o = 0; o < s.width; ++o) {
      const T* plane = gradient + ((image * s.groups + group) * s.width + o) * s.result_pixels();
      for (Index row = 0; row < s.rows.result; ++row)
        memcpy(line + row * planes.pitch, plane + row * s.columns.result, sizeof(T) * s.columns.result);
      correlate<T>(packed, offsets, taps, line, planes.length, sums + o * taps * lanes<T>);
    }
  }
  bool finite = true;
  for (Index i = 0; i < s.width * taps; ++i) {
    const T sum = Block<T>::load(sums + i * lanes<T>).sum();
    finite = finite && sum - sum == 0;
    of_weight[group * s.weight_group + i / taps * s.weight_result + channel * s.weight_source + i % taps] = sum;
  }
  return finite;
}

// Whether all results are finite; if not, another way must be taken: in the margins, nan may have come from 0·inf.
template <class T>
static bool planes_backward_weight(const Sweep& s, const T* gradient, const T* x, T* of_weight, T* of_bias) {
  const Planes<T> planes(s);
  const Scratch<Index> offsets(s.taps());
  for (Index tap = 0; tap < s.taps(); ++tap)
    offsets[tap] = planes.offset(s.rows.shift(0, tap / s.columns.taps), s.columns.shift(0, tap % s.columns.taps));
  bool finite = true;
  parallel_for(s.groups * s.depth, 1, [&](Index begin, Index end) {
    for (Index i = begin; i < end; ++i)
      if (!correlate_channel<T>(planes, offsets, i / s.depth, i % s.depth, gradient, x, of_weight)) __atomic_store_n(&finite, false, __ATOMIC_RELAXED);
  });
  if (of_bias) sum_planes(s, gradient, of_bias);
  return finite;
}

}  // namespace
}  // namespace DT_ISA
