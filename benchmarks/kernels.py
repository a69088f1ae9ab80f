"""Each compiled kernel against its NumPy reference and PyTorch's operation: one thread, float32, forward and backward apart.

    python benchmarks/kernels.py
    python benchmarks/kernels.py --only conv2d gelu --rounds 25 --json kernels.json

A row is one operation at a shape that a training step has. The three are run in turn, round by round; the table has the medians in
microseconds and the ratios of ours to the other two. Below 1 ours is faster.
"""

from __future__ import annotations

import report  # isort: skip  sets the number of threads before NumPy is loaded

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

import dist_train as dt
from dist_train.backend.kernels import REGISTRY

Tensors = list[Any]


@dataclass(frozen=True)
class Row:
    """The operation as `call(library, *tensors)`; its inputs are floats of `shapes` and integers of `labels` (shape, classes)."""

    name: str
    call: Callable[..., Any]
    shapes: tuple[tuple[int, ...], ...]
    labels: tuple[tuple[tuple[int, ...], int], ...] = ()


def functional(name: str, **options: Any) -> Callable[..., Any]:
    return lambda library, *tensors: getattr(library.nn.functional, name)(*tensors, **options)


def normalized(name: str, width: int) -> Callable[..., Any]:
    return lambda library, x, weight, bias: getattr(library.nn.functional, name)(x, (width,), weight, bias)


def batch_norm(library: Any, x: Any, weight: Any, bias: Any) -> Any:
    return library.nn.functional.batch_norm(x, None, None, weight, bias, training=True)


def embedding(library: Any, weight: Any, indices: Any) -> Any:
    return library.nn.functional.embedding(indices, weight)


def attention(library: Any, qkv: Any) -> Any:
    """As a GPT has it: heads are views of one projection (B, T, 3·C)."""
    rows, length, width = qkv.shape
    q, k, v = (part.reshape(rows, length, -1, 32).transpose(1, 2) for part in qkv.split(width // 3, 2))
    return library.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)


TOKENS, WIDTH = 1024, 256
ROWS = [
    Row("linear 64×784→1024", functional("linear"), ((64, 784), (1024, 784), (1024,))),
    Row("linear 32×4096→4096", functional("linear"), ((32, 4096), (4096, 4096), (4096,))),
    Row("linear 1024×256→1024", functional("linear"), ((TOKENS, WIDTH), (4 * WIDTH, WIDTH), (4 * WIDTH,))),
    Row("relu 64×28", functional("relu"), ((64, 28),)),
    Row("relu 32×64×24×24", functional("relu"), ((32, 64, 24, 24),)),
    Row("gelu tanh 1024×1024", functional("gelu", approximate="tanh"), ((TOKENS, 4 * WIDTH),)),
    Row("gelu 1024×1024", functional("gelu"), ((TOKENS, 4 * WIDTH),)),
    Row("silu 1024×1024", functional("silu"), ((TOKENS, 4 * WIDTH),)),
    Row("sigmoid 1024×1024", functional("sigmoid"), ((TOKENS, 4 * WIDTH),)),
    Row("tanh 1024×1024", functional("tanh"), ((TOKENS, 4 * WIDTH),)),
    Row("softmax 1024×1024", functional("softmax", dim=-1), ((TOKENS, 1024),)),
    Row("log_softmax 1024×256", functional("log_softmax", dim=-1), ((TOKENS, 256),)),
    Row("cross_entropy 64×10", functional("cross_entropy"), ((64, 10),), (((64,), 10),)),
    Row("cross_entropy 1024×256", functional("cross_entropy"), ((TOKENS, 256),), (((TOKENS,), 256),)),
    Row("cross_entropy 512×32000", functional("cross_entropy"), ((512, 32000),), (((512,), 32000),)),
    Row("layer_norm 1024×256", normalized("layer_norm", WIDTH), ((TOKENS, WIDTH), (WIDTH,), (WIDTH,))),
    Row("batch_norm 32×64×24×24", batch_norm, ((32, 64, 24, 24), (64,), (64,))),
    Row("dropout 1024×1024", functional("dropout", p=0.1), ((TOKENS, 4 * WIDTH),)),
    Row("embedding 1024 of 256×256", embedding, ((256, WIDTH),), (((8, 128), 256),)),
    Row("embedding 1024 of 50000×256", embedding, ((50000, WIDTH),), (((8, 128), 50000),)),
    Row("attention 8×8×128×32", attention, ((8, 128, 3 * WIDTH),)),
    Row("attention 2×8×1024×32", attention, ((2, 1024, 3 * WIDTH),)),
    Row("conv2d 1→32, 28×28", functional("conv2d"), ((32, 1, 28, 28), (32, 1, 3, 3), (32,))),
    Row("conv2d 32→64, 26×26", functional("conv2d"), ((32, 32, 26, 26), (64, 32, 3, 3), (64,))),
    Row("conv2d 64→64, 56×56, padding", functional("conv2d", padding=1), ((8, 64, 56, 56), (64, 64, 3, 3), (64,))),
    Row("conv2d depthwise 64, 56×56", functional("conv2d", padding=1, groups=64), ((8, 64, 56, 56), (64, 1, 3, 3), (64,))),
    Row("conv_transpose2d 64→32, stride 2", functional("conv_transpose2d", stride=2), ((16, 64, 14, 14), (64, 32, 2, 2), (32,))),
    Row("max_pool2d 32×64×24×24", functional("max_pool2d", kernel_size=2), ((32, 64, 24, 24),)),
    Row("avg_pool2d 32×64×24×24", functional("avg_pool2d", kernel_size=2), ((32, 64, 24, 24),)),
]

OPTIMIZERS: dict[str, dict[str, Any]] = {
    "SGD": {"lr": 0.1, "momentum": 0.9},
    "Adagrad": {},
    "Adadelta": {},
    "RMSprop": {},
    "Adam": {},
    "AdamW": {},
}


@contextmanager
def references_only() -> Iterator[None]:
    """Inside, every kernel is its reference."""
    kept = {kernel: dict(kernel.overrides) for kernel in REGISTRY.values()}
    for kernel in kept:
        kernel.overrides.clear()
    try:
        yield
    finally:
        for kernel, overrides in kept.items():
            kernel.overrides.update(overrides)


class Operation:
    """A row in one library, with its own leaves."""

    def __init__(self, row: Row, library: Any, arrays: list[Any], labels: list[Any]) -> None:
        self._row, self._library = row, library
        self._leaves = [library.tensor(array) for array in arrays]
        self._rest = [library.tensor(array) for array in labels]
        for leaf in self._leaves:
            leaf.requires_grad_()
        self._seed: Any = None

    def run(self) -> tuple[float, float]:
        """Seconds of forward and of backward."""
        for leaf in self._leaves:
            leaf.grad = None
        start = time.perf_counter()
        result = self._row.call(self._library, *self._leaves, *self._rest)
        middle = time.perf_counter()
        if self._seed is None:
            self._seed = self._library.ones(tuple(result.shape))
        begin = time.perf_counter()
        result.backward(self._seed)
        return middle - start, time.perf_counter() - begin


def update(library: Any, name: str, size: int) -> Callable[[], tuple[float, float]]:
    """An optimizer's step on one parameter of `size` elements."""
    parameter = library.nn.Parameter(library.ones(size))
    parameter.grad = library.ones(size)
    fused = {"fused": True} if library is not dt and name in ("Adam", "AdamW", "SGD", "Adagrad") else {}
    optimizer = getattr(library.optim, name)([parameter], **OPTIMIZERS[name], **fused)

    def run() -> tuple[float, float]:
        start = time.perf_counter()
        optimizer.step()
        return time.perf_counter() - start, 0.0

    return run


def measure(variants: dict[str, Callable[[], tuple[float, float]]], rounds: int) -> dict[str, list[float]]:
    """Median microseconds of forward and backward per variant, run in turn after two rounds to warm up."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in variants}
    for _ in range(rounds + 2):
        for name, run in variants.items():
            if name == "reference":
                with references_only():
                    times[name].append(run())
            else:
                times[name].append(run())
    return {name: [statistics.median(part) * 1e6 for part in zip(*values[2:])] for name, values in times.items()}


def operation_rows(only: list[str], rounds: int, torch: Any) -> Iterator[dict[str, Any]]:
    rng = np.random.default_rng(0)
    for row in ROWS:
        if only and not any(word in row.name for word in only):
            continue
        report.progress(row.name)
        arrays = [rng.standard_normal(shape).astype(np.float32) for shape in row.shapes]
        labels = [rng.integers(0, classes, shape) for shape, classes in row.labels]
        libraries = {"ours": dt, "reference": dt, **({} if torch is None else {"torch": torch})}
        yield result(row.name, measure({k: Operation(row, library, arrays, labels).run for k, library in libraries.items()}, rounds))


def optimizer_rows(only: list[str], rounds: int, torch: Any, size: int = 4_000_000) -> Iterator[dict[str, Any]]:
    for name in OPTIMIZERS:
        label = f"{name}, {size // 1_000_000} M"
        if not only or any(word in label for word in only):
            report.progress(label)
            libraries = {"ours": dt, "reference": dt, **({} if torch is None else {"torch": torch})}
            yield result(label, measure({k: update(library, name, size) for k, library in libraries.items()}, rounds))


def result(name: str, medians: dict[str, list[float]]) -> dict[str, Any]:
    found: dict[str, Any] = {"kernel": name, "microseconds": medians}
    for part, index in (("forward", 0), ("backward", 1)):
        for other in ("reference", "torch"):
            if other in medians and medians["ours"][index]:
                found[f"{part} / {other}"] = medians["ours"][index] / medians[other][index]
    return found


def main() -> None:
    parser = report.parser(__doc__, rounds=15)
    parser.add_argument("--only", nargs="*", default=[], metavar="WORD", help="rows whose name contains one of these")
    args = parser.parse_args()
    torch = report.join_torch()
    rows = [*operation_rows(args.only, args.rounds, torch), *optimizer_rows(args.only, args.rounds, torch)]
    ratios = ["forward / reference", "forward / torch", "backward / reference", "backward / torch"]
    heading = ["kernel", "forward, µs", "backward, µs", *ratios]
    print(report.table([heading, *[[row["kernel"], *row["microseconds"]["ours"], *map(row.get, ratios)] for row in rows]]))
    report.write(args.json, rows)


if __name__ == "__main__":
    main()
