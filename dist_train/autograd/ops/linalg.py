"""Products: matmul and its kin, the fused linear layer, einsum."""

from __future__ import annotations

from typing import Any

from ...backend.device import array_module
from ...backend.reference import product as kernels
from ...backend.reference.product import rows
from ..engine import Array
from ..function import PRODUCT_SAVES, Op
from ..tensor import Tensor, method
from .broadcasting import unbroadcast
from .promotion import promote
from .shape import squeeze, unsqueeze


class Linear(Op):
    """x @ weight.T + bias for x (..., in), weight (out, in), bias (out,) or None."""

    writes = 1

    def forward(self, x: Array, weight: Array, bias: Array | None) -> Array:
        needs_x, needs_weight, _ = self.needs
        self.saves = PRODUCT_SAVES[needs_x, needs_weight]
        self.saved = x if needs_weight else None, weight if needs_x else None
        return kernels.linear(x, weight, bias)

    def backward(self, gradient: Array) -> Any:
        x, weight = self.saved
        return kernels.linear_backward(gradient, x, weight, self.needs[2], self.into)


class MatMul(Op):
    """The matrix product over the last two axes; the others broadcast. Operands have at least 2 dimensions."""

    def forward(self, x: Array, y: Array) -> Array:
        self.saves = PRODUCT_SAVES[self.needs]
        self.saved = x, y
        if x.ndim == 2 and y.ndim == 2:
            return kernels.product(x, y)
        if y.ndim == 2:  # one large product instead of one per matrix
            return kernels.product(rows(x), y).reshape(*x.shape[:-1], y.shape[-1])
        return array_module(x).matmul(x, y)

    def backward(self, gradient: Array) -> tuple[Array | None, Array | None]:
        x, y = self.saved
        needs_x, needs_y = self.needs
        if y.ndim == 2:
            gradient = rows(gradient)
            return (
                kernels.product(gradient, y.T).reshape(x.shape) if needs_x else None,
                kernels.product(rows(x).T, gradient) if needs_y else None,
            )
        matmul = array_module(gradient).matmul
        return (
            unbroadcast(matmul(gradient, y.swapaxes(-1, -2)), x.shape) if needs_x else None,
            unbroadcast(matmul(x.swapaxes(-1, -2), gradient), y.shape) if needs_y else None,
        )


class Dot(Op):
    """The inner product of two vectors."""

    def forward(self, x: Array, y: Array) -> Array:
        self.saves = PRODUCT_SAVES[self.needs]
        self.saved = x, y
        return x.dot(y)

    def backward(self, gradient: Array) -> tuple[Array | None, Array | None]:
        x, y = self.saved
        return gradient * y if self.needs[0] else None, gradient * x if self.needs[1] else None


def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """input @ weight.T + bias for input (..., in), weight (out, in), bias (out,)."""
    dtype = weight.array.dtype
    if input.array.dtype is not dtype or (bias is not None and bias.array.dtype is not dtype):
        _same_type("linear", input, weight, *[] if bias is None else [bias])
    try:
        return Linear.apply(input, weight, bias)
    except (ValueError, IndexError) as error:
        raise RuntimeError(
            f"linear: input {tuple(input.shape)}, weight {tuple(weight.shape)} and bias {None if bias is None else tuple(bias.shape)} "
            "do not fit: expected (..., in), (out, in) and (out,)"
        ) from error


def _same_type(name: str, *tensors: Tensor) -> None:
    types = [str(tensor.array.dtype) for tensor in tensors]
    if len(set(types)) > 1:
        raise RuntimeError(f"{name} needs operands of one type, not {', '.join(types)}: convert with .to(dtype)")


@method
def matmul(input: Tensor, other: Tensor) -> Tensor:
    """The matrix product; vectors count as a row on the left and as a column on the right, leading dimensions broadcast."""
    if not isinstance(other, Tensor):
        raise TypeError(f"matmul takes two tensors, not {type(other).__name__}")
    x, y = input.array, other.array
    if x.dtype is not y.dtype:
        _same_type("matmul", input, other)
    if not x.ndim or not y.ndim or x.shape[-1] != y.shape[-2 if y.ndim > 1 else 0]:
        raise RuntimeError(f"matmul: shapes {tuple(x.shape)} and {tuple(y.shape)} do not fit")
    if x.ndim == 1 and y.ndim == 1:
        return Dot.apply(input, other)
    if x.ndim == 1:
        return squeeze(MatMul.apply(unsqueeze(input, 0), other), -2)
    if y.ndim == 1:
        return squeeze(MatMul.apply(input, unsqueeze(other, 1)), -1)
    return MatMul.apply(input, other)


def _product(name: str, input: Tensor, other: Tensor, dimensions: tuple[int, int]) -> Tensor:
    have = input.array.ndim, other.array.ndim
    if have != dimensions:
        raise RuntimeError(f"{name} takes tensors of {dimensions[0]} and {dimensions[1]} dimensions, not {have[0]} and {have[1]}")
    if name == "bmm" and len(input.array) != len(other.array):
        raise RuntimeError(f"bmm: batches of {len(input.array)} and {len(other.array)} matrices")
    return matmul(input, other)


@method
def mm(input: Tensor, mat2: Tensor) -> Tensor:
    """The product of two matrices."""
    return _product("mm", input, mat2, (2, 2))


@method
def bmm(input: Tensor, mat2: Tensor) -> Tensor:
    """The products of two batches of matrices, (B, n, k) and (B, k, m)."""
    return _product("bmm", input, mat2, (3, 3))


@method
def mv(input: Tensor, vec: Tensor) -> Tensor:
    """The product of a matrix and a vector."""
    return _product("mv", input, vec, (2, 1))


@method
def dot(input: Tensor, tensor: Tensor) -> Tensor:
    """The inner product of two vectors."""
    return _product("dot", input, tensor, (1, 1))


@method
def outer(input: Tensor, vec2: Tensor) -> Tensor:
    """The products of each element of one vector with each of another."""
    if input.array.ndim != 1 or vec2.array.ndim != 1:
        raise RuntimeError(f"outer takes two vectors, not shapes {tuple(input.shape)} and {tuple(vec2.shape)}")
    return unsqueeze(input, 1) * vec2


@method
def addmm(input: Tensor, mat1: Tensor, mat2: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """beta · input + alpha · (mat1 @ mat2)."""
    return _weighted(input, beta) + _weighted(mm(mat1, mat2), alpha)


@method
def baddbmm(input: Tensor, batch1: Tensor, batch2: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """beta · input + alpha · (batch1 @ batch2), matrix by matrix."""
    return _weighted(input, beta) + _weighted(bmm(batch1, batch2), alpha)


def _weighted(x: Tensor, weight: float) -> Tensor:
    return x if weight == 1 else x * weight


def _rmatmul(input: Tensor, other: Any) -> Tensor:
    return matmul(promote(input, other)[1], input)


setattr(Tensor, "__matmul__", matmul)  # noqa: B010
setattr(Tensor, "__rmatmul__", _rmatmul)  # noqa: B010
