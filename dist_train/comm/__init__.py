"""Communication between ranks: one interface, one file per means of transport, and `world()`, the communicator of this job."""

from __future__ import annotations

from .base import Communicator
from .launch import detect_launch

__all__ = ["Communicator", "world"]

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
