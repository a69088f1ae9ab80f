"""A rank that leaves early, by a `break` that only it took, must not let the others wait for ever.

Every rank tells the next one when its program ends. A thread looks, once a second, whether the main thread stands still in a collective; if
it does and the rank before has left, the collective can never complete: the job is ended, with the place where this rank waits.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
import time
import traceback
from types import FrameType
from typing import Any

_PATIENCE = 3  # seconds to stand still before looking


def watch_for_early_leavers(comm: Any, mpi: Any, collectives: str) -> None:
    """Start watching over `comm`, an mpi4py communicator of its own; `collectives` is the file that makes the blocking calls."""
    if comm.Get_size() == 1 or mpi.Query_thread() < mpi.THREAD_MULTIPLE:
        return
    rank, size = comm.Get_rank(), comm.Get_size()
    left = comm.Irecv(bytearray(1), (rank - 1) % size)
    threading.Thread(target=_watch, args=(comm, left, collectives, threading.get_ident()), daemon=True, name="farewell").start()
    atexit.register(lambda: mpi.Request.Waitall([comm.Isend(b"\0", (rank + 1) % size), left]))


def _watch(comm: Any, left: Any, collectives: str, thread: int) -> None:
    place: Any = None
    since = time.monotonic()
    while True:
        time.sleep(1)
        frame = _waiting_frame(thread, collectives)
        if frame is None or (id(frame), frame.f_lasti) != place:
            place, since = frame and (id(frame), frame.f_lasti), time.monotonic()
        elif time.monotonic() - since > _PATIENCE and left.Test():
            _end(comm, frame)


def _waiting_frame(thread: int, collectives: str) -> FrameType | None:
    """The frame of `collectives` that the thread is in, if it is in one."""
    frame = sys._current_frames().get(thread)
    return frame if frame is not None and frame.f_code.co_filename == collectives else None


def _end(comm: Any, frame: FrameType) -> None:
    rank, size = comm.Get_rank(), comm.Get_size()
    text = (
        f"[rank {rank} of {size}] waits for rank {(rank - 1) % size}, whose program has ended: every rank has to run equally many steps "
        f"and make the same collective calls. Ending all ranks. This rank waits here:\n{''.join(traceback.format_stack(frame))}"
    )
    os.write(2, text.encode(errors="replace"))
    comm.Abort(1)
