"""Elementwise kernels of many operations run block by block: every operation then finds its operands in the cache."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType

import numpy as np

from ..device import Array

BLOCK = 32768  # elements (GELU of 1.6 M elements takes 6.8 ms with 8192, 5.4 with 16384, 4.5 with this and 4.3 with twice as many)


def blocks(xp: ModuleType, *arrays: Array) -> Iterator[tuple[Array, ...]]:
    """Arrays of one shape → the same part of each, flat, one part after another; a GPU takes everything at once.

    Parts are views where the array is contiguous (as a result made with `empty` is), else copies. Every element is computed
    alike wherever the cuts are, so they change no bit.
    """
    flat = [array.reshape(-1) for array in arrays]
    size = flat[0].size
    if xp is not np or size <= BLOCK:
        yield tuple(flat)
        return
    for start in range(0, size, BLOCK):
        yield tuple([array[start : start + BLOCK] for array in flat])
