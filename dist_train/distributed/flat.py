"""Flat vectors: the parameters of one type one after another in one piece of memory, and their gradients in another.

Each tensor starts on a 64-byte boundary, a large one on a block boundary, and the vector ends on a block boundary, so a slice of whole
blocks can be given to each rank whatever the sizes of the tensors. The gaps hold zeros.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..autograd.tensor import Parameter, Tensor
from ..backend.device import array_module, is_device_array
from ..backend.reference.fold import BLOCK
from ..comm.base import Communicator
from ..comm.node import Layout, alone
from .fold import num_vectors, share

_ALIGNMENT = 64  # bytes
_LARGE = 32 * BLOCK  # elements of a tensor that begins on a block: at most 3 % of it are gaps

Named = Sequence[tuple[int, str, Parameter]]  # index, name, parameter


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

    `start` and `stop` bound the slice that this rank reduces; `starts` and `counts` have those of all ranks. `layout` says which ranks
    share memory, and `vectors[r]` are those of rank r of the node: number 0 is its `gradient`, the others hold partial sums.
    """

    def __init__(self, named: Named, comm: Communicator, micro_batches: int, layout: Layout) -> None:
        self.layout = layout
        first = named[0][2].array
        self._like = array_module(first).empty(0, first.dtype)  # not the array itself, whose memory is to be freed
        self.dtype = self._like.dtype
        self.entries, length = _lay_out(named, self.dtype.itemsize)
        self.length = -(-length // BLOCK) * BLOCK
        borders = [rank * (self.length // BLOCK) // comm.size * BLOCK for rank in range(comm.size + 1)]
        self.starts, self.counts = borders[:-1], [stop - start for start, stop in itertools.pairwise(borders)]
        self.start, self.stop = borders[comm.rank], borders[comm.rank + 1]
        ranks = layout.nodes[layout.lane.rank]
        self.vectors = self._allocate([num_vectors(share(rank, comm.size, micro_batches), micro_batches) for rank in ranks])
        self.own_vectors = self.vectors[layout.node.rank]
        self.gradient = self.own_vectors[0]
        self._homes = [(entry.index, entry.parameter, Tensor(self.region(self.gradient, entry))) for entry in self.entries]
        for _, parameter, buffer in self._homes:
            parameter._grad_buffer = buffer

    def _allocate(self, numbers: Sequence[int]) -> list[list[Any]]:
        """For each rank of the node, `numbers[rank]` zeroed vectors."""
        memory = self._memory([number * self.length for number in numbers])
        rows = memory.reshape(sum(numbers), self.length)
        return [list(rows[stop - number : stop]) for number, stop in zip(numbers, itertools.accumulate(numbers))]

    def _memory(self, counts: Sequence[int]) -> Any:
        """Zeros that the node's ranks share, `counts[r]` of them near rank r; on a GPU, this rank's own."""
        if is_device_array(self._like):
            return array_module(self._like).zeros(sum(counts), self.dtype)
        return self.layout.node.memory([count * self.dtype.itemsize for count in counts]).view(self.dtype)

    def region(self, vector: Any, entry: Entry) -> Any:
        """A parameter's part of a vector of this layout, in the parameter's shape."""
        return vector[entry.offset : entry.stop].reshape(entry.shape)

    def overlap(self, entry: Entry) -> tuple[int, int]:
        """The part of a parameter that lies in this rank's slice: first and last + 1 element of the vector."""
        return max(entry.offset, self.start), min(entry.stop, self.stop)

    def own_entries(self) -> Iterator[Entry]:
        """The entries with elements in this rank's slice."""
        return (entry for entry in self.entries if entry.offset < self.stop and entry.stop > self.start)

    def settle(self, written: bytearray) -> None:
        """Make the vector hold what backward wrote, zeros where it wrote nothing, and leave no `.grad`; marks, by index, in `written`
        which parameters had one."""
        for index, parameter, buffer in self._homes:
            gradient = parameter.grad
            if gradient is None:
                buffer.array[...] = 0
                continue
            if gradient is not buffer:
                buffer.array[...] = gradient.array
            written[index] = 1
            parameter.grad = None

    def has_gradients(self) -> bool:
        """Whether some parameter has a `.grad`."""
        return any(parameter.grad is not None for _, parameter, _ in self._homes)

    def own_gradient(self) -> Any:
        """This rank's slice of its gradient, where the reduction leaves the sum of all gradients."""
        return self.gradient[self.start : self.stop]


class FlatVector(FlatGradient):
    """Parameters and their gradients. The parameters become read-only views of one vector, which the ranks of a node share."""

    def __init__(self, named: Named, comm: Communicator, micro_batches: int, layout: Layout) -> None:
        super().__init__(named, comm, micro_batches, layout)
        size, blocks = self.layout.node.size, self.length // BLOCK
        self.parameters = self._memory([((rank + 1) * blocks // size - rank * blocks // size) * BLOCK for rank in range(size)])
        for entry in self.entries:
            self.region(self.parameters, entry)[...] = entry.parameter.array  # every rank of the node writes the same
        layout.node.barrier()
        for entry in self.entries:
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


def begins_a_block(array: Any) -> bool:
    """Whether a tensor begins on a block boundary of its flat vector."""
    return bool(array.size >= _LARGE)


def _lay_out(named: Named, itemsize: int) -> tuple[list[Entry], int]:
    entries, offset = [], 0
    for index, name, parameter in named:
        step = BLOCK if begins_a_block(parameter.array) else _ALIGNMENT // itemsize
        offset = -(-offset // step) * step
        entries.append(Entry(index, name, parameter, offset))
        offset += parameter.array.size
    return entries, offset


def by_type(named: Named) -> list[Named]:
    """The parameters grouped by type, types in order of first appearance."""
    groups: dict[np.dtype[Any], list[tuple[int, str, Parameter]]] = {}
    for item in named:
        groups.setdefault(item[2].array.dtype, []).append(item)
    return list(groups.values())


def node_layout(groups: Sequence[Named], comm: Communicator, micro_batches: int) -> Layout:
    """The nodes that share the vectors of `groups`: where there is room for them, and not on a GPU."""
    arrays = [parameter.array for group in groups for _, _, parameter in group]
    if any(is_device_array(array) for array in arrays):
        return alone(comm)
    vectors = 1 + max(num_vectors(share(rank, comm.size, micro_batches), micro_batches) for rank in range(comm.size))
    gaps = (len(groups) + len(arrays)) * BLOCK * 8
    return comm.layout(vectors * (sum(array.nbytes for array in arrays) + gaps) + sum(array.size for array in arrays) // 64)
