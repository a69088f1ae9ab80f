"""Communicators: expected values are closed forms of rank and size."""

import numpy as np
import pytest

TYPES = [np.float32, np.float64, np.int64, np.bool_, np.float16]


@pytest.mark.parametrize("dtype", TYPES)
def test_broadcast(comm, dtype):
    for root in range(comm.size):
        array = np.full((2, 3), comm.rank == root, dtype)
        comm.broadcast(array, root)
        assert (array == np.ones((2, 3), dtype)).all()


def test_broadcast_into_a_strided_view(comm):
    array = np.zeros((4, 6), np.float32)
    array[::2, ::3] = comm.rank + 1
    comm.broadcast(array[::2, ::3])
    assert array.sum() == 4


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", [(), (0,), (1,), (7,), (2, 3)])
def test_all_gather(comm, dtype, shape):
    result = comm.all_gather(np.full(shape, comm.rank % 2, dtype))
    assert result.shape == (comm.size, *shape) and result.dtype == dtype
    for rank in range(comm.size):
        assert (result[rank] == dtype(rank % 2)).all()


def test_all_gather_varying(comm):
    counts = [3 * rank for rank in range(comm.size)]  # rank 0 sends nothing
    result = comm.all_gather_varying(np.full(counts[comm.rank], float(comm.rank)), counts)
    assert result.tolist() == [float(rank) for rank in range(comm.size) for _ in range(3 * rank)]


@pytest.mark.parametrize("length", [0, 1, 13, 4096])
def test_gather_slices(comm, length):
    borders = [rank * length // comm.size for rank in range(comm.size + 1)]
    vector = np.full(length, -1.0, np.float32)
    vector[borders[comm.rank] : borders[comm.rank + 1]] = np.arange(borders[comm.rank], borders[comm.rank + 1])
    comm.gather_slices(vector, borders[:-1], np.diff(borders).tolist())
    assert (vector == np.arange(length)).all()


def test_exchange(comm):
    counts = list(range(comm.size))  # everyone sends r elements to rank r
    send = np.repeat(np.arange(comm.size), counts) * 100 + comm.rank
    receive = np.empty(comm.rank * comm.size, send.dtype)
    comm.exchange(send, np.cumsum([0, *counts[:-1]]).tolist(), counts, receive, [comm.rank] * comm.size)
    assert receive.tolist() == [comm.rank * 100 + source for source in range(comm.size) for _ in range(comm.rank)]


@pytest.mark.parametrize(
    ("op", "expected"),
    [
        ("sum", lambda n: n * (n + 1) / 2),
        ("max", lambda n: n),
        ("min", lambda n: 1),
        ("prod", lambda n: np.prod(np.arange(1, n + 1))),
    ],
)
def test_all_reduce(comm, op, expected):
    array = np.full((3, 2), comm.rank + 1.0, np.float64)
    comm.all_reduce(array, op)
    assert (array == expected(comm.size)).all()


def test_send_and_receive_in_a_ring(comm):
    if comm.size == 1:
        with pytest.raises(RuntimeError, match="runs alone"):
            comm.send(np.zeros(1), 0)
        return
    array = np.zeros(5, np.float32)
    if comm.rank == 0:
        comm.send(np.arange(5, dtype=np.float32), 1)
        assert comm.receive(array) == comm.size - 1
    else:
        assert comm.receive(array, comm.rank - 1) == comm.rank - 1
        comm.send(array, (comm.rank + 1) % comm.size)
    assert array.tolist() == [0, 1, 2, 3, 4]


def test_objects(comm):
    assert comm.broadcast_object({"from": comm.rank}, 0) == {"from": 0}
    assert comm.all_gather_object((comm.rank, "x")) == [(rank, "x") for rank in range(comm.size)]


def test_duplicates_do_not_mix(comm):
    other = comm.duplicate()
    assert other.all_gather(np.array(other.rank)).tolist() == list(range(comm.size))
    comm.barrier()


def test_ranks_of_the_node_share_the_cores(comm):
    assert comm.local_size == comm.size and comm.local_rank == comm.rank
    assert comm.threads >= 1


def test_traffic_is_counted(comm):
    comm.traffic.clear()
    ones = [1] * comm.size
    comm.exchange(np.zeros(comm.size, np.float32), range(comm.size), ones, np.zeros(comm.size, np.float32), ones)
    if comm.size > 1:
        assert comm.traffic == {"exchange": 1, "exchange bytes": 4 * (comm.size - 1)}
