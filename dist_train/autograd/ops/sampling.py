"""Random tensors: rand, randn, randint, randperm, normal, bernoulli, multinomial, and filling in place with random numbers.

Numbers are drawn on the host, from the default generator or the one passed, so that they do not depend on the device.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ...backend.device import device_of, to_device, to_host
from ...random import Generator, default_generator
from ..tensor import Tensor, method
from .creation import device_from, finished, float_type
from .elementwise import add, mul
from .promotion import INT64
from .shape import sizes


def _source(generator: Generator | None) -> np.random.Generator:
    return (generator or default_generator).numpy()


def draw_uniform(shape: tuple[int, ...], dtype: Any, generator: Generator | None = None) -> np.ndarray[Any, Any]:
    """Uniform numbers in [0, 1) as a NumPy array; float16 is drawn as float32."""
    exact = dtype if np.dtype(dtype).itemsize >= 4 else np.float32
    return _source(generator).random(shape, exact).astype(dtype, copy=False)


def draw_normal(shape: tuple[int, ...], dtype: Any, generator: Generator | None = None) -> np.ndarray[Any, Any]:
    """Standard normal numbers as a NumPy array; float16 is drawn as float32."""
    exact = dtype if np.dtype(dtype).itemsize >= 4 else np.float32
    return _source(generator).standard_normal(shape, exact).astype(dtype, copy=False)


def rand(*size: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False, generator: Generator | None = None) -> Tensor:
    """Uniform numbers in [0, 1)."""
    values = draw_uniform(sizes(size), float_type(dtype), generator)
    return finished(to_device(values, device_from(device)), requires_grad)


def randn(*size: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False, generator: Generator | None = None) -> Tensor:
    """Standard normal numbers."""
    values = draw_normal(sizes(size), float_type(dtype), generator)
    return finished(to_device(values, device_from(device)), requires_grad)


def randint(
    low: int,
    high: Any = None,
    size: Any = None,
    *,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    generator: Generator | None = None,
) -> Tensor:
    """Integers from `low` (0 if one number is given) up to `high` - 1: `randint(10, (2, 3))`, `randint(5, 10, (2, 3))`."""
    if size is None:
        low, high, size = 0, low, high
    if size is None or low >= high:
        raise RuntimeError(f"randint needs a size and low < high, not low {low}, high {high}, size {size}")
    values = _source(generator).integers(low, high, sizes((size,))).astype(INT64 if dtype is None else np.dtype(dtype))
    return finished(to_device(values, device_from(device)), requires_grad)


def randperm(n: int, *, dtype: Any = None, device: Any = None, generator: Generator | None = None) -> Tensor:
    """The numbers from 0 to n - 1 in random order."""
    values = _source(generator).permutation(n).astype(INT64 if dtype is None else np.dtype(dtype))
    return Tensor(to_device(values, device_from(device)))


def rand_like(input: Tensor, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """Uniform numbers in [0, 1) in the shape, type and device of `input`."""
    place = device_of(input.array) if device is None else device
    return rand(input.array.shape, dtype=dtype or input.array.dtype, device=place, requires_grad=requires_grad)


def randn_like(input: Tensor, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """Standard normal numbers in the shape, type and device of `input`."""
    place = device_of(input.array) if device is None else device
    return randn(input.array.shape, dtype=dtype or input.array.dtype, device=place, requires_grad=requires_grad)


def randint_like(input: Tensor, low: int, high: int | None = None, *, dtype: Any = None) -> Tensor:
    """Integers from `low` up to `high` - 1 in the shape, type and device of `input`."""
    low, high = (0, low) if high is None else (low, high)
    return randint(low, high, input.array.shape, dtype=dtype or input.array.dtype, device=device_of(input.array))


def normal(mean: Any, std: Any = 1.0, size: Any = None, *, generator: Generator | None = None) -> Tensor:
    """Normal numbers of the given means and standard deviations: tensors, or numbers and a size."""
    if size is not None:
        return add(mul(randn(size, generator=generator), std), mean)
    like = mean if isinstance(mean, Tensor) else std
    if not isinstance(like, Tensor):
        raise TypeError("normal(mean, std) of two numbers needs a size")
    shape = np.broadcast_shapes(*[value.array.shape for value in (mean, std) if isinstance(value, Tensor)])
    return add(mul(randn(shape, dtype=like.array.dtype, device=like.device, generator=generator), std), mean)


@method
def bernoulli(input: Tensor, p: float | None = None, *, generator: Generator | None = None) -> Tensor:
    """1 with the probability that each element gives (or with `p` everywhere), else 0."""
    x = input.array
    chances = to_host(x) if p is None else p
    if not np.all((np.asarray(chances) >= 0) & (np.asarray(chances) <= 1)):
        raise RuntimeError("bernoulli needs probabilities between 0 and 1")
    return Tensor(to_device((draw_uniform(x.shape, np.float64, generator) < chances).astype(x.dtype), device_of(x)))


@method
def multinomial(input: Tensor, num_samples: int, replacement: bool = False, *, generator: Generator | None = None) -> Tensor:
    """Column numbers drawn with the (unnormalised) weights of each row of `input` (n,) or (rows, n), as int64."""
    weights = to_host(input.array).astype(np.float64)
    _check_weights(weights, num_samples, replacement)
    rows = weights.reshape(-1, weights.shape[-1])
    chosen = _with_replacement(rows, num_samples, generator) if replacement else _without_replacement(rows, num_samples, generator)
    return Tensor(to_device(chosen.reshape(*weights.shape[:-1], num_samples), device_of(input.array)))


def _check_weights(weights: np.ndarray[Any, Any], num_samples: int, replacement: bool) -> None:
    if weights.ndim not in (1, 2) or num_samples < 1:
        raise RuntimeError(f"multinomial takes 1 or 2 dimensions and at least 1 sample, not {weights.ndim} and {num_samples}")
    if not np.isfinite(weights).all() or (weights < 0).any():
        raise RuntimeError("multinomial needs finite weights of at least 0")
    least = int((weights > 0).sum(axis=-1).min(initial=weights.shape[-1]))
    if least < (1 if replacement else num_samples):
        raise RuntimeError(f"multinomial: {num_samples} sample(s) from a row with {least} positive weight(s), replacement={replacement}")


def _with_replacement(rows: np.ndarray[Any, Any], count: int, generator: Generator | None) -> np.ndarray[Any, Any]:
    """By inverting the cumulated weights."""
    totals = rows.cumsum(axis=1)
    points = draw_uniform((len(rows), count), np.float64, generator) * totals[:, -1:]
    chosen = [np.searchsorted(total, point, side="right") for total, point in zip(totals, points)]
    last = [int(np.flatnonzero(row)[-1]) for row in rows]
    return np.minimum(np.array(chosen, np.int64).reshape(len(rows), count), np.array(last, np.int64)[:, None])


def _without_replacement(rows: np.ndarray[Any, Any], count: int, generator: Generator | None) -> np.ndarray[Any, Any]:
    """The first to arrive, where arrival times are exponential with the weights as rates."""
    times = _source(generator).standard_exponential(rows.shape)
    arrival = np.divide(times, rows, out=np.full(rows.shape, np.inf), where=rows > 0)
    return np.argsort(arrival, axis=1, kind="stable")[:, :count].astype(np.int64)


def _filled(input: Tensor, values: np.ndarray[Any, Any]) -> Tensor:
    return input._assign(Tensor(to_device(values.astype(input.array.dtype, copy=False), device_of(input.array))))


@method
def uniform_(input: Tensor, a: float = 0.0, b: float = 1.0, *, generator: Generator | None = None) -> Tensor:
    """Fill with uniform numbers in [a, b)."""
    values = draw_uniform(input.array.shape, input.array.dtype, generator)
    return _filled(input, values * (b - a) + a if (a, b) != (0.0, 1.0) else values)


@method
def normal_(input: Tensor, mean: float = 0.0, std: float = 1.0, *, generator: Generator | None = None) -> Tensor:
    """Fill with normal numbers."""
    return _filled(input, draw_normal(input.array.shape, input.array.dtype, generator) * std + mean)


@method
def exponential_(input: Tensor, lambd: float = 1.0, *, generator: Generator | None = None) -> Tensor:
    """Fill with exponential numbers of rate `lambd`."""
    return _filled(input, _source(generator).standard_exponential(input.array.shape) / lambd)


@method
def bernoulli_(input: Tensor, p: Any = 0.5, *, generator: Generator | None = None) -> Tensor:
    """Fill with 1 with probability `p` (a number or a tensor), else 0."""
    chances = to_host(p.array) if isinstance(p, Tensor) else p
    return _filled(input, draw_uniform(input.array.shape, np.float64, generator) < chances)


@method
def random_(input: Tensor, low: int = 0, high: int | None = None, *, generator: Generator | None = None) -> Tensor:
    """Fill with integers from `low` up to `high` - 1; `random_(n)` means up to n - 1."""
    if high is None:
        low, high = (0, low) if low else (0, 2**53 if input.array.dtype.itemsize == 8 else 2**24)
    return _filled(input, _source(generator).integers(low, high, input.array.shape))
