"""Communication between ranks: one interface, one file per means of transport, and `world()`, the communicator of this job."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .launch import detect_launch

if TYPE_CHECKING:
    from .base import Communicator

__all__ = ["world"]

_world: Communicator | None = None


def world() -> Communicator:
    """The communicator over all ranks of this job, made at the first call: MPI under an MPI launch, else one of size 1."""
    global _world
    if _world is None:
        _world = _make()
    return _world


def initialized() -> bool:
    """Whether `world()` has been called."""
    return _world is not None


def _make() -> Communicator:
    launch = detect_launch()
    if launch is None:
        from .serial import SerialCommunicator

        return SerialCommunicator()
    from .mpi import connect

    return connect(launch)
