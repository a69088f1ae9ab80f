"""Convolution of images (N, C, H, W) as matrix products: a few images at a time, the windows under the kernel become the columns of a
matrix that stays in cache.

`stride` and `dilation` are pairs, `padding` holds the zeros (before, after) each axis (negative numbers cut off), weight is
(O, C / groups, kh, kw).
"""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType

from ..device import Array
from ..kernels import kernel
from .norm import channel_sum
from .pad import Widths, cropped, pad, padded, padded_shape
from .pool import Pair, taps

_POSITIONS = 512  # columns per matrix product that are enough for BLAS
_ELEMENTS = 2**17  # of a temporary array that stays in cache


def output_size(shape: tuple[int, ...], window: Pair, stride: Pair, dilation: Pair) -> Pair:
    """Height and width of what a window that slides over an image of `shape` (…, H, W) gives."""
    height, width = ((shape[i - 2] - dilation[i] * (window[i] - 1) - 1) // stride[i] + 1 for i in (0, 1))
    return height, width


@kernel
def conv2d(xp: ModuleType, x: Array, weight: Array, bias: Array, stride: Pair, padding: Widths, dilation: Pair, groups: int) -> Array:
    """(N, C, H, W), (O, C / groups, kh, kw), (O,) or None → (N, O, height, width)."""
    y = _convolve(xp, padded(x, padding), weight, stride, dilation, groups)
    if bias is not None:
        y += bias[:, None, None]
    return y


@kernel
def conv2d_backward_input(
    xp: ModuleType, gradient: Array, weight: Array, shape: tuple[int, ...], stride: Pair, padding: Widths, dilation: Pair, groups: int
) -> Array:
    """The gradient of the input of `shape`."""
    of_padded = _backward_input(xp, gradient, weight, padded_shape(shape, padding), stride, dilation, groups)
    return cropped(of_padded, padding)


@kernel
def conv2d_backward_weight(
    xp: ModuleType,
    gradient: Array,
    x: Array,
    shape: tuple[int, ...],
    stride: Pair,
    padding: Widths,
    dilation: Pair,
    groups: int,
    with_bias: bool,
) -> tuple[Array, Array]:
    """The gradients of the weight of `shape` and of the bias; None for that without `with_bias`."""
    of_weight = _backward_weight(xp, gradient, padded(x, padding), shape, stride, dilation, groups)
    positions = gradient.shape[2] * gradient.shape[3]
    return of_weight, channel_sum(gradient.reshape(*gradient.shape[:2], positions)) if with_bias else None


def _convolve(xp: ModuleType, x: Array, weight: Array, stride: Pair, dilation: Pair, groups: int) -> Array:
    num_out, window = weight.shape[0], weight.shape[2:]
    size = output_size(x.shape, window, stride, dilation)
    if x.shape[1] == num_out == groups and stride == (1, 1):
        return _depthwise(xp, x, weight, dilation, size)
    y = xp.empty((x.shape[0], num_out, *size), x.dtype)
    matrices = weight.reshape(groups, num_out // groups, -1)
    for images, columns in _columns(xp, x, window, stride, dilation, size, groups):
        product = matrices @ columns
        y[images] = product.reshape(num_out, -1, *size).swapaxes(0, 1)
    return y


def _backward_input(
    xp: ModuleType, gradient: Array, weight: Array, shape: tuple[int, ...], stride: Pair, dilation: Pair, groups: int
) -> Array:
    window: Pair = weight.shape[2:]
    size: Pair = gradient.shape[2:]
    if shape[1] == weight.shape[0] == groups and stride == (1, 1):  # the gradient in a wide margin, under the kernel turned round
        around = tuple([(dilation[i] * (window[i] - 1),) * 2 for i in (0, 1)])
        return _depthwise(xp, pad(gradient, around, 0), weight[:, :, ::-1, ::-1], dilation, (shape[2], shape[3]))
    result = xp.zeros(shape, gradient.dtype)
    if shape[1] == weight.shape[0] == groups:
        for images in _chunks(shape[0], shape[1], size):
            for view, factor in zip(taps(result[images], window, stride, dilation, size), _per_tap(weight)):
                view += gradient[images] * factor
        return result
    matrices = weight.reshape(groups, weight.shape[0] // groups, -1).swapaxes(1, 2)
    for images in _chunks(shape[0], shape[1] * window[0] * window[1], size):
        columns = matrices @ _by_group(gradient[images], groups)
        columns = columns.reshape(shape[1], window[0] * window[1], -1, *size)
        for position, view in enumerate(taps(result[images], window, stride, dilation, size)):
            view += columns[:, position].swapaxes(0, 1)
    return result


def _backward_weight(xp: ModuleType, gradient: Array, x: Array, shape: tuple[int, ...], stride: Pair, dilation: Pair, groups: int) -> Array:
    window: Pair = (shape[2], shape[3])
    size: Pair = gradient.shape[2:]
    if x.shape[1] == shape[0] == groups and stride == (1, 1):
        return _depthwise_backward_weight(xp, gradient, x, window, dilation).reshape(shape)
    if x.shape[1] == shape[0] == groups:
        sums = [xp.einsum("nchw,nchw->c", gradient, view) for view in taps(x, window, stride, dilation, size)]
        return xp.stack(sums, 1).reshape(shape)
    result = xp.zeros((groups, shape[0] // groups, shape[1] * window[0] * window[1]), gradient.dtype)
    for images, columns in _columns(xp, x, window, stride, dilation, size, groups):
        result += _by_group(gradient[images], groups) @ columns.swapaxes(1, 2)
    return result.reshape(shape)


def _chunks(num_images: int, rows: int, size: Pair) -> Iterator[slice]:
    """Slices of the batch of which `rows` values per output position fit into the cache, but no narrower than BLAS needs."""
    positions = size[0] * size[1]
    step = max(1, _ELEMENTS // (rows * positions), _POSITIONS // positions)
    return (slice(start, start + step) for start in range(0, num_images, step))


def _columns(
    xp: ModuleType, x: Array, window: Pair, stride: Pair, dilation: Pair, size: Pair, groups: int
) -> Iterator[tuple[slice, Array]]:
    """For a few images at a time: their slice, and (groups, C / groups · kh · kw, images · height · width) copied from x."""
    n, c, h, w = x.strides
    windows = xp.lib.stride_tricks.as_strided(
        x,
        (x.shape[1], *window, x.shape[0], *size),
        (c, h * dilation[0], w * dilation[1], n, h * stride[0], w * stride[1]),
    )
    rows = x.shape[1] // groups * window[0] * window[1]
    for images in _chunks(x.shape[0], groups * rows, size):
        yield images, windows[:, :, :, images].reshape(groups, rows, -1)


def _by_group(gradient: Array, groups: int) -> Array:
    """(images, O, height, width) → (groups, O / groups, images · height · width)."""
    return gradient.swapaxes(0, 1).reshape(groups, gradient.shape[1] // groups, -1)


def _per_tap(weight: Array) -> Iterator[Array]:
    """(C, 1, kh, kw) → for each position of the kernel, (C, 1, 1)."""
    return (factor[:, None, None] for factor in weight.reshape(weight.shape[0], -1).T)


# Depthwise (every channel a group of its own) and stride 1: with rows as long as the input's, columns are copied in long stretches; what
# lies behind the end of a row is dropped.


def _depthwise(xp: ModuleType, x: Array, weight: Array, dilation: Pair, size: Pair) -> Array:
    y = xp.empty((*x.shape[:2], *size), x.dtype)
    matrices = xp.ascontiguousarray(weight.reshape(weight.shape[0], 1, -1))
    for images, columns in _long_columns(xp, x, weight.shape[2:], dilation, size):
        y[images] = _rows(xp, matrices @ columns, len(y[images]), x.shape[3], size).swapaxes(0, 1)
    return y


def _depthwise_backward_weight(xp: ModuleType, gradient: Array, x: Array, window: Pair, dilation: Pair) -> Array:
    result = xp.zeros((x.shape[1], window[0] * window[1], 1), gradient.dtype)
    for images, columns in _long_columns(xp, x, window, dilation, gradient.shape[2:]):
        long = xp.zeros((x.shape[1], columns.shape[2], 1), gradient.dtype)
        _rows(xp, long, len(gradient[images]), x.shape[3], gradient.shape[2:])[...] = gradient[images].swapaxes(0, 1)
        result += columns @ long
    return result


def _long_columns(xp: ModuleType, x: Array, window: Pair, dilation: Pair, size: Pair) -> Iterator[tuple[slice, Array]]:
    """As `_columns`, (C, kh · kw, images · length), where `length` reaches to the last element that counts."""
    x = xp.ascontiguousarray(x)
    n, c, h, w = x.strides
    shape = (x.shape[1], *window, x.shape[0], (size[0] - 1) * x.shape[3] + size[1])
    windows = xp.lib.stride_tricks.as_strided(x, shape, (c, h * dilation[0], w * dilation[1], n, w))
    for images in _chunks(x.shape[0], x.shape[1] * window[0] * window[1], size):
        yield images, windows[:, :, :, images].reshape(x.shape[1], window[0] * window[1], -1)


def _rows(xp: ModuleType, long: Array, num_images: int, width: int, size: Pair) -> Array:
    """C vectors of images · length elements → the view (C, images, *size) of what counts in them."""
    item = long.itemsize
    length = (size[0] - 1) * width + size[1]
    strides = (num_images * length * item, length * item, width * item, item)
    return xp.lib.stride_tricks.as_strided(long, (len(long), num_images, *size), strides)
