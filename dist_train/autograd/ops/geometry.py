"""Sizes of sliding windows: reading the arguments of convolution and pooling."""

from __future__ import annotations

from typing import Any

from ..engine import Array

Pair = tuple[int, int]


def pair(value: Any, name: str, lowest: int = 1) -> Pair:
    """One integer, or two for height and width, as two; ValueError names the argument."""
    numbers = tuple(value) if isinstance(value, (tuple, list)) else (value, value)
    if len(numbers) == 1:
        numbers *= 2
    if len(numbers) != 2 or any(int(n) != n or n < lowest for n in numbers):
        raise ValueError(f"{name} must be one integer or two, each at least {lowest}, got {value!r}")
    return int(numbers[0]), int(numbers[1])


def only(value: Any) -> Any:
    """The number that a 1-dimensional layer was given, alone or in a tuple."""
    return value[0] if isinstance(value, (tuple, list)) else value


def as_images(name: str, x: Array) -> Array:
    """(N, C, H, W), or (C, H, W) with a first axis added."""
    if x.ndim not in (3, 4):
        raise RuntimeError(f"{name} expects (N, C, H, W) or (C, H, W), got shape {x.shape}")
    return x if x.ndim == 4 else x[None]
