"""Initialisation in place, drawn from the default generator (or from `generator`), with torch's formulas.

https://docs.pytorch.org/docs/stable/nn.init.html
"""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from ..autograd import Tensor
from ..autograd.tensor import writable
from ..backend.device import to_device
from ..random import Generator, default_generator

F = TypeVar("F", bound=Callable[..., Tensor])


def _in_place(function: F) -> F:
    """Draw and write as one edit: of a parameter under `dist_train.distribute` every rank then draws the same."""

    @functools.wraps(function)
    def wrapper(tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        with writable(tensor):
            return function(tensor, *args, **kwargs)

    return wrapper  # type: ignore[return-value]


def _write(tensor: Tensor, values: Any) -> Tensor:
    tensor._write(to_device(np.asarray(values).astype(tensor.dtype, copy=False), tensor.device))
    return tensor


def _source(generator: Generator | None) -> np.random.Generator:
    return (generator or default_generator).numpy()


def _precision(tensor: Tensor) -> Any:
    return np.float64 if tensor.dtype == np.float64 else np.float32


@_in_place
def uniform_(tensor: Tensor, a: float = 0.0, b: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Uniform between a and b."""
    values = _source(generator).random(tensor.shape, dtype=_precision(tensor))
    values *= b - a
    values += a
    return _write(tensor, values)


@_in_place
def normal_(tensor: Tensor, mean: float = 0.0, std: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Normal with `mean` and `std`."""
    values = _source(generator).standard_normal(tensor.shape, dtype=_precision(tensor))
    values *= std
    values += mean
    return _write(tensor, values)


@_in_place
def trunc_normal_(
    tensor: Tensor,
    mean: float = 0.0,
    std: float = 1.0,
    a: float = -2.0,
    b: float = 2.0,
    generator: Generator | None = None,
) -> Tensor:
    """Normal with `mean` and `std`, where values outside [a, b] are drawn again. ValueError unless a < b."""
    if not a < b:
        raise ValueError(f"trunc_normal_ needs a < b, got {a} and {b}")
    values = _truncated(_source(generator), tensor.numel(), (a - mean) / std, (b - mean) / std)
    return _write(tensor, np.clip(values * std + mean, a, b).reshape(tensor.shape))


def _truncated(source: np.random.Generator, count: int, low: float, high: float) -> np.ndarray[Any, Any]:
    """`count` standard normal values between low and high, by rejection."""
    parts: list[Any] = [np.empty(0)]
    missing = count
    while missing:
        parts.append(_accepted(source, max(missing, 64), low, high)[:missing])
        missing -= len(parts[-1])
    return np.concatenate(parts)


def _accepted(source: np.random.Generator, count: int, low: float, high: float) -> np.ndarray[Any, Any]:
    mass = (math.erf(high / math.sqrt(2)) - math.erf(low / math.sqrt(2))) / 2
    if mass > 0.1:
        values = source.standard_normal(count)
        return values[(values >= low) & (values <= high)]
    peak = min(max(0.0, low), high)  # narrow, or far out in a tail: uniform candidates, kept in proportion to the density
    values = source.uniform(max(low, peak - 9), min(high, peak + 9), count)
    return values[np.exp((peak * peak - values * values) / 2) >= source.random(count)]


@_in_place
def constant_(tensor: Tensor, val: float) -> Tensor:
    """Every element `val`."""
    return _write(tensor, np.full(tensor.shape, val))


@_in_place
def ones_(tensor: Tensor) -> Tensor:
    return constant_(tensor, 1.0)


@_in_place
def zeros_(tensor: Tensor) -> Tensor:
    return constant_(tensor, 0.0)


@_in_place
def eye_(tensor: Tensor) -> Tensor:
    """The identity; ValueError unless `tensor` is a matrix."""
    if tensor.ndim != 2:
        raise ValueError(f"eye_ needs 2 dimensions, got shape {tuple(tensor.shape)}")
    return _write(tensor, np.eye(*tensor.shape))


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """The recommended gain for a nonlinearity; `param` is the slope of leaky_relu (0.01)."""
    if nonlinearity == "leaky_relu":
        return math.sqrt(2.0 / (1 + (0.01 if param is None else param) ** 2))
    if nonlinearity not in _GAINS:
        raise ValueError(f"unsupported nonlinearity {nonlinearity!r}: one of {', '.join(_GAINS)}, leaky_relu")
    return _GAINS[nonlinearity]


_LINEAR = ("linear", "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d", "sigmoid")
_GAINS: dict[str, float] = {**dict.fromkeys(_LINEAR, 1.0), "tanh": 5.0 / 3, "relu": math.sqrt(2.0), "selu": 3.0 / 4}


def fans(tensor: Tensor) -> tuple[int, int]:
    """How many inputs feed one output and how many outputs one input feeds; ValueError below 2 dimensions."""
    if tensor.ndim < 2:
        raise ValueError(
            f"fan in and fan out can not be computed for a tensor with fewer than 2 dimensions, got shape {tuple(tensor.shape)}"
        )
    receptive = math.prod(tensor.shape[2:])
    return tensor.shape[1] * receptive, tensor.shape[0] * receptive


@_in_place
def xavier_uniform_(tensor: Tensor, gain: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Uniform with variance gain²·2 / (fan in + fan out) (Glorot and Bengio 2010)."""
    bound = math.sqrt(3.0) * gain * math.sqrt(2.0 / sum(fans(tensor)))
    return uniform_(tensor, -bound, bound, generator)


@_in_place
def xavier_normal_(tensor: Tensor, gain: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Normal with variance gain²·2 / (fan in + fan out)."""
    return normal_(tensor, 0.0, gain * math.sqrt(2.0 / sum(fans(tensor))), generator)


def _kaiming_std(tensor: Tensor, a: float, mode: str, nonlinearity: str) -> float:
    if mode not in ("fan_in", "fan_out"):
        raise ValueError(f"mode must be 'fan_in' or 'fan_out', not {mode!r}")
    fan = fans(tensor)[mode == "fan_out"]
    return calculate_gain(nonlinearity, a) / math.sqrt(fan) if fan else 0.0


@_in_place
def kaiming_uniform_(
    tensor: Tensor,
    a: float = 0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Generator | None = None,
) -> Tensor:
    """Uniform with variance gain² / fan (He et al. 2015); `a` is the slope of leaky_relu."""
    bound = math.sqrt(3.0) * _kaiming_std(tensor, a, mode, nonlinearity)
    return uniform_(tensor, -bound, bound, generator)


@_in_place
def kaiming_normal_(
    tensor: Tensor,
    a: float = 0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Generator | None = None,
) -> Tensor:
    """Normal with variance gain² / fan."""
    return normal_(tensor, 0.0, _kaiming_std(tensor, a, mode, nonlinearity), generator)


@_in_place
def orthogonal_(tensor: Tensor, gain: float = 1, generator: Generator | None = None) -> Tensor:
    """A (semi-)orthogonal matrix (Saxe et al. 2013), of the first length by all others; ValueError below 2 dimensions."""
    if tensor.ndim < 2:
        raise ValueError(f"orthogonal_ needs at least 2 dimensions, got shape {tuple(tensor.shape)}")
    if not tensor.numel():
        return tensor
    rows, columns = tensor.shape[0], tensor.numel() // tensor.shape[0]
    tall = _source(generator).standard_normal((max(rows, columns), min(rows, columns)))
    q, r = np.linalg.qr(tall)
    q *= np.where(np.diag(r) < 0, -1, 1)  # makes the distribution uniform
    return _write(tensor, (gain * (q if rows >= columns else q.T)).reshape(tensor.shape))


def linear_(weight: Tensor, bias: Tensor | None) -> None:
    """How torch initialises Linear and convolutions: both uniform within ±1/√fan in."""
    kaiming_uniform_(weight, a=math.sqrt(5))
    if bias is not None:
        fan_in, _ = fans(weight)
        bound = 1 / math.sqrt(fan_in) if fan_in else 0.0
        uniform_(bias, -bound, bound)


def _deprecated(name: str) -> Callable[..., Tensor]:
    def initialise(*args: Any, **kwargs: Any) -> Tensor:
        warnings.warn(f"nn.init.{name} is deprecated in favor of nn.init.{name}_", FutureWarning, stacklevel=2)
        return globals()[f"{name}_"](*args, **kwargs)  # type: ignore[no-any-return]

    return initialise


constant = _deprecated("constant")
eye = _deprecated("eye")
kaiming_normal = _deprecated("kaiming_normal")
kaiming_uniform = _deprecated("kaiming_uniform")
normal = _deprecated("normal")
orthogonal = _deprecated("orthogonal")
uniform = _deprecated("uniform")
xavier_normal = _deprecated("xavier_normal")
xavier_uniform = _deprecated("xavier_uniform")
