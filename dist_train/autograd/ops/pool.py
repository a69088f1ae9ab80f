"""Pooling over images."""

from __future__ import annotations

from typing import Any

from ...backend.device import array_module
from ...backend.reference import pool as kernels
from ...backend.reference.pad import Widths
from ..engine import Array
from ..function import Op
from ..tensor import Tensor
from .geometry import Pair, as_images, only, pair


class MaxPool2d(Op):
    def forward(self, x: Array, *, window: Pair, stride: Pair, padding: Widths, dilation: Pair, size: Pair) -> Array:
        y, index = kernels.max_pool(x, window, stride, padding, dilation, size)
        self.saved = index, x.shape, (window, stride, padding, dilation)
        return y

    def backward(self, gradient: Array) -> Array:
        index, shape, geometry = self.saved
        return kernels.max_pool_backward(gradient, index, shape, *geometry)


class AvgPool2d(Op):
    def forward(self, x: Array, *, window: Pair, stride: Pair, padding: Widths, size: Pair, divisor: Any) -> Array:
        self.saved = x.shape, (window, stride, padding, divisor)
        return kernels.avg_pool(x, window, stride, padding, size, divisor)

    def backward(self, gradient: Array) -> Array:
        shape, geometry = self.saved
        return kernels.avg_pool_backward(gradient, shape, *geometry)


class AdaptiveAvgPool2d(Op):
    """Two products with matrices of averages: rows @ x @ columnsᵀ."""

    def forward(self, x: Array, *, size: Pair) -> Array:
        rows, columns = (_averages(x, length, wanted) for length, wanted in zip(x.shape[2:], size))
        self.saved = rows, columns
        return rows @ (x @ columns.T)

    def backward(self, gradient: Array) -> Array:
        rows, columns = self.saved
        return rows.T @ (gradient @ columns)


def _averages(x: Array, length: int, wanted: int) -> Array:
    """(wanted, length): row i averages the positions from ⌊i·length/wanted⌋ up to ⌈(i+1)·length/wanted⌉."""
    xp = array_module(x)
    i, position = xp.arange(wanted)[:, None], xp.arange(length)
    inside = (position >= i * length // wanted) & (position < -(-(i + 1) * length // wanted))
    return (inside / inside.sum(1, keepdims=True)).astype(x.dtype)


def max_pool2d(
    input: Tensor,
    kernel_size: int | Pair,
    stride: int | Pair | None = None,
    padding: int | Pair = 0,
    dilation: int | Pair = 1,
    ceil_mode: bool = False,
) -> Tensor:
    """The maximum of each window: (N, C, H, W) or (C, H, W) → the same with smaller images. `stride` is `kernel_size` by default.

    The gradient goes to the first maximum. RuntimeError for an image smaller than the window, or padding above half the window.
    """
    window, spread = pair(kernel_size, "kernel_size"), pair(dilation, "dilation")
    steps = window if stride is None else pair(stride, "stride")
    sides = pair(padding, "padding", 0)
    size, widths = _geometry("max_pool2d", input.array, window, steps, sides, spread, ceil_mode)
    return _as_batch(MaxPool2d, input, window=window, stride=steps, padding=widths, dilation=spread, size=size)


def avg_pool2d(
    input: Tensor,
    kernel_size: int | Pair,
    stride: int | Pair | None = None,
    padding: int | Pair = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """The average of each window: (N, C, H, W) or (C, H, W) → the same with smaller images. `stride` is `kernel_size` by default.

    Sums are divided by the window's size (without the padding if not `count_include_pad`), or by `divisor_override`.
    """
    if divisor_override == 0:
        raise RuntimeError("avg_pool2d: divisor_override must not be 0")
    window = pair(kernel_size, "kernel_size")
    steps = window if stride is None else pair(stride, "stride")
    sides = pair(padding, "padding", 0)
    size, widths = _geometry("avg_pool2d", input.array, window, steps, sides, (1, 1), ceil_mode)
    divisor = divisor_override or _divisor(input.array, window, steps, sides, size, count_include_pad)
    return _as_batch(AvgPool2d, input, window=window, stride=steps, padding=widths, size=size, divisor=divisor)


def adaptive_avg_pool2d(input: Tensor, output_size: int | tuple[int | None, int | None] | None) -> Tensor:
    """Averages that give an image of `output_size` (None keeps a side), whatever the input's size."""
    height, width = as_images("adaptive_avg_pool2d", input.array).shape[2:]
    wanted = tuple(output_size) if isinstance(output_size, (tuple, list)) else (output_size, output_size)
    rows, columns = (have if want is None else want for have, want in zip((height, width), wanted))
    if rows > 0 and columns > 0 and not height % rows and not width % columns:
        return avg_pool2d(input, (height // rows, width // columns))
    return _as_batch(AdaptiveAvgPool2d, input, size=(rows, columns))


def max_pool1d(input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False) -> Tensor:
    """max_pool2d over the last axis of (N, C, L) or (C, L)."""
    window, steps, sides, spread = map(only, (kernel_size, kernel_size if stride is None else stride, padding, dilation))
    y = max_pool2d(input.unsqueeze(-2), (1, window), (1, steps), (0, sides), (1, spread), ceil_mode)
    return y.squeeze(-2)  # type: ignore[no-any-return]


def avg_pool1d(
    input: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Tensor:
    """avg_pool2d over the last axis of (N, C, L) or (C, L)."""
    window, steps, sides = map(only, (kernel_size, kernel_size if stride is None else stride, padding))
    y = avg_pool2d(input.unsqueeze(-2), (1, window), (1, steps), (0, sides), ceil_mode, count_include_pad)
    return y.squeeze(-2)  # type: ignore[no-any-return]


def _as_batch(op: type[Op], input: Tensor, **params: Any) -> Tensor:
    return op.apply(input, **params) if input.array.ndim == 4 else op.apply(input.unsqueeze(0), **params).squeeze(0)


def _geometry(name: str, x: Array, window: Pair, stride: Pair, padding: Pair, dilation: Pair, ceil_mode: bool) -> tuple[Pair, Widths]:
    """The output's size, and the padding per side, with what the last window needs beyond the image in ceil mode."""
    image = as_images(name, x).shape[2:]
    if padding[0] * 2 > window[0] or padding[1] * 2 > window[1]:
        raise RuntimeError(f"{name}: padding {padding} is more than half of the window {window}")
    (rows, top), (columns, left) = (_side(image[i], window[i], stride[i], padding[i], dilation[i], ceil_mode) for i in (0, 1))
    if rows < 1 or columns < 1:
        raise RuntimeError(f"{name}: an image of {image[0]} x {image[1]} is smaller than the window {window} (dilation {dilation})")
    return (rows, columns), (top, left)


def _side(length: int, window: int, stride: int, padding: int, dilation: int, ceil_mode: bool) -> tuple[int, Pair]:
    span = dilation * (window - 1) + 1
    room = length + 2 * padding - span
    size = (-(-room // stride) if ceil_mode else room // stride) + 1
    if ceil_mode and (size - 1) * stride >= length + padding:
        size -= 1  # a window must start inside the image or its first padding
    return size, (padding, max(padding, (size - 1) * stride + span - length - padding))


def _divisor(x: Array, window: Pair, stride: Pair, padding: Pair, size: Pair, include_padding: bool) -> Any:
    """How many positions each window averages over: a number, or (*size) where windows differ."""
    counts = [_counts(x.shape[i - 2], window[i], stride[i], padding[i], size[i], include_padding) for i in (0, 1)]
    if all(count == window[i] for i in (0, 1) for count in counts[i]):
        return window[0] * window[1]
    xp = array_module(x)
    return xp.asarray(counts[0], x.dtype)[:, None] * xp.asarray(counts[1], x.dtype)


def _counts(length: int, window: int, stride: int, padding: int, size: int, include_padding: bool) -> list[int]:
    starts = [i * stride - padding for i in range(size)]
    low, high = (-padding, length + padding) if include_padding else (0, length)
    return [min(start + window, high) - max(start, low) for start in starts]
