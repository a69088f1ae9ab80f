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
