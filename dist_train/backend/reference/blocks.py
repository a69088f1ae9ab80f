"""Elementwise kernels of many operations run block by block: every operation then finds its operands in the cache."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType

import numpy as np

from ..device import Array

BLOCK = 32768  # elements; smaller ones pay more for the calls, larger ones leave the cache (4 M elements of GELU: 19, 13 and 18 ms)


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
