// Rows that lie anywhere in memory, fetched before their turn. A processor drops a fetch where too many are on their way, so each line is fetched
// three times: twice into the second-level cache, and then into the first.
#pragma once

#include "kernel.h"

namespace DT_ISA {

static constexpr Index cache_line = 64;
static constexpr Index earliest = 12, later = 6, soon = 3;  // so many rows before its turn, a row is fetched
static constexpr Index longest_ahead = 16384;               // bytes; longer rows the processor fetches by itself
static constexpr Index least_ahead = 1 << 20;               // bytes; as many rows the caches hold

// The rows to fetch while another one is worked on, or none.
struct Ahead {
  const void *earliest = nullptr, *later = nullptr, *soon = nullptr;
};

static inline void fetch(const Ahead& ahead, Index offset) {
  if (!ahead.soon) return;
  __builtin_prefetch(static_cast<const char*>(ahead.earliest) + offset, 0, 2);
  __builtin_prefetch(static_cast<const char*>(ahead.later) + offset, 0, 2);
  __builtin_prefetch(static_cast<const char*>(ahead.soon) + offset, 0, 3);
}

// Calls work(i, ahead) for i in [begin, end), where row(i) is the address of one of `num_rows` rows of `bytes` bytes; `work` is to fetch `ahead`
// line by line. Rows up to `known`, at least `end`, can be fetched: those after the end are what the next call is about.
template <class Row, class Work>
static inline void for_rows_ahead(Index begin, Index end, Index known, Index num_rows, Index bytes, const Row& row, const Work& work) {
  if (bytes > longest_ahead || num_rows * bytes <= least_ahead) {
    for (Index i = begin; i < end; ++i) work(i, Ahead());
    return;
  }
  for (Index i = begin; i < min(begin + earliest, end); ++i)
    for (Index k = 0; k < bytes; k += cache_line) __builtin_prefetch(row(i) + k, 0, 2);
  const auto after = [=](Index i, Index rows) { return row(min(i + rows, known - 1)); };
  for (Index i = begin; i < end; ++i) work(i, Ahead{after(i, earliest), after(i, later), after(i, soon)});
}

}  // namespace DT_ISA
