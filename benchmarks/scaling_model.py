"""What a step costs on any number of ranks: bytes over bandwidth, messages times latency, and arithmetic, part by part.

Weak scaling: one micro-batch a rank, so that V is the number of ranks. Bytes are counted for one node; the time is the slowest rank's.
Nothing here is fitted to whole steps; the constants are measured on their own (scaling.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from types import SimpleNamespace
from typing import Any

BLOCK = 1024  # elements; slices are whole blocks
ITEM = 4  # bytes of a float32
RECORD_ITEM, LINE = 8, 64  # bytes; the step's record is float64, and a rank's part of it is whole cache lines
HEADER, PER_MICRO_BATCH = 4, 2  # numbers in a rank's part, which also has one for each block of its slice
THROTTLE = 32  # messages of an all-to-all that MPICH has on their way at a time (its variable MPIR_CVAR_ALLTOALL_THROTTLE)


@dataclass(frozen=True)
class Work:
    """A model: the sizes of its parameters, and the seconds of one rank for a micro-batch, and for the optimizer's rule on all of them."""

    sizes: Sequence[int]
    forward: float
    backward: float
    update: float

    @property
    def parameters(self) -> int:
        return sum(self.sizes)

    @property
    def compute(self) -> float:
        return self.forward + self.backward


@dataclass(frozen=True)
class Link:
    """Between ranks: seconds for an empty message to arrive, seconds of a rank's own for each message, bytes a second each way."""

    latency: float
    message: float
    rate: float


@dataclass(frozen=True)
class Machine:
    """A node: bytes a second of its memory (all ranks together), seconds a barrier of its ranks takes for each doubling of their number,
    seconds that reading one rank's entry in the step's record takes, and the link that joins it to the others."""

    bandwidth: float
    barrier: float
    entry: float
    outside: Link


@dataclass(frozen=True)
class Job:
    """`nodes` of `ranks` each. On a machine with fewer cores than ranks everything that needs a core takes `crowding` times as long, and
    nodes that share a machine (`sharing`) share its memory."""

    nodes: int
    ranks: int
    crowding: float = 1.0
    sharing: int = 1

    @property
    def size(self) -> int:
        return self.nodes * self.ranks


# bytes


def blocks(parameters: int) -> int:
    return -(-parameters // BLOCK)


def slice_bytes(parameters: int, parts: int) -> int:
    """The largest of the slices that `parts` ranks or nodes get."""
    return -(-blocks(parameters) // parts) * BLOCK * ITEM


def fold_bytes(parameters: int, nodes: int, ranks: int, sums: int = 1) -> int:
    """What a node moves in memory. Its own slice: its ranks' gradients and the other nodes' sums are read, the total is written. The
    other slices: its ranks' gradients are read and its sum written, unless it has only one. A lone rank reads its gradient."""
    whole, own = blocks(parameters) * BLOCK * ITEM, slice_bytes(parameters, nodes)
    sources = ranks + (nodes - 1) * sums
    others = (ranks + 1) * (whole - own) if ranks > 1 else 0
    return others + (sources + 1 if sources > 1 else 1) * own


def exchange_bytes(parameters: int, nodes: int, sums: int = 1) -> int:
    """What comes to a node in the exchange: its slice of the `sums` partial sums of every other node."""
    return (nodes - 1) * sums * slice_bytes(parameters, nodes)


def gather_bytes(parameters: int, nodes: int) -> int:
    """What comes to a node when the parameters are published: all slices but its own."""
    return blocks(parameters) * BLOCK * ITEM - slice_bytes(parameters, nodes) if nodes > 1 else 0


def record_bytes(parameters: int, size: int) -> int:
    """The record that every node has at the end, with a part for each rank."""
    base, larger = divmod(blocks(parameters), size)
    return (size - larger) * _part_bytes(base) + larger * _part_bytes(base + 1)


def _part_bytes(rank_blocks: int) -> int:
    return -(-(HEADER + PER_MICRO_BATCH + rank_blocks) * RECORD_ITEM // LINE) * LINE


def num_sums(nodes: int, ranks: int) -> int:
    """The most partial sums that a node of `ranks` micro-batches sends: its share of the tree in whole subtrees."""
    from dist_train.distributed.fold import subtrees

    size = nodes * ranks
    if nodes == 1 or ranks & (ranks - 1) == 0:
        return 1
    return max(len(subtrees((node * ranks, (node + 1) * ranks), (0, size))) for node in range(nodes))


def buckets_of(work: Work, job: Job, machine: Machine) -> list[int]:
    """Parameters of each bucket, as the package cuts them for such links; all in one where there is nothing to overlap with."""
    from dist_train.distributed.buckets import cut

    if job.nodes == 1:
        return [work.parameters]
    arrays = [SimpleNamespace(size=size, nbytes=size * ITEM) for size in work.sizes]
    named: list[Any] = [(index, "", SimpleNamespace(array=array)) for index, array in enumerate(arrays)]
    return [sum(parameter.array.size for _, _, parameter in bucket) for bucket in cut([named], bucket_bytes(job, machine))]


def bucket_bytes(job: Job, machine: Machine) -> int:
    """The least size of a bucket, from what a rank finds when it measures its lane."""
    from dist_train.comm import link
    from dist_train.distributed import buckets

    return buckets.bucket_bytes(link.Link(messages(job, machine), machine.outside.rate / job.ranks))


# seconds


def messages(job: Job, machine: Machine) -> float:
    """An all-to-all along the lanes of next to nothing: each rank sends to one in each other node, and receives as many."""
    link, partners = machine.outside, job.nodes - 1
    return 2 * partners * link.message + -(-partners // THROTTLE) * link.latency


def exchange_messages(parameters: int, job: Job, machine: Machine, sums: int) -> float:
    """The all-to-alls of the exchange: one for each sum and each piece of what a rank may receive at a time."""
    from dist_train.distributed.buckets import buffer_bytes

    if job.nodes == 1:
        return 0.0
    piece = max(BLOCK * ITEM, buffer_bytes() // ((job.nodes - 1) * sums))
    return -(-slice_bytes(parameters, job.size) // piece) * sums * messages(job, machine)


def step_parts(work: Work, job: Job, machine: Machine) -> dict[str, float]:
    """Seconds of each part of a step, as if they ran one after another; what is sent in bytes and in messages apart."""
    elsewhere = record_bytes(work.parameters, job.size) * (job.nodes - 1) // job.nodes
    buckets = [_of_bucket(parameters, work, job, machine) for parameters in buckets_of(work, job, machine)]
    return {
        "compute": work.compute * job.crowding,
        **{name: sum(bucket[name] for bucket in buckets) for name in buckets[0]},
        "record": messages(job, machine) + elsewhere / machine.outside.rate + job.size * machine.entry * job.crowding,
        "barriers": (2 + len(buckets)) * _rounds(job.ranks) * machine.barrier * job.crowding,
    }


def _of_bucket(parameters: int, work: Work, job: Job, machine: Machine) -> dict[str, float]:
    """The parts that are there for each bucket."""
    sums, whole = num_sums(job.nodes, job.ranks), blocks(parameters) * BLOCK * ITEM
    update = work.update * parameters / work.parameters
    return {
        "fold": fold_bytes(parameters, job.nodes, job.ranks, sums) / (machine.bandwidth / job.sharing),
        "exchange": exchange_bytes(parameters, job.nodes, sums) / machine.outside.rate,
        "exchange messages": exchange_messages(parameters, job, machine, sums),
        "update": update * slice_bytes(parameters, job.size) / whole * job.crowding,
        "gather": gather_bytes(parameters, job.nodes) / machine.outside.rate,
        "gather messages": messages(job, machine),
    }


def _rounds(size: int) -> int:
    return (size - 1).bit_length()


def step_seconds(work: Work, job: Job, machine: Machine, *, overlap: bool) -> float:
    """The whole step. With `overlap` a bucket is folded and exchanged while backward makes the next one, which takes as long as its
    share of the parameters, and the new parameters of a bucket are sent while the next one is updated."""
    parts = step_parts(work, job, machine)
    if job.nodes == 1 or not overlap:
        return sum(parts.values())
    sizes = buckets_of(work, job, machine)
    buckets = [_of_bucket(parameters, work, job, machine) for parameters in sizes]
    ready = [work.backward * job.crowding * share / work.parameters for share in accumulate(reversed(sizes))]
    reduced = pipelined(ready, [bucket["fold"] + bucket["exchange"] + bucket["exchange messages"] for bucket in reversed(buckets)])
    updated = list(accumulate(bucket["update"] for bucket in buckets))
    published = pipelined(updated, [bucket["gather"] + bucket["gather messages"] for bucket in buckets])
    return work.forward * job.crowding + reduced + parts["record"] + parts["barriers"] + published


def pipelined(ready: Sequence[float], lengths: Sequence[float]) -> float:
    """When a worker is done that takes up each job once it is ready, one after another."""
    end = 0.0
    for begin, length in zip(ready, lengths):
        end = max(end, begin) + length
    return end


def first_above(parts: dict[int, dict[str, float]], name: str, fraction: float) -> int | None:
    """The smallest number of ranks at which a part takes more than `fraction` of the compute; None where it never does."""
    return next((size for size in sorted(parts) if parts[size][name] > fraction * parts[size]["compute"]), None)
