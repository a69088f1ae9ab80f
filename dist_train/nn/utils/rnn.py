"""Batches of sequences of different lengths: padded to one length, or packed, with the rows of each time step one after another."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple, Self

import numpy as np

from ...autograd import Tensor
from ...autograd.ops.joining import cat
from ...autograd.ops.packing import Places, PutPlaces, TakePlaces
from ...backend.device import to_device, to_host


class _Packed(NamedTuple):
    data: Tensor
    batch_sizes: Tensor
    sorted_indices: Tensor | None
    unsorted_indices: Tensor | None


class PackedSequence(_Packed):
    """Sequences, longest first: `data` (R, …) has for each time step the rows of the `batch_sizes[t]` sequences that are that long.

    Where they had to be sorted, `sorted_indices` says which sequence comes at each place, and `unsorted_indices` the opposite.
    """

    __slots__ = ()

    def __new__(
        cls,
        data: Tensor,
        batch_sizes: Tensor,
        sorted_indices: Tensor | None = None,
        unsorted_indices: Tensor | None = None,
    ) -> Self:
        unsorted_indices = invert_permutation(sorted_indices) if unsorted_indices is None else unsorted_indices
        return super().__new__(cls, data, batch_sizes, sorted_indices, unsorted_indices)

    def to(self, *args: Any, **kwargs: Any) -> PackedSequence:
        """The same with `data` of another type or on another device; the indices follow to the device."""
        data = self.data.to(*args, **kwargs)
        moved = [None if x is None else x.to(data.device) for x in self[2:]]
        return PackedSequence(data, self.batch_sizes, *moved)

    def cpu(self) -> PackedSequence:
        return self.to("cpu")

    def cuda(self) -> PackedSequence:
        return self.to("cuda")

    def float(self) -> PackedSequence:
        return self.to(np.dtype("float32"))

    def double(self) -> PackedSequence:
        return self.to(np.dtype("float64"))

    @property
    def is_cuda(self) -> bool:
        return self.data.is_cuda


def invert_permutation(permutation: Tensor | None) -> Tensor | None:
    """Where each index stands in `permutation`."""
    return None if permutation is None else permutation.argsort()


def pad_sequence(
    sequences: Tensor | Iterable[Tensor], batch_first: bool = False, padding_value: float = 0.0, padding_side: str = "right"
) -> Tensor:
    """Tensors (L, …) of different lengths → (T, B, …), or (B, T, …) with `batch_first`, where T is the longest length.

    RuntimeError where anything but the lengths differs.
    """
    if padding_side not in ("left", "right"):
        raise ValueError(f"padding_side must be 'left' or 'right', not {padding_side!r}")
    listed = list(sequences)
    if not listed:
        raise RuntimeError("pad_sequence expects a non-empty list of tensors")
    lengths = [len(sequence) for sequence in listed]
    longest, data = max(lengths), cat(listed)
    time, batch = _by_sequence(lengths)
    if padding_side == "left":
        time += longest - np.asarray(lengths)[batch]
    return _put(data, time, batch, (longest, len(lengths)), batch_first, padding_value)


def unpad_sequence(padded_sequences: Tensor, lengths: Any, batch_first: bool = False) -> list[Tensor]:
    """The sequences of a padded batch, each of its own length."""
    padded = padded_sequences if batch_first else padded_sequences.transpose(0, 1)
    return [row[:length] for row, length in zip(padded, _as_list(lengths))]


def pack_padded_sequence(input: Tensor, lengths: Any, batch_first: bool = False, enforce_sorted: bool = True) -> PackedSequence:
    """(T, B, …), or (B, T, …) with `batch_first`, and the length of each of the B sequences → the packed sequences.

    With `enforce_sorted` the lengths must fall already. RuntimeError for lengths that do not, are below 1 or above T, or are not B.
    """
    sizes = _as_list(lengths)
    _check_lengths(input, sizes, batch_first, enforce_sorted)
    order = None if enforce_sorted else np.argsort(-np.asarray(sizes), kind="stable")
    falling = sizes if order is None else [sizes[i] for i in order]
    batch_sizes = _batch_sizes(falling)
    time, batch = _by_step(batch_sizes)
    batch = batch if order is None else order[batch]
    data = TakePlaces.apply(input, places=_places(input, time, batch, batch_first))
    indices = None if order is None else Tensor(to_device(order, input.device))
    return PackedSequence(data, Tensor(np.asarray(batch_sizes)), indices)


def pad_packed_sequence(
    sequence: PackedSequence, batch_first: bool = False, padding_value: float = 0.0, total_length: int | None = None
) -> tuple[Tensor, Tensor]:
    """The padded batch, (T, B, …) or (B, T, …), in the order before packing, and the lengths.

    `total_length` asks for more time steps than the longest sequence has; ValueError for fewer.
    """
    batch_sizes = sequence.batch_sizes.tolist()
    if total_length is not None and total_length < len(batch_sizes):
        raise ValueError(
            f"Expected total_length to be at least the length of the longest sequence in input, but got "
            f"total_length={total_length} and max sequence length being {len(batch_sizes)}"
        )
    time, batch = _by_step(batch_sizes)
    lengths = np.bincount(batch, minlength=batch_sizes[0])
    if sequence.sorted_indices is not None and sequence.unsorted_indices is not None:
        batch = to_host(sequence.sorted_indices.array)[batch]
        lengths = lengths[to_host(sequence.unsorted_indices.array)]
    shape = total_length or len(batch_sizes), batch_sizes[0]
    return _put(sequence.data, time, batch, shape, batch_first, padding_value), Tensor(lengths)


def pack_sequence(sequences: Sequence[Tensor], enforce_sorted: bool = True) -> PackedSequence:
    """Tensors (L, …) of different lengths → the packed sequences."""
    return pack_padded_sequence(pad_sequence(sequences), [len(x) for x in sequences], enforce_sorted=enforce_sorted)


def unpack_sequence(packed_sequences: PackedSequence) -> list[Tensor]:
    """The sequences, each of its own length."""
    return unpad_sequence(*pad_packed_sequence(packed_sequences))


def _check_lengths(input: Tensor, lengths: list[int], batch_first: bool, enforce_sorted: bool) -> None:
    batch, longest = input.array.shape[:2] if batch_first else input.array.shape[1::-1]
    if len(lengths) != batch:
        raise RuntimeError(f"Expected `len(lengths)` to be equal to batch_size, but got {len(lengths)} (batch_size={batch})")
    if min(lengths) <= 0:
        raise RuntimeError(f"Length of all samples has to be greater than 0, but found {min(lengths)} in 'lengths'")
    if max(lengths) > longest:
        raise RuntimeError(f"a length of {max(lengths)} in 'lengths', but the input has {longest} time steps")
    if enforce_sorted and any(a < b for a, b in pairwise(lengths)):
        raise RuntimeError(
            "`lengths` array must be sorted in decreasing order when `enforce_sorted` is True. "
            "You can pass `enforce_sorted=False` to pack_padded_sequence to sidestep this requirement."
        )


def _as_list(lengths: Any) -> list[int]:
    return [int(n) for n in (lengths.tolist() if hasattr(lengths, "tolist") else lengths)]


def _batch_sizes(lengths: list[int]) -> list[int]:
    """How many sequences are longer than t, for each t."""
    return [int(n) for n in (np.asarray(lengths) > np.arange(max(lengths))[:, None]).sum(1)]


def _by_step(batch_sizes: list[int]) -> tuple[Any, Any]:
    """Time and sequence of each row of packed data."""
    time = np.repeat(np.arange(len(batch_sizes)), batch_sizes)
    return time, np.concatenate([np.arange(n) for n in batch_sizes])


def _by_sequence(lengths: list[int]) -> tuple[Any, Any]:
    """Time and sequence of each row of sequences that lie one after another."""
    return np.concatenate([np.arange(n) for n in lengths]), np.repeat(np.arange(len(lengths)), lengths)


def _places(like: Tensor, time: Any, batch: Any, batch_first: bool) -> Places:
    indices = (batch, time) if batch_first else (time, batch)
    return tuple([to_device(index, like.device) for index in indices])


def _put(data: Tensor, time: Any, batch: Any, shape: tuple[int, int], batch_first: bool, value: float) -> Tensor:
    shape = (shape[1], shape[0]) if batch_first else shape
    places = _places(data, time, batch, batch_first)
    return PutPlaces.apply(data, places=places, shape=(*shape, *data.array.shape[1:]), value=value)
