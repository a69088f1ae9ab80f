"""Matrix products, for every layout that operations pass."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from native_cases import Case, check_case, needs_native

from dist_train.backend.native import available, describe
from dist_train.backend.reference.product import linear, linear_backward, product

pytestmark = needs_native

SHAPES = [
    (2, 2, 2),
    (64, 28, 784),
    (3, 5, 7),
    (129, 65, 33),
    (40, 300, 1100),
    (140, 33, 520),
    (1, 4, 3),
    (4, 1, 3),
    (4, 3, 1),
    (0, 3, 2),
    (2, 0, 3),
    (2, 3, 0),
]


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


CASES = [Case(f"{m}x{n}x{k}", product, make(m, n, k), rtol=4 * k, special=False, products=True) for m, n, k in SHAPES if min(m, n, k) > 1]


def make_linear(shape: tuple[int, ...], n: int, bias: bool) -> Any:
    def make(rng: np.random.Generator, dtype: Any) -> Any:
        x, weight, b = (rng.standard_normal(s).astype(dtype) for s in (shape, (n, shape[-1]), (n,)))
        return [x, weight, b if bias else None], {}

    return make


LINEAR = [((64, 784), 28), ((3, 5, 7), 11), ((1, 1), 1), ((1, 9), 1), ((2, 3, 4, 600), 40), ((130, 20), 33)]
CASES += [
    Case(f"{s}-{n}-{b}", linear, make_linear(s, n, b), rtol=4 * s[-1], special=False, products=True)
    for s, n in LINEAR
    for b in (True, False)
]


def make_linear_backward(shape: tuple[int, ...], n: int, wanted: str) -> Any:
    def make(rng: np.random.Generator, dtype: Any) -> Any:
        gradient, x, weight, out = (rng.standard_normal(s).astype(dtype) for s in ((*shape[:-1], n), shape, (n, shape[-1]), (n, shape[-1])))
        given = x if "w" in wanted else None, weight if "x" in wanted else None
        return [gradient, *given, "b" in wanted, out if "o" in wanted else None], {}

    return make


CASES += [
    Case(f"{s}-{n}-{wanted}", linear_backward, make_linear_backward(s, n, wanted), rtol=4 * max(64, n), special=False, products=True)
    for s, n in [((64, 784), 28), ((3, 5, 7), 11), ((2, 3, 4, 60), 40)]
    for wanted in ("xwbo", "xwb", "wb", "wo", "x")
]

own = pytest.mark.skipif("own kernels" not in describe(), reason="a library multiplies matrices, whose bits are its own")


@pytest.mark.parametrize("situation", ["plain", "noncontiguous", "base"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_agrees(case: Case, situation: str) -> None:
    check_case(case, situation)


@own
@pytest.mark.parametrize("situation", ["shifted", "threads", "avx2"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_same_bits(case: Case, situation: str) -> None:
    check_case(case, situation)


@own
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_row_does_not_depend_on_the_others(dtype: str, transposed: bool) -> None:
    """A sample's results are the same in a batch of any size."""
    rng = np.random.default_rng(0)
    x, w = matrix(rng, dtype, (300, 700), "plain"), matrix(rng, dtype, (700, 90), "transposed" if transposed else "plain")
    whole = product(x, w)
    for rows in (2, 13, 14, 15, 32, 64, 127, 128, 129, 200):
        np.testing.assert_array_equal(product(x[:rows], w), whole[:rows])
        np.testing.assert_array_equal(product(x[-rows:], w), whole[-rows:])


@own
def test_infinity_and_nan() -> None:
    a, b = np.ones((20, 30), "f"), np.ones((30, 40), "f")
    a[3, 4], a[5, 6], b[7, 8] = np.inf, np.nan, -np.inf
    with np.errstate(invalid="ignore"):
        np.testing.assert_array_equal(product(a, b), a @ b)


def test_refuses_what_does_not_fit() -> None:
    a, b = np.ones((2, 3), "f"), np.ones((4, 5), "f")
    with pytest.raises(ValueError):
        product(a, b)
    with pytest.raises(ValueError):
        product(a, a.T, np.ones((3, 3), "f"))


def test_gradients_of_linear_of_other_layouts_and_sizes() -> None:
    rng = np.random.default_rng(0)
    for m, n, k in [(6, 5, 4), (1, 5, 4), (6, 1, 4), (6, 5, 1), (0, 5, 4)]:
        gradient, x, weight = (rng.standard_normal(s).astype("f") for s in ((n, m), (m, k), (n, k)))
        of_x, of_weight, of_bias = linear_backward(gradient.T, x, weight, True, None)
        np.testing.assert_allclose(of_x, gradient.T @ weight, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(of_weight, gradient @ x, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(of_bias, gradient.sum(axis=1), rtol=1e-5, atol=1e-5)


def test_runs_compiled() -> None:
    assert available() and product.overrides["numpy"](np.ones((2, 2), "f"), np.ones((2, 2), "f")) is not NotImplemented
