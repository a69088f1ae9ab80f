"""The other half of broadcasting: the gradient of a repeated value is the sum over its repetitions."""

from __future__ import annotations

from math import prod

from ...backend.device import array_module
from ...backend.reference.activation import bias_gradient
from ..engine import Array


def unbroadcast(gradient: Array, shape: tuple[int, ...]) -> Array:
    """Sum `gradient` over the axes along which an input of `shape` was repeated."""
    if gradient.shape == shape:
        return gradient
    lead = gradient.ndim - len(shape)
    repeated = [axis + lead for axis, size in enumerate(shape) if size == 1 and gradient.shape[axis + lead] != 1]
    if not repeated and shape:
        return sum_leading(gradient, lead)
    return array_module(gradient).add.reduce(gradient, axis=(*range(lead), *repeated)).reshape(shape)


def sum_leading(array: Array, count: int) -> Array:
    """Sum over the first `count` axes."""
    if array.dtype.itemsize < 4 or not array.flags.c_contiguous or not array.size:
        return array_module(array).add.reduce(array, axis=tuple(range(count)))
    rows = array if array.ndim == 2 and count == 1 else array.reshape(prod(array.shape[:count]), -1)
    sums = bias_gradient(rows)
    return sums if array.ndim == count + 1 else sums.reshape(array.shape[count:])
