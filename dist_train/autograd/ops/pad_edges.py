"""Padding with the input's own elements: mirrored, repeated or from the other end."""

from __future__ import annotations

from ...backend.reference import pad_edges as kernels
from ...backend.reference.pad import Widths
from ..engine import Array
from ..function import Op
from ..tensor import Tensor


class PadEdges(Op):
    def forward(self, x: Array, *, widths: Widths, mode: str) -> Array:
        lengths = x.shape[-len(widths) :]
        self.saved = [(sources(n, *both, mode), both[0], n, i - len(widths)) for i, (n, both) in enumerate(zip(lengths, widths))], None
        for indices, _, _, axis in self.saved[0]:
            x = kernels.pad_edges(x, indices, axis)
        return x

    def backward(self, gradient: Array) -> Array:
        for indices, before, length, axis in self.saved[0]:
            gradient = kernels.pad_edges_backward(gradient, indices, before, axis, length)
        return gradient


def sources(length: int, before: int, after: int, mode: str) -> list[int]:
    """Where each position of an axis padded by `before` and `after` comes from."""
    positions = range(-before, length + after)
    if mode == "circular":
        return [i % length for i in positions]
    if mode == "replicate":
        return [min(max(i, 0), length - 1) for i in positions]
    return [length - 1 - abs(length - 1 - abs(i)) for i in positions]


def pad_with_edges(input: Tensor, widths: Widths, mode: str) -> Tensor:
    """Pad the last axes of a batch of sequences or images, or of a single one.

    ValueError for another mode than "reflect", "replicate" and "circular"; RuntimeError for widths that the input cannot give.
    """
    if mode not in ("reflect", "replicate", "circular"):
        raise ValueError(f"pad: mode must be 'constant', 'reflect', 'replicate' or 'circular', not {mode!r}")
    ndim, shape = len(widths), tuple(input.shape)
    if input.array.ndim - ndim not in (1, 2):
        raise RuntimeError(f"pad: mode {mode!r} of {ndim} axes takes {ndim + 1} or {ndim + 2} dimensions, got shape {shape}")
    spare = {"reflect": -1, "circular": 0}.get(mode)
    for length, (before, after) in zip(shape[-ndim:], widths):
        if (spare is not None and max(before, after) > length + spare) or length + min(before, 0) + min(after, 0) < 1:
            raise RuntimeError(f"Padding size should be less than the corresponding input dimension: {widths} for shape {shape}")
    return PadEdges.apply(input, widths=widths, mode=mode)
