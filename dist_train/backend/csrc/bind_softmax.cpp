#include "array.h"

void bind_softmax(nb::module_&) {}
