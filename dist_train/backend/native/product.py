"""Matrix products, by our own kernels or by the library that the user has chosen."""

from .. import _native, blas
from ..reference.product import linear, linear_backward, product

_library = blas.library()
if _library is not None:
    _native.set_blas(_library.sgemm, _library.dgemm, _library.wide_integers, blas.wanted() is not None)
    product.override("numpy")(_native.product)
    linear.override("numpy")(_native.linear)
    linear_backward.override("numpy")(_native.linear_backward)


def products_by() -> str:
    """What multiplies matrices: "own kernels", or a library's name and place."""
    if _library is None:
        return "NumPy"
    own = blas.wanted() is None and _native.instruction_set() != "base"
    return "own kernels" if own else f"{_library.name} ({_library.path})"
