"""The training loop of the benchmarks, the same for both libraries, and how each library's user would set it up."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import report
from workloads import Workload, loss_of

Batches = Sequence[tuple[Any, Any]]
Weights = dict[str, Any] | None


class Trainer:
    """A model, its optimizer and the batches, which lie in memory and come in turn."""

    def __init__(self, library: Any, workload: Workload, model: Any, optimizer: Any, batches: Batches) -> None:
        self.model, self.optimizer = model, optimizer
        self.criterion = loss_of(library, workload.tokens)
        self.batches = itertools.cycle([(library.tensor(x), library.tensor(y)) for x, y in batches])

    def step(self) -> Any:
        inputs, labels = next(self.batches)
        self.optimizer.zero_grad()
        loss = self.criterion(self.model(inputs), labels)
        loss.backward()
        self.optimizer.step()
        return loss

    def losses(self, count: int) -> list[float]:
        return [self.step().item() for _ in range(count)]

    def set_rate(self, rate: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = rate

    def seconds(self, count: int) -> float:
        return report.seconds(self.step, count)


def ours(workload: Workload, batches: Batches, weights: Weights = None) -> Trainer:
    import dist_train as dt

    model = workload.build(dt)
    if weights:
        model.load_state_dict(weights)
    model, optimizer, _ = dt.distribute(model, dt.optim.Adam(model.parameters()))
    return Trainer(dt, workload, model, optimizer, batches)


def pytorch(workload: Workload, batches: Batches, weights: Weights = None, *, fused: bool = True, zero: bool = False) -> Trainer:
    """DistributedDataParallel where there is a process group, with ZeroRedundancyOptimizer on request."""
    import torch

    model: Any = workload.build(torch)
    if weights:
        model.load_state_dict({name: torch.tensor(value) for name, value in weights.items()})
    if torch.distributed.is_initialized():
        model = torch.nn.parallel.DistributedDataParallel(model, gradient_as_bucket_view=True)
    return Trainer(torch, workload, model, _adam(torch, model, fused, zero), batches)


def _adam(torch: Any, model: Any, fused: bool, zero: bool) -> Any:
    if not zero:
        return torch.optim.Adam(model.parameters(), fused=fused)
    from torch.distributed.optim import ZeroRedundancyOptimizer

    return ZeroRedundancyOptimizer(model.parameters(), optimizer_class=torch.optim.Adam, fused=fused)
