"""Matrix products by the chosen BLAS library, for every layout that operations pass."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from native_cases import Case, check_case, needs_native

from dist_train.backend.native import available
from dist_train.backend.reference.product import product

pytestmark = needs_native

SHAPES = [(2, 2, 2), (64, 28, 784), (3, 5, 7), (129, 65, 33), (1, 4, 3), (4, 1, 3), (4, 3, 1), (0, 3, 2), (2, 0, 3), (2, 3, 0)]


def matrix(rng: np.random.Generator, dtype: Any, shape: tuple[int, int], layout: str) -> Any:
    rows, columns = shape
    if layout == "transposed":
        return rng.standard_normal((columns, rows)).astype(dtype).T
    if layout == "columns":  # of a wider matrix
        return rng.standard_normal((rows, columns + 3)).astype(dtype)[:, 2 : 2 + columns]
    return rng.standard_normal(shape).astype(dtype)


LAYOUTS = [(a, b) for a in ("plain", "transposed", "columns") for b in ("plain", "transposed", "columns")]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("layouts", LAYOUTS, ids="-".join)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_layouts(shape: tuple[int, int, int], layouts: tuple[str, str], dtype: str) -> None:
    rng, (m, n, k) = np.random.default_rng(0), shape
    a, b = matrix(rng, dtype, (m, k), layouts[0]), matrix(rng, dtype, (k, n), layouts[1])
    out = np.full((m, n), np.nan, dtype)
    tolerance = {"rtol": 0, "atol": 4 * (k + 1) * np.finfo(dtype).eps * max(1, np.abs(a).max(initial=0) * np.abs(b).max(initial=0))}
    np.testing.assert_allclose(product(a, b), a @ b, **tolerance)
    assert product(a, b, out) is out
    np.testing.assert_allclose(out, a @ b, **tolerance)


def make(m: int, n: int, k: int) -> Any:
    return lambda rng, dtype: ([matrix(rng, dtype, (m, k), "plain"), matrix(rng, dtype, (k, n), "plain")], {})


CASES = [Case(f"{m}x{n}x{k}", product, make(m, n, k), rtol=4 * k, special=False) for m, n, k in SHAPES if min(m, n, k) > 1]


@pytest.mark.parametrize("situation", ["plain", "noncontiguous", "shifted"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_agrees(case: Case, situation: str) -> None:
    check_case(case, situation)


def test_refuses_what_does_not_fit() -> None:
    a, b = np.ones((2, 3), "f"), np.ones((4, 5), "f")
    with pytest.raises(ValueError):
        product(a, b)
    with pytest.raises(ValueError):
        product(a, a.T, np.ones((3, 3), "f"))


def test_runs_compiled() -> None:
    assert available() and product.overrides["numpy"](np.ones((2, 2), "f"), np.ones((2, 2), "f")) is not NotImplemented
