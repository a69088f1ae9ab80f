#include "fold.h"

#include "kernel.h"

namespace DT_ISA {}
