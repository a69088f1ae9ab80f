"""The optimizer's state for one rank's slice of a flat vector, and the plan by which its rule is applied to the slice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..backend.device import array_module, to_host
from ..backend.reference import fold as kernels
from ..comm.base import Communicator
from ..optim.optimizer import Optimizer
from .flat import Entry, FlatVector

Array = Any


@dataclass
class Clock:
    """Parameters that share group and number of updates: `indices` of them, and the number so far."""

    group: dict[str, Any]
    indices: np.ndarray[Any, Any]
    step: int


@dataclass
class Segment:
    """A run of the slice that one call of the rule updates; the vectors are parts of this rank's."""

    clock: Clock
    part: slice  # of the slice
    parameters: Array
    gradient: Array
    state: dict[str, Array] = field(default_factory=dict)


class SliceState:
    """The state vectors of this rank's slice of `flat`, each made when first needed."""

    def __init__(self, flat: FlatVector, optimizer: Optimizer) -> None:
        self.flat, self.optimizer = flat, optimizer
        self.groups = [group for group, _ in optimizer.indexed_params()]
        self.vectors: dict[str, Array] = {}

    def vector(self, name: str) -> Array:
        """A state vector of the slice; a new one holds the optimizer's initial values."""
        if name not in self.vectors:
            flat = self.flat
            self.vectors[name] = array_module(flat.gradient).zeros(flat.stop - flat.start, flat.dtype)
            for entry in flat.own_entries():
                if name in self.optimizer.state_vectors(self.groups[entry.index]):
                    self._part(name, entry)[...] = self.optimizer.initial_state(self.groups[entry.index], name)
        return self.vectors[name]

    def _part(self, name: str, entry: Entry) -> Array:
        lo, hi = self.flat.overlap(entry)
        return self.vectors[name][lo - self.flat.start : hi - self.flat.start]

    def fill(self, values: Callable[[int, str], Any]) -> None:
        """Replace the state by `values(index, name)`: a parameter's whole vector, or None for the initial values."""
        self.vectors = {}
        for entry in self.flat.own_entries():
            for name in self.optimizer.state_vectors(self.groups[entry.index]):
                value = values(entry.index, name)
                if value is not None:
                    lo, hi = self.flat.overlap(entry)
                    vector = self.vector(name)
                    part = to_host(value).reshape(-1)[lo - entry.offset : hi - entry.offset]
                    self._part(name, entry)[...] = array_module(vector).asarray(part)

    def gathered(self, comm: Communicator) -> dict[str, Array]:
        """All state vectors, whole, on every rank."""
        names = sorted({name for names in comm.all_gather_object(sorted(self.vectors)) for name in names})
        return {name: self._gather(name, comm) for name in names}

    def _gather(self, name: str, comm: Communicator) -> Array:
        flat = self.flat
        whole = array_module(flat.gradient).zeros(flat.length, flat.dtype)
        whole[flat.start : flat.stop] = self.vector(name)
        comm.gather_slices(whole, flat.starts, flat.counts)
        return whole

    def plan(self, clocks: Sequence[Clock], parameters: Array, gradient: Array) -> list[Segment]:
        """How the rule is applied to `parameters`, the slice's or a copy of them: neighbours of one clock make one segment."""
        clock_of = {index: clock for clock in clocks for index in clock.indices.tolist()}
        runs: list[tuple[Clock, int, int]] = []
        previous: Clock | None = None
        for entry in self.flat.own_entries():
            clock = clock_of.get(entry.index)
            if clock is not None:
                lo, hi = self.flat.overlap(entry)
                start = runs.pop()[1] if clock is previous else lo - self.flat.start
                runs.append((clock, start, hi - self.flat.start))
            previous = clock
        parts = [(clock, slice(start, stop)) for clock, start, stop in runs]
        return [Segment(clock, part, parameters[part], gradient[part]) for clock, part in parts]

    def update(self, segments: list[Segment], divisor: float) -> None:
        """Apply the optimizer's rule, to the gradient divided by `divisor`."""
        optimizer = self.optimizer
        takes_sums = getattr(optimizer.update, "takes_sums", False)
        optimizer.grad_divisor = divisor if takes_sums else 1.0
        for segment in segments:
            group, step = segment.clock.group, segment.clock.step
            names = optimizer.state_vectors(group)  # may change with the hyper-parameters
            if names != tuple(segment.state):
                segment.state = {name: self.vector(name)[segment.part] for name in names}
            if not takes_sums:
                kernels.divide(segment.gradient, divisor)
            optimizer.update(group, optimizer.next_step(group, step), segment.parameters, segment.gradient, segment.state)
        optimizer.grad_divisor = 1.0

    def shard(self) -> dict[str, Any]:
        """This rank's part of a checkpoint (see optim/parts.py)."""
        flat = self.flat
        return {
            "dtype": flat.dtype.name,
            "length": flat.length,
            "start": flat.start,
            "stop": flat.stop,
            "table": flat.table(),
            "vectors": {name: to_host(vector) for name, vector in sorted(self.vectors.items())},
        }
