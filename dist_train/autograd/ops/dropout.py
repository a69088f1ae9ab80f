"""Dropout: the mask is drawn from the default generator, as many numbers as the shape says and none where nothing is dropped."""

from __future__ import annotations

import numpy as np

from ...backend.device import device_of, to_device
from ...backend.reference import dropout as kernels
from ...random import default_generator
from ..engine import Array
from ..function import Op
from ..tensor import Tensor


class Dropout(Op):
    def forward(self, x: Array, *, kept: Array, scale: float) -> Array:
        self.saved = kept, scale
        return kernels.dropout(x, kept, scale)

    def backward(self, gradient: Array) -> Array:
        return kernels.dropout(gradient, *self.saved)


def draw_kept(shape: tuple[int, ...], p: float, like: Array) -> tuple[Array, float]:
    """A boolean array that is False with probability `p`, on the device of `like`, and the factor that keeps the mean."""
    kept = default_generator.numpy().random(shape, dtype=np.float32) >= p
    return to_device(kept, device_of(like)), 1 / (1 - p) if p < 1 else 0.0


def check_probability(p: float) -> None:
    if not 0 <= p <= 1:
        raise ValueError(f"dropout probability has to be between 0 and 1, but got {p}")


def _dropped(input: Tensor, p: float, training: bool, inplace: bool, shape: tuple[int, ...]) -> Tensor:
    check_probability(p)
    if not training or not p:
        return input
    kept, scale = draw_kept(shape, p, input.array)
    result = Dropout.apply(input, kept=kept, scale=scale)
    return input._assign(result) if inplace else result


def dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Zero each element with probability `p` and divide the others by 1 − p; `input` itself when not training.

    See Hinton et al. 2012. ValueError unless 0 ≤ p ≤ 1.
    """
    return _dropped(input, p, training, inplace, input.array.shape)


def dropout2d(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Dropout of whole channels of (N, C, …), at least three dimensions."""
    ndim = input.array.ndim
    if ndim < 3:
        raise RuntimeError(f"dropout2d expects (N, C, H, W) or (N, C, L), got shape {tuple(input.shape)}")
    return _dropped(input, p, training, inplace, input.array.shape[:2] + (1,) * (ndim - 2))
