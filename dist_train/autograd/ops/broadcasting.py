"""The other half of broadcasting: the gradient of a repeated value is the sum over its repetitions."""

from __future__ import annotations

from ...backend.device import array_module
from ...backend.reference.activation import sum_leading
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
