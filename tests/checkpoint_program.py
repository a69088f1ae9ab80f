"""Stand-ins for a model, an optimizer and a loader, and programs over them that tests start in processes of their own.

Usage: python checkpoint_program.py PROGRAM DIRECTORY [ARGUMENT]     (alone or under mpiexec)
"""

from __future__ import annotations

import os
import resource
import sys
import threading
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from dist_train.checkpoint import Checkpoint, saving
from dist_train.comm import world

SHAPES = {"0.weight": (3, 5), "0.bias": (5,), "2.weight": (7,), "scale": ()}


class Tensor:
    """As much of a tensor as a checkpoint sees."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array
        self.dtype, self.shape = array.dtype, array.shape

    def detach(self) -> Tensor:
        return self

    def cpu(self) -> Tensor:
        return self

    def numpy(self) -> np.ndarray:
        return self.array


class Module:
    def __init__(self, shapes: dict[str, tuple[int, ...]] = SHAPES, dtype: str = "float32") -> None:
        self.tensors = {name: np.zeros(shape, dtype) for name, shape in shapes.items()}

    def fill(self, value: float) -> None:
        for array in self.tensors.values():
            array[...] = value

    def state_dict(self) -> dict[str, Tensor]:
        return {name: Tensor(array) for name, array in self.tensors.items()}

    def load_state_dict(self, state: dict[str, np.ndarray]) -> None:
        assert state.keys() == self.tensors.keys()
        for name, array in state.items():
            self.tensors[name][...] = array


class Optimizer:
    """Two flat vectors' worth of state, of which rank `rank` of `size` holds an even slice; parts of 2 types."""

    lengths = {"float32": 37, "float64": 11}
    names = ("exp_avg", "exp_avg_sq")

    def __init__(self, rank: int = 0, size: int = 1, prefix: str = "", names: tuple[str, ...] = names) -> None:
        self.rank, self.size, self.prefix, self.names, self.steps = rank, size, prefix, names, 0
        self.vectors = {
            dtype: {name: np.zeros(self.stop(length) - self.start(length), dtype) for name in names}
            for dtype, length in self.lengths.items()
        }

    def start(self, length: int) -> int:
        return self.rank * length // self.size

    def stop(self, length: int) -> int:
        return (self.rank + 1) * length // self.size

    def expected(self, dtype: str, name: str, steps: int) -> np.ndarray:
        length = self.lengths[dtype]
        whole = np.arange(length) + 1000 * steps + 100 * (name != "exp_avg") + 0.25
        return whole[self.start(length) : self.stop(length)].astype(dtype)

    def step(self, count: int = 1) -> None:
        self.steps += count
        for dtype, vectors in self.vectors.items():
            for name in vectors:
                vectors[name][...] = self.expected(dtype, name, self.steps)

    def is_at(self, steps: int) -> bool:
        return self.steps == steps and all(
            np.array_equal(vector, self.expected(dtype, name, steps))
            for dtype, vectors in self.vectors.items()
            for name, vector in vectors.items()
        )

    def shard(self) -> dict[str, Any]:
        parts = [
            {
                "dtype": dtype,
                "length": length,
                "start": self.start(length),
                "stop": self.stop(length),
                "table": [
                    {"index": number, "name": f"{self.prefix}{dtype}", "shape": [length - 1], "offset": 0},
                ],
                "vectors": self.vectors[dtype],
            }
            for number, (dtype, length) in enumerate(self.lengths.items())
        ]
        extra = {"steps": self.steps, "micro_batches": 12, "seed": 3, "param_groups": [{"betas": (0.9, 0.999)}]}
        return {"parts": parts, "extra": extra}

    def load_shard(self, parts: list[dict[str, Any]], extra: dict[str, Any], read: Any) -> None:
        assert extra["param_groups"] == [{"betas": (0.9, 0.999)}]
        self.steps = extra["steps"]
        for number, part in enumerate(parts):
            for name in part["names"]:
                range_ = self.start(part["length"]), self.stop(part["length"])
                self.vectors[part["dtype"]][name][...] = read(number, name, *range_)


class Loader:
    """An object of plain values, which may refuse a state."""

    def __init__(self, position: int = 0, refuse: bool = False) -> None:
        self.position, self.refuse = position, refuse

    def state_dict(self) -> dict[str, Any]:
        return {"position": self.position, "best": float("inf")}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        assert state["best"] == float("inf")
        if self.refuse and state["position"] != self.position:
            raise ValueError("the data set has another length")
        self.position = state["position"]


class Run:
    """One rank's model, optimizer, loader and own values, and their checkpoints."""

    def __init__(self, directory: Path, comm: Any = None, **options: Any) -> None:
        comm = comm or world()
        self.model, self.optimizer = Module(), Optimizer(comm.rank, comm.size)
        self.loader, self.notes = Loader(), {"seen": []}
        self.checkpoint = Checkpoint(directory, **self.objects(), **options)
        self.checkpoint._comm = comm

    def objects(self) -> dict[str, Any]:
        return {"model": self.model, "optimizer": self.optimizer, "loader": self.loader, "notes": self.notes}

    def train(self, steps: int) -> Run:
        self.optimizer.step(steps)
        self.model.fill(self.optimizer.steps)
        self.loader.position = 10 * self.optimizer.steps
        self.notes["seen"].append(self.optimizer.steps)
        return self

    def is_at(self, steps: int) -> bool:
        return (
            self.optimizer.is_at(steps)
            and all(np.all(array == steps) for array in self.model.tensors.values())
            and self.loader.position == 10 * steps
            and (self.notes["seen"] or [0])[-1] == steps
        )


class ThreadGroup:
    """Communicators of `size` ranks which are threads; enough of them for a checkpoint."""

    def __init__(self, size: int) -> None:
        self.barrier = threading.Barrier(size, timeout=30)
        self.values: list[Any] = [None] * size
        self.twin: ThreadGroup | None = None

    def exchange(self, rank: int, value: Any) -> list[Any]:
        self.values[rank] = value
        self.barrier.wait()
        values = list(self.values)
        self.barrier.wait()
        return values


class ThreadCommunicator:
    def __init__(self, group: ThreadGroup, rank: int) -> None:
        self.threads = world().threads
        self.group, self.rank, self.size = group, rank, len(group.values)

    def barrier(self) -> None:
        self.group.exchange(self.rank, None)

    def all_gather_object(self, value: Any) -> list[Any]:
        return self.group.exchange(self.rank, value)

    def broadcast_object(self, value: Any, root: int = 0) -> Any:
        return self.group.exchange(self.rank, value)[root]

    def duplicate(self) -> ThreadCommunicator:
        group = self.broadcast_object(ThreadGroup(self.size))
        return ThreadCommunicator(group, self.rank)


def save_for_ever(directory: Path) -> None:
    """Go on from the newest checkpoint, which must be whole, and save until killed."""
    warnings.simplefilter("error")
    run = Run(directory, keep=2)
    step = run.checkpoint.restore() or 0
    assert step == 0 or run.is_at(step), (step, run.optimizer.steps)
    print(f"restored {step} pid {os.getpid()}\n", end="", flush=True)
    while True:
        run.train(1).checkpoint.save(wait=bool(run.optimizer.steps % 3))


def save_twice(directory: Path, wait: str) -> None:
    """Save steps 1 and 2."""
    run = Run(directory)
    run.train(1).checkpoint.save(wait == "wait")
    run.train(1).checkpoint.save(wait == "wait")
    run.model.fill(-1)  # a save in the background must not see this


def expect_step(directory: Path, step: str) -> None:
    """Restore, and fail unless it is this step."""
    run = Run(directory)
    assert run.checkpoint.restore() == int(step)
    assert run.is_at(int(step))


def full_disk(directory: Path, wait: str) -> None:
    """Save step 1; then the last rank can write no more than 100 bytes, and saving step 2 must fail on every rank."""
    run = Run(directory)
    run.train(1).checkpoint.save()
    comm = run.checkpoint.comm
    if comm.rank == comm.size - 1:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, resource.RLIM_INFINITY))
    try:
        run.train(1).checkpoint.save(wait == "wait")
        run.checkpoint.wait()
    except OSError as error:
        print(f"rank {comm.rank} got {error}", flush=True)
    assert sorted(os.listdir(directory)) == ["step-00000001"]


def fail_at_exit(directory: Path) -> None:
    """End while a save that fails is in the background."""
    run = Run(directory)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, resource.RLIM_INFINITY))
    run.train(1).checkpoint.save(wait=False)


def no_permission(directory: Path) -> None:
    """Neither restore nor save can use the directory (root drops its rights: they have no limits)."""
    if os.geteuid() == 0:
        os.setgid(65534)
        os.setuid(65534)
    for action in (lambda: Run(directory).checkpoint.restore(), lambda: Run(directory).train(1).checkpoint.save()):
        try:
            action()
        except PermissionError as error:
            print(error, flush=True)


def slow_save(directory: Path) -> None:
    """Be in the middle of a save for long."""

    def slow(*args: Any) -> None:
        print("writing", flush=True)
        time.sleep(60)

    saving._write_manifest = slow
    Run(directory).train(9).checkpoint.save()


if __name__ == "__main__":
    globals()[sys.argv[1]](Path(sys.argv[2]), *sys.argv[3:])
