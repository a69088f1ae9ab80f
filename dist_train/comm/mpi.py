"""MPI through mpi4py. The only file that imports it, and only under an MPI launch.

Data moves as bytes through buffers (never pickled); arrays on a GPU are staged through the host.
"""

from __future__ import annotations

import copy
import os
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate
from typing import Any

import numpy as np

from ..backend.device import array_module, is_device_array, to_host
from . import node as node_
from . import worker as worker_
from .base import Array, Communicator
from .farewell import Calls, watch_over
from .launch import Launch
from .link import Link, measure
from .node import Layout, SharedNode, alone
from .threads import available_cores, blas_threads, chosen_by_user, pin_threads

_CHUNK = 2**30  # bytes per call: Open MPI 5 fails above 2**31 - 1


def connect(launch: Launch) -> MPICommunicator:
    """The communicator over all ranks of `launch`; RuntimeError when MPI is missing or belongs to another mpirun."""
    _yield_when_crowded(launch)
    os.environ.setdefault("OMPI_MCA_osc", "^ucx")  # else Open MPI's wheel prints a complaint for every window
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # a foreign mpirun is reported below, with its remedy
            from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        raise RuntimeError(
            f"started by {launch.launcher} as one of {launch.size or 'several'} ranks, but MPI cannot be loaded ({error}); "
            'install it: pip install "dist-train[mpi]"'
        ) from error
    _check_size(MPI, launch)
    world = MPICommunicator(MPI.COMM_WORLD.Dup())
    watch_over(world.calls, MPI.COMM_WORLD.Dup(), MPI, (__file__, node_.__file__, worker_.__file__))
    return world


def _yield_when_crowded(launch: Launch) -> None:
    """With more ranks than cores, a waiting rank must give its core away (read by the libraries when MPI starts)."""
    if launch.local_size > (os.cpu_count() or 1):
        os.environ.setdefault("MPIR_CVAR_POLLS_BEFORE_YIELD", "1")
        os.environ.setdefault("OMPI_MCA_mpi_yield_when_idle", "1")


def _check_size(MPI: Any, launch: Launch) -> None:
    if launch.size and MPI.COMM_WORLD.Get_size() != launch.size:
        library = MPI.Get_library_version().splitlines()[0].strip("\0 ")
        raise RuntimeError(
            f"{launch.launcher} started {launch.size} ranks, but mpi4py loaded {library}, which sees {MPI.COMM_WORLD.Get_size()}: "
            "the mpirun of another MPI was used, and every rank believes it is alone. Start with `dist-train run -n "
            f"{launch.size} script.py`, which finds the matching mpirun; `dist-train doctor` shows both"
        )


class MPICommunicator(Communicator):
    """A communicator over the ranks of an mpi4py communicator `comm`."""

    def __init__(self, comm: Any) -> None:
        from mpi4py import MPI

        super().__init__()
        self._comm, self._mpi = comm, MPI
        self.calls = Calls()
        self._nodes: Layout | None = None
        self._link: Link | None = None
        self._said = False
        self.rank, self.size = comm.Get_rank(), comm.Get_size()
        node = comm.Split_type(MPI.COMM_TYPE_SHARED)
        self.local_rank, self.local_size = node.Get_rank(), node.Get_size()
        cores: set[int] = set().union(*node.allgather(available_cores()))
        node.Free()
        self._crowded = self.local_size > len(cores)
        if not chosen_by_user():
            pin_threads(max(1, len(cores) // self.local_size))
        self.threads = blas_threads()

    def _count(self, name: str, nbytes: int) -> None:
        self.calls.enter(name)
        super()._count(name, nbytes)

    def barrier(self) -> None:
        self.calls.enter("barrier")
        self._comm.Barrier()

    def broadcast(self, array: Array, root: int = 0) -> None:
        with _staged(array) as buffer:
            self._count("broadcast", buffer.nbytes * (self.rank == root))
            for start in range(0, buffer.size, _CHUNK):
                self._comm.Bcast(buffer[start : start + _CHUNK], root)

    def all_gather(self, array: Array) -> Array:
        send = _bytes(np.ascontiguousarray(to_host(array)))
        self._count("all_gather", send.nbytes * (self.size - 1))
        result = np.empty((self.size, *array.shape), array.dtype)
        self._comm.Allgather(send, _bytes(result))
        return array_module(array).asarray(result)

    def all_gather_varying(self, send: Array, counts: Sequence[int]) -> Array:
        self._count("all_gather_varying", send.nbytes * (self.size - 1))
        result = np.empty(sum(counts), send.dtype)
        sizes = [count * send.itemsize for count in counts]
        self._comm.Allgatherv(_bytes(to_host(send)), [_bytes(result), sizes, _starts(sizes), self._mpi.BYTE])
        return array_module(send).asarray(result)

    def layout(self, nbytes: int) -> Layout:
        if self._nodes is None:
            self._nodes = self._find_nodes()
        node = self._nodes.node
        if isinstance(node, SharedNode) and not self.all_gather(np.array(node.has_room(nbytes))).all():
            self._say_once(f"/dev/shm has no room for {nbytes / 2**20:.0f} MiB of each rank of a node (in Docker: --shm-size)")
            return alone(self)
        return self._nodes

    def _find_nodes(self) -> Layout:
        """The ranks that can share memory, where all nodes have equally many; else every rank is alone."""
        comm = self._comm.Split_type(self._mpi.COMM_TYPE_SHARED)
        limit = int(os.environ.get("DIST_TRAIN_NODE_SIZE", comm.Get_size()))
        node = SharedNode(comm.Split(comm.Get_rank() // limit), self.calls, self._crowded)
        sizes = {int(size) for size in self.all_gather(np.array(node.size))}
        if sizes == {1}:
            return alone(self)
        if len(sizes) > 1:
            self._say_once(f"the nodes have unequal numbers of ranks, {min(sizes)} to {max(sizes)}")
            return alone(self)
        if not self.all_gather(np.array(node.can_share())).all():
            self._say_once("the ranks of a node do not see the same /dev/shm")
            return alone(self)
        lane = copy.copy(self)
        lane._comm = self._comm.Split(node.rank, self.rank)
        lane.rank, lane.size = lane._comm.Get_rank(), lane._comm.Get_size()
        lane._nodes = None
        return Layout(node, lane, lane.all_gather_object(node.all_gather_ranks(self.rank)))

    def link(self, layout: Layout) -> Link | None:
        if self._link is None and layout.lane.size > 1:
            self._link = measure(layout.lane, self)
        return self._link

    def worker(self, layout: Layout) -> worker_.Worker:
        wanted = os.environ.get("DIST_TRAIN_OVERLAP", "1") != "0" and self._mpi.Query_thread() >= self._mpi.THREAD_MULTIPLE
        if layout.lane.size == 1 or not self.all_gather(np.array(wanted)).all():
            return worker_.Worker(layout)
        return worker_.ThreadWorker(layout.duplicate(), self.calls)

    def _say_once(self, reason: str) -> None:
        if self.rank == 0 and not self._said:
            self._said = True
            message = f"{reason}: parameters and gradients are kept in private memory and sent as messages, which costs memory and time"
            warnings.warn(message, RuntimeWarning, stacklevel=5)

    def gather_slices(self, vector: Array, starts: Sequence[int], counts: Sequence[int]) -> None:
        if self.size == 1:
            return
        sizes = [count * vector.itemsize for count in counts]
        offsets = [start * vector.itemsize for start in starts]
        self._count("gather_slices", sizes[self.rank] * (self.size - 1))
        step = max(1, _CHUNK // self.size)
        with _staged(vector) as buffer:
            for done in range(0, max(sizes), step):
                part = [min(step, max(0, size - done)) for size in sizes]
                places = [offset + min(done, size) for offset, size in zip(offsets, sizes)]
                own = [0 if rank == self.rank else part[self.rank] for rank in range(self.size)]
                others = [0 if rank == self.rank else count for rank, count in enumerate(part)]
                # not Allgatherv, which sends and receives in turn: 80 MB over 1 Gbit/s in 616 ms, and 340 this way
                self._comm.Alltoallv(
                    [buffer, own, [places[self.rank]] * self.size, self._mpi.BYTE], [buffer, others, places, self._mpi.BYTE]
                )

    def exchange(
        self, send: Array, starts: Sequence[int], send_counts: Sequence[int], receive: Array, receive_counts: Sequence[int]
    ) -> None:
        size = send.itemsize
        outgoing, incoming = [count * size for count in send_counts], [count * size for count in receive_counts]
        self._count("exchange", sum(outgoing) - outgoing[self.rank])
        with _staged(receive) as buffer:
            self._comm.Alltoallv(
                [_bytes(to_host(send)), outgoing, [start * size for start in starts], self._mpi.BYTE],
                [buffer, incoming, _starts(incoming), self._mpi.BYTE],
            )

    def all_reduce(self, array: Array, op: str = "sum") -> None:
        operation = {"sum": self._mpi.SUM, "prod": self._mpi.PROD, "min": self._mpi.MIN, "max": self._mpi.MAX}[op]
        buffer = np.ascontiguousarray(to_host(array)).reshape(-1)
        self._count("all_reduce", buffer.nbytes)
        step = _CHUNK // buffer.itemsize
        for start in range(0, buffer.size, step):
            self._comm.Allreduce(self._mpi.IN_PLACE, buffer[start : start + step], operation)
        array[...] = array_module(array).asarray(buffer.reshape(array.shape))

    def send(self, array: Array, destination: int, tag: int = 0) -> None:
        super()._count("send", array.nbytes)
        self._comm.Send(_bytes(np.ascontiguousarray(to_host(array))), destination, tag)

    def receive(self, array: Array, source: int | None = None, tag: int = 0) -> int:
        status = self._mpi.Status()
        with _staged(array) as buffer:
            self._comm.Recv(buffer, self._mpi.ANY_SOURCE if source is None else source, tag, status)
        if status.Get_count(self._mpi.BYTE) != array.nbytes:
            raise RuntimeError(
                f"rank {status.Get_source()} sent {status.Get_count(self._mpi.BYTE)} bytes, rank {self.rank} receives {array.nbytes} "
                f"({array.dtype.name}, shape {array.shape}): both sides need the same type and shape"
            )
        return int(status.Get_source())

    def broadcast_object(self, value: Any, root: int = 0) -> Any:
        self.calls.enter("broadcast_object")
        return self._comm.bcast(value, root)

    def all_gather_object(self, value: Any) -> list[Any]:
        self.calls.enter("all_gather_object")
        return list(self._comm.allgather(value))

    def duplicate(self) -> Communicator:
        other = copy.copy(self)
        other._comm, other._nodes, other.traffic, other.calls = self._comm.Dup(), None, Counter(), Calls()
        return other

    def abort(self, status: int = 1) -> None:
        self._mpi.COMM_WORLD.Abort(status)


def _starts(sizes: Sequence[int]) -> list[int]:
    return [0, *accumulate(sizes[:-1])]


def _bytes(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return array.reshape(-1).view(np.uint8)


@contextmanager
def _staged(array: Array) -> Iterator[np.ndarray[Any, Any]]:
    """The bytes of `array` for MPI to write: its own memory where that is contiguous and on the host, else a copy put back at the end."""
    if not is_device_array(array) and array.flags.c_contiguous and array.flags.writeable:
        yield _bytes(array)
        return
    host = np.ascontiguousarray(to_host(array)).copy()
    yield _bytes(host)
    array[...] = array_module(array).asarray(host)
