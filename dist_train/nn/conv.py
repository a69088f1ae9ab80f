"""Convolutions."""

from __future__ import annotations

from typing import Any

from ..autograd import Tensor
from ..autograd.ops import conv as ops
from . import init
from .module import Module
from .parameter import Parameter, new_parameter


class _Conv(Module):
    """What Conv1d and Conv2d share; `dims` is the number of axes that the kernel moves along."""

    weight: Parameter
    bias: Parameter | None
    dims: int

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        *,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        if padding_mode != "zeros":
            raise ValueError(f"padding_mode={padding_mode!r}: only 'zeros' is supported")
        if groups < 1 or in_channels % groups or out_channels % groups:
            raise ValueError(f"in_channels {in_channels} and out_channels {out_channels} must be divisible by groups {groups}")
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.kernel_size, self.stride, self.dilation = map(self._each, (kernel_size, stride, dilation))
        self.padding = padding if isinstance(padding, str) else self._each(padding)
        self.padding_mode = padding_mode
        self.weight = new_parameter(self._weight_shape(), device=device, dtype=dtype)
        self.register_parameter("bias", new_parameter((out_channels,), device=device, dtype=dtype) if bias else None)
        self.reset_parameters()

    def _each(self, value: Any) -> tuple[int, ...]:
        return tuple(value) if isinstance(value, (tuple, list)) else (value,) * self.dims

    def _weight_shape(self) -> tuple[int, ...]:
        return (self.out_channels, self.in_channels // self.groups, *self.kernel_size)

    def reset_parameters(self) -> None:
        """Draw weight and bias again, uniform within ±1/√(in_channels / groups · kernel positions)."""
        init.linear_(self.weight, self.bias)

    def extra_repr(self) -> str:
        text = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        text += f", padding={self.padding}" if self.padding != (0,) * self.dims else ""
        text += f", dilation={self.dilation}" if self.dilation != (1,) * self.dims else ""
        text += f", groups={self.groups}" if self.groups != 1 else ""
        return text + (", bias=False" if self.bias is None else "")


class Conv2d(_Conv):
    """Cross-correlation over images: (N, C, H, W) → (N, out_channels, height, width); weight is (O, C / groups, kh, kw)."""

    dims = 2

    def forward(self, input: Tensor) -> Tensor:
        return ops.conv2d(input, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)  # type: ignore[arg-type]


class Conv1d(_Conv):
    """Cross-correlation over sequences: (N, C, L) → (N, out_channels, length); weight is (O, C / groups, k)."""

    dims = 1

    def forward(self, input: Tensor) -> Tensor:
        return ops.conv1d(input, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)
