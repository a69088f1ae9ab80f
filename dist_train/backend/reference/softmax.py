"""Softmax and log-softmax along an axis."""

from __future__ import annotations

from types import ModuleType

from ..device import Array
from ..kernels import kernel


@kernel
def softmax(xp: ModuleType, x: Array, axis: int) -> Array:
    """exp(x) / Σ exp(x); a row that holds nothing but −inf gives NaN, as in torch."""
    y = xp.asarray(x - x.max(axis, keepdims=True))
    xp.exp(y, out=y)
    y /= y.sum(axis, keepdims=True)
    return y


@kernel
def softmax_backward(xp: ModuleType, gradient: Array, output: Array, axis: int) -> Array:
    product = gradient * output
    product -= output * product.sum(axis, keepdims=True)
    return product


@kernel
def log_softmax(xp: ModuleType, x: Array, axis: int) -> Array:
    """x − log Σ exp(x)."""
    y = x - x.max(axis, keepdims=True)
    y -= xp.log(xp.exp(y).sum(axis, keepdims=True))
    return y


@kernel
def log_softmax_backward(xp: ModuleType, gradient: Array, output: Array, axis: int) -> Array:
    return gradient - xp.exp(output) * gradient.sum(axis, keepdims=True)
