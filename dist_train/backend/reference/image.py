"""Images: rows of bytes become normalised floats."""

from __future__ import annotations

from types import ModuleType

from ..device import Array
from ..kernels import kernel


@kernel
def normalized_samples(
    xp: ModuleType, images: Array, indices: Array, mean: Array, std: Array, targets: Array | None
) -> tuple[Array, Array | None]:
    """(images[indices] / 255 - mean) / std, and targets[indices] where there are targets.

    uint8 (N, H, W) or (N, H, W, C) and (N,) → float32 (len(indices), C, H, W) and (len(indices),); mean, std: float32, one value or one
    for each channel.
    """
    rows = images.take(indices, axis=0)
    rows = rows[:, None] if rows.ndim == 3 else rows.transpose(0, 3, 1, 2)
    rows = xp.divide(rows, xp.float32(255), dtype=xp.float32, order="C")  # one pass: the conversion happens in the division's buffer
    rows -= mean[:, None, None]
    rows /= std[:, None, None]
    return rows, None if targets is None else targets[indices]
