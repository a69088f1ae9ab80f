#include "dropout.h"

#include "kernel.h"

namespace DT_ISA {}
