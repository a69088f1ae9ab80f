"""Samplers: in which order a loader visits the samples of a data set.

The order of `RandomSampler` is a pure function of (seed, epoch), not of how many random numbers were drawn before, so
that it is the same on every rank and after every restart. A sampler may define `epoch_order(epoch)`, which gives the
whole order of an epoch as an array.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, Generic, TypeVar

import numpy as np

from ...random import Generator, default_generator, stream
from .shortcut import shortcut

T_co = TypeVar("T_co", covariant=True)
Array = np.ndarray[Any, Any]


class Sampler(Generic[T_co]):
    """An order of samples: subclasses define `__iter__` and, where it is known, `__len__`.

    A loader calls `set_epoch(epoch)` before each epoch where the sampler has that method.
    """

    def __iter__(self) -> Iterator[T_co]:
        raise NotImplementedError(f"{type(self).__name__} has to define __iter__()")


class SequentialSampler(Sampler[int]):
    """0, 1, 2, … in every epoch."""

    def __init__(self, data_source: Any) -> None:
        self.data_source = data_source

    def __iter__(self) -> Iterator[int]:
        return iter(range(len(self)))

    def __len__(self) -> int:
        return len(self.data_source)

    def epoch_order(self, epoch: int) -> Array:
        return np.arange(len(self))


class RandomSampler(Sampler[int]):
    """A random order, another one in every epoch; with `replacement`, `num_samples` independent draws.

    The seed is the generator's `initial_seed()`, by default that of `manual_seed`, read when an epoch begins. On its
    own, each `iter()` is an epoch. Without replacement, a `num_samples` beyond the data set's length starts over with
    a new order.
    """

    def __init__(
        self,
        data_source: Any,
        replacement: bool = False,
        num_samples: int | None = None,
        generator: Generator | None = None,
    ) -> None:
        self.data_source = data_source
        self.replacement = replacement
        self.generator = generator
        self.epoch = 0
        self._num_samples = num_samples
        self._seed: int | None = None
        if not isinstance(self.num_samples, int) or self.num_samples <= 0:
            raise ValueError(
                f"RandomSampler: num_samples has to be a positive integer, not {self.num_samples}; "
                f"the data set has {len(data_source)} samples"
            )

    @property
    def num_samples(self) -> int:
        return len(self.data_source) if self._num_samples is None else self._num_samples

    @property
    def seed(self) -> int:
        """The seed of the order; one that was assigned (by a loader that resumes) stays."""
        return (self.generator or default_generator).initial_seed() if self._seed is None else self._seed

    @seed.setter
    def seed(self, seed: int) -> None:
        self._seed = seed

    def set_epoch(self, epoch: int) -> None:
        """The epoch whose order the next `iter()` gives."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        order = self.epoch_order(self.epoch)
        self.epoch += 1
        return iter(order.tolist())

    def __len__(self) -> int:
        return self.num_samples

    def epoch_order(self, epoch: int) -> Array:
        random = stream(self.seed, "shuffle", epoch)
        if self.replacement:
            return random.integers(len(self.data_source), size=self.num_samples)
        rounds = -(-self.num_samples // len(self.data_source))
        orders = [random.permutation(len(self.data_source)) for _ in range(rounds)]
        return (orders[0] if rounds == 1 else np.concatenate(orders))[: self.num_samples]


class BatchSampler(Sampler[list[int]]):
    """Lists of `batch_size` consecutive indices of `sampler`; `drop_last` leaves out a shorter last one."""

    def __init__(self, sampler: Iterable[Any], batch_size: int, drop_last: bool = False) -> None:
        if not isinstance(batch_size, int) or isinstance(batch_size, bool) or batch_size <= 0:
            raise ValueError(f"batch_size has to be a positive integer, not {batch_size!r}")
        self.sampler = sampler
        self.batch_size = batch_size
        self.drop_last = drop_last

    def set_epoch(self, epoch: int) -> None:
        set_epoch(self.sampler, epoch)

    def __iter__(self) -> Iterator[list[int]]:
        return runs(self.sampler, self.batch_size, self.drop_last)

    def __len__(self) -> int:
        num_samples = len(self.sampler)  # type: ignore[arg-type]
        return num_samples // self.batch_size if self.drop_last else -(-num_samples // self.batch_size)

    def epoch_batches(self, epoch: int, start: int = 0) -> Iterator[Any]:
        """An epoch's batches from number `start` on, as slices of an array where the sampler knows its order."""
        epoch_order = shortcut(self.sampler, "epoch_order", "__iter__")
        if epoch_order is None:
            return islice(iter(self), start, None)
        return self._slices(epoch_order(epoch), start)

    def _slices(self, order: Array, start: int) -> Iterator[Array]:
        stop = len(order) - len(order) % self.batch_size if self.drop_last else len(order)
        starts = range(start * self.batch_size, stop, self.batch_size)
        return map(order.__getitem__, map(slice, starts, range(starts.start + self.batch_size, stop + self.batch_size, self.batch_size)))


def runs(items: Iterable[Any], length: int, drop_last: bool) -> Iterator[list[Any]]:
    """The items in lists of `length`."""
    items = iter(items)
    while len(run := list(islice(items, length))) == length:
        yield run
    if run and not drop_last:
        yield run


def set_epoch(target: Any, epoch: int) -> None:
    """Tell a sampler or a data set which epoch comes, where it, or the sampler in a batch sampler, wants to know."""
    if callable(getattr(target, "set_epoch", None)):
        target.set_epoch(epoch)
    elif hasattr(target, "sampler"):
        set_epoch(target.sampler, epoch)
