#include "activation.h"

#include "kernel.h"

namespace DT_ISA {}
