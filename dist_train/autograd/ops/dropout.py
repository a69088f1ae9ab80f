"""Dropout. The default generator is asked for one key per call, and for none where nothing is dropped; the key gives the mask."""

from __future__ import annotations

from ...backend.device import array_module
from ...backend.reference import dropout as kernels
from ...random import default_generator
from ..engine import Array
from ..function import Op
from ..tensor import Tensor
from .elementwise import mul


class Dropout(Op):
    def forward(self, x: Array, *, key: int, p: float) -> Array:
        self.saved = key, p
        return kernels.dropout(x, key, p)

    def backward(self, gradient: Array) -> Array:
        return kernels.dropout(gradient, *self.saved)


def draw_key() -> int:
    """The next call's key of random numbers."""
    return int(default_generator.numpy().bit_generator.random_raw())


def check_probability(p: float) -> None:
    if not 0 <= p <= 1:
        raise ValueError(f"dropout probability has to be between 0 and 1, but got {p}")


def dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Zero each element with probability `p` and divide the others by 1 − p; `input` itself when not training.

    See Hinton et al. 2012. ValueError unless 0 ≤ p ≤ 1.
    """
    check_probability(p)
    if not training or not p:
        return input
    result = Dropout.apply(input, key=draw_key(), p=p)
    return input._assign(result) if inplace else result


def dropout2d(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Dropout of whole channels of (N, C, …), at least three dimensions."""
    x = input.array
    if x.ndim < 3:
        raise RuntimeError(f"dropout2d expects (N, C, H, W) or (N, C, L), got shape {tuple(input.shape)}")
    check_probability(p)
    if not training or not p:
        return input
    channels = array_module(x).ones(x.shape[:2] + (1,) * (x.ndim - 2), x.dtype)
    result = mul(input, Tensor(kernels.dropout(channels, draw_key(), p)))
    return input._assign(result) if inplace else result
