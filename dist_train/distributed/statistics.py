"""Buffers that forward changes (the running statistics of batch normalisation) under micro-batches.

Each micro-batch starts from the step's buffers and changes its own copy; the step then moves them by the weighted mean of the changes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..autograd.tensor import Tensor, version_cell
from ..backend.device import array_module, to_host
from ..comm.base import Communicator
from ..nn.module import Module
from .drift import checksum


@dataclass(frozen=True)
class _Buffer:
    """A buffer by its place, since a forward may also assign a new tensor to it."""

    module: Module
    name: str
    path: str

    @property
    def tensor(self) -> Tensor:
        return getattr(self.module, self.name)  # type: ignore[no-any-return]

    def version(self) -> tuple[Tensor, int]:
        return self.tensor, version_cell(self.tensor)[0]


class RunningStatistics:
    """The buffers that the models' modules name in `running_statistics`: `size` elements in all.

    With several micro-batches a change of any other buffer is an error: nothing says how to combine it.
    """

    def __init__(self, models: Sequence[Module], micro_batches: int) -> None:
        buffers = list(_buffers(models))
        self._own = [buffer for buffer in buffers if buffer.name in buffer.module.running_statistics]
        self._others = [buffer for buffer in buffers if buffer not in self._own] if micro_batches > 1 else []
        self.size = sum(buffer.tensor.numel() for buffer in self._own)
        self._base: list[Any] = []
        self._versions: list[tuple[Tensor, int]] = []
        self.watches = bool(self._own or self._others)
        self._open = False  # whether a forward may have changed the buffers since a micro-batch began

    def begin(self, first: bool) -> None:
        """A micro-batch begins; the first one of a step takes the buffers as the step's base."""
        self.leave()
        if first:
            self._base = [buffer.tensor.array.copy() for buffer in self._own]
        self._open = True
        self._versions = [buffer.version() for buffer in self._others]

    def changes(self) -> np.ndarray[Any, Any]:
        """What the current micro-batch did to the buffers, which go back to the step's: 1-D, float64."""
        self._check_others()
        parts = [to_host(buffer.tensor.array).astype(np.float64) - to_host(base) for buffer, base in zip(self._own, self._base)]
        self._restore()
        return np.concatenate([part.reshape(-1) for part in parts]) if parts else np.zeros(0)

    def leave(self) -> None:
        """Undo what a micro-batch did that did not end with a step."""
        if self._open:
            self._restore()

    def apply(self, change: np.ndarray[Any, Any]) -> None:
        """The step is complete: move the base by `change`."""
        self._restore()
        done = 0
        for tensor in [buffer.tensor for buffer in self._own]:
            part = change[done : done + tensor.numel()].reshape(tensor.shape)
            done += tensor.numel()
            value = to_host(tensor.array).astype(np.float64) + part
            value = value if tensor.is_floating_point() else np.rint(value)
            tensor.array[...] = array_module(tensor.array).asarray(value.astype(tensor.dtype))

    def check_drift(self, comm: Communicator) -> None:
        """RuntimeError, on every rank, that names the first buffer by which the ranks' models differ."""
        sums = comm.all_gather(np.array([checksum(buffer.tensor.array) for buffer in self._own], np.int64))
        different = np.flatnonzero((sums != sums[0]).any(axis=0))
        if len(different):
            column = different[0]
            ranks = np.flatnonzero(sums[:, column] != sums[0, column]).tolist()
            raise RuntimeError(
                f"the buffer {self._own[column].path!r} on rank(s) {ranks} differs from rank 0: a forward changed it outside of a step. "
                "Call model.eval() before evaluation, and model.train() after it"
            )

    def _restore(self) -> None:
        self._open = False
        for buffer, base in zip(self._own, self._base):
            buffer.tensor.array[...] = base

    def _check_others(self) -> None:
        for buffer, (tensor, version) in zip(self._others, self._versions):
            now, current = buffer.version()
            if now is not tensor or current != version:
                raise RuntimeError(
                    f"forward changed the buffer {buffer.path!r}, which dist_train does not know how to combine over micro-batches: "
                    "name it in its module's class attribute `running_statistics`, and every step moves it by the weighted mean of the "
                    "changes"
                )


def _buffers(models: Sequence[Module]) -> Iterator[_Buffer]:
    """Every buffer of the models, once."""
    seen: set[int] = set()
    for model in models:
        for prefix, module in model.named_modules():
            for name, tensor in module.named_buffers(recurse=False):
                if id(tensor) not in seen:
                    seen.add(id(tensor))
                    yield _Buffer(module, name, f"{prefix}.{name}".lstrip("."))
