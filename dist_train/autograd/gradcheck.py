"""`gradcheck`: compare the gradients that backward gives with finite differences."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..backend.device import to_device, to_host
from .grad_mode import no_grad
from .tensor import Tensor, grad

HostArray = np.ndarray[Any, Any]


def gradcheck(
    function: Callable[..., Any],
    inputs: Any,
    *,
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    raise_exception: bool = True,
    fast_mode: bool = False,
) -> bool:
    """Whether the gradients of `function(*inputs)` agree with central differences of step `eps` within atol + rtol · |numeric|.

    Every float64 input that requires grad is checked, every element of it against every element of every output; with `fast_mode`
    only along one random direction, which takes two calls per input. A disagreement raises RuntimeError that names the place (or
    gives False without `raise_exception`). ValueError for inputs of another floating-point type: rounding would hide errors there.
    See https://docs.pytorch.org/docs/stable/generated/torch.autograd.gradcheck.gradcheck.html
    """
    inputs = (inputs,) if isinstance(inputs, Tensor) else tuple(inputs)
    checked = _checked_inputs(inputs)
    compare = _compare_direction if fast_mode else _compare_jacobian
    try:
        for index in checked:
            for number in range(len(_outputs(function, inputs))):
                compare(function, inputs, index, number, eps, atol, rtol)
    except GradcheckError:
        if raise_exception:
            raise
        return False
    return True


class GradcheckError(RuntimeError):
    """A gradient that disagrees with finite differences."""


def _checked_inputs(inputs: tuple[Any, ...]) -> list[int]:
    checked = [i for i, value in enumerate(inputs) if isinstance(value, Tensor) and value.requires_grad]
    if not checked:
        raise ValueError("gradcheck needs at least one input that requires grad")
    for i in checked:
        if inputs[i].array.dtype != np.float64:
            raise ValueError(
                f"gradcheck needs float64 inputs: input {i} is {inputs[i].array.dtype}, whose rounding hides errors; use .double()"
            )
    return checked


def _outputs(function: Callable[..., Any], inputs: tuple[Any, ...]) -> list[Tensor]:
    """The floating-point outputs."""
    result = function(*inputs)
    results = result if isinstance(result, (tuple, list)) else (result,)
    return [value for value in results if isinstance(value, Tensor) and value.is_floating_point()]


def _values(function: Callable[..., Any], inputs: tuple[Any, ...], index: int, values: HostArray, number: int) -> HostArray:
    """One output as a flat array, with other values for one input."""
    moved = Tensor(to_device(values.reshape(inputs[index].array.shape), inputs[index].device))
    with no_grad():
        result = _outputs(function, (*inputs[:index], moved, *inputs[index + 1 :]))[number]
    return to_host(result.array).reshape(-1).astype(np.float64)


def _analytic(function: Callable[..., Any], inputs: tuple[Any, ...], index: int, number: int, weights: HostArray) -> HostArray:
    """The gradient of the weighted sum of one output."""
    output = _outputs(function, inputs)[number]
    if not output.requires_grad:
        return np.zeros(inputs[index].array.size)
    seed = Tensor(to_device(weights.reshape(output.array.shape).astype(output.array.dtype), output.device))
    (gradient,) = grad(output, [inputs[index]], seed, allow_unused=True)
    return np.zeros(inputs[index].array.size) if gradient is None else to_host(gradient.array).reshape(-1)


def _compare_jacobian(
    function: Callable[..., Any], inputs: tuple[Any, ...], index: int, number: int, eps: float, atol: float, rtol: float
) -> None:
    point = to_host(inputs[index].array).reshape(-1).copy()
    size = _values(function, inputs, index, point, number).size
    analytic = np.zeros((size, point.size))
    for i, row in enumerate(np.eye(size)):
        analytic[i] = _analytic(function, inputs, index, number, row)
    for j in range(point.size):
        numeric = _difference(function, inputs, index, number, point, np.eye(1, point.size, j)[0], eps)
        _compare(index, number, j, analytic[:, j], numeric, atol, rtol)


def _difference(
    function: Callable[..., Any], inputs: tuple[Any, ...], index: int, number: int, point: HostArray, direction: HostArray, eps: float
) -> HostArray:
    """The derivative of one output along a direction of one input, by central differences."""
    above = _values(function, inputs, index, point + eps * direction, number)
    below = _values(function, inputs, index, point - eps * direction, number)
    return (above - below) / (2 * eps)


def _compare(index: int, number: int, element: int, analytic: HostArray, numeric: HostArray, atol: float, rtol: float) -> None:
    wrong = ~(np.abs(analytic - numeric) <= atol + rtol * np.abs(numeric))
    if wrong.any():
        i = int(np.argmax(wrong))
        raise GradcheckError(
            f"gradcheck: input {index}, element {element}, output {number}, element {i}: "
            f"backward gives {analytic[i]:.8g}, finite differences give {numeric[i]:.8g}"
        )


def _compare_direction(
    function: Callable[..., Any], inputs: tuple[Any, ...], index: int, number: int, eps: float, atol: float, rtol: float
) -> None:
    """Project the Jacobian on one random direction on each side."""
    point = to_host(inputs[index].array).reshape(-1).copy()
    generator = np.random.default_rng(0)
    direction = generator.standard_normal(point.size) / max(1.0, point.size**0.5)
    numeric = _difference(function, inputs, index, number, point, direction, eps)
    weights = generator.standard_normal(numeric.size) / max(1.0, numeric.size**0.5)
    analytic = _analytic(function, inputs, index, number, weights) @ direction
    projected = numeric @ weights
    if not abs(analytic - projected) <= atol + rtol * abs(projected):
        raise GradcheckError(
            f"gradcheck: input {index}, output {number}, along a random direction: "
            f"backward gives {analytic:.8g}, finite differences give {projected:.8g}"
        )
