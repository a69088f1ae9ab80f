"""Matrix products through the chosen BLAS library."""

from .. import _native, blas
from ..reference.product import product

library = blas.choose()
if library is not None:
    _native.set_blas(library.sgemm, library.dgemm, library.wide_integers)
    product.override("numpy")(_native.product)
