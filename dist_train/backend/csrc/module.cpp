// The Python module dist_train.backend._native: all families' bindings, and the choice of the instruction set.
#define DT_IMPORT_NUMPY
#include "array.h"
#include "isa.h"

#include <cstring>

static InstructionSet best_instruction_set() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
  if (avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl"))
    return InstructionSet::avx512;
  if (avx2) return InstructionSet::avx2;
#endif
  return InstructionSet::base;
}

InstructionSet chosen_instruction_set = best_instruction_set();

static const char* const names[] = {"base", "avx2", "avx512"};

static void set_instruction_set(const char* name) {
  for (int i = 0; i <= static_cast<int>(best_instruction_set()); ++i) {
    if (std::strcmp(name, names[i]) == 0) {
      chosen_instruction_set = static_cast<InstructionSet>(i);
      return;
    }
  }
  throw nb::value_error("not an instruction set of this processor that the kernels are compiled for (base, avx2, avx512)");
}

static bool import_numpy() {
  import_array1(false);
  return true;
}

void bind_allocator(nb::module_& module);
void bind_barrier(nb::module_& module);
void bind_blas(nb::module_& module);
void bind_product(nb::module_& module);
void bind_optim(nb::module_& module);
void bind_fold(nb::module_& module);
void bind_activation(nb::module_& module);
void bind_softmax(nb::module_& module);
void bind_norm(nb::module_& module);
void bind_attention(nb::module_& module);
void bind_embedding(nb::module_& module);
void bind_dropout(nb::module_& module);
void bind_image(nb::module_& module);
void bind_conv(nb::module_& module);
void bind_pool(nb::module_& module);
void bind_shared(nb::module_& module);

NB_MODULE(_native, module) {
  if (!import_numpy()) throw nb::python_error();
  module.def("instruction_set", [] { return names[static_cast<int>(instruction_set())]; });
  module.def("set_instruction_set", &set_instruction_set);
  bind_allocator(module);
  bind_barrier(module);
  bind_blas(module);
  bind_product(module);
  bind_optim(module);
  bind_fold(module);
  bind_activation(module);
  bind_softmax(module);
  bind_norm(module);
  bind_attention(module);
  bind_embedding(module);
  bind_dropout(module);
  bind_image(module);
  bind_conv(module);
  bind_pool(module);
  bind_shared(module);
}
