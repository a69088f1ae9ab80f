"""The compiled embedding and its gradient agree with their references."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from native_cases import SITUATIONS, Case, check_case, needs_native

import dist_train as dt
from dist_train.backend.reference import embedding as kernels
from dist_train.nn import functional as F

pytestmark = needs_native

# rows, width, shape of the indices
SHAPES = [(1, 1, (1,)), (7, 5, ()), (7, 16, (0,)), (256, 33, (3, 40)), (5, 3, (2, 0, 4)), (50, 24, (1000,)), (3000, 200, (2, 1500))]
ARRAYS = [(9,), (7, 13), (30, 2, 5, 7)]


def forward_case(array: tuple[int, ...], shape: tuple[int, ...], integers: str, dtypes: tuple[str, ...] = ("float32", "float64")) -> Case:
    """Indices of both signs."""

    def make(rng: np.random.Generator, dtype: Any) -> Any:
        values = np.asarray(10 * rng.standard_normal(array)).astype(dtype)
        return [values, np.asarray(rng.integers(-array[0], array[0], shape, dtype=integers))], {}

    special = all(np.dtype(dtype).kind == "f" for dtype in dtypes)
    return Case(f"{array}-{shape}-{integers}-{dtypes[0]}", kernels.take_rows, make, exact=True, dtypes=dtypes, special=special)


def backward_case(rows: int, width: int, shape: tuple[int, ...], integers: str, padding: int | None) -> Case:
    def make(rng: np.random.Generator, dtype: Any) -> Any:
        indices = np.asarray(rng.integers(0, rows, shape, dtype=integers))
        return [rng.standard_normal((*shape, width)).astype(dtype), indices, rows, padding], {}

    return Case(f"{rows}-{width}-{shape}-{integers}-{padding}", kernels.embedding_backward, make)


CASES = [
    *[forward_case((rows, width), shape, integers) for rows, width, shape in SHAPES for integers in ("int32", "int64")],
    *[forward_case(array, (40,), "int64", (dtype,)) for array in ARRAYS for dtype in ("uint8", "bool", "int64", "float16", "complex64")],
    forward_case((5, 4097), (9,), "int64"),  # nothing is fetched ahead
    *[backward_case(*shape, integers, padding) for shape in SHAPES for integers, padding in (("int32", None), ("int64", 0))],
]


@pytest.mark.parametrize("situation", SITUATIONS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_agrees(case: Case, situation: str) -> None:
    check_case(case, situation)


def test_rows_of_one_index_are_added_in_order() -> None:
    """1 + 2⁻²⁴ + 2⁻²⁴ … stays 1 from left to right."""
    gradient = np.full((9, 3), 2.0**-24, "float32")
    gradient[0] = 1
    assert (kernels.embedding_backward(gradient, np.zeros(9, int), 2, None)[0] == 1).all()


def test_writes_into_an_array_of_the_callers() -> None:
    out = np.full((4, 3), 7.0)
    result = kernels.embedding_backward(np.ones((2, 3)), np.array([1, 1]), 4, None, out)
    assert result is out
    np.testing.assert_array_equal(out[:, 0], [0, 2, 0, 0])


def table(*shape: int, dtype: Any = "float32") -> Any:
    return np.ones(shape, dtype)


@pytest.mark.parametrize(
    ("array", "indices"),
    [
        (table(4, 3), np.array([4])),
        (table(4, 3), np.array([-5])),
        (table(4, 3), np.array([0], "int16")),
        (table(4, 3), np.array([0], "uint64")),
        (table(4, 3), np.array([0.0])),
        (table(4, 3), np.zeros(4, int)[::2]),
        (table(4, 3, dtype=">f4"), np.array([0])),
        (table(4, 3, dtype="U1"), np.array([0])),
        (table(4, 3, dtype=object), np.array([0])),
        (table(4, 3, dtype="M8[s]"), np.array([0])),
        (table(3, 4).T, np.array([0])),
        (table(0, 4), np.zeros(0, int)),
        (table(4, 0), np.array([0])),
        (np.float32(1).reshape(()), np.array([0])),
        (table(*[1] * 40), np.zeros((1,) * 26, int)),
    ],
    ids=lambda argument: f"{argument.shape}-{argument.dtype}",
)
def test_declines(array: Any, indices: Any) -> None:
    assert kernels.take_rows.overrides["numpy"](array, indices) is NotImplemented


@pytest.mark.parametrize("indices", [[4], [-1], np.array([0], "int16"), np.array([0], "uint64"), [0.0]], ids=str)
def test_the_gradient_declines(indices: Any) -> None:
    assert kernels.embedding_backward.overrides["numpy"](table(1, 3), np.asarray(indices), 4, None) is NotImplemented
    assert kernels.embedding_backward.overrides["numpy"](table(1, 3, dtype="float16"), np.array([0]), 4, None) is NotImplemented


@pytest.mark.parametrize(
    "out", [table(4, 2), table(3, 3), table(4, 3, dtype="float64"), table(3, 4).T, table(12)], ids=lambda out: str(out.shape)
)
def test_declines_what_it_cannot_write(out: Any) -> None:
    call = kernels.embedding_backward.overrides["numpy"]
    assert call(table(1, 3), np.array([0]), 4, None, out) is NotImplemented
    assert call(table(2, 3), np.array([0]), 4, None, None) is NotImplemented


@pytest.mark.parametrize(
    "following",
    [[], [3, -700, 0], list(range(0, 700, 33)), [700], [-701], [2, 2**62, -(2**62)]],
    ids=lambda following: f"{len(following)}-{following[:1]}",
)
@pytest.mark.parametrize("before", [0, 2])
def test_a_slice_of_an_order(before: int, following: list[int]) -> None:
    """What comes after the slice, and may lie outside, is at most fetched."""
    array = np.arange(700 * 300.0).reshape(700, 300)  # too large for the caches: rows are fetched ahead
    order = np.array([5] * before + [1, -1, 4] + following)
    for indices in (
        order[before : before + 3],
        order.view("V8")[before:].view(np.int64)[:3],
        np.frombuffer(order.tobytes(), np.int64)[before:][:3],
    ):
        assert np.array_equal(kernels.take_rows.overrides["numpy"](array, indices), array[[1, -1, 4]])


@pytest.mark.parametrize("index", [92, -93])
@pytest.mark.parametrize("array", [table(92, 7), table(92, 14)[:, ::2], table(92)], ids=lambda array: str(array.strides))
def test_rows_out_of_bounds(array: Any, index: int) -> None:
    with pytest.raises(IndexError, match=f"index {index} is out of bounds for axis 0 with size 92"):
        kernels.take_rows(array, np.full(16, index))


def test_an_index_outside_is_an_error() -> None:
    for index in (-1, 4):
        with pytest.raises(IndexError, match=str(index)):
            F.embedding(dt.tensor([0, index]), dt.ones(4, 3))
