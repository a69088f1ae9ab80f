"""The operations, one file per family. Importing a family attaches its methods to Tensor."""

from . import (
    activation,
    arrangement,
    comparison,
    conversion,
    creation,
    einsum,
    elementwise,
    indexing,
    inplace,
    joining,
    linalg,
    pointwise,
    reduction,
    sampling,
    shape,
    softmax,
    sorting,
)
