"""A rank that fails ends the job: its traceback is printed first, with the rank's number, then every rank is aborted.

Without this, an exception on one rank leaves the others waiting in a collective for ever.
"""

from __future__ import annotations

import os
import sys
import threading
import traceback
from types import TracebackType
from typing import Any

from .base import Communicator


def abort_on_failure(communicator: Communicator) -> None:
    """From now on an uncaught exception, in any thread or at exit, ends every rank with status 1."""

    def fail(kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> None:
        _report(communicator, kind, error, trace)
        communicator.abort(130 if issubclass(kind, KeyboardInterrupt) else 1)

    def fail_in_thread(args: Any) -> None:
        if args.exc_type is not SystemExit:
            fail(args.exc_type, args.exc_value, args.exc_traceback)

    def fail_unraisable(args: Any) -> None:
        if "atexit" in (args.err_msg or "") and args.exc_type is not SystemExit:
            fail(args.exc_type, args.exc_value, args.exc_traceback)
        else:
            sys.__unraisablehook__(args)

    sys.excepthook = fail
    threading.excepthook = fail_in_thread
    sys.unraisablehook = fail_unraisable


def _report(communicator: Communicator, kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> None:
    text = "".join(traceback.format_exception(kind, error, trace))
    lines = f"[rank {communicator.rank} of {communicator.size}] this rank failed; ending all ranks\n{text}"
    sys.stdout.flush()
    os.write(2, lines.encode(errors="replace"))  # one write, so that ranks do not interleave
