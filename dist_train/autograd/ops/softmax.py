"""Softmax and log-softmax."""

from __future__ import annotations

import warnings
from typing import Any

from ...backend.reference import softmax as kernels
from ..engine import Array
from ..function import Op
from ..tensor import Tensor, method
from .promotion import floating


class Softmax(Op):
    saves_output = True

    def forward(self, x: Array, *, axis: int) -> Array:
        y = kernels.softmax(x, axis)
        self.saved = y, axis
        return y

    def backward(self, gradient: Array) -> Array:
        return kernels.softmax_backward(gradient, *self.saved)


class LogSoftmax(Op):
    saves_output = True

    def forward(self, x: Array, *, axis: int) -> Array:
        y = kernels.log_softmax(x, axis)
        self.saved = y, axis
        return y

    def backward(self, gradient: Array) -> Array:
        return kernels.log_softmax_backward(gradient, *self.saved)


@method
def softmax(input: Tensor, dim: int | None = None, *, dtype: Any = None) -> Tensor:
    """exp(input) / Σ exp(input) along `dim`; IndexError for a dimension that `input` does not have."""
    return _apply(Softmax, input, dim, dtype)


@method
def log_softmax(input: Tensor, dim: int | None = None, *, dtype: Any = None) -> Tensor:
    """input − log Σ exp(input) along `dim`; IndexError for a dimension that `input` does not have."""
    return _apply(LogSoftmax, input, dim, dtype)


def softmin(input: Tensor, dim: int | None = None, *, dtype: Any = None) -> Tensor:
    """softmax(−input)."""
    return softmax(-input, dim, dtype=dtype)


def _apply(op: type[Op], input: Tensor, dim: int | None, dtype: Any) -> Tensor:
    if dim is None:
        dim = _implicit_dim(input.array.ndim)
    x = floating(input) if dtype is None else input.to(dtype)
    ndim = x.array.ndim
    if not -max(ndim, 1) <= dim < max(ndim, 1):
        raise IndexError(f"softmax over dimension {dim} of a tensor of shape {tuple(x.shape)}")
    return op.apply(x, axis=dim) if ndim else op.apply(x.reshape(1), axis=0).reshape(())


def _implicit_dim(ndim: int) -> int:
    warnings.warn("softmax without dim is deprecated, as in torch: say which dimension", stacklevel=4)
    return 0 if ndim in (0, 1, 3) else 1
