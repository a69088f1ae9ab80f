"""A training step against PyTorch's and JAX's: interleaved runs in the same processes, one thread each, float32, Adam, cross-entropy.

    python benchmarks/compare.py
    mpirun -n 2 python benchmarks/compare.py --json compare.json
    python benchmarks/compare.py --workloads mlp_seed gpt_3m --rounds 31

On one rank PyTorch runs without DistributedDataParallel, with its default and its fused Adam. On several it runs over gloo with
gradient_as_bucket_view: default Adam, fused Adam, and fused Adam in ZeroRedundancyOptimizer. The ratio is ours ÷ the fastest of them: of
medians; of the least times, where others disturb the machine; and the three quartiles of the ratio round by round. JAX, on one rank, is jit
of the whole step in a process of its own, measured in turn with the others, where it is installed (or DIST_TRAIN_JAX_PYTHON names an
interpreter that has it). One rank, and with it JAX, is bound to one core.

All begin from the same weights and see the same batches; before anything is timed their first losses are compared. While timing, the
learning rate is so small that nothing is learned: a model that knows its batches by heart has gradients of zero, and denormal moments.

The second table divides our step (in runs of its own, with a data loader): forward, backward, reduction, update, waiting for data. "Python"
is the step with every size shrunk to the least: the same operations on a few numbers each. "Floor" is what floor.py counts.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import report  # before NumPy: it sets the number of threads

# isort: split
import numpy as np
from floor import floor, gigaflops
from training import Batches, ours, pytorch
from workloads import SMALLEST, WORKLOADS, Workload, loss_of, num_parameters

import dist_train as dt

CHECKED_STEPS = 4
LEARNING_RATE = 1e-6  # while timing
NUM_BATCHES = 8
PARTS = ("forward", "backward", "reduce", "update", "data")


class JaxTrainer:
    """The interface of `Trainer` to a process that runs jax_worker.py."""

    def __init__(self, python: str, name: str, weights: dict[str, Any], batches: Batches) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "arrays.npz"
            inputs, labels = map(np.stack, zip(*batches))
            arrays: dict[str, Any] = {**weights, "/inputs": inputs, "/labels": labels.astype(np.int32)}
            np.savez(path, **arrays)
            command = [python, str(Path(__file__).with_name("jax_worker.py")), name, str(path)]
            self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            self.version = self._answer()

    def _ask(self, command: str) -> Any:
        assert self.process.stdin is not None
        print(command, file=self.process.stdin, flush=True)
        return self._answer()

    def _answer(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"the JAX process ended with status {self.process.wait()}")
        return json.loads(line)

    def losses(self, count: int) -> list[float]:
        return list(self._ask(f"losses {count}"))

    def set_rate(self, rate: float) -> None:
        self._ask(f"rate {rate}")

    def seconds(self, count: int) -> float:
        return float(self._ask(f"seconds {count}"))

    def close(self) -> None:
        self.process.communicate()


def jax_python() -> str | None:
    """The interpreter that has JAX; None where there is none, or several ranks."""
    named = os.environ.get("DIST_TRAIN_JAX_PYTHON") or (sys.executable if find_spec("jax") else None)
    return named if report.world_size() == 1 else None


def contestants(torch: Any, name: str, workload: Workload, batches: Batches) -> dict[str, Any]:
    """Everyone's trainer from the same weights, ours last."""
    weights = initial_weights(torch, workload)
    trainers: dict[str, Any] = {}
    if torch:
        trainers |= {variant: pytorch(workload, batches, weights, **options) for variant, options in _variants().items()}
    python = jax_python()
    if python:
        trainers["jax"] = JaxTrainer(python, name, weights, batches)
    return {**trainers, "ours": ours(workload, batches, weights)}


def _variants() -> dict[str, dict[str, bool]]:
    if report.world_size() == 1:
        return {"torch": {"fused": False}, "torch_fused": {"fused": True}}
    return {"ddp": {"fused": False}, "ddp_fused": {"fused": True}, "ddp_zero": {"fused": True, "zero": True}}


def initial_weights(torch: Any, workload: Workload) -> dict[str, Any]:
    library = torch or dt
    library.manual_seed(0)
    return {name: value.numpy().copy() for name, value in workload.build(library).state_dict().items()}


def check_same(trainers: dict[str, Any]) -> None:
    """RuntimeError unless all compute the same: first loss to 1e-4, and those after updates nearly so."""
    losses = {name: trainer.losses(CHECKED_STEPS) for name, trainer in trainers.items()}
    expected = losses["ours"]
    for name, values in losses.items():
        apart = [abs(a - b) / abs(b) for a, b in zip(values, expected)]
        if apart[0] > 1e-4 or max(apart) > 1e-2:
            raise RuntimeError(f"{name} computes something else: its losses are {values}, ours {expected}")


def compare(torch: Any, name: str, workload: Workload, rounds: int, duration: float) -> dict[str, Any]:
    rng = np.random.default_rng([1, report.rank()])
    trainers = contestants(torch, name, workload, [workload.batch(rng) for _ in range(NUM_BATCHES)])
    check_same(trainers)
    for trainer in trainers.values():
        trainer.set_rate(LEARNING_RATE)
    times = report.rounds_of({label: timed(trainer, duration) for label, trainer in trainers.items()}, rounds)
    result = {"milliseconds": {label: [1e3 * value for value in report.quartiles(values)] for label, values in times.items()}}
    others = [label for label in times if label not in ("ours", "jax")]
    result |= report.ratios(times, "ours", others) if others else {}
    if "jax" in times:
        result |= {"jax": report.ratios(times, "ours", ["jax"]), "jax_version": trainers["jax"].version}
        trainers["jax"].close()
    return {**result, "parameters": num_parameters(trainers["ours"].model)}


def timed(trainer: Any, duration: float) -> Callable[[], float]:
    """A measurement that lasts about `duration`."""
    trainer.seconds(2)
    repeats = dt.comm.world().broadcast_object(max(2, round(duration / trainer.seconds(3))))
    return lambda: float(trainer.seconds(repeats))


# our step, part by part


class Clock:
    """Seconds by part of a step."""

    def __init__(self) -> None:
        self.spent = dict.fromkeys(PARTS, 0.0)

    def timed(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any) -> Any:
            start = time.perf_counter()
            try:
                return function(*args)
            finally:
                self.spent[part] += time.perf_counter() - start

        return run


def split(workload: Workload, steps: int) -> dict[str, float]:
    """Median milliseconds of the parts of a step in a loop over a data loader, after `NUM_BATCHES` steps to warm up.

    The reduction includes waiting for the other ranks; the update, all of the optimizer but the reduction.
    """
    model = workload.build(dt)
    optimizer = dt.optim.Adam(model.parameters(), lr=LEARNING_RATE)
    model, optimizer, loader = dt.distribute(model, optimizer, _loader(workload))
    clock, criterion = Clock(), loss_of(dt, workload.tokens)
    driver = optimizer._driver
    for name in ("_end_micro_batch", "_reduce"):
        setattr(driver, name, clock.timed("reduce", getattr(driver, name)))
    forward = clock.timed("forward", lambda inputs, labels: criterion(model(inputs), labels))
    zero_grad, step = clock.timed("update", optimizer.zero_grad), clock.timed("update", optimizer.step)
    batches, rows = _endless(loader), []
    draw = clock.timed("data", lambda: next(batches))
    for _ in range(NUM_BATCHES + steps):
        clock.spent = dict.fromkeys(PARTS, 0.0)
        inputs, labels = draw()
        zero_grad()
        loss = forward(inputs, labels)
        clock.timed("backward", loss.backward)()
        step()
        clock.spent["update"] -= clock.spent["reduce"]
        rows.append(list(clock.spent.values()))
    return dict(zip(PARTS, np.median(np.array(rows[NUM_BATCHES:]) * 1e3, axis=0).tolist()))


def _loader(workload: Workload) -> Any:
    """Global batches, shuffled, from a data set in memory."""
    rng = np.random.default_rng(0)
    drawn = [workload.batch(rng) for _ in range(4 * NUM_BATCHES * report.world_size())]
    arrays = (np.concatenate(parts) for parts in zip(*drawn))
    data = dt.utils.data.TensorDataset(*map(dt.tensor, arrays))
    return dt.utils.data.DataLoader(data, batch_size=workload.inputs[0] * report.world_size(), shuffle=True)


def _endless(loader: Any) -> Iterator[Any]:
    while True:
        yield from loader


def python_milliseconds(name: str, rounds: int) -> float:
    """The step with every size shrunk to the least."""
    workload = SMALLEST[name]
    rng = np.random.default_rng(0)
    trainer = ours(workload, [workload.batch(rng)] * NUM_BATCHES)
    trainer.set_rate(LEARNING_RATE)
    measurement = timed(trainer, 0.05)
    return 1e3 * statistics.median(measurement() for _ in range(rounds))


def analyse(torch: Any, name: str, workload: Workload, parameters: int, rounds: int, milliseconds: float) -> dict[str, Any]:
    steps = int(dt.comm.world().broadcast_object(min(500, max(rounds, round(1000 / milliseconds)))))
    least = floor(workload.products, parameters, torch)
    return {
        "split": {**split(workload, steps), "python": python_milliseconds(name, rounds)},
        "floor": {**least, "gigaflops": gigaflops(workload.products, least["products"])},
    }


def measured(torch: Any, name: str, args: argparse.Namespace) -> dict[str, Any]:
    workload = SMALLEST[name] if args.smallest else WORKLOADS[name]
    report.progress(f"{name}: {report.world_size()} rank(s), {args.rounds} rounds")
    row = {"workload": name, **compare(torch, name, workload, args.rounds, args.seconds)}
    parts = {} if args.brief else analyse(torch, name, workload, row["parameters"], args.rounds, row["milliseconds"]["ours"][1])
    return row | parts


# output


def show(rows: Sequence[dict[str, Any]]) -> str:
    names = list(rows[0]["milliseconds"])
    lines: list[list[Any]] = [["milliseconds a step", *names, "ratio", "of least", "round by round", "", "", "/ jax"]]
    for row in rows:
        medians = [row["milliseconds"][name][1] for name in names]
        ratios = [row.get("ratio"), row.get("ratio_of_least"), *row.get("quartiles", [None] * 3)]
        lines.append([row["workload"], *medians, *ratios, row.get("jax", {}).get("ratio")])
    return report.table(lines)


def show_parts(rows: Sequence[dict[str, Any]]) -> str:
    lines: list[list[Any]] = [["ours, milliseconds", *PARTS, "Python", "products", "bytes", "floor", "ours / floor"]]
    for row in rows:
        least = row["floor"]
        lines.append([row["workload"], *row["split"].values(), least["products"], least["bytes"], least["floor"]])
        lines[-1].append(row["milliseconds"]["ours"][1] / least["floor"])
    return report.table(lines)


def main() -> None:
    parser = report.parser(__doc__, rounds=15)
    parser.add_argument("--workloads", nargs="*", default=list(WORKLOADS), choices=list(WORKLOADS))
    parser.add_argument("--seconds", type=float, default=0.05, help="length of one measurement")
    parser.add_argument("--smallest", action="store_true", help="every workload in its smallest size: a test of this program")
    parser.add_argument("--brief", action="store_true", help="only the first table")
    args = parser.parse_args()
    torch = report.join_torch()
    with report.one_core(report.world_size() == 1):
        rows = [measured(torch, name, args) for name in args.workloads]
    if report.rank() == 0:
        print(f"{report.world_size()} rank(s); ours: {report.kernels()}")
        print(show(rows), *([] if args.brief else [show_parts(rows)]), sep="\n\n")
    report.write(args.json, rows)
    report.leave_torch()


if __name__ == "__main__":
    main()
