// Memory of NumPy arrays that is kept when an array is freed and given to the next one of its size (NEP 49).
//
// A training step makes and frees the same arrays again and again. The C library returns large ones to the system, which then has to find and
// zero every page anew at the next step: 2000 to 9000 page faults a step for small models. Blocks begin on a 64-byte boundary, so
// vectors of 64 bytes never straddle two cache lines.
#include "array.h"

#include <cstdlib>
#include <cstring>
#include <mutex>

#if defined(__linux__)
#include <sys/mman.h>
#endif
#if defined(__GLIBC__)
#include <malloc.h>
#endif

namespace {

constexpr std::size_t line = 64, huge_page = std::size_t(1) << 21, largest_kept = std::size_t(1) << 30;
constexpr int num_classes = 16 + 8 * 21;  // multiples of a line up to 1024 bytes, then 8 per doubling up to 2^31

// Stands before every block, in a line of its own.
struct Header {
  std::size_t bytes;  // of the block that can be used
  int size_class;     // -1: too large to be kept
  Header* next;       // while it is kept
};
static_assert(sizeof(Header) <= line);

std::mutex mutex;
Header* kept[num_classes];
int num_kept[num_classes], fewest_kept[num_classes];  // now, and at any time since the last sweep
int releases = 0;                                     // since the last sweep
constexpr int sweep_interval = 4096;
std::size_t in_use = 0, peak = 0, idle = 0;  // bytes of blocks that may be kept: with arrays, the most there were, and kept ones

// The class of a size, and the size of the class: at most 1/8 larger.
int class_of(std::size_t bytes, std::size_t& rounded) {
  if (bytes <= 1024) {
    const std::size_t lines = bytes ? (bytes + line - 1) / line : 1;
    rounded = lines * line;
    return int(lines - 1);
  }
  const int doubling = 63 - __builtin_clzll(bytes - 1);  // 2^doubling < bytes <= 2^(doubling + 1)
  const std::size_t step = std::size_t(1) << (doubling - 3), base = std::size_t(1) << doubling;
  const std::size_t eighth = (bytes - base + step - 1) / step;  // 1 … 8
  rounded = base + eighth * step;
  return 16 + 8 * (doubling - 10) + int(eighth) - 1;
}

Header* header_of(void* data) { return reinterpret_cast<Header*>(static_cast<char*>(data) - line); }
void* data_of(Header* header) { return reinterpret_cast<char*>(header) + line; }

Header* from_system(std::size_t bytes) {
  const bool huge = bytes >= 2 * huge_page;
  const std::size_t alignment = huge ? huge_page : line, total = (bytes + line + alignment - 1) / alignment * alignment;
  void* memory = std::aligned_alloc(alignment, total);
#if defined(__linux__)
  if (memory && huge) madvise(memory, total, MADV_HUGEPAGE);
#endif
  return static_cast<Header*>(memory);
}

Header* from_kept(int size_class, std::size_t bytes) {
  std::lock_guard<std::mutex> lock(mutex);
  in_use += bytes;
  if (in_use > peak) peak = in_use;
  Header* header = kept[size_class];
  if (header) {
    kept[size_class] = header->next;
    idle -= bytes;
    if (--num_kept[size_class] < fewest_kept[size_class]) fewest_kept[size_class] = num_kept[size_class];
  }
  return header;
}

// Returns `count` kept blocks of a class to the system.
void free_kept(int size_class, int count) {
  num_kept[size_class] -= count;
  for (; count > 0; --count) {
    Header* header = kept[size_class];
    kept[size_class] = header->next;
    idle -= header->bytes;
    std::free(header);
  }
}

// Returns what nobody has asked for since the last sweep: what a model was initialised with, or a batch size that has gone.
void sweep() {
  for (int size_class = 0; size_class < num_classes; ++size_class) {
    free_kept(size_class, fewest_kept[size_class]);
    fewest_kept[size_class] = num_kept[size_class];
  }
  releases = 0;
}

void* allocate(void*, std::size_t bytes) {
  std::size_t rounded = bytes;
  const int size_class = bytes <= largest_kept ? class_of(bytes, rounded) : -1;
  Header* header = size_class < 0 ? nullptr : from_kept(size_class, rounded);
  if (!header) {
    header = from_system(rounded);
    if (!header) return nullptr;
    header->bytes = rounded;
    header->size_class = size_class;
  }
  return data_of(header);
}

// Kept, unless that would be more than the most that was ever in use and half as much again: sizes that do not come back.
bool keep(Header* header) {
  std::lock_guard<std::mutex> lock(mutex);
  in_use -= header->bytes;
  if (++releases == sweep_interval) sweep();
  if (in_use + idle + header->bytes > peak + peak / 2) return false;
  idle += header->bytes;
  header->next = kept[header->size_class];
  kept[header->size_class] = header;
  ++num_kept[header->size_class];
  return true;
}

void release(void*, void* data, std::size_t) {
  if (!data) return;
  Header* header = header_of(data);
  if (header->size_class < 0 || !keep(header)) std::free(header);
}

void* allocate_zeros(void* context, std::size_t count, std::size_t size) {
  if (size && count > std::size_t(-1) / size) return nullptr;
  void* data = allocate(context, count * size);
  if (data) std::memset(data, 0, count * size);
  return data;
}

void* reallocate(void* context, void* data, std::size_t bytes) {
  if (!data) return allocate(context, bytes);
  const std::size_t old = header_of(data)->bytes;
  if (bytes <= old && bytes >= old / 2) return data;
  void* moved = allocate(context, bytes);
  if (!moved) return nullptr;
  std::memcpy(moved, data, bytes < old ? bytes : old);
  release(context, data, old);
  return moved;
}

PyDataMem_Handler handler = {"dist_train", 1, {nullptr, allocate, allocate_zeros, reallocate, release}};

}  // namespace

// From now on NumPy's arrays, made in this thread's context, have their memory from here.
static void use_allocator() {
  nb::object capsule = nb::steal(PyCapsule_New(&handler, "mem_handler", nullptr));
  nb::object old = nb::steal(PyDataMem_SetHandler(capsule.ptr()));
  if (!old.is_valid()) throw nb::python_error();
}

// Bytes in arrays, the most there were, and bytes kept for the next arrays; blocks above 1 GiB are not counted.
static nb::tuple allocator_bytes() {
  std::lock_guard<std::mutex> lock(mutex);
  return nb::make_tuple(in_use, peak, idle);
}

// Returns all kept blocks to the system.
static void free_kept_blocks() {
  std::lock_guard<std::mutex> lock(mutex);
  for (int size_class = 0; size_class < num_classes; ++size_class) {
    free_kept(size_class, num_kept[size_class]);
    fewest_kept[size_class] = 0;
  }
#if defined(__GLIBC__)
  malloc_trim(0);  // what the C library itself keeps
#endif
}

void bind_allocator(nb::module_& module) {
  module.def("free_kept_blocks", &free_kept_blocks);
  module.def("use_allocator", &use_allocator);
  module.def("allocator_bytes", &allocator_bytes);
}
