"""Linear and Identity."""

from __future__ import annotations

from typing import Any

from ..autograd import Tensor
from ..autograd.ops.linalg import linear
from . import init
from .module import Module
from .parameter import Parameter, new_parameter


class Linear(Module):
    """input·weightᵀ + bias: (…, in_features) → (…, out_features).

    weight is (out_features, in_features); it and the bias start uniform within ±1/√in_features.
    """

    weight: Parameter
    bias: Parameter | None

    def __init__(self, in_features: int, out_features: int, bias: bool = True, *, device: Any = None, dtype: Any = None) -> None:
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        self.weight = new_parameter((out_features, in_features), device=device, dtype=dtype)
        self.register_parameter("bias", new_parameter((out_features,), device=device, dtype=dtype) if bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weight and bias again."""
        init.linear_(self.weight, self.bias)

    def forward(self, input: Tensor) -> Tensor:
        return linear(input, self.weight, self.bias)

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"


class Identity(Module):
    """Returns its input; any arguments are accepted and ignored."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()

    def forward(self, input: Tensor) -> Tensor:
        return input
