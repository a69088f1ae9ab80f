#include "image.h"

#include "kernel.h"

namespace DT_ISA {}
