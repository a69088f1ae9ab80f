"""The interface of a communicator. Every rank calls every collective, in the same order, with equal shapes and types."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from typing import Any

from .link import Link
from .node import Layout, alone
from .worker import Worker

Array = Any


class Communicator(ABC):
    """A group of ranks. A lone process is a group of size 1, so callers never ask whether they are alone.

    `traffic` counts what this rank sent: `traffic["exchange"]` calls and `traffic["exchange bytes"]` bytes to other ranks, for each
    collective. `threads` is the number of BLAS threads of this rank, pinned when the communicator is made.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1
    threads: int = 1

    def __init__(self) -> None:
        self.traffic: Counter[str] = Counter()

    def layout(self, nbytes: int) -> Layout:
        """The nodes within which `nbytes` of each rank can be shared; here every rank is a node of its own."""
        return alone(self)

    def link(self, layout: Layout) -> Link | None:
        """The speed of messages along the lanes of `layout`; None where there are none."""
        return None

    def worker(self, layout: Layout) -> Worker:
        """What communicates over `layout` beside the computation, where that is possible and there is another node. Collective."""
        return Worker(layout)

    @abstractmethod
    def barrier(self) -> None:
        """Wait until every rank has arrived."""

    @abstractmethod
    def broadcast(self, array: Array, root: int = 0) -> None:
        """Overwrite `array` by that of `root`."""

    @abstractmethod
    def all_gather(self, array: Array) -> Array:
        """Everyone's array, stacked by rank: (size, *shape)."""

    @abstractmethod
    def all_gather_varying(self, send: Array, counts: Sequence[int]) -> Array:
        """Everyone's 1-D array one after another; rank r sends `counts[r]` elements."""

    @abstractmethod
    def gather_slices(self, vector: Array, starts: Sequence[int], counts: Sequence[int]) -> None:
        """Complete a 1-D vector in place: rank r holds `counts[r]` elements from `starts[r]` on, and receives the others' pieces."""

    @abstractmethod
    def exchange(
        self, send: Array, starts: Sequence[int], send_counts: Sequence[int], receive: Array, receive_counts: Sequence[int]
    ) -> None:
        """All-to-all of pieces of 1-D arrays: `send_counts[r]` elements of `send` from `starts[r]` on go to rank r; what comes, of
        `receive_counts[r]` elements from rank r, is put into `receive` in rank order."""

    @abstractmethod
    def all_reduce(self, array: Array, op: str = "sum") -> None:
        """Replace `array` by its sum, product, min or max over the ranks (in an order that the library chooses)."""

    @abstractmethod
    def send(self, array: Array, destination: int, tag: int = 0) -> None:
        """Send an array; returns when its memory may be used again."""

    @abstractmethod
    def receive(self, array: Array, source: int | None = None, tag: int = 0) -> int:
        """Receive into `array` from `source`, or from anyone; returns the sender's rank."""

    @abstractmethod
    def broadcast_object(self, value: Any, root: int = 0) -> Any:
        """The Python object of `root`."""

    @abstractmethod
    def all_gather_object(self, value: Any) -> list[Any]:
        """Everyone's Python object, by rank."""

    @abstractmethod
    def duplicate(self) -> Communicator:
        """A group of the same ranks whose messages do not mix with this one's, for use from another thread."""

    @abstractmethod
    def abort(self, status: int = 1) -> None:
        """End every rank of the job at once with this exit status."""

    def _count(self, name: str, nbytes: int) -> None:
        self.traffic[name] += 1
        self.traffic[f"{name} bytes"] += nbytes
