"""What a step costs on any number of ranks: bytes over bandwidth, messages times latency, and arithmetic, part by part.

Weak scaling: one micro-batch a rank, so that V is the number of ranks. Bytes are counted for one node; the time is the slowest rank's.
Nothing here is fitted to whole steps; the constants are measured on their own (scaling.py).
"""

from __future__ import annotations

from dataclasses import dataclass

BLOCK = 1024  # elements; slices are whole blocks
ITEM = 4  # bytes of a float32
RECORD_ITEM, LINE = 8, 64  # bytes; the step's record is float64, and a rank's part of it is whole cache lines
HEADER, PER_MICRO_BATCH = 4, 2  # numbers in a rank's part, which also has one for each block of its slice
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


# seconds


def exchange(parameters: int, job: Job, machine: Machine, sums: int) -> float:
    """The all-to-all of every lane, each rank with one in each other node; `THROTTLE` messages are on their way at a time."""
    if job.nodes == 1:
        return 0.0
    link, partners = machine.outside, job.nodes - 1
    bucket = max(BLOCK * ITEM, BUCKET // (job.nodes * sums))
    buckets = -(-slice_bytes(parameters, job.size) // bucket)
    messages = 2 * sums * partners * link.message + -(-partners // THROTTLE) * link.latency
    return buckets * messages + exchange_bytes(parameters, job.nodes, sums) / link.rate


def gather(total: int, received: int, job: Job, link: Link) -> float:
    """The all-gathers of all lanes together, of `total` bytes, of which `received` come from other nodes."""
    if job.nodes == 1:
        return 0.0
    return _hops(total // job.ranks, job.nodes) * (link.latency + link.message) + received / link.rate


def _hops(total: int, size: int) -> int:
    """Messages one after another in an all-gather: by recursive doubling or Bruck's algorithm, or round a ring."""
    in_rounds = total < SHORT or (total < LONG and size & (size - 1) == 0)
    return _rounds(size) if in_rounds else size - 1


def _rounds(size: int) -> int:
    return (size - 1).bit_length()


def step_parts(work: Work, job: Job, machine: Machine) -> dict[str, float]:
    """Seconds of each part of a step, as if they ran one after another."""
    psi, link, sums = work.parameters, machine.outside, num_sums(job.nodes, job.ranks)
    whole, record = blocks(psi) * BLOCK * ITEM, record_bytes(psi, job.size)
    elsewhere = record * (job.nodes - 1) // job.nodes
    return {
        "compute": work.compute * job.crowding,
        "fold": fold_bytes(psi, job.nodes, job.ranks, sums) / (machine.bandwidth / job.sharing),
        "exchange": exchange(psi, job, machine, sums),
        "record": gather(record, elsewhere, job, link) + job.size * machine.entry * job.crowding,
        "update": work.update * slice_bytes(psi, job.size) / whole * job.crowding,
        "gather": gather(whole, gather_bytes(psi, job.nodes), job, link),
        "barriers": 3 * _rounds(job.ranks) * machine.barrier * job.crowding,
    }


def step_seconds(work: Work, job: Job, machine: Machine, *, overlap: bool) -> float:
    """The whole step. With `overlap` the exchange hides behind the backward pass, as far as that is long enough."""
    parts = step_parts(work, job, machine)
    return sum(parts.values()) - (min(work.backward * job.crowding, parts["exchange"]) if overlap else 0.0)


def first_above(parts: dict[int, dict[str, float]], name: str, fraction: float) -> int | None:
    """The smallest number of ranks at which a part takes more than `fraction` of the compute; None where it never does."""
    return next((size for size in sorted(parts) if parts[size][name] > fraction * parts[size]["compute"]), None)
