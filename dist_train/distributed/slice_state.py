"""The optimizer's state for one rank's slice of a flat vector, and the plan by which its rule is applied to the slice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..backend.device import array_module, to_host
from ..comm.base import Communicator
from ..optim.optimizer import Optimizer
from .flat import Entry, FlatVector

Array = Any


@dataclass(frozen=True)
class Segment:
    """A run of the slice that one call of the rule updates; its parameters share group and step count. `index` is one of them."""

    group: dict[str, Any]
    index: int
    part: slice  # of the slice


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

    def plan(self, missing: np.ndarray[Any, Any], step_counts: list[int]) -> list[Segment]:
        """Neighbouring parameters that have a gradient and share group and step count become one segment."""
        segments: list[Segment] = []
        key: tuple[int, int] | None = None
        for entry in self.flat.own_entries():
            previous, key = key, None
            if missing[entry.index]:
                continue
            key = (id(self.groups[entry.index]), step_counts[entry.index])
            lo, hi = self.flat.overlap(entry)
            start = segments.pop().part.start if key == previous else lo - self.flat.start
            segments.append(Segment(self.groups[entry.index], entry.index, slice(start, hi - self.flat.start)))
        return segments

    def update(self, segments: list[Segment], parameters: Array, gradient: Array, next_step: Callable[[int], int]) -> None:
        """Apply the optimizer's rule to `parameters`, the slice's or a copy of them."""
        for segment in segments:
            part = segment.part
            vectors = {name: self.vector(name)[part] for name in self.optimizer.state_vectors(segment.group)}
            self.optimizer.update(segment.group, next_step(segment.index), parameters[part], gradient[part], vectors)

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
