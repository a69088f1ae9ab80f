#include "attention.h"

#include "lines.h"
#include "pack.h"
#include "philox.h"

namespace DT_ISA {
namespace {

template <class T>
static Matrix<T> head_of(const Strided<T>& array, Index batch, Index head) {
  return {array.data ? array.data + batch * array.strides[0] + head * array.strides[1] : nullptr, array.strides[2], array.strides[3]};
}

// How many of the keys a row of queries sees.
struct Sight {
  Index num_keys;
  bool causal;
  Index of(Index row) const { return causal ? min(num_keys, row + 1) : num_keys; }
};

// What masks say about the scores of one head.
template <class T>
struct Masks {
  Matrix<const bool> visible;
  Matrix<const T> added;

  // Applies them to scores of row i, columns first … first + count.
  void apply(T* scores, Index i, Index first, Index count) const {
    if (visible.data) hide(scores, &visible(i, first), visible.column, count);
    if (added.data) add(scores, &added(i, first), added.column, count);
  }

 private:
  static void hide(T* scores, const bool* seen, Index stride, Index count) {
    for (Index j = 0; j < count; ++j) scores[j] = seen[j * stride] ? scores[j] : -infinity<T>;
  }
  static void add(T* scores, const T* terms, Index stride, Index count) {
    for (Index j = 0; j < count; ++j) scores[j] += terms[j * stride];
  }
};

// Dropout of the weights of one head, whose first weight is element `first` of all heads' weights.
struct Dropping {
  const AttentionRules& rules;
  std::uint64_t first;
  Index num_keys;

  // Words that `factors` needs room for.
  static Index room(Index count) { return round_up(count + 3, 32); }

  // What the weights of row i, columns column … column + count, are multiplied by.
  template <class T>
  void factors(Index i, Index column, Index count, std::uint32_t* words, T* result) const {
    const std::uint64_t element = first + std::uint64_t(i * num_keys + column);
    philox(rules.key, element / 4, room(count) / 4, words);
    words += element % 4;
    const auto kept = bits_of(T(rules.keep_scale));
    for (Index j = 0; j < count; ++j) result[j] = from_bits<T>(kept & (decltype(kept)(words[j] < rules.threshold) - 1));
  }
};

template <class T>
static void multiply(T* row, const T* factors, Index count) {
  for (Index j = 0; j < count; ++j) row[j] *= factors[j];
}

template <class T>
static void store(const T* from, Index columns, T factor, T* to) {
  for (Index j = 0; j < columns; ++j) to[j] = from[j] * factor;
}

template <class T>
static T divisor(T total) {
  return total == 0 ? T(1) : total;  // a row that sees nothing gives 0
}

// One head at a time: all keys and values packed, and the weights of group_rows queries.
template <class T>
class Forward {
 public:
  struct Head {
    Matrix<const T> query, key, value;
    Masks<T> masks;
    Dropping dropping;
    Matrix<T> output;
    T *largest, *total;
  };

  Forward(const AttentionShape& shape, const AttentionRules& rules)
      : shape_(shape),
        rules_(rules),
        sight_{shape.num_keys, rules.causal},
        keys_size_(round_up(shape.num_keys, panel<T>)),
        width_(round_up(shape.width, line<T>)),
        value_width_(round_up(shape.value_width, line<T>)),
        ld_(keys_size_ + line<T>),  // not a power of two, whose multiples share few lines of the cache
        keys_(keys_size_ * shape.width),
        values_(shape.num_keys * value_width_),
        queries_(group_rows * width_),
        weights_(group_rows * ld_),
        outputs_(group_rows * value_width_),
        factors_(ld_),
        words_(Dropping::room(ld_)) {}

  void run(const Head& head) const {
    pack_transposed(head.key, shape_.num_keys, shape_.width, keys_.data());
    pack_rows(head.value, shape_.num_keys, shape_.value_width, T(1), values_.data(), shape_.num_keys, value_width_);
    for (Index row = 0; row < shape_.num_queries; row += group_rows) group(head, row, min(group_rows, shape_.num_queries - row));
  }

 private:
  void group(const Head& head, Index first, Index rows) const {
    const Index depth = sight_.of(first + group_rows - 1), columns = round_up(depth, line<T>);
    pack_rows({&head.query(first, 0), head.query.row, head.query.column}, rows, shape_.width, T(rules_.scale), queries_.data(), group_rows, width_);
    multiply_panels(0, columns, shape_.width, ByRows<T>{queries_, width_}, keys_.data(), weights_.data(), ld_);
    for (Index r = 0; r < rows; ++r) {
      head.masks.apply(weights_ + r * ld_, first + r, 0, depth);
      overwrite_from(weights_ + r * ld_, sight_.of(first + r), columns, -infinity<T>);
    }
    T largest[group_rows], total[group_rows];
    exponentials(weights_.data(), ld_, columns, largest, total);
    if (rules_.drops) drop(head, first, rows);
    multiply_group(value_width_, depth, ByRows<T>{weights_, ld_}, values_.data(), value_width_, outputs_.data(), value_width_, false);
    for (Index r = 0; r < rows; ++r) {
      head.largest[first + r] = total[r] == total[r] ? largest[r] : total[r];
      head.total[first + r] = total[r];
      store(outputs_ + r * value_width_, shape_.value_width, 1 / divisor(total[r]), &head.output(first + r, 0));
    }
  }

  void drop(const Head& head, Index first, Index rows) const {
    for (Index r = 0; r < rows; ++r) {
      const Index seen = sight_.of(first + r);
      head.dropping.factors(first + r, 0, seen, words_.data(), factors_.data());
      multiply(weights_ + r * ld_, factors_.data(), seen);
    }
  }

  const AttentionShape& shape_;
  const AttentionRules& rules_;
  Sight sight_;
  Index keys_size_, width_, value_width_, ld_;  // padded
  Scratch<T> keys_, values_, queries_, weights_, outputs_, factors_;
  Scratch<std::uint32_t> words_;
};

// Runs `Pass` for every head, one at a time on each thread; `head_at(b, h)` gives what it runs on.
template <class Pass, class HeadAt>
static void for_each_head(const AttentionShape& shape, const AttentionRules& rules, const HeadAt& head_at) {
  const Index count = shape.batch * shape.heads;
#pragma omp parallel if (count > 1)
  {
    const Pass pass(shape, rules);
#pragma omp for schedule(static)
    for (Index i = 0; i < count; ++i) pass.run(head_at(i / shape.heads, i % shape.heads));
  }
}

static Dropping dropping(const AttentionShape& s, const AttentionRules& rules, Index batch, Index head) {
  return {rules, std::uint64_t((batch * s.heads + head) * s.num_queries * s.num_keys), s.num_keys};
}

}  // namespace

template <class T>
void attention(const AttentionShape& shape, const AttentionRules& rules, Strided<const T> query, Strided<const T> key, Strided<const T> value,
               Strided<const bool> visible, Strided<const T> added, Strided<T> output, T* largest, T* total) {
  for_each_head<Forward<T>>(shape, rules, [&](Index b, Index h) {
    const Index row = (b * shape.heads + h) * shape.num_queries;
    return typename Forward<T>::Head{head_of(query, b, h),
                                     head_of(key, b, h),
                                     head_of(value, b, h),
                                     {head_of(visible, b, h), head_of(added, b, h)},
                                     dropping(shape, rules, b, h),
                                     head_of(output, b, h),
                                     largest + row,
                                     total + row};
  });
}

namespace {

// One head at a time: everything packed, and the weights of a block of queries and keys.
template <class T>
class Backward {
 public:
  struct Head {
    Matrix<const T> gradient, query, key, value;
    Masks<T> masks;
    Dropping dropping;
    Matrix<const T> output;
    const T *largest, *total;
    Matrix<T> of_query, of_key, of_value;
  };

  Backward(const AttentionShape& shape, const AttentionRules& rules)
      : shape_(shape),
        rules_(rules),
        keys_size_(round_up(shape.num_keys, panel<T>)),
        queries_size_(round_up(shape.num_queries, group_rows)),
        width_(round_up(shape.width, line<T>)),
        value_width_(round_up(shape.value_width, line<T>)),
        transposed_keys_(keys_size_ * shape.width),
        transposed_values_(keys_size_ * shape.value_width),
        keys_(keys_size_ * width_),
        of_keys_(keys_size_ * width_),
        of_values_(keys_size_ * value_width_),
        queries_(queries_size_ * width_),
        gradients_(queries_size_ * value_width_),
        largest_(queries_size_),
        inverses_(queries_size_),
        products_(queries_size_),
        of_queries_(block * width_),
        weights_(block * ld),
        slopes_(block * ld),
        factors_(group_rows * ld),
        outputs_(group_rows * value_width_),
        words_(Dropping::room(block)) {}

  void run(const Head& head) const {
    pack(head);
    for (Index row = 0; row < shape_.num_queries; row += block) {
      const Index rows = min(block, shape_.num_queries - row), end = sight(shape_.num_keys).of(row + rows - 1);
      __builtin_memset(of_queries_.data(), 0, std::size_t(block * width_) * sizeof(T));
      for (Index column = 0; column < end; column += block) pair(head, row, round_up(rows, group_rows), column);
      for (Index i = 0; i < rows; ++i) store(of_queries_ + i * width_, shape_.width, T(rules_.scale), &head.of_query(row + i, 0));
    }
    for (Index j = 0; j < shape_.num_keys; ++j) {
      store(of_keys_ + j * width_, shape_.width, T(1), &head.of_key(j, 0));
      store(of_values_ + j * value_width_, shape_.value_width, T(1), &head.of_value(j, 0));
    }
  }

 private:
  static constexpr Index block = 64, ld = block + line<T>;

  Sight sight(Index num_keys) const { return {num_keys, rules_.causal}; }

  void pack(const Head& head) const {
    pack_transposed(head.key, shape_.num_keys, shape_.width, transposed_keys_.data());
    pack_transposed(head.value, shape_.num_keys, shape_.value_width, transposed_values_.data());
    pack_rows(head.key, shape_.num_keys, shape_.width, T(1), keys_.data(), keys_size_, width_);
    pack_rows(head.query, shape_.num_queries, shape_.width, T(rules_.scale), queries_.data(), queries_size_, width_);
    pack_rows(head.gradient, shape_.num_queries, shape_.value_width, T(1), gradients_.data(), queries_size_, value_width_);
    for (Index i = 0; i < queries_size_; ++i) {
      const bool is = i < shape_.num_queries;
      largest_[i] = is ? head.largest[i] : T(0);
      inverses_[i] = is ? 1 / divisor(head.total[i]) : T(0);
    }
    for (Index row = 0; row < shape_.num_queries; row += group_rows) multiply_rows(row, head.output);
    __builtin_memset(of_keys_.data(), 0, std::size_t(keys_size_ * width_) * sizeof(T));
    __builtin_memset(of_values_.data(), 0, std::size_t(keys_size_ * value_width_) * sizeof(T));
  }

  // products = Σ gradient·output of each row of a group.
  void multiply_rows(Index first, Matrix<const T> output) const {
    pack_rows({&output(first, 0), output.row, output.column}, min(group_rows, shape_.num_queries - first), shape_.value_width, T(1),
              outputs_.data(), group_rows, value_width_);
    alignas(64) T sums[group_rows][line<T>] = {};
    for (Index j = 0; j < value_width_; j += line<T>)
      for (Index r = 0; r < group_rows; ++r)
        line_at(sums[r]) += line_at(gradients_ + (first + r) * value_width_ + j) * line_at(outputs_ + r * value_width_ + j);
    join_lanes<T>(sums, [](auto& a, const auto& b) { a += b; });
    for (Index r = 0; r < group_rows; ++r) products_[first + r] = sums[r][0];
  }

  // What `rows` queries from `row` on and a block of keys from `column` on give.
  void pair(const Head& head, Index row, Index rows, Index column) const {
    const Sight here = sight(min(shape_.num_keys, column + block));
    for (Index r = 0; r < rows; r += group_rows) {
      const Index depth = max(Index(0), here.of(row + r + group_rows - 1) - column);
      group(head, row, r, column, depth);
      multiply_group(width_, depth, ByRows<T>{slopes_ + r * ld, ld}, keys_ + column * width_, width_, of_queries_ + r * width_, width_, true);
    }
    for (Index c = column, end = here.of(row + rows - 1); c < end; c += group_rows) {
      const Index first = rules_.causal ? max(Index(0), (c - row) / group_rows * group_rows) : 0;  // rows above see nothing of these keys
      const Index depth = rows - first, place = first * ld + c - column;
      multiply_group(value_width_, depth, ByColumns<T>{weights_ + place, ld}, gradients_ + (row + first) * value_width_, value_width_,
              of_values_ + c * value_width_, value_width_, true);
      multiply_group(width_, depth, ByColumns<T>{slopes_ + place, ld}, queries_ + (row + first) * width_, width_, of_keys_ + c * width_, width_,
                     true);
    }
  }

  // Weights and the gradients of scores for group_rows queries and `depth` keys, which lie from row r on; zeros up to a whole cache line.
  void group(const Head& head, Index row, Index r, Index column, Index depth) const {
    T *weights = weights_ + r * ld, *slopes = slopes_ + r * ld;
    const Index columns = round_up(depth, line<T>), first = row + r, rows = min(group_rows, shape_.num_queries - first);
    multiply_panels(column, columns, shape_.width, ByRows<T>{queries_ + first * width_, width_}, transposed_keys_.data(), weights, ld);
    multiply_panels(column, columns, shape_.value_width, ByRows<T>{gradients_ + first * value_width_, value_width_}, transposed_values_.data(),
                    slopes, ld);
    for (Index i = 0; i < rows; ++i) {
      head.masks.apply(weights + i * ld, first + i, column, depth);
      if (rules_.drops) drop(head, first + i, column, depth, slopes + i * ld, factors_ + i * ld);
    }
    differentiate(first, weights, slopes, columns);
    for (Index i = 0; i < group_rows; ++i) {
      const Index seen = i < rows ? max(Index(0), sight(shape_.num_keys).of(first + i) - column) : 0;
      overwrite_from(weights + i * ld, seen, columns, T(0));
      overwrite_from(slopes + i * ld, seen, columns, T(0));
    }
    if (rules_.drops)
      for (Index i = 0; i < rows; ++i) multiply(weights + i * ld, factors_ + i * ld, depth);
  }

  void drop(const Head& head, Index i, Index column, Index depth, T* slopes, T* factors) const {
    head.dropping.factors(i, column, depth, words_.data(), factors);
    multiply(slopes, factors, depth);
  }

  // Scores and the gradients of the weights become weights and the gradients of the scores.
  void differentiate(Index first, T* weights, T* slopes, Index columns) const {
    for (Index j = 0; j < columns; j += line<T>)
      for (Index r = 0; r < group_rows; ++r) {
        T* weight = weights + r * ld + j;
        const T shift = largest_[first + r], inverse = inverses_[first + r], product = products_[first + r];
        for (Index l = 0; l < line<T>; ++l) weight[l] = exp_of_negative(weight[l] - shift) * inverse;
        Line<T>& slope = line_at(slopes + r * ld + j);
        slope = (slope - product) * line_at(weight);
      }
  }

  const AttentionShape& shape_;
  const AttentionRules& rules_;
  Index keys_size_, queries_size_, width_, value_width_;  // padded
  Scratch<T> transposed_keys_, transposed_values_, keys_, of_keys_, of_values_, queries_, gradients_, largest_, inverses_, products_;
  Scratch<T> of_queries_, weights_, slopes_, factors_, outputs_;
  Scratch<std::uint32_t> words_;
};

}  // namespace

template <class T>
void attention_backward(const AttentionShape& shape, const AttentionRules& rules, Strided<const T> gradient, Strided<const T> query,
                        Strided<const T> key, Strided<const T> value, Strided<const bool> visible, Strided<const T> added,
                        Strided<const T> output, const T* largest, const T* total, Strided<T> of_query, Strided<T> of_key,
                        Strided<T> of_value) {
  for_each_head<Backward<T>>(shape, rules, [&](Index b, Index h) {
    const Index row = (b * shape.heads + h) * shape.num_queries;
    return typename Backward<T>::Head{head_of(gradient, b, h),
                                      head_of(query, b, h),
                                      head_of(key, b, h),
                                      head_of(value, b, h),
                                      {head_of(visible, b, h), head_of(added, b, h)},
                                      dropping(shape, rules, b, h),
                                      head_of(output, b, h),
                                      largest + row,
                                      total + row,
                                      head_of(of_query, b, h),
                                      head_of(of_key, b, h),
                                      head_of(of_value, b, h)};
  });
}

#define INSTANTIATE(T)                                                                                                                      \
  template void attention<T>(const AttentionShape&, const AttentionRules&, Strided<const T>, Strided<const T>, Strided<const T>,            \
                             Strided<const bool>, Strided<const T>, Strided<T>, T*, T*);                                                    \
  template void attention_backward<T>(const AttentionShape&, const AttentionRules&, Strided<const T>, Strided<const T>, Strided<const T>,   \
                                      Strided<const T>, Strided<const bool>, Strided<const T>, Strided<const T>, const T*, const T*,        \
                                      Strided<T>, Strided<T>, Strided<T>);
INSTANTIATE(float)
INSTANTIATE(double)

}  // namespace DT_ISA
