#include "conv.h"

#include "kernel.h"

namespace DT_ISA {}
