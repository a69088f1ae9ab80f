"""Prefetching: threads that work ahead, results in order.

Threads, not processes: a process that runs MPI must not be forked, and array code releases Python's lock where time
is spent.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextvars import copy_context
from itertools import islice
from queue import SimpleQueue
from typing import Any

END = object()  # the result that says that there are no more

Call = Callable[[], Any]


def prefetch(
    calls: Iterator[Call],
    num_workers: int,
    depth: int,
    timeout: float = 0,
    worker_init_fn: Callable[[int], object] | None = None,
) -> Iterator[Any]:
    """The results of `calls` in order, until one is `END`; `num_workers` threads compute up to `depth` of them ahead.

    An exception in a call is raised here in its turn, with its own traceback. The threads end with the iterator: when
    it is exhausted, closed, or dropped by a `break`. A call that takes longer than `timeout` seconds (0: no limit) is
    a RuntimeError.
    """
    workers = _Workers(num_workers, worker_init_fn, timeout or None)
    try:
        pending = deque(workers.submit(call) for call in islice(calls, depth))
        while pending:
            result = pending.popleft().result(timeout or None)
            if result is END:
                return
            pending.extend(workers.submit(call) for call in islice(calls, 1))
            yield result
    finally:
        workers.close()


def calls_for(items: Iterator[Any], work: Callable[[Any], Any]) -> Iterator[Call]:
    """A call of `work` for each item; where the iterator of items fails, the last call raises its error in its turn."""
    try:
        for item in items:
            yield _bind(work, item)
    except Exception as error:
        yield _bind(_reraise, error)


def calls_to_next(items: Iterator[Any], work: Callable[[Any], Any]) -> Iterator[Call]:
    """Calls that also draw their item from the iterator, in the thread that runs them: for one worker."""

    def call() -> Any:
        item = next(items, END)
        return END if item is END else work(item)

    while True:
        yield call


def _bind(work: Callable[[Any], Any], item: Any) -> Call:
    return lambda: work(item)


def _reraise(error: BaseException) -> Any:
    raise error


class _Pending:
    """A call and, once it is done, what came of it."""

    __slots__ = ("_call", "_error", "_running", "_value")

    def __init__(self, call: Call) -> None:
        self._call = call
        self._running = threading.Lock()  # held until the call is done: a tenth of what an Event costs
        self._running.acquire()
        self._value: Any = None
        self._error: BaseException | None = None

    def run(self) -> None:
        try:
            self._value = self._call()
        except BaseException as error:
            self._error = error
        finally:
            self._running.release()

    def result(self, timeout: float | None) -> Any:
        if not self._running.acquire(timeout=-1 if timeout is None else timeout):
            raise RuntimeError(f"DataLoader: a batch took longer than timeout={timeout} seconds; raise it or look at the data set")
        if self._error is not None:
            raise self._error
        return self._value


class _Workers:
    """Threads that run calls in the order of their submission."""

    def __init__(self, number: int, init: Callable[[int], object] | None, patience: float | None) -> None:
        self._queue: SimpleQueue[_Pending | None] = SimpleQueue()
        self._closed = False
        self._patience = patience
        self._threads = [
            # in our context, which holds the allocator of arrays
            threading.Thread(target=copy_context().run, args=(self._work, i, init), name=f"dist_train loader {i}", daemon=True)
            for i in range(number)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, call: Call) -> _Pending:
        pending = _Pending(call)
        self._queue.put(pending)
        return pending

    def close(self) -> None:
        """End the threads after the calls they are in; calls not yet begun are dropped."""
        self._closed = True
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            if thread is not threading.current_thread():  # the garbage collector may close us from anywhere
                thread.join(self._patience)

    def _work(self, number: int, init: Callable[[int], object] | None) -> None:
        failed = _attempt(init, number)
        while (pending := self._queue.get()) is not None:
            if failed is not None:
                pending._call = _bind(_reraise, failed)
            if not self._closed:
                pending.run()


def _attempt(init: Callable[[int], object] | None, number: int) -> BaseException | None:
    try:
        if init is not None:
            init(number)
    except BaseException as error:
        return error
    return None
