"""How parameters are cut into buckets, and the worker that sends them."""

import threading

import numpy as np
import pytest

from dist_train import nn
from dist_train.comm.farewell import Calls
from dist_train.comm.link import Link
from dist_train.comm.node import alone
from dist_train.comm.serial import SerialCommunicator
from dist_train.comm.worker import ThreadWorker, Worker
from dist_train.distributed.buckets import bucket_bytes, buffer_bytes, cut


def group(*sizes):
    return [(i, str(i), nn.Parameter(np.zeros(size, np.float32))) for i, size in enumerate(sizes)]


@pytest.mark.parametrize(
    ("sizes", "nbytes", "expected"),
    [
        ((10, 10), 1, [2]),  # small tensors begin no bucket
        ((40_000, 10, 50_000, 10), 1, [2, 2]),
        ((10, 40_000, 10, 50_000), 1, [1, 2, 1]),
        ((40_000, 50_000), 10**6, [2]),
        ((40_000, 50_000, 60_000), 400_000, [1, 2]),  # from the end
        ((), 1, []),
    ],
)
def test_cut(sizes, nbytes, expected):
    buckets = cut([group(*sizes)] if sizes else [], nbytes)
    assert [len(bucket) for bucket in buckets] == expected
    assert [item[0] for bucket in buckets for item in bucket] == list(range(len(sizes)))


def test_buckets_follow_the_links(monkeypatch):
    monkeypatch.delenv("DIST_TRAIN_BUCKET_BYTES", raising=False)
    slow, fast = bucket_bytes(Link(1e-4, 1e6)), bucket_bytes(Link(1e-6, 1e11))
    assert 2**20 == slow < bucket_bytes(Link(1e-4, 1e9)) < fast == bucket_bytes(None) == 2**25
    monkeypatch.setenv("DIST_TRAIN_BUCKET_BYTES", "4096")
    assert bucket_bytes(Link(1e-4, 1e9)) == buffer_bytes() == 4096


@pytest.mark.parametrize("kind", [Worker, lambda layout: ThreadWorker(layout, Calls())], ids=["at once", "thread"])
def test_jobs_are_done_in_order(kind):
    worker, done = kind(alone(SerialCommunicator())), []
    for _ in range(2):
        for number in range(50):
            worker.submit(lambda number=number: done.append((number, threading.get_ident())))
        worker.wait()
    assert [number for number, _ in done] == [*range(50), *range(50)]
    assert all((thread != threading.get_ident()) == worker.concurrent for _, thread in done)


def test_an_error_in_the_thread_is_raised_where_it_is_waited_for():
    worker, done = ThreadWorker(alone(SerialCommunicator()), Calls()), []

    def fail():
        raise ValueError("failed as asked")

    for job in (lambda: done.append(1), fail, lambda: done.append(2)):
        worker.submit(job)
    with pytest.raises(ValueError, match="failed as asked"):
        worker.wait()
    assert done == [1]  # what came after it is not begun
