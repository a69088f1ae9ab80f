"""Matrix products, and the linear layer made of one."""

from __future__ import annotations

from math import prod
from types import ModuleType

from ..device import Array
from ..kernels import kernel


@kernel
def product(xp: ModuleType, a: Array, b: Array, out: Array | None = None) -> Array:
    """a (m, k) @ b (k, n) → (m, n), written to `out` where it is given (C-contiguous, of the right shape and type)."""
    return a.dot(b, out)


@kernel
def linear(xp: ModuleType, x: Array, weight: Array, bias: Array | None) -> Array:
    """x (…, k) @ weight (n, k).T + bias (n,) → (…, n)."""
    rows = x if x.ndim == 2 else x.reshape(prod(x.shape[:-1]), x.shape[-1])
    y = rows.dot(weight.T)
    if bias is not None:
        y += bias
    return y if x.ndim == 2 else y.reshape(*x.shape[:-1], len(weight))
