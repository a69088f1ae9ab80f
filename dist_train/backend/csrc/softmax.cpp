#include "softmax.h"

#include "kernel.h"

namespace DT_ISA {}
