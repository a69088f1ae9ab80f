// Rows that lie anywhere in memory, fetched before their turn. A processor drops a fetch where too many are on their way, so each line is fetched
// three times: twice into the second-level cache, and then into the first.
#pragma once

#include "kernel.h"

namespace DT_ISA {

static constexpr Index cache_line = 64;
static constexpr Index earliest = 12, later = 6, soon = 3;  // so many rows before its turn, a row is fetched
static constexpr Index longest_ahead = 16384;               // bytes; longer rows the processor fetches by itself

// The rows to fetch while another one is worked on.
struct Ahead {
  const void *earliest, *later, *soon;
};

static inline Ahead none_ahead(const void* row) { return {row, row, row}; }

static inline void fetch(const Ahead& ahead, Index offset) {
  __builtin_prefetch(static_cast<const char*>(ahead.earliest) + offset, 0, 2);
  __builtin_prefetch(static_cast<const char*>(ahead.later) + offset, 0, 2);
  __builtin_prefetch(static_cast<const char*>(ahead.soon) + offset, 0, 3);
}

// Calls work(i, ahead) for i in [begin, end), where row(i) is the address of a row of `bytes` bytes; `work` is to fetch `ahead` line by line.
// Rows up to `known`, at least `end`, can be fetched: those after the end are what the next call is about.
template <class Row, class Work>
static inline void for_rows_ahead(Index begin, Index end, Index known, Index bytes, const Row& row, const Work& work) {
  const bool worthwhile = bytes <= longest_ahead;
  for (Index i = begin; i < min(begin + earliest, end) && worthwhile; ++i)
    for (Index k = 0; k < bytes; k += cache_line) __builtin_prefetch(row(i) + k, 0, 2);
  const auto after = [=](Index i, Index rows) { return row(worthwhile ? min(i + rows, known - 1) : i); };
  for (Index i = begin; i < end; ++i) work(i, Ahead{after(i, earliest), after(i, later), after(i, soon)});
}

}  // namespace DT_ISA
