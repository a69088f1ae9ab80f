#include "array.h"

void bind_norm(nb::module_&) {}
