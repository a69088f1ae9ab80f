"""Rows of a table, and the gradient that adds rows up again in a fixed order."""

from __future__ import annotations

from types import ModuleType

from ..device import Array
from ..kernels import kernel


@kernel
def take_rows(xp: ModuleType, array: Array, indices: Array) -> Array:
    """array[indices]: (rows, ...) and any shape of integers → (*shape, ...). IndexError for an index outside ±rows."""
    if array.ndim == 1 or not array.flags.c_contiguous:
        return array[indices]  # `take` is the faster one for rows, but would first copy all of an array that is not contiguous
    return array.take(indices, axis=0)


@kernel
def embedding_backward(
    xp: ModuleType, gradient: Array, indices: Array, num_rows: int, padding_index: int | None, out: Array | None = None
) -> Array:
    """(*shape, width) → (num_rows, width), into `out` if given: the rows of one index are added in a fixed order."""
    width = gradient.shape[-1]
    result = xp.zeros((num_rows, width), gradient.dtype) if out is None else out
    if out is not None:
        result[...] = 0
    if not indices.size:
        return result
    flat = indices.reshape(-1)
    order = xp.argsort(flat, kind="stable")
    ordered = flat[order]
    starts = xp.flatnonzero(xp.concatenate([xp.ones(1, bool), ordered[1:] != ordered[:-1]]))
    result[ordered[starts]] = xp.add.reduceat(gradient.reshape(-1, width)[order], starts, axis=0)
    if padding_index is not None:
        result[padding_index] = 0
    return result
