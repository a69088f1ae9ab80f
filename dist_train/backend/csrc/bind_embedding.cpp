#include "array.h"

void bind_embedding(nb::module_&) {}
