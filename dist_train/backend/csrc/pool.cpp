#include "pool.h"

#include "sweep.h"

namespace DT_ISA {
namespace {

// As many planes as a block has lanes are worked on together: packed, every position of the window is one operation for all of them, whatever the
// geometry.

// An integer as wide as T: comparisons of T choose between such.
template <class T>
struct WideOf;
template <>
struct WideOf<float> {
  using type = int32_t;
};
template <>
struct WideOf<double> {
  using type = int64_t;
};
template <class T>
using Wide = typename WideOf<T>::type;

constexpr Index elements = 32 * 1024;  // of a thread's piece of work, at least

// The positions of a window that lie inside the image, for every result along an axis.
struct Reach {
  Index first, last, start;  // positions, and where the first of them lies
};

inline void fill_reach(const PoolShape& s, int axis, Reach* to) {
  const Index dilation = s.dilation[axis];
  for (Index i = 0; i < s.output[axis]; ++i) {
    const Index start = i * s.stride[axis] - s.before[axis];
    const Index first = start < 0 ? divided_up(-start, dilation) : 0;
    const Index last = start < s.input[axis] ? min(s.window[axis], divided_up(s.input[axis] - start, dilation)) : 0;
    to[i] = {first, last, start + first * dilation};
  }
}

struct PoolPlan {
  const PoolShape& s;
  const Index inputs, outputs;
  const Scratch<Reach> rows, columns;

  explicit PoolPlan(const PoolShape& s)
      : s(s), inputs(s.input[0] * s.input[1]), outputs(s.output[0] * s.output[1]), rows(s.output[0]), columns(s.output[1]) {
    fill_reach(s, 0, rows);
    fill_reach(s, 1, columns);
  }

  // Calls piece(first plane, number of planes) for blocks of planes, shared out among threads.
  template <class T, class Piece>
  void for_blocks(const Piece& piece) const {
    const Index grain = divided_up(elements, inputs * lanes<T>);
    parallel_for(divided_up(s.planes, lanes<T>), grain, [&](Index begin, Index end) {
      for (Index block = begin; block < end; ++block) piece(block * lanes<T>, min(lanes<T>, s.planes - block * lanes<T>));
    });
  }

  // Calls visit(result, Reach along the rows, along the columns) for all results of a plane.
  template <class Visit>
  void for_results(const Visit& visit) const {
    Index result = 0;
    for (Index i = 0; i < s.output[0]; ++i)
      for (Index j = 0; j < s.output[1]; ++j) visit(result++, rows[i], columns[j]);
  }

  // Calls visit(position in the window, input) for the positions inside the image.
  template <class Visit>
  void for_positions(const Reach& row, const Reach& column, const Visit& visit) const {
    for (Index i = row.first; i < row.last; ++i) {
      Index input = (row.start + (i - row.first) * s.dilation[0]) * s.input[1] + column.start;
      for (Index j = column.first; j < column.last; ++j, input += s.dilation[1]) visit(i * s.window[1] + j, input);
    }
  }
};

// Place is narrower than T: converted row by row.

template <class T, class Place>
inline void unpack_places(const Wide<T>* blocks, Index outputs, Index planes, Place* to) {
  const Scratch<Wide<T>> wide(planes * outputs);
  unpack<Wide<T>>(blocks, outputs, planes, wide, outputs);
  const Wide<T>* from = wide;
  for (Index i = 0; i < planes * outputs; ++i) to[i] = Place(from[i]);
}

template <class T, class Place>
inline void pack_places(const Place* from, Index outputs, Index planes, Wide<T>* blocks) {
  const Scratch<Wide<T>> wide(planes * outputs);
  Wide<T>* to = wide;
  for (Index i = 0; i < planes * outputs; ++i) to[i] = from[i];
  gather_pixels<Wide<T>>(to, outputs, planes, outputs, blocks, lanes<T>);
}

}  // namespace

template <class T, class Place>
void max_pool(const PoolShape& s, const T* x, T* y, Place* index) {
  const PoolPlan plan(s);
  plan.for_blocks<T>([&](Index plane, Index planes) {
    const Scratch<T> packed(plan.inputs * lanes<T>), best(plan.outputs * lanes<T>);
    const Scratch<Wide<T>> places(plan.outputs * lanes<T>);
    gather_pixels<T>(x + plane * plan.inputs, plan.inputs, planes, plan.inputs, packed, lanes<T>);
    plan.for_results([&](Index result, const Reach& row, const Reach& column) {
      Block<T> most = Block<T>::filled(-T(__builtin_inf()));
      Block<Wide<T>> place = Block<Wide<T>>::zero();
      plan.for_positions(row, column, [&](Index position, Index input) {
        const Block<T> value = Block<T>::load(packed + input * lanes<T>);
        DT_UNROLL for (int i = 0; i < parts<T>; ++i) {
          const auto more = value.part[i] > most.part[i];
          place.part[i] = more ? Vector<Wide<T>>{} + Wide<T>(position) : place.part[i];
          most.part[i] = more | (value.part[i] != value.part[i]) ? value.part[i] : most.part[i];  // as NumPy's maximum: nan where one is
        }
      });
      most.store(best + result * lanes<T>);
      place.store(places + result * lanes<T>);
    });
    unpack<T>(best, plan.outputs, planes, y + plane * plan.outputs, plan.outputs);
    unpack_places<T>(places, plan.outputs, planes, index + plane * plan.outputs);
  });
}

template <class T, class Place>
void max_pool_backward(const PoolShape& s, const T* gradient, const Place* index, T* of_x) {
  const PoolPlan plan(s);
  plan.for_blocks<T>([&](Index plane, Index planes) {
    const Scratch<T> packed(plan.inputs * lanes<T>), shares(plan.outputs * lanes<T>);
    const Scratch<Wide<T>> places(plan.outputs * lanes<T>);
    gather_pixels<T>(gradient + plane * plan.outputs, plan.outputs, planes, plan.outputs, shares, lanes<T>);
    pack_places<T>(index + plane * plan.outputs, plan.outputs, planes, places.data());
    memset(packed, 0, sizeof(T) * plan.inputs * lanes<T>);
    plan.for_results([&](Index result, const Reach& row, const Reach& column) {
      const Block<T> share = Block<T>::load(shares + result * lanes<T>);
      const Block<Wide<T>> place = Block<Wide<T>>::load(places + result * lanes<T>);
      plan.for_positions(row, column, [&](Index position, Index input) {
        Block<T> sum = Block<T>::load(packed + input * lanes<T>);
        DT_UNROLL for (int i = 0; i < parts<T>; ++i) sum.part[i] += place.part[i] == Wide<T>(position) ? share.part[i] : Vector<T>{};
        sum.store(packed + input * lanes<T>);
      });
    });
    unpack<T>(packed, plan.inputs, planes, of_x + plane * plan.inputs, plan.inputs);
  });
}

template <class T>
void avg_pool(const PoolShape& s, const T* x, T divisor, const T* divisors, T* y) {
  const PoolPlan plan(s);
  plan.for_blocks<T>([&](Index plane, Index planes) {
    const Scratch<T> packed(plan.inputs * lanes<T>), means(plan.outputs * lanes<T>);
    gather_pixels<T>(x + plane * plan.inputs, plan.inputs, planes, plan.inputs, packed, lanes<T>);
    plan.for_results([&](Index result, const Reach& row, const Reach& column) {
      Block<T> sum = Block<T>::zero();
      plan.for_positions(row, column, [&](Index, Index input) { sum = sum + Block<T>::load(packed + input * lanes<T>); });
      (sum / Block<T>::filled(divisors ? divisors[result] : divisor)).store(means + result * lanes<T>);
    });
    unpack<T>(means, plan.outputs, planes, y + plane * plan.outputs, plan.outputs);
  });
}

template <class T>
void avg_pool_backward(const PoolShape& s, const T* gradient, T divisor, const T* divisors, T* of_x) {
  const PoolPlan plan(s);
  plan.for_blocks<T>([&](Index plane, Index planes) {
    const Scratch<T> packed(plan.inputs * lanes<T>), shares(plan.outputs * lanes<T>);
    gather_pixels<T>(gradient + plane * plan.outputs, plan.outputs, planes, plan.outputs, shares, lanes<T>);
    memset(packed, 0, sizeof(T) * plan.inputs * lanes<T>);
    plan.for_results([&](Index result, const Reach& row, const Reach& column) {
      const Block<T> share = Block<T>::load(shares + result * lanes<T>) / Block<T>::filled(divisors ? divisors[result] : divisor);
      plan.for_positions(row, column, [&](Index, Index input) {
        (Block<T>::load(packed + input * lanes<T>) + share).store(packed + input * lanes<T>);
      });
    });
    unpack<T>(packed, plan.inputs, planes, of_x + plane * plan.inputs, plan.inputs);
  });
}

#define INSTANTIATE(T)                                                                                     \
  template void max_pool<T, uint8_t>(const PoolShape&, const T*, T*, uint8_t*);                            \
  template void max_pool<T, int32_t>(const PoolShape&, const T*, T*, int32_t*);                            \
  template void max_pool_backward<T, uint8_t>(const PoolShape&, const T*, const uint8_t*, T*);             \
  template void max_pool_backward<T, int32_t>(const PoolShape&, const T*, const int32_t*, T*);             \
  template void avg_pool<T>(const PoolShape&, const T*, T, const T*, T*);                                  \
  template void avg_pool_backward<T>(const PoolShape&, const T*, T, const T*, T*);
INSTANTIATE(float)
INSTANTIATE(double)

}  // namespace DT_ISA
