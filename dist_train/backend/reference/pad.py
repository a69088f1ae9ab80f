"""Padding with a constant."""

from __future__ import annotations

from types import ModuleType

from ..device import Array
from ..kernels import kernel

Widths = tuple[tuple[int, int], ...]


@kernel
def pad(xp: ModuleType, x: Array, widths: Widths, value: float) -> Array:
    """x with (before, after) elements of `value` added along each of its last len(widths) axes; negative numbers cut off."""
    widths = ((0, 0),) * (x.ndim - len(widths)) + tuple(widths)
    y = xp.full([n + before + after for n, (before, after) in zip(x.shape, widths)], value, x.dtype)
    inside = tuple([slice(max(before, 0), n - max(after, 0)) for n, (before, after) in zip(y.shape, widths)])
    taken = tuple([slice(max(-before, 0), n - max(-after, 0)) for n, (before, after) in zip(x.shape, widths)])
    y[inside] = x[taken]
    return y


def padded(x: Array, widths: Widths, value: float = 0) -> Array:
    """x with `widths` around it, or x itself where they are all 0."""
    return pad(x, widths, value) if any(map(any, widths)) else x


def padded_shape(shape: tuple[int, ...], widths: Widths) -> tuple[int, ...]:
    """The shape of an array of `shape` with `widths` around its last axes."""
    return (*shape[: -len(widths)], *(n + before + after for n, (before, after) in zip(shape[-len(widths) :], widths)))


def cropped(x: Array, widths: Widths) -> Array:
    """The reverse of `padded`: a view, unless there are negative widths, which add zeros."""
    if any(n < 0 for both in widths for n in both):
        return pad(x, tuple((-before, -after) for before, after in widths), 0)
    return x[(..., *(slice(before, n - after) for n, (before, after) in zip(x.shape[-len(widths) :], widths)))]
