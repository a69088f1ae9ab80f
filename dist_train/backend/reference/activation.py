"""Activation functions and their gradients, element by element."""

from __future__ import annotations

import math
from types import ModuleType

import numpy as np

from ..device import Array
from ..kernels import kernel


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
    return x * normal_cdf(xp, x)


@kernel
def gelu_backward(xp: ModuleType, gradient: Array, x: Array) -> Array:
    bounded = xp.clip(x, -40, 40)  # the density is 0 beyond, and x·x does not overflow
    density = xp.exp(bounded * bounded * -0.5)
    density *= bounded * (1 / math.sqrt(2 * math.pi))
    density += normal_cdf(xp, x)
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


# log(erfc(z) / t) + z² as a polynomial in 2t − 1, t = 1 / (1 + z / 2): a Chebyshev fit at 40 digits, cut off where the
# type's precision ends (absolute error of Φ: 3e-16 and 2e-7)
_ERFC_64 = (
    -0.6717940840566922, 0.6726432239776583, 0.047343306841863525, -0.04689561023132892, -0.009872689364099222,
    0.008824938561312326, 0.0017589335074028032, -0.002345812552995894, -0.00014624628742128406, 0.0006736791352568864,
    -9.373894767667295e-05, -0.00017430412986925938, 7.141810433422301e-05, 3.174693542327236e-05,
    -3.023784054007137e-05, 1.3989370477611051e-07, 8.662535397475538e-06, -2.963484230959699e-06,
    -1.409445991433531e-06, 1.283394915356199e-06, -4.146853754663641e-08, -2.895626567435524e-07,
    7.745572408758512e-08, 2.980513364515168e-08, -1.2776086554968677e-08,
)  # fmt: skip
_ERFC_32 = (
    -0.6717940760543342, 0.6726422171554879, 0.047343106290901014, -0.04687488817886134, -0.009873768747331393,
    0.008703812035218805, 0.0017765646350106873, -0.002048734760496573, -0.00020790912059481928, 0.00033373589390861395,
)  # fmt: skip


def normal_cdf(xp: ModuleType, x: Array) -> Array:
    """Φ(x) = erfc(−x / √2) / 2."""
    coefficients = _ERFC_32 if x.dtype == np.float32 else _ERFC_64
    z = xp.minimum(xp.abs(x), 40) * math.sqrt(0.5)
    t = 1 / (1 + z * 0.5)
    s = 2 * t - 1
    exponent = s * coefficients[-1]
    for coefficient in coefficients[-2:0:-1]:
        exponent += coefficient
        exponent *= s
    exponent += coefficients[0]
    exponent -= z * z
    tail = xp.exp(exponent) * t
    tail *= 0.5
    return xp.where(x > 0, 1 - tail, tail)
