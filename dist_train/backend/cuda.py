"""Kernels that are computed another way on CuPy arrays, where CuPy's functions do less than NumPy's of the same name."""

from __future__ import annotations

from typing import Any

from .device import Array, array_module
from .reference.embedding import embedding_backward
from .reference.indexing import scatter_add


@embedding_backward.override("cupy")
def embedding_backward_in_float64(
    gradient: Array, indices: Array, num_rows: int, padding_index: int | None, out: Array | None = None
) -> Array:
    """CuPy's reduceat subtracts prefix sums of all rows from each other, which needs more digits than float32 has."""
    if gradient.dtype.itemsize == 8:
        return NotImplemented
    wide = embedding_backward.reference(array_module(gradient), gradient.astype("float64"), indices, num_rows, padding_index)
    return wide.astype(gradient.dtype)


@scatter_add.override("cupy")
def scatter_add_to_int64(target: Array, index: Any, values: Array) -> Array:
    """CuPy's add.at lacks int64; sums of unsigned integers have the same bits."""
    if target.dtype != "int64" or values.dtype.kind not in "iub":
        return NotImplemented
    array_module(target).add.at(target.view("uint64"), index, values.astype("int64", copy=False).view("uint64"))
    return target
