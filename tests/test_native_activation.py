"""The compiled activation functions, their gradients and that of a bias agree with their references."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from native_cases import SITUATIONS, Case, check_case, needs_native

from dist_train.backend.kernels import Kernel
from dist_train.backend.reference import activation as of
from dist_train.backend.reference import special

pytestmark = needs_native

SHAPES: list[tuple[int, ...]] = [(), (0,), (1,), (7,), (16,), (64, 28), (3, 0, 5), (5, 211, 3), (70_001,)]
EXACT = [of.relu, of.relu_backward, of.clip, of.clip_backward, of.leaky_relu, of.leaky_relu_backward, of.sigmoid_backward, of.tanh_backward]
PARAMETERS: dict[Kernel, dict[str, float]] = {
    of.clip: {"low": -0.5, "high": 0.7},
    of.leaky_relu: {"slope": 0.01},
    of.elu: {"alpha": 1.3},
    of.softplus: {"beta": 2.0, "threshold": 20.0},
}
PAIRS = [
    (of.relu, of.relu_backward), (of.clip, of.clip_backward), (of.leaky_relu, of.leaky_relu_backward), (of.elu, of.elu_backward),
    (of.softplus, of.softplus_backward), (of.hardswish, of.hardswish_backward), (of.silu, of.silu_backward), (of.gelu, of.gelu_backward),
    (of.gelu_tanh, of.gelu_tanh_backward), (of.sigmoid, of.sigmoid_backward), (of.tanh, of.tanh_backward),
    (special.erf, special.erf_gradient),
]  # fmt: skip


def elementwise(shape: tuple[int, ...]) -> list[Case]:
    found = []
    for pair in PAIRS:
        for kernel, count in zip(pair, (1, 2)):
            if "numpy" not in kernel.overrides:
                continue

            def make(rng: Any, dtype: Any, count: int = count, pair: Any = pair) -> Any:
                return [np.asarray(rng.standard_normal(shape) * 3).astype(dtype) for _ in range(count)], PARAMETERS.get(pair[0], {})

            # where GELU's slope is 0 to rounding its sign is chance, and so is that of its product with infinity
            finite = (0,) if kernel is of.gelu_backward else ()
            found.append(Case("x".join(map(str, shape)), kernel, make, exact=kernel in EXACT, ignore_special=finite))
    return found


def bias(rows: int, width: int) -> list[Case]:
    def matrix(rng: Any, dtype: Any) -> Any:
        return [rng.standard_normal((rows, width)).astype(dtype)], {}

    name = f"{rows}x{width}"
    return [Case(name, of.bias_gradient, matrix, rtol=4.0 + rows**0.5, special=False)]


@pytest.mark.parametrize("situation", SITUATIONS)
@pytest.mark.parametrize("case", [*elementwise((5, 211, 3)), *bias(37, 45)], ids=str)
def test_agrees(case: Case, situation: str) -> None:
    check_case(case, situation)


@pytest.mark.parametrize("case", [case for shape in SHAPES for case in elementwise(shape)], ids=str)
def test_shapes(case: Case) -> None:
    check_case(case, "plain")


@pytest.mark.parametrize(
    "case", [case for rows in (0, 1, 3, 4, 64, 1030) for width in (0, 1, 10, 28, 2050) for case in bias(rows, width)], ids=str
)
def test_bias_shapes(case: Case) -> None:
    check_case(case, "plain")


@pytest.mark.parametrize("case", [*elementwise((70_001,)), *bias(300, 3000)], ids=str)
def test_threads(case: Case) -> None:
    check_case(case, "threads")


@pytest.mark.parametrize("case", elementwise((3, 5)), ids=str)
def test_special_values(case: Case) -> None:
    """Every special value, in float32 and float64, with gradients of 1."""
    for dtype in ("float32", "float64"):
        values = np.array([0.0, -0.0, np.nan, np.inf, -np.inf, 1e-40, -1e-40, 30, -30, 100, -100, 3e38, -3e38], dtype)
        args, kwargs = case.make(np.random.default_rng(0), np.dtype(dtype))
        args = [values] if len(args) == 1 else [np.ones_like(values), values]
        with np.errstate(all="ignore"):
            expected = case.kernel.reference(np, *args, **kwargs)
        np.testing.assert_allclose(case.kernel.overrides["numpy"](*args, **kwargs), expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("case", [*elementwise((3, 5)), *bias(3, 5)], ids=str)
def test_declines(case: Case) -> None:
    """What it does not support is left to the reference; nothing is written."""
    override = case.kernel.overrides["numpy"]
    for dtype in ("float16", "int64"):
        args, kwargs = case.make(np.random.default_rng(0), np.dtype(dtype))
        assert override(*args, **kwargs) is NotImplemented
    args, kwargs = case.make(np.random.default_rng(0), np.dtype("float32"))
    if len(args) == 2:
        for other in (args[1].astype("float64"), args[1][..., :-1].copy(), np.zeros((), "float32")):
            assert override(args[0], other, **kwargs) is NotImplemented
