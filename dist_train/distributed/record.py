"""The small message of a step: what every rank must know, gathered once after the gradients have been reduced.

A rank's part is a header (optimizer, its steps, steps of the loop, whether its set of missing gradients is news), its partial sums of the
micro-batches' records [w, w·loss, w·changes of the running statistics], and the sums of squares of its slice's blocks. All in float64.
The parts of all ranks lie one after another in memory that the ranks of a node share; only those of other nodes travel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import numpy as np

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
        steps = [start + k for start in starts[:-1] for k in range(_HEADER - 1)]
        news = [start + _HEADER - 1 for start in starts[:-1]]
        sums = [start + k for start in rows for k in range(size)]
        blocks_in_order = [place for i in range(len(flats)) for row in squares for place in range(row[i], row[i + 1])]
        self._index = np.array(steps + news + sums + blocks_in_order)
        self._found = np.empty(len(self._index))
        ends = list(accumulate(map(len, (steps, news, sums, blocks_in_order))))
        self._steps, self._news, sums_found, self._squares = np.split(self._found, ends[:-1])
        self._rows = sums_found.reshape(-1, size)
        self._levels = _levels(additions([span for own in spans for span in own], (0, micro_batches)))
        self._last = [starts[rank] + _HEADER + (len(spans[rank]) - 1) * size for rank in layout.nodes[layout.lane.rank]]
        lane = [ranks[layout.node.rank] for ranks in layout.nodes]
        self._starts, self._lengths = [starts[rank] for rank in lane], [lengths[rank] for rank in lane]
        part = self._everything[starts[comm.rank] : starts[comm.rank + 1]]
        self._header = part[:_HEADER]
        self.partials = part[_HEADER : _HEADER + len(spans[comm.rank]) * size].reshape(-1, size)
        self.squares = [self._everything[start:stop] for start, stop in pairwise(squares[comm.rank])]

    def weights(self) -> list[float]:
        """The weights of the last micro-batches of the node's ranks, once these have written them."""
        return [float(self._everything[place]) for place in self._last]

    def gather(self, header: tuple[int, int, int, bool]) -> StepRecord:
        """Everyone's parts, added up. RuntimeError when the ranks are not in the same step of the same optimizer."""
        own = self._header
        own[0], own[1], own[2], own[3] = header
        self._layout.lane.gather_slices(self._everything, self._starts, self._lengths)
        self._layout.node.barrier()
        self._everything.take(self._index, out=self._found, mode="clip")  # "clip": else `out` is copied
        _check_same_step(self._steps)
        for left, right in self._levels:
            self._rows[left] += self._rows[right]
        weight, weighted_loss = self._rows[0, :2].tolist()
        news = self._news.tobytes() != bytes(self._news.nbytes)
        return StepRecord(weight, weighted_loss, self._rows[0, 2:], float(np.add.reduce(self._squares)), news)


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


def _check_same_step(steps: Vector) -> None:
    """`steps` has three numbers of every rank."""
    found = steps.tobytes()
    if found != found[:24] * (len(steps) // 3):
        rows = steps.reshape(-1, 3)
        rank = int(np.flatnonzero((rows != rows[0]).any(axis=1))[0])
        (number, step, begun), (other_number, other_step, other_begun) = rows[0], rows[rank]
        raise RuntimeError(
            f"rank 0 is in step {step:.0f} of optimizer {number:.0f} and has begun {begun:.0f} steps of the loop, rank {rank} is in "
            f"step {other_step:.0f} of optimizer {other_number:.0f} and has begun {other_begun:.0f}: every rank must call the "
            "optimizers' step() equally often and in the same order, and leave no micro-batch of the loop out"
        )
