"""A rank that fails ends the job: its traceback is printed first, with the rank's number, and every rank is aborted.

Without this, an exception on one rank leaves the others waiting in a collective for ever. Installed when dist_train is imported under an
MPI launch; a process on its own keeps Python's behaviour.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
import time
import traceback
from types import TracebackType
from typing import Any, NoReturn

from .launch import Launch

_TIME_TO_PRINT = 0.2  # seconds for the launcher to pass on what was printed: it may drop the rest when the job is aborted
_PATIENCE = 5  # seconds that an abort may take before this process kills itself, which the launcher notices


def end_all_ranks_on_failure(launch: Launch) -> None:
    """From now on an uncaught exception, in any thread or at exit, and an exit status other than 0 end every rank."""

    def fail(kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> None:
        _report(launch, kind, error, trace)
        _abort(130 if issubclass(kind, KeyboardInterrupt) else 1)

    def fail_in_thread(args: Any) -> None:
        if args.exc_type is not SystemExit:
            fail(args.exc_type, args.exc_value, args.exc_traceback)

    def fail_at_exit(args: Any) -> None:
        if "atexit" in (args.err_msg or ""):
            fail(args.exc_type, args.exc_value, args.exc_traceback)
        sys.__unraisablehook__(args)

    sys.excepthook = fail
    threading.excepthook = fail_in_thread
    sys.unraisablehook = fail_at_exit
    _watch_exit_status()


def _watch_exit_status() -> None:
    status: list[Any] = [0]
    leave = sys.exit

    def exit(code: Any = None, /) -> NoReturn:
        status[0] = code
        leave(code)

    def end_all_ranks() -> None:
        if status[0] not in (None, 0):
            _abort(status[0] & 255 or 1 if isinstance(status[0], int) else 1)  # what a process can return

    sys.exit = exit
    atexit.register(end_all_ranks)


def _report(launch: Launch, kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> None:
    size = f" of {launch.size}" if launch.size else ""
    text = "".join(traceback.format_exception(kind, error, trace))
    sys.stdout.flush()
    os.write(2, f"[rank {launch.rank}{size}] failed; ending all ranks\n{text}".encode(errors="replace"))  # one write: ranks do not mix


def _abort(status: int) -> None:
    """End all ranks through MPI, which has to be started for that where it is not yet; a launcher also notices a death by signal."""
    from . import world

    sys.stdout.flush()
    sys.stderr.flush()
    time.sleep(_TIME_TO_PRINT)
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(_PATIENCE)
    world().abort(status)
