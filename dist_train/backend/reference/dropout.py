"""Dropout: which elements stay is drawn by the caller, so that the kernel is a pure function."""

from __future__ import annotations

from types import ModuleType

from ..device import Array
from ..kernels import kernel


@kernel
def dropout(xp: ModuleType, x: Array, kept: Array, scale: float) -> Array:
    """x·scale where `kept` (boolean, broadcast against x), else 0; also its own gradient."""
    y = x * kept
    y *= scale
    return y
