"""Order: sort, argsort, topk, unique, searchsorted."""

from __future__ import annotations

from typing import Any

from ...backend.device import array_module
from ..engine import Array
from ..tensor import Tensor, method
from .indexing import gather
from .reduction import ValuesIndices
from .shape import axis_of


def _order(x: Array, axis: int, descending: bool) -> Array:
    """The positions in sorted order; equal elements keep theirs, NaN counts as the largest."""
    xp = array_module(x)
    if not descending:
        return xp.argsort(x, axis=axis, kind="stable")
    backward = xp.argsort(xp.flip(x, axis), axis=axis, kind="stable")
    return x.shape[axis] - 1 - xp.flip(backward, axis)


@method
def argsort(input: Tensor, dim: int = -1, descending: bool = False, stable: bool = True) -> Tensor:
    """The positions that sort `input` along `dim`; equal elements keep their order."""
    if not input.array.ndim:
        return Tensor(array_module(input.array).zeros((), "int64"))
    return Tensor(_order(input.array, axis_of(dim, input.array.ndim), descending))


@method
def sort(input: Tensor, dim: int = -1, descending: bool = False, stable: bool = True) -> ValuesIndices:
    """(values, indices) in sorted order along `dim`; equal elements keep their order."""
    indices = argsort(input, dim, descending)
    return ValuesIndices(gather(input, dim, indices), indices)


@method
def topk(input: Tensor, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> ValuesIndices:
    """(values, indices) of the k largest (or smallest) elements along `dim`, best first, the earlier one first where equal."""
    axis = axis_of(dim, input.array.ndim)
    size = input.array.shape[axis] if input.array.ndim else 1
    if not 0 <= k <= size:
        raise RuntimeError(f"topk: {k} of {size} elements")
    order = argsort(input, axis, descending=largest)
    indices = order.narrow(axis, 0, k).contiguous() if input.array.ndim else order
    return ValuesIndices(gather(input, axis, indices), indices)


@method
def unique(input: Tensor, sorted: bool = True, return_inverse: bool = False, return_counts: bool = False, dim: int | None = None) -> Any:
    """The different elements (slices along `dim`) in order; return_inverse: where each went; return_counts: how often each occurs."""
    results = array_module(input.array).unique(input.array, return_inverse=return_inverse, return_counts=return_counts, axis=dim)
    if not (return_inverse or return_counts):
        return Tensor(results)
    arrays = list(results)
    if return_inverse and dim is None:
        arrays[1] = arrays[1].reshape(input.array.shape)
    return tuple([Tensor(array) for array in arrays])


def searchsorted(sorted_sequence: Tensor, input: Any, *, right: bool = False) -> Tensor:
    """Where to insert the elements of `input` into a sorted vector: before equal ones, or after them with `right`."""
    values = input.array if isinstance(input, Tensor) else input
    xp = array_module(sorted_sequence.array)
    return Tensor(xp.searchsorted(sorted_sequence.array, xp.asarray(values), side="right" if right else "left"))


@method
def bincount(input: Tensor, weights: Tensor | None = None, minlength: int = 0) -> Tensor:
    """How often each of 0, 1, 2, ... occurs in a vector of integers (or the sum of its weights)."""
    xp = array_module(input.array)
    if not input.array.size:  # which CuPy's bincount does not take
        return Tensor(xp.zeros(minlength, "int64" if weights is None else "float64"))
    return Tensor(xp.bincount(input.array, None if weights is None else weights.array, minlength))
