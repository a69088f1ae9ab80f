#include "array.h"

void bind_attention(nb::module_&) {}
