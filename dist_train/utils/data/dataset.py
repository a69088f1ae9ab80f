"""Data sets: samples by index (`Dataset`), or read from one end to the other (`IterableDataset`).

A data set whose samples lie in arrays defines `batch_at(indices)`, and a `DataLoader` then reads a whole batch by
one indexed copy instead of calling `__getitem__` for each sample:

    class Squares(Dataset):
        def __len__(self): return len(self.x)
        def __getitem__(self, index): return self.x[index], self.y[index]
        def batch_at(self, indices): return [Tensor(self.x[indices]), Tensor(self.y[indices])]
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate
from typing import Any, Generic, TypeVar

import numpy as np

from ...autograd.tensor import Tensor
from ...backend.reference.embedding import take_rows
from ...random import Generator, default_generator, stream
from .shortcut import shortcut

T_co = TypeVar("T_co", covariant=True)
Array = np.ndarray[Any, Any]


class Dataset(Generic[T_co]):
    """Samples by index: subclasses define `__getitem__` and `__len__`, and may define `batch_at` for speed."""

    def __getitem__(self, index: Any) -> T_co:
        raise NotImplementedError(f"{type(self).__name__} has to define __getitem__(index)")

    def batch_at(self, indices: Array) -> Any:
        """The collated batch of the samples at `indices` (integers), with the bits that `default_collate` would give.

        Returns NotImplemented where only `__getitem__` can serve. A loader looks the method up once an epoch.
        """
        return NotImplemented

    def __add__(self, other: Dataset[Any]) -> ConcatDataset[Any]:
        return ConcatDataset([self, other])


class IterableDataset(Dataset[T_co]):
    """Samples of a stream, in its order: subclasses define `__iter__`.

    A loader starts the stream anew in every epoch and calls `set_epoch(epoch)` first where the data set has that
    method.
    """

    def __iter__(self) -> Iterator[T_co]:
        raise NotImplementedError(f"{type(self).__name__} has to define __iter__()")


class TensorDataset(Dataset[tuple[Tensor, ...]]):
    """Sample i is row i of each tensor; NumPy arrays are taken as tensors.

    Batches carry no gradient back to the tensors. Raises ValueError when the tensors differ in length.
    """

    def __init__(self, *tensors: Tensor | Array) -> None:
        self.tensors = tuple(t if isinstance(t, Tensor) else Tensor(t) for t in tensors)
        lengths = [len(t) for t in self.tensors]
        if not lengths or min(lengths) != max(lengths):
            raise ValueError(f"TensorDataset needs tensors of one length; the lengths are {lengths}")

    def __getitem__(self, index: Any) -> tuple[Tensor, ...]:
        return tuple(tensor[index] for tensor in self.tensors)

    def __len__(self) -> int:
        return len(self.tensors[0])

    def batch_at(self, indices: Array) -> Any:
        return [Tensor(take_rows(tensor.array, indices)) for tensor in self.tensors]


class Subset(Dataset[T_co]):
    """The samples of `dataset` at `indices`, in that order."""

    def __init__(self, dataset: Dataset[T_co], indices: Sequence[Any] | Array) -> None:
        self.dataset = dataset
        own = _integer_array(indices)
        self.indices = indices if own is None else own

    def __getitem__(self, index: Any) -> T_co:
        return self.dataset[_as_python(self.indices[index])]

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def batch_at(self) -> Callable[[Array], Any]:
        batch_at, own = shortcut(self.dataset, "batch_at", "__getitem__"), _integer_array(self.indices)
        return lambda indices: NotImplemented if batch_at is None or own is None else batch_at(own[indices])


class ConcatDataset(Dataset[T_co]):
    """The samples of several data sets, one after the other."""

    def __init__(self, datasets: Iterable[Dataset[T_co]]) -> None:
        self.datasets = list(datasets)
        if not self.datasets:
            raise ValueError("ConcatDataset needs at least one data set")
        if any(isinstance(dataset, IterableDataset) for dataset in self.datasets):
            raise ValueError("ConcatDataset joins data sets with a length; an IterableDataset has none")
        self.cumulative_sizes = list(accumulate(_length(dataset) for dataset in self.datasets))

    def __getitem__(self, index: int) -> T_co:
        position = index + len(self) if index < 0 else index
        if not 0 <= position < len(self):
            raise IndexError(f"index {index} is out of range for a data set of {len(self)} samples")
        number = bisect_right(self.cumulative_sizes, position)
        start = self.cumulative_sizes[number - 1] if number else 0
        return self.datasets[number][position - start]

    def __len__(self) -> int:
        return self.cumulative_sizes[-1]


def random_split(dataset: Dataset[T_co], lengths: Sequence[int | float], generator: Generator | None = None) -> list[Subset[T_co]]:
    """Cut a data set into random parts that share no sample.

    `lengths` are numbers of samples, or fractions that add up to 1 (rounded down, what is left goes to the first
    parts, as in torch). Who is in which part is a pure function of the generator's seed (default: `manual_seed`'s)
    and the lengths, so it is the same on every rank and after every restart, whatever was drawn before. Raises
    ValueError when the lengths do not add up.
    """
    sizes = _split_sizes(_length(dataset), lengths)
    seed = (generator or default_generator).initial_seed()
    order = stream(seed, "split", *sizes).permutation(sum(sizes))
    return [Subset(dataset, part) for part in np.split(order, np.cumsum(sizes)[:-1])]


def _split_sizes(total: int, lengths: Sequence[int | float]) -> list[int]:
    if math.isclose(sum(lengths), 1) and min(lengths) >= 0:
        sizes = [math.floor(total * fraction) for fraction in lengths]
        left = total - sum(sizes)
        return [size + (number < left) for number, size in enumerate(sizes)]
    if sum(lengths) != total or any(length != int(length) or length < 0 for length in lengths):
        raise ValueError(
            f"random_split: the lengths {list(lengths)} add up to {sum(lengths)}; they have to be numbers of samples "
            f"that add up to the data set's {total}, or fractions that add up to 1"
        )
    return [int(length) for length in lengths]


def _length(dataset: Any) -> int:
    return len(dataset)


def _integer_array(indices: Any) -> Array | None:
    """The indices as an integer array, None where they are something else (a data set may have other keys)."""
    array = np.asarray(indices)
    return array if array.dtype.kind in "iu" and array.ndim == 1 else None


def _as_python(index: Any) -> Any:
    """An index as users' data sets know it: a Python int, not a NumPy one."""
    return index.tolist() if isinstance(index, np.ndarray | np.generic) else index
