// Which of the compiled instruction sets runs: the best one that the processor has, or the one chosen with set_instruction_set.
#pragma once

enum class InstructionSet { base, avx2, avx512 };

extern InstructionSet chosen_instruction_set;

inline InstructionSet instruction_set() { return chosen_instruction_set; }
