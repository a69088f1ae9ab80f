"""The workloads in JAX, for compare.py: one process on the core of its parent, jit of the whole step, buffers donated, Adam written out.

    python benchmarks/jax_worker.py WORKLOAD FILE.npz

The file holds PyTorch's initial weights under their names and the batches. Each line of standard input is a command, answered by one line
of JSON: `losses N` runs N steps and returns their losses, `rate X` sets the learning rate, `seconds N` returns a step's mean time over N.
"""

from __future__ import annotations

import json
import os
import sys
import time
from functools import partial
from typing import Any

os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
os.environ["JAX_PLATFORMS"] = "cpu"

import jax  # type: ignore[import-not-found]
import jax.numpy as jnp  # type: ignore[import-not-found]
import numpy as np

Array = Any


def linear(weights: dict[str, Array], name: str, x: Array) -> Array:
    return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def mlp(weights: dict[str, Array], x: Array) -> Array:
    names = sorted({name.partition(".")[0] for name in weights}, key=int)
    for name in names[:-1]:
        x = jax.nn.relu(linear(weights, name, x))
    return linear(weights, names[-1], x)


def convolution(weights: dict[str, Array], name: str, x: Array) -> Array:
    y = jax.lax.conv_general_dilated(x, weights[f"{name}.weight"], (1, 1), "VALID", dimension_numbers=("NCHW", "OIHW", "NCHW"))
    return y + weights[f"{name}.bias"][:, None, None]


def cnn(weights: dict[str, Array], x: Array) -> Array:
    x = jax.nn.relu(convolution(weights, "0", x))
    x = jax.nn.relu(convolution(weights, "2", x))
    x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 1, 2, 2), (1, 1, 2, 2), "VALID")
    x = jax.nn.relu(linear(weights, "6", x.reshape(len(x), -1)))
    return linear(weights, "8", x)


def norm(weights: dict[str, Array], name: str, x: Array) -> Array:
    mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return (x - mean) * jax.lax.rsqrt(variance + 1e-5) * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def attention(weights: dict[str, Array], name: str, x: Array, heads: int = 8) -> Array:
    rows, length, width = x.shape
    q, k, v = (part.reshape(rows, length, heads, width // heads) for part in jnp.split(linear(weights, f"{name}.qkv", x), 3, axis=-1))
    return linear(weights, f"{name}.out", jax.nn.dot_product_attention(q, k, v, is_causal=True).reshape(x.shape))


def gpt(weights: dict[str, Array], x: Array) -> Array:
    x = weights["bytes.weight"][x] + weights["positions.weight"][jnp.arange(x.shape[1])]
    for i in range(len({name.split(".")[1] for name in weights if name.startswith("blocks.")})):
        x = x + attention(weights, f"blocks.{i}.attention", norm(weights, f"blocks.{i}.norm1", x))
        hidden = jax.nn.gelu(linear(weights, f"blocks.{i}.mlp.0", norm(weights, f"blocks.{i}.norm2", x)), approximate=True)
        x = x + linear(weights, f"blocks.{i}.mlp.2", hidden)
    return linear(weights, "head", norm(weights, "norm", x))


MODELS = {"mlp_seed": mlp, "mlp_wide": mlp, "mlp_20m": mlp, "cnn_mnist": cnn, "gpt_3m": gpt}


def cross_entropy(model: Any, weights: dict[str, Array], inputs: Array, labels: Array) -> Array:
    log_p = jax.nn.log_softmax(model(weights, inputs), -1)
    return -jnp.take_along_axis(log_p, labels[..., None], -1).mean()


@partial(jax.jit, static_argnums=0, donate_argnums=(1, 2))
def train(model: Any, weights: Any, state: Any, rate: Array, inputs: Array, labels: Array) -> Any:
    """One step of Adam with PyTorch's defaults: new weights, new state, loss."""
    loss, gradients = jax.value_and_grad(partial(cross_entropy, model))(weights, inputs, labels)
    step, first, second = state
    step = step + 1
    first = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, first, gradients)
    second = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, second, gradients)
    scale, root = rate / (1 - 0.9**step), jnp.sqrt(1 - 0.999**step)
    weights = jax.tree.map(lambda w, m, v: w - scale * m / (jnp.sqrt(v) / root + 1e-8), weights, first, second)
    return weights, (step, first, second), loss


class Trainer:
    def __init__(self, model: Any, arrays: dict[str, Array]) -> None:
        self.model, self.steps = model, 0
        self.batches = list(zip(jnp.asarray(arrays.pop("/inputs")), jnp.asarray(arrays.pop("/labels"))))
        self.weights = {name: jnp.array(value) for name, value in arrays.items()}
        zeros = jax.tree.map(jnp.zeros_like, self.weights)
        self.state = (jnp.float32(0), zeros, jax.tree.map(jnp.copy, zeros))
        self.set_rate(1e-3)

    def set_rate(self, rate: float) -> None:
        self.rate = jnp.float32(rate)

    def step(self) -> Array:
        inputs, labels = self.batches[self.steps % len(self.batches)]
        self.steps += 1
        self.weights, self.state, loss = train(self.model, self.weights, self.state, self.rate, inputs, labels)
        return loss

    def losses(self, count: int) -> list[float]:
        return [float(self.step()) for _ in range(count)]

    def seconds(self, count: int) -> float:
        start = time.perf_counter()
        for _ in range(count):
            self.step()
        jax.block_until_ready(self.weights)
        return (time.perf_counter() - start) / count


def answer(trainer: Trainer, command: str, number: str) -> Any:
    if command == "rate":
        trainer.set_rate(float(number))
        return None
    return trainer.losses(int(number)) if command == "losses" else trainer.seconds(int(number))


def main() -> None:
    name, path = sys.argv[1:]
    with np.load(path) as arrays:
        trainer = Trainer(MODELS[name], dict(arrays))
    print(json.dumps(jax.__version__), flush=True)
    for line in sys.stdin:
        command, number = line.split()
        print(json.dumps(answer(trainer, command, number)), flush=True)


if __name__ == "__main__":
    main()
