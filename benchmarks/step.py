"""One training step against PyTorch's, in the same processes: runs interleaved, medians, one BLAS thread per rank, Adam, float32.

    OMP_NUM_THREADS=1 python benchmarks/step.py
    OMP_NUM_THREADS=1 mpirun -n 2 python benchmarks/step.py           # against DistributedDataParallel over gloo
    python benchmarks/step.py --json step.json --workloads mlp_seed

Each row: PyTorch's default Adam, its fused Adam, and ours under `distribute`; the ratio is ours ÷ the faster of the two.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import itertools

import numpy as np
import torch

import dist_train as dt

WORKLOADS = {"mlp_seed": ((784, 28, 10), 64), "mlp_wide": ((784, 1024, 1024, 10), 64), "mlp_20m": ((784, 4096, 4096, 10), 32)}
Step = Callable[[], None]


def layers(nn: Any, sizes: tuple[int, ...]) -> Any:
    """The same MLP from either library's nn."""
    parts = [part for a, b in itertools.pairwise(sizes) for part in (nn.Linear(a, b), nn.ReLU())]
    return nn.Sequential(*parts[:-1])


def training_step(model: Any, optimizer: Any, criterion: Any, inputs: Any, labels: Any) -> Step:
    def step() -> None:
        optimizer.zero_grad()
        criterion(model(inputs), labels).backward()
        optimizer.step()

    return step


def ours(sizes: tuple[int, ...], inputs: Any, labels: Any) -> Step:
    model = layers(dt.nn, sizes)
    model, optimizer, _ = dt.distribute(model, dt.optim.Adam(model.parameters()))
    return training_step(model, optimizer, dt.nn.CrossEntropyLoss(), dt.tensor(inputs), dt.tensor(labels))


def pytorch(sizes: tuple[int, ...], inputs: Any, labels: Any, fused: bool) -> Step:
    model = layers(torch.nn, sizes)
    if torch.distributed.is_initialized():
        model = torch.nn.parallel.DistributedDataParallel(model, gradient_as_bucket_view=True)
    optimizer = torch.optim.Adam(model.parameters(), fused=fused)
    return training_step(model, optimizer, torch.nn.CrossEntropyLoss(), torch.tensor(inputs), torch.tensor(labels))


def seconds(step: Step, repeats: int) -> float:
    dt.distributed.barrier()
    start = time.perf_counter()
    for _ in range(repeats):
        step()
    return (time.perf_counter() - start) / repeats


def measure(name: str, rounds: int) -> dict[str, Any]:
    sizes, batch = WORKLOADS[name]
    rng = np.random.default_rng(dt.distributed.get_rank())
    data = rng.standard_normal((batch, sizes[0])).astype(np.float32), rng.integers(0, sizes[-1], batch)
    steps = {"pytorch": pytorch(sizes, *data, False), "pytorch_fused": pytorch(sizes, *data, True), "dist_train": ours(sizes, *data)}
    repeats = max(1, int(0.05 / max(seconds(steps["pytorch"], 3), 1e-4)))
    repeats = int(dt.comm.world().broadcast_object(repeats))
    times: dict[str, list[float]] = {key: [] for key in steps}
    for _ in range(rounds):
        for key, step in steps.items():
            times[key].append(seconds(step, repeats))
    medians = {key: statistics.median(values) * 1e3 for key, values in times.items()}
    ratio = medians["dist_train"] / min(medians["pytorch"], medians["pytorch_fused"])
    return {"workload": name, "milliseconds": medians, "ratio": ratio}


def join_gloo() -> None:
    """PyTorch's process group over the same ranks."""
    rank, size = dt.distributed.get_rank(), dt.distributed.get_world_size()
    if size > 1:
        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT="29511", RANK=str(rank), WORLD_SIZE=str(size))
        torch.distributed.init_process_group("gloo")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--workloads", nargs="*", default=list(WORKLOADS), choices=list(WORKLOADS))
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    join_gloo()
    rows = [measure(name, args.rounds) for name in args.workloads]
    if dt.distributed.get_rank() == 0:
        print(f"{dt.distributed.get_world_size()} rank(s), milliseconds a step, median of {args.rounds} interleaved rounds")
        for row in rows:
            figures = "  ".join(f"{key} {value:8.3f}" for key, value in row["milliseconds"].items())
            print(f"{row['workload']:9} {figures}  ratio {row['ratio']:.2f}")
        if args.json:
            versions = {"numpy": np.__version__, "torch": torch.__version__, "python": platform.python_version()}
            machine = {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()}
            report = {"command": sys.argv, "ranks": dt.distributed.get_world_size(), "machine": machine, "versions": versions, "rows": rows}
            args.json.write_text(json.dumps(report, indent=1))
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
