"""Matrix products, and the linear layer made of one."""

from __future__ import annotations

from math import prod
from types import ModuleType

from ..device import Array
from ..kernels import kernel
from .activation import sum_leading


def rows(x: Array) -> Array:
    """All but the last axis as one."""
    return x if x.ndim == 2 else x.reshape(prod(x.shape[:-1]), x.shape[-1])


@kernel
def product(xp: ModuleType, a: Array, b: Array, out: Array | None = None) -> Array:
    """a (m, k) @ b (k, n) → (m, n), written to `out` where it is given (C-contiguous, of the right shape and type)."""
    return a.dot(b, out)


@kernel
def linear(xp: ModuleType, x: Array, weight: Array, bias: Array | None) -> Array:
    """x (…, k) @ weight (n, k).T + bias (n,) → (…, n)."""
    y = rows(x).dot(weight.T)
    if bias is not None:
        y += bias
    return y if x.ndim == 2 else y.reshape(*x.shape[:-1], len(weight))


@kernel
def linear_backward(
    xp: ModuleType, gradient: Array, x: Array | None, weight: Array | None, bias: bool, out: Array | None
) -> tuple[Array | None, Array | None, Array | None]:
    """From the gradient (…, n) of `linear`: that of x where `weight` is given, that of the weight where `x` is, written to `out` where
    that is given (as in `product`), that of the bias where `bias` is true; None for the others."""
    matrix = rows(gradient)
    return (
        None if weight is None else product(matrix, weight).reshape(*gradient.shape[:-1], weight.shape[1]),
        None if x is None else product(matrix.T, rows(x), out),
        sum_leading(matrix, 1) if bias else None,
    )
