"""Other shapes of the same elements: reshape, view, transpose, permute, squeeze, expand, flatten, unfold, ... (views where possible)."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from ...backend.device import array_module
from ..engine import Array
from ..function import Op
from ..tensor import Tensor, method
from .broadcasting import unbroadcast


class Reshape(Op):
    def forward(self, x: Array, *, shape: tuple[int, ...]) -> Array:
        self.saved = (x.shape,)
        y = x.reshape(shape)
        self.view = x.flags.c_contiguous or bool(array_module(x).may_share_memory(x, y))
        return y

    def backward(self, gradient: Array) -> Array:
        return gradient.reshape(self.saved[0])


class Permute(Op):
    view = True

    def forward(self, x: Array, *, axes: tuple[int, ...]) -> Array:
        self.saved = (axes,)
        return x.transpose(axes)

    def backward(self, gradient: Array) -> Array:
        return gradient.transpose(inverse_permutation(self.saved[0]))


class SwapAxes(Op):
    view = True

    def forward(self, x: Array, *, first: int, second: int) -> Array:
        self.saved = first, second
        return x.swapaxes(first, second)

    def backward(self, gradient: Array) -> Array:
        return gradient.swapaxes(*self.saved)


class Expand(Op):
    view = True

    def forward(self, x: Array, *, shape: tuple[int, ...]) -> Array:
        self.saved = (x.shape,)
        return array_module(x).broadcast_to(x, shape)

    def backward(self, gradient: Array) -> Array:
        return unbroadcast(gradient, self.saved[0])


class Unfold(Op):
    """Windows along one axis, the window's elements in a new last axis."""

    view = True

    def forward(self, x: Array, *, axis: int, size: int, step: int) -> Array:
        self.saved = x.shape, axis, size, step
        windows = array_module(x).lib.stride_tricks.sliding_window_view(x, size, axis)
        return windows[(slice(None),) * axis + (slice(None, None, step),)]

    def backward(self, gradient: Array) -> Array:
        shape, axis, size, step = self.saved
        result = array_module(gradient).zeros(shape, gradient.dtype)
        reach = (gradient.shape[axis] - 1) * step + 1
        for i in range(size):
            result[(slice(None),) * axis + (slice(i, i + reach, step),)] += gradient[..., i]
        return result


def inverse_permutation(axes: tuple[int, ...]) -> list[int]:
    """Where each axis went."""
    count = len(axes)
    inverse = [0] * count
    for position, axis in enumerate(axes):
        inverse[axis % count] = position
    return inverse


def sizes(shape: tuple[Any, ...]) -> tuple[int, ...]:
    """The sizes of `f(2, 3)` and of `f((2, 3))`."""
    if len(shape) == 1 and isinstance(shape[0], (tuple, list)):
        shape = tuple(shape[0])
    return shape if all(type(size) is int for size in shape) else tuple([int(size) for size in shape])


def axis_of(dim: int, ndim: int) -> int:
    """A dimension as an index from 0; IndexError where it is out of range."""
    low = max(ndim, 1)
    if not -low <= dim < low:
        raise IndexError(f"dimension {dim} is out of range for a tensor of {ndim} dimension(s): expected {-low} to {low - 1}")
    return dim % low


@method
def reshape(input: Tensor, *shape: Any) -> Tensor:
    """The same elements in another shape (one size may be -1): a view where possible, else a copy."""
    return Reshape.apply(input, shape=_checked_shape(input, sizes(shape)))


def _checked_shape(input: Tensor, shape: tuple[int, ...]) -> tuple[int, ...]:
    if -1 in shape:
        known = -prod(shape)
        if shape.count(-1) > 1 or known == 0 or input.array.size % known:
            raise RuntimeError(f"shape {shape} does not fit {input.array.size} elements (a tensor of shape {tuple(input.shape)})")
    elif prod(shape) != input.array.size:
        raise RuntimeError(f"shape {shape} does not fit {input.array.size} elements (a tensor of shape {tuple(input.shape)})")
    return shape


@method
def view(input: Tensor, *shape: Any) -> Tensor:
    """The same memory in another shape. RuntimeError where that takes a copy: use reshape there."""
    result = reshape(input, *shape)
    if not result._is_view and input.array.size:
        raise RuntimeError(
            f"a view of shape {tuple(result.shape)} of a tensor of shape {tuple(input.shape)} and strides {input.array.strides} "
            "would need a copy: use reshape, or contiguous() first"
        )
    return result


@method
def view_as(input: Tensor, other: Tensor) -> Tensor:
    """A view in the shape of `other`."""
    return view(input, other.array.shape)


@method
def reshape_as(input: Tensor, other: Tensor) -> Tensor:
    """`input` in the shape of `other`."""
    return reshape(input, other.array.shape)


@method
def flatten(input: Tensor, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """The dimensions from `start_dim` to `end_dim` as one."""
    shape = input.array.shape
    start, end = axis_of(start_dim, len(shape)), axis_of(end_dim, len(shape))
    if start > end:
        raise RuntimeError(f"flatten: start_dim {start_dim} comes after end_dim {end_dim}")
    if start == end and shape:
        return input
    return Reshape.apply(input, shape=(*shape[:start], prod(shape[start : end + 1]), *shape[end + 1 :]))


@method
def unflatten(input: Tensor, dim: int, shape: Any) -> Tensor:
    """One dimension as several (one size may be -1)."""
    old = input.array.shape
    axis = axis_of(dim, len(old))
    new = list(sizes((shape,)))
    if -1 in new:
        new[new.index(-1)] = old[axis] // max(1, -prod(new))
    return reshape(input, (*old[:axis], *new, *old[axis + 1 :]))


@method
def ravel(input: Tensor) -> Tensor:
    """All elements in one dimension."""
    return flatten(input)


@method
def transpose(input: Tensor, dim0: int, dim1: int) -> Tensor:
    """Two dimensions exchanged."""
    ndim = input.array.ndim
    return SwapAxes.apply(input, first=axis_of(dim0, ndim), second=axis_of(dim1, ndim)) if ndim else permute(input)


@method
def t(input: Tensor) -> Tensor:
    """The transpose of a matrix; a vector as it is."""
    if input.array.ndim > 2:
        raise RuntimeError(f"t() takes at most 2 dimensions, not {input.array.ndim}: use transpose or permute")
    return Permute.apply(input, axes=tuple(range(input.array.ndim))[::-1])


@method
def permute(input: Tensor, *dims: Any) -> Tensor:
    """The dimensions in another order."""
    axes = sizes(dims)
    if sorted(axis % max(1, len(axes)) for axis in axes) != list(range(input.array.ndim)):
        raise RuntimeError(f"permute: {axes} is not an order of the {input.array.ndim} dimension(s)")
    return Permute.apply(input, axes=axes)


@method
def movedim(input: Tensor, source: Any, destination: Any) -> Tensor:
    """Move dimensions from `source` to `destination`; the others keep their order."""
    ndim = input.array.ndim
    moved = [axis_of(dim, ndim) for dim in ([source] if isinstance(source, int) else source)]
    places = [axis_of(dim, ndim) for dim in ([destination] if isinstance(destination, int) else destination)]
    order = [axis for axis in range(ndim) if axis not in moved]
    for place, axis in sorted(zip(places, moved)):
        order.insert(place, axis)
    return Permute.apply(input, axes=tuple(order))


@method
def squeeze(input: Tensor, dim: int | tuple[int, ...] | None = None) -> Tensor:
    """Without the dimensions of size 1: all of them, or `dim` where it is one."""
    shape = input.array.shape
    dims = range(len(shape)) if dim is None else (dim,) if isinstance(dim, int) else dim
    axes = {axis_of(i, len(shape)) for i in dims}
    return Reshape.apply(input, shape=tuple([size for axis, size in enumerate(shape) if size != 1 or axis not in axes]))


@method
def unsqueeze(input: Tensor, dim: int) -> Tensor:
    """With a dimension of size 1 inserted at `dim`."""
    shape = input.array.shape
    axis = axis_of(dim, len(shape) + 1)
    return Reshape.apply(input, shape=(*shape[:axis], 1, *shape[axis:]))


@method
def expand(input: Tensor, *shape: Any) -> Tensor:
    """Dimensions of size 1 repeated without a copy; -1 keeps a size."""
    target = sizes(shape)
    own = (1,) * (len(target) - input.array.ndim) + input.array.shape
    full = tuple([have if want == -1 else want for have, want in zip(own, target)])
    if len(own) != len(target) or any(have not in (1, want) for have, want in zip(own, full)):
        raise RuntimeError(f"expand: a tensor of shape {tuple(input.shape)} does not expand to {target}")
    return Expand.apply(input, shape=full)


@method
def broadcast_to(input: Tensor, size: Any) -> Tensor:
    """`input` repeated to the shape `size` without a copy."""
    return expand(input, size)


@method
def expand_as(input: Tensor, other: Tensor) -> Tensor:
    """`input` expanded to the shape of `other`."""
    return expand(input, other.array.shape)


@method
def unfold(input: Tensor, dimension: int, size: int, step: int) -> Tensor:
    """All windows of `size` along a dimension, `step` apart; the window's elements are the new last dimension."""
    axis = axis_of(dimension, input.array.ndim)
    if not 0 < size <= input.array.shape[axis] or step < 1:
        raise RuntimeError(f"unfold: windows of {size} with step {step} along a dimension of {input.array.shape[axis]}")
    return Unfold.apply(input, axis=axis, size=size, step=step)


def broadcast_tensors(*tensors: Tensor) -> list[Tensor]:
    """The tensors expanded to their common shape."""
    shape = np.broadcast_shapes(*[tensor.array.shape for tensor in tensors])
    return [expand(tensor, shape) for tensor in tensors]


def _reversed(input: Tensor) -> Tensor:
    """All dimensions in reverse order."""
    return Permute.apply(input, axes=tuple(range(input.array.ndim))[::-1])


def _matrix_transpose(input: Tensor) -> Tensor:
    """The last two dimensions exchanged."""
    if input.array.ndim < 2:
        raise RuntimeError(f"mT needs at least 2 dimensions, not {input.array.ndim}")
    return transpose(input, -2, -1)


swapaxes = swapdims = transpose
moveaxis = movedim
setattr(Tensor, "T", property(_reversed))  # noqa: B010
setattr(Tensor, "mT", property(_matrix_transpose))  # noqa: B010
for _name, _function in {"swapaxes": transpose, "swapdims": transpose, "moveaxis": movedim}.items():
    setattr(Tensor, _name, _function)
