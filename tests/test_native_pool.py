"""Compiled pooling agrees with its reference."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from native_cases import SITUATIONS, Case, check_case, needs_native

from dist_train.backend.reference import pool

pytestmark = needs_native

ZERO = ((0, 0), (0, 0))
# name: image (N, C, H, W), window, stride, padding, dilation
SHAPES: dict[str, Any] = {
    "2x2": ((3, 7, 24, 24), (2, 2), (2, 2), ZERO, (1, 1)),
    "2x2_odd": ((2, 3, 9, 7), (2, 2), (2, 2), ZERO, (1, 1)),
    "3x3_overlapping": ((2, 17, 14, 15), (3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1)),
    "3x3_stride": ((2, 9, 33, 20), (3, 3), (2, 2), ((1, 1), (1, 1)), (1, 1)),
    "dilation": ((3, 11, 12, 13), (3, 2), (2, 1), ((1, 1), (1, 0)), (2, 3)),
    "gaps": ((2, 5, 11, 12), (2, 1), (3, 4), ZERO, (1, 1)),
    "ceil": ((2, 5, 10, 9), (3, 2), (3, 2), ((0, 2), (0, 1)), (1, 1)),
    "whole_image": ((3, 20, 7, 6), (7, 6), (7, 6), ZERO, (1, 1)),
    "large_window": ((1, 3, 20, 19), (17, 18), (1, 1), ZERO, (1, 1)),
    "sequence": ((4, 6, 1, 50), (1, 3), (1, 2), ((0, 0), (1, 1)), (1, 1)),
    "one_element": ((1, 1, 1, 1), (1, 1), (1, 1), ZERO, (1, 1)),
    "many_planes": ((40, 33, 8, 8), (2, 2), (2, 2), ZERO, (1, 1)),
}


def output_size(image: Any, window: Any, stride: Any, padding: Any, dilation: Any) -> tuple[int, ...]:
    return tuple((image[2 + i] + sum(padding[i]) - dilation[i] * (window[i] - 1) - 1) // stride[i] + 1 for i in (0, 1))


def max_cases(name: str) -> list[Case]:
    image, *geometry = SHAPES[name]
    size = output_size(image, *geometry)

    def backward(rng: np.random.Generator, dtype: Any) -> Any:
        positions = geometry[0][0] * geometry[0][1]
        index = rng.integers(0, positions, (*image[:2], *size)).astype(np.uint8 if positions <= 256 else np.int32)
        return [rng.standard_normal((*image[:2], *size)).astype(dtype), index, image, *geometry], {}

    return [
        Case(name, pool.max_pool, lambda rng, dtype: ([rng.standard_normal(image).astype(dtype), *geometry, size], {}), exact=True),
        Case(name, pool.max_pool_backward, backward),
    ]


def avg_cases(name: str) -> list[Case]:
    image, window, stride, padding, _ = SHAPES[name]
    size = output_size(image, window, stride, padding, (1, 1))

    def forward(each: bool) -> Any:
        def make(rng: np.random.Generator, dtype: Any) -> Any:
            divisor = rng.integers(1, 9, size).astype(dtype) if each else 3
            return [rng.standard_normal(image).astype(dtype), window, stride, padding, size, divisor], {}

        return make

    def backward(each: bool) -> Any:
        def make(rng: np.random.Generator, dtype: Any) -> Any:
            divisor = rng.integers(1, 9, size).astype(dtype) if each else 3
            return [rng.standard_normal((*image[:2], *size)).astype(dtype), image, window, stride, padding, divisor], {}

        return make

    found = [Case(f"{name}-{each}", pool.avg_pool, forward(each), exact=True, ignore_special=(5,)) for each in (False, True)]
    return found + [Case(f"{name}-{each}", pool.avg_pool_backward, backward(each), ignore_special=(5,)) for each in (False, True)]


@pytest.mark.parametrize("situation", SITUATIONS)
@pytest.mark.parametrize("case", [case for name in SHAPES for case in max_cases(name) + avg_cases(name)], ids=str)
def test_agrees(case: Case, situation: str) -> None:
    check_case(case, situation)


X = np.ones((2, 3, 6, 6), np.float32)
DECLINED: dict[str, Any] = {
    "integers": (X.astype(int), (2, 2), (2, 2), ZERO, (1, 1), (3, 3)),
    "empty": (X[:0], (2, 2), (2, 2), ZERO, (1, 1), (3, 3)),
    "three dimensions": (X[0], (2, 2), (2, 2), ZERO, (1, 1), (3, 3)),
    "stride": (X, (2, 2), (0, 2), ZERO, (1, 1), (3, 3)),
    "window": (X, (2, 0), (2, 2), ZERO, (1, 1), (3, 3)),
    "negative padding": (X, (2, 2), (2, 2), ((0, 0), (-1, 0)), (1, 1), (3, 3)),
    "no results": (X, (2, 2), (2, 2), ZERO, (1, 1), (0, 3)),
}


@pytest.mark.parametrize("name", DECLINED)
def test_declines_what_does_not_fit(name: str) -> None:
    assert pool.max_pool.overrides["numpy"](*DECLINED[name]) is NotImplemented


def test_declines_gradients_that_do_not_fit() -> None:
    gradient, index = np.ones((2, 3, 3, 3)), np.zeros((2, 3, 3, 3), np.uint8)
    geometry = (2, 2), (2, 2), ZERO
    maximum, average = pool.max_pool_backward.overrides["numpy"], pool.avg_pool_backward.overrides["numpy"]
    assert maximum(gradient, index[:1], (2, 3, 6, 6), *geometry, (1, 1)) is NotImplemented
    assert maximum(gradient, index.astype(int), (2, 3, 6, 6), *geometry, (1, 1)) is NotImplemented
    assert maximum(gradient, index, (2, 4, 6, 6), *geometry, (1, 1)) is NotImplemented
    assert average(gradient, (2, 4, 6, 6), *geometry, 4) is NotImplemented
    assert average(gradient, (2, 3, 6, 6), *geometry, np.ones((2, 3))) is NotImplemented


def test_windows_beyond_the_image_read_nothing() -> None:
    """Whatever the caller says of the output's size: positions outside the image do not count."""
    y, index = pool.max_pool.overrides["numpy"](X, (2, 2), (2, 2), ZERO, (1, 1), (5, 4))
    assert (y[:, :, :3, :3] == 1).all() and (y[:, :, 3:] == -np.inf).all() and (y[:, :, :, 3:] == -np.inf).all() and not index.any()
    of_x = pool.max_pool_backward.overrides["numpy"](np.ones_like(y), index, X.shape, (2, 2), (2, 2), ZERO, (1, 1))
    assert of_x.sum() == 2 * 3 * 3 * 3


def test_an_infinite_gradient_reaches_only_the_maximum() -> None:
    gradient, index = np.full((1, 1, 1, 1), np.inf), np.full((1, 1, 1, 1), 2, np.uint8)
    args = gradient, index, (1, 1, 2, 2), (2, 2), (2, 2), ZERO, (1, 1)
    for function in (pool.max_pool_backward, lambda *args: pool.max_pool_backward.reference(np, *args)):
        np.testing.assert_array_equal(function(*args), [[[[0, 0], [np.inf, 0]]]])
