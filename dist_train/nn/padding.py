"""Padding layers."""

from __future__ import annotations

from typing import Any

from ..autograd import Tensor
from ..autograd.ops.conv import pad
from .module import Module


class _Pad(Module):
    """`padding` is one number, or (left, right) and for images (top, bottom)."""

    dims: int
    mode = "constant"
    value = 0.0

    def __init__(self, padding: Any) -> None:
        super().__init__()
        self.padding = tuple(padding) if isinstance(padding, (tuple, list)) else (padding,) * (2 * self.dims)
        if len(self.padding) != 2 * self.dims:
            raise ValueError(f"{type(self).__name__}: padding must be one number or {2 * self.dims}, got {padding}")

    def forward(self, input: Tensor) -> Tensor:
        return pad(input, self.padding, self.mode, self.value if self.mode == "constant" else None)

    def extra_repr(self) -> str:
        return str(self.padding)


class ConstantPad2d(_Pad):
    """`value` around images (…, H, W)."""

    dims = 2

    def __init__(self, padding: Any, value: float) -> None:
        super().__init__(padding)
        self.value = value

    def extra_repr(self) -> str:
        return f"padding={self.padding}, value={self.value}"


class ZeroPad2d(_Pad):
    """Zeros around images (…, H, W)."""

    dims = 2


class ReflectionPad1d(_Pad):
    """Sequences (N, C, L) or (C, L) mirrored at their ends."""

    dims, mode = 1, "reflect"


class ReflectionPad2d(_Pad):
    """Images (N, C, H, W) or (C, H, W) mirrored at their edges."""

    dims, mode = 2, "reflect"


class ReplicationPad1d(_Pad):
    """The first and last elements of sequences repeated."""

    dims, mode = 1, "replicate"


class ReplicationPad2d(_Pad):
    """The pixels at the edges of images repeated."""

    dims, mode = 2, "replicate"
