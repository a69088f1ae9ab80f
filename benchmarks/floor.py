"""The least time of a training step: its matrix products at the speed measured at their own shapes, and the bytes that the optimizer
and the reduction must move at the bandwidth measured with as many bytes. All ranks measure at once, for they share the memory.

What lies between (activations, normalisation, loss) is not counted: an implementation could do it inside the products.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import report
from workloads import Product

import dist_train as dt
from dist_train.backend.reference.product import product as our_product

STATE_BYTES = 24  # a parameter and Adam's two vectors, each read and written, by the rank that owns them
GRADIENT_BYTES = 4  # every gradient is read once by the owner of its slice


def floor(products: Sequence[Product], parameters: int, torch: Any) -> dict[str, float]:
    """Milliseconds: the products by NumPy, by ours and by PyTorch, and the best of them product by product; the bytes; the sum."""
    libraries = {"numpy": _numpy_product, "ours": _our_product, **({"torch": _torch_product} if torch else {})}
    times = np.array(
        [[product.count * product.part * _least_seconds(make(product)) for make in libraries.values()] for product in products]
    )
    moved = _bytes_per_rank(parameters) / bandwidth(4 * parameters)
    result = {f"products_{name}": float(column.sum()) for name, column in zip(libraries, times.T)}
    result |= {"products": float(times.min(axis=1).sum()), "bytes": moved}
    result = dict(zip(result, _slowest_rank(list(result.values()))))
    return {name: value * 1e3 for name, value in {**result, "floor": result["products"] + result["bytes"]}.items()}


def _bytes_per_rank(parameters: int) -> float:
    """Each rank reads its slice of every rank's gradient and updates its slice of parameters and state."""
    return parameters * (GRADIENT_BYTES + STATE_BYTES / report.world_size())


def bandwidth(nbytes: int) -> float:
    """Bytes read and written a second by a copy of that many."""
    source, target = np.ones(max(1, nbytes // 4), np.float32), np.zeros(max(1, nbytes // 4), np.float32)
    return 2 * nbytes / _least_seconds(lambda: np.copyto(target, source))


def gigaflops(products: Sequence[Product], milliseconds: float) -> float:
    return sum(product.flops for product in products) / milliseconds / 1e6


def _numpy_product(product: Product) -> report.Step:
    a, b, out = _operands(product)
    return lambda: np.matmul(a, b, out=out)


def _our_product(product: Product) -> report.Step:
    a, b, out = _operands(product)
    return lambda: our_product(a, b, out)


def _torch_product(product: Product) -> report.Step:
    import torch

    a, b, out = (torch.from_numpy(array) for array in _operands(product))
    return lambda: torch.matmul(a, b, out=out)


def _operands(product: Product) -> tuple[Any, Any, Any]:
    m, n, k = product.m, product.n, product.k
    rng = np.random.default_rng(0)
    a = rng.standard_normal((k, m) if product.kind == "tn" else (m, k)).astype(np.float32)
    b = rng.standard_normal((n, k) if product.kind == "nt" else (k, n)).astype(np.float32)
    return a.T if product.kind == "tn" else a, b.T if product.kind == "nt" else b, np.empty((m, n), np.float32)


def _least_seconds(step: report.Step) -> float:
    repeats = report.repeats_for(step, 0.01)
    return min(report.seconds(step, repeats) for _ in range(7))


def _slowest_rank(values: list[float]) -> list[float]:
    array = np.array(values)
    dt.comm.world().all_reduce(array, "max")
    return list(array.tolist())
