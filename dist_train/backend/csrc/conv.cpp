#include "conv.h"

#include "planes.h"
#include "sweep.h"
#include "winograd.h"

namespace DT_ISA {

// Products straight from the packed images: a tap is an offset, so no matrix of windows is built.

// What all blocks of rows share, for one group: the packed weights, and where in a packed image each of them finds its factor.
template <class T>
class DirectPlan {
 public:
  const Sweep& s;
  const Cut cut;
  const Index block, packed_width, packed_rows, plane, panels, weights_per_panel;

  explicit DirectPlan(const Sweep& sweep)
      : s(sweep),
        cut(s.images * s.rows.steps(), s.rows.steps(), s.columns.packed(s.columns.steps()) * s.rows.in_step * s.depth * Index(sizeof(T)), 1),
        block(min(s.depth, lanes<T>)),
        packed_width(s.columns.packed(s.columns.steps())),
        packed_rows(s.rows.in_step * cut.rows + cut.images * s.rows.packed(1)),
        plane(packed_rows * packed_width * block),
        panels(divided_up(s.width, lanes<T>)),
        weights_per_panel(for_phases(s, [](const Phase&) {})),
        weights_(panels * weights_per_panel * lanes<T>),
        offsets_(weights_per_panel) {
    for_phases(s, [&](const Phase& phase) { fill_offsets(phase, offsets_ + phase.weights); });
  }

  Index packed_size() const { return divided_up(s.depth, block) * plane; }
  const Index* offsets(const Phase& phase) const { return offsets_ + phase.weights; }
  const T* weights(Index panel, const Phase& phase) const { return weights_ + (panel * weights_per_panel + phase.weights) * lanes<T>; }

  void pack_weights(const T* weight) {
    parallel_for(panels, 1, [&](Index begin, Index end) {
      for (Index panel = begin; panel < end; ++panel)
        for_phases(s, [&](const Phase& phase) { pack_panel(weight, panel * lanes<T>, phase, const_cast<T*>(weights(panel, phase))); });
    });
  }

  // Packs what the results in rows [begin, end) of the batch need.
  void pack_source(const T* source, Index first_channel, Index begin, Index end, T* to) const {
    for_images(begin, end, s.rows.steps(), [&](Index image, Index first, Index last) {
      const T* planes = source + (image * s.groups * s.depth + first_channel) * s.source_pixels();
      const Window window{s.rows.in_step * first + s.rows.low, s.columns.low, s.rows.packed(last - first), packed_width};
      pack(planes, s.depth, s.rows.source, s.columns.source, window, to, plane, block);
      to += window.height * window.width * block;
    });
  }

  // For every result of a phase in rows [begin, end), in order: the packed pixel under its first tap, and visit(that, its pixel in the block).
  template <class Visit>
  void for_results(const Phase& phase, Index begin, Index end, const Visit& visit) const {
    Index packed = 0, result = 0;
    for_images(begin, end, s.rows.steps(), [&](Index, Index first, Index last) {
      for (Index i = first; i < min(last, s.rows.steps(phase.row)); ++i)
        for (Index j = 0; j < s.columns.steps(phase.column); ++j)
          visit((packed + s.rows.in_step * (i - first) * packed_width + s.columns.in_step * j) * block,
                result + (phase.row + s.rows.out_step * (i - first)) * s.columns.result + phase.column + s.columns.out_step * j);
      packed += s.rows.packed(last - first) * packed_width;
      result += result_rows(first, last) * s.columns.result;
    });
  }

  Index result_rows(Index first, Index last) const { return min(last * s.rows.out_step, s.rows.result) - first * s.rows.out_step; }
  Index results_per_block() const { return cut.rows * s.rows.out_step * s.columns.result; }

 private:
  Scratch<T> weights_;
  Scratch<Index> offsets_;

  void fill_offsets(const Phase& phase, Index* to) const {
    for_taps(s, phase, [&](Index i, Index j) {
      const Index row = s.rows.shift(phase.row, i) - s.rows.low, column = s.columns.shift(phase.column, j) - s.columns.low;
      for (Index c = 0; c < s.depth; ++c) *to++ = c / block * plane + (row * packed_width + column) * block + c % block;
    });
  }

  void pack_panel(const T* weight, Index first, const Phase& phase, T* to) const {
    for_taps(s, phase, [&](Index i, Index j) {
      const T* tap = weight + i * s.columns.taps + j;
      for (Index c = 0; c < s.depth; ++c, to += lanes<T>)
        for (Index lane = 0; lane < lanes<T>; ++lane)
          to[lane] = first + lane < s.width ? tap[c * s.weight_source + (first + lane) * s.weight_result] : T(0);
    });
  }
};

// The results of rows [begin, end) of the batch.
template <class T>
static void direct_block(const DirectPlan<T>& plan, Index group, Index begin, Index end, const T* source, const PackedBias<T>& bias, T* result) {
  const Sweep& s = plan.s;
  const Scratch<T> packed(plan.packed_size()), blocks(plan.results_per_block() * lanes<T>);
  const Scratch<Index> from(plan.results_per_block()), to(plan.results_per_block());
  plan.pack_source(source, group * s.depth, begin, end, packed);
  for (Index panel = 0; panel < plan.panels; ++panel) {
    for_phases(s, [&](const Phase& phase) {
      Index count = 0;
      plan.for_results(phase, begin, end, [&](Index pixel, Index at) {
        from[count] = pixel;
        to[count++] = at * lanes<T>;
      });
      product<T>(packed, from, count, plan.offsets(phase), phase.taps * s.depth, plan.weights(panel, phase), blocks, to, {false, bias.panel(panel)});
    });
    const T* block = blocks;
    for_images(begin, end, s.rows.steps(), [&](Index image, Index first, Index last) {
      const Index channel = group * s.width + panel * lanes<T>, pixels = plan.result_rows(first, last) * s.columns.result;
      T* plane = result + (image * s.groups * s.width + channel) * s.result_pixels() + first * s.rows.out_step * s.columns.result;
      unpack(block, pixels, min(lanes<T>, s.width - panel * lanes<T>), plane, s.result_pixels());
      block += pixels * lanes<T>;
    });
  }
}

template <class T>
static void direct(const Sweep& s, Index group, const T* source, const T* weight, const T* bias, T* result) {
  DirectPlan<T> plan(s);
  plan.pack_weights(weight + group * s.weight_group);
  const PackedBias<T> packed_bias(bias ? bias + group * s.width : nullptr, s.width);
  parallel_for(s.images * s.rows.steps(), plan.cut.rows,
               [&](Index begin, Index end) { direct_block(plan, group, begin, end, source, packed_bias, result); });
}

// Sums over the pixels of the gradient, for one group: rows of the product are the weights of a filter, blocks are filters.
template <class T>
static void direct_backward_weight(const Sweep& s, Index group, const T* gradient, const T* x, T* of_weight, T* of_bias) {
  const DirectPlan<T> plan(s);
  const Phase phase{0, 0, s.taps(), 0};
  const Index pixels = plan.results_per_block(), weights = plan.weights_per_panel, panels = plan.panels;
  const Scratch<T> packed(plan.packed_size()), blocks(panels * pixels * lanes<T>), sums(panels * weights * lanes<T>), bias(panels * lanes<T>);
  const Scratch<Index> column(pixels), to(weights);
  for (Index i = 0; i < weights; ++i) to[i] = i * lanes<T>;
  memset(sums, 0, sizeof(T) * panels * weights * lanes<T>);
  memset(bias, 0, sizeof(T) * panels * lanes<T>);
  const Index total = s.images * s.rows.steps();
  for (Index begin = 0; begin < total; begin += plan.cut.rows) {
    const Index end = min(total, begin + plan.cut.rows);
    plan.pack_source(x, group * s.depth, begin, end, packed);
    Index count = 0;
    plan.for_results(phase, begin, end, [&](Index pixel, Index) { column[count++] = pixel; });
    pack_gradient<T>(s, gradient, group, begin, end, blocks, pixels * lanes<T>);
    constexpr Index grain = 4 * tile_rows;
    const Index grains = divided_up(weights, grain);
    parallel_for(panels * grains, 1, [&](Index first, Index last) {
      for (Index i = first; i < last; ++i) {
        const Index panel = i / grains, row = i % grains * grain;
        product<T>(packed, plan.offsets(phase) + row, min(grain, weights - row), column, count, blocks + panel * pixels * lanes<T>,
                   sums + panel * weights * lanes<T>, to + row, {true});
      }
    });
    if (of_bias) add_pixels<T>(blocks, panels, pixels * lanes<T>, count, bias);
  }
  for (Index o = 0; o < s.width; ++o) {
    const T* sum = sums + o / lanes<T> * weights * lanes<T> + o % lanes<T>;
    T* filter = of_weight + (group * s.width + o) * s.weight_result;
    for (Index tap = 0; tap < s.taps(); ++tap)
      for (Index c = 0; c < s.depth; ++c) filter[c * s.weight_source + tap] = sum[(tap * s.depth + c) * lanes<T>];
    if (of_bias) of_bias[group * s.width + o] = bias[o];
  }
}

template <class T>
static void swept(const Sweep& s, const T* source, const T* weight, const T* bias, T* result) {
  if (suits_planes(s, lanes<T>)) return sweep_planes(s, source, weight, bias, result);
  for (Index group = 0; group < s.groups; ++group) {
    if (!suits_winograd(s)) {
      direct(s, group, source, weight, bias, result);
      continue;
    }
    const Scratch<char> failed(s.images);
    memset(failed, 0, s.images);
    winograd(s, group, source, weight, bias, result, failed.data());
    Sweep one = s;
    one.images = 1;
    for (Index image = 0; image < s.images; ++image)
      if (failed[image])
        direct(one, group, source + image * s.groups * s.depth * s.source_pixels(), weight, bias,
               result + image * s.groups * s.width * s.result_pixels());
  }
}

template <class T>
void conv2d(const ConvShape& shape, const T* x, const T* weight, const T* bias, T* y) {
  swept(forward_sweep(shape), x, weight, bias, y);
}

template <class T>
void conv2d_backward_input(const ConvShape& shape, const T* gradient, const T* weight, T* of_x) {
  swept<T>(backward_sweep(shape), gradient, weight, nullptr, of_x);
}

template <class T>
void conv2d_backward_weight(const ConvShape& shape, const T* gradient, const T* x, T* of_weight, T* of_bias) {
  const Sweep s = forward_sweep(shape);
  if (suits_planes(s, lanes<T>) && planes_backward_weight(s, gradient, x, of_weight, of_bias)) return;
  for (Index group = 0; group < s.groups; ++group)
    if (!suits_winograd(s) || !winograd_backward_weight(s, group, gradient, x, of_weight, of_bias))
      direct_backward_weight(s, group, gradient, x, of_weight, of_bias);
}

#define INSTANTIATE(T)                                                                       \
  template void conv2d<T>(const ConvShape&, const T*, const T*, const T*, T*);               \
  template void conv2d_backward_input<T>(const ConvShape&, const T*, const T*, T*);          \
  template void conv2d_backward_weight<T>(const ConvShape&, const T*, const T*, T*, T*);
INSTANTIATE(float)
INSTANTIATE(double)

}  // namespace DT_ISA
