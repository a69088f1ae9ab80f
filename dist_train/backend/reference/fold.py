"""The arithmetic of the reduction: scale a leaf, add two partial sums, sum squares in fixed blocks."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from ..kernels import kernel

Array = Any


@kernel
def scale(xp: ModuleType, source: Array, factor: float, out: Array) -> None:
    """out = factor · source, all of one type; `out` may be `source`. The product is rounded before anything is added to it."""
    if factor != 1.0:
        xp.multiply(source, factor, out=out)
    elif out is not source:
        out[...] = source


@kernel
def divide(xp: ModuleType, array: Array, divisor: float) -> None:
    """array = array / divisor, in place."""
    if divisor != 1.0:
        xp.divide(array, divisor, out=array)


@kernel
def add_into(xp: ModuleType, left: Array, right: Array) -> None:
    """left = left + right, in place."""
    xp.add(left, right, out=left)


@kernel
def block_square_sums(xp: ModuleType, vector: Array, block: int) -> Array:
    """Sums of squares of consecutive blocks of a 1-D vector whose length is a multiple of `block`, in the vector's type."""
    rows = vector.reshape(-1, block)
    return (rows[:, None] @ rows[:, :, None])[:, 0, 0]  # one BLAS dot product per block: five times as fast as einsum
