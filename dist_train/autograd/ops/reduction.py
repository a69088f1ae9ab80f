"""Reductions over all elements or along dimensions: sum, mean, var, norm, prod, cumsum, max, min, argmax, logsumexp, ..."""

from __future__ import annotations

import builtins
from math import inf
from math import prod as product
from typing import Any, NamedTuple

import numpy as np

from ...backend.device import array_module
from ..engine import Array
from ..function import Op
from ..tensor import Tensor, method
from .elementwise import maximum, minimum
from .promotion import INT64, floating
from .shape import axis_of, flatten

Dim = int | tuple[int, ...] | list[int] | None
Axes = tuple[int, ...] | None


class ValuesIndices(NamedTuple):
    """Values and where they were found, as `max(dim)`, `sort` and `topk` return them."""

    values: Tensor
    indices: Tensor


def axes_of(dim: Dim, ndim: int) -> Axes:
    """Dimensions as a tuple of axes; None stands for all of them, as does an empty tuple."""
    if dim is None or dim == () or dim == []:
        return None
    if isinstance(dim, int):
        return (axis_of(dim, ndim),) if ndim else _no_axes(dim)
    axes = tuple([axis_of(i, ndim) for i in dim])
    if len(set(axes)) != len(axes):
        raise RuntimeError(f"dimension {dim} appears twice")
    return axes


def _no_axes(dim: int) -> Axes:
    axis_of(dim, 0)
    return None


def restored(array: Array, shape: tuple[int, ...], axes: Axes, keepdim: bool) -> Array:
    """A reduced array with its reduced axes back as axes of size 1, to broadcast against `shape`."""
    if keepdim or axes is None:
        return array
    return array.reshape([1 if axis in axes else size for axis, size in enumerate(shape)])


def count_of(shape: tuple[int, ...], axes: Axes) -> int:
    """How many elements go into one."""
    return product(shape if axes is None else [shape[axis] for axis in axes])


class Sum(Op):
    def forward(self, x: Array, *, axes: Axes, keepdim: bool) -> Array:
        self.saved = x.shape, axes, keepdim
        return array_module(x).add.reduce(x, axis=axes, keepdims=keepdim)

    def backward(self, gradient: Array) -> Array:
        shape, axes, keepdim = self.saved
        return array_module(gradient).broadcast_to(restored(gradient, shape, axes, keepdim), shape)


class Mean(Op):
    def forward(self, x: Array, *, axes: Axes, keepdim: bool) -> Array:
        count = count_of(x.shape, axes)
        self.saved = x.shape, axes, keepdim, count
        total = array_module(x).add.reduce(x, axis=axes, keepdims=keepdim)
        return total / x.dtype.type(count)

    def backward(self, gradient: Array) -> Array:
        shape, axes, keepdim, count = self.saved
        return array_module(gradient).broadcast_to(restored(gradient / count, shape, axes, keepdim), shape)


class Var(Op):
    """The mean square distance from the mean, over (count - correction)."""

    saves = (0,)

    def forward(self, x: Array, *, axes: Axes, keepdim: bool, correction: float) -> Array:
        xp = array_module(x)
        self.saved = x, axes, keepdim, correction
        centered = x - x.mean(axis=axes, keepdims=True)
        return xp.add.reduce(centered * centered, axis=axes, keepdims=keepdim) / x.dtype.type(self._divisor())

    def _divisor(self) -> Any:
        x, axes, _, correction = self.saved
        return builtins.max(0, count_of(x.shape, axes) - correction)

    def backward(self, gradient: Array) -> Array:
        x, axes, keepdim, _ = self.saved
        scale = gradient.dtype.type(2) / gradient.dtype.type(self._divisor())
        return restored(gradient, x.shape, axes, keepdim) * scale * (x - x.mean(axis=axes, keepdims=True))


class SqrtOfSum(Op):
    """The square root, whose gradient at 0 is taken as 0 (as that of std and norm is)."""

    saves_output = True

    def forward(self, x: Array) -> Array:
        y = array_module(x).sqrt(x)
        self.saved = (y,)
        return y

    def backward(self, gradient: Array) -> Array:
        (y,) = self.saved
        return array_module(y).where(y == 0, 0, gradient / (2 * y))


class Norm(Op):
    """(Σ |x|^p)^(1/p), for p = 0 the number of nonzero elements; the gradient is 0 where the norm is 0."""

    saves = (0,)
    saves_output = True

    def forward(self, x: Array, *, p: float, axes: Axes, keepdim: bool) -> Array:
        xp = array_module(x)
        if p == 2:
            y = xp.sqrt(xp.add.reduce(x * x, axis=axes, keepdims=keepdim))
        elif p == 0:
            y = xp.add.reduce(x != 0, axis=axes, keepdims=keepdim, dtype=x.dtype)
        else:
            y = xp.add.reduce(xp.abs(x) ** p, axis=axes, keepdims=keepdim) ** (1 / p)
        self.saved = x, y, p, axes, keepdim
        return y

    def backward(self, gradient: Array) -> Array:
        x, y, p, axes, keepdim = self.saved
        xp = array_module(gradient)
        if p == 0:
            return xp.zeros_like(x)
        y, gradient = (restored(array, x.shape, axes, keepdim) for array in (y, gradient))
        if p == 2:
            return x * xp.where(y == 0, 0, gradient / y)
        scale = xp.where(y == 0, 0, gradient / y ** (p - 1))
        slope = xp.sign(x) if p == 1 else xp.where(x == 0, 0, xp.sign(x) * xp.abs(x) ** (p - 1))
        return slope * scale


class Prod(Op):
    """The product along one axis; the gradient of an element is the product of the others."""

    saves = (0,)

    def forward(self, x: Array, *, axis: int, keepdim: bool) -> Array:
        self.saved = x, axis, keepdim
        return array_module(x).multiply.reduce(x, axis=axis, keepdims=keepdim)

    def backward(self, gradient: Array) -> Array:
        x, axis, keepdim = self.saved
        others = _product_before(x, axis) * array_module(x).flip(_product_before(array_module(x).flip(x, axis), axis), axis)
        return restored(gradient, x.shape, (axis,), keepdim) * others


def _product_before(x: Array, axis: int) -> Array:
    """At each place the product of the elements before it."""
    xp = array_module(x)
    one = xp.ones_like(x[(slice(None),) * axis + (slice(0, 1),)])
    return xp.concatenate([one, xp.cumprod(x, axis=axis)], axis=axis)[(slice(None),) * axis + (slice(0, -1),)]


class Cumsum(Op):
    def forward(self, x: Array, *, axis: int) -> Array:
        self.saved = (axis,)
        return x.cumsum(axis=axis, dtype=x.dtype)

    def backward(self, gradient: Array) -> Array:
        (axis,) = self.saved
        flip = array_module(gradient).flip
        return flip(flip(gradient, axis).cumsum(axis=axis, dtype=gradient.dtype), axis)


class Extreme(Op):
    """The largest or smallest element over axes; equal ones share the gradient evenly."""

    saves = (0,)
    saves_output = True

    def forward(self, x: Array, *, rule: str, axes: Axes, keepdim: bool) -> Array:
        y = getattr(array_module(x), rule)(x, axis=axes, keepdims=keepdim)
        self.saved = x, y, axes, keepdim
        return y

    def backward(self, gradient: Array) -> Array:
        x, y, axes, keepdim = self.saved
        xp = array_module(gradient)
        y = restored(y, x.shape, axes, keepdim)
        chosen = (x == y) | (xp.isnan(x) & xp.isnan(y))
        share = restored(gradient, x.shape, axes, keepdim) / xp.add.reduce(chosen, axis=axes, keepdims=True, dtype=gradient.dtype)
        return xp.where(chosen, share, 0)


class Take(Op):
    """One element along an axis for each place of `indices` (which has size 1 there)."""

    def forward(self, x: Array, *, indices: Array, axis: int, keepdim: bool) -> Array:
        self.saved = x.shape, indices, axis, keepdim
        y = array_module(x).take_along_axis(x, indices, axis)
        return y if keepdim else y.squeeze(axis)

    def backward(self, gradient: Array) -> Array:
        shape, indices, axis, keepdim = self.saved
        xp = array_module(gradient)
        result = xp.zeros(shape, gradient.dtype)
        xp.put_along_axis(result, indices, restored(gradient, shape, (axis,), keepdim), axis)
        return result


class LogSumExp(Op):
    saves = (0,)
    saves_output = True

    def forward(self, x: Array, *, axes: Axes, keepdim: bool) -> Array:
        xp = array_module(x)
        top = xp.max(x, axis=axes, keepdims=True)
        top = xp.where(xp.isfinite(top), top, 0)
        y = xp.log(xp.add.reduce(xp.exp(x - top), axis=axes, keepdims=True)) + top
        y = y if keepdim else y.squeeze(axes)
        self.saved = x, y, axes, keepdim
        return y

    def backward(self, gradient: Array) -> Array:
        x, y, axes, keepdim = self.saved
        y, gradient = (restored(array, x.shape, axes, keepdim) for array in (y, gradient))
        return gradient * array_module(x).exp(x - y)


def _converted(input: Tensor, dtype: Any) -> Tensor:
    """As `dtype`; without one booleans and small integers become int64, so that a sum does not overflow."""
    if dtype is not None:
        return input._cast(np.dtype(dtype))
    return input if input.array.dtype.kind == "f" else input._cast(INT64)


@method
def sum(input: Tensor, dim: Dim = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """The sum over `dim` (all dimensions by default); integers and booleans give int64."""
    return Sum.apply(_converted(input, dtype), axes=axes_of(dim, input.array.ndim), keepdim=keepdim)


def _floating_only(name: str, input: Tensor, dtype: Any = None) -> Tensor:
    input = input if dtype is None else input._cast(np.dtype(dtype))
    if input.array.dtype.kind != "f":
        raise RuntimeError(f"{name} needs a floating-point tensor, not {input.array.dtype}: convert it, x.float()")
    return input


@method
def mean(input: Tensor, dim: Dim = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """The mean over `dim`. RuntimeError for integers, whose mean would not be one."""
    input = _floating_only("mean", input, dtype)
    return Mean.apply(input, axes=axes_of(dim, input.array.ndim), keepdim=keepdim)


@method
def var(input: Tensor, dim: Any = None, unbiased: bool = True, keepdim: bool = False, *, correction: float | None = None) -> Tensor:
    """The variance over `dim`, divided by (count - correction); `unbiased` (the default) is correction 1."""
    if isinstance(dim, bool):  # var(unbiased)
        dim, unbiased = None, dim
    correction = float(unbiased) if correction is None else correction
    input = _floating_only("var", input)
    return Var.apply(input, axes=axes_of(dim, input.array.ndim), keepdim=keepdim, correction=correction)


@method
def std(input: Tensor, dim: Any = None, unbiased: bool = True, keepdim: bool = False, *, correction: float | None = None) -> Tensor:
    """The square root of `var`."""
    return SqrtOfSum.apply(var(input, dim, unbiased, keepdim, correction=correction))


def var_mean(input: Tensor, dim: Any = None, unbiased: bool = True, keepdim: bool = False) -> tuple[Tensor, Tensor]:
    """(var, mean)."""
    return var(input, dim, unbiased, keepdim), mean(input, None if isinstance(dim, bool) else dim, keepdim)


def std_mean(input: Tensor, dim: Any = None, unbiased: bool = True, keepdim: bool = False) -> tuple[Tensor, Tensor]:
    """(std, mean)."""
    return std(input, dim, unbiased, keepdim), mean(input, None if isinstance(dim, bool) else dim, keepdim)


@method
def norm(input: Tensor, p: Any = 2, dim: Dim = None, keepdim: bool = False) -> Tensor:
    """(Σ |x|^p)^(1/p) over `dim`; p may be "fro" (2), inf, -inf or 0 (the number of nonzero elements)."""
    order = 2.0 if p in ("fro", None) else float(p)
    input = _floating_only("norm", input)
    axes = axes_of(dim, input.array.ndim)
    if order in (inf, -inf):
        return Extreme.apply(input.abs(), rule="max" if order > 0 else "min", axes=axes, keepdim=keepdim)
    return Norm.apply(input, p=order, axes=axes, keepdim=keepdim)


@method
def prod(input: Tensor, dim: int | None = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """The product of all elements or along `dim`; integers and booleans give int64."""
    input = _converted(input, dtype)
    if dim is None or not input.array.ndim:
        input, dim, keepdim = flatten(input), 0, False
    return Prod.apply(input, axis=axis_of(dim, input.array.ndim), keepdim=keepdim)


@method
def cumsum(input: Tensor, dim: int, *, dtype: Any = None) -> Tensor:
    """At each place the sum of the elements up to it along `dim`."""
    input = _converted(input, dtype)
    return Cumsum.apply(input, axis=axis_of(dim, input.array.ndim)) if input.array.ndim else input.clone()


@method
def logsumexp(input: Tensor, dim: Dim, keepdim: bool = False) -> Tensor:
    """log Σ exp(x) over `dim` without overflow."""
    input = floating(input)
    axes = axes_of(dim, input.array.ndim)
    return LogSumExp.apply(input, axes=tuple(range(input.array.ndim)) if axes is None else axes, keepdim=keepdim)


def _check_not_empty(name: str, x: Array, axes: Axes) -> None:
    if not count_of(x.shape, axes):
        raise RuntimeError(f"{name} of no elements (shape {tuple(x.shape)}) has no value")


def _extreme(name: str, input: Tensor, dim: Any, keepdim: bool) -> Any:
    if isinstance(dim, Tensor):
        return (maximum if name == "max" else minimum)(input, dim)
    if dim is None:
        _check_not_empty(name, input.array, None)
        return Extreme.apply(input, rule=name, axes=None, keepdim=False)
    if not input.array.ndim:
        axis_of(dim, 0)
        return ValuesIndices(input.clone(), Tensor(array_module(input.array).zeros((), np.int64)))
    axis = axis_of(dim, input.array.ndim)
    _check_not_empty(name, input.array, (axis,))
    indices = getattr(array_module(input.array), "arg" + name)(input.array, axis=axis, keepdims=True)
    values = Take.apply(input, indices=indices, axis=axis, keepdim=keepdim)
    return ValuesIndices(values, Tensor(indices if keepdim else indices.squeeze(axis)))


@method
def max(input: Tensor, dim: Any = None, keepdim: bool = False) -> Any:
    """The largest element; with a dimension (values, indices) along it; with another tensor, the larger of each pair."""
    return _extreme("max", input, dim, keepdim)


@method
def min(input: Tensor, dim: Any = None, keepdim: bool = False) -> Any:
    """The smallest element; with a dimension (values, indices) along it; with another tensor, the smaller of each pair."""
    return _extreme("min", input, dim, keepdim)


def _extreme_over(name: str, input: Tensor, dim: Dim, keepdim: bool) -> Tensor:
    axes = axes_of(dim, input.array.ndim)
    _check_not_empty("a" + name, input.array, axes)
    return Extreme.apply(input, rule=name, axes=axes, keepdim=keepdim)


@method
def amax(input: Tensor, dim: Dim = (), keepdim: bool = False) -> Tensor:
    """The largest element over `dim`; equal ones share the gradient evenly."""
    return _extreme_over("max", input, dim, keepdim)


@method
def amin(input: Tensor, dim: Dim = (), keepdim: bool = False) -> Tensor:
    """The smallest element over `dim`; equal ones share the gradient evenly."""
    return _extreme_over("min", input, dim, keepdim)


def _position(name: str, input: Tensor, dim: int | None, keepdim: bool) -> Tensor:
    axis = None if dim is None or not input.array.ndim else axis_of(dim, input.array.ndim)
    _check_not_empty(name, input.array, None if axis is None else (axis,))
    return Tensor(getattr(array_module(input.array), name)(input.array, axis=axis, keepdims=keepdim))


@method
def argmax(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor:
    """Where the largest element is: in the flattened tensor, or along `dim` (the first of equal ones)."""
    return _position("argmax", input, dim, keepdim)


@method
def argmin(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor:
    """Where the smallest element is: in the flattened tensor, or along `dim` (the first of equal ones)."""
    return _position("argmin", input, dim, keepdim)


@method
def count_nonzero(input: Tensor, dim: Dim = None) -> Tensor:
    """How many elements (over `dim`) are nonzero."""
    return sum(input.ne(0), dim)
