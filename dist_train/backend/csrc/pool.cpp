#include "pool.h"

#include "kernel.h"

namespace DT_ISA {}
