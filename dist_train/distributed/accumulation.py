"""What a rank has added up of the current step: the fold of its micro-batches' gradients and of their records."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..backend.reference import fold as kernels
from .flat import FlatVector
from .fold import Span, local_additions
from .record import numbers

Array = Any


class StepAccumulation:
    """Takes this rank's micro-batches one by one.

    The gradients' partial sums then lie in the flat vectors, sum k in vector k + 1, and the records' in the rows of `records`. The last
    micro-batch stays as it is: its gradient in vector 0, its record, which has the weight of that, in the last row.
    """

    def __init__(
        self, flats: Sequence[FlatVector], num_parameters: int, share: Span, micro_batches: int, records: np.ndarray[Any, Any]
    ) -> None:
        self._flats, self._share, self._records = flats, share, records
        self._numbers = numbers(records)
        self._additions = local_additions(share, micro_batches)
        self.losses: list[Array] = []  # of the current micro-batch's backward passes
        self.written = bytearray(num_parameters)  # which parameters had a gradient
        self.reset()

    def reset(self) -> None:
        """Begin a step."""
        self._next = self._share[0]
        self._depth = 0  # partial sums
        self._closed = [False] * len(self._flats)
        self.added = 0  # micro-batches that have ended
        self.losses.clear()
        self.written[:] = bytes(len(self.written))

    def add(self, leaf: int, weight: float, factor: float, changes: np.ndarray[Any, Any]) -> None:
        """Micro-batch number `leaf` has ended: take in its gradients times `factor`, and, times `weight`, its loss and its changes of the
        running statistics."""
        assert leaf >= self._next, (leaf, self._next)
        self._add_absent(leaf)
        self.settle()
        loss = sum(map(float, self.losses)) if self.losses else math.nan
        self.losses.clear()
        self._take(factor, weight, weight * loss, changes)
        self.added += 1

    def close(self, number: int, leaf: int, weight: float) -> None:
        """Flat vector `number` has the whole gradient of the rank's last leaf: nothing is written to it until the step is over."""
        assert leaf == self._share[1] - 1, (leaf, self._share)
        self._add_absent(leaf)
        self._numbers[-1, 0] = weight
        self._flats[number].settle(self.written)
        self._closed[number] = True

    def finish(self) -> None:
        """All of this rank's micro-batches with samples have ended; the rest are zeros of weight zero."""
        self._add_absent(self._share[1])

    def settle(self) -> None:
        """Leave no `.grad`: the vectors hold the current micro-batch's gradient."""
        for flat, closed in zip(self._flats, self._closed):
            if not closed:
                flat.settle(self.written)

    def _add_absent(self, stop: int) -> None:
        while self._next < stop:
            self._take(0.0, 0.0, 0.0, 0.0, absent=True)

    def _take(self, factor: float, weight: float, weighted_loss: float, changes: Any, absent: bool = False) -> None:
        """The next leaf: what the vectors hold, or zeros for one without samples."""
        place = self._next - self._share[0]
        self._next += 1
        if self._next == self._share[1]:
            self._set(-1, weight, weighted_loss, changes)
            if absent:
                for flat in self._flats:
                    flat.gradient[...] = 0
        elif self._additions[place]:
            self._merge(factor, weight, weighted_loss, changes, absent)
            self._add_sums(self._additions[place] - 1)
        else:
            self._set(self._depth, weight, weighted_loss, changes)
            self._depth += 1
            for flat in self._flats:
                if absent:
                    flat.own_vectors[self._depth][...] = 0
                else:
                    kernels.scale(flat.gradient, factor, flat.own_vectors[self._depth])

    def _merge(self, factor: float, weight: float, weighted_loss: float, changes: Any, absent: bool) -> None:
        """Add the leaf to the last partial sum."""
        sums = self._records[self._depth - 1]
        sums[:2] += weight, weighted_loss
        sums[2:] += weight * changes
        for flat in self._flats:
            total = flat.own_vectors[self._depth]
            if absent:
                total += 0.0  # as any zero would, it makes −0 of the sum 0
            else:
                _add(total, flat.gradient, factor)

    def _set(self, row: int, weight: float, weighted_loss: float, changes: Any) -> None:
        self._numbers[row, 0], self._numbers[row, 1] = weight, weighted_loss
        if self._numbers.shape[1] > 2:
            self._records[row, 2:] = weight * changes

    def _add_sums(self, count: int) -> None:
        """Add the last two partial sums, `count` times."""
        for _ in range(count):
            self._depth -= 1
            self._records[self._depth - 1] += self._records[self._depth]
            for flat in self._flats:
                _add(flat.own_vectors[self._depth], flat.own_vectors[self._depth + 1], 1.0)


def _add(total: Array, source: Array, factor: float) -> None:
    kernels.fold_blocks(total, (total, source), (1.0, factor), (0, 1), None)
