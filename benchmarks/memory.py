"""Memory of training with Adam in float32: proportional set sizes of 1, 2 and 4 ranks on a machine, against the formula and PyTorch.

    python benchmarks/memory.py
    python benchmarks/memory.py --models 20m 100m --ranks 1 2 4 --json memory.json

Starts the ranks itself: ours under mpiexec; PyTorch with DistributedDataParallel over gloo (on one rank without), and the same with
ZeroRedundancyOptimizer. The proportional set size counts every page once, divided by the processes that map it; pages of /dev/shm too.

Of each rank it is read twice, at the same time on all ranks: when everything is imported and the ranks are connected ("before"), and after
some steps. The table adds up the node. "grown" is the difference, to be compared with the formula: for Ψ parameters on R ranks
4Ψ + R·4Ψ + 8Ψ bytes (parameters once, gradients per rank, state over all ranks) of ours, R·16Ψ of DistributedDataParallel, and
R·8Ψ + 8Ψ with ZeroRedundancyOptimizer. "peak" is the most that the node grew by between steps, sampled every few milliseconds.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import report  # before NumPy: it sets the number of threads

# isort: split
import numpy as np
from processes import run_under_mpi, run_under_torch
from training import Trainer, ours, pytorch
from workloads import Workload, mlp, num_parameters

MODELS = {
    "smallest": mlp(2, 2, 2, 2, batch=1),
    "20m": mlp(784, 4096, 4096, 10, batch=32),
    "100m": mlp(784, 9600, 9600, 10, batch=32),
}
FORMULAS: dict[str, Callable[[int, int], int]] = {  # bytes of a node: parameters, ranks
    "ours": lambda n, ranks: (12 + 4 * ranks) * n,
    "ddp": lambda n, ranks: 16 * n * ranks,
    "ddp_zero": lambda n, ranks: (8 * ranks + 8) * n,
}
STEPS = 12
MIB = 2**20
FIELDS = ("Pss", "Pss_Anon", "Pss_File", "Pss_Shmem")


def memory() -> list[int]:
    """This process's proportional set size in bytes: all of it, then anonymous, file and shared memory."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    sizes = {name: int(value.split()[0]) * 1024 for name, _, value in (line.partition(":") for line in lines) if name in FIELDS}
    return [sizes[name] for name in FIELDS]


class Peak(threading.Thread):
    """Samples `memory` until stopped."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.most, self._stop_now = 0, threading.Event()

    def run(self) -> None:
        while not self._stop_now.wait(0.005):
            self.most = max(self.most, memory()[0])

    def stop(self) -> int:
        self._stop_now.set()
        self.join()
        return self.most


# one rank


def measure(workload: Workload, set_up: Callable[..., Trainer], gather: Callable[[Any], list[Any]]) -> dict[str, Any]:
    """Per rank: memory before, after the steps, and at most. `gather` lets the ranks meet."""
    batch = workload.batch(np.random.default_rng(0))
    gather(None)
    before = memory()
    gather(None)
    peak = Peak()
    peak.start()
    trainer = set_up(workload, [batch])
    trainer.losses(STEPS)
    gather(None)
    after = memory()
    gather(None)
    rows = gather([before, after, peak.stop()])
    return {"parameters": num_parameters(trainer.model), **dict(zip(("before", "after", "peak"), zip(*rows)))}


def measure_ours(workload: Workload) -> dict[str, Any] | None:
    import dist_train as dt

    comm = dt.comm.world()
    result = measure(workload, ours, comm.all_gather_object)
    return result if comm.rank == 0 else None


def measure_pytorch(workload: Workload, zero: bool) -> dict[str, Any] | None:
    import torch

    torch.set_num_threads(1)
    ranks = int(os.environ["WORLD_SIZE"])
    if ranks > 1:
        torch.distributed.init_process_group("gloo")

    def gather(value: Any) -> list[Any]:
        values = [None] * ranks
        if ranks > 1:
            torch.distributed.all_gather_object(values, value)
        return values if ranks > 1 else [value]

    result = measure(workload, lambda *args: pytorch(*args, zero=zero), gather)
    return result if os.environ["RANK"] == "0" else None


def worker(variant: str, model: str) -> None:
    workload = MODELS[model]
    result = measure_ours(workload) if variant == "ours" else measure_pytorch(workload, zero=variant == "ddp_zero")
    if result:
        print(json.dumps(result), flush=True)
    if variant != "ours":
        os._exit(0)  # gloo's threads may abort the process while Python ends; all is measured and said


# all of them


def row(variant: str, model: str, ranks: int) -> dict[str, Any]:
    start = run_under_mpi if variant == "ours" else run_under_torch
    result = json.loads(start(ranks, str(Path(__file__)), "--worker", variant, "--models", model).splitlines()[-1])
    before, after, peak = (np.array(result[name]) for name in ("before", "after", "peak"))
    formula = FORMULAS[variant](result["parameters"], ranks)
    grown = (after - before).sum(axis=0)
    return {
        "model": model,
        "variant": variant,
        "ranks": ranks,
        "parameters": result["parameters"],
        "bytes_before": before.tolist(),  # per rank: all, anonymous, file, shared memory
        "bytes_after": after.tolist(),
        "before": before[:, 0].sum() / MIB,
        "after": after[:, 0].sum() / MIB,
        "grown": grown[0] / MIB,
        "grown_by_kind": dict(zip(FIELDS[1:], (grown[1:] / MIB).tolist())),
        "peak": (peak - before[:, 0]).sum() / MIB,
        "formula": formula / MIB,
        "within": bool(grown[0] <= 1.1 * formula + 32 * MIB * ranks),
    }


def show(rows: list[dict[str, Any]]) -> str:
    names = ("model", "ranks", "variant", "before", "after", "grown", "peak", "formula")
    lines: list[list[Any]] = [["MiB a node:", *names[1:], "grown / formula", "of PyTorch's least: after", "grown"]]
    for item in rows:
        others = [other for other in rows if other["variant"] != "ours" and all(other[key] == item[key] for key in ("model", "ranks"))]
        least = [
            item[key] / min(other[key] for other in others) if others and item["variant"] == "ours" else None for key in ("after", "grown")
        ]
        lines.append([*(item[name] for name in names), item["grown"] / item["formula"], *least])
    return report.table(lines)


def main() -> None:
    parser = report.parser(__doc__)
    parser.add_argument("--models", nargs="*", default=["20m"], choices=list(MODELS))
    parser.add_argument("--ranks", nargs="*", type=int, default=[1, 2, 4])
    parser.add_argument("--variants", nargs="*", default=list(FORMULAS) if report.has_torch() else ["ours"], choices=list(FORMULAS))
    parser.add_argument("--worker", choices=list(FORMULAS), help="what the processes that this program starts do")
    args = parser.parse_args()
    if args.worker:
        return worker(args.worker, args.models[0])
    rows = []
    for model in args.models:
        for ranks in args.ranks:
            for variant in args.variants:
                if ranks > 1 or variant != "ddp_zero":
                    print(f"{model}, {ranks} rank(s), {variant}", file=sys.stderr, flush=True)
                    rows.append(row(variant, model, ranks))
    print(show(rows))
    return report.write(args.json, rows)


if __name__ == "__main__":
    main()
