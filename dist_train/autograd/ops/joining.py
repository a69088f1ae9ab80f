"""Joining, splitting and repeating: cat, stack, split, chunk, unbind, repeat, meshgrid, ..."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...backend.device import array_module
from ..engine import Array
from ..function import Op, Output, Part
from ..grad_mode import mode
from ..tensor import Tensor, method
from .promotion import result_type
from .shape import axis_of, expand, sizes


class Cat(Op):
    def forward(self, *arrays: Array, axis: int) -> Array:
        self.saved = [array.shape[axis] for array in arrays], axis
        return array_module(arrays[0]).concatenate(arrays, axis=axis)

    def backward(self, gradient: Array) -> tuple[Array | None, ...]:
        lengths, axis = self.saved
        parts = _pieces(gradient, lengths, axis)
        return tuple([part if needed else None for part, needed in zip(parts, self.needs)])


class Stack(Op):
    def forward(self, *arrays: Array, axis: int) -> Array:
        self.saved = (axis,)
        return array_module(arrays[0]).stack(arrays, axis=axis)

    def backward(self, gradient: Array) -> tuple[Array | None, ...]:
        before = (slice(None),) * self.saved[0]
        return tuple([gradient[(*before, i)] if needed else None for i, needed in enumerate(self.needs)])


class Split(Op):
    """Views of consecutive pieces along an axis; their gradients are joined in one go."""

    @classmethod
    def pieces(cls, input: Tensor, lengths: Sequence[int], axis: int) -> tuple[Tensor, ...]:
        arrays = _pieces(input.array, lengths, axis)
        op = cls()
        op.saved = [array.shape for array in arrays], axis
        recorded = mode.enabled and input.requires_grad
        if recorded:
            op.edges = (input._edge(),)
        return tuple([_view(array, input, Output(op, i) if recorded else None) for i, array in enumerate(arrays)])

    def backward(self, gradient: Part) -> Array:
        shapes, axis = self.saved
        some = next(iter(gradient.arrays.values()))
        xp = array_module(some)
        given = gradient.arrays
        parts = [given[i] if i in given else xp.zeros(shape, some.dtype) for i, shape in enumerate(shapes)]
        return xp.concatenate(parts, axis=axis)


class Repeat(Op):
    def forward(self, x: Array, *, repeats: tuple[int, ...]) -> Array:
        self.saved = x.shape, repeats
        return array_module(x).tile(x, repeats)

    def backward(self, gradient: Array) -> Array:
        shape, repeats = self.saved
        full = (1,) * (len(repeats) - len(shape)) + shape
        pairs = [size for pair in zip(repeats, full) for size in pair]
        return array_module(gradient).add.reduce(gradient.reshape(pairs), axis=tuple(range(0, len(pairs), 2))).reshape(shape)


def _pieces(array: Array, lengths: Sequence[int], axis: int) -> list[Array]:
    before, start, pieces = (slice(None),) * axis, 0, []
    for length in lengths:
        pieces.append(array[(*before, slice(start, start + length))])
        start += length
    return pieces


def _view(array: Array, base: Tensor, node: Any) -> Tensor:
    view = Tensor(array)._become_view(base)
    if node is not None:
        view._node, view.requires_grad = node, True
    return view


def promoted(name: str, tensors: Sequence[Tensor]) -> list[Tensor]:
    if not tensors:
        raise RuntimeError(f"{name} needs at least one tensor")
    first = tensors[0].array.dtype
    if all(tensor.array.dtype is first for tensor in tensors):
        return list(tensors)
    dtype = result_type(*tensors)
    return [tensor._cast(dtype) for tensor in tensors]


def cat(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """The tensors one after another along `dim`; the other dimensions must agree."""
    tensors = promoted("cat", tensors)
    tensors = [tensor for tensor in tensors if tensor.array.shape != (0,)] or tensors[:1]
    axis = axis_of(dim, tensors[0].array.ndim)
    shapes = [tensor.array.shape for tensor in tensors]
    if len({(*shape[:axis], *shape[axis + 1 :]) for shape in shapes}) > 1 or not shapes[0]:
        raise RuntimeError(f"cat along dimension {dim}: shapes {', '.join(map(str, shapes))} do not fit")
    return Cat.apply(*tensors, axis=axis)


def stack(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """The tensors, all of one shape, along a new dimension."""
    tensors = promoted("stack", tensors)
    shapes = {tensor.array.shape for tensor in tensors}
    if len(shapes) > 1:
        raise RuntimeError(f"stack needs tensors of one shape, not {', '.join(map(str, sorted(shapes)))}")
    return Stack.apply(*tensors, axis=axis_of(dim, tensors[0].array.ndim + 1))


def vstack(tensors: Sequence[Tensor]) -> Tensor:
    """The tensors on top of each other; a vector counts as a row."""
    return cat([tensor if tensor.array.ndim > 1 else tensor.reshape(1, -1) for tensor in tensors])


def hstack(tensors: Sequence[Tensor]) -> Tensor:
    """The tensors beside each other."""
    flat = [tensor if tensor.array.ndim else tensor.reshape(1) for tensor in tensors]
    return cat(flat, min(1, flat[0].array.ndim - 1))


@method
def split(input: Tensor, split_size_or_sections: int | Sequence[int], dim: int = 0) -> tuple[Tensor, ...]:
    """Views of consecutive pieces along `dim`: of one size (the last may be smaller), or of the listed sizes."""
    axis = axis_of(dim, input.array.ndim)
    size = input.array.shape[axis]
    if isinstance(split_size_or_sections, int):
        step = split_size_or_sections
        if step < 1:
            raise RuntimeError(f"split: a size of {step}")
        lengths = [min(step, size - start) for start in range(0, size, step)] or [0]
    else:
        lengths = list(split_size_or_sections)
        if sum(lengths) != size:
            raise RuntimeError(f"split: sizes {lengths} add up to {sum(lengths)}, the dimension has {size}")
    return Split.pieces(input, lengths, axis)


@method
def chunk(input: Tensor, chunks: int, dim: int = 0) -> tuple[Tensor, ...]:
    """At most `chunks` views of equal size along `dim` (the last may be smaller)."""
    if chunks < 1:
        raise RuntimeError(f"chunk: {chunks} pieces")
    size = input.array.shape[axis_of(dim, input.array.ndim)]
    return split(input, max(1, -(-size // chunks)), dim)


@method
def unbind(input: Tensor, dim: int = 0) -> tuple[Tensor, ...]:
    """The slices along `dim`, without that dimension."""
    axis = axis_of(dim, input.array.ndim)
    return tuple([piece.squeeze(axis) for piece in Split.pieces(input, [1] * input.array.shape[axis], axis)])


@method
def repeat(input: Tensor, *repeats: Any) -> Tensor:
    """Copies side by side: repeats[i] times along dimension i (new dimensions come first)."""
    counts = sizes(repeats)
    if len(counts) < input.array.ndim:
        raise RuntimeError(f"repeat: {len(counts)} number(s) for a tensor of {input.array.ndim} dimensions")
    return Repeat.apply(input, repeats=counts)


@method
def tile(input: Tensor, *dims: Any) -> Tensor:
    """As `repeat`, where missing numbers are 1."""
    counts = sizes(dims)
    return Repeat.apply(input, repeats=(1,) * (input.array.ndim - len(counts)) + counts)


@method
def repeat_interleave(input: Tensor, repeats: int | Tensor, dim: int | None = None) -> Tensor:
    """Each slice along `dim` (each element, without it) repeated in place: `repeats` times, or as often as its entry says."""
    if dim is None:
        input, dim = input.flatten(), 0
    axis = axis_of(dim, input.array.ndim)
    return input[(*[slice(None)] * axis, Tensor(_repeated_positions(input.array, axis, repeats)))]


def _repeated_positions(x: Array, axis: int, repeats: int | Tensor) -> Array:
    """For each slice of the result the number of the slice of `x` that it shows."""
    xp, size = array_module(x), x.shape[axis]
    if not isinstance(repeats, Tensor):
        return xp.repeat(xp.arange(size), repeats)
    counts = xp.broadcast_to(repeats.array.reshape(-1), (size,))
    if (counts < 0).any():
        raise RuntimeError(f"repeat_interleave: negative numbers of repetitions, the smallest {counts.min()}")
    ends = counts.cumsum()  # CuPy's repeat takes no array of counts
    return xp.searchsorted(ends, xp.arange(int(counts.sum())), side="right")


def meshgrid(*tensors: Any, indexing: str = "ij") -> tuple[Tensor, ...]:
    """Vectors expanded to the grid of all their combinations; `indexing`: "ij" (rows first) or "xy"."""
    vectors = tensors[0] if len(tensors) == 1 and isinstance(tensors[0], (tuple, list)) else tensors
    if indexing not in ("ij", "xy"):
        raise ValueError(f"indexing must be 'ij' or 'xy', not {indexing!r}")
    shape = tuple([vector.array.size for vector in vectors])
    grids = [expand(vector.reshape([-1 if j == i else 1 for j in range(len(shape))]), shape) for i, vector in enumerate(vectors)]
    return tuple([grid.transpose(0, 1) if indexing == "xy" and len(shape) > 1 else grid for grid in grids])


def _iterate(input: Tensor) -> Any:
    if not input.array.ndim:
        raise TypeError("iteration over a tensor without dimensions")
    return iter(unbind(input))


concat = concatenate = cat
setattr(Tensor, "__iter__", _iterate)  # noqa: B010
