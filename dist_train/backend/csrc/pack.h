// Copies of strided matrices in the order in which a kernel reads them: aligned, padded with zeros, transposed where it has to be.
#pragma once

#include <cstdlib>

#include "tile.h"

namespace DT_ISA {

// Rows and columns with any strides, in elements.
template <class T>
struct Matrix {
  T* data;
  Index row, column;
  T& operator()(Index i, Index j) const { return data[i * row + j * column]; }
};

static inline Index round_up(Index size, Index multiple) { return (size + multiple - 1) / multiple * multiple; }

// One piece of memory, cut into arrays that begin on cache lines.
class Scratch {
 public:
  explicit Scratch(Index bytes) : memory_(std::malloc(std::size_t(bytes) + 64)) {
    next_ = (reinterpret_cast<std::uintptr_t>(memory_) + 63) & ~std::uintptr_t(63);
  }
  ~Scratch() { std::free(memory_); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  explicit operator bool() const { return memory_ != nullptr; }

  template <class T>
  T* take(Index size) {
    T* array = reinterpret_cast<T*>(next_);
    next_ += std::uintptr_t(room<T>(size));
    return array;
  }

  // Bytes that an array takes.
  template <class T>
  static Index room(Index size) {
    return round_up(size * Index(sizeof(T)), 64);
  }

 private:
  void* memory_;
  std::uintptr_t next_;
};

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

#if defined(__clang__)
#define DT_SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define DT_SHUFFLE(a, b, ...) __builtin_shuffle(a, b, Lanes<int, 4>{__VA_ARGS__})
#endif

// to = fromᵀ for squares of 16 bytes, by the shuffles that every instruction set has.
static inline void transpose_square(const float* from, Index from_ld, float* to, Index to_ld) {
  using Row = Lanes<float, 4>;
  Row rows[4], pairs[4];
  for (int i = 0; i < 4; ++i) __builtin_memcpy(&rows[i], from + i * from_ld, 16);
  for (int i = 0; i < 2; ++i) {
    pairs[2 * i] = DT_SHUFFLE(rows[i], rows[i + 2], 0, 4, 1, 5);
    pairs[2 * i + 1] = DT_SHUFFLE(rows[i], rows[i + 2], 2, 6, 3, 7);
  }
  for (int i = 0; i < 2; ++i) {
    rows[2 * i] = DT_SHUFFLE(pairs[i], pairs[i + 2], 0, 4, 1, 5);
    rows[2 * i + 1] = DT_SHUFFLE(pairs[i], pairs[i + 2], 2, 6, 3, 7);
  }
  for (int i = 0; i < 4; ++i) __builtin_memcpy(to + i * to_ld, &rows[i], 16);
}

static inline void transpose_square(const double* from, Index from_ld, double* to, Index to_ld) {
  const double columns[2][2] = {{from[0], from[from_ld]}, {from[1], from[from_ld + 1]}};
  for (int j = 0; j < 2; ++j) __builtin_memcpy(to + j * to_ld, columns[j], 16);
}

// Columns of a product that are made in one pass over a transposed factor: two cache lines.
template <class T>
constexpr Index panel = 2 * line<T>;

// The transpose of source (rows × columns) in panels: target[row / panel][column][row % panel], zeros behind the last row.
template <class T>
static void pack_transposed(Matrix<const T> source, Index rows, Index columns, T* target) {
  constexpr int square = 16 / int(sizeof(T));
  for (Index first = 0; first < rows; first += panel<T>, target += columns * panel<T>) {
    const Index count = min(panel<T>, rows - first), squares = source.column == 1 ? columns / square * square : 0;
    Index i = 0;
    for (; i + square <= count; i += square) {
      for (Index j = 0; j < squares; j += square) transpose_square(&source(first + i, j), source.row, target + j * panel<T> + i, panel<T>);
      for (Index j = squares; j < columns; ++j)
        for (int k = 0; k < square; ++k) target[j * panel<T> + i + k] = source(first + i + k, j);
    }
    for (; i < panel<T>; ++i)
      for (Index j = 0; j < columns; ++j) target[j * panel<T> + i] = i < count ? source(first + i, j) : T(0);
  }
}

// c (tile_rows × columns) = left (tile_rows × depth) times the transpose that `panels` holds, from its column `first` (a multiple of panel) on.
template <class T>
static void multiply_panels(Index first, Index columns, Index depth, ByRows<T> left, const T* panels, T* c, Index ldc) {
  for (Index column = 0; column < columns; column += panel<T>)
    product(min(panel<T>, columns - column), depth, left, panels + (first + column) * depth, panel<T>, c + column, ldc, false);
}

}  // namespace DT_ISA
