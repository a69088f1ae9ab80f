"""Messages beside the computation: a thread that makes a rank's blocking calls between nodes, one job after another.

Calls that do not block make no progress while nobody is inside MPI; a thread that waits in a blocking one does, without Python's lock.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue

from .farewell import Calls
from .node import Layout

Job = Callable[[], None]


class Worker:
    """Does each job when it is submitted, on the thread that submits it. Jobs communicate over `layout`."""

    concurrent = False  # whether jobs run beside what their submitter does next

    def __init__(self, layout: Layout) -> None:
        self.layout = layout

    def submit(self, job: Job) -> None:
        """Do `job` after those submitted before it. Every rank submits the same jobs in the same order."""
        job()

    def wait(self) -> None:
        """Until all jobs are done. Raises what one of them raised."""


class ThreadWorker(Worker):
    """Does the jobs on a thread of its own; `layout` is for it alone. Waiting for it is noted in `calls`."""

    concurrent = True

    def __init__(self, layout: Layout, calls: Calls) -> None:
        super().__init__(layout)
        self._calls = calls
        self._jobs: SimpleQueue[Job] = SimpleQueue()
        self._results: SimpleQueue[BaseException | None] = SimpleQueue()
        self._under_way = 0
        threading.Thread(target=self._run, daemon=True, name="communication").start()

    def submit(self, job: Job) -> None:
        self._under_way += 1
        self._jobs.put(job)

    def wait(self) -> None:
        self._calls.enter("messages between nodes")
        while self._under_way:
            error = self._results.get()
            self._under_way -= 1
            if error is not None:
                raise error

    def _run(self) -> None:
        while True:
            job = self._jobs.get()
            try:
                job()
                self._results.put(None)
            except BaseException as error:
                self._results.put(error)
                return  # what comes after it would meet the wrong jobs of other ranks
            del job
