// Copies of strided matrices in the order in which a kernel reads them: aligned, padded with zeros, transposed where it has to be.
#pragma once

#include "fused.h"
#include "tile.h"

namespace DT_ISA {
namespace {

// Rows and columns with any strides, in elements.
template <class T>
struct Matrix {
  T* data;
  Index row, column;
  T& operator()(Index i, Index j) const { return data[i * row + j * column]; }
};

static inline Index round_up(Index size, Index multiple) { return (size + multiple - 1) / multiple * multiple; }

// target (padded_rows × ld) = factor·source (rows × columns), zeros elsewhere.
template <class T>
static void pack_rows(Matrix<const T> source, Index rows, Index columns, T factor, T* target, Index padded_rows, Index ld) {
  for (Index i = 0; i < padded_rows; ++i) {
    T* to = target + i * ld;
    const T* from = source.data + i * source.row;
    const Index filled = i < rows ? columns : 0;
    if (source.column == 1)
      for (Index j = 0; j < filled; ++j) to[j] = from[j] * factor;
    else
      for (Index j = 0; j < filled; ++j) to[j] = from[j * source.column] * factor;
    for (Index j = filled; j < ld; ++j) to[j] = T(0);
  }
}

// Columns of a product that are made in one pass over a transposed factor: two cache lines.
template <class T>
constexpr Index panel = 2 * line<T>;

// The transpose of source (rows × columns) in panels: target[row / panel][column][row % panel], zeros behind the last row.
template <class T>
static void pack_transposed(Matrix<const T> source, Index rows, Index columns, T* target) {
  for (Index first = 0; first < rows; first += panel<T>, target += columns * panel<T>)
    for (Index i = 0; i < panel<T>; i += line<T>)
      for (Index j = 0; j < columns; j += line<T>) {
        const Index height = max(Index(0), min(line<T>, rows - first - i)), width = min(line<T>, columns - j);
        T* to = target + j * panel<T> + i;
        if (source.column == 1 && height == line<T> && width == line<T>)
          transpose_block(&source(first + i, j), source.row, to, panel<T>);
        else
          for (Index k = 0; k < width; ++k)
            for (Index l = 0; l < line<T>; ++l) to[k * panel<T> + l] = l < height ? source(first + i + l, j + k) : T(0);
      }
}

// c (group_rows × columns) = left (group_rows × depth) times the transpose that `panels` holds, from its column `first` (a multiple of panel) on.
template <class T>
static void multiply_panels(Index first, Index columns, Index depth, ByRows<T> left, const T* panels, T* c, Index ldc) {
  for (Index column = 0; column < columns; column += panel<T>)
    multiply_group(min(panel<T>, columns - column), depth, left, panels + (first + column) * depth, panel<T>, c + column, ldc, false);
}

}  // namespace
}  // namespace DT_ISA
