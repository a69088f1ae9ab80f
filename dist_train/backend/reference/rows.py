"""Sums, products and maxima along an axis, which stays with length 1: faster forms than NumPy's reductions where the axis is the last."""

from __future__ import annotations

from types import ModuleType

from ..device import Array

NARROW = 32  # up to this length a row costs NumPy's reduction its call, not its elements


def axis_sum(xp: ModuleType, x: Array, axis: int = -1) -> Array:
    """Σ x; over rows as a product with ones, several times faster than a reduction."""
    if axis not in (-1, x.ndim - 1) or x.dtype.itemsize < 4:
        return x.sum(axis, keepdims=True)
    return x @ xp.ones((x.shape[-1], 1), x.dtype)


def axis_product(xp: ModuleType, x: Array, y: Array, axis: int = -1) -> Array:
    """Σ x·y of two arrays of one shape; over rows without an array for x·y."""
    if axis not in (-1, x.ndim - 1) or x.dtype.itemsize < 4:
        return (x * y).sum(axis, keepdims=True)
    return (x[..., None, :] @ y[..., None])[..., 0]


def axis_max(xp: ModuleType, x: Array, axis: int = -1) -> Array:
    """The maximum; over short rows along the columns of a copy, which takes all rows at once."""
    if x.ndim == 2 and axis in (-1, 1) and 0 < x.shape[1] <= NARROW:
        return xp.ascontiguousarray(x.T).max(0)[:, None]
    return x.max(axis, keepdims=True)
