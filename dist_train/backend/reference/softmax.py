"""Softmax and log-softmax along an axis."""

from __future__ import annotations

from types import ModuleType

from ..device import Array
from ..kernels import kernel
from .rows import axis_max, axis_product, axis_sum


@kernel
def softmax(xp: ModuleType, x: Array, axis: int) -> Array:
    """exp(x) / Σ exp(x); a row that holds nothing but −inf gives NaN, as in torch."""
    y = xp.asarray(x - axis_max(xp, x, axis))
    xp.exp(y, out=y)
    y /= axis_sum(xp, y, axis)
    return y


@kernel
def softmax_backward(xp: ModuleType, gradient: Array, output: Array, axis: int) -> Array:
    """output·(gradient − Σ gradient·output)."""
    result = gradient - axis_product(xp, gradient, output, axis)
    result *= output
    return result


@kernel
def log_softmax(xp: ModuleType, x: Array, axis: int) -> Array:
    """x − log Σ exp(x)."""
    y = x - axis_max(xp, x, axis)
    y -= xp.log(axis_sum(xp, xp.exp(y), axis))
    return y


@kernel
def log_softmax_backward(xp: ModuleType, gradient: Array, output: Array, axis: int) -> Array:
    """gradient − exp(output)·Σ gradient."""
    result = xp.exp(output)
    result *= axis_sum(xp, gradient, axis)
    return xp.subtract(gradient, result, out=result)
