"""The small message of a step: what every rank must know, gathered once after the gradients have been reduced.

A rank sends a header (optimizer, its steps, steps of the loop, whether its set of missing gradients is news), the sums of squares of its
slice's blocks, and its partial sums of the micro-batches' records [w, w·loss, w·changes of the running statistics]. All in float64.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import numpy as np

from ..comm.base import Communicator
from .flat import BLOCK, FlatGradient
from .fold import combine, share, subtrees

Vector = np.ndarray[Any, np.dtype[np.float64]]
_HEADER = 4


@dataclass(frozen=True)
class StepRecord:
    """What all ranks know of a step: sums over its micro-batches, and the gradient's squares block by block."""

    weight: float
    weighted_loss: float
    changes: Vector  # of the running statistics, times the weights
    squares: Vector
    news: bool  # whether some rank's set of missing gradients is another than in the last step


class RecordExchange:
    """Gathers the ranks' records, whose layout is fixed by the flat vectors and by `size`, the length of a micro-batch's record."""

    def __init__(self, comm: Communicator, micro_batches: int, flats: Sequence[FlatGradient], size: int) -> None:
        self._comm, self._whole = comm, (0, micro_batches)
        all_spans = [subtrees(share(rank, comm.size, micro_batches), self._whole) for rank in range(comm.size)]
        self._lengths: list[int] = []
        squares: list[list[slice]] = [[] for _ in flats]
        self._rows = []  # span, place of its partial sum
        for counts, spans in zip(zip(*(flat.counts for flat in flats)), all_spans):
            start = sum(self._lengths) + _HEADER
            blocks = list(accumulate((count // BLOCK for count in counts), initial=start))
            for places, (a, b) in zip(squares, pairwise(blocks)):
                places.append(slice(a, b))
            self._rows += [(span, slice(blocks[-1] + i * size, blocks[-1] + (i + 1) * size)) for i, span in enumerate(spans)]
            self._lengths.append(blocks[-1] + len(spans) * size - start + _HEADER)
        self._squares = [place for places in squares for place in places]
        self._headers = list(accumulate(self._lengths[:-1], initial=0))

    def gather(self, header: tuple[int, int, int, bool], squares: Sequence[Vector], partials: Sequence[Vector]) -> StepRecord:
        """Everyone's records, folded. RuntimeError when the ranks are not in the same step of the same optimizer."""
        everything = self._comm.all_gather_varying(np.concatenate([header, *squares, *partials]), self._lengths)
        headers = [tuple(everything[start : start + _HEADER].tolist()) for start in self._headers]
        _check_same_step(headers)
        total = combine({span: everything[place] for span, place in self._rows}, self._whole, np.add)
        return StepRecord(
            weight=float(total[0]),
            weighted_loss=float(total[1]),
            changes=total[2:],
            squares=np.concatenate([everything[place] for place in self._squares]),
            news=any(header[-1] for header in headers),
        )


def _check_same_step(headers: Sequence[tuple[float, ...]]) -> None:
    number, step, begun, _ = headers[0]
    for rank, (other_number, other_step, other_begun, _) in enumerate(headers):
        if (other_number, other_step, other_begun) != (number, step, begun):
            raise RuntimeError(
                f"rank 0 is in step {step:.0f} of optimizer {number:.0f} and has begun {begun:.0f} steps of the loop, rank {rank} is in "
                f"step {other_step:.0f} of optimizer {other_number:.0f} and has begun {other_begun:.0f}: every rank must call the "
                "optimizers' step() equally often and in the same order, and leave no micro-batch of the loop out"
            )
