"""Fetching: from indices to a batch, by one indexed copy where the data set can, else sample by sample."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .collate import default_collate
from .shortcut import shortcut

Collate = Callable[[Any], Any]


class Fetch:
    """Makes batches of a data set's samples."""

    def __init__(self, dataset: Any, collate: Collate) -> None:
        self._dataset, self._collate = dataset, collate
        self._batch_at: Any = shortcut(dataset, "batch_at", "__getitem__") if collate is default_collate else None

    def batch_of(self, indices: Any) -> Any:
        """The batch of the samples at `indices`, an integer array or a list of whatever the data set takes as an index."""
        batch = NotImplemented
        if self._batch_at is not None:
            try:
                array = np.asarray(indices)
                if array.ndim == 1 and array.dtype.kind in "iu":
                    batch = self._batch_at(array)
            except Exception as error:
                error.add_note(_note(self._dataset, indices))
                raise
        return collate_samples(samples_at(self._dataset, indices), self._collate, indices) if batch is NotImplemented else batch


def collate_samples(samples: Sequence[Any], collate: Collate, indices: Any = None) -> Any:
    """`collate(samples)`; an error says which samples they were."""
    try:
        return collate(samples)
    except Exception as error:
        error.add_note("while collating samples" if indices is None else f"while collating samples {_some(indices)}")
        raise


def samples_at(dataset: Any, indices: Any) -> list[Any]:
    """The samples one by one; an error says which one it was."""
    indices = indices.tolist() if isinstance(indices, np.ndarray) else indices
    get_samples = getattr(dataset, "__getitems__", None)  # torch's protocol: the list of samples at once
    return [_sample(dataset, index) for index in indices] if get_samples is None else list(get_samples(list(indices)))


def _sample(dataset: Any, index: Any) -> Any:
    try:
        return dataset[index]
    except Exception as error:
        error.add_note(f"while loading sample {index!r} of {type(dataset).__name__}")
        raise


def _note(dataset: Any, indices: Any) -> str:
    return f"while loading samples {_some(indices)} of {type(dataset).__name__}"


def _some(indices: Any) -> str:
    shown = ", ".join(str(index) for index in indices[:8])
    return f"[{shown}{', …' if len(indices) > 8 else ''}] ({len(indices)} in all)"
