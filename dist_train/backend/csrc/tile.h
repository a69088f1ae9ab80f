// The register tile on which convolution rests: scalars out of a packed array times blocks of 64 bytes.
//
// Every result is a sum in the order of k, each product rounded before it is added, so its bits are the same for every instruction set, tile and
// thread. Without FMA nothing is lost on processors that multiply and add in different units (Zen): both units are busy.
#pragma once

#include <cstdlib>

#include "kernel.h"

namespace DT_ISA {
namespace {

#if defined(__AVX512F__)
constexpr Index vector_bytes = 64;
constexpr int tile_rows = 12;  // accumulators; each product takes its scalar from memory, which needs no register
#elif defined(__AVX__)
constexpr Index vector_bytes = 32;
constexpr int tile_rows = 6;
#else
constexpr Index vector_bytes = 16;
constexpr int tile_rows = 3;
#endif
constexpr Index block_bytes = 64;
constexpr Index cached_depth = 256;  // of a product: as many blocks as stay in the first-level cache

template <class T>
constexpr Index lanes = block_bytes / sizeof(T);
template <class T>
constexpr int parts = block_bytes / vector_bytes;  // vectors that make up a block

template <class T>
struct VectorOf {
  typedef T type __attribute__((vector_size(vector_bytes)));
  typedef T unaligned __attribute__((vector_size(vector_bytes), aligned(sizeof(T)), may_alias));
};
template <class T>
using Vector = typename VectorOf<T>::type;

#define DT_UNROLL _Pragma("GCC unroll 16")

// 64 bytes of T in registers.
template <class T>
struct Block {
  Vector<T> part[parts<T>];

  static Block zero() { return filled(T(0)); }
  static Block filled(T value) {
    Block result;
    DT_UNROLL for (int i = 0; i < parts<T>; ++i) result.part[i] = Vector<T>{} + value;
    return result;
  }
  static Block load(const T* from) {
    Block result;
    DT_UNROLL for (int i = 0; i < parts<T>; ++i)
      result.part[i] = *reinterpret_cast<const typename VectorOf<T>::unaligned*>(from + i * (vector_bytes / sizeof(T)));
    return result;
  }
  void store(T* to) const {
    DT_UNROLL for (int i = 0; i < parts<T>; ++i)
      *reinterpret_cast<typename VectorOf<T>::unaligned*>(to + i * (vector_bytes / sizeof(T))) = part[i];
  }
  void add_product(T scalar, const Block& other) {
    DT_UNROLL for (int i = 0; i < parts<T>; ++i) part[i] += scalar * other.part[i];
  }
  T sum() const {  // of the lanes, in halves
    T value[lanes<T>];
    store(value);
    for (Index width = lanes<T> / 2; width > 0; width /= 2)
      for (Index i = 0; i < width; ++i) value[i] += value[i + width];
    return value[0];
  }
};

template <class T>
static inline Block<T> operator+(const Block<T>& a, const Block<T>& b) {
  Block<T> result;
  DT_UNROLL for (int i = 0; i < parts<T>; ++i) result.part[i] = a.part[i] + b.part[i];
  return result;
}

template <class T>
static inline Block<T> operator-(const Block<T>& a, const Block<T>& b) {
  Block<T> result;
  DT_UNROLL for (int i = 0; i < parts<T>; ++i) result.part[i] = a.part[i] - b.part[i];
  return result;
}

template <class T>
static inline Block<T> operator*(const Block<T>& a, const Block<T>& b) {
  Block<T> result;
  DT_UNROLL for (int i = 0; i < parts<T>; ++i) result.part[i] = a.part[i] * b.part[i];
  return result;
}

// A thread's memory for scratch, last taken first given back. It is kept between calls: fresh pages cost more than the work on them.
class Arena {
 public:
  ~Arena() { free(memory_); }
  char* take(Index bytes) {
    if (used_ == 0 && wanted_ > size_) grow();
    used_ += bytes;
    wanted_ = max(wanted_, min(used_, most));
    return used_ <= size_ ? memory_ + used_ - bytes : allocate(bytes);
  }
  void give_back(char* memory, Index bytes) {
    if (used_ > size_) free(memory);
    used_ -= bytes;
  }

 private:
  static constexpr Index most = Index(8) << 20;
  char* memory_ = nullptr;
  Index size_ = 0, used_ = 0, wanted_ = 0;

  static char* allocate(Index bytes) {
    char* memory = static_cast<char*>(aligned_alloc(4096, (bytes + 4095) / 4096 * 4096));
    if (!memory) abort();
    return memory;
  }
  void grow() {
    free(memory_);
    memory_ = allocate(wanted_);
    size_ = wanted_;
  }
};

inline thread_local Arena arena;

template <class T>
static inline Block<T> operator/(const Block<T>& a, const Block<T>& b) {
  Block<T> result;
  DT_UNROLL for (int i = 0; i < parts<T>; ++i) result.part[i] = a.part[i] / b.part[i];
  return result;
}

// Memory for one piece of work. Objects of this class live and die in nested order, each in one thread.
template <class T>
class Scratch {
 public:
  explicit Scratch(Index size) : bytes_((size * Index(sizeof(T)) / block_bytes + 1) * block_bytes), data_(reinterpret_cast<T*>(arena.take(bytes_))) {}
  ~Scratch() { arena.give_back(reinterpret_cast<char*>(data_), bytes_); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  operator T*() const { return data_; }
  T* data() const { return data_; }

 private:
  Index bytes_;
  T* data_;
};

// What a product is added to.
template <class T>
struct Addend {
  bool previous = false;    // what the result's memory holds
  const T* bias = nullptr;  // else this block for every row, or nothing
};

// out[r] = Σ_k a[row[r] + column[k]]·b[k] + addend, where out[r] and b[k] are blocks and r < num_rows ≤ R. The missing rows repeat the last.
template <class T, int R>
static inline void product_tile(const T* a, const Index* row, int num_rows, const Index* column, Index depth, const T* b, T* out,
                                const Index* out_row, const Addend<T>& addend) {
  const T* from[R];
  Block<T> sum[R];
  DT_UNROLL for (int r = 0; r < R; ++r) {
    from[r] = a + row[min(r, num_rows - 1)];
    sum[r] = Block<T>::zero();
  }
  for (Index k = 0; k < depth; ++k) {
    const Index offset = column[k];
    const Block<T> factor = Block<T>::load(b + k * lanes<T>);
    DT_UNROLL for (int r = 0; r < R; ++r) sum[r].add_product(from[r][offset], factor);
  }
  const Block<T> bias = addend.bias ? Block<T>::load(addend.bias) : Block<T>::zero();
  DT_UNROLL for (int r = 0; r < R; ++r)
    if (r < num_rows) (sum[r] + (addend.previous ? Block<T>::load(out + out_row[r]) : bias)).store(out + out_row[r]);
}

// The same for any number of rows. b is (depth, lanes), packed; parts of it that stay in the first-level cache are summed one after the other.
template <class T>
static inline void product(const T* a, const Index* row, Index num_rows, const Index* column, Index depth, const T* b, T* out,
                           const Index* out_row, Addend<T> addend) {
  constexpr int few = tile_rows / 3;
  for (Index k = 0; k == 0 || k < depth; k += cached_depth, addend.previous = true) {
    const Index part = min(depth - k, cached_depth);
    Index r = 0;
    for (; r + 2 * few < num_rows; r += tile_rows)
      product_tile<T, tile_rows>(a, row + r, int(min(num_rows - r, Index(tile_rows))), column + k, part, b + k * lanes<T>, out, out_row + r, addend);
    for (; r < num_rows; r += few)
      product_tile<T, few>(a, row + r, int(min(num_rows - r, Index(few))), column + k, part, b + k * lanes<T>, out, out_row + r, addend);
  }
}

// Transposition in registers

#if defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)
#define DT_SHUFFLE 1
#endif
#endif

#ifdef DT_SHUFFLE
template <class V>
static inline V interleave_low(V a, V b) {
  if constexpr (sizeof(V) / sizeof(a[0]) == 16)
    return __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
  else if constexpr (sizeof(V) / sizeof(a[0]) == 8)
    return __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11);
  else if constexpr (sizeof(V) / sizeof(a[0]) == 4)
    return __builtin_shufflevector(a, b, 0, 4, 1, 5);
  else
    return __builtin_shufflevector(a, b, 0, 2);
}

template <class V>
static inline V interleave_high(V a, V b) {
  if constexpr (sizeof(V) / sizeof(a[0]) == 16)
    return __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
  else if constexpr (sizeof(V) / sizeof(a[0]) == 8)
    return __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15);
  else if constexpr (sizeof(V) / sizeof(a[0]) == 4)
    return __builtin_shufflevector(a, b, 2, 6, 3, 7);
  else
    return __builtin_shufflevector(a, b, 1, 3);
}

// A square of as many rows as a vector has elements: every round interleaves the first half of the rows with the second.
template <class T>
static inline void transpose_square(const T* from, Index from_stride, T* to, Index to_stride) {
  constexpr int n = vector_bytes / sizeof(T);
  using Unaligned = typename VectorOf<T>::unaligned;
  Vector<T> rows[n];
  DT_UNROLL for (int i = 0; i < n; ++i) rows[i] = *reinterpret_cast<const Unaligned*>(from + i * from_stride);
  DT_UNROLL for (int round = 1; round < n; round *= 2) {
    Vector<T> mixed[n];
    DT_UNROLL for (int i = 0; i < n / 2; ++i) {
      mixed[2 * i] = interleave_low(rows[i], rows[i + n / 2]);
      mixed[2 * i + 1] = interleave_high(rows[i], rows[i + n / 2]);
    }
    DT_UNROLL for (int i = 0; i < n; ++i) rows[i] = mixed[i];
  }
  DT_UNROLL for (int i = 0; i < n; ++i) *reinterpret_cast<Unaligned*>(to + i * to_stride) = rows[i];
}
#else
template <class T>
static inline void transpose_square(const T* from, Index from_stride, T* to, Index to_stride) {
  constexpr int n = vector_bytes / sizeof(T);
  for (int i = 0; i < n; ++i)
    for (int j = 0; j < n; ++j) to[j * to_stride + i] = from[i * from_stride + j];
}
#endif

// A square of `lanes` rows and columns.
template <class T>
static inline void transpose_block(const T* from, Index from_stride, T* to, Index to_stride) {
  constexpr Index n = vector_bytes / sizeof(T);
  for (Index i = 0; i < lanes<T>; i += n)
    for (Index j = 0; j < lanes<T>; j += n) transpose_square(from + i * from_stride + j, from_stride, to + j * to_stride + i, to_stride);
}

}  // namespace
}  // namespace DT_ISA
