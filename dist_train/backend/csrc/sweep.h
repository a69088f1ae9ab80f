// A filter swept over images: what convolution and its input gradient have in common, and how rows of images are brought into the cache.
//
// Packed images hold blocks of channels: (channel blocks, pixels, `width` channels), where width is `lanes`, or all channels if they are fewer.
// Work is cut into blocks of consecutive rows of the batch, which may begin and end inside an image and span several.
#pragma once

#include <cstring>

#include "conv_shape.h"
#include "tile.h"

namespace DT_ISA {
namespace {

constexpr Index cached_bytes = 256 * 1024;  // that a block of rows may take when packed

// Along one axis: result[phase + out_step·j] = Σ_tap source[in_step·j + shift(phase, tap)]·weight[tap], over the taps which reach the phase.
// A convolution has one phase; its input gradient has as many as the stride.
struct Axis {
  Index source, result, taps, in_step, out_step, offset, slope;
  Index low, high;  // of all shifts

  Axis(Index source, Index result, Index taps, Index in_step, Index out_step, Index offset, Index slope)
      : source(source), result(result), taps(taps), in_step(in_step), out_step(out_step), offset(offset), slope(slope) {
    bool any = false;
    low = high = 0;
    for (Index phase = 0; phase < phases(); ++phase)
      for (Index tap = 0; tap < taps; ++tap)
        if (reaches(phase, tap)) {
          low = any ? min(low, shift(phase, tap)) : shift(phase, tap);
          high = any ? max(high, shift(phase, tap)) : shift(phase, tap);
          any = true;
        }
  }
  Index phases() const { return min(out_step, result); }
  Index steps(Index phase = 0) const { return (result - phase + out_step - 1) / out_step; }
  bool reaches(Index phase, Index tap) const { return (phase + offset + slope * tap) % out_step == 0; }
  Index shift(Index phase, Index tap) const { return (phase + offset + slope * tap) / out_step; }
  Index packed(Index steps) const { return in_step * (steps - 1) + high - low + 1; }  // source positions under consecutive steps
};

struct Sweep {
  Index images, groups, depth, width;  // source and result channels of each group
  Axis rows, columns;
  Index weight_group, weight_source, weight_result;  // strides of the weight, whose taps are contiguous

  Index source_pixels() const { return rows.source * columns.source; }
  Index result_pixels() const { return rows.result * columns.result; }
  Index taps() const { return rows.taps * columns.taps; }
};

static inline Sweep forward_sweep(const ConvShape& s) {
  const auto axis = [&](int i) { return Axis(s.input[i], s.output[i], s.window[i], s.stride[i], 1, -s.before[i], s.dilation[i]); };
  const Index depth = s.channels / s.groups, width = s.filters / s.groups, taps = s.window[0] * s.window[1];
  return {s.images, s.groups, depth, width, axis(0), axis(1), width * depth * taps, taps, depth * taps};
}

static inline Sweep backward_sweep(const ConvShape& s) {
  const auto axis = [&](int i) { return Axis(s.output[i], s.input[i], s.window[i], 1, s.stride[i], s.before[i], -s.dilation[i]); };
  const Index depth = s.filters / s.groups, width = s.channels / s.groups, taps = s.window[0] * s.window[1];
  return {s.images, s.groups, depth, width, axis(0), axis(1), width * depth * taps, width * taps, taps};
}

// One phase of a sweep: the results [phase + out_step·j] of both axes, and the part of the packed weights that they take.
struct Phase {
  Index row, column, taps, weights;  // taps that reach it; where its weights begin
};

// Calls visit(Phase) for every phase, and returns the number of all packed weights of a panel.
template <class Visit>
static inline Index for_phases(const Sweep& s, const Visit& visit) {
  Index weights = 0;
  for (Index row = 0; row < s.rows.phases(); ++row)
    for (Index column = 0; column < s.columns.phases(); ++column) {
      Index rows = 0, columns = 0;
      for (Index tap = 0; tap < s.rows.taps; ++tap) rows += s.rows.reaches(row, tap);
      for (Index tap = 0; tap < s.columns.taps; ++tap) columns += s.columns.reaches(column, tap);
      visit(Phase{row, column, rows * columns, weights});
      weights += rows * columns * s.depth;
    }
  return weights;
}

// Calls visit(row tap, column tap) for the taps that reach a phase.
template <class Visit>
static inline void for_taps(const Sweep& s, const Phase& phase, const Visit& visit) {
  for (Index i = 0; i < s.rows.taps; ++i)
    for (Index j = 0; j < s.columns.taps; ++j)
      if (s.rows.reaches(phase.row, i) && s.columns.reaches(phase.column, j)) visit(i, j);
}

static inline Index divided_up(Index a, Index b) { return (a + b - 1) / b; }

// Calls visit(image, first, last) for the rows [begin, end) of a batch with `per_image` rows in each.
template <class Visit>
static inline void for_images(Index begin, Index end, Index per_image, const Visit& visit) {
  while (begin < end) {
    const Index image = begin / per_image, first = begin % per_image, last = min(per_image, first + end - begin);
    visit(image, first, last);
    begin += last - first;
  }
}

// How the rows of a batch are cut: as many at a time as stay in the cache, but no fewer than `least`. They span at most `images` images.
struct Cut {
  Index rows, images;
  Cut(Index total, Index per_image, Index row_bytes, Index least) : rows(min(total, max(least, cached_bytes / row_bytes))) {
    if (rows > per_image) rows -= rows % per_image;  // whole images, or
    else rows = divided_up(per_image, divided_up(per_image, rows));  // equal parts of one
    images = divided_up(rows - 1, per_image) + 1;
  }
};

// Channels

// A rectangle of an image, zeros where it reaches beyond.
struct Window {
  Index top, left, height, width;
};

// (channels, pixels) → (pixels, width), for `channels` ≤ width planes; the missing ones are zero.
template <class T>
static inline void gather_pixels(const T* planes, Index plane, Index channels, Index count, T* to, Index width) {
  if (width == lanes<T> && channels == width && count >= width) {
    for (Index p = 0; p < count; p += width) {
      const Index start = min(p, count - width);  // the last square overlaps the one before
      transpose_block(planes + start, plane, to + start * width, width);
    }
    return;
  }
  for (Index i = 0; i < count; ++i)
    for (Index c = 0; c < width; ++c) to[i * width + c] = c < channels ? planes[c * plane + i] : T(0);
}

// Packs a window of `channels` ≤ width planes.
template <class T>
static inline void pack_block(const T* planes, Index channels, Index image_height, Index image_width, const Window& window, T* to, Index width) {
  const Index plane = image_height * image_width;
  const Index top = max(window.top, Index(0)), bottom = min(window.top + window.height, image_height);
  const Index left = max(window.left, Index(0)), right = min(window.left + window.width, image_width);
  const Index rows = bottom - top, columns = right - left;
  const bool covered = rows == window.height && columns == window.width;
  if (!covered) memset(to, 0, sizeof(T) * window.height * window.width * width);
  if (rows <= 0 || columns <= 0) return;
  planes += top * image_width + left;
  to += ((top - window.top) * window.width + left - window.left) * width;
  if (covered && columns == image_width) {
    gather_pixels(planes, plane, channels, rows * columns, to, width);
  } else if (columns >= lanes<T> || width < lanes<T>) {
    for (Index row = 0; row < rows; ++row)
      gather_pixels(planes + row * image_width, plane, channels, columns, to + row * window.width * width, width);
  } else {  // rows too short for squares: all at once, then each to its place
    const Scratch<T> pixels(rows * image_width * width);
    gather_pixels(planes, plane, channels, (rows - 1) * image_width + columns, pixels.data(), width);
    for (Index row = 0; row < rows; ++row)
      memcpy(to + row * window.width * width, pixels + row * image_width * width, sizeof(T) * columns * width);
  }
}

// The channels of a group, in blocks `plane` elements apart.
template <class T>
static inline void pack(const T* planes, Index channels, Index image_height, Index image_width, const Window& window, T* to, Index plane,
                        Index width) {
  for (Index c = 0; c < channels; c += width)
    pack_block(planes + c * image_height * image_width, min(width, channels - c), image_height, image_width, window, to + c / width * plane, width);
}

// Blocks (pixels, lanes) → `channels` ≤ lanes planes.
template <class T>
static inline void unpack(const T* blocks, Index pixels, Index channels, T* to, Index plane) {
  if (channels == lanes<T> && pixels >= lanes<T>) {
    for (Index p = 0; p < pixels; p += lanes<T>) {
      const Index start = min(p, pixels - lanes<T>);  // the last square overlaps the one before
      transpose_block(blocks + start * lanes<T>, lanes<T>, to + start, plane);
    }
    return;
  }
  for (Index c = 0; c < channels; ++c)
    for (Index p = 0; p < pixels; ++p) to[c * plane + p] = blocks[p * lanes<T> + c];
}

// The gradient (of a forward sweep's results) in rows [begin, end) of the batch, in blocks `plane` elements apart.
template <class T>
static inline void pack_gradient(const Sweep& s, const T* gradient, Index group, Index begin, Index end, T* to, Index plane) {
  for_images(begin, end, s.rows.result, [&](Index image, Index first, Index last) {
    const T* planes = gradient + (image * s.groups + group) * s.width * s.result_pixels();
    const Window window{first, 0, last - first, s.columns.result};
    pack(planes, s.width, s.rows.result, s.columns.result, window, to, plane, lanes<T>);
    to += window.height * window.width * lanes<T>;
  });
}

// Adds the sum of each channel over `pixels` to `sums`.
template <class T>
static inline void add_pixels(const T* blocks, Index panels, Index plane, Index pixels, T* sums) {
  for (Index panel = 0; panel < panels; ++panel) {
    Block<T> total = Block<T>::load(sums + panel * lanes<T>);
    for (Index start = 0; start < pixels; start += cached_depth) {
      Block<T> sum = Block<T>::zero();
      for (Index p = start; p < min(pixels, start + cached_depth); ++p) sum = sum + Block<T>::load(blocks + panel * plane + p * lanes<T>);
      total = total + sum;
    }
    total.store(sums + panel * lanes<T>);
  }
}

// The sum of a plane: by lanes, then the rest.
template <class T>
static inline T sum_plane(const T* plane, Index pixels) {
  Block<T> sum = Block<T>::zero();
  Index p = 0;
  for (; p + lanes<T> <= pixels; p += lanes<T>) sum = sum + Block<T>::load(plane + p);
  T total = sum.sum();
  for (; p < pixels; ++p) total += plane[p];
  return total;
}

// The sum of each result channel over all images.
template <class T>
static inline void sum_planes(const Sweep& s, const T* gradient, T* sums) {
  const Index channels = s.groups * s.width, pixels = s.result_pixels();
  parallel_for(channels, 1, [&](Index begin, Index end) {
    for (Index c = begin; c < end; ++c) {
      T total = 0;
      for (Index image = 0; image < s.images; ++image) total += sum_plane(gradient + (image * channels + c) * pixels, pixels);
      sums[c] = total;
    }
  });
}

// `bias` in blocks, or nothing.
template <class T>
class PackedBias {
 public:
  PackedBias(const T* bias, Index channels) : data_(bias ? divided_up(channels, lanes<T>) * lanes<T> : 0), given_(bias) {
    for (Index c = 0; bias && c < divided_up(channels, lanes<T>) * lanes<T>; ++c) data_[c] = c < channels ? bias[c] : T(0);
  }
  const T* panel(Index i) const { return given_ ? data_ + i * lanes<T> : nullptr; }

 private:
  Scratch<T> data_;
  bool given_;
};

}  // namespace
}  // namespace DT_ISA
