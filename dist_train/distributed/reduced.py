"""The step's gradient after the reduction: this rank's slice of it, what all ranks know of it, and what clipping does to it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..backend.device import array_module, to_host
from ..backend.reference import fold as kernels
from ..backend.reference.fold import BLOCK
from ..comm.base import Communicator
from .flat import FlatVector
from .record import StepRecord

Array = Any


class ReducedGradient:
    """`slices` holds this rank's slice of the sum over the micro-batches, per flat vector; divided by `divisor` it is the mean."""

    def __init__(self, flats: Sequence[FlatVector], comm: Communicator, slices: list[Array], record: StepRecord, divisor: float) -> None:
        self.slices, self.record, self.divisor = slices, record, divisor
        self._flats, self._comm = flats, comm
        self._norm: float | None = math.sqrt(record.squares) / divisor if divisor > 0 else None  # None: not known any more

    def take_mean(self) -> None:
        """Divide, once."""
        for part in self.slices:
            kernels.divide(part, self.divisor)
        self.divisor = 1.0

    def norm(self, norm_type: float) -> float:
        """The norm of the mean gradient, the same on every rank, added up in block order."""
        if norm_type == 2.0 and self._norm is not None:
            return self._norm
        self.take_mean()
        blocks = np.concatenate([self._block_norms(flat, part, norm_type) for flat, part in zip(self._flats, self.slices)])
        return float(blocks.max() if math.isinf(norm_type) else np.add.reduce(blocks) ** (1 / norm_type))

    def _block_norms(self, flat: FlatVector, part: Array, norm_type: float) -> np.ndarray[Any, Any]:
        """All ranks' blocks: the largest magnitude, or the sum of magnitudes to the power of `norm_type`."""
        rows = np.abs(to_host(part)).astype(np.float64).reshape(-1, BLOCK)
        own = rows.max(axis=1, initial=0) if math.isinf(norm_type) else (rows**norm_type).sum(axis=1)
        return np.asarray(self._comm.all_gather_varying(own, [count // BLOCK for count in flat.counts]))

    def scale_down(self, norm: float, max_norm: float) -> None:
        """Scale the mean gradient, whose norm is `norm`, to `max_norm` where it is larger."""
        self.take_mean()
        if norm + 1e-6 > max_norm:
            for part in self.slices:
                kernels.scale(part, max_norm / (norm + 1e-6), part)
            self._norm = None

    def clamp(self, value: float) -> None:
        """Keep the elements of the mean gradient between −value and value."""
        self.take_mean()
        for part in self.slices:
            array_module(part).clip(part, -value, value, out=part)
        self._norm = None

    def nonfinite_parameters(self) -> list[str]:
        """The parameters, of all ranks' slices, whose summed gradient is not finite. Collective where the squares give cause to look."""
        if math.isfinite(self.record.squares):
            return []
        own = [name for flat, part in zip(self._flats, self.slices) for name in _nonfinite_names(flat, part)]
        return list(dict.fromkeys(name for names in self._comm.all_gather_object(own) for name in names))


def _nonfinite_names(flat: FlatVector, part: Array) -> list[str]:
    """The parameters whose elements in this rank's slice are not all finite."""
    finite = np.isfinite(to_host(part))
    names = []
    for entry in flat.own_entries():
        lo, hi = flat.overlap(entry)
        if not finite[lo - flat.start : hi - flat.start].all():
            names.append(entry.name)
    return names
