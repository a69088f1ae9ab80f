// Files in memory, which the ranks of a node share, in pages of 2 MiB where the system has them: a pass over vectors of 40 MB in pages of 4 KiB takes
// half as long again.
#include "array.h"

#include <cerrno>
#include <cstdint>

#include <sys/mman.h>

using namespace nb::literals;

namespace {

constexpr Index page = Index(2) << 20;

Index page_up(Index address) { return (address + page - 1) & -page; }

struct Mapping {
  void* memory;
  Index nbytes;
  ~Mapping() { munmap(memory, nbytes); }
};

// The file as bytes, from an address on a boundary of large pages on; OSError where it cannot be mapped.
nb::object map_file(int descriptor, Index nbytes) {
  void* reserved = mmap(nullptr, nbytes + page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  const Index address = page_up(reinterpret_cast<Index>(reserved));
  if (reserved != MAP_FAILED &&
      mmap(reinterpret_cast<void*>(address), nbytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, descriptor, 0) != MAP_FAILED) {
    nb::capsule owner(new Mapping{reserved, nbytes + page}, [](void* mapping) noexcept { delete static_cast<Mapping*>(mapping); });
    npy_intp shape[] = {nbytes};
    nb::object array = nb::steal(PyArray_SimpleNewFromData(1, shape, NPY_UINT8, reinterpret_cast<void*>(address)));
    if (!array || PyArray_SetBaseObject(reinterpret_cast<PyArrayObject*>(array.ptr()), owner.release().ptr()) < 0) nb::raise_python_error();
    return array;
  }
  PyErr_SetFromErrno(PyExc_OSError);
  if (reserved != MAP_FAILED) munmap(reserved, nbytes + page);
  nb::raise_python_error();
}

// Puts the bytes start … stop of a mapped file, which must be reserved, into large pages: whole ones, as far as the system can.
void use_large_pages(Array memory, Index start, Index stop) {
#if defined(__linux__)
  constexpr int collapse = 25;  // MADV_COLLAPSE, since Linux 6.1, whatever the settings are; older ones refuse it
  const Index base = reinterpret_cast<Index>(memory.data<char>()), begin = page_up(base + start), end = (base + stop) & -page;
  nb::gil_scoped_release unlocked;
  if (begin < end) madvise(reinterpret_cast<void*>(begin), end - begin, collapse);
#endif
}

}  // namespace

void bind_shared(nb::module_& module) {
  module.def("map_file", &map_file, "descriptor"_a, "nbytes"_a);
  module.def("use_large_pages", &use_large_pages, "memory"_a, "start"_a, "stop"_a);
}
