"""What the ranks of one run measure for scaling.py; rank 0 writes it as JSON.

mpirun -n 2 python benchmarks/scaling_rank.py --workloads mlp_20m --output run.json
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import report  # before NumPy: it sets the number of threads

# isort: split
import numpy as np
from comm import cool, dist_train_in, streams
from workloads import WORKLOADS, Workload, loss_of

import dist_train as dt

LEARNING_RATE = 1e-6  # so small that nothing is learned: gradients of zero would make denormal numbers
SMALL, LARGE = 200, 16 * 10**6  # messages in a burst, bytes in one that shows the rate
Step = Callable[[], Any]


class Training:
    """A step on one batch, and its parts."""

    def __init__(self, workload: Workload, distributed: bool) -> None:
        inputs, labels = workload.batch(np.random.default_rng(report.rank()))
        self.inputs, self.labels = dt.Tensor(inputs), dt.Tensor(labels)
        self.model = workload.build(dt)
        self.optimizer = dt.optim.Adam(self.model.parameters(), lr=LEARNING_RATE)
        if distributed:
            self.model, self.optimizer, _ = dt.distribute(self.model, self.optimizer)
        self.criterion = loss_of(dt, workload.tokens)

    def forward(self) -> None:
        self.optimizer.zero_grad()
        self.loss = self.criterion(self.model(self.inputs), self.labels)

    def backward(self) -> None:
        self.loss.backward()

    def update(self) -> None:
        self.optimizer.step()

    def step(self) -> None:
        self.forward()
        self.backward()
        self.update()


def of_workload(workload: Workload, rounds: int) -> dict[str, Any]:
    """The parts of a step of every rank alone, the step alone, reduce + publish alone, and the step of all ranks together."""
    alone, together = Training(workload, False), Training(workload, True)
    sizes = [math.prod(parameter.shape) for parameter in alone.model.parameters()]
    vector = dist_train_in(dt.comm.world(), sum(sizes))
    steps: dict[str, Step] = {"forward": alone.forward, "backward": alone.backward, "update": alone.update, "alone": alone.step}
    steps |= {"communication": vector.run, "step": together.step}
    for step in steps.values():
        step()
    times = report.interleaved(steps, rounds, dict.fromkeys(steps, 1))
    medians = {name: statistics.median(values) for name, values in times.items()}
    return {"sizes": sizes, "median": medians, "fastest": {name: min(values) for name, values in times.items()}}


def of_link() -> dict[str, float]:
    """Between ranks half the job apart, all at the same time: seconds for one message, seconds each in a burst, bytes a second."""
    from mpi4py import MPI

    comm = MPI.COMM_WORLD
    size, rank = comm.Get_size(), comm.Get_rank()
    to, source = (rank + size // 2) % size, (rank - size // 2) % size
    send, receive = np.zeros(LARGE, np.uint8), np.zeros(LARGE, np.uint8)

    def pass_on(count: int) -> None:
        comm.Sendrecv(send[:count], to, 0, receive[:count], source, 0)

    def burst() -> None:
        requests = [comm.Irecv(receive[i : i + 1], source) for i in range(SMALL)]
        requests += [comm.Isend(send[i : i + 1], to) for i in range(SMALL)]
        MPI.Request.Waitall(requests)

    empty, many, large = (_fastest(lambda: pass_on(1), 50), _fastest(burst), _fastest(lambda: pass_on(LARGE)))
    return {"latency": empty, "message": many / SMALL / 2, "rate": LARGE / large}


def of_memory() -> float:
    """Bytes a second of all ranks together."""
    flows = streams(10**7)
    times = []
    for flow, nbytes in flows.values():
        cool()
        times.append(nbytes * report.world_size() / _fastest(flow))
    return max(times)


def of_barrier() -> float:
    """Seconds of a barrier of the node, for each doubling of its ranks."""
    node = dt.comm.world().layout(0).node
    return _fastest(node.barrier, 50) / max(1, math.ceil(math.log2(node.size)))


def _fastest(step: Step, repeats: int = 1, rounds: int = 9) -> float:
    """A constant is what it is when nothing disturbs."""
    step()
    return min(report.interleaved({"": step}, rounds, {"": repeats})[""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workloads", nargs="*", default=[], choices=list(WORKLOADS))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    result: dict[str, Any] = {"ranks": report.world_size(), "node": dt.comm.world().layout(0).node.size, "bandwidth": of_memory()}
    if report.world_size() > 1:
        result |= {"barrier": of_barrier(), "link": of_link()}
    result["workloads"] = {name: of_workload(WORKLOADS[name], args.rounds) for name in args.workloads}
    if report.rank() == 0:
        args.output.write_text(json.dumps(result))


if __name__ == "__main__":
    main()
