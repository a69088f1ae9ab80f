#include "array.h"

void bind_dropout(nb::module_&) {}
