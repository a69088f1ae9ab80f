#include "array.h"

void bind_conv(nb::module_&) {}
