// Filters of 3 × 3 with stride 1 by Winograd's F(2 × 2, 3 × 3): 16 products for 2 × 2 results where the sums themselves take 36.
//
// Lavin & Gray, Fast Algorithms for Convolutional Neural Networks, https://arxiv.org/abs/1509.09308: Y = Aᵀ[(G w Gᵀ) ⊙ (Bᵀ d B)]A, with d the 4 × 4
// inputs of a tile; G only adds and halves. The ⊙ of all tiles and channels is 16 matrix products. The gradient of w is Gᵀ[(A dY Aᵀ) ⊙ (Bᵀ d B)]G.
//
// Where an element is not finite, or becomes so on the way, intermediate sums may cancel to nan; such results are reported, for the direct way.
#pragma once

#include "sweep.h"

namespace DT_ISA {
namespace {

constexpr Index points = 16;  // products per tile
constexpr Index enough_tiles = 48;  // at a time, for the traffic of the weights

static inline bool suits_winograd(const Sweep& s) {
  const auto suits = [](const Axis& a) { return a.taps == 3 && a.in_step == 1 && a.out_step == 1 && a.high - a.low == 2 && a.result >= 4; };
  return suits(s.rows) && suits(s.columns) && s.depth >= 16 && s.width >= 16;
}

// Both halves of a transform: of the 4 (3, 2) values along a column, then along a row. B, G and A are the matrices of the paper.

template <class T>
struct Four {
  Block<T> at[4];
};

template <class T>
static inline Four<T> apply_b(const Block<T>& d0, const Block<T>& d1, const Block<T>& d2, const Block<T>& d3) {
  return {{d0 - d2, d1 + d2, d2 - d1, d1 - d3}};
}

template <class T>
static inline Four<T> apply_g(const Block<T>& g0, const Block<T>& g1, const Block<T>& g2, const Block<T>& half) {
  const Block<T> outer = (g0 + g2) * half, inner = g1 * half;
  return {{g0, outer + inner, outer - inner, g2}};
}

template <class T>
static inline Four<T> apply_a(const Block<T>& y0, const Block<T>& y1) {
  return {{y0, y0 + y1, y0 - y1, Block<T>::zero() - y1}};
}

template <class T>
struct WinogradPlan {
  const Sweep& s;
  const Index tile_rows_per_image, tile_columns;
  const Cut cut;
  const Index source_blocks, panels, max_tiles, source_point, panel_point, packed_width, packed_plane;

  explicit WinogradPlan(const Sweep& sweep)
      : s(sweep),
        tile_rows_per_image(divided_up(s.rows.result, 2)),
        tile_columns(divided_up(s.columns.result, 2)),
        cut(s.images * tile_rows_per_image, tile_rows_per_image, tile_columns * points * s.depth * Index(sizeof(T)),
            divided_up(enough_tiles, tile_columns)),
        source_blocks(divided_up(s.depth, lanes<T>)),
        panels(divided_up(s.width, lanes<T>)),
        max_tiles(cut.rows * tile_columns),
        source_point(apart(source_blocks * max_tiles)),
        panel_point(apart(max_tiles)),
        packed_width(2 * tile_columns + 2),
        packed_plane((2 * cut.rows + 2 * cut.images) * packed_width * lanes<T>) {}

  // So many blocks, and one more if that makes their number odd: 16 points then lie in different sets of the cache.
  static Index apart(Index blocks) { return (blocks | 1) * lanes<T>; }

  // Calls visit(image, first tile row, last, packed pixel before its first, tile before its first).
  template <class Visit>
  void for_parts(Index begin, Index end, const Visit& visit) const {
    Index packed = 0, tile = 0;
    for_images(begin, end, tile_rows_per_image, [&](Index image, Index first, Index last) {
      visit(image, first, last, packed, tile);
      packed += (2 * (last - first) + 2) * packed_width;
      tile += (last - first) * tile_columns;
    });
  }

  // Bᵀ d B of the source channels of one block → (points, blocks, tiles, lanes).
  void transform_source(const T* source, Index group, Index channel_block, Index begin, Index end, T* packed, T* transformed) const {
    const Index channel = channel_block * lanes<T>;
    for_parts(begin, end, [&](Index image, Index first, Index last, Index pixel, Index tile) {
      const T* planes = source + ((image * s.groups + group) * s.depth + channel) * s.source_pixels();
      const Window window{2 * first + s.rows.low, s.columns.low, 2 * (last - first) + 2, packed_width};
      T* part = packed + pixel * lanes<T>;
      pack_block(planes, min(lanes<T>, s.depth - channel), s.rows.source, s.columns.source, window, part, lanes<T>);
      for (Index row = 0; row < last - first; ++row)
        transform_source_row(part + 2 * row * packed_width * lanes<T>,
                             transformed + (channel_block * max_tiles + tile + row * tile_columns) * lanes<T>);
    });
  }

  void transform_source_row(const T* pixels, T* to) const {
    const auto column = [&](Index x) {
      const T* p = pixels + x * lanes<T>;
      const Index row = packed_width * lanes<T>;
      return apply_b(Block<T>::load(p), Block<T>::load(p + row), Block<T>::load(p + 2 * row), Block<T>::load(p + 3 * row));
    };
    Four<T> c0 = column(0), c1 = column(1);
    for (Index tile = 0; tile < tile_columns; ++tile) {
      const Four<T> c2 = column(2 * tile + 2), c3 = column(2 * tile + 3);
      DT_UNROLL for (int i = 0; i < 4; ++i) {
        const Four<T> row = apply_b(c0.at[i], c1.at[i], c2.at[i], c3.at[i]);
        DT_UNROLL for (int j = 0; j < 4; ++j) row.at[j].store(to + (4 * i + j) * source_point + tile * lanes<T>);
      }
      c0 = c2;
      c1 = c3;
    }
  }
};

// Results

// G w Gᵀ → (panels, points, depth, lanes). Taps lie in the order of their shifts.
template <class T>
static void transform_weights(const WinogradPlan<T>& plan, const T* weight, T* to) {
  const Sweep& s = plan.s;
  const bool turned = s.rows.slope < 0;
  const Block<T> half = Block<T>::filled(T(0.5));
  parallel_for(plan.panels, 1, [&](Index begin, Index end) {
    for (Index i = begin * s.depth; i < end * s.depth; ++i) {
      const Index panel = i / s.depth, c = i % s.depth;
      T taps[9][lanes<T>];
      for (Index lane = 0; lane < lanes<T>; ++lane) {
        const Index o = panel * lanes<T> + lane;
        const T* filter = weight + c * s.weight_source + min(o, s.width - 1) * s.weight_result;
        for (Index tap = 0; tap < 9; ++tap) taps[turned ? 8 - tap : tap][lane] = o < s.width ? filter[tap] : T(0);
      }
      const auto tap = [&](int y, int x) { return Block<T>::load(taps[3 * y + x]); };
      Four<T> columns[3];
      DT_UNROLL for (int x = 0; x < 3; ++x) columns[x] = apply_g(tap(0, x), tap(1, x), tap(2, x), half);
      DT_UNROLL for (int y = 0; y < 4; ++y) {
        const Four<T> row = apply_g(columns[0].at[y], columns[1].at[y], columns[2].at[y], half);
        DT_UNROLL for (int x = 0; x < 4; ++x) row.at[x].store(to + ((panel * points + 4 * y + x) * s.depth + c) * lanes<T>);
      }
    }
  });
}

// Aᵀ m A + bias of one row of tiles → (2 rows of pixels, lanes), as far as they belong to the image. Returns a sum that is nan if any is not finite.
template <class T>
static inline Block<T> transform_results_row(const WinogradPlan<T>& plan, const T* products, Index rows, const Block<T>& bias, T* to) {
  const Index width = plan.s.columns.result;
  Block<T> check = Block<T>::zero();
  for (Index tile = 0; tile < plan.tile_columns; ++tile) {
    Block<T> half[2][4];  // Aᵀ m
    DT_UNROLL for (int x = 0; x < 4; ++x) {
      const auto m = [&](int y) { return Block<T>::load(products + (4 * y + x) * plan.panel_point + tile * lanes<T>); };
      const Block<T> m1 = m(1), m2 = m(2);
      half[0][x] = m(0) + (m1 + m2);
      half[1][x] = (m1 - m2) - m(3);
    }
    DT_UNROLL for (int y = 0; y < 2; ++y) {
      const Block<T> left = half[y][0] + (half[y][1] + half[y][2]) + bias, right = (half[y][1] - half[y][2]) - half[y][3] + bias;
      check = check + (left - left) + (right - right);
      if (y >= rows) continue;
      T* pixel = to + (y * width + 2 * tile) * lanes<T>;
      left.store(pixel);
      if (2 * tile + 1 < width) right.store(pixel + lanes<T>);
    }
  }
  return check;
}

// The results of tile rows [begin, end) of the batch; marks the images where one is not finite.
template <class T>
static void winograd_block(const WinogradPlan<T>& plan, Index group, Index begin, Index end, const T* source, const T* weights, const PackedBias<T>& bias,
                           T* result, char* failed) {
  const Sweep& s = plan.s;
  const Index width = s.columns.result;
  const Scratch<T> packed(plan.packed_plane), transformed(points * plan.source_point), products(points * plan.panel_point);
  const Scratch<T> blocks(4 * plan.max_tiles * lanes<T>);
  const Scratch<Index> tile(plan.max_tiles), column(s.depth);
  for (Index i = 0; i < plan.max_tiles; ++i) tile[i] = i * lanes<T>;
  for (Index c = 0; c < s.depth; ++c) column[c] = c / lanes<T> * plan.max_tiles * lanes<T> + c % lanes<T>;
  for (Index c = 0; c < plan.source_blocks; ++c) plan.transform_source(source, group, c, begin, end, packed, transformed);
  for (Index panel = 0; panel < plan.panels; ++panel) {
    for (Index i = 0; i < points; ++i)
      product<T>(transformed + i * plan.source_point, tile, (end - begin) * plan.tile_columns, column, s.depth,
                 weights + (panel * points + i) * s.depth * lanes<T>, products + i * plan.panel_point, tile, {});
    const Block<T> added = bias.panel(panel) ? Block<T>::load(bias.panel(panel)) : Block<T>::zero();
    plan.for_parts(begin, end, [&](Index image, Index first, Index last, Index, Index tile) {
      Block<T> check = Block<T>::zero();
      for (Index row = first; row < last; ++row)
        check = check + transform_results_row(plan, products + (tile + (row - first) * plan.tile_columns) * lanes<T>, s.rows.result - 2 * row, added,
                                              blocks + 2 * (row - first) * width * lanes<T>);
      if (!(check.sum() == 0)) __atomic_store_n(failed + image, 1, __ATOMIC_RELAXED);
      const Index channel = panel * lanes<T>, pixels = (min(2 * last, s.rows.result) - 2 * first) * width;
      T* plane = result + ((image * s.groups + group) * s.width + channel) * s.result_pixels() + 2 * first * width;
      unpack<T>(blocks, pixels, min(lanes<T>, s.width - channel), plane, s.result_pixels());
    });
  }
}

// Marks in `failed` the images whose results must be computed another way.
template <class T>
static void winograd(const Sweep& s, Index group, const T* source, const T* weight, const T* bias, T* result, char* failed) {
  const WinogradPlan<T> plan(s);
  const Scratch<T> weights(plan.panels * points * s.depth * lanes<T>);
  transform_weights(plan, weight + group * s.weight_group, weights.data());
  const PackedBias<T> packed_bias(bias ? bias + group * s.width : nullptr, s.width);
  parallel_for(s.images * plan.tile_rows_per_image, plan.cut.rows,
               [&](Index begin, Index end) { winograd_block<T>(plan, group, begin, end, source, weights, packed_bias, result, failed); });
}

// The gradient of the weight

// A dY Aᵀ of one row of tiles: pixels (2 rows of an even width, lanes) → (points, tiles, lanes).
template <class T>
static inline void transform_gradient_row(const WinogradPlan<T>& plan, const T* pixels, T* to) {
  const Index width = 2 * plan.tile_columns;
  for (Index tile = 0; tile < plan.tile_columns; ++tile) {
    const auto column = [&](Index x) { return apply_a(Block<T>::load(pixels + x * lanes<T>), Block<T>::load(pixels + (width + x) * lanes<T>)); };
    const Four<T> left = column(2 * tile), right = column(2 * tile + 1);
    DT_UNROLL for (int y = 0; y < 4; ++y) {
      const Four<T> row = apply_a(left.at[y], right.at[y]);
      DT_UNROLL for (int x = 0; x < 4; ++x) row.at[x].store(to + (4 * y + x) * plan.panel_point + tile * lanes<T>);
    }
  }
}

// The gradient of tile rows [begin, end) of the batch, transformed, for one panel; adds its pixels to `bias`.
template <class T>
static inline void transform_gradient(const WinogradPlan<T>& plan, const T* gradient, Index group, Index panel, Index begin, Index end, T* packed, T* to,
                                      T* bias) {
  const Sweep& s = plan.s;
  const Index channel = panel * lanes<T>, width = 2 * plan.tile_columns;
  Block<T> sum = Block<T>::zero();
  plan.for_parts(begin, end, [&](Index image, Index first, Index last, Index, Index tile) {
    const T* planes = gradient + ((image * s.groups + group) * s.width + channel) * s.result_pixels();
    pack_block(planes, min(lanes<T>, s.width - channel), s.rows.result, s.columns.result, {2 * first, 0, 2 * (last - first), width}, packed,
               lanes<T>);
    for (Index row = 0; row < last - first; ++row)
      transform_gradient_row(plan, packed + 2 * row * width * lanes<T>, to + (tile + row * plan.tile_columns) * lanes<T>);
    for (Index pixel = 0; pixel < 2 * (last - first) * width; ++pixel) sum = sum + Block<T>::load(packed + pixel * lanes<T>);
  });
  (Block<T>::load(bias) + sum).store(bias);
}

// Gᵀ u G: (points) `apart` elements from each other → the 3 × 3 taps of one filter per lane.
template <class T>
static inline void transform_weight_gradient(const T* sums, Index apart, T taps[9][lanes<T>]) {
  const Block<T> half = Block<T>::filled(T(0.5));
  Block<T> columns[3][4];
  DT_UNROLL for (int x = 0; x < 4; ++x) {
    const auto u = [&](int y) { return Block<T>::load(sums + (4 * y + x) * apart); };
    const Block<T> sum = (u(1) + u(2)) * half;
    columns[0][x] = u(0) + sum;
    columns[1][x] = (u(1) - u(2)) * half;
    columns[2][x] = sum + u(3);
  }
  DT_UNROLL for (int y = 0; y < 3; ++y) {
    const Block<T>* u = columns[y];
    const Block<T> sum = (u[1] + u[2]) * half;
    (u[0] + sum).store(taps[3 * y]);
    ((u[1] - u[2]) * half).store(taps[3 * y + 1]);
    (sum + u[3]).store(taps[3 * y + 2]);
  }
}

// Whether all results are finite; if not, another way must be taken.
template <class T>
static bool winograd_backward_weight(const Sweep& s, Index group, const T* gradient, const T* x, T* of_weight, T* of_bias) {
  const WinogradPlan<T> plan(s);
  const Index panels = plan.panels, per_panel = points * s.depth * lanes<T>, blocks = plan.source_blocks;
  const Scratch<T> transformed(points * plan.source_point), gradients(panels * points * plan.panel_point), sums(panels * per_panel), bias(panels * lanes<T>);
  const Scratch<Index> tile(plan.max_tiles), channel(s.depth), to(s.depth);
  for (Index i = 0; i < plan.max_tiles; ++i) tile[i] = i * lanes<T>;
  for (Index c = 0; c < s.depth; ++c) {
    channel[c] = c / lanes<T> * plan.max_tiles * lanes<T> + c % lanes<T>;
    to[c] = c * lanes<T>;
  }
  memset(sums, 0, sizeof(T) * panels * per_panel);
  memset(bias, 0, sizeof(T) * panels * lanes<T>);
  const Index total = s.images * plan.tile_rows_per_image;
  for (Index begin = 0; begin < total; begin += plan.cut.rows) {
    const Index end = min(total, begin + plan.cut.rows);
    parallel_for(blocks + panels, 1, [&](Index first, Index last) {
      const Scratch<T> room(plan.packed_plane);
      for (Index i = first; i < last; ++i) {
        if (i < blocks)
          plan.transform_source(x, group, i, begin, end, room, transformed);
        else
          transform_gradient<T>(plan, gradient, group, i - blocks, begin, end, room, gradients + (i - blocks) * points * plan.panel_point,
                                bias + (i - blocks) * lanes<T>);
      }
    });
    parallel_for(panels * points, 1, [&](Index first, Index last) {
      for (Index i = first; i < last; ++i)
        product<T>(transformed + i % points * plan.source_point, channel, s.depth, tile, (end - begin) * plan.tile_columns,
                   gradients + i * plan.panel_point, sums + i * s.depth * lanes<T>, to, {true});
    });
  }
  Block<T> check = Block<T>::zero();
  for (Index i = 0; i < panels * s.depth; ++i) {
    const Index panel = i / s.depth, c = i % s.depth;
    T taps[9][lanes<T>];
    transform_weight_gradient(sums + panel * per_panel + c * lanes<T>, s.depth * lanes<T>, taps);
    for (Index lane = 0; lane < min(lanes<T>, s.width - panel * lanes<T>); ++lane) {
      T* filter = of_weight + group * s.weight_group + c * s.weight_source + (panel * lanes<T> + lane) * s.weight_result;
      for (Index tap = 0; tap < 9; ++tap) filter[tap] = taps[tap][lane];
    }
    for (Index tap = 0; tap < 9; ++tap) check = check + (Block<T>::load(taps[tap]) - Block<T>::load(taps[tap]));
  }
  for (Index o = 0; of_bias && o < s.width; ++o) of_bias[group * s.width + o] = bias[o];
  return check.sum() == 0;
}

}  // namespace
}  // namespace DT_ISA
