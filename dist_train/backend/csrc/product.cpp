// The product of two matrices as in BLIS (Van Zee, van de Geijn 2015): one operand is packed into panels as wide as two vectors, the other
// supplies scalars, and a tile of C stays in registers while k runs. Two things differ from a BLAS library, which is made for large and square:
//
// - where C has few rows (a small batch), the batch becomes the width of the panels and the weights are read once, as they lie, and not packed;
// - the order of summation is fixed (see product.h).
#include "kernel.h"
#include "product.h"

#if defined(__AVX2__)

namespace DT_ISA {

#if defined(__AVX512F__)
constexpr int vector_bytes = 64, tile_rows = 14;  // 28 of 32 registers hold the tile
#else
constexpr int vector_bytes = 32, tile_rows = 6;  // 12 of 16
#endif

constexpr Index depth_limit = 512;                   // of a panel whose tiles are stored transposed, which takes its time
constexpr Index plain_depth = 256;                   // of others: scalars and panel then share the first-level cache
constexpr Index block_bytes = Index(384) << 10;       // of the panels that are made at a time: they stay in the second-level cache
constexpr Index small_batch = 4;                      // panels

template <class T>
struct Types {
  typedef T Vector __attribute__((vector_size(vector_bytes), aligned(alignof(T)), may_alias));
  static constexpr int lanes = vector_bytes / sizeof(T), width = 2 * lanes;
};

template <class T>
static inline typename Types<T>::Vector& vector_at(T* p) {
  return *reinterpret_cast<typename Types<T>::Vector*>(p);
}

template <class T>
static inline const typename Types<T>::Vector& vector_at(const T* p) {
  return *reinterpret_cast<const typename Types<T>::Vector*>(p);
}

// Rows of scalars are copied to this distance: those of a matrix whose rows are a power of two long would all fall on the same lines of the cache.
template <class T>
constexpr Index scalars_row = depth_limit + 64 / Index(sizeof(T));

// A matrix whose element (i, j) lies at data[i·row + j·column].
template <class T>
struct Strided {
  const T* data;
  Index row, column;
  const T* at(Index i, Index j) const { return data + i * row + j * column; }
};

// Where the tile goes: C itself, or its transpose.
template <class T>
struct Target {
  T* data;
  Index stride;
  bool transposed;  // tile's element (i, j) is at data[j·stride + i]
  T& at(Index i, Index j) const { return transposed ? data[j * stride + i] : data[i * stride + j]; }
  Target from(Index i, Index j) const { return {&at(i, j), stride, transposed}; }
};

// Lines of a matrix, row by row, that are asked for while tiles are computed, so that packing finds them in the cache.
class Ahead {
 public:
  Ahead() = default;
  // `count` rows of `length` elements, `row` elements apart, in about `times` parts
  template <class T>
  Ahead(const T* first, Index row, Index count, Index length, Index times)
      : first_(reinterpret_cast<const char*>(first)), row_(row * Index(sizeof(T))), lines_((length * Index(sizeof(T)) + 63) / 64),
        total_(lines_ * count), part_(total_ / max(times, Index(1)) + 1) {}
  void ask() {
    for (Index i = 0; i < part_ && next_ < total_; ++i, ++next_) {
      __builtin_prefetch(first_ + line_ * 64, 0, 2);
      if (++line_ == lines_) line_ = 0, first_ += row_;
    }
  }

 private:
  const char* first_ = nullptr;
  Index row_ = 0, lines_ = 0, total_ = 0, part_ = 0, next_ = 0, line_ = 0;
};

constexpr Index pace = 16;  // steps of k between two times that lines are asked for

// The sums of a tile of `rows` rows and `width` columns: each of depth terms scalars[i, k] · panel[k, j]. `together`: the scalars of one k lie side by
// side, as packed; else those of one row do.
template <class T, int rows, bool together>
static inline void accumulate(Index depth, const T* scalars, Index row, const T* panel, Ahead& ahead, typename Types<T>::Vector (&sums)[rows][2]) {
  constexpr int lanes = Types<T>::lanes, width = Types<T>::width, groups = (rows + 2) / 3;
  const char* group[groups];  // rows in threes: base, base + row, base + 2·row is an address the processor can form
  const Index bytes = row * Index(sizeof(T));
#pragma GCC unroll 5
  for (int g = 0; g < groups; ++g) group[g] = reinterpret_cast<const char*>(scalars) + 3 * g * bytes;
  for (Index k = 0; k < depth; ++k) {
    if (k % pace == 0) ahead.ask();
    const auto left = vector_at(panel + k * width), right = vector_at(panel + k * width + lanes);
#pragma GCC unroll 14
    for (int i = 0; i < rows; ++i) {
      const T scalar = together ? scalars[k * rows + i] : *reinterpret_cast<const T*>(group[i / 3] + (i % 3) * bytes);
      sums[i][0] += left * scalar;
      sums[i][1] += right * scalar;
    }
    if (!together) {
#pragma GCC unroll 5
      for (int g = 0; g < groups; ++g) group[g] += sizeof(T);
    }
  }
}

template <class T, int rows, bool together>
static void tile(Index depth, const T* scalars, Index row, const T* panel, Ahead& ahead, bool add, const Target<T>& c, Index columns) {
  constexpr int lanes = Types<T>::lanes, width = Types<T>::width;
  typename Types<T>::Vector sums[rows][2] = {};
  const bool whole = columns == width && !c.transposed;
  alignas(64) T edge[rows][width];
  if (add && whole) {
#pragma GCC unroll 14
    for (int i = 0; i < rows; ++i) {
      sums[i][0] = vector_at(&c.data[i * c.stride]);
      sums[i][1] = vector_at(&c.data[i * c.stride + lanes]);
    }
  } else if (add) {
    for (int i = 0; i < rows; ++i)
      for (Index j = 0; j < width; ++j) edge[i][j] = j < columns ? c.at(i, j) : T(0);
#pragma GCC unroll 14
    for (int i = 0; i < rows; ++i) {
      sums[i][0] = vector_at(&edge[i][0]);
      sums[i][1] = vector_at(&edge[i][lanes]);
    }
  }
  accumulate<T, rows, together>(depth, scalars, row, panel, ahead, sums);
  if (whole) {
#pragma GCC unroll 14
    for (int i = 0; i < rows; ++i) {
      vector_at(&c.data[i * c.stride]) = sums[i][0];
      vector_at(&c.data[i * c.stride + lanes]) = sums[i][1];
    }
    return;
  }
#pragma GCC unroll 14
  for (int i = 0; i < rows; ++i) {
    vector_at(&edge[i][0]) = sums[i][0];
    vector_at(&edge[i][lanes]) = sums[i][1];
  }
  if (c.transposed) {
    for (Index j = 0; j < columns; ++j)
      for (int i = 0; i < rows; ++i) c.data[j * c.stride + i] = edge[i][j];
  } else {
    for (int i = 0; i < rows; ++i)
      for (Index j = 0; j < columns; ++j) c.data[i * c.stride + j] = edge[i][j];
  }
}

template <class T>
using Tile = void (*)(Index depth, const T* scalars, Index row, const T* panel, Ahead& ahead, bool add, const Target<T>& c, Index columns);

// The kernel for a tile of so many rows: 1 … tile_rows.
template <class T, bool together, int rows = tile_rows>
static Tile<T> tile_of(Index wanted) {
  if constexpr (rows == 1)
    return tile<T, 1, together>;
  else
    return wanted == rows ? tile<T, rows, together> : tile_of<T, together, rows - 1>(wanted);
}

// Which elements of two rows, numbered one after the other, stand in the upper and in the lower row after squares of `half` have changed places.
template <int lanes, int half, class Int>
struct Exchange {
  Int upper[lanes] = {}, lower[lanes] = {};
  constexpr Exchange() {
    for (int j = 0; j < lanes; ++j) {
      upper[j] = j & half ? lanes + j - half : j;
      lower[j] = j & half ? lanes + j : j + half;
    }
  }
};

template <class T>
struct SameSize;
template <>
struct SameSize<float> {
  using Int = std::int32_t;
};
template <>
struct SameSize<double> {
  using Int = std::int64_t;
};

template <class T, int half>
static inline void exchange(typename Types<T>::Vector* v) {
  constexpr int lanes = Types<T>::lanes;
  using Int = typename SameSize<T>::Int;
  typedef Int Indices __attribute__((vector_size(vector_bytes)));
  alignas(64) static constexpr Exchange<lanes, half, Int> order;
  const Indices upper = *reinterpret_cast<const Indices*>(order.upper), lower = *reinterpret_cast<const Indices*>(order.lower);
#pragma GCC unroll 16
  for (int i = 0; i < lanes; ++i) {
    if (i & half) continue;
    const auto a = v[i], b = v[i + half];
    v[i] = __builtin_shuffle(a, b, upper);
    v[i + half] = __builtin_shuffle(a, b, lower);
  }
}

// A square of vectors, of which `rows` are read and the others are zero, transposed in registers.
template <class T>
static inline void transpose_square(const T* from, Index row, Index rows, T* to, Index to_row) {
  constexpr int lanes = Types<T>::lanes;
  typename Types<T>::Vector v[lanes] = {};
#pragma GCC unroll 16
  for (int i = 0; i < lanes; ++i)
    if (i < rows) v[i] = vector_at(from + i * row);
  if constexpr (lanes > 8) exchange<T, 8>(v);
  if constexpr (lanes > 4) exchange<T, 4>(v);
  exchange<T, 2>(v);
  exchange<T, 1>(v);
#pragma GCC unroll 16
  for (int i = 0; i < lanes; ++i) vector_at(to + i * to_row) = v[i];
}

// Rows that lie k side by side, transposed: columns j … j + columns of B where element (k + 1, j) follows (k, j).
template <class T>
static void pack_transposed(const Strided<T>& b, Index k, Index depth, Index j, Index columns, T* panel) {
  constexpr int lanes = Types<T>::lanes, width = Types<T>::width;
  const Index whole = depth / lanes * lanes;
  for (Index x = 0; x < width; x += lanes) {
    const Index rows = max(Index(0), min(Index(lanes), columns - x));
    for (Index i = 0; i < whole; i += lanes) transpose_square(b.at(k + i, j + x), b.column, rows, panel + i * width + x, width);
    for (Index i = whole; i < depth; ++i)
      for (Index y = 0; y < lanes; ++y) panel[i * width + x + y] = y < rows ? *b.at(k + i, j + x + y) : T(0);
  }
}

// Columns j … j + columns of B, k … k + depth, as a panel: (depth, width), zeros where B ends.
template <class T>
static void pack_panel(const Strided<T>& b, Index k, Index depth, Index j, Index columns, T* panel) {
  constexpr int lanes = Types<T>::lanes, width = Types<T>::width;
  if (b.column == 1 && columns == width) {
    for (Index i = 0; i < depth; ++i) {
      const T* row = b.at(k + i, j);
      vector_at(panel + i * width) = vector_at(row);
      vector_at(panel + i * width + lanes) = vector_at(row + lanes);
    }
  } else if (b.row == 1) {
    pack_transposed(b, k, depth, j, columns, panel);
  } else {
    for (Index i = 0; i < depth; ++i)
      for (Index x = 0; x < width; ++x) panel[i * width + x] = x < columns ? *b.at(k + i, j + x) : T(0);
  }
}

// Rows i … i + rows of A, which has m, k … k + depth: as (rows, scalars_row) where they lie k side by side, else as (depth, rows).
template <class T>
static void pack_scalars(const Strided<T>& a, Index m, Index i, Index rows, Index k, Index depth, T* scalars) {
  constexpr int lanes = Types<T>::lanes, wide = 16;
  if (a.row == 1 && i + wide <= m) {  // a fixed number of elements; those too many are overwritten by the next
    for (Index x = 0; x < depth; ++x)
      for (int y = 0; y < wide; ++y) scalars[x * rows + y] = a.at(i, k + x)[y];
    return;
  }
  if (a.column != 1 || a.row == 1) {
    for (Index x = 0; x < depth; ++x)
      for (Index y = 0; y < rows; ++y) scalars[x * rows + y] = *a.at(i + y, k + x);
    return;
  }
  for (Index y = 0; y < rows; ++y) {
    const T* from = a.at(i + y, k);
    T* to = scalars + y * scalars_row<T>;
    Index x = 0;
    for (; x + lanes <= depth; x += lanes) vector_at(to + x) = vector_at(from + x);
    for (; x < depth; ++x) to[x] = from[x];
  }
}

// Tiles of almost equal height: the last of a few rows would waste the registers.
struct Split {
  Index size, count;
  explicit Split(Index size) : size(size), count((size + tile_rows - 1) / tile_rows) {}
  Index begin(Index i) const { return size * i / count; }
};

// Memory for panels, kept by each thread that multiplies.
template <class T>
static T* panels_memory() {
  alignas(64) static thread_local char memory[block_bytes + depth_limit * Types<T>::width * Index(sizeof(T))];
  return reinterpret_cast<T*>(memory);
}

// A block of B in panels: rows k … k + depth, columns j … j + columns.
template <class T>
struct Block {
  Index k, depth, j, columns;
  const T* panels;
  Index num_panels() const { return (columns + Types<T>::width - 1) / Types<T>::width; }
};

template <class T>
static void multiply_block(const Strided<T>& a, Index m, const Block<T>& b, const Strided<T>& next, Index next_depth, bool add, const Target<T>& c) {
  constexpr int width = Types<T>::width;
  const bool together = a.column != 1 || a.row == 1;
  const Split split(m);
  const Index num_panels = b.num_panels(), times = num_panels * (b.depth + pace - 1) / pace;
  const Index grain = max(Index(1), Index(1 << 18) / (b.columns * b.depth * tile_rows + 1));
  parallel_for(split.count, grain, [=](Index begin, Index end) {
    alignas(64) T scalars[tile_rows * scalars_row<T>];
    for (Index t = begin; t < end; ++t) {
      const Index i = split.begin(t), rows = split.begin(t + 1) - i;
      pack_scalars(a, m, i, rows, b.k, b.depth, scalars);
      Ahead ahead;
      if (next_depth) {  // this tile's share of the next block
        const Index from = next_depth * t / split.count, to = next_depth * (t + 1) / split.count;
        ahead = Ahead(next.at(from, 0), next.row, to - from, b.columns, times);
      } else if (!together && t + 1 < split.count) {
        ahead = Ahead(a.at(split.begin(t + 1), b.k), a.row, split.begin(t + 2 < split.count ? t + 2 : split.count) - split.begin(t + 1), b.depth, times);
      }
      const Tile<T> kernel = together ? tile_of<T, true>(rows) : tile_of<T, false>(rows);
      for (Index p = 0; p < num_panels; ++p)
        kernel(b.depth, scalars, scalars_row<T>, b.panels + p * width * b.depth, ahead, add, c.from(i, b.j + p * width),
               min(Index(width), b.columns - p * width));
    }
  });
}

template <class T>
static void multiply(Index m, Index n, Index k, const Strided<T>& a, const Strided<T>& b, bool add, const Target<T>& c) {
  constexpr int width = Types<T>::width;
  const Index depth = min(k, c.transposed ? depth_limit : plain_depth);
  const Index columns = max(Index(1), block_bytes / Index(sizeof(T)) / (depth * width)) * width;  // of a block
  T* panels = panels_memory<T>();
  for (Index j = 0; j < n; j += columns) {
    for (Index x = 0; x < k; x += depth) {
      const Block<T> block{x, min(depth, k - x), j, min(columns, n - j), panels};
      parallel_for(block.num_panels(), 4, [=](Index begin, Index end) {
        for (Index p = begin * width; p < end * width; p += width)
          pack_panel(b, x, block.depth, j + p, min(Index(width), block.columns - p), panels + p * block.depth);
      });
      const bool more = x + depth < k, last = !more && j + columns >= n;
      const Index next = more ? x + depth : 0;
      const Strided<T> ahead{b.at(next, more ? j : j + columns), b.row, b.column};
      multiply_block(a, m, block, ahead, b.column == 1 && !last ? min(depth, k - next) : 0, add || x > 0, c);
    }
  }
}

template <class T>
bool product(Index m, Index n, Index k, const T* a, Index a_row, Index a_column, const T* b, Index b_row, Index b_column, bool add, T* c, Index ldc) {
  if (k == 0) {
    for (Index i = 0; !add && i < m; ++i)
      for (Index j = 0; j < n; ++j) c[i * ldc + j] = T(0);
    return true;
  }
  const Strided<T> left{a, a_row, a_column}, right{b, b_row, b_column};
  // y = x·Wᵀ for a small batch: the rows of W, whose k lies side by side, are the scalars, and the batch is what panels are made of
  constexpr int width = Types<T>::width;
  const bool weights_are_scalars = b_row == 1 && m <= small_batch * width && n >= (m % width ? 4 : 1) * tile_rows;
  if (weights_are_scalars)
    multiply<T>(n, m, k, {b, b_column, b_row}, {a, a_column, a_row}, add, {c, ldc, true});
  else
    multiply<T>(m, n, k, left, right, add, {c, ldc, false});
  return true;
}

}  // namespace DT_ISA

#else

namespace DT_ISA {

template <class T>
bool product(Index, Index, Index, const T*, Index, Index, const T*, Index, Index, bool, T*, Index) {
  return false;
}

}  // namespace DT_ISA

#endif

namespace DT_ISA {

#define INSTANTIATE(T) template bool product<T>(Index, Index, Index, const T*, Index, Index, const T*, Index, Index, bool, T*, Index);
INSTANTIATE(float)
INSTANTIATE(double)

}  // namespace DT_ISA
