"""DistributedDataParallel, for programs written for torch's: replicated parameters, gradients averaged over the ranks in each backward.

`dist_train.distribute` does more (micro-batches, sharded state, results that do not depend on the number of ranks); here each rank is one
micro-batch of weight one, as in torch.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from .. import comm as comm_
from ..backend.reference import fold as kernels
from ..comm.base import Communicator
from ..nn.module import Module
from .buckets import buffer_bytes
from .distribute import broadcast_model, check_same_models
from .flat import FlatGradient, by_type, node_layout
from .reduction import SliceReduction


class DistributedDataParallel(Module):
    """Wraps `module`: forward passes through; every backward leaves the ranks' mean gradient in `.grad`, on every rank.

    Rank 0's parameters and buffers are broadcast first. Every rank runs equally many backward passes; a parameter that had no gradient on
    some ranks counts as zero there. See https://docs.pytorch.org/docs/stable/generated/torch.nn.parallel.DistributedDataParallel.html
    """

    def __init__(
        self,
        module: Module,
        device_ids: Any = None,
        output_device: Any = None,
        broadcast_buffers: bool = True,
        find_unused_parameters: bool = False,
        gradient_as_bucket_view: bool = True,
    ) -> None:
        super().__init__()
        _check_not_distributed(module)
        comm = comm_.world()
        check_same_models([module], comm)
        broadcast_model(module, comm)
        self.module = module
        self._sync = _GradientMean(module, comm)
        self._broadcast_buffers = broadcast_buffers

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        if self._broadcast_buffers and self.training and self._sync.enabled:
            for buffer in self.module.buffers():
                self._sync.comm.broadcast(buffer.array)
        return self.module(*args, **kwargs)

    def __deepcopy__(self, memo: dict[int, Any]) -> DistributedDataParallel:
        """A wrapped copy of the module, which listens for itself; every rank makes it, as every rank makes the first one."""
        return DistributedDataParallel(copy.deepcopy(self.module, memo), broadcast_buffers=self._broadcast_buffers)

    @contextmanager
    def no_sync(self) -> Iterator[None]:
        """Inside, gradients add up on each rank alone; the first backward after it reduces what has been added up."""
        previous, self._sync.enabled = self._sync.enabled, False
        try:
            yield
        finally:
            self._sync.enabled = previous


def _check_not_distributed(module: Module) -> None:
    for name, parameter in module.named_parameters():
        if parameter._owner is not None:
            raise RuntimeError(f"{name!r} is under dist_train.distribute, which averages gradients too: leave DistributedDataParallel out")


class _GradientMean:
    """Listens to backward: when a backward pass is done, replaces them by their mean over the ranks."""

    overlaps = False

    def __init__(self, module: Module, comm: Communicator) -> None:
        named = [(i, name, p) for i, (name, p) in enumerate(module.named_parameters()) if p.requires_grad]
        if not named:
            raise RuntimeError("DistributedDataParallel is not needed: no parameter of the module requires a gradient")
        self.comm, self.enabled = comm, True
        groups = by_type(named)
        self._layout = node_layout(groups, comm, comm.size)
        flats = [FlatGradient(group, comm, comm.size, self._layout) for group in groups]
        self._reductions = [SliceReduction(flat, comm, comm.size, self._layout.lane, buffer_bytes()) for flat in flats]
        for reduction in self._reductions:
            for entry in reduction.flat.entries:
                entry.parameter._listener = self

    def backward_done(self, loss: Any) -> None:
        if self.enabled:
            for reduction in self._reductions:
                self._average(reduction)

    def gradient_final(self, leaf: Any) -> None:
        """All gradients are reduced together, when the backward pass is done."""

    def gradients_dropped(self) -> None:
        """Nothing is kept between backward passes."""

    def _average(self, reduction: SliceReduction) -> None:
        flat = reduction.flat
        written = bytearray(1 + max(entry.index for entry in flat.entries))
        flat.settle(written)
        present = self.comm.all_gather(np.frombuffer(written, bool)).any(axis=0)
        self._layout.node.barrier()
        reduction.reduce([1.0] * self._layout.node.size)
        kernels.divide(flat.own_gradient(), float(self.comm.size))
        self.comm.gather_slices(flat.gradient, flat.starts, flat.counts)
        for entry in flat.entries:
            entry.parameter.grad = entry.parameter._grad_buffer if present[entry.index] else None
