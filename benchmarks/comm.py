"""Reduce and publish, which is all that a step of dist_train sends, against the all-reduces of MPI and of gloo, from 4 KB to 400 MB.

    mpirun -n 2 python benchmarks/comm.py
    mpirun -n 4 python benchmarks/comm.py --sizes 40MB --json comm.json

Every rank has a gradient; at the end every rank sees the sum. dist_train runs with all ranks on one node, on two nodes, and with every
rank a node of its own. `floor` is the time that its bytes take on one node (every gradient read, the sum written; the sum read, the
published vector written) at the bandwidth that the same run measures with all ranks at once. Medians of interleaved rounds, of the
slowest rank. Before each call the rank writes its gradient anew, as backward does, and reads 64 MiB of something else, so that no one
finds its data in a cache.
"""

from __future__ import annotations

import os
import re
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import report  # before NumPy: it sets the number of threads

# isort: split
import numpy as np

import dist_train as dt
from dist_train.comm.base import Communicator
from dist_train.distributed.buckets import buffer_bytes
from dist_train.distributed.flat import FlatVector, node_layout
from dist_train.distributed.reduction import SliceReduction

SIZES = ("4KB", "16KB", "64KB", "256KB", "1MB", "4MB", "16MB", "40MB", "100MB", "400MB")
ALL_REDUCES = ("Allreduce", "Allreduce in place")
_LARGE = 64 * 10**6  # bytes from which on a third of the rounds will do
_COLD = np.ones(2**24, np.float32)  # what evicts everything else from the caches

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Contestant:
    """`run` is timed; `gradient` is what the rank contributes, written anew each time; `result` is where the sum must be found then."""

    run: Callable[[], Any]
    gradient: Array
    result: Array


def reduce_and_publish(flat: FlatVector, reduction: SliceReduction) -> None:
    """As a training step does it, with a copy in the place of the optimizer's rule."""
    node = flat.layout.node
    node.barrier()
    reduction.reduce([1.0] * node.size)
    flat.own()[...] = flat.own_gradient()
    reduction.gather(flat.parameters)
    node.barrier()


def vector_of(comm: Communicator, count: int) -> tuple[FlatVector, SliceReduction]:
    """What `distribute` makes of one parameter of `count` elements."""
    named = [(0, "parameter", dt.nn.Parameter(dt.zeros(count)))]
    layout = node_layout([named], comm, comm.size)
    flat = FlatVector(named, comm, comm.size, layout)
    return flat, SliceReduction(flat, comm, comm.size, layout.lane, buffer_bytes())


def dist_train_in(comm: Communicator, count: int) -> Contestant:
    flat, reduction = vector_of(comm, count)
    return Contestant(lambda: reduce_and_publish(flat, reduction), flat.gradient[:count], flat.parameters[:count])


def communicators() -> dict[str, Communicator]:
    """The same ranks as 1 node, as 2 nodes, and as a node each."""
    size = report.world_size()
    return {f"{size // ranks} × {ranks}": _in_nodes_of(ranks) for ranks in sorted({size, max(1, size // 2), 1}, reverse=True)}


def _in_nodes_of(ranks: int) -> Communicator:
    comm = dt.comm.world().duplicate()
    os.environ["DIST_TRAIN_NODE_SIZE"] = str(ranks)
    comm.layout(0)  # the communicator keeps what it finds here
    return comm


def of_mpi(count: int) -> dict[str, Contestant]:
    from mpi4py import MPI

    comm = MPI.COMM_WORLD
    count += -count % comm.size  # equal slices, as the reduce-scatter of blocks wants them
    send, receive = np.zeros(count, np.float32), np.zeros(count, np.float32)
    own = np.zeros(count // comm.size, np.float32)

    def two_steps() -> None:
        comm.Reduce_scatter_block(send, own)
        comm.Allgather(own, receive)

    return {
        "Allreduce": Contestant(lambda: comm.Allreduce(send, receive), send, receive),
        "Allreduce in place": Contestant(lambda: comm.Allreduce(MPI.IN_PLACE, receive), receive, receive),
        "Reduce_scatter + Allgather": Contestant(two_steps, send, receive),
    }


def of_gloo(torch: Any, gradient: Array) -> dict[str, Contestant]:
    if torch is None:
        return {}
    tensor = torch.from_numpy(gradient)
    return {"gloo": Contestant(lambda: torch.distributed.all_reduce(tensor), gradient, gradient)}


def streams(count: int) -> dict[str, tuple[Callable[[], Any], int]]:
    """What this rank can do beside the others, and the bytes that it moves: its part of `count` elements copied, and added."""
    a, b, c = (np.ones(-(-count // report.world_size()), np.float32) for _ in range(3))
    return {"copy": (lambda: np.copyto(c, a), 2 * a.nbytes), "add": (lambda: np.add(a, b, out=c), 3 * a.nbytes)}


def cool(contestant: Contestant | None = None) -> None:
    if contestant is not None:
        contestant.gradient[...] = report.rank() + 1
    _COLD.max()


def check(name: str, contestant: Contestant) -> None:
    """RuntimeError unless every rank has the sum."""
    size = report.world_size()
    cool(contestant)
    contestant.run()
    if not (contestant.result == size * (size + 1) // 2).all():
        raise RuntimeError(f"{name}: wrong sum")


def measure(size: int, comms: dict[str, Communicator], torch: Any, rounds: int) -> dict[str, Any]:
    """One row of the report: seconds of every contestant for `size` bytes, and the bandwidth."""
    count = size // 4
    contestants = {f"dist_train {name}": dist_train_in(comm, count) for name, comm in comms.items()} | of_mpi(count)
    contestants |= of_gloo(torch, contestants["Allreduce in place"].gradient[:count])
    for name, contestant in contestants.items():
        check(name, contestant)
    flows = streams(count)
    table = np.empty((rounds, len(contestants) + len(flows)))
    for times in table:
        for i, contestant in enumerate(contestants.values()):
            cool(contestant)
            times[i] = report.seconds(contestant.run, 1)
        for i, (flow, _) in enumerate(flows.values(), len(contestants)):
            cool()
            times[i] = report.seconds(flow, 1)
    dt.comm.world().all_reduce(table, "max")
    columns = dict(zip([*contestants, *flows], table.T.tolist()))
    medians = {name: statistics.median(column) for name, column in columns.items()}
    bandwidth = max(nbytes * report.world_size() / medians.pop(name) for name, (_, nbytes) in flows.items())
    return {"bytes": size, "seconds": medians, "fastest": {name: min(columns[name]) for name in medians}, "bandwidth": bandwidth}


def moved_bytes(size: int, ranks: int) -> int:
    """Every gradient is read and the sum is written; the sum is read and what all ranks see is written."""
    return (ranks + 3) * size


def compared(row: dict[str, Any], bandwidth: float, ranks: int) -> dict[str, Any]:
    """The row with its floor and the ratios of dist_train on one node."""
    times = row["seconds"]
    ours = times[f"dist_train 1 × {ranks}"]
    floor = moved_bytes(row["bytes"], ranks) / bandwidth
    ratios = {"Allreduce": ours / min(times[name] for name in ALL_REDUCES), "floor": ours / floor}
    if "gloo" in times:
        ratios["gloo"] = ours / times["gloo"]
    return {**row, "floor": floor, "ratios": ratios}


def reference_bandwidth(rows: list[dict[str, Any]]) -> float:
    """That of the row whose size is nearest to 40 MB: smaller ones measure latencies."""
    return float(min(rows, key=lambda row: abs(row["bytes"] - 40 * 10**6))["bandwidth"])


def bytes_of(size: str) -> int:
    """Of "40MB": KB are 1024 bytes, so that they are whole blocks, and MB are 10⁶."""
    match = re.fullmatch(r"(\d+)(KB|MB)", size)
    if match is None:
        raise ValueError(f"a size is a number with KB or MB, not {size!r}")
    return int(match[1]) * {"KB": 1024, "MB": 10**6}[match[2]]


def fits(size: int) -> bool:
    """Whether all contestants' memory for `size` bytes is no more than two thirds of what is free now; the same on all ranks."""
    wanted = size * (8 * report.world_size() + 8)
    return bool(dt.comm.world().broadcast_object(wanted < _free_memory() * 2 // 3))


def _free_memory() -> int:
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))


def print_table(rows: list[dict[str, Any]], bandwidth: float) -> None:
    names = list(rows[0]["seconds"])
    ratios = list(rows[0]["ratios"])
    heading = ["bytes", *names, "floor", *(f"ours ÷ {name}" for name in ratios)]
    lines = [[row["bytes"], *(row["seconds"][n] * 1e3 for n in names), row["floor"] * 1e3, *row["ratios"].values()] for row in rows]
    print(f"{report.world_size()} ranks, milliseconds; bandwidth of all ranks together {bandwidth / 1e9:.1f} GB/s")
    print(report.table([heading, *lines]))


def main() -> None:
    parser = report.parser(__doc__, rounds=21)
    parser.add_argument("--sizes", nargs="*", default=SIZES, metavar="SIZE", help="such as 64KB or 40MB")
    args = parser.parse_args()
    if report.world_size() == 1:
        raise SystemExit("start it with mpirun -n 2 or more")
    torch, comms, rows = report.join_torch(), communicators(), []
    for size in map(bytes_of, args.sizes):
        if not fits(size):
            report.progress(f"{size} bytes left out: too little memory is free")
            continue
        report.progress(f"{size} bytes")
        rows.append(measure(size, comms, torch, max(3, args.rounds // 3) if size > _LARGE else args.rounds))
    bandwidth = reference_bandwidth(rows)
    rows = [compared(row, bandwidth, report.world_size()) for row in rows]
    if report.rank() == 0:
        print_table(rows, bandwidth)
    report.write(args.json, rows, bandwidth=bandwidth)
    report.leave_torch()


if __name__ == "__main__":
    main()
