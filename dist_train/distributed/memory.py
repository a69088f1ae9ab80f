"""`memory_report`: what training holds in memory, counted and measured, beside the formula of what it has to hold."""

from __future__ import annotations

import gc
import platform
import tracemalloc
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import comm as comm_
from ..backend import native
from ..optim.driver import LocalDriver
from ..optim.optimizer import Optimizer
from .flat import FlatVector
from .sharded import ShardedDriver

_MIB = 2**20
_LABELS = {
    "parameters": "parameters",
    "gradients": "gradients",
    "state": "optimizer state",
    "activations": "activations, at their peak",
    "kept": "kept for new arrays",
    "other": "other: program, libraries, data",
    "process": "process, shared pages divided",
    "resident": "process, all pages",
}


@dataclass(frozen=True)
class Bytes:
    """Of this rank, of all ranks of its node, and by the formula for the node; None where it is not known."""

    rank: int | None
    node: int | None
    formula: int | None = None


class MemoryReport:
    """What `memory_report` returns. Each part is a `Bytes`, an attribute under its name: `report.gradients.node`.

    parameters, gradients, state: what the optimizers hold.
    activations: the most that arrays made inside the `with` block took at a time (None without one).
    kept: memory of freed arrays that waits for new ones.
    process: the proportional set size: pages that processes share count in parts. resident: all pages, the resident set size.
    other: what of `process` is in none of these.
    """

    parameters: Bytes
    gradients: Bytes
    state: Bytes
    activations: Bytes
    kept: Bytes
    other: Bytes
    process: Bytes
    resident: Bytes

    def __init__(self, optimizers: Sequence[Optimizer]) -> None:
        self._optimizers = optimizers
        self._peak: int | None = None
        self._take()

    def __enter__(self) -> MemoryReport:
        self._tracing = tracemalloc.is_tracing()
        if not self._tracing:
            tracemalloc.start()
        tracemalloc.reset_peak()
        self._begin = tracemalloc.get_traced_memory()[0]
        self._held = _held(self._optimizers)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        peak = tracemalloc.get_traced_memory()[1]
        if not self._tracing:
            tracemalloc.stop()
        if kind is None:
            new = max(0, _held(self._optimizers) - self._held)  # the first gradients and state are no activations
            self._peak = max(0, peak - self._begin - round(new))
            self._take()

    def _take(self) -> None:
        """Count and measure; all ranks together."""
        own = _counted(self._optimizers, self._peak)
        everyone = comm_.world().all_gather_object((_node(self._optimizers), own))
        node = [counts for place, counts in everyone if place == everyone[comm_.world().rank][0]]
        for name, (size, formula) in own.items():
            total, whole = (_total(counts[name][i] for counts in node) for i in (0, 1))
            setattr(self, name, Bytes(None if size is None else round(size), total, None if formula is None else whole))

    def __str__(self) -> str:
        rows = [["MiB", "this rank", "node", "formula"]]
        for name, label in _LABELS.items():
            part: Bytes = getattr(self, name)
            rows.append([label, *map(_mebibytes, (part.rank, part.node, part.formula))])
        return "\n".join(f"{row[0]:32}" + "".join(f"{cell:>11}" for cell in row[1:]) for row in rows)

    __repr__ = __str__


def memory_report(*optimizers: Optimizer) -> MemoryReport:
    """What training holds in memory, on this rank and on its node. Every rank calls it; print it on one.

        with dt.memory_report() as report:  # a step, with tracing on
            train_one_step()
        print(report)

    Without `with` nothing is traced and the activations are left out. Inside the block Python's `tracemalloc` notes each array and object
    that is made: a step of 0.4 ms took 1.7 times as long, one of 60 ms 1.1 times; before and after, nothing costs anything. The peak of
    the activations is the most that was in use at a time beyond what was there at the beginning: saved activations, their gradients,
    temporary arrays and batches; in the first step, which also makes the optimizer's state, it may come out too small.

    optimizers: whose parameters, gradients and state to count; default: all of the process.

    The formula: with Ψ parameters of b bytes, R ranks on the node and N in all, bΨ for the parameters once per node, bΨ for the
    gradients per rank (and per further vector of partial sums), bΨ/N per rank for each of the optimizer's state vectors. Before
    `distribute`, every process has its own.
    """
    return MemoryReport(optimizers or _living())


def _living() -> list[Optimizer]:
    """All optimizers of the process."""
    return [thing for thing in gc.get_objects() if issubclass(type(thing), Optimizer)]


Count = tuple[float | None, float | None]  # measured, by the formula


def _counted(optimizers: Sequence[Optimizer], peak: int | None) -> dict[str, Count]:
    """This rank's numbers. What the ranks of a node share counts in equal parts."""
    held: dict[str, Count] = dict.fromkeys(("parameters", "gradients", "state"), (0.0, 0.0))
    for name, size, formula in (row for optimizer in optimizers for row in _rows(optimizer)):
        held[name] = held[name][0] + size, held[name][1] + formula  # type: ignore[operator]
    process, resident = _process()
    kept = native.kept_bytes()
    other = None if process is None else max(0.0, process - kept - sum(size or 0 for size, _ in held.values()))
    rest = {"activations": peak, "kept": kept, "other": other, "process": process, "resident": resident}
    return held | {name: (size, None) for name, size in rest.items()}


def _held(optimizers: Sequence[Optimizer]) -> float:
    return sum(size for optimizer in optimizers for _, size, _ in _rows(optimizer))


def _rows(optimizer: Optimizer) -> Iterator[tuple[str, float, float]]:
    """(what it is, bytes, bytes by the formula) of one optimizer on this rank."""
    driver = optimizer._driver
    if isinstance(driver, ShardedDriver):
        for flat, state in zip(driver.flats, driver.states):
            yield from _sharded_rows(flat, [vector.nbytes for vector in state.vectors.values()], optimizer)
    elif isinstance(driver, LocalDriver):
        yield from _local_rows(optimizer, driver)


def _sharded_rows(flat: FlatVector, state: list[int], optimizer: Optimizer) -> Iterator[tuple[str, float, float]]:
    groups = [group for group, _ in optimizer.indexed_params()]
    ranks, node = sum(map(len, flat.layout.nodes)), flat.layout.node.size
    sizes = [(entry.size * flat.dtype.itemsize, len(optimizer.state_vectors(groups[entry.index]))) for entry in flat.entries]
    whole = sum(size for size, _ in sizes)
    yield "parameters", flat.parameters.nbytes / node, whole / node
    yield "gradients", sum(vector.nbytes for vector in flat.own_vectors), whole * len(flat.own_vectors)
    yield "state", sum(state), sum(size * number for size, number in sizes) / ranks


def _local_rows(optimizer: Optimizer, driver: LocalDriver) -> Iterator[tuple[str, float, float]]:
    states = driver.state()
    for index, (group, parameter) in enumerate(optimizer.indexed_params()):
        size = parameter.array.nbytes
        gradient = parameter._grad_buffer if parameter.grad is None else parameter.grad
        vectors = states[index].vectors.values() if index in states else ()
        yield "parameters", size, size
        yield "gradients", 0 if gradient is None else gradient.array.nbytes, size
        yield "state", sum(vector.nbytes for vector in vectors), size * len(optimizer.state_vectors(group))


def _node(optimizers: Iterable[Optimizer]) -> Any:
    """What is equal on the ranks of one node."""
    for optimizer in optimizers:
        if isinstance(optimizer._driver, ShardedDriver) and optimizer._driver.flats:
            return optimizer._driver.flats[0].layout.lane.rank
    return platform.node()


def _process() -> tuple[int | None, int | None]:
    """Proportional and resident set size; None where the system does not tell."""
    try:
        lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    except OSError:
        return None, None
    sizes = {name: int(rest.split()[0]) * 1024 for name, _, rest in (line.partition(":") for line in lines) if name in ("Pss", "Rss")}
    return sizes.get("Pss"), sizes.get("Rss")


def _total(values: Iterable[float | None]) -> int | None:
    known = list(values)
    return None if None in known else round(sum(value or 0 for value in known))


def _mebibytes(size: int | None) -> str:
    return "-" if size is None else f"{size / _MIB:.1f}"
