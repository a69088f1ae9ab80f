#include "norm.h"

#include "kernel.h"

namespace DT_ISA {}
