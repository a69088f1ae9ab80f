"""torch.distributed's functions over the communicator of this job. Under an MPI launch they need no set-up; a lone process is rank 0 of 1.

Tensors are changed in place, as in torch. Sums of floats over ranks are added in the order that the MPI library chooses.
See https://docs.pytorch.org/docs/stable/distributed.html
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import comm as comm_
from ..autograd.tensor import Tensor
from ..backend.device import array_module


class ReduceOp:
    """How a reduction combines values."""

    SUM = "sum"
    AVG = "avg"
    PRODUCT = "prod"
    MIN = "min"
    MAX = "max"


class Work:
    """What a collective returns for `async_op=True`: it is complete already."""

    def wait(self) -> bool:
        return True

    def is_completed(self) -> bool:
        return True


def is_available() -> bool:
    """Whether this package can communicate; always, if only with itself."""
    return True


def is_initialized() -> bool:
    """Whether the communicator of this job has been made (it is at the first use)."""
    return comm_.initialized()


def init_process_group(backend: str | None = None, **options: Any) -> None:
    """Make the communicator of this job; not needed, since the first use does. `backend` must be None or "mpi".

    Rank and number of ranks come from the MPI launcher: `init_method`, `rank`, `world_size` and `timeout` are accepted and have no use.
    """
    if backend not in (None, "mpi"):
        raise ValueError(f"backend {backend!r}: ranks communicate over MPI here; leave the backend out, or pass 'mpi'")
    unknown = set(options) - {"init_method", "rank", "world_size", "timeout", "device_id"}
    if unknown:
        raise TypeError(f"init_process_group() has no option {sorted(unknown)[0]!r}")
    comm_.world()


def destroy_process_group() -> None:
    """Nothing to do: MPI is shut down when Python ends."""


def get_rank() -> int:
    """This process's number, from 0."""
    return comm_.world().rank


def get_world_size() -> int:
    """The number of ranks."""
    return comm_.world().size


def get_local_rank() -> int:
    """This process's number on its node, from 0."""
    return comm_.world().local_rank


def get_backend() -> str:
    """What carries messages: "mpi" (a lone process needs none, and says the same)."""
    return "mpi"


def get_default_backend_for_device(device: Any) -> str:
    """The backend for tensors on `device`: "mpi" for all."""
    return "mpi"


def barrier(group: None = None, async_op: bool = False) -> Work | None:
    """Wait for all ranks."""
    _check_group(group)
    comm_.world().barrier()
    return Work() if async_op else None


def broadcast(tensor: Tensor, src: int = 0, group: None = None, async_op: bool = False) -> Work | None:
    """Overwrite `tensor` by that of rank `src`."""
    _check_group(group)
    array = tensor.array.copy()
    comm_.world().broadcast(array, _rank("src", src))
    tensor._write(array)
    return Work() if async_op else None


def all_reduce(tensor: Tensor, op: str = ReduceOp.SUM, group: None = None, async_op: bool = False) -> Work | None:
    """Replace `tensor` by its reduction over the ranks."""
    _check_group(group)
    tensor._write(_reduced(tensor, op))
    return Work() if async_op else None


def reduce(tensor: Tensor, dst: int = 0, op: str = ReduceOp.SUM, group: None = None, async_op: bool = False) -> Work | None:
    """Replace rank `dst`'s tensor by the reduction over the ranks."""
    _check_group(group)
    _rank("dst", dst)
    result = _reduced(tensor, op)
    if get_rank() == dst:
        tensor._write(result)
    return Work() if async_op else None


def all_gather(tensor_list: list[Tensor], tensor: Tensor, group: None = None, async_op: bool = False) -> Work | None:
    """Fill `tensor_list` with the ranks' tensors, all of one shape."""
    _check_group(group)
    _check_count("tensor_list", tensor_list)
    for target, array in zip(tensor_list, comm_.world().all_gather(tensor.array), strict=True):
        target._write(array)
    return Work() if async_op else None


def all_gather_into_tensor(output_tensor: Tensor, input_tensor: Tensor, group: None = None, async_op: bool = False) -> Work | None:
    """Write the ranks' tensors one after another, or stacked, into `output_tensor`."""
    _check_group(group)
    comm = comm_.world()
    if output_tensor.array.size != comm.size * input_tensor.array.size:
        raise ValueError(
            f"an output of {output_tensor.array.size} elements for {comm.size} ranks with an input of {input_tensor.array.size}"
        )
    output_tensor._write(comm.all_gather(input_tensor.array).reshape(output_tensor.array.shape))
    return Work() if async_op else None


def gather(
    tensor: Tensor, gather_list: list[Tensor] | None = None, dst: int = 0, group: None = None, async_op: bool = False
) -> Work | None:
    """Fill rank `dst`'s `gather_list` with the ranks' tensors."""
    _check_group(group)
    if get_rank() == _rank("dst", dst):
        _check_count("gather_list", gather_list)
    arrays = comm_.world().all_gather(tensor.array)
    if get_rank() == dst:
        for target, array in zip(gather_list or (), arrays, strict=True):
            target._write(array)
    return Work() if async_op else None


def scatter(
    tensor: Tensor, scatter_list: list[Tensor] | None = None, src: int = 0, group: None = None, async_op: bool = False
) -> Work | None:
    """Give each rank its tensor of rank `src`'s `scatter_list`."""
    _check_group(group)
    comm = comm_.world()
    xp = array_module(tensor.array)
    stacked = xp.empty((comm.size, *tensor.array.shape), tensor.array.dtype)
    if comm.rank == _rank("src", src):
        _check_count("scatter_list", scatter_list)
        for row, item in zip(stacked, scatter_list or ()):
            if item.array.shape != row.shape:
                raise ValueError(f"scatter_list holds a tensor of shape {item.array.shape} for an output of shape {row.shape}")
        stacked[...] = xp.stack([item.array for item in scatter_list or ()])
    comm.broadcast(stacked, src)
    tensor._write(stacked[comm.rank])
    return Work() if async_op else None


def reduce_scatter(
    output: Tensor, input_list: Sequence[Tensor], op: str = ReduceOp.SUM, group: None = None, async_op: bool = False
) -> Work | None:
    """Rank r's `output` becomes the reduction of everyone's `input_list[r]`."""
    _check_group(group)
    if len(input_list) != get_world_size():
        raise ValueError(f"reduce_scatter over {get_world_size()} ranks needs as many inputs, not {len(input_list)}")
    xp = array_module(output.array)
    reduce_scatter_tensor(output, Tensor(xp.stack([item.array for item in input_list])), op)
    return Work() if async_op else None


def reduce_scatter_tensor(output: Tensor, input: Tensor, op: str = ReduceOp.SUM, group: None = None, async_op: bool = False) -> Work | None:
    """Rank r's `output` becomes the r-th of N equal pieces of the reduction of everyone's `input`."""
    _check_group(group)
    comm = comm_.world()
    count = output.array.size
    if input.array.size != count * comm.size:
        raise ValueError(f"input of {input.array.size} elements for {comm.size} ranks with an output of {count} each")
    xp = array_module(input.array)
    rows = xp.empty((comm.size, count), input.array.dtype)
    _all_to_all(input, rows.reshape(-1))
    output._write(_combine(rows, op).reshape(output.array.shape))
    return Work() if async_op else None


def all_to_all_single(output: Tensor, input: Tensor, group: None = None, async_op: bool = False) -> Work | None:
    """Send the r-th of N equal pieces of `input` to rank r; `output` holds what came, by rank."""
    _check_group(group)
    comm = comm_.world()
    if input.array.size % comm.size or output.array.size != input.array.size:
        raise ValueError(f"{input.array.size} elements cannot be cut into {comm.size} equal pieces for an output of {output.array.size}")
    receive = array_module(input.array).empty(input.array.size, input.array.dtype)
    _all_to_all(input, receive)
    output._write(receive.reshape(output.array.shape))
    return Work() if async_op else None


def send(tensor: Tensor, dst: int, tag: int = 0) -> None:
    """Send a tensor to rank `dst`."""
    comm_.world().send(tensor.array, dst, tag)


def recv(tensor: Tensor, src: int | None = None, tag: int = 0) -> int:
    """Receive into `tensor` from rank `src`, or from any; returns the sender."""
    array = tensor.array.copy()
    source = comm_.world().receive(array, src, tag)
    tensor._write(array)
    return source


def broadcast_object_list(object_list: list[Any], src: int = 0) -> None:
    """Overwrite the Python objects in `object_list` by those of rank `src`."""
    object_list[:] = comm_.world().broadcast_object(list(object_list), src)


def all_gather_object(object_list: list[Any], obj: Any) -> None:
    """Fill `object_list` with the ranks' Python objects."""
    object_list[:] = comm_.world().all_gather_object(obj)


def _check_group(group: None) -> None:
    if group is not None:
        raise ValueError("collectives run over all ranks: leave group out")


def _all_to_all(input: Tensor, receive: Any) -> None:
    comm = comm_.world()
    count = input.array.size // comm.size
    starts, counts = [count * rank for rank in range(comm.size)], [count] * comm.size
    comm.exchange(array_module(input.array).ascontiguousarray(input.array).reshape(-1), starts, counts, receive, counts)


def _rank(name: str, rank: int) -> int:
    if not 0 <= rank < get_world_size():
        raise ValueError(f"{name}={rank} is none of the {get_world_size()} ranks, 0 … {get_world_size() - 1}")
    return rank


def _check_count(name: str, tensors: Sequence[Tensor] | None) -> None:
    if tensors is None or len(tensors) != get_world_size():
        given = "none" if tensors is None else str(len(tensors))
        raise ValueError(f"{name} must hold {get_world_size()} tensors on rank {get_rank()}, one a rank; given: {given}")


_AS_BOOL = {"sum": "max", "prod": "min"}  # the sum of truth values is whether any is true, the product whether all are


def _operation(op: str, dtype: np.dtype[Any]) -> str:
    """What the elements are combined by, before an average is divided."""
    if op not in ("sum", "avg", "prod", "min", "max"):
        raise ValueError(f"op={op!r}: expected ReduceOp.SUM, AVG, PRODUCT, MIN or MAX")
    if op == ReduceOp.AVG and dtype.kind not in "fc":
        raise TypeError(f"ReduceOp.AVG of {dtype.name}: the mean of whole numbers is none; reduce a float tensor, or use ReduceOp.SUM")
    op = ReduceOp.SUM if op == ReduceOp.AVG else op
    return _AS_BOOL.get(op, op) if dtype.kind == "b" else op


def _reduced(tensor: Tensor, op: str) -> Any:
    array = tensor.array.copy()
    comm = comm_.world()
    comm.all_reduce(array.view(np.uint8) if array.dtype.kind == "b" else array, _operation(op, array.dtype))
    return array / array.dtype.type(comm.size) if op == ReduceOp.AVG else array


def _combine(rows: Any, op: str) -> Any:
    """Rows, one a rank, reduced in rank order."""
    functions = {"sum": np.add, "prod": np.multiply, "min": np.minimum, "max": np.maximum}
    total = functions[_operation(op, rows.dtype)].reduce(rows, axis=0, dtype=rows.dtype)
    return total / rows.dtype.type(len(rows)) if op == ReduceOp.AVG else total
