"""The arithmetic of the reduction: weigh leaves, add partial sums in the order of a tree, sum squares in fixed blocks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import Any

import numpy as np

from ..device import to_host
from ..floating import quiet
from ..kernels import kernel

Array = Any

BLOCK = 1024  # elements whose squares are added up together, wherever slices are cut
LANES = 64  # sums that run side by side within a block, so that the order of additions is that of every instruction set
_CHUNK = 8 * BLOCK  # elements worked on at a time on a CPU: larger temporary arrays would be new pages every time


@kernel
def scale(xp: ModuleType, source: Array, factor: float, out: Array) -> None:
    """out = factor · source, all of one type; `out` may be `source`."""
    if factor != 1.0:
        xp.multiply(source, factor, out=out)
    elif out is not source:
        out[...] = source


@kernel
def divide(xp: ModuleType, array: Array, divisor: float) -> None:
    """array = array / divisor, in place."""
    if divisor != 1.0:
        xp.divide(array, divisor, out=array)


@kernel
def fold_blocks(
    xp: ModuleType, out: Array, sources: Sequence[Array], weights: Sequence[float], additions: Sequence[int], squares: Array | None
) -> None:
    """out = Σ weights[i] · sources[i], added up in the order that `additions` gives; squares[b] = the sum of squares of block b of `out`.

    One source after another goes onto a stack; after source i the two topmost sums are added, additions[i] times. Products are rounded
    before they are added. All vectors are 1-D, of the same whole number of blocks; `out` may be one of the sources. `squares` is float64
    and on the host, or None where nobody needs it.
    """
    with quiet():
        for part in _chunks(xp, out.size):
            stack: list[Array] = []
            for source, weight, count in zip(sources, weights, additions):
                stack.append(_weighted(source[part], weight))
                for _ in range(count):
                    right = stack.pop()
                    stack[-1] = stack[-1] + right
            (total,) = stack
            out[part] = total
            if squares is not None:
                squares[part.start // BLOCK : part.stop // BLOCK] = to_host(_square_sums(xp, total))


@kernel
def take_and_sum(xp: ModuleType, source: Array, index: Array, out: Array, first: int) -> float:
    """out = source[index], all 1-D; the sum of out[first:]. Numbers are float64, on the host, and `index` lies within them."""
    source.take(index, out=out, mode="clip")  # "clip": else `out` is copied
    return float(xp.add.reduce(out[first:]))


def _chunks(xp: ModuleType, size: int) -> Iterator[slice]:
    step = _CHUNK if xp is np else max(1, size)
    return (slice(start, min(start + step, size)) for start in range(0, size, step))


def _weighted(source: Array, weight: float) -> Array:
    return source if weight == 1.0 else source * weight


def _square_sums(xp: ModuleType, vector: Array) -> Array:
    """Sums of squares of the blocks of a 1-D vector, in float64."""
    rows = vector.astype("float64").reshape(-1, BLOCK // LANES, LANES)
    lanes = xp.add.reduce(rows * rows, axis=1)  # (blocks, LANES)
    while lanes.shape[1] > 1:
        half = lanes.shape[1] // 2
        lanes = lanes[:, :half] + lanes[:, half:]
    return lanes[:, 0]
