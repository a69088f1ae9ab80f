#include "embedding.h"

#include "kernel.h"

namespace DT_ISA {}
