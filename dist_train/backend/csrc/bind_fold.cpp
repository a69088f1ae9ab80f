#include "array.h"

void bind_fold(nb::module_&) {}
