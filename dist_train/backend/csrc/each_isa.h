// Declares the kernels of header DT_HEADER for every instruction set, and chooses between them:
//
//   #define DT_HEADER "optim.h"
//   #include "each_isa.h"
//   DT_CALL(adam<float>, param, ...);
#include <cstddef>
#include <cstdint>

#define DT_ISA base
#include DT_HEADER
#undef DT_ISA
#if defined(__x86_64__)
#define DT_ISA avx2
#include DT_HEADER
#undef DT_ISA
#define DT_ISA avx512
#include DT_HEADER
#undef DT_ISA
#endif
#undef DT_HEADER

#include "isa.h"

#if defined(__x86_64__)
#define DT_CALL(function, ...)                                                              \
  (instruction_set() == InstructionSet::avx512 ? avx512::function(__VA_ARGS__)              \
   : instruction_set() == InstructionSet::avx2 ? avx2::function(__VA_ARGS__) : base::function(__VA_ARGS__))
#else
#define DT_CALL(function, ...) base::function(__VA_ARGS__)
#endif
