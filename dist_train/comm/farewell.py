"""A rank that leaves early, or that makes a collective call which the others do not make, must not let them wait for ever.

Every rank tells the next one when its program ends. A thread looks, once a second, whether the main thread stands still in a collective; if
it does and the rank before has left, the collective can never complete: the job is ended, with the place where this rank waits. A rank
that stands still also tells the next one its last calls by their numbers: two ranks whose n-th calls differ will never meet.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Collection
from types import FrameType
from typing import Any

_PATIENCE = 3  # seconds to stand still before looking
_LEFT, _NOTE = 0, 1  # tags of messages: the program of a rank has ended, a rank's last calls


class Calls:
    """The collective calls that this rank has made last, numbered from 1."""

    def __init__(self) -> None:
        self.number = 0
        self._names: deque[str] = deque(maxlen=8)

    def enter(self, name: str) -> None:
        self._names.append(name)
        self.number += 1

    def last(self) -> dict[int, str]:
        names = list(self._names)
        return dict(zip(range(self.number - len(names) + 1, self.number + 1), names))


def watch_over(calls: Calls, comm: Any, mpi: Any, collectives: Collection[str]) -> None:
    """Watch over `calls`, through `comm`, an mpi4py communicator of its own; `collectives` are the files that make the blocking calls."""
    if comm.Get_size() == 1 or mpi.Query_thread() < mpi.THREAD_MULTIPLE:
        return
    rank, size = comm.Get_rank(), comm.Get_size()
    left = comm.Irecv(bytearray(1), (rank - 1) % size, _LEFT)
    watch = _Watch(calls, comm, left, collectives, threading.get_ident())
    threading.Thread(target=watch.run, daemon=True, name="farewell").start()
    atexit.register(lambda: mpi.Request.Waitall([comm.Isend(b"\0", (rank + 1) % size, _LEFT), left]))


class _Watch:
    """The thread that looks after the main thread of this rank."""

    def __init__(self, calls: Calls, comm: Any, left: Any, collectives: Collection[str], thread: int) -> None:
        self._calls, self._comm, self._left, self._collectives, self._thread = calls, comm, left, collectives, thread
        rank, size = comm.Get_rank(), comm.Get_size()
        self._before, self._after = (rank - 1) % size, (rank + 1) % size
        self._title = f"[rank {rank} of {size}]"
        self._told: Any = None  # the message under way
        self._note: tuple[dict[int, str], str] = {}, ""  # the last calls of the rank before, and where it stands

    def run(self) -> None:
        place: Any = None
        since, told = time.monotonic(), False
        while True:
            time.sleep(1)
            while self._comm.iprobe(source=self._before, tag=_NOTE):
                self._note = self._comm.recv(source=self._before, tag=_NOTE)
            frame = self._waiting_frame()
            here = frame and (self._calls.number, id(frame), frame.f_lasti)
            if frame is None or here != place:
                place, since, told = here, time.monotonic(), False
            elif time.monotonic() - since > _PATIENCE:
                self._look(frame)
                if not told:
                    self._told = self._comm.isend((self._calls.last(), _last_lines(frame)), self._after, _NOTE)
                    told = True

    def _waiting_frame(self) -> FrameType | None:
        """The frame of `collectives` that the main thread is in, if it is in one."""
        frame = sys._current_frames().get(self._thread)
        return frame if frame is not None and frame.f_code.co_filename in self._collectives else None

    def _look(self, frame: FrameType) -> None:
        """End all ranks if this one waits in vain."""
        if self._left.Test():
            self._end(
                f"waits for rank {self._before}, whose program has ended: every rank has to run equally many steps and make the same "
                "collective calls",
                frame,
            )
        theirs, place = self._note
        for number, name in self._calls.last().items():
            if theirs.get(number, name) != name:
                self._end(
                    f"makes the collective call {name} where rank {self._before} makes {theirs[number]} (call {number} of each): every "
                    "rank has to make the same calls. Saving, restoring, an optimizer's state_dict(), edits and load_state_dict() under "
                    f"dist_train.distribute are for all ranks, not for rank 0 alone",
                    frame,
                    f"Rank {self._before} waits here:\n{place}",
                )

    def _end(self, what: str, frame: FrameType, more: str = "") -> None:
        text = f"{self._title} {what}. Ending all ranks. This rank waits here:\n{''.join(traceback.format_stack(frame))}"
        os.write(2, (text + more).encode(errors="replace"))
        time.sleep(0.2)  # for the launcher to pass it on
        self._comm.Abort(1)


def _last_lines(frame: FrameType) -> str:
    """The end of the stack, short enough for a message that need not be received."""
    return "".join(traceback.format_stack(frame)[-12:])[-1800:]
