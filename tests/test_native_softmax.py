"""The compiled softmax, log-softmax and cross-entropy agree with their references."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from native_cases import SITUATIONS, Case, check_case, needs_native

from dist_train.backend.reference import loss, softmax

pytestmark = needs_native

SHAPES: list[tuple[int, ...]] = [(0, 5), (3, 0), (1, 1), (5, 1), (64, 10), (3, 2, 15), (7, 16), (5, 17), (300, 33), (2, 2049), (3, 5003)]


def over_rows(shape: tuple[int, ...]) -> list[Case]:
    def scores(rng: Any, dtype: Any, count: int = 1) -> Any:
        return [(rng.standard_normal(shape) * 4).astype(dtype) for _ in range(count)]

    def forward(rng: Any, dtype: Any) -> Any:
        return [*scores(rng, dtype), len(shape) - 1], {}

    def backward(rng: Any, dtype: Any) -> Any:
        gradient, x = scores(rng, dtype, 2)
        return [gradient, softmax.softmax(x, -1), -1], {}

    def log_backward(rng: Any, dtype: Any) -> Any:
        gradient, x = scores(rng, dtype, 2)
        return [gradient, softmax.log_softmax(x, -1), -1], {}

    name = "x".join(map(str, shape))
    pairs = ((softmax.softmax, forward), (softmax.log_softmax, forward))
    pairs += ((softmax.softmax_backward, backward), (softmax.log_softmax_backward, log_backward))
    return [
        # a log-probability is never above 0
        Case(name, kernel, make, rtol=32, ignore_special=(1,) if kernel is softmax.log_softmax_backward else ())
        for kernel, make in pairs
        if 0 not in shape or kernel.name.endswith("backward")
    ]


def losses(shape: tuple[int, int]) -> list[Case]:
    rows, classes = shape
    found = []
    for reduction in ("mean", "sum", "none"):

        def forward(rng: Any, dtype: Any, reduction: str = reduction) -> Any:
            x = (rng.standard_normal(shape) * 4).astype(dtype)
            return [x, rng.integers(0, max(classes, 1), rows), None, -100, reduction], {}

        def backward(rng: Any, dtype: Any, reduction: str = reduction) -> Any:
            (x, labels, *rest), _ = forward(rng, dtype, reduction)
            _, probabilities, _, share = loss.cross_entropy(x, labels, *rest)
            gradient = rng.standard_normal(rows if reduction == "none" else ()).astype(dtype) if reduction == "none" else np.ones((), dtype)
            return [probabilities, gradient, labels, share], {}

        name = f"{rows}x{classes}-{reduction}"
        found += [Case(name, loss.cross_entropy, forward, rtol=32), Case(name, loss.cross_entropy_backward, backward)]
    return found


@pytest.mark.parametrize("situation", SITUATIONS)
@pytest.mark.parametrize("case", [*over_rows((9, 37)), *over_rows((9, 11)), *losses((9, 37)), *losses((9, 11))], ids=str)
def test_agrees(case: Case, situation: str) -> None:
    check_case(case, situation)


@pytest.mark.parametrize("case", [case for shape in SHAPES for case in over_rows(shape)], ids=str)
def test_shapes(case: Case) -> None:
    check_case(case, "plain")


@pytest.mark.parametrize("case", [case for shape in [(1, 1), (64, 10), (300, 33), (3, 5003)] for case in losses(shape)], ids=str)
def test_loss_shapes(case: Case) -> None:
    check_case(case, "plain")


@pytest.mark.parametrize("case", [*over_rows((9000, 10)), *over_rows((40, 5000)), *losses((9000, 10))], ids=str)
def test_threads(case: Case) -> None:
    check_case(case, "threads")


@pytest.mark.parametrize("width", [4, 40])
def test_rows_of_infinities(width: int) -> None:
    """Nothing but −inf gives nan, beside −inf gives an exact 0, a single +inf and a nan spoil their row alone."""
    x = np.zeros((4, width), np.float32)
    x[0], x[1, 1:], x[2, 1], x[3, 2] = -np.inf, -np.inf, np.inf, np.nan
    y = softmax.softmax(x, 1)
    assert np.isnan(y[[0, 2, 3]]).all()
    assert y[1].tolist() == [1.0] + [0.0] * (width - 1)


def test_declines() -> None:
    """What is not supported, or wrong, is left to the reference."""
    x, labels = np.zeros((3, 5), np.float32), np.array([0, 4, 2])
    declined = [
        softmax.softmax.overrides["numpy"](x, 0),
        softmax.softmax.overrides["numpy"](x, 7),
        softmax.softmax.overrides["numpy"](np.zeros((), np.float32), -1),
        softmax.softmax.overrides["numpy"](x.astype(np.float16), 1),
        softmax.softmax_backward.overrides["numpy"](x[:2], x, 1),
        softmax.log_softmax_backward.overrides["numpy"](x.astype(np.float64), x, 1),
    ]
    forward, backward = loss.cross_entropy.overrides["numpy"], loss.cross_entropy_backward.overrides["numpy"]
    for wrong in ([0, 5, 2], [0, -1, 2], [0, -100, 2], [0, 1]):
        declined.append(forward(x, np.array(wrong), None, -100, "mean"))
        declined.append(backward(x, np.ones((), np.float32), np.array(wrong), 1.0))
    declined.append(forward(x, labels, None, 4, "mean"))
    declined.append(forward(x, labels, np.ones(5, np.float32), -100, "mean"))
    declined.append(forward(x, labels.astype(np.int32), None, -100, "mean"))
    declined.append(forward(x[:, None], labels, None, -100, "mean"))
    declined.append(backward(x, np.ones(2, np.float32), labels, 1.0))
    declined.append(backward(x, np.ones((), np.float32), labels, np.ones(3, np.float32)))
    assert all(result is NotImplemented for result in declined)


def test_no_rows() -> None:
    """The mean over nothing is nan; there is nothing to differentiate."""
    x, labels = np.zeros((0, 5), np.float32), np.zeros(0, np.int64)
    value, probabilities, _, share = loss.cross_entropy(x, labels, None, -100, "mean")
    assert np.isnan(value) and probabilities.shape == (0, 5) and np.isnan(share)
    assert loss.cross_entropy_backward(probabilities, np.ones((), np.float32), labels, share).shape == (0, 5)
