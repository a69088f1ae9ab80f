"""How fast messages between nodes are: measured once, when there is more than one node, and the same on every rank."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from .base import Communicator

_REPEATS = 5
_BYTES = 2**18  # of a long message


@dataclass(frozen=True)
class Link:
    """Seconds that the shortest exchange takes, and bytes per second of a long one."""

    latency: float
    bandwidth: float


def measure(lane: Communicator, comm: Communicator) -> Link:
    """The slowest link of any rank of `comm`, each exchanging with the ranks of its lane. Takes some milliseconds."""
    short = _seconds(lane, 1)
    long = _seconds(lane, _BYTES // lane.size)
    rate = _BYTES / lane.size * (lane.size - 1) / max(long - short, 1e-9)
    latencies, rates = comm.all_gather(np.array([short, rate])).T
    return Link(float(latencies.max()), float(rates.min()))


def _seconds(lane: Communicator, count: int) -> float:
    """The best time of an exchange of `count` bytes with every rank."""
    starts, counts = [count * rank for rank in range(lane.size)], [count] * lane.size
    send, receive = np.zeros(count * lane.size, np.uint8), np.empty(count * lane.size, np.uint8)
    times = []
    for _ in range(_REPEATS):
        begin = time.perf_counter()
        lane.exchange(send, starts, counts, receive, counts)
        times.append(time.perf_counter() - begin)
    return min(times)
