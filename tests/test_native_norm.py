"""The compiled normalisations agree with their references."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from native_cases import SITUATIONS, Case, check_case, needs_native

from dist_train.backend.reference import norm

pytestmark = needs_native

ROWS = [(1, 1), (5, 2), (3, 15), (64, 16), (7, 33), (100, 64), (1100, 129), (3, 5003)]
CHANNELS = [(64, 10, 1), (2, 1, 1), (5, 3, 2), (7, 33, 4), (6, 20, 17), (3, 5, 63), (2, 3, 64), (3, 40, 200), (2, 2, 5003), (1, 1, 7)]
EPS = 1e-5


def random(rng: Any, dtype: Any, *shapes: tuple[int, ...]) -> list[Any]:
    return [(rng.standard_normal(shape) + 0.5).astype(dtype) for shape in shapes]


def rows(shape: tuple[int, int]) -> list[Case]:
    found = []
    for affine in ("weight and bias", "weight", "neither"):

        def forward(rng: Any, dtype: Any, affine: str = affine) -> Any:
            x, weight, bias = random(rng, dtype, shape, shape[1:], shape[1:])
            return [x, None if affine == "neither" else weight, bias if affine == "weight and bias" else None, EPS], {}

        def backward(rng: Any, dtype: Any, affine: str = affine) -> Any:
            (x, weight, _, eps), _ = forward(rng, dtype, affine)
            _, mean, scale = norm.layer_norm(x, weight, None, eps)
            return [*random(rng, dtype, shape), x, weight, mean, scale], {}

        name = f"{shape[0]}x{shape[1]}-{affine}"
        # with two elements in a row the gradient is what remains of a difference
        found += [
            Case(name, norm.layer_norm, forward, ignore_special=(1, 2)),
            Case(name, norm.layer_norm_backward, backward, rtol=64 if shape[1] > 2 else 4096),
        ]
    return found


def channels(shape: tuple[int, int, int]) -> list[Case]:
    name = "x".join(map(str, shape))
    of_channel = shape[1:2]

    def single(rng: Any, dtype: Any) -> Any:
        return random(rng, dtype, shape), {}

    def pair(rng: Any, dtype: Any) -> Any:
        return random(rng, dtype, shape, shape), {}

    def scale(rng: Any, dtype: Any) -> Any:
        return random(rng, dtype, shape, of_channel, of_channel), {}

    def scale_alone(rng: Any, dtype: Any) -> Any:
        return [*random(rng, dtype, shape, of_channel), None], {}

    tolerance = 64.0
    found = [Case(name, norm.channel_sum, single, rtol=tolerance), Case(name, norm.channel_sums, pair, rtol=tolerance)]
    found += [Case(name, norm.scale_channels, scale), Case(f"{name}-no shift", norm.scale_channels, scale_alone)]
    for affine in ("weight and bias", "weight", "bias", "neither"):

        def forward(rng: Any, dtype: Any, affine: str = affine) -> Any:
            x, weight, bias = random(rng, dtype, shape, of_channel, of_channel)
            return [x, weight if "weight" in affine else None, bias if "bias" in affine else None, EPS], {}

        def given(rng: Any, dtype: Any, affine: str = affine) -> Any:
            (x, *rest), _ = forward(rng, dtype, affine)
            mean, variance = random(rng, dtype, of_channel, of_channel)
            return [x, mean, np.abs(variance), *rest], {}

        found += [Case(f"{name}-{affine}", norm.normalize_channels, given, rtol=tolerance)]
        if shape[0] * shape[2] > 2:  # of one or two elements little is left but rounding
            found += [Case(f"{name}-{affine}", norm.batch_norm, forward, rtol=tolerance)]
        for training in (True, False):

            def backward(rng: Any, dtype: Any, affine: str = affine, training: bool = training) -> Any:
                (x, weight, *_), _ = forward(rng, dtype, affine)
                _, mean, _, scale = norm.batch_norm.reference(np, x, None, None, EPS)
                return [*random(rng, dtype, shape), x, weight, mean, scale, training], {}

            if affine in ("weight", "neither") and shape[0] * shape[2] > 2:
                found.append(Case(f"{name}-{affine}-{training}", norm.batch_norm_backward, backward, rtol=tolerance))
    return found


@pytest.mark.parametrize("situation", SITUATIONS)
@pytest.mark.parametrize(
    "case", [*rows((9, 37)), *rows((40, 64)), *channels((9, 7, 1)), *channels((3, 5, 21)), *channels((2, 3, 90))], ids=str
)
def test_agrees(case: Case, situation: str) -> None:
    check_case(case, situation)


@pytest.mark.parametrize("case", [case for shape in ROWS for case in rows(shape)], ids=str)
def test_rows(case: Case) -> None:
    check_case(case, "plain")


@pytest.mark.parametrize("case", [case for shape in CHANNELS for case in channels(shape)], ids=str)
def test_channels(case: Case) -> None:
    check_case(case, "plain")


@pytest.mark.parametrize("case", [*rows((1500, 100)), *channels((70, 1000, 1)), *channels((5, 200, 20)), *channels((5, 20, 2000))], ids=str)
def test_threads(case: Case) -> None:
    check_case(case, "threads")


def test_large_mean() -> None:
    """The variance is that of the differences from the mean: a mean of 1000 leaves it right."""
    rng = np.random.default_rng(0)
    x = (rng.standard_normal((64, 256)) + 1000).astype(np.float32)
    exact = x.astype(np.float64)
    _, _, scale = norm.layer_norm(x, None, None, EPS)
    np.testing.assert_allclose(scale[:, 0], 1 / np.sqrt(exact.var(1) + EPS), rtol=1e-5)
    for shape in ((64, 256, 1), (8, 8, 256)):
        _, _, variance, _ = norm.batch_norm(x.reshape(shape), None, None, EPS)
        np.testing.assert_allclose(variance, exact.reshape(shape).var((0, 2)), rtol=1e-4)


def test_declines() -> None:
    """What is not supported is left to the reference."""
    x, vector, column = np.ones((4, 5), np.float32), np.ones(5, np.float32), np.ones((4, 1), np.float32)
    image, of_channel = np.ones((2, 3, 4), np.float32), np.ones(3, np.float32)

    def override(kernel: Any, *args: Any) -> Any:
        return kernel.overrides["numpy"](*args)

    declined = [
        override(norm.layer_norm, x[None], vector, vector, EPS),
        override(norm.layer_norm, x, vector[:-1].copy(), vector, EPS),
        override(norm.layer_norm, x, None, vector, EPS),
        override(norm.layer_norm, x.astype(np.float64), vector, vector, EPS),
        override(norm.layer_norm, x[:, :0], None, None, EPS),
        override(norm.layer_norm_backward, x[:-1], x, vector, column, column),
        override(norm.layer_norm_backward, x, x, vector, column[:-1], column),
        override(norm.layer_norm_backward, x, x, vector, column, column.astype(np.float64)),
        override(norm.batch_norm, image[0], None, None, EPS),
        override(norm.batch_norm, image, vector, None, EPS),
        override(norm.batch_norm, image[:0], None, None, EPS),
        override(norm.batch_norm, image.astype(np.float16), None, None, EPS),
        override(norm.normalize_channels, image, vector, of_channel, None, None, EPS),
        override(norm.normalize_channels, image, of_channel, of_channel.astype(np.float64), None, None, EPS),
        override(norm.batch_norm_backward, image[:1], image, None, of_channel, of_channel, True),
        override(norm.batch_norm_backward, image, image, vector, of_channel, of_channel, True),
        override(norm.scale_channels, image, vector, None),
        override(norm.channel_sums, image, image[:1]),
        override(norm.channel_sum, image.transpose(2, 1, 0)),
    ]
    assert all(result is NotImplemented for result in declined)
