#include "array.h"

void bind_image(nb::module_&) {}
