// The product of two matrices as in BLIS (Van Zee, van de Geijn 2015): one operand is packed into panels as wide as two vectors, the other
// supplies scalars, and a tile of C stays in registers while k runs. Two things differ from a BLAS library, which is made for large and square:
//
// - where C has few rows (a small batch), the batch becomes the width of the panels, if that is less work, and the weights are read once, as they
//   lie; what only a few tiles use is not packed;
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

constexpr Index depth_limit = 1024;                  // of a panel whose tiles are stored transposed, which takes its time
constexpr Index plain_depth = 256;                   // of others: scalars and panel then share the first-level cache
constexpr Index block_bytes = Index(384) << 10;      // of the panels that are made at a time: they stay in the second-level cache
constexpr Index few_panels = 4;                      // of so few the scalars are read where they lie
constexpr Index few_tiles = 5;                       // of so few rows of tiles the panels are

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

// Lines of numbers, `row` apart.
template <class T>
struct Lines {
  const T* data;
  Index row;
};

// Where the tile goes: C itself, or its transpose.
template <class T>
struct Target {
  T* data;
  Index stride;
  bool transposed;  // tile's element (i, j) is at data[j·stride + i]
  Target from(Index i, Index j) const { return {data ? data + (transposed ? j * stride + i : i * stride + j) : data, stride, transposed}; }
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

// A square of vectors transposed in registers; the last of `rows` stands for those that are not there.
template <class T>
static inline __attribute__((always_inline)) void transpose_square(const T* from, Index row, Index rows, T* to, Index to_row) {
  constexpr int lanes = Types<T>::lanes;
  typename Types<T>::Vector v[lanes];
#pragma GCC unroll 16
  for (int i = 0; i < lanes; ++i) v[i] = vector_at(from + min(Index(i), rows - 1) * row);
  if constexpr (lanes > 8) exchange<T, 8>(v);
  if constexpr (lanes > 4) exchange<T, 4>(v);
  exchange<T, 2>(v);
  exchange<T, 1>(v);
#pragma GCC unroll 16
  for (int i = 0; i < lanes; ++i) vector_at(to + i * to_row) = v[i];
}

// The sums of a tile of `rows` rows and `vectors` vectors: each of depth terms scalars[i, k] · panel[k, j]. `together`: the scalars of one k lie
// side by side; else those of one row do.
template <class T, int rows, int vectors, bool together>
static inline void accumulate(Index depth, Lines<T> scalars, Lines<T> panel, Ahead& ahead, typename Types<T>::Vector (&sums)[rows][vectors]) {
  constexpr int lanes = Types<T>::lanes, groups = together ? 1 : (rows + 2) / 3;
  const char* group[groups];  // rows in threes: base, base + row, base + 2·row is an address the processor can form
  const Index row = scalars.row * Index(sizeof(T));
#pragma GCC unroll 5
  for (int g = 0; g < groups; ++g) group[g] = reinterpret_cast<const char*>(scalars.data) + 3 * g * row;
  for (Index k = 0; k < depth; ++k, panel.data += panel.row) {
    if (k % pace == 0) ahead.ask();
    typename Types<T>::Vector factors[vectors];
#pragma GCC unroll 2
    for (int v = 0; v < vectors; ++v) factors[v] = vector_at(panel.data + v * lanes);
#pragma GCC unroll 14
    for (int i = 0; i < rows; ++i) {
      const T scalar = *reinterpret_cast<const T*>(together ? group[0] + i * sizeof(T) : group[i / 3] + (i % 3) * row);
#pragma GCC unroll 2
      for (int v = 0; v < vectors; ++v) sums[i][v] += factors[v] * scalar;
    }
#pragma GCC unroll 5
    for (int g = 0; g < groups; ++g) group[g] += together ? row : Index(sizeof(T));
  }
}

// A tile with memory at its own distance, for edges and transposed targets.
template <class T, int rows>
struct Edge {
  static constexpr int lanes = Types<T>::lanes, width = Types<T>::width, squares = (rows + lanes - 1) / lanes, height = squares * lanes;
  alignas(64) T data[height][width];

  __attribute__((noinline)) void load(const Target<T>& from, Index columns) {
    if (!from.transposed) {
      for (int i = 0; i < rows; ++i)
        for (Index j = 0; j < columns; ++j) data[i][j] = from.data[i * from.stride + j];
      return;
    }
    alignas(64) T turned[width][height];
    for (Index j = 0; j < columns; ++j) __builtin_memcpy(turned[j], from.data + j * from.stride, rows * sizeof(T));
    for (Index x = 0; x < columns; x += lanes)
      for (int i = 0; i < height; i += lanes) transpose_square(&turned[x][i], height, min(columns - x, Index(lanes)), &data[i][x], width);
  }

  __attribute__((noinline)) void store(const Target<T>& to, Index columns) const {
    if (!to.transposed) {
      for (int i = 0; i < rows; ++i)
        for (Index j = 0; j < columns; ++j) to.data[i * to.stride + j] = data[i][j];
      return;
    }
    alignas(64) T turned[width][height];
    for (Index x = 0; x < columns; x += lanes)
      for (int i = 0; i < height; i += lanes) transpose_square(&data[i][x], width, min(rows - i, lanes), &turned[x][i], height);
    for (Index j = 0; j < columns; ++j) __builtin_memcpy(to.data + j * to.stride, turned[j], rows * sizeof(T));
  }
};

template <class T, class Vector, int rows, int vectors>
static inline void load_rows(const T* from, Index stride, Vector (&sums)[rows][vectors]) {
#pragma GCC unroll 14
  for (int i = 0; i < rows; ++i, from += stride)
#pragma GCC unroll 2
    for (int v = 0; v < vectors; ++v) sums[i][v] = vector_at(from + v * Types<T>::lanes);
}

template <class T, class Vector, int rows, int vectors>
static inline void store_rows(const Vector (&sums)[rows][vectors], T* to, Index stride) {
#pragma GCC unroll 14
  for (int i = 0; i < rows; ++i, to += stride)
#pragma GCC unroll 2
    for (int v = 0; v < vectors; ++v) vector_at(to + v * Types<T>::lanes) = sums[i][v];
}

// Sums that begin with `start`, where it has data, and end in `c`.
template <class T, int rows, int vectors, bool together>
static void tile(Index depth, Lines<T> scalars, Lines<T> panel, Ahead& ahead, const Target<T>& start, const Target<T>& c,
                 Index columns) {
  typename Types<T>::Vector sums[rows][vectors] = {};
  const bool whole = columns == vectors * Types<T>::lanes && !c.transposed;
  Edge<T, rows> edge;
  if (start.data && whole) {
    load_rows(start.data, start.stride, sums);
  } else if (start.data) {
    edge.load(start, columns);
    load_rows(edge.data[0], Types<T>::width, sums);
  }
  accumulate<T, rows, vectors, together>(depth, scalars, panel, ahead, sums);
  if (whole) {
    store_rows(sums, c.data, c.stride);
  } else {
    store_rows(sums, edge.data[0], Types<T>::width);
    edge.store(c, columns);
  }
}

template <class T>
using Tile = void (*)(Index depth, Lines<T> scalars, Lines<T> panel, Ahead& ahead, const Target<T>& start, const Target<T>& c,
                      Index columns);

// The kernel for a tile of so many rows: 1 … tile_rows.
template <class T, int vectors, bool together, int rows = tile_rows>
static Tile<T> tile_of(Index wanted) {
  if constexpr (rows == 1)
    return tile<T, 1, vectors, together>;
  else
    return wanted == rows ? tile<T, rows, vectors, together> : tile_of<T, vectors, together, rows - 1>(wanted);
}

// Rows that lie k side by side, transposed: columns j … j + columns of B where element (k + 1, j) follows (k, j).
template <class T>
static void pack_transposed(const Strided<T>& b, Index k, Index depth, Index j, Index columns, T* panel) {
  constexpr int lanes = Types<T>::lanes, width = Types<T>::width;
  for (Index x = 0; x < columns; x += lanes) {
    for (Index i = 0; i < depth; i += lanes) {
      const Index at = min(i, depth - lanes);  // the last square overlaps the one before
      transpose_square(b.at(k + at, j + x), b.column, min(Index(lanes), columns - x), panel + at * width + x, width);
    }
  }
}

// Columns j … j + columns of B, k … k + depth, as a panel: (depth, width). What lies beyond B's end is any number.
template <class T>
static void pack_panel(const Strided<T>& b, Index k, Index depth, Index j, Index columns, T* panel) {
  constexpr int lanes = Types<T>::lanes, width = Types<T>::width;
  if (b.column == 1 && columns == width) {
    for (Index i = 0; i < depth; ++i) {
      const T* row = b.at(k + i, j);
      vector_at(panel + i * width) = vector_at(row);
      vector_at(panel + i * width + lanes) = vector_at(row + lanes);
    }
  } else if (b.row == 1 && depth >= lanes) {
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
  alignas(64) static thread_local char memory[block_bytes];
  return reinterpret_cast<T*>(memory);
}

// A block of B in panels: rows k … k + depth, columns j … j + columns. A panel that needs no edge of zeros may be read where it lies.
template <class T>
struct Block {
  static constexpr int width = Types<T>::width, lanes = Types<T>::lanes;
  Strided<T> b;
  bool in_place;
  Index k, depth, j, columns;
  const T* memory;
  Index num_panels() const { return (columns + width - 1) / width; }
  bool lies(Index p) const { return in_place && (columns - p * width >= width || columns - p * width == lanes); }
  Lines<T> panel(Index p) const {
    if (lies(p)) return {b.at(k, j + p * width), b.row};
    return {memory + p * width * depth, width};
  }
};

template <class T>
static void multiply_block(const Strided<T>& a, Index m, const Block<T>& b, const Strided<T>& next, Index next_depth, const Target<T>& start,
                           const Target<T>& c) {
  constexpr int width = Types<T>::width, lanes = Types<T>::lanes;
  const bool together = a.column != 1 || a.row == 1;
  const Split split(m);
  const Index num_panels = b.num_panels(), times = num_panels * (b.depth + pace - 1) / pace;
  // rows a multiple of a page apart fall on the same lines of the cache
  const bool copied = num_panels > few_panels || (together ? a.row != 1 : a.row * Index(sizeof(T)) % 4096 == 0);
  const Index grain = max(Index(1), Index(1 << 18) / (b.columns * b.depth * tile_rows + 1));
  parallel_for(split.count, grain, [=](Index begin, Index end) {
    alignas(64) T memory[tile_rows * scalars_row<T>];
    for (Index t = begin; t < end; ++t) {
      const Index i = split.begin(t), rows = split.begin(t + 1) - i;
      Lines<T> scalars{a.at(i, b.k), together ? a.column : a.row};
      if (copied) {
        pack_scalars(a, m, i, rows, b.k, b.depth, memory);
        scalars = {memory, together ? rows : scalars_row<T>};
      }
      Ahead ahead;
      if (next_depth) {  // this tile's share of the next block
        const Index from = next_depth * t / split.count, to = next_depth * (t + 1) / split.count;
        ahead = Ahead(next.at(from, 0), next.row, to - from, b.columns, times);
      } else if (copied && !together && t + 1 < split.count) {
        ahead = Ahead(a.at(split.begin(t + 1), b.k), a.row, split.begin(t + 2 < split.count ? t + 2 : split.count) - split.begin(t + 1), b.depth, times);
      }
      const Tile<T> pair = together ? tile_of<T, 2, true>(rows) : tile_of<T, 2, false>(rows);
      for (Index p = 0; p < num_panels; ++p) {
        const Index columns = min(Index(width), b.columns - p * width), j = b.j + p * width;
        const Tile<T> kernel = columns > lanes ? pair : together ? tile_of<T, 1, true>(rows) : tile_of<T, 1, false>(rows);
        kernel(b.depth, scalars, b.panel(p), ahead, start.from(i, j), c.from(i, j), columns);
      }
    }
  });
}

template <class T>
static void multiply(Index m, Index n, Index k, const Strided<T>& a, const Strided<T>& b, const Target<T>& bias, const Target<T>& c) {
  constexpr int width = Types<T>::width;
  const Index depth = min(k, c.transposed ? depth_limit : plain_depth);
  static_assert(depth_limit * width * Index(sizeof(T)) <= block_bytes);
  const Index columns = block_bytes / Index(sizeof(T)) / (depth * width) * width;  // of a block
  const bool in_place = b.column == 1 && m <= few_tiles * tile_rows;
  T* memory = panels_memory<T>();
  for (Index j = 0; j < n; j += columns) {
    for (Index x = 0; x < k; x += depth) {
      const Block<T> block{b, in_place, x, min(depth, k - x), j, min(columns, n - j), memory};
      parallel_for(block.num_panels(), 4, [=](Index begin, Index end) {
        for (Index p = begin; p < end; ++p)
          if (!block.lies(p))
            pack_panel(b, x, block.depth, j + p * width, min(Index(width), block.columns - p * width), memory + p * width * block.depth);
      });
      const bool more = x + depth < k, last = !more && j + columns >= n;
      const Index next = more ? x + depth : 0;
      const Strided<T> ahead{b.at(next, more ? j : j + columns), b.row, b.column};
      multiply_block(a, m, block, ahead, b.column == 1 && !last ? min(depth, k - next) : 0, x > 0 ? c : bias, c);
    }
  }
}

// About how many cycles m × n sums take where B, which has n columns, is made into panels: fewer than four rows wait for their own sums.
template <class T>
static Index cycles(Index m, Index n, Index k, bool turned_panels, bool turned_tiles) {
  constexpr int lanes = Types<T>::lanes;
  const Index products = max(m, Index(4)) * ((n + lanes - 1) / lanes) * k;
  return products + (turned_panels ? n * k / 3 : 0) + (turned_tiles ? m * n / 2 : 0);
}

template <class T>
bool product(Index m, Index n, Index k, const T* a, Index a_row, Index a_column, const T* b, Index b_row, Index b_column, const T* bias, T* c,
             Index ldc) {
  if (k == 0) {
    for (Index i = 0; i < m; ++i)
      for (Index j = 0; j < n; ++j) c[i * ldc + j] = bias ? bias[j] : T(0);
    return true;
  }
  const Strided<T> left{a, a_row, a_column}, right{b, b_row, b_column};
  // y = x·Wᵀ for a small batch: the rows of W, whose k lies side by side, are the scalars, and the batch is what panels are made of
  T* start = const_cast<T*>(bias);
  if (b_row == 1 && cycles<T>(n, m, k, a_row != 1, true) < cycles<T>(m, n, k, true, false))
    multiply<T>(n, m, k, {b, b_column, b_row}, {a, a_column, a_row}, {start, 0, true}, {c, ldc, true});
  else
    multiply<T>(m, n, k, left, right, {start, 0, false}, {c, ldc, false});
  return true;
}

}  // namespace DT_ISA

#else

namespace DT_ISA {

template <class T>
bool product(Index, Index, Index, const T*, Index, Index, const T*, Index, Index, const T*, T*, Index) {
  return false;
}

}  // namespace DT_ISA

#endif

namespace DT_ISA {

#define INSTANTIATE(T) template bool product<T>(Index, Index, Index, const T*, Index, Index, const T*, Index, Index, const T*, T*, Index);
INSTANTIATE(float)
INSTANTIATE(double)

}  // namespace DT_ISA
