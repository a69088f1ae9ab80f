"""Matrix products of two matrices."""

from __future__ import annotations

from types import ModuleType

from ..device import Array
from ..kernels import kernel


@kernel
def product(xp: ModuleType, a: Array, b: Array, out: Array | None = None) -> Array:
    """a (m, k) @ b (k, n) → (m, n), written to `out` where it is given (C-contiguous, of the right shape and type)."""
    return a.dot(b, out)
