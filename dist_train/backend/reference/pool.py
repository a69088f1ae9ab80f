"""Pooling of images (N, C, H, W), one strided view per position inside the window.

The window's geometry is the caller's: `window`, `stride`, `dilation` and `size` (the output's height and width) are pairs, and `padding`
holds (before, after) for height and width, enough for every window to fit.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType

from ..device import Array
from ..kernels import kernel
from .pad import Widths, cropped, padded, padded_shape

Pair = tuple[int, int]


def taps(x: Array, window: Pair, stride: Pair, dilation: Pair, size: Pair) -> Iterator[Array]:
    """For each position inside the window, row by row: the view (N, C, *size) of x under that position."""
    for i in range(0, window[0] * dilation[0], dilation[0]):
        for j in range(0, window[1] * dilation[1], dilation[1]):
            yield x[..., i : i + stride[0] * size[0] : stride[0], j : j + stride[1] * size[1] : stride[1]]


@kernel
def max_pool(xp: ModuleType, x: Array, window: Pair, stride: Pair, padding: Widths, dilation: Pair, size: Pair) -> tuple[Array, Array]:
    """The maximum of each window (N, C, *size), and the position inside the window of the first one that reaches it."""
    y: Array = None
    for position, view in enumerate(taps(padded(x, padding, -float("inf")), window, stride, dilation, size)):
        if y is None:
            y = view.copy()
            index = xp.zeros(y.shape, xp.uint8 if window[0] * window[1] <= 256 else xp.int32)
        else:
            index[view > y] = position
            xp.maximum(y, view, out=y)
    return y, index


@kernel
def max_pool_backward(
    xp: ModuleType, gradient: Array, index: Array, shape: tuple[int, ...], window: Pair, stride: Pair, padding: Widths, dilation: Pair
) -> Array:
    """The gradient of the input of `shape`."""
    result = xp.zeros(padded_shape(shape, padding), gradient.dtype)
    for position, view in enumerate(taps(result, window, stride, dilation, gradient.shape[2:])):
        view += xp.where(index == position, gradient, 0)
    return cropped(result, padding)


@kernel
def avg_pool(xp: ModuleType, x: Array, window: Pair, stride: Pair, padding: Widths, size: Pair, divisor: Array) -> Array:
    """The sum of each window over `divisor`, a number or (*size)."""
    y: Array = 0
    for view in taps(padded(x, padding), window, stride, (1, 1), size):
        y = y + view
    y /= divisor
    return y


@kernel
def avg_pool_backward(
    xp: ModuleType, gradient: Array, shape: tuple[int, ...], window: Pair, stride: Pair, padding: Widths, divisor: Array
) -> Array:
    """The gradient of the input of `shape`."""
    share = gradient / divisor
    result = xp.zeros(padded_shape(shape, padding), gradient.dtype)
    for view in taps(result, window, stride, (1, 1), gradient.shape[2:]):
        view += share
    return cropped(result, padding)
