"""Embedding: rows of a table; and one-hot vectors."""

from __future__ import annotations

from ...backend.device import array_module
from ...backend.reference import embedding as kernels
from ..engine import Array
from ..function import Op
from ..tensor import Tensor


class Embedding(Op):
    writes = 0

    def forward(self, weight: Array, *, indices: Array, padding_index: int | None) -> Array:
        self.saved = indices, len(weight), padding_index
        return kernels.take_rows(weight, indices)

    def backward(self, gradient: Array) -> Array:
        return kernels.embedding_backward(gradient, *self.saved, self.into)


def embedding(input: Tensor, weight: Tensor, padding_idx: int | None = None) -> Tensor:
    """weight[input]: integers of any shape and a table (rows, width) → (*shape, width).

    The row `padding_idx` gets no gradient. IndexError for an index outside the table.
    """
    indices, num_rows = input.array, len(weight)
    if indices.dtype.kind not in "iu":
        raise RuntimeError(f"embedding expects integer indices, got {indices.dtype}: use indices.long()")
    check_indices(indices, num_rows, "embedding index")
    if padding_idx is not None and not -num_rows <= padding_idx < num_rows:
        raise ValueError(f"padding_idx must be within the {num_rows} rows of the table, got {padding_idx}")
    padding = padding_idx % num_rows if padding_idx is not None else None
    return Embedding.apply(weight, indices=indices, padding_index=padding)


def one_hot(tensor: Tensor, num_classes: int = -1) -> Tensor:
    """Integers of any shape → (*shape, num_classes), 1 at each integer's place; -1 takes the largest integer plus one."""
    labels = tensor.array
    if labels.dtype.kind not in "iu":
        raise RuntimeError(f"one_hot expects integers, got {labels.dtype}: use labels.long()")
    if num_classes == -1 and not labels.size:
        raise RuntimeError("one_hot of an empty tensor needs num_classes")
    size = int(labels.max()) + 1 if num_classes == -1 else num_classes
    check_indices(labels, size, "one_hot class")
    xp = array_module(labels)
    return Tensor((labels[..., None] == xp.arange(size)).astype("int64"))


def check_indices(indices: Array, limit: int, name: str) -> None:
    """IndexError unless all of `indices` lie in [0, limit)."""
    if indices.size and not all_below(indices, limit):
        low, high = int(indices.min()), int(indices.max())
        raise IndexError(f"{name} {low if low < 0 else high} is outside [0, {limit})")


def all_below(indices: Array, limit: int) -> bool:
    """Whether all of `indices`, at least one, lie in [0, limit): one pass, because a negative number reads as a huge unsigned one."""
    unsigned = indices.view(f"u{indices.itemsize}") if indices.dtype.kind == "i" else indices
    return bool(unsigned.max() < limit)
