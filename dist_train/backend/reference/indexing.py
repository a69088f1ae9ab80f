"""Adding to chosen places of an array: the gradient of every kind of indexing."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np

from ..device import Array
from ..kernels import kernel


@kernel
def scatter_add(xp: ModuleType, target: Array, index: Any, values: Array) -> Array:
    """target[index] += values, where a place named several times gets every one of its values; changes and returns `target`.

    In the order of `values`, so the result has the same bits each time (on a GPU, floating-point sums may differ in the last bit).
    """
    if isinstance(index, np.ndarray) and index.dtype.kind != "b" and target.ndim > 1 and target.flags.c_contiguous:
        return _add_rows(target, index, values)
    xp.add.at(target, index, values)
    return target


def _add_rows(target: Array, index: Array, values: Array) -> Array:
    """The same for whole slices of the first axis: through flat positions, for which `np.add.at` has its fast loop."""
    width = target[0].size if len(target) else 0
    rows = np.where(index < 0, index + len(target), index).reshape(-1, 1)
    positions = rows * width + np.arange(width)
    np.add.at(target.reshape(-1), positions.reshape(-1), values.reshape(-1))
    return target
