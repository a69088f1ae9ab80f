"""The barrier through flags in shared memory: more processes than cores, ranks that come late, and one that does not come."""

import mmap
import multiprocessing
import time

import numpy as np
import pytest
from native_cases import needs_native

from dist_train.backend import native

pytestmark = needs_native

RANKS, ROUNDS = 6, 200


def meet(flags, rank, arrival, patience=(0, 0)):
    while not native.barrier(flags, rank, RANKS, arrival, *patience, 0.2):
        pass


def run(rank, memory, patience, failures):
    """Every rank counts, and after a barrier all must have counted equally far."""
    flags, counts = np.frombuffer(memory, np.uint8), np.frombuffer(memory, np.int64, offset=64 * RANKS)
    first = 2**32 - ROUNDS  # the count wraps around on the way
    for number in range(ROUNDS):
        if number % 50 == rank:
            time.sleep(0.02)
        counts[rank] += 1
        meet(flags, rank, (first + 2 * number) % 2**32, patience)
        if (counts[:RANKS] != number + 1).any():
            failures.put((rank, number, counts[:RANKS].tolist()))
        meet(flags, rank, (first + 2 * number + 1) % 2**32, patience)


@pytest.mark.parametrize("patience", [(0, 0), (1000, 100)], ids=["sleeps at once", "spins first"])
def test_nobody_leaves_before_the_last_has_come(patience):
    context = multiprocessing.get_context("fork")
    memory, failures = mmap.mmap(-1, 4096), context.SimpleQueue()
    np.frombuffer(memory, np.uint32)[: 16 * RANKS : 16] = 2**32 - ROUNDS - 1
    ranks = [context.Process(target=run, args=(rank, memory, patience, failures)) for rank in range(RANKS)]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join(60)
    assert [rank.exitcode for rank in ranks] == [0] * RANKS
    assert failures.empty()


def test_it_returns_when_somebody_does_not_come():
    flags = np.zeros(64 * RANKS + 64, np.uint8)
    flags = flags[-flags.ctypes.data % 64 :][: 64 * RANKS]
    assert not native.barrier(flags, 0, RANKS, 1, 10, 10, 0.05)


@pytest.mark.parametrize("rank", [-1, RANKS])
def test_memory_that_is_too_small_is_refused(rank):
    with pytest.raises(ValueError, match="a line of 64 bytes for each rank"):
        native.barrier(np.zeros(64 * RANKS, np.uint8), rank, RANKS, 1, 0, 0, 0.0)
