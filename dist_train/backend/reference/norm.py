"""Normalisation of rows (layer and group norm) and of channels (batch norm)."""

from __future__ import annotations

from types import ModuleType

from ..device import Array
from ..kernels import kernel
from .rows import axis_product, axis_sum

Gradients = tuple[Array, Array, Array]


@kernel
def layer_norm(xp: ModuleType, x: Array, weight: Array, bias: Array, eps: float) -> tuple[Array, Array, Array]:
    """(rows, width) → (x − mean)·scale·weight + bias, mean and scale = 1 / √(variance + eps), both (rows, 1).

    `weight` and `bias` are (width,) or None.
    """
    mean = axis_sum(xp, x) / x.shape[1]
    y = x - mean
    scale = 1 / xp.sqrt(axis_product(xp, y, y) / x.shape[1] + eps)
    y *= scale
    if weight is not None:
        y *= weight
    if bias is not None:
        y += bias
    return y, mean, scale


@kernel
def layer_norm_backward(xp: ModuleType, gradient: Array, x: Array, weight: Array, mean: Array, scale: Array) -> Gradients:
    """Gradients of x, weight and bias; the last two are None where there is no weight."""
    normal = x - mean
    normal *= scale
    ones, of_weight, of_bias = xp.ones(len(x), x.dtype), None, None
    if weight is not None:
        of_weight, of_bias = ones @ (gradient * normal), ones @ gradient
        gradient = gradient * weight
    width = x.shape[1]
    normal *= axis_product(xp, gradient, normal) / -width
    normal -= axis_sum(xp, gradient) / width
    normal += gradient
    normal *= scale
    return normal, of_weight, of_bias


@kernel
def batch_norm(xp: ModuleType, x: Array, weight: Array, bias: Array, eps: float) -> tuple[Array, Array, Array, Array]:
    """(N, C, L) → (x − mean)·scale·weight + bias, and mean, biased variance and scale = 1 / √(variance + eps) over N and L, each (C,).

    `weight` and `bias` are (C,) or None.
    """
    count = x.shape[0] * x.shape[2]
    mean = channel_sum(x) / count
    centred = x - mean[:, None]
    variance = xp.einsum("ncl,ncl->nc", centred, centred).sum(0) / count
    y, scale = normalize_channels(x, mean, variance, weight, bias, eps)
    return y, mean, variance, scale


@kernel
def normalize_channels(
    xp: ModuleType, x: Array, mean: Array, variance: Array, weight: Array, bias: Array, eps: float
) -> tuple[Array, Array]:
    """The same with a given mean and variance; also returns scale."""
    scale = 1 / xp.sqrt(variance + eps)
    factor = scale if weight is None else scale * weight
    return scale_channels(x, factor, -mean * factor if bias is None else bias - mean * factor), scale


@kernel
def scale_channels(xp: ModuleType, x: Array, factor: Array, shift: Array) -> Array:
    """(N, C, L), (C,), (C,) → x·factor + shift; `shift` may be None."""
    y = x * factor[:, None]
    if shift is not None:
        y += shift[:, None]
    return y


@kernel
def batch_norm_backward(xp: ModuleType, gradient: Array, x: Array, weight: Array, mean: Array, scale: Array, training: bool) -> Gradients:
    """Gradients of x (N, C, L), weight and bias (C,) for y = (x − mean)·scale·weight + bias.

    In training mean and scale were those of x, so the gradient flows through them too.
    """
    centred = x - mean[:, None]
    of_bias, of_weight = channel_sums(gradient, centred)
    of_weight *= scale
    factor = scale if weight is None else scale * weight
    if not training:
        return gradient * factor[:, None], of_weight, of_bias
    count = x.shape[0] * x.shape[2]
    centred *= (of_weight * scale / -count)[:, None]
    centred -= (of_bias / count)[:, None]
    centred += gradient
    centred *= factor[:, None]
    return centred, of_weight, of_bias


@kernel
def channel_sums(xp: ModuleType, gradient: Array, y: Array) -> tuple[Array, Array]:
    """(N, C, L) twice → Σ gradient and Σ gradient·y over N and L, each (C,)."""
    return channel_sum(gradient), xp.einsum("ncl,ncl->nc", gradient, y).sum(0)


@kernel
def channel_sum(xp: ModuleType, x: Array) -> Array:
    """(N, C, L) → (C,)."""
    return (x @ xp.ones(x.shape[2], x.dtype)).sum(0)
