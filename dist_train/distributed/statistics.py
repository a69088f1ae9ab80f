"""Buffers that forward changes (the running statistics of batch normalisation) under micro-batches.

Each micro-batch starts from the step's buffers and changes its own copy; the step then moves them by the weighted mean of the changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..autograd.tensor import Tensor, version_cell
from ..backend.device import array_module, to_host
from ..nn.module import Module


class RunningStatistics:
    """The buffers that the models' modules name in `running_statistics`."""

    def __init__(self, models: Sequence[Module]) -> None:
        self.buffers: list[Tensor] = []
        self._others: list[tuple[str, list[int], int]] = []
        seen: set[int] = set()
        for model in models:
            for prefix, module in model.named_modules():
                for name, buffer in module.named_buffers(recurse=False):
                    if id(buffer) in seen:
                        continue
                    seen.add(id(buffer))
                    if name in module.running_statistics:
                        self.buffers.append(buffer)
                    else:
                        cell = version_cell(buffer)
                        self._others.append((f"{prefix}.{name}".lstrip("."), cell, cell[0]))
        self.size = sum(buffer.numel() for buffer in self.buffers)
        self._base: list[Any] = []

    def begin(self, first: bool) -> None:
        """A micro-batch begins: take the step's buffers as the base, or go back to it."""
        if first:
            self._base = [buffer.array.copy() for buffer in self.buffers]
        else:
            self._restore()
        self._others = [(name, cell, cell[0]) for name, cell, _ in self._others]

    def changes(self) -> np.ndarray[Any, Any]:
        """What the current micro-batch did to the buffers: 1-D, float64."""
        self._check_others()
        parts = [to_host(b.array).astype(np.float64) - to_host(base) for b, base in zip(self.buffers, self._base)]
        return np.concatenate([part.reshape(-1) for part in parts]) if parts else np.zeros(0)

    def apply(self, change: np.ndarray[Any, Any]) -> None:
        """The step is complete: move the base by `change`."""
        self._restore()
        done = 0
        for buffer in self.buffers:
            part = change[done : done + buffer.numel()].reshape(buffer.shape)
            done += buffer.numel()
            value = to_host(buffer.array).astype(np.float64) + part
            value = value if buffer.is_floating_point() else np.rint(value)
            buffer.array[...] = array_module(buffer.array).asarray(value.astype(buffer.dtype))

    def _restore(self) -> None:
        for buffer, base in zip(self.buffers, self._base):
            buffer.array[...] = base

    def _check_others(self) -> None:
        for name, cell, version in self._others:
            if cell[0] != version:
                raise RuntimeError(
                    f"forward changed the buffer {name!r}, which dist_train does not know how to combine over micro-batches: name it in "
                    "its module's class attribute `running_statistics`, and every step moves it by the weighted mean of the changes"
                )
