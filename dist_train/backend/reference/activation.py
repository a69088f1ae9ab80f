"""Activation functions and their gradients, element by element, and the gradient of a bias."""

from __future__ import annotations

import math
from collections.abc import Callable
from types import ModuleType

from ..device import Array, array_module
from ..kernels import kernel
from .blocks import blocks
from .special import logistic_of_minus, normal_cdf


@kernel
def relu(xp: ModuleType, x: Array) -> Array:
    """max(x, 0)."""
    return xp.maximum(x, 0)


@kernel
def relu_backward(xp: ModuleType, gradient: Array, output: Array) -> Array:
    return gradient * (output > 0)


@kernel
def clip(xp: ModuleType, x: Array, low: float, high: float) -> Array:
    """x kept between `low` and `high` (ReLU6 and torch's hardtanh)."""
    return xp.clip(x, low, high)


@kernel
def clip_backward(xp: ModuleType, gradient: Array, x: Array, low: float, high: float) -> Array:
    return gradient * ((x > low) & (x < high))


@kernel
def leaky_relu(xp: ModuleType, x: Array, slope: float) -> Array:
    """x where positive, else slope·x."""
    return xp.where(x > 0, x, x * slope)


@kernel
def leaky_relu_backward(xp: ModuleType, gradient: Array, x: Array, slope: float) -> Array:
    return xp.where(x > 0, gradient, gradient * slope)


@kernel
def elu(xp: ModuleType, x: Array, alpha: float) -> Array:
    """x where positive, else alpha·(exp(x) − 1)."""
    return xp.where(x > 0, x, alpha * xp.expm1(xp.minimum(x, 0)))


@kernel
def elu_backward(xp: ModuleType, gradient: Array, x: Array, alpha: float) -> Array:
    return gradient * xp.where(x > 0, 1, alpha * xp.exp(xp.minimum(x, 0)))


@kernel
def sigmoid(xp: ModuleType, x: Array) -> Array:
    """1 / (1 + exp(−x)) without overflow, exact to rounding at both ends."""
    decayed = xp.exp(-xp.abs(x))
    return xp.where(x >= 0, 1, decayed) / (1 + decayed)


@kernel
def sigmoid_backward(xp: ModuleType, gradient: Array, output: Array) -> Array:
    return gradient * ((1 - output) * output)


@kernel
def tanh(xp: ModuleType, x: Array) -> Array:
    return xp.tanh(x)


@kernel
def tanh_backward(xp: ModuleType, gradient: Array, output: Array) -> Array:
    return gradient * (1 - output * output)


@kernel
def softplus(xp: ModuleType, x: Array, beta: float, threshold: float) -> Array:
    """log(1 + exp(beta·x)) / beta, and x itself where beta·x is above `threshold`."""
    scaled = x * beta
    return xp.where(scaled > threshold, x, xp.logaddexp(xp.zeros_like(scaled), scaled) / beta)


@kernel
def softplus_backward(xp: ModuleType, gradient: Array, x: Array, beta: float, threshold: float) -> Array:
    scaled = x * beta
    return gradient * xp.where(scaled > threshold, 1, sigmoid.reference(xp, scaled))


@kernel
def hardswish(xp: ModuleType, x: Array) -> Array:
    """x·min(max(x + 3, 0), 6) / 6."""
    return x * xp.clip(x + 3, 0, 6) / 6


@kernel
def hardswish_backward(xp: ModuleType, gradient: Array, x: Array) -> Array:
    return gradient * xp.where(x < -3, 0, xp.where(x <= 3, x / 3 + 0.5, 1)).astype(x.dtype)


# SiLU and both forms of GELU are x·gate(x) with a gate between 0 and 1. Backward computes the gate again: it costs less than to keep its
# slope beside x would in memory. Narrow types are computed in float32.

Gate = Callable[[ModuleType, Array], Array]
Slope = Callable[[ModuleType, Array, Array], Array]


def _gated(xp: ModuleType, x: Array, gate: Gate) -> Array:
    y = xp.empty(x.shape, x.dtype)
    for part, out in blocks(xp, x, y):
        part = _wide(part)
        xp.multiply(part, gate(xp, part), out=out, casting="same_kind")
    return y


def _gated_backward(xp: ModuleType, gradient: Array, x: Array, gate: Gate, slope: Slope) -> Array:
    result = xp.empty(x.shape, x.dtype)
    for part, of_y, out in blocks(xp, x, gradient, result):
        part = _wide(part)
        xp.multiply(of_y, slope(xp, part, gate(xp, part)), out=out, casting="same_kind")
    return result


def _wide(x: Array) -> Array:
    return x if x.dtype.itemsize >= 4 else x.astype("float32")


@kernel
def silu(xp: ModuleType, x: Array) -> Array:
    """x·sigmoid(x)."""
    return _gated(xp, x, _sigmoid)


@kernel
def silu_backward(xp: ModuleType, gradient: Array, x: Array) -> Array:
    return _gated_backward(xp, gradient, x, _sigmoid, _silu_slope)


@kernel
def gelu(xp: ModuleType, x: Array) -> Array:
    """x·Φ(x), where Φ is the normal distribution's cumulative function."""
    return _gated(xp, x, normal_cdf)


@kernel
def gelu_backward(xp: ModuleType, gradient: Array, x: Array) -> Array:
    return _gated_backward(xp, gradient, x, normal_cdf, _gelu_slope)


@kernel
def gelu_tanh(xp: ModuleType, x: Array) -> Array:
    """x·(1 + tanh(√(2/π)·(x + 0.044715·x³))) / 2, where (1 + tanh(y)) / 2 is sigmoid(2·y)."""
    return _gated(xp, x, _tanh_gate)


@kernel
def gelu_tanh_backward(xp: ModuleType, gradient: Array, x: Array) -> Array:
    return _gated_backward(xp, gradient, x, _tanh_gate, _gelu_tanh_slope)


def _sigmoid(xp: ModuleType, x: Array) -> Array:
    return logistic_of_minus(xp, -x)


def _silu_slope(xp: ModuleType, x: Array, gate: Array) -> Array:
    """gate·(1 + x·(1 − gate))."""
    slope = 1 - gate
    slope *= x
    slope += 1
    slope *= gate
    return slope


def _gelu_slope(xp: ModuleType, x: Array, gate: Array) -> Array:
    """Φ(x) + x·φ(x), where φ is the density."""
    bounded = xp.clip(x, -40, 40)  # the density is 0 beyond, and x·x does not overflow
    density = bounded * bounded
    density *= -0.5
    xp.exp(density, out=density)
    density *= 1 / math.sqrt(2 * math.pi)
    density *= bounded
    density += gate
    return density


GELU_SCALE, GELU_CUBE = 2 * math.sqrt(2 / math.pi), 0.044715


def _tanh_gate(xp: ModuleType, x: Array) -> Array:
    bounded = xp.clip(x, -25, 25)  # the gate is exactly 0 or 1 beyond, and the cube does not overflow
    argument = bounded * bounded
    argument *= -GELU_SCALE * GELU_CUBE
    argument -= GELU_SCALE
    argument *= bounded
    return logistic_of_minus(xp, argument)


def _gelu_tanh_slope(xp: ModuleType, x: Array, gate: Array) -> Array:
    """gate + x·gate·(1 − gate)·y′, where y is what the gate is the sigmoid of."""
    bounded = xp.clip(x, -25, 25)
    slope = bounded * bounded
    slope *= 3 * GELU_SCALE * GELU_CUBE
    slope += GELU_SCALE
    slope *= bounded
    slope *= 1 - gate
    slope += 1
    slope *= gate
    return slope


@kernel
def bias_gradient(xp: ModuleType, gradient: Array) -> Array:
    """Σ over the rows of (rows, width) → (width,), as a product with ones: several times faster than a reduction."""
    return xp.ones(len(gradient), gradient.dtype) @ gradient


def sum_leading(array: Array, count: int) -> Array:
    """Sum over the first `count` axes."""
    if array.dtype.itemsize < 4 or not array.flags.c_contiguous or not array.size:
        return array_module(array).add.reduce(array, axis=tuple(range(count)))
    rows = array if array.ndim == 2 and count == 1 else array.reshape(math.prod(array.shape[:count]), -1)
    sums = bias_gradient(rows)
    return sums if array.ndim == count + 1 else sums.reshape(array.shape[count:])
