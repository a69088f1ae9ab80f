"""Padding along one axis with the input's own elements."""

from __future__ import annotations

from types import ModuleType

from ..device import Array
from ..kernels import kernel


@kernel
def pad_edges(xp: ModuleType, x: Array, sources: list[int], axis: int) -> Array:
    """The elements at the positions `sources` of `axis`."""
    return x.take(xp.asarray(sources), axis)


@kernel
def pad_edges_backward(xp: ModuleType, gradient: Array, sources: list[int], before: int, axis: int, length: int) -> Array:
    """The gradient of x: new position i comes from position i − before where x has it, else (the padding) from sources[i]."""
    gradient = gradient.swapaxes(axis, 0)
    first, last = max(before, 0), min(before + length, len(sources))
    result = xp.zeros((length, *gradient.shape[1:]), gradient.dtype)
    result[first - before : last - before] = gradient[first:last]
    for position in (*range(first), *range(last, len(sources))):
        result[sources[position]] += gradient[position]
    return result.swapaxes(axis, 0)
