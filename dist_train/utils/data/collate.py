"""Collating: a list of samples becomes one batch of tensors, by torch's rules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ...autograd.tensor import Tensor


def default_collate(batch: Sequence[Any]) -> Any:
    """One batch from a list of samples.

    Tensors and arrays get a new first dimension; Python ints become int64, floats float64, bools bool; strings and
    bytes stay as they are; dicts, tuples (as lists), named tuples and lists are collated entry by entry. Raises ValueError
    when the samples differ in shape or length, TypeError for what cannot be put into a tensor.

    >>> default_collate([{"x": 1}, {"x": 2}])
    {'x': tensor([1, 2])}
    """
    first = batch[0]
    if isinstance(first, Tensor):
        return _stack([sample.array for sample in batch])
    if isinstance(first, np.ndarray | np.generic) and not isinstance(first, str | bytes):
        return _stack([_numeric(np.asarray(sample)) for sample in batch])
    if isinstance(first, int | float):
        return Tensor(np.array(batch))
    if isinstance(first, str | bytes):
        return batch
    if isinstance(first, Mapping):
        return _like(first, {key: default_collate([sample[key] for sample in batch]) for key in first})
    if isinstance(first, Sequence):
        return _collate_fields(first, batch)
    raise TypeError(
        f"cannot collate a sample of type {type(first).__name__}: samples are tensors, NumPy arrays, numbers, strings, "
        "and dicts, tuples and lists of them; for anything else give the DataLoader a collate_fn"
    )


def default_convert(data: Any) -> Any:
    """Arrays inside `data` as tensors that share their memory, everything else as it is."""
    if isinstance(data, np.ndarray | np.generic):
        return data if data.dtype.kind in "SUO" else Tensor(np.asarray(data))
    if isinstance(data, Mapping):
        return _like(data, {key: default_convert(value) for key, value in data.items()})
    if isinstance(data, Sequence) and not isinstance(data, str | bytes):
        return _sequence_like(data, [default_convert(value) for value in data])
    return data


def _collate_fields(first: Sequence[Any], batch: Sequence[Any]) -> Any:
    lengths = [len(sample) for sample in batch]
    if min(lengths) != max(lengths):
        raise ValueError(_ragged("lengths", lengths))
    return _sequence_like(first, [default_collate(field) for field in zip(*batch)])


def _stack(arrays: list[Any]) -> Tensor:
    shapes = [array.shape for array in arrays]
    if any(shape != shapes[0] for shape in shapes):
        raise ValueError(_ragged("shapes", shapes))
    return Tensor(np.stack(arrays))


def _ragged(what: str, found: list[Any]) -> str:
    other = next(number for number, value in enumerate(found) if value != found[0])
    return (
        f"cannot collate samples of different {what}: sample 0 of the batch has {found[0]}, sample {other} has "
        f"{found[other]}; make them equal in the data set, or give the DataLoader a collate_fn that pads them"
    )


def _numeric(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    if array.dtype.kind in "SUOV":
        raise TypeError(f"cannot collate NumPy arrays of type {array.dtype}: a tensor holds numbers")
    return array


def _like(original: Mapping[Any, Any], values: dict[Any, Any]) -> Any:
    try:
        return values if type(original) is dict else type(original)(values)  # type: ignore[call-arg]
    except TypeError:
        return values


def _sequence_like(original: Sequence[Any], values: list[Any]) -> Any:
    """torch's rule: a named tuple stays one, a plain tuple becomes a list, other sequences keep their type."""
    if isinstance(original, tuple):
        return type(original)(*values) if hasattr(original, "_fields") else values
    try:
        return values if type(original) is list else type(original)(values)  # type: ignore[call-arg]
    except TypeError:
        return values
