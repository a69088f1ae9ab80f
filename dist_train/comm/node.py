"""Ranks that share memory, and the lanes that connect them to other nodes.

Shared memory is a file in /dev/shm that loses its name as soon as all ranks of the node have opened it, so nothing is left behind whatever
ends the job. Each rank reserves its own part before anything is touched: where there is no room that is an error, never a bus error, and
the pages lie near the rank that uses them.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..backend import native
from .farewell import Calls

if TYPE_CHECKING:
    from .base import Communicator

_DIRECTORY = "/dev/shm"
_RESERVE = 2**20  # bytes of /dev/shm that are left to others
_LINE = 64  # bytes of a rank's line in the memory of the barrier
_SPINS, _YIELDS = 1000, 100  # how often a waiting rank looks before it sleeps, where every rank has a core
_INTERVAL = 0.2  # seconds after which a waiting rank looks for signals

Bytes = np.ndarray[Any, np.dtype[np.uint8]]


class Node:
    """The ranks that share memory with this one. This base class is a rank alone: its memory is its own."""

    rank: int = 0
    size: int = 1

    def memory(self, sizes: Sequence[int]) -> Bytes:
        """Zeroed memory that all ranks of the node see: `sizes[r]` bytes that rank r reserves, one part after another.

        It begins on a 64-byte boundary. OSError on every rank of the node where it cannot be had.
        """
        memory = np.zeros(sum(sizes) + 64, np.uint8)
        return memory[-memory.ctypes.data % 64 :][: sum(sizes)]

    def barrier(self) -> None:
        """Wait for the ranks of the node; what they wrote before is seen after."""

    def duplicate(self) -> Node:
        """The same ranks, for use from another thread."""
        return self


@dataclass(frozen=True)
class Layout:
    """How ranks are grouped: `nodes` lists the ranks of each node; `lane` joins the ranks that have the same place in their node."""

    node: Node
    lane: Communicator  # its rank i belongs to node i
    nodes: list[list[int]]

    def duplicate(self) -> Layout:
        """The same grouping, for use from another thread."""
        return Layout(self.node.duplicate(), self.lane.duplicate(), self.nodes)


def alone(comm: Communicator) -> Layout:
    """Every rank a node of its own."""
    return Layout(Node(), comm, [[rank] for rank in range(comm.size)])


class SharedNode(Node):
    """The ranks of `comm`, an mpi4py communicator, all on one machine; its collective calls are noted in `calls`.

    Ranks wait for each other through flags in memory where the compiled kernels are there, else through MPI. Where the machine has fewer
    cores than ranks (`crowded`) a rank that waits sleeps at once.
    """

    def __init__(self, comm: Any, calls: Calls, crowded: bool) -> None:
        self._comm, self._calls, self._crowded = comm, calls, crowded
        self._patience = (0, 0) if crowded else (_SPINS, _YIELDS)
        self._flags: Bytes | None = None
        self._arrivals = 0
        self.rank, self.size = comm.Get_rank(), comm.Get_size()

    def duplicate(self) -> Node:
        other = SharedNode(self._comm.Dup(), Calls(), self._crowded)
        if not other.can_share():
            raise OSError("the ranks of a node no longer see the same /dev/shm")
        return other

    def all_gather_ranks(self, rank: int) -> list[int]:
        """The ranks in the whole job of this node's ranks."""
        return list(self._comm.allgather(rank))

    def can_share(self) -> bool:
        """Whether all ranks of the node see the same /dev/shm; the same on all of them."""
        try:
            flags = self.memory([_LINE] * self.size)
        except OSError:
            return False
        self._flags = flags if all(self._comm.allgather(native.available())) else None
        return True

    def has_room(self, nbytes: int) -> bool:
        """Whether /dev/shm has room for what all ranks of the node want, `nbytes` for this one."""
        free = os.statvfs(_DIRECTORY)
        return bool(self._comm.allreduce(nbytes) + _RESERVE <= free.f_bavail * free.f_frsize)

    def memory(self, sizes: Sequence[int]) -> Bytes:
        self._calls.enter("memory of the node")
        path: str | OSError = self._comm.bcast(_create(sum(sizes)) if self.rank == 0 else None)
        start = sum(sizes[: self.rank])
        mapped = path if isinstance(path, OSError) else _map(path, start, sizes[self.rank], sum(sizes))
        problems = [error for error in self._comm.allgather(mapped if isinstance(mapped, OSError) else None) if error is not None]
        if self.rank == 0 and isinstance(path, str):
            os.unlink(path)
        if isinstance(mapped, OSError) or problems:
            raise OSError(problems[0].errno, f"no memory that ranks can share: {problems[0].strerror}", _DIRECTORY)
        native.use_large_pages(mapped, start, start + sizes[self.rank])
        return mapped

    def barrier(self) -> None:
        self._calls.enter("barrier of the node")
        if self._flags is None:
            self._comm.Barrier()
            return
        self._arrivals = self._arrivals + 1 & 0xFFFFFFFF
        while not native.barrier(self._flags, self.rank, self.size, self._arrivals, *self._patience, _INTERVAL):
            pass  # Python handles signals here


def _create(nbytes: int) -> str | OSError:
    """A new file of that many bytes, none of them reserved yet; or why there is none."""
    path = f"{_DIRECTORY}/dist_train-{os.getpid()}-{os.urandom(8).hex()}"
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        os.truncate(path, max(1, nbytes))
    except OSError as error:
        return error
    return path


def _map(path: str, start: int, nbytes: int, total: int) -> Bytes | OSError:
    """The file in memory, with the part of `nbytes` from `start` on reserved; or why it cannot be."""
    try:
        descriptor = os.open(path, os.O_RDWR)
        try:
            if nbytes:
                os.posix_fallocate(descriptor, start, nbytes)
            mapped: Bytes = native.map_file(descriptor, max(1, total))
            return mapped
        finally:
            os.close(descriptor)
    except OSError as error:
        return error
