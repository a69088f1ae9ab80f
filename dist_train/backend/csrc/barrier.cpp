// Waiting for the processes that share memory. Each has a line of its own in it, so that no two write to the same one.
#include "array.h"

#include <atomic>
#include <chrono>
#include <new>
#include <thread>

#if defined(__linux__)
#include <linux/futex.h>
#include <sched.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#endif

using namespace nb::literals;

namespace {

struct alignas(64) Line {
  std::atomic<uint32_t> arrivals;  // how often this rank has arrived
  std::atomic<uint32_t> sleepers;  // how many ranks sleep until it arrives again
};
static_assert(sizeof(Line) == 64 && std::atomic<uint32_t>::is_always_lock_free);

bool has_arrived(const Line& line, uint32_t arrival) { return static_cast<int32_t>(line.arrivals.load(std::memory_order_acquire) - arrival) >= 0; }

void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

#if defined(__linux__)
long futex(std::atomic<uint32_t>& word, int operation, uint32_t value, const timespec* timeout) {
  return syscall(SYS_futex, reinterpret_cast<uint32_t*>(&word), operation, value, timeout, nullptr, 0);
}
void sleep_until_changed(Line& line, uint32_t seen) {
  const timespec limit = {0, 50'000'000};
  futex(line.arrivals, FUTEX_WAIT, seen, &limit);
}
void wake_all(Line& line) { futex(line.arrivals, FUTEX_WAKE, INT32_MAX, nullptr); }
#else
void sleep_until_changed(Line&, uint32_t) { std::this_thread::sleep_for(std::chrono::microseconds(50)); }
void wake_all(Line&) {}
#endif

void arrive(Line& own, uint32_t arrival) {
  own.arrivals.store(arrival);  // sequentially consistent, as is what a sleeper does: one of the two sees the other
  if (own.sleepers.load()) wake_all(own);
}

bool all_have_arrived(const Line* lines, int size, uint32_t arrival) {
  for (int rank = 0; rank < size; ++rank)
    if (!has_arrived(lines[rank], arrival)) return false;
  return true;
}

// Spin, then give the core to whoever wants it, then sleep; false where `seconds` were not enough.
bool wait_for(Line& line, uint32_t arrival, int spins, int yields, std::chrono::steady_clock::time_point end) {
  for (int i = 0; i < spins; ++i) {
    if (has_arrived(line, arrival)) return true;
    pause();
  }
  for (int i = 0; i < yields; ++i) {
    if (has_arrived(line, arrival)) return true;
    std::this_thread::yield();
  }
  while (!has_arrived(line, arrival)) {
    if (std::chrono::steady_clock::now() > end) return false;
    line.sleepers.fetch_add(1);
    const uint32_t seen = line.arrivals.load();
    if (static_cast<int32_t>(seen - arrival) < 0) sleep_until_changed(line, seen);
    line.sleepers.fetch_sub(1);
  }
  return true;
}

bool barrier(Array memory, int rank, int size, uint32_t arrival, int spins, int yields, double seconds) {
  Line* lines = std::launder(reinterpret_cast<Line*>(memory.data<char>()));
  if (rank < 0 || rank >= size || memory.size() < size * Index(sizeof(Line)) || reinterpret_cast<uintptr_t>(lines) % alignof(Line))
    throw nb::value_error("a barrier needs a line of 64 bytes for each rank");
  arrive(lines[rank], arrival);
  if (all_have_arrived(lines, size, arrival)) return true;
  nb::gil_scoped_release release;
  const auto end = std::chrono::steady_clock::now() + std::chrono::duration_cast<std::chrono::steady_clock::duration>(std::chrono::duration<double>(seconds));
  for (int other = 0; other < size; ++other)
    if (!wait_for(lines[other], arrival, spins, yields, end)) return false;
  return true;
}

}  // namespace

void bind_barrier(nb::module_& module) {
  module.def("barrier", &barrier, "memory"_a, "rank"_a, "size"_a, "arrival"_a, "spins"_a, "yields"_a, "seconds"_a);
}
