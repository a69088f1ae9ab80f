#include "array.h"

void bind_activation(nb::module_&) {}
