"""The small message of a step: what every rank must know, gathered once after the gradients have been reduced.

A rank sends a header (optimizer, step, whether its set of missing gradients is news), the sums of squares of its slice's blocks, and its
partial sums of the micro-batches' records [w, w·loss, w·changes of the running statistics]. All in float64; its length is known to all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .flat import BLOCK, FlatGradient
from .fold import combine
from .reduction import SliceReduction

Vector = np.ndarray[Any, np.dtype[np.float64]]
_HEADER = 3


class StepRecord:
    """Everyone's records of a step: `weight`, `weighted_loss` and `changes` folded over the micro-batches, and the blocks' squares."""

    def __init__(
        self,
        reduction: SliceReduction,
        flats: Sequence[FlatGradient],
        header: tuple[int, int, bool],
        squares: Sequence[Vector],
        partials: Sequence[Vector],
    ) -> None:
        comm, spans = reduction.comm, reduction.spans
        blocks = [[flat.counts[rank] // BLOCK for flat in flats] for rank in range(comm.size)]
        lengths = [_HEADER + sum(blocks[rank]) + len(partials[0]) * len(spans[rank]) for rank in range(comm.size)]
        send = np.concatenate([np.array(header, np.float64), *squares, *partials])
        parts = np.split(comm.all_gather_varying(send, lengths), np.cumsum(lengths)[:-1])
        _check_same_step(parts)
        self.news = any(part[2] for part in parts)
        cuts = [np.cumsum([_HEADER, *counts]) for counts in blocks]
        self.squares = np.concatenate([part[cut[i] : cut[i + 1]] for i in range(len(flats)) for part, cut in zip(parts, cuts)])
        rows = {
            span: row
            for rank, part in enumerate(parts)
            for span, row in zip(spans[rank], part[cuts[rank][-1] :].reshape(len(spans[rank]), -1))
        }
        total = combine(rows, reduction.whole, np.add)
        self.weight, self.weighted_loss, self.changes = float(total[0]), float(total[1]), total[2:]


def _check_same_step(records: Sequence[Vector]) -> None:
    for rank, record in enumerate(records):
        if (record[:2] != records[0][:2]).any():
            raise RuntimeError(
                f"rank 0 is in step {int(records[0][1])} of optimizer {int(records[0][0])}, rank {rank} in step {int(record[1])} of "
                f"optimizer {int(record[0])}: every rank must call the optimizers' step() equally often and in the same order"
            )
