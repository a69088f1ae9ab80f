"""A group of one rank: every collective is already done."""

from __future__ import annotations

import copy
import os
from collections.abc import Sequence
from typing import Any, NoReturn

from .base import Array, Communicator
from .threads import blas_threads


class SerialCommunicator(Communicator):
    """The communicator of a process on its own."""

    @property
    def threads(self) -> int:  # type: ignore[override]
        return blas_threads()

    def barrier(self) -> None:
        pass

    def broadcast(self, array: Array, root: int = 0) -> None:
        _check_rank(root)

    def all_gather(self, array: Array) -> Array:
        return array[None].copy()

    def all_gather_varying(self, send: Array, counts: Sequence[int]) -> Array:
        return send.copy()

    def gather_slices(self, vector: Array, starts: Sequence[int], counts: Sequence[int]) -> None:
        pass

    def exchange(
        self, send: Array, starts: Sequence[int], send_counts: Sequence[int], receive: Array, receive_counts: Sequence[int]
    ) -> None:
        receive[...] = send[starts[0] : starts[0] + send_counts[0]]

    def all_reduce(self, array: Array, op: str = "sum") -> None:
        pass

    def send(self, array: Array, destination: int, tag: int = 0) -> None:
        _no_partner()

    def receive(self, array: Array, source: int | None = None, tag: int = 0) -> int:
        _no_partner()

    def broadcast_object(self, value: Any, root: int = 0) -> Any:
        _check_rank(root)
        return value

    def all_gather_object(self, value: Any) -> list[Any]:
        return [value]

    def duplicate(self) -> Communicator:
        return copy.copy(self)

    def abort(self, status: int = 1) -> NoReturn:
        os._exit(status)


def _check_rank(rank: int) -> None:
    if rank != 0:
        raise ValueError(f"rank {rank} of a group of 1: this process runs alone (start several with mpirun or `dist-train run -n N`)")


def _no_partner() -> NoReturn:
    raise RuntimeError("no other rank to talk to: this process runs alone (start several with mpirun or `dist-train run -n N`)")
