"""Images: rows of bytes become normalised floats."""

from __future__ import annotations

from types import ModuleType

from ..device import Array
from ..kernels import kernel


@kernel
def normalized_rows(xp: ModuleType, images: Array, indices: Array, mean: Array = None, std: Array = None, out: Array = None) -> Array:
    """(images[indices] / 255 - mean) / std: uint8 (N, H, W) or (N, H, W, C) → float32 (len(indices), C, H, W), in `out` where it is given.

    mean, std: float32, one value or one for each channel; None for both leaves the values in [0, 1].
    """
    rows = images.take(indices, axis=0)
    rows = rows[:, None] if rows.ndim == 3 else rows.transpose(0, 3, 1, 2)
    out = xp.empty(rows.shape, xp.float32) if out is None else out
    xp.divide(rows, xp.float32(255), out=out)  # one pass: the conversion happens in the division's buffer
    if mean is not None:
        out -= mean[:, None, None]
        out /= std[:, None, None]
    return out
