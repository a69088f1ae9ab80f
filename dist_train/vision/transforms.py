"""Transforms of images.

A transform is called with one sample. One that treats every pixel alike also has `on_batch`, which takes a whole
array of images that it may write into, so that a loader needs no Python loop over the samples; both ways give the
same bits. `ToTensor`, alone or before one `Normalize`, is one pass over the images of a batch where they lie.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from ..autograd.tensor import Tensor
from ..backend.reference.embedding import take_rows
from ..utils.data.shortcut import shortcut

Array = np.ndarray[Any, Any]
OnBatch = Callable[[Array], Array]


class Compose:
    """Transforms one after the other."""

    def __init__(self, transforms: Sequence[Callable[[Any], Any]]) -> None:
        self.transforms = list(transforms)

    def __call__(self, image: Any) -> Any:
        return _in_turn(self.transforms, image)

    @property
    def on_batch(self) -> OnBatch | None:
        """All of them on an array of images; None where one of them takes single samples only."""
        steps: list[Any] = [shortcut(transform, "on_batch", "__call__") for transform in self.transforms]
        return None if None in steps else partial(_in_turn, steps)

    def __repr__(self) -> str:
        lines = [f"    {transform}\n" for transform in self.transforms]
        return f"Compose(\n{''.join(lines)})"


class ToTensor:
    """An image (H, W) or (H, W, C), a NumPy array or PIL image, as a float32 tensor (C, H, W) in [0, 1].

    Values are divided by 255 where they are uint8; other types keep their values, and floats their type. Raises
    TypeError for what is no image, ValueError for another number of dimensions.
    """

    def __call__(self, image: Any) -> Tensor:
        if isinstance(image, Tensor) or not hasattr(image, "__array_interface__"):
            raise TypeError(f"ToTensor takes a NumPy array or a PIL image, not {type(image).__name__}")
        return Tensor(self.on_batch(np.asarray(image)[None])[0])

    def on_batch(self, images: Array) -> Array:
        """(N, H, W) or (N, H, W, C) to (N, C, H, W)."""
        if images.ndim not in (3, 4):
            raise ValueError(f"ToTensor takes images of shape (H, W) or (H, W, C), not {images.shape[1:]}")
        images = images[:, None] if images.ndim == 3 else images.transpose(0, 3, 1, 2)
        if images.dtype == np.uint8:
            # one pass: the conversion happens in the division's buffer
            return np.divide(images, np.float32(255), dtype=np.float32, order="C")
        return np.array(images, dtype=np.float32 if images.dtype == np.bool_ else images.dtype, order="C")

    def __repr__(self) -> str:
        return "ToTensor()"


class Normalize:
    """`(image - mean) / std` for each channel of a float tensor (…, C, H, W).

    Raises ValueError when `std` has a zero or the number of channels does not fit, TypeError when the image is not
    floating-point.
    """

    def __init__(self, mean: float | Sequence[float], std: float | Sequence[float]) -> None:
        self.mean, self.std = mean, std
        self._mean, self._std = _per_channel(mean), _per_channel(std)
        if len(self._mean) != len(self._std) or not self._std.all():
            raise ValueError(f"Normalize needs one mean and one std other than 0 per channel, not {mean} and {std}")
        self.constants = self._mean.astype(np.float32).reshape(-1), self._std.astype(np.float32).reshape(-1)

    def __call__(self, image: Tensor) -> Tensor:
        return Tensor(self.on_batch(image.array.copy()))

    def on_batch(self, images: Array) -> Array:
        """(…, C, H, W) to the same shape."""
        self._check(images)
        images -= self._mean.astype(images.dtype)
        images /= self._std.astype(images.dtype)
        return images

    def _check(self, images: Array) -> None:
        if images.dtype.kind != "f":
            raise TypeError(f"Normalize takes floating-point images, not {images.dtype}: put ToTensor() before it")
        if images.ndim < 3 or len(self._mean) not in (1, images.shape[-3]):
            raise ValueError(
                f"Normalize with {len(self._mean)} channels takes images of shape (…, {len(self._mean)}, H, W), not {images.shape}"
            )

    def __repr__(self) -> str:
        return f"Normalize(mean={self.mean}, std={self.std})"


class Lambda:
    """Any function of one sample."""

    def __init__(self, lambd: Callable[[Any], Any]) -> None:
        if not callable(lambd):
            raise TypeError(f"Lambda takes a function, not {type(lambd).__name__}")
        self.lambd = lambd

    def __call__(self, image: Any) -> Any:
        return self.lambd(image)

    def __repr__(self) -> str:
        return "Lambda()"


def on_rows(transform: Any, images: Array, indices: Array) -> Any:
    """What `transform` makes of images[indices], as one array; NotImplemented where it takes single samples only."""
    on_batch = shortcut(transform, "on_batch", "__call__")
    return NotImplemented if on_batch is None else on_batch(take_rows(images, indices))


def normalization(transform: Any, images: Any) -> tuple[Array, Array] | None:
    """The channels' mean and deviation, where `transform` is a `ToTensor`, alone or before a `Normalize`, of uint8 `images`; else None."""
    steps: list[Any] = transform.transforms if type(transform) is Compose else [transform]
    kinds = [type(step) for step in steps]
    if kinds not in ([ToTensor], [ToTensor, Normalize]):
        return None
    if type(images) is not np.ndarray or images.dtype != np.uint8 or images.ndim not in (3, 4) or not images.flags.c_contiguous:
        return None
    mean, deviation = steps[1].constants if len(steps) == 2 else (np.zeros(1, np.float32), np.ones(1, np.float32))
    return (mean, deviation) if len(mean) in (1, *images.shape[3:]) else None


def _in_turn(functions: Sequence[Callable[[Any], Any]], value: Any) -> Any:
    for function in functions:
        value = function(value)
    return value


def _per_channel(values: float | Sequence[float]) -> Array:
    return np.asarray(values, dtype=np.float64).reshape(-1, 1, 1)
