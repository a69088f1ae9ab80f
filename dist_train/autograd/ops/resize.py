"""Images and sequences of another size: interpolation, and channels turned into pixels."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ...backend.reference import resize as kernels
from ...backend.reference.resize import Positions
from ..engine import Array
from ..function import Op
from ..tensor import Tensor
from .pool import adaptive_avg_pool2d

MODES = {"nearest": (3, 4), "nearest-exact": (3, 4), "linear": (3,), "bilinear": (4,), "area": (4,)}  # dimensions that each takes


class Resize(Op):
    """`axes` holds the positions for each of the last axes, the last one first."""

    def forward(self, x: Array, *, axes: list[Positions]) -> Array:
        self.saved = axes, x.shape
        for axis, positions in enumerate(axes, 1):
            x = kernels.resize(x, positions, -axis)
        return x

    def backward(self, gradient: Array) -> Array:
        axes, shape = self.saved
        for axis, positions in enumerate(axes, 1):
            gradient = kernels.resize_backward(gradient, positions, -axis, shape[-axis])
        return gradient


def interpolate(
    input: Tensor,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
) -> Tensor:
    """(N, C, H, W) or (N, C, L) with images of `size`, or `scale_factor` times as large (rounded down).

    mode is "nearest", "nearest-exact", "area" (averages), "linear" for sequences or "bilinear" for images; with `align_corners` the
    centres of the outermost pixels stay in place, else their edges. https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.interpolate.html

    ValueError for another mode, or unless one of size and scale_factor is given.
    """
    _check(input, size, scale_factor, mode, align_corners)
    lengths = input.array.shape[2:]
    factors = (None,) * len(lengths) if scale_factor is None else _each(scale_factor, len(lengths), "scale_factor")
    wanted = [math.floor(n * f) for n, f in zip(lengths, factors)] if scale_factor is not None else _each(size, len(lengths), "size")
    if min(wanted) < 1:
        raise RuntimeError(f"interpolate: an input of shape {tuple(input.shape)} would get the size {tuple(wanted)}")
    if mode == "area":
        return adaptive_avg_pool2d(input, (wanted[0], wanted[1]))
    factors = (None,) * len(lengths) if recompute_scale_factor else factors
    axes = [_positions(n, want, f, mode, bool(align_corners)) for n, want, f in zip(lengths, wanted, factors)]
    return Resize.apply(input, axes=axes[::-1])


def _check(input: Tensor, size: Any, scale_factor: Any, mode: str, align_corners: bool | None) -> None:
    ndim = input.array.ndim
    if mode not in MODES or ndim not in MODES[mode]:
        raise ValueError(f"interpolate: mode {mode!r} for {ndim} dimensions; there are " + ", ".join(f"{m} {n}" for m, n in MODES.items()))
    if (size is None) == (scale_factor is None):
        raise ValueError(f"only one of size or scale_factor should be defined, got {size} and {scale_factor}")
    if align_corners is not None and mode not in ("linear", "bilinear"):
        raise ValueError(f"align_corners can only be set with mode linear or bilinear, not {mode}")


def _each(value: Any, count: int, name: str) -> tuple[Any, ...]:
    numbers = tuple(value) if isinstance(value, (tuple, list)) else (value,) * count
    if len(numbers) != count:
        raise ValueError(f"interpolate: {name} must be one number or {count}, got {value}")
    return numbers


def _positions(length: int, wanted: int, factor: float | None, mode: str, align_corners: bool) -> Positions:
    """For each of the `wanted` new positions, where it comes from; `factor` is the scale asked for, or None."""
    scale = length / wanted if factor is None else 1 / factor
    if mode.startswith("nearest"):
        shift = np.float32(0.5 if mode == "nearest-exact" else 0.0)
        low = np.floor((np.arange(wanted, dtype=np.float32) + shift) * np.float32(scale)).astype(np.int64)  # in float32, as in torch
        return np.minimum(low, length - 1), None, None
    if align_corners:
        place = np.arange(wanted) * ((length - 1) / (wanted - 1) if wanted > 1 else 0.0)
    else:
        place = np.maximum((np.arange(wanted) + 0.5) * scale - 0.5, 0)
    low = np.minimum(np.floor(place).astype(np.int64), length - 1)
    return low, np.minimum(low + 1, length - 1), np.clip(place - low, 0, 1)


def pixel_shuffle(input: Tensor, upscale_factor: int) -> Tensor:
    """(…, C·r², H, W) → (…, C, H·r, W·r) (Shi et al. 2016). RuntimeError where r² does not divide the channels."""
    r, shape = upscale_factor, tuple(input.shape)
    if input.array.ndim < 3 or r < 1 or shape[-3] % r**2:
        raise RuntimeError(f"pixel_shuffle: the channels of (…, C, H, W) must be divisible by {r}², got shape {shape}")
    *batch, channels, height, width = shape
    x = input.reshape(-1, channels // r**2, r, r, height, width).permute(0, 1, 4, 2, 5, 3)
    return x.reshape(*batch, channels // r**2, height * r, width * r)  # type: ignore[no-any-return]


def pixel_unshuffle(input: Tensor, downscale_factor: int) -> Tensor:
    """(…, C, H·r, W·r) → (…, C·r², H, W), the opposite of pixel_shuffle. RuntimeError where r does not divide the sides."""
    r, shape = downscale_factor, tuple(input.shape)
    if input.array.ndim < 3 or r < 1 or shape[-2] % r or shape[-1] % r:
        raise RuntimeError(f"pixel_unshuffle: height and width of (…, C, H, W) must be divisible by {r}, got shape {shape}")
    *batch, channels, height, width = shape
    x = input.reshape(-1, channels, height // r, r, width // r, r).permute(0, 1, 3, 5, 2, 4)
    return x.reshape(*batch, channels * r**2, height // r, width // r)  # type: ignore[no-any-return]
