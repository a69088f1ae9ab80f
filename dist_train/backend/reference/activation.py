"""Activation functions and their gradients, element by element."""

from __future__ import annotations

import math
from types import ModuleType

from ..device import Array
from ..kernels import kernel
from .special import erf


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


def logistic(xp: ModuleType, x: Array) -> Array:
    """1 / (1 + exp(−x)) without overflow, exact to rounding at both ends."""
    decayed = xp.exp(-xp.abs(x))
    return xp.where(x >= 0, 1, decayed) / (1 + decayed)


@kernel
def silu(xp: ModuleType, x: Array) -> Array:
    """x·sigmoid(x)."""
    return x * logistic(xp, x)


@kernel
def silu_backward(xp: ModuleType, gradient: Array, x: Array) -> Array:
    s = logistic(xp, x)
    return gradient * (s * (1 + x * (1 - s)))


@kernel
def softplus(xp: ModuleType, x: Array, beta: float, threshold: float) -> Array:
    """log(1 + exp(beta·x)) / beta, and x itself where beta·x is above `threshold`."""
    scaled = x * beta
    return xp.where(scaled > threshold, x, xp.logaddexp(xp.zeros_like(scaled), scaled) / beta)


@kernel
def softplus_backward(xp: ModuleType, gradient: Array, x: Array, beta: float, threshold: float) -> Array:
    scaled = x * beta
    return gradient * xp.where(scaled > threshold, 1, logistic(xp, scaled))


@kernel
def hardswish(xp: ModuleType, x: Array) -> Array:
    """x·min(max(x + 3, 0), 6) / 6."""
    return x * xp.clip(x + 3, 0, 6) / 6


@kernel
def hardswish_backward(xp: ModuleType, gradient: Array, x: Array) -> Array:
    return gradient * xp.where(x < -3, 0, xp.where(x <= 3, x / 3 + 0.5, 1)).astype(x.dtype)


@kernel
def gelu(xp: ModuleType, x: Array) -> Array:
    """x·Φ(x), where Φ is the normal distribution's cumulative function."""
    return x * normal_cdf(x)


@kernel
def gelu_backward(xp: ModuleType, gradient: Array, x: Array) -> Array:
    bounded = xp.clip(x, -40, 40)  # the density is 0 beyond, and x·x does not overflow
    density = xp.exp(bounded * bounded * -0.5)
    density *= bounded * (1 / math.sqrt(2 * math.pi))
    density += normal_cdf(x)
    return density * gradient


GELU_SCALE, GELU_CUBE = math.sqrt(2 / math.pi), 0.044715


@kernel
def gelu_tanh(xp: ModuleType, x: Array) -> Array:
    """x·(1 + tanh(√(2/π)·(x + 0.044715·x³))) / 2."""
    y = _gelu_tanh_of(xp, x)[0]
    y += 1
    y *= x
    y *= 0.5
    return y


@kernel
def gelu_tanh_backward(xp: ModuleType, gradient: Array, x: Array) -> Array:
    t, bounded, squared = _gelu_tanh_of(xp, x)
    squared *= 3 * GELU_SCALE * GELU_CUBE
    squared += GELU_SCALE  # the derivative of the argument of tanh
    squared *= bounded
    squared *= 1 - t * t
    squared += t
    squared += 1
    squared *= gradient
    squared *= 0.5
    return squared


def _gelu_tanh_of(xp: ModuleType, x: Array) -> tuple[Array, Array, Array]:
    bounded = xp.clip(x, -20, 20)  # tanh is ±1 beyond, and the cube does not overflow
    squared = bounded * bounded
    argument = squared * (GELU_SCALE * GELU_CUBE)
    argument += GELU_SCALE
    argument *= bounded
    return xp.tanh(argument), bounded, squared


def normal_cdf(x: Array) -> Array:
    """Φ(x) = (1 + erf(x / √2)) / 2."""
    result = erf(x * math.sqrt(0.5))
    result += 1
    result *= 0.5
    return result
