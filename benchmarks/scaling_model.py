"""What a step costs on any number of ranks: bytes over bandwidth, messages times latency, and arithmetic, part by part.

Weak scaling: one micro-batch a rank, so that V is the number of ranks. Bytes are counted for one node; the time is the slowest rank's.
Nothing here is fitted to whole steps; the constants are measured on their own (scaling.py).
"""

from __future__ import annotations

from dataclasses import dataclass

BLOCK = 1024  # elements; slices are whole blocks
ITEM = 4  # bytes of a float32
RECORD_ITEM = 8  # bytes; the step's record is float64
HEADER, PER_MICRO_BATCH = 4, 2  # numbers in the record
BUCKET = 32 * 2**20  # bytes of partial sums that a rank receives at a time
# MPICH's choices (its variables MPIR_CVAR_ALLGATHER_SHORT_MSG_SIZE, ..._LONG_MSG_SIZE, MPIR_CVAR_ALLTOALL_THROTTLE)
SHORT, LONG, THROTTLE = 80 * 1024, 512 * 1024, 32


@dataclass(frozen=True)
class Work:
    """A model: its parameters, and the seconds of one rank for a micro-batch, and for the optimizer's rule on all of them."""

    parameters: int
    forward: float
    backward: float
    update: float

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
    seconds that reading one rank's entry in the step's record takes, and its links inside and outside."""

    bandwidth: float
    barrier: float
    entry: float
    inside: Link
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


def fold_bytes(parameters: int, ranks: int) -> int:
    """What a node moves in memory to add up its ranks' gradients: each is read, the sum is written. Nothing on one rank."""
    return (ranks + 1) * blocks(parameters) * BLOCK * ITEM if ranks > 1 else 0


def exchange_bytes(parameters: int, nodes: int, sums: int = 1) -> int:
    """What comes to a node in the exchange: its slice of the `sums` partial sums of every other node."""
    return (nodes - 1) * sums * slice_bytes(parameters, nodes)


def gather_bytes(parameters: int, nodes: int) -> int:
    """What comes to a node when the parameters are published: all slices but its own."""
    return blocks(parameters) * BLOCK * ITEM - slice_bytes(parameters, nodes) if nodes > 1 else 0


def record_bytes(parameters: int, size: int) -> int:
    """The record that every rank receives: a header and sums of each rank, and the square of each of the gradient's blocks."""
    return RECORD_ITEM * (size * (HEADER + PER_MICRO_BATCH) + blocks(parameters))


def num_sums(nodes: int, ranks: int) -> int:
    """The most partial sums that a node of `ranks` micro-batches sends: its share of the tree in whole subtrees."""
    from dist_train.distributed.fold import subtrees

    size = nodes * ranks
    if nodes == 1 or ranks & (ranks - 1) == 0:
        return 1
    return max(len(subtrees((node * ranks, (node + 1) * ranks), (0, size))) for node in range(nodes))


# seconds


def all_gather(total: int, nodes: int, ranks: int, machine: Machine) -> float:
    """Every rank gets `total` bytes, in equal parts of all ranks."""
    size = nodes * ranks
    if size == 1:
        return 0.0
    inside, outside = _hop(machine.inside), _hop(machine.outside)
    rate = machine.outside.rate if nodes > 1 else machine.inside.rate
    if _in_rounds(total, size):
        # each round doubles what a rank has; in the last ones all ranks of a node send all they have through its one link
        across = ranks * total * (nodes - 1) / nodes if nodes > 1 else total
        return _rounds(ranks) * inside + _rounds(nodes) * outside + across / rate
    return (nodes - 1) * outside + (size - nodes) * inside + total / rate  # a ring: everything comes into each node once


def exchange(parameters: int, job: Job, machine: Machine, sums: int) -> float:
    """The all-to-all of every lane, each rank with one in each other node; `THROTTLE` messages are on their way at a time."""
    if job.nodes == 1:
        return 0.0
    link, partners = machine.outside, job.nodes - 1
    bucket = max(BLOCK * ITEM, BUCKET // (job.nodes * sums))
    buckets = -(-slice_bytes(parameters, job.size) // bucket)
    messages = 2 * sums * partners * link.message + -(-partners // THROTTLE) * link.latency
    return buckets * messages + exchange_bytes(parameters, job.nodes, sums) / link.rate


def gather(parameters: int, job: Job, machine: Machine) -> float:
    """The all-gather of every lane."""
    if job.nodes == 1:
        return 0.0
    hops = _rounds(job.nodes) if _in_rounds(slice_bytes(parameters, job.ranks), job.nodes) else job.nodes - 1
    return hops * _hop(machine.outside) + gather_bytes(parameters, job.nodes) / machine.outside.rate


def _in_rounds(total: int, size: int) -> bool:
    """Whether an all-gather goes by recursive doubling or Bruck's algorithm rather than round a ring."""
    return total < SHORT or (total < LONG and size & (size - 1) == 0)


def _rounds(size: int) -> int:
    return (size - 1).bit_length()


def _hop(link: Link) -> float:
    return link.latency + link.message


def step_parts(work: Work, job: Job, machine: Machine) -> dict[str, float]:
    """Seconds of each part of a step, as if they ran one after another."""
    psi, sums = work.parameters, num_sums(job.nodes, job.ranks)
    bandwidth = machine.bandwidth / job.sharing
    add_bytes = (job.nodes * sums + 1) * slice_bytes(psi, job.nodes) if job.nodes > 1 else 0
    return {
        "compute": work.compute * job.crowding,
        "fold": fold_bytes(psi, job.ranks) / bandwidth,
        "exchange": exchange(psi, job, machine, sums),
        "addition": add_bytes / bandwidth,
        "record": all_gather(record_bytes(psi, job.size), job.nodes, job.ranks, machine) + job.size * machine.entry * job.crowding,
        "update": work.update * slice_bytes(psi, job.size) / (blocks(psi) * BLOCK * ITEM) * job.crowding,
        "gather": gather(psi, job, machine),
        "barriers": 2 * _rounds(job.ranks) * machine.barrier * job.crowding,
    }


def step_seconds(work: Work, job: Job, machine: Machine, *, overlap: bool) -> float:
    """The whole step. With `overlap` what happens between nodes hides behind the backward pass, as far as that is long enough."""
    parts = step_parts(work, job, machine)
    total = sum(parts.values())
    if not overlap:
        return total
    return total - min(work.backward * job.crowding, parts["exchange"] + parts["addition"])


def first_above(parts: dict[int, dict[str, float]], name: str, fraction: float) -> int | None:
    """The smallest number of ranks at which a part takes more than `fraction` of the compute; None where it never does."""
    return next((size for size in sorted(parts) if parts[size][name] > fraction * parts[size]["compute"]), None)
