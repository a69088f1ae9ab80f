"""Activation functions: the operations and their functional forms."""

from __future__ import annotations

from typing import Any, ClassVar

from ...backend.kernels import Kernel
from ...backend.reference import activation as kernels
from ..engine import Array
from ..function import Op
from ..tensor import Tensor, method
from .promotion import floating


class Relu(Op):
    saves_output = True

    def forward(self, x: Array) -> Array:
        y = kernels.relu(x)
        self.saved = (y,)
        return y

    def backward(self, gradient: Array) -> Array:
        return kernels.relu_backward(gradient, *self.saved)


class Activation(Op):
    """An elementwise function whose gradient is computed from its input; a pair of kernels and their parameters."""

    saves = (0,)
    kernel: ClassVar[Kernel]
    kernel_backward: ClassVar[Kernel]

    def forward(self, x: Array, **params: Any) -> Array:
        self.saved = x, params
        return self.kernel(x, **params)

    def backward(self, gradient: Array) -> Array:
        x, params = self.saved
        return self.kernel_backward(gradient, x, **params)


class Clip(Activation):
    kernel, kernel_backward = kernels.clip, kernels.clip_backward


class LeakyRelu(Activation):
    kernel, kernel_backward = kernels.leaky_relu, kernels.leaky_relu_backward


class Elu(Activation):
    kernel, kernel_backward = kernels.elu, kernels.elu_backward


class Softplus(Activation):
    kernel, kernel_backward = kernels.softplus, kernels.softplus_backward


class Hardswish(Activation):
    kernel, kernel_backward = kernels.hardswish, kernels.hardswish_backward


class Silu(Activation):
    kernel, kernel_backward = kernels.silu, kernels.silu_backward


class Gelu(Activation):
    kernel, kernel_backward = kernels.gelu, kernels.gelu_backward


class GeluTanh(Activation):
    kernel, kernel_backward = kernels.gelu_tanh, kernels.gelu_tanh_backward


def _result(input: Tensor, result: Tensor, inplace: bool) -> Tensor:
    return input._assign(result) if inplace else result


@method
def relu(input: Tensor, inplace: bool = False) -> Tensor:
    """max(input, 0)."""
    result = Relu.apply(input)
    return input._assign(result) if inplace else result


@method
def relu_(input: Tensor) -> Tensor:
    """max(input, 0), in place."""
    return input._assign(Relu.apply(input))


def hardtanh(input: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> Tensor:
    """`input` kept between `min_val` and `max_val`."""
    return _result(input, Clip.apply(input, low=min_val, high=max_val), inplace)


def relu6(input: Tensor, inplace: bool = False) -> Tensor:
    """min(max(input, 0), 6)."""
    return hardtanh(input, 0.0, 6.0, inplace)


def leaky_relu(input: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:
    """`input` where positive, else negative_slope·input."""
    return _result(input, LeakyRelu.apply(input, slope=negative_slope), inplace)


def elu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """`input` where positive, else alpha·(exp(input) − 1)."""
    return _result(input, Elu.apply(input, alpha=alpha), inplace)


def silu(input: Tensor, inplace: bool = False) -> Tensor:
    """input·sigmoid(input)."""
    return _result(input, Silu.apply(floating(input)), inplace)


def hardswish(input: Tensor, inplace: bool = False) -> Tensor:
    """input·relu6(input + 3) / 6."""
    return _result(input, Hardswish.apply(input), inplace)


def hardsigmoid(input: Tensor, inplace: bool = False) -> Tensor:
    """relu6(input + 3) / 6."""
    return _result(input, relu6(input + 3) / 6, inplace)


def softplus(input: Tensor, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    """log(1 + exp(beta·input)) / beta, and `input` itself where beta·input is above `threshold`."""
    return Softplus.apply(floating(input), beta=beta, threshold=threshold)


def gelu(input: Tensor, approximate: str = "none") -> Tensor:
    """input·Φ(input) (Hendrycks and Gimpel 2016), or with approximate="tanh" their approximation of it."""
    if approximate not in ("none", "tanh"):
        raise RuntimeError(f"gelu: approximate must be 'none' or 'tanh', not {approximate!r}")
    return (Gelu if approximate == "none" else GeluTanh).apply(floating(input))
