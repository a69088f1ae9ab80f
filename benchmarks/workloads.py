"""The workloads of the benchmarks. A model is written once and built with the `nn` of either library: `build(torch)`, `build(dist_train)`.

Each comes with the matrix products of one training step, for the floor below which no implementation on these products can go, and in its
smallest size, where the same operations run on arrays of a few elements: what is left of a step then is Python and dispatch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Product:
    """`count` products (m, k) · (k, n) a step, of which `part` is needed; `kind` says which operand lies transposed in memory."""

    m: int
    n: int
    k: int
    kind: str  # "nt": y = x·Wᵀ, "nn": the input's gradient, "tn": the weight's
    count: int = 1
    part: float = 1.0

    @property
    def flops(self) -> float:
        return 2.0 * self.m * self.n * self.k * self.count * self.part


@dataclass(frozen=True)
class Workload:
    """A model, the shape and classes of its batch on one rank, and the products of its step."""

    build: Callable[[Any], Any]  # library → Module
    inputs: tuple[int, ...]  # one batch
    num_labels: int
    classes: int
    products: Sequence[Product]
    tokens: bool = False  # whether the inputs are class numbers too

    def batch(self, rng: np.random.Generator) -> tuple[Array, Array]:
        """Random inputs and labels. A language model's have one row per sequence."""
        rows = self.inputs if self.tokens else (self.num_labels,)
        labels = rng.integers(0, self.classes, rows)
        if self.tokens:
            return rng.integers(0, self.classes, self.inputs), labels
        return rng.standard_normal(self.inputs).astype(np.float32), labels


# multilayer perceptrons


def mlp(*sizes: int, batch: int) -> Workload:
    products = [product for i, (a, b) in enumerate(pairwise(sizes)) for product in _linear(batch, a, b, first=i == 0)]
    return Workload(partial(_mlp, sizes=sizes), (batch, sizes[0]), batch, sizes[-1], products)


def _mlp(library: Any, sizes: Sequence[int]) -> Any:
    nn = library.nn
    layers = [layer for a, b in pairwise(sizes) for layer in (nn.Linear(a, b), nn.ReLU())]
    return nn.Sequential(*layers[:-1])


def _linear(rows: int, inputs: int, outputs: int, *, first: bool = False, count: int = 1) -> list[Product]:
    """Forward, the weight's gradient, and the input's where there is a layer before."""
    forward, weight = Product(rows, outputs, inputs, "nt", count), Product(outputs, inputs, rows, "tn", count)
    return [forward, weight] if first else [forward, weight, Product(rows, inputs, outputs, "nn", count)]


# convolutions


def cnn(image: int, channels: tuple[int, int], hidden: int, classes: int, batch: int) -> Workload:
    """Two 3×3 convolutions, each with ReLU, then max-pooling by 2 and two linear layers."""
    first, second = channels
    features = second * ((image - 4) // 2) ** 2
    products = [
        *_linear(batch * (image - 2) ** 2, 9, first, first=True),
        *_linear(batch * (image - 4) ** 2, 9 * first, second),
        *_linear(batch, features, hidden),
        *_linear(batch, hidden, classes),
    ]
    build = partial(_cnn, channels=channels, features=features, hidden=hidden, classes=classes)
    return Workload(build, (batch, 1, image, image), batch, classes, products)


def _cnn(library: Any, channels: tuple[int, int], features: int, hidden: int, classes: int) -> Any:
    nn = library.nn
    return nn.Sequential(
        nn.Conv2d(1, channels[0], 3),
        nn.ReLU(),
        nn.Conv2d(*channels, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(features, hidden),
        nn.ReLU(),
        nn.Linear(hidden, classes),
    )


# language models


def gpt(layers: int, width: int, heads: int, context: int, vocabulary: int, batch: int) -> Workload:
    """A transformer over bytes: pre-norm, GELU, learned positions, untied head."""
    rows, size = batch * context, width // heads
    products = [
        *_linear(rows, width, 3 * width, count=layers),
        *_linear(rows, width, width, count=layers),
        *_linear(rows, width, 4 * width, count=layers),
        *_linear(rows, 4 * width, width, count=layers),
        *_linear(rows, width, vocabulary),
        # causal attention, half of each product: scores and the gradients of P; outputs and the gradients of Q; those of K and V
        Product(context, context, size, "nt", 2 * layers * batch * heads, 0.5),
        Product(context, size, context, "nn", 2 * layers * batch * heads, 0.5),
        Product(context, size, context, "tn", 2 * layers * batch * heads, 0.5),
    ]
    build = partial(_gpt, layers=layers, width=width, heads=heads, context=context, vocabulary=vocabulary)
    return Workload(build, (batch, context), rows, vocabulary, products, tokens=True)


def _gpt(library: Any, layers: int, width: int, heads: int, context: int, vocabulary: int) -> Any:
    nn, F = library.nn, library.nn.functional

    class Attention(nn.Module):  # type: ignore[name-defined,misc]
        def __init__(self) -> None:
            super().__init__()
            self.qkv = nn.Linear(width, 3 * width)
            self.out = nn.Linear(width, width)

        def forward(self, x: Any) -> Any:
            rows, length, _ = x.shape
            q, k, v = (part.view(rows, length, heads, width // heads).transpose(1, 2) for part in self.qkv(x).split(width, 2))
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            return self.out(y.transpose(1, 2).reshape(rows, length, width))

    class Block(nn.Module):  # type: ignore[name-defined,misc]
        def __init__(self) -> None:
            super().__init__()
            self.norm1, self.attention = nn.LayerNorm(width), Attention()
            self.norm2 = nn.LayerNorm(width)
            self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(approximate="tanh"), nn.Linear(4 * width, width))

        def forward(self, x: Any) -> Any:
            x = x + self.attention(self.norm1(x))
            return x + self.mlp(self.norm2(x))

    class GPT(nn.Module):  # type: ignore[name-defined,misc]
        def __init__(self) -> None:
            super().__init__()
            self.bytes, self.positions = nn.Embedding(vocabulary, width), nn.Embedding(context, width)
            self.blocks = nn.Sequential(*(Block() for _ in range(layers)))
            self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, vocabulary)

        def forward(self, x: Any) -> Any:
            x = self.bytes(x) + self.positions(library.arange(x.shape[1]))
            return self.head(self.norm(self.blocks(x)))

    return GPT()


WORKLOADS: dict[str, Workload] = {
    "mlp_seed": mlp(784, 28, 10, batch=64),
    "mlp_wide": mlp(784, 1024, 1024, 10, batch=64),
    "mlp_20m": mlp(784, 4096, 4096, 10, batch=32),
    "cnn_mnist": cnn(28, (32, 64), 128, 10, batch=32),
    "gpt_3m": gpt(layers=4, width=256, heads=8, context=128, vocabulary=256, batch=8),
}
SMALLEST: dict[str, Workload] = {
    "mlp_seed": mlp(2, 2, 2, batch=1),
    "mlp_wide": mlp(2, 2, 2, 2, batch=1),
    "mlp_20m": mlp(2, 2, 2, 2, batch=1),
    "cnn_mnist": cnn(6, (2, 2), 2, 2, batch=1),
    "gpt_3m": gpt(layers=4, width=8, heads=8, context=1, vocabulary=2, batch=1),
}


def num_parameters(model: Any) -> int:
    return sum(math.prod(parameter.shape) for parameter in model.parameters())


def loss_of(library: Any, tokens: bool) -> Callable[[Any, Any], Any]:
    """Cross-entropy of logits (rows…, classes) and labels (rows…)."""
    criterion = library.nn.CrossEntropyLoss()
    return (lambda logits, labels: criterion(logits.flatten(0, 1), labels.flatten())) if tokens else criterion
