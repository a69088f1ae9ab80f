"""The compiled attention agrees with its reference: masks, layouts, lengths, dropout, infinities."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from native_cases import SITUATIONS, SPECIAL, Case, check_case, needs_native

import dist_train as dt
from dist_train.backend.reference import attention as kernels
from dist_train.nn import functional as F

pytestmark = needs_native

# leading lengths, queries, keys, width, width of the values
SHAPES = [
    ((), 5, 9, 3, 2),
    ((4,), 64, 64, 32, 32),
    ((2, 3), 17, 17, 8, 8),
    ((1, 2), 70, 133, 20, 33),
    ((2, 1), 133, 70, 40, 16),
    ((1, 1), 1, 1, 1, 1),
    ((3, 2), 8, 300, 64, 5),
]
LAYOUTS = {"rows": (0, 1, 2), "heads": (1, 0, 2)}  # the order in memory of (head, row, column)
DROPOUT = (2**63 + 12345, 0.3)


def masks(kind: str, rng: np.random.Generator, dtype: Any, lead: tuple[int, ...], queries: int, keys: int) -> Any:
    if kind == "visible":  # the last row sees nothing
        return (rng.random((queries, keys)) < 0.7) & (np.arange(queries)[:, None] < queries - 1)
    if kind == "padding":
        return rng.random((*lead[:1], *(1,) * len(lead[1:]), 1, keys)) < 0.7
    if kind == "added":
        return rng.standard_normal((*lead, queries, keys)).astype(dtype)
    if kind == "hidden":  # the numbers that people use for minus infinity
        return np.where(rng.random((queries, keys)) < 0.7, 0, np.finfo(dtype).min).astype(dtype)
    return rng.standard_normal((queries, 1)).astype(dtype) if kind == "column" else None


def ordered(array: Any, layout: str) -> Any:
    """The same elements, lying in memory in another order."""
    if array.ndim < 3:
        return array
    axes = (*range(array.ndim - 3), *[array.ndim - 3 + axis for axis in LAYOUTS[layout]])
    return np.ascontiguousarray(array.transpose(axes)).transpose(axes)


def forward_case(shape: Any, kind: str, layout: str = "rows", dropout: Any = None) -> Case:
    lead, queries, keys, width, value_width = shape

    def make(rng: np.random.Generator, dtype: Any) -> Any:
        sizes = [(queries, width), (keys, width), (keys, value_width)]
        query, key, value = [ordered(rng.standard_normal((*lead, *size)).astype(dtype), layout) for size in sizes]
        return [query, key, value, masks(kind, rng, dtype, lead, queries, keys), kind == "causal", 0.4, dropout], {}

    # an infinite value spoils rows that do not see it, more of them in the reference; weights are normalised after the product
    ignored = (2, 3) if kind == "causal" or dropout else (3,)
    return Case(f"{shape}-{kind}-{layout}-{dropout}", kernels.attention, make, ignore_special=ignored)


def backward_case(shape: Any, kind: str, layout: str = "rows", dropout: Any = None) -> Case:
    forward = forward_case(shape, kind, layout, dropout)

    def make(rng: np.random.Generator, dtype: Any) -> Any:
        (query, key, value, mask, *rules), _ = forward.make(rng, dtype)
        output, *rows = kernels.attention.reference(np, query, key, value, mask, *rules)
        gradient = ordered(rng.standard_normal(output.shape).astype(dtype), layout)
        return [gradient, query, key, value, mask, output, *rows, *rules, False], {}

    return Case(forward.name, kernels.attention_backward, make, special=False, rtol=64)  # special: see below


KINDS = ["none", "causal", "visible", "padding", "added", "hidden", "column"]
CASES = [
    case(shape, kind, layout, dropout)
    for case in (forward_case, backward_case)
    for shape, kind, layout, dropout in [
        *[(shape, kind, "rows", None) for shape in SHAPES for kind in ("none", "causal")],
        *[(SHAPES[3], kind, "heads", None) for kind in KINDS],
        *[(shape, "causal", "heads", DROPOUT) for shape in SHAPES[:4]],
    ]
]


@pytest.mark.parametrize("situation", SITUATIONS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_agrees(case: Case, situation: str) -> None:
    check_case(case, situation)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("place", range(4))
@pytest.mark.parametrize("special", [value for value in SPECIAL if not 1 < abs(value) < np.inf])
def test_special_values_in_backward(special: float, place: int, dtype: str) -> None:
    """One special value in the gradient, the query, the key or the value."""
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal((2, size, 24)).astype(dtype) for size in (20, 20, 30, 30)]
    arrays[place][1, 3, 5] = special
    gradient, query, key, value = arrays
    with np.errstate(all="ignore"):
        saved = [
            query,
            key,
            value,
            None,
            *kernels.attention.reference(np, query, key, value, None, False, 0.2, None),
            False,
            0.2,
            None,
            False,
        ]
        expected = kernels.attention_backward.reference(np, gradient, *saved)[:3]
        actual = kernels.attention_backward.overrides["numpy"](gradient, *saved)[:3]
    for mine, his in zip(actual, expected, strict=True):
        np.testing.assert_array_equal(np.isfinite(mine), np.isfinite(his))
        finite = np.isfinite(his)
        np.testing.assert_allclose(mine[finite], his[finite], rtol=1e-4, atol=1e-4 * np.abs(his[finite]).max(initial=0))


def test_what_lies_ahead_does_not_matter() -> None:
    """Scores of keys that a row does not see may be anything."""
    rng = np.random.default_rng(0)
    query, key, value = [rng.standard_normal((2, 40, 16)).astype("float32") for _ in range(3)]
    expected = [part.copy() for part in kernels.attention(query, key, value, None, True, 0.2, None)]
    key[:, 39] = np.nan
    for mine, his in zip(kernels.attention(query, key, value, None, True, 0.2, None), expected, strict=True):
        np.testing.assert_array_equal(mine[:, :39], his[:, :39])


def heads(x: dt.Tensor) -> list[dt.Tensor]:
    return [part.view(2, 10, 3, 8).transpose(1, 2) for part in x.split(24, 2)]


def test_heads_of_a_projection_and_back_take_no_copy() -> None:
    x = dt.randn(2, 10, 72, requires_grad=True)
    query, key, value = heads(x)
    merged = F.scaled_dot_product_attention(query, key, value, is_causal=True).transpose(1, 2)
    assert merged.array.flags.c_contiguous
    gradients = dt.autograd.grad(merged.sum(), [query, key, value])
    assert all(gradient.transpose(1, 2).array.flags.c_contiguous for gradient in gradients)


def array(*shape: int, dtype: Any = "float32") -> Any:
    return np.ones(shape, dtype)


@pytest.mark.parametrize(
    "change",
    [
        {"query": array(2, 0, 4)},
        {"query": array(2, 3, 4, dtype="float16")},
        {"query": array(2, 3, 4, dtype=">f4")},
        {"query": array(1, 3, 4)},
        {"query": array(3, 4)},
        {"key": array(2, 5, 3)},
        {"key": array(2, 5, 4, dtype="float64")},
        {"value": array(2, 4, 6)},
        {"value": array(1, 1, 1, 2, 5, 6)},
        {"mask": array(3, 6)},
        {"mask": array(2, 1, 3, 5)},
        {"mask": array(3, 5, dtype="float64")},
        {"mask": array(3, 5, dtype="int32")},
        {"mask": np.ones((), "float32")},
        {"query": np.lib.stride_tricks.as_strided(array(64), (2, 3, 4), (50, 6, 4))},
    ],
    ids=str,
)
def test_declines(change: dict[str, Any]) -> None:
    given: dict[str, Any] = {"query": array(2, 3, 4), "key": array(2, 5, 4), "value": array(2, 5, 6), "mask": None}
    call = kernels.attention.overrides["numpy"]
    assert call(*given.values(), False, 0.5, None) is not NotImplemented
    assert call(*{**given, **change}.values(), False, 0.5, None) is NotImplemented


@pytest.mark.parametrize("place", range(9))
def test_backward_declines(place: int) -> None:
    """Arrays of another shape, and the gradient of a mask."""
    query, key, value = array(2, 3, 4), array(2, 5, 4), array(2, 5, 6)
    saved = [query, key, value, None, *kernels.attention(query, key, value, None, False, 0.5, None)]
    call = kernels.attention_backward.overrides["numpy"]
    assert call(array(2, 3, 6), *saved, False, 0.5, None, False) is not NotImplemented
    arguments = [array(2, 3, 6), *saved]
    if place < 8:
        arguments[place] = array(2, 7, 9)
    assert call(*arguments, False, 0.5, None, place == 8) is NotImplemented
