"""The same elements elsewhere or partly zero: flip, roll, tril, triu, diagonal, diag, trace, diff."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...backend.device import array_module
from ..engine import Array
from ..function import Op
from ..tensor import Tensor, method
from .indexing import narrow
from .joining import cat
from .reduction import sum
from .shape import axis_of, sizes


class Flip(Op):
    def forward(self, x: Array, *, axes: tuple[int, ...]) -> Array:
        self.saved = (axes,)
        return array_module(x).flip(x, axes).copy()

    def backward(self, gradient: Array) -> Array:
        return array_module(gradient).flip(gradient, self.saved[0])


class Roll(Op):
    def forward(self, x: Array, *, shifts: Any, axes: Any) -> Array:
        self.saved = shifts, axes
        return array_module(x).roll(x, shifts, axes)

    def backward(self, gradient: Array) -> Array:
        shifts, axes = self.saved
        back = -shifts if isinstance(shifts, int) else tuple([-shift for shift in shifts])
        return array_module(gradient).roll(gradient, back, axes)


class Triangle(Op):
    """The part on one side of a diagonal, zeros elsewhere."""

    def forward(self, x: Array, *, side: str, diagonal: int) -> Array:
        self.saved = side, diagonal
        return getattr(array_module(x), side)(x, diagonal)

    def backward(self, gradient: Array) -> Array:
        side, diagonal = self.saved
        return getattr(array_module(gradient), side)(gradient, diagonal)


class Diagonal(Op):
    def forward(self, x: Array, *, offset: int, first: int, second: int) -> Array:
        self.saved = x.shape, offset, first, second
        return x.diagonal(offset, first, second).copy()

    def backward(self, gradient: Array) -> Array:
        shape, offset, first, second = self.saved
        xp = array_module(gradient)
        result = xp.zeros(shape, gradient.dtype)
        count = gradient.shape[-1]
        along = xp.arange(count)
        places = along - min(offset, 0), along + max(offset, 0)
        xp.moveaxis(result, (first, second), (0, 1))[places] = xp.moveaxis(gradient, -1, 0)
        return result


class DiagonalMatrix(Op):
    """A matrix with a vector on one of its diagonals."""

    def forward(self, x: Array, *, offset: int) -> Array:
        self.saved = (offset,)
        return array_module(x).diag(x, offset)

    def backward(self, gradient: Array) -> Array:
        return gradient.diagonal(self.saved[0])


@method
def flip(input: Tensor, *dims: Any) -> Tensor:
    """The order along the dimensions reversed; a copy."""
    return Flip.apply(input, axes=tuple([axis_of(dim, input.array.ndim) for dim in sizes(dims)]))


@method
def roll(input: Tensor, shifts: int | tuple[int, ...], dims: int | tuple[int, ...] | None = None) -> Tensor:
    """Elements moved along dimensions, those that leave at one end coming in at the other; without `dims`, of the flat tensor."""
    return Roll.apply(input, shifts=shifts, axes=dims)


def _triangle(name: str, input: Tensor, diagonal: int) -> Tensor:
    if input.array.ndim < 2:
        raise RuntimeError(f"{name} needs at least 2 dimensions, not {input.array.ndim}")
    return Triangle.apply(input, side=name, diagonal=diagonal)


@method
def tril(input: Tensor, diagonal: int = 0) -> Tensor:
    """The part on and below a diagonal of each matrix, zeros above."""
    return _triangle("tril", input, diagonal)


@method
def triu(input: Tensor, diagonal: int = 0) -> Tensor:
    """The part on and above a diagonal of each matrix, zeros below."""
    return _triangle("triu", input, diagonal)


@method
def diagonal(input: Tensor, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Tensor:
    """A diagonal over two dimensions, as the last dimension; a copy."""
    first, second = axis_of(dim1, input.array.ndim), axis_of(dim2, input.array.ndim)
    if first == second:
        raise RuntimeError(f"diagonal needs two dimensions, not {dim1} twice")
    return Diagonal.apply(input, offset=offset, first=first, second=second)


@method
def diag(input: Tensor, diagonal: int = 0) -> Tensor:
    """The diagonal of a matrix, or the matrix with this vector on its diagonal."""
    if input.array.ndim == 1:
        return DiagonalMatrix.apply(input, offset=diagonal)
    if input.array.ndim != 2:
        raise RuntimeError(f"diag takes a vector or a matrix, not a tensor of {input.array.ndim} dimensions")
    return Diagonal.apply(input, offset=diagonal, first=0, second=1)


@method
def trace(input: Tensor) -> Tensor:
    """The sum of the diagonal of a matrix."""
    if input.array.ndim != 2:
        raise RuntimeError(f"trace takes a matrix, not a tensor of {input.array.ndim} dimensions")
    return sum(diag(input))


@method
def diff(input: Tensor, n: int = 1, dim: int = -1, prepend: Tensor | None = None, append: Tensor | None = None) -> Tensor:
    """The differences of neighbours along `dim`, `n` times over."""
    parts = [part for part in (prepend, input, append) if part is not None]
    result = cat(parts, dim) if len(parts) > 1 else input
    for _ in range(n):
        size = result.array.shape[axis_of(dim, result.array.ndim)]
        upper, lower = narrow(result, dim, min(1, size), max(0, size - 1)), narrow(result, dim, 0, max(0, size - 1))
        result = upper ^ lower if result.array.dtype.kind == "b" else upper - lower
    return result


def tril_indices(row: int, col: int, offset: int = 0) -> Tensor:
    """The row and column numbers of the lower triangle of a (row, col) matrix."""
    return Tensor(np.stack(np.tril_indices(row, offset, col)).astype(np.int64))


def triu_indices(row: int, col: int, offset: int = 0) -> Tensor:
    """The row and column numbers of the upper triangle of a (row, col) matrix."""
    return Tensor(np.stack(np.triu_indices(row, offset, col)).astype(np.int64))
