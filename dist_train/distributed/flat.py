"""Flat vectors: the parameters of one type one after another in one piece of memory, and their gradients in another.

Each tensor starts on a 64-byte boundary and the vector ends on a block boundary, so a slice of whole blocks can be given to each rank
whatever the sizes of the tensors. The gaps hold zeros.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..autograd.tensor import Parameter, Tensor
from ..backend.device import array_module, is_device_array
from ..comm.base import Communicator

BLOCK = 1024  # elements; slices end on a block, and the gradient's norm is added block by block
_ALIGNMENT = 64  # bytes


@dataclass(frozen=True)
class Entry:
    """Where a parameter lies: `index` counts the optimizer's parameters, `offset` and `size` are in elements."""

    index: int
    name: str
    parameter: Any
    offset: int

    @property
    def size(self) -> int:
        return int(self.parameter.array.size)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.parameter.array.shape)

    @property
    def stop(self) -> int:
        return self.offset + self.size


class FlatGradient:
    """The gradients of the parameters `named` (index, name, parameter), all of one type, in one vector.

    `start` and `stop` bound the slice that this rank reduces; `counts` has the lengths of all ranks' slices.
    """

    def __init__(self, named: Sequence[tuple[int, str, Parameter]], comm: Communicator) -> None:
        first = named[0][2].array
        self.dtype = first.dtype
        self.entries, length = _lay_out(named, self.dtype.itemsize)
        self.length = -(-length // BLOCK) * BLOCK
        self.gradient = _allocate(comm, first, self.length)
        borders = [rank * (self.length // BLOCK) // comm.size * BLOCK for rank in range(comm.size + 1)]
        self.counts = [stop - start for start, stop in itertools.pairwise(borders)]
        self.start, self.stop = borders[comm.rank], borders[comm.rank + 1]
        self._spare: list[Any] = []
        for entry in self.entries:
            entry.parameter._grad_buffer = Tensor(self.region(self.gradient, entry))

    def region(self, vector: Any, entry: Entry) -> Any:
        """A parameter's part of a vector of this layout, in the parameter's shape."""
        return vector[entry.offset : entry.stop].reshape(entry.shape)

    def overlap(self, entry: Entry) -> tuple[int, int]:
        """The part of a parameter that lies in this rank's slice: first and last + 1 element of the vector."""
        return max(entry.offset, self.start), min(entry.stop, self.stop)

    def own_entries(self) -> Iterator[Entry]:
        """The entries with elements in this rank's slice."""
        return (entry for entry in self.entries if entry.offset < self.stop and entry.stop > self.start)

    def settle(self) -> None:
        """Make the vector hold what backward wrote, zeros where it wrote nothing, and leave no `.grad`."""
        for entry in self.entries:
            parameter = entry.parameter
            if parameter.grad is None:
                self.region(self.gradient, entry)[...] = 0
            elif parameter.grad is not parameter._grad_buffer:
                parameter._grad_buffer.array[...] = parameter.grad.array
            parameter.grad = None

    def spare(self) -> Any:
        """A vector to hold a partial sum of gradients; give it back with `release`."""
        return self._spare.pop() if self._spare else array_module(self.gradient).empty_like(self.gradient)

    def release(self, vector: Any) -> None:
        if vector is not self.gradient:
            self._spare.append(vector)


class FlatVector(FlatGradient):
    """Parameters and their gradients: two vectors of one layout. The parameters become read-only views of the first."""

    def __init__(self, named: Sequence[tuple[int, str, Parameter]], comm: Communicator) -> None:
        super().__init__(named, comm)
        self.parameters = _allocate(comm, named[0][2].array, self.length)
        for entry in self.entries:
            self.region(self.parameters, entry)[...] = entry.parameter.array
            self.home(entry)

    def home(self, entry: Entry) -> None:
        """Make the parameter a read-only view of the vector."""
        view = self.region(self.parameters, entry)
        if not is_device_array(view):
            view.flags.writeable = False
        entry.parameter.array = view

    def own(self) -> Any:
        """This rank's slice of the parameters."""
        return self.parameters[self.start : self.stop]

    def changed(self) -> None:
        """The parameters have new values: a backward pass over what was computed from the old ones is an error from now on."""
        for entry in self.entries:
            if entry.parameter._version is not None:
                entry.parameter._version[0] += 1

    def table(self) -> list[dict[str, Any]]:
        """The layout as JSON."""
        return [{"index": e.index, "name": e.name, "shape": list(e.shape), "offset": e.offset} for e in self.entries]


def _lay_out(named: Sequence[tuple[int, str, Parameter]], itemsize: int) -> tuple[list[Entry], int]:
    step = _ALIGNMENT // itemsize
    entries, offset = [], 0
    for index, name, parameter in named:
        entries.append(Entry(index, name, parameter, offset))
        offset += -(-parameter.array.size // step) * step
    return entries, offset


def _allocate(comm: Communicator, like: Any, length: int) -> Any:
    """Zeros where `like` lives: on a host, memory that the communicator chose, from a 64-byte boundary on."""
    if is_device_array(like):
        return array_module(like).zeros(length, like.dtype)
    step = _ALIGNMENT // like.dtype.itemsize
    memory = comm.allocate(length + step, like.dtype)
    return memory[-(memory.ctypes.data // like.dtype.itemsize) % step :][:length]


def by_type(named: Sequence[tuple[int, str, Parameter]]) -> list[list[tuple[int, str, Parameter]]]:
    """The parameters grouped by type, types in order of first appearance."""
    groups: dict[np.dtype[Any], list[tuple[int, str, Parameter]]] = {}
    for item in named:
        groups.setdefault(item[2].array.dtype, []).append(item)
    return list(groups.values())
