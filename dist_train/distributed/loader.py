"""The loader that `distribute` returns, and `split`, which deals batches out for evaluation."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

from .. import comm as comm_
from ..utils.data.loader import DataLoader
from .schedule import MicroBatch, Schedule


class StepLoader:
    """Yields this rank's micro-batches of each global batch and tells the schedule which one runs.

    `len()` is the number of steps of an epoch. A rank whose share of a step has no samples gets one sample of the step as a stand-in
    whose results are not counted, so the loop body runs equally often wherever it meets the other ranks.
    """

    def __init__(self, loader: DataLoader, schedule: Schedule, rank: int, size: int, weight: Callable[[Any], float] | None) -> None:
        self.loader = loader
        self._newest: object = None  # the iteration that was begun last
        self._schedule, self._rank, self._size, self._weight = schedule, rank, size, weight
        # Only the ratio of weights matters. A whole micro-batch weighs 1, where all have one size: its gradient is then taken as it is.
        whole, rest = divmod(loader.batch_size or 0, schedule.micro_batches)
        self._unit = whole if whole and not rest else 1

    def __iter__(self) -> Iterator[Any]:
        self._schedule.leave()  # an older iterator that is still open
        self._newest = iteration = object()
        try:
            for item in self.loader.shards(self._rank, self._size, self._schedule.micro_batches):
                micro_batch = MicroBatch(item.index, self._weight_of(item), item.last, ghost=item.size == 0)
                self._schedule.begin(micro_batch, self.loader.epoch, item.step)
                yield item.batch
            self._schedule.complete()
        finally:
            if self._newest is iteration:
                self._schedule.finish(self.loader.epoch)

    def _weight_of(self, item: Any) -> float:
        if self._weight is None or item.size == 0:
            return float(item.size / self._unit)
        weight = float(self._weight(item.batch))
        if not 0 <= weight < math.inf:
            raise ValueError(
                f"weight(batch) is {weight} for micro-batch {item.index} of {item.size} samples: it must be at least 0, and finite"
            )
        return weight

    def __len__(self) -> int:
        return len(self.loader)

    @property
    def epoch(self) -> int:
        """The number of epochs finished."""
        return self.loader.epoch

    @property
    def dataset(self) -> Any:
        return self.loader.dataset

    @property
    def batch_size(self) -> int | None:
        """The global batch size."""
        return self.loader.batch_size

    def set_epoch(self, epoch: int) -> None:
        """Begin the next iteration with this epoch."""
        self.loader.set_epoch(epoch)

    def state_dict(self) -> dict[str, Any]:
        return self.loader.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.loader.load_state_dict(state)


class split:
    """Deals the batches of a loader out to the ranks, batch i to rank i mod N, each exactly once: for evaluation.

        batches = dist_train.distributed.split(test_loader)
        for inputs, labels in batches:
            batches.add(loss_sum, correct, len(labels))
        loss_sum, correct, count = batches.totals()

    `totals()` adds what `add` was given in the order of the batches, so the sums do not depend on the number of ranks.
    """

    def __init__(self, loader: DataLoader) -> None:
        self.loader = loader
        self._comm = comm_.world()
        self._rows: list[tuple[float, ...]] = []

    def __iter__(self) -> Iterator[Any]:
        self._rows = []
        return self.loader.split(self._comm.rank, self._comm.size)

    def __len__(self) -> int:
        """The number of batches of this rank."""
        return len(range(self._comm.rank, len(self.loader), self._comm.size))

    def add(self, *values: Any) -> None:
        """Note this batch's contribution to each total: numbers, or tensors of one element."""
        if self._rows and len(values) != len(self._rows[0]):
            raise ValueError(f"add() of {len(values)} values after {len(self._rows[0])}: every batch contributes to the same totals")
        self._rows.append(tuple(float(value) for value in values))

    def totals(self) -> tuple[float, ...]:
        """The sums over all batches of all ranks, added up in batch order. Every rank calls it and gets the same."""
        everyone = self._comm.all_gather_object(self._rows)
        longest = max(map(len, everyone))
        rows = [rank_rows[i] for i in range(longest) for rank_rows in everyone if i < len(rank_rows)]
        return tuple(sum(column) for column in zip(*rows))
