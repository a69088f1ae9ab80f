#include "array.h"

void bind_pool(nb::module_&) {}
