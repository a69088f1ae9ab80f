"""Layer and group normalisation."""

from __future__ import annotations

from typing import Any

from ..autograd import Tensor
from ..autograd.ops import norm
from .module import Module
from .parameter import Parameter, new_parameter


class LayerNorm(Module):
    """Normalise over the last axes, of lengths `normalized_shape`; then weight (starts at 1) and bias (0), unless not affine."""

    weight: Parameter | None
    bias: Parameter | None

    def __init__(
        self,
        normalized_shape: int | list[int] | tuple[int, ...],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        *,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
        self.normalized_shape, self.eps, self.elementwise_affine = shape, eps, elementwise_affine
        weights = new_parameter(shape, 1.0, device=device, dtype=dtype) if elementwise_affine else None
        biases = new_parameter(shape, 0.0, device=device, dtype=dtype) if elementwise_affine and bias else None
        self.register_parameter("weight", weights)
        self.register_parameter("bias", biases)

    def forward(self, input: Tensor) -> Tensor:
        return norm.layer_norm(input, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        settings = f"eps={self.eps}, elementwise_affine={self.elementwise_affine}, bias={self.bias is not None}"
        return f"{self.normalized_shape}, {settings}"


class GroupNorm(Module):
    """Normalise `num_groups` groups of the channels of (N, C, …); then a weight and a bias per channel, if `affine`."""

    weight: Parameter | None
    bias: Parameter | None

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        eps: float = 1e-5,
        affine: bool = True,
        *,
        device: Any = None,
        dtype: Any = None,
        bias: bool = True,
    ) -> None:
        super().__init__()
        if num_groups < 1 or num_channels % num_groups:
            raise ValueError(f"num_channels {num_channels} must be divisible by num_groups {num_groups}")
        self.num_groups, self.num_channels, self.eps, self.affine = num_groups, num_channels, eps, affine
        weights = new_parameter((num_channels,), 1.0, device=device, dtype=dtype) if affine else None
        biases = new_parameter((num_channels,), 0.0, device=device, dtype=dtype) if affine and bias else None
        self.register_parameter("weight", weights)
        self.register_parameter("bias", biases)

    def forward(self, input: Tensor) -> Tensor:
        return norm.group_norm(input, self.num_groups, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        settings = f"eps={self.eps}, affine={self.affine}, bias={self.bias is not None}"
        return f"{self.num_groups}, {self.num_channels}, {settings}"
