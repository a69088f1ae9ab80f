"""Communicators: expected values are closed forms of rank and size."""

import math
import re

import numpy as np
import pytest

import dist_train as dt
from dist_train import distributed as dist

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


def test_a_message_that_is_too_short(comm):
    if comm.size > 1 and comm.rank < 2:
        array = np.zeros(5, np.float32)
        if comm.rank == 0:
            comm.send(array[:3], 1)
        else:
            with pytest.raises(RuntimeError, match=r"rank 0 sent 12 bytes, rank 1 receives 20 \(float32, shape \(5,\)\)"):
                comm.receive(array, 0)


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


# torch's functions


def ones(*shape, dtype=dt.float32):
    return dt.ones(*shape, dtype=dtype)


@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0), (2, 3)], ids=str)
@pytest.mark.parametrize("dtype", ["bool", "uint8", "int8", "int64", "float16", "float32", "float64"])
def test_reductions_of_each_type(comm, dtype, shape):
    n = comm.size
    expected = {"sum": n * (n + 1) // 2, "max": n, "min": 1, "prod": math.factorial(n), "avg": (n + 1) / 2}
    for op, value in expected.items():
        if op != "avg" or dtype.startswith("f"):
            tensor, row = dt.full(shape, comm.rank + 1).to(np.dtype(dtype)), dt.zeros(*shape, dtype=np.dtype(dtype))
            dist.reduce_scatter_tensor(row, dt.stack([tensor] * n), op)
            dist.all_reduce(tensor, op)
            for result in (tensor, row):
                assert (result.dtype, result.shape) == (np.dtype(dtype), shape)
                assert (result.numpy() == np.asarray(value).astype(dtype)).all()
        else:
            with pytest.raises(TypeError, match=rf"ReduceOp\.AVG of {dtype}"):
                dist.all_reduce(dt.zeros(*shape, dtype=np.dtype(dtype)), op)


def test_what_collectives_refuse(comm):
    """Each is refused before anything is sent, on every rank that is given it."""
    n = comm.size
    refused = [
        (lambda: dist.all_reduce(ones(2), "mean"), "op='mean': expected ReduceOp.SUM"),
        (lambda: dist.broadcast(ones(2), n), f"src={n} is none of the {n} ranks"),
        (lambda: dist.broadcast(ones(2), -1), f"src=-1 is none of the {n} ranks"),
        (lambda: dist.reduce(ones(2), n), f"dst={n} is none of the {n} ranks"),
        (lambda: dist.gather(ones(2), [ones(2)] * (n + 1), comm.rank), f"gather_list must hold {n} tensors on rank {comm.rank}"),
        (lambda: dist.all_gather([ones(2)] * (n + 1), ones(2)), f"tensor_list must hold {n} tensors on rank {comm.rank}, one"),
        (lambda: dist.all_gather_into_tensor(ones(2 * n + 1), ones(2)), f"output of {2 * n + 1} elements for {n} ranks with an input of 2"),
        (lambda: dist.scatter(ones(2), None, comm.rank), f"scatter_list must hold {n} tensors on rank {comm.rank}, one"),
        (lambda: dist.scatter(ones(2), [ones(1)] * n, comm.rank), "tensor of shape (1,) for an output of shape (2,)"),
        (lambda: dist.reduce_scatter(ones(2), [ones(2)] * (n + 1)), f"over {n} ranks needs as many inputs, not {n + 1}"),
    ]  # fmt: skip
    for call, message in refused:
        with pytest.raises(ValueError, match=re.escape(message)):
            call()


def test_asynchronous_calls_are_complete_when_they_return(comm):
    tensor = dt.ones(3)
    work = dt.distributed.all_reduce(tensor, async_op=True)
    assert work.wait() and work.is_completed()
    assert tensor.tolist() == [comm.size] * 3
    with pytest.raises(ValueError, match="over all ranks"):
        dt.distributed.broadcast(tensor, 0, group=object())
