"""The operations, one file per family. Importing a family attaches its methods to Tensor."""

from . import (
    arrangement,
    comparison,
    conversion,
    creation,
    elementwise,
    indexing,
    inplace,
    joining,
    linalg,
    pointwise,
    reduction,
    sampling,
    shape,
    sorting,
)
