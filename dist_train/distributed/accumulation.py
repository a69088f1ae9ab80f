"""What a rank has added up of the current step: the fold of its micro-batches' gradients and of their records."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..backend.reference import fold as kernels
from .flat import Entry, FlatVector
from .fold import LocalFold, Span

Array = Any


class StepAccumulation:
    """Takes this rank's micro-batches one by one. The gradients' partial sums then lie in the flat vectors (`fold.places` says where)."""

    def __init__(self, flats: Sequence[FlatVector], entries: Sequence[Entry], share: Span, micro_batches: int, record_size: int) -> None:
        self._flats, self._entries, self._share, self._record_size = flats, entries, share, record_size
        self._folds = [LocalFold(micro_batches) for _ in flats]
        self._records = LocalFold(micro_batches)
        self._next = share[0]
        self.added = 0  # micro-batches that have ended
        self.written = np.zeros(len(entries), bool)  # which parameters had a gradient
        self.losses: list[Array] = []  # of the current micro-batch's backward passes

    @property
    def records(self) -> list[Array]:
        """The partial sums of the records, left to right."""
        return [array for _, array in self._records.partials]

    def add(self, leaf: int, weight: float, changes: np.ndarray[Any, Any]) -> None:
        """Micro-batch number `leaf` has ended: take in its gradients, loss and changes of the running statistics."""
        assert leaf >= self._next, (leaf, self._next)
        self.written |= [entry.parameter.grad is not None for entry in self._entries]
        self.settle()
        self._add_absent(leaf)
        for flat, fold in zip(self._flats, self._folds):
            target = flat.gradient if fold.merges(leaf) else self._place(flat, fold, leaf)
            kernels.scale(flat.gradient, weight, target)
            fold.add(leaf, target)
        loss = sum(map(float, self.losses)) if self.losses else math.nan
        self.losses.clear()
        self._records.add(leaf, np.concatenate([(weight, weight * loss), weight * changes]))
        self._next = leaf + 1
        self.added += 1

    def finish(self) -> None:
        """All of this rank's micro-batches with samples have ended; the rest are zeros of weight zero."""
        self._add_absent(self._share[1])

    def settle(self) -> None:
        for flat in self._flats:
            flat.settle()

    def _place(self, flat: FlatVector, fold: LocalFold, leaf: int) -> Array:
        """The vector for a leaf that begins a partial sum (see `fold.places`)."""
        return flat.own_vectors[0 if leaf == self._share[1] - 1 else len(fold.partials) + 1]

    def _add_absent(self, stop: int) -> None:
        for leaf in range(self._next, stop):
            for flat, fold in zip(self._flats, self._folds):
                if fold.merges(leaf):
                    fold.add(leaf, 0.0)
                else:
                    zeros = self._place(flat, fold, leaf)
                    zeros[...] = 0
                    fold.add(leaf, zeros)
            self._records.add(leaf, np.zeros(self._record_size))
            self._next = leaf + 1
