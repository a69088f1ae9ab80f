#include "attention.h"

#include "kernel.h"

namespace DT_ISA {}
