"""Resizing along one axis: each new position is a weighted mean of two old ones."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np

from ..device import Array
from ..kernels import kernel

Positions = tuple[Any, Any, Any]  # NumPy arrays, one entry per new position: the two old ones and the share of the second (None: 0)


@kernel
def resize(xp: ModuleType, x: Array, positions: Positions, axis: int) -> Array:
    """x at the first positions, or between the first and the second."""
    low, high, share = positions
    first = x.take(xp.asarray(low), axis)
    if share is None:
        return first
    shares = xp.asarray(share.astype(x.dtype)).reshape(-1, *(1,) * (-1 - axis))
    first *= 1 - shares
    first += x.take(xp.asarray(high), axis) * shares
    return first


@kernel
def resize_backward(xp: ModuleType, gradient: Array, positions: Positions, axis: int, length: int) -> Array:
    """The gradient of x, `length` positions along `axis`, which is −1 or −2: a product with the matrix of shares."""
    low, high, share = positions
    matrix = np.zeros((len(low), length), gradient.dtype)
    rows = np.arange(len(low))
    matrix[rows, low] += 1 if share is None else (1 - share).astype(gradient.dtype)
    if share is not None:
        matrix[rows, high] += share.astype(gradient.dtype)
    shares = xp.asarray(matrix)
    return gradient @ shares if axis == -1 else shares.T @ gradient
