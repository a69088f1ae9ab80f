"""Start-up: import time against NumPy's and PyTorch's, time from the command to the end of the first step, size of an installation.

    python benchmarks/startup.py
    python benchmarks/startup.py --ranks 1 2 4 --install --json startup.json

Medians of interleaved fresh processes. The first step is that of mlp_seed (784-28-10) with Adam: ours started by mpiexec, PyTorch with
DistributedDataParallel over gloo, its processes started with the environment that it reads (without torchrun, which takes longer).
`--install` makes a new virtual environment for each, which pip may download for, and adds up its files: `.[mpi]` from this clone,
and `torch` (or what `--torch` names; the wheels for CPUs are smaller than the default ones).
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import report  # before NumPy: it sets the number of threads

# isort: split
import numpy as np
from processes import environment, run_under_mpi, run_under_torch
from training import ours, pytorch
from workloads import WORKLOADS

IMPORTS = {"python": "pass", "numpy": "import numpy", "dist_train": "import dist_train", "torch": "import torch"}
CLONE = Path(__file__).resolve().parent.parent


# import


def import_seconds(statement: str) -> float:
    """A fresh process's life, with bytecode cached as installed packages have it."""
    cached = {name: value for name, value in environment().items() if name != "PYTHONDONTWRITEBYTECODE"}
    cached["PYTHONPATH"] = os.pathsep.join(filter(None, [str(CLONE), cached.get("PYTHONPATH")]))
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", statement], check=True, env=cached)
    return time.perf_counter() - start


def imports(rounds: int) -> dict[str, Any]:
    """Milliseconds of each import, Python's own start included, and ours over NumPy's without it."""
    names = [name for name in IMPORTS if name != "torch" or report.has_torch()]
    times = interleaved({name: partial(import_seconds, IMPORTS[name]) for name in names}, rounds)
    ratio = (times["dist_train"] - times["python"]) / (times["numpy"] - times["python"])
    return {"milliseconds": {name: value * 1e3 for name, value in times.items()}, "dist_train / numpy": ratio}


# first step


def worker(library: str) -> None:
    """One rank: train one step, and say how long ago the command was given."""
    workload = WORKLOADS["mlp_seed"]
    batches = [workload.batch(np.random.default_rng(0))]
    if library == "torch":
        import torch

        torch.set_num_threads(1)
        if int(os.environ["WORLD_SIZE"]) > 1:
            torch.distributed.init_process_group("gloo")
    trainer = pytorch(workload, batches) if library == "torch" else ours(workload, batches)
    trainer.losses(1)
    elapsed = time.time() - float(os.environ["BENCHMARK_BEGAN"])
    report.leave_torch()
    if library == "torch" or report.rank() == 0:
        print(elapsed)


def first_step_seconds(start: Callable[..., str], ranks: int, library: str) -> float:
    """Until rank 0 has made its first step."""
    os.environ["BENCHMARK_BEGAN"] = str(time.time())
    return float(start(ranks, str(Path(__file__)), "--worker", library))


def first_steps(ranks: int, rounds: int) -> dict[str, float]:
    starts = {"dist_train": run_under_mpi, **({"torch": run_under_torch} if report.has_torch() else {})}
    return interleaved({name: partial(first_step_seconds, start, ranks, name) for name, start in starts.items()}, rounds)


def interleaved(measurements: dict[str, Callable[[], float]], rounds: int) -> dict[str, float]:
    """Median of each, after one that is not counted and fills the caches."""
    for measure in measurements.values():
        measure()
    return {name: statistics.median(values) for name, values in report.rounds_of(measurements, rounds).items()}


# size


def installed_megabytes(*requirements: str) -> float:
    """What pip adds to the site-packages and programs of a new virtual environment."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        before = _bytes(Path(folder))
        pip = [str(Path(folder, "bin", "python")), "-m", "pip", "install", "--quiet", "--no-compile", "--disable-pip-version-check"]
        subprocess.run([*pip, *requirements], check=True, stdout=sys.stderr)
        return (_bytes(Path(folder)) - before) / 1e6


def _bytes(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def sizes(torch: str) -> dict[str, float]:
    """Megabytes; the clone is copied, so that building leaves nothing in it."""
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder, "clone")
        shutil.copytree(CLONE, clone, ignore=shutil.ignore_patterns(".*", "build", "dist", "*.so", "__pycache__"))
        return {
            "dist_train": installed_megabytes(f"{clone}[mpi]"),
            "numpy": installed_megabytes("numpy"),
            "torch": installed_megabytes(torch),
        }


# all of it


def show(rows: dict[str, Any]) -> str:
    times = rows["imports"]["milliseconds"]
    lines: list[list[Any]] = [["", *IMPORTS], ["import, ms", *(times.get(name) for name in IMPORTS)]]
    for ranks, steps in rows["first_step_seconds"].items():
        lines.append([f"first step on {ranks} rank(s), s", None, None, steps["dist_train"], steps.get("torch")])
    if "installed_megabytes" in rows:
        lines.append(["installed, MB", *(rows["installed_megabytes"].get(name) for name in IMPORTS)])
    note = f"import dist_train / import numpy, without Python's own start: {rows['imports']['dist_train / numpy']:.2f}"
    return f"{report.table(lines)}\n\n{note}"


def main() -> None:
    parser = report.parser(__doc__, rounds=20)
    parser.add_argument("--ranks", nargs="*", type=int, default=[1, 2, 4])
    parser.add_argument("--install", action="store_true", help="measure the size of new installations too")
    parser.add_argument("--torch", default="torch", help="what pip installs to compare with")
    parser.add_argument("--worker", choices=["dist_train", "torch"], help="what the processes that this program starts do")
    args = parser.parse_args()
    if args.worker:
        return worker(args.worker)
    report.progress("imports")
    rows: dict[str, Any] = {"imports": imports(args.rounds), "first_step_seconds": {}}
    for ranks in args.ranks:
        report.progress(f"first step on {ranks} rank(s)")
        rows["first_step_seconds"][ranks] = first_steps(ranks, max(1, args.rounds // 4))
    if args.install:
        report.progress("installations")
        rows["installed_megabytes"] = sizes(args.torch)
    print(show(rows))
    return report.write(args.json, rows)


if __name__ == "__main__":
    main()
