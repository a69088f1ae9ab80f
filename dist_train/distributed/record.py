"""The small message of a step: what every rank must know, gathered once after the gradients have been reduced.

A rank's part is a header (optimizer, its steps, steps of the loop, whether its set of missing gradients is news), its partial sums of the
micro-batches' records [w, w·loss, w·changes of the running statistics], and the sums of squares of its slice's blocks. All in float64.
The parts of all ranks lie one after another in memory that the ranks of a node share; only those of other nodes travel.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import numpy as np

from ..backend.reference import fold as kernels
from ..backend.reference.fold import BLOCK
from ..comm.base import Communicator
from .flat import FlatGradient
from .fold import additions, held, share

Vector = np.ndarray[Any, np.dtype[np.float64]]
_HEADER = 4
_LINE = 8  # elements of a cache line: ranks do not write to each other's


@dataclass(slots=True)
class StepRecord:
    """What all ranks know of a step: sums over its micro-batches, and of the gradient's squares."""

    weight: float
    weighted_loss: float
    changes: Vector  # of the running statistics, times the weights
    squares: float  # added up block by block
    news: bool  # whether some rank's set of missing gradients is another than in the last step


class RecordExchange:
    """Gathers the ranks' parts, whose layout is fixed by the flat vectors and by `size`, the length of a micro-batch's record.

    This rank writes `squares`, per flat vector, and `partials`, a row per partial sum, before it calls `gather`.
    """

    def __init__(self, comm: Communicator, micro_batches: int, flats: Sequence[FlatGradient], size: int) -> None:
        self._layout = layout = flats[0].layout
        spans = [held(share(rank, comm.size, micro_batches), micro_batches) for rank in range(comm.size)]
        blocks = [[flat.counts[rank] // BLOCK for flat in flats] for rank in range(comm.size)]
        lengths = [-(-(_HEADER + len(own) * size + sum(counts)) // _LINE) * _LINE for own, counts in zip(spans, blocks)]
        starts = list(accumulate(lengths, initial=0))
        self._everything: Vector = layout.node.memory([8 * starts[-1]] + [0] * (layout.node.size - 1)).view(np.float64)
        rows = [start + _HEADER + k * size for start, own in zip(starts, spans) for k in range(len(own))]
        squares = [list(accumulate(counts, initial=start + _HEADER + len(own) * size)) for start, own, counts in zip(starts, spans, blocks)]
        headers = [start + k for start in starts[:-1] for k in range(_HEADER)]
        sums = [start + k for start in rows for k in range(size)]
        blocks_in_order = [place for i in range(len(flats)) for row in squares for place in range(row[i], row[i + 1])]
        self._index = np.array(headers + sums + blocks_in_order)
        self._found = np.empty(len(self._index))
        self._num_sums = len(headers) + len(sums)
        self._headers = self._found[: len(headers)]
        self._rows = self._found[len(headers) : self._num_sums].reshape(-1, size)
        self._total, self._changes = numbers(self._rows[0]), self._rows[0, 2:]
        self._levels = _levels(additions([span for own in spans for span in own], (0, micro_batches)))
        self._last = [starts[rank] + _HEADER + (len(spans[rank]) - 1) * size for rank in layout.nodes[layout.lane.rank]]
        lane = [ranks[layout.node.rank] for ranks in layout.nodes]
        self._starts, self._lengths = [starts[rank] for rank in lane], [lengths[rank] for rank in lane]
        self._numbers = numbers(self._everything)
        self._header = slice(starts[comm.rank], starts[comm.rank] + _HEADER)
        part = self._everything[starts[comm.rank] : starts[comm.rank + 1]]
        self.partials = part[_HEADER : _HEADER + len(spans[comm.rank]) * size].reshape(-1, size)
        self.squares = [self._everything[start:stop] for start, stop in pairwise(squares[comm.rank])]

    def weights(self) -> list[float]:
        """The weights of the last micro-batches of the node's ranks, once these have written them."""
        return [self._numbers[place] for place in self._last]

    def gather(self, header: tuple[int, int, int, bool]) -> StepRecord:
        """Everyone's parts, added up. RuntimeError when the ranks are not in the same step of the same optimizer."""
        own = array("d", header)
        self._numbers[self._header] = own
        self._layout.lane.gather_slices(self._everything, self._starts, self._lengths)
        self._layout.node.barrier()
        squares = kernels.take_and_sum(self._everything, self._index, self._found, self._num_sums)
        alike = self._headers.tobytes() == own.tobytes() * (len(self._headers) // _HEADER)
        news = header[3] if alike else _news(self._headers.reshape(-1, _HEADER))
        for left, right in self._levels:
            self._rows[left] += self._rows[right]
        return StepRecord(self._total[0], self._total[1], self._changes, squares, news)


def numbers(values: np.ndarray[Any, Any]) -> Any:
    """A view of `values` that gives and takes single numbers in a third of the time."""
    return memoryview(values)  # type: ignore[arg-type]


def _levels(program: Sequence[int]) -> list[tuple[list[int], list[int]]]:
    """A program of additions as (rows, rows to be added to them), one pair for each level of the tree."""
    levels: list[tuple[list[int], list[int]]] = []
    stack: list[tuple[int, int]] = []  # row, height
    for row, count in enumerate(program):
        stack.append((row, 0))
        for _ in range(count):
            (left, left_height), (right, right_height) = stack[-2:]
            height = max(left_height, right_height)
            if height == len(levels):
                levels.append(([], []))
            levels[height][0].append(left)
            levels[height][1].append(right)
            stack[-2:] = [(left, height + 1)]
    return levels


def _news(headers: Vector) -> bool:
    """Whether some rank has news; RuntimeError where the ranks are not in the same step. A row of `headers` for each rank."""
    steps = headers[:, :3]
    others = np.flatnonzero((steps != steps[0]).any(axis=1))
    if not len(others):
        return bool(headers[:, 3].any())
    (number, step, begun), (other_number, other_step, other_begun) = steps[0], steps[others[0]]
    raise RuntimeError(
        f"rank 0 is in step {step:.0f} of optimizer {number:.0f} and has begun {begun:.0f} steps of the loop, rank {others[0]} is in "
        f"step {other_step:.0f} of optimizer {other_number:.0f} and has begun {other_begun:.0f}: every rank must call the "
        "optimizers' step() equally often and in the same order, and leave no micro-batch of the loop out"
    )
