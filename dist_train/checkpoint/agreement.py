"""Work that all ranks do together: either it succeeds on every rank, or every rank raises the same error.

Without this, one rank would raise and the others wait for it for ever.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from ..comm.base import Communicator

T = TypeVar("T")
_ERRORS: dict[str, type[Exception]] = {error.__name__: error for error in (ValueError, TypeError, RuntimeError)}


def together(comm: Communicator, work: Callable[[], T], context: str) -> T:
    """Do `work` on every rank and return this rank's result.

    If it fails anywhere, every rank raises the first failing rank's error: an OSError, ValueError, TypeError or
    RuntimeError whose message is `context`, the rank and the reason.
    """
    failure: Exception | None = None
    try:
        result = work()
    except Exception as error:
        failure = error
    failures = comm.all_gather_object(failure and _described(failure))
    for rank, description in enumerate(failures):
        if description is not None:
            raise _rebuilt(description, f"{context}: rank {rank}: ") from failure
    return result


def on_all(comm: Communicator, work: Callable[[], T], context: str) -> list[T]:
    """Do `work` on every rank; every rank returns all results, by rank, or raises."""
    return comm.all_gather_object(together(comm, work, context))


def on_root(comm: Communicator, work: Callable[[], T], context: str) -> T:
    """Do `work` on rank 0 alone; every rank returns its result or raises its error."""
    result: T = comm.broadcast_object(together(comm, work if comm.rank == 0 else _nothing, context))
    return result


def _nothing() -> Any:
    return None


def _described(error: Exception) -> dict[str, Any]:
    if isinstance(error, OSError) and error.errno:
        name = f": {error.filename}" if error.filename else ""
        return {"errno": error.errno, "message": f"{error.strerror}{name}"}
    kind = next((name for name, cls in _ERRORS.items() if isinstance(error, cls)), "RuntimeError")
    message = str(error) if type(error).__name__ == kind else f"{type(error).__name__}: {error}"
    return {"kind": kind, "message": message}


def _rebuilt(description: dict[str, Any], prefix: str) -> Exception:
    message = prefix + description["message"]
    if "errno" in description:
        return OSError(description["errno"], message)
    return _ERRORS[description["kind"]](message)
