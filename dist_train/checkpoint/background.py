"""One piece of work in a thread, whose error is not lost: it reaches whoever joins it, or the end of the program."""

from __future__ import annotations

import atexit
import sys
import threading
from collections.abc import Callable

from ..comm.base import Communicator


class Background:
    """Runs `work`, which uses `comm` and returns warnings, in a thread that the end of the program waits for."""

    def __init__(self, comm: Communicator, work: Callable[[], list[str]]) -> None:
        self._comm, self._work = comm, work
        self._warnings: list[str] = []
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="checkpoint")
        self._thread.start()
        atexit.register(self._at_exit)

    def _run(self) -> None:
        try:
            self._warnings = self._work()
        except Exception as error:
            self._error = error

    def join(self) -> list[str]:
        """Wait for the end of the work; return its warnings or raise its error."""
        self._thread.join()
        atexit.unregister(self._at_exit)
        if self._error is not None:
            raise self._error
        return self._warnings

    def _at_exit(self) -> None:
        try:
            self.join()
        except Exception as error:
            # Left to Python it would not change the exit status. Under MPI the hook ends all ranks.
            sys.excepthook(type(error), error, error.__traceback__)
            sys.stdout.flush()
            sys.stderr.flush()
            self._comm.abort(1)
