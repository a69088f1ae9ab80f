"""Compiled convolution agrees with its reference, whichever of its ways it takes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from native_cases import SITUATIONS, Case, check_case, needs_native

from dist_train.backend.reference import conv

pytestmark = needs_native

ZERO = ((0, 0), (0, 0))
ONE = ((1, 1), (1, 1))
# name: image (N, C, H, W), weight, stride, padding, dilation, groups
SHAPES: dict[str, Any] = {
    "winograd": ((3, 16, 10, 13), (18, 16, 3, 3), (1, 1), ZERO, (1, 1), 1),
    "winograd_padded": ((2, 21, 7, 8), (33, 21, 3, 3), (1, 1), ((1, 1), (0, 2)), (1, 1), 1),
    "winograd_cut": ((2, 16, 9, 9), (16, 16, 3, 3), (1, 1), ((-1, 2), (3, -1)), (1, 1), 1),
    "winograd_groups": ((2, 32, 7, 6), (40, 16, 3, 3), (1, 1), ONE, (1, 1), 2),
    "winograd_many_blocks": ((5, 16, 40, 41), (16, 16, 3, 3), (1, 1), ONE, (1, 1), 1),
    "direct_3x3": ((3, 5, 9, 8), (20, 5, 3, 3), (1, 1), ONE, (1, 1), 1),
    "one_channel": ((4, 1, 12, 11), (17, 1, 3, 3), (1, 1), ZERO, (1, 1), 1),
    "5x4": ((2, 17, 9, 19), (19, 17, 5, 4), (1, 1), ((2, 2), (1, 2)), (1, 1), 1),
    "1x1": ((3, 18, 6, 5), (16, 18, 1, 1), (1, 1), ZERO, (1, 1), 1),
    "1x1_stride": ((3, 18, 7, 5), (16, 18, 1, 1), (2, 3), ZERO, (1, 1), 1),
    "stride": ((3, 16, 11, 12), (18, 16, 3, 3), (2, 2), ONE, (1, 1), 1),
    "stride_above_kernel": ((2, 16, 11, 12), (18, 16, 2, 1), (3, 4), ZERO, (1, 1), 1),
    "dilation": ((2, 16, 13, 12), (18, 16, 3, 2), (1, 1), ((2, 2), (3, 3)), (2, 3), 1),
    "stride_dilation": ((2, 9, 13, 12), (18, 9, 3, 3), (3, 2), ((4, 2), (3, 3)), (2, 3), 1),
    "groups": ((2, 24, 9, 8), (36, 8, 3, 3), (2, 1), ONE, (1, 1), 3),
    "wide": ((2, 3, 5, 200), (16, 3, 3, 7), (1, 2), ZERO, (1, 1), 1),
    "tall": ((2, 3, 200, 1), (16, 3, 7, 1), (2, 1), ZERO, (1, 1), 1),
    "deep": ((1, 300, 3, 3), (16, 300, 2, 2), (1, 1), ZERO, (1, 1), 1),
    "many_blocks": ((3, 16, 70, 71), (16, 16, 5, 5), (1, 1), ZERO, (1, 1), 1),
    "whole_image": ((4, 16, 6, 5), (24, 16, 6, 5), (1, 1), ZERO, (1, 1), 1),
    "depthwise": ((3, 5, 9, 21), (5, 1, 3, 3), (1, 1), ONE, (1, 1), 5),
    "depthwise_stride": ((3, 5, 9, 21), (5, 1, 3, 4), (2, 3), ONE, (1, 1), 5),
    "depthwise_dilation": ((3, 5, 19, 21), (10, 1, 3, 3), (1, 2), ((3, 3), (2, 2)), (3, 2), 5),
    "depthwise_large": ((2, 4, 41, 70), (4, 1, 5, 5), (1, 1), ((2, 2), (2, 2)), (1, 1), 4),
    "narrow_groups": ((3, 12, 9, 8), (9, 4, 3, 3), (1, 1), ONE, (1, 1), 3),
    "few_filters": ((3, 17, 9, 8), (3, 17, 3, 3), (2, 1), ONE, (1, 1), 1),
    "sequence": ((3, 6, 1, 50), (20, 6, 1, 5), (1, 2), ((0, 0), (4, 0)), (1, 1), 1),
}


def output_shape(image: Any, weight: Any, stride: Any, padding: Any, dilation: Any, groups: int) -> tuple[int, ...]:
    padded = (*image[:2], *(n + sum(both) for n, both in zip(image[2:], padding)))
    return (image[0], weight[0], *conv.output_size(padded, weight[2:], stride, dilation))


def cases(name: str) -> list[Case]:
    image, weight, *geometry = SHAPES[name]
    output = output_shape(image, weight, *geometry)

    def normal(rng: np.random.Generator, dtype: Any, *shapes: Any) -> list[Any]:
        return [rng.standard_normal(shape).astype(dtype) for shape in shapes]

    return [
        Case(f"{name}-bias", conv.conv2d, lambda rng, dtype: ([*normal(rng, dtype, image, weight, weight[:1]), *geometry], {})),
        Case(name, conv.conv2d, lambda rng, dtype: ([*normal(rng, dtype, image, weight), None, *geometry], {})),
        Case(name, conv.conv2d_backward_input, lambda rng, dtype: ([*normal(rng, dtype, output, weight), image, *geometry], {})),
        Case(name, conv.conv2d_backward_weight, lambda rng, dtype: ([*normal(rng, dtype, output, image), weight, *geometry, True], {})),
    ]


CASES = [case for name in SHAPES for case in cases(name)]


@pytest.mark.parametrize("situation", [situation for situation in SITUATIONS if situation != "special"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_agrees(case: Case, situation: str) -> None:
    check_case(case, situation)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_special_values(case: Case) -> None:
    """Without numbers so large that it is the order of a sum that decides whether it overflows; weights are finite."""
    for dtype in case.dtypes:
        rng = np.random.default_rng(0)
        args, _ = case.make(rng, dtype)
        for images in args[: 2 if case.kernel is conv.conv2d_backward_weight else 1]:
            special = np.array([np.nan, np.inf, -np.inf, np.inf, 0.0, -0.0, 1e-40, -1e-42, 1e30])
            images.reshape(-1)[rng.choice(images.size, special.size, replace=False)] = special
        with np.errstate(all="ignore"):
            expected = case.kernel.reference(np, *args)
        actual = case.kernel.overrides["numpy"](*args)
        for a, b in zip(*(result if isinstance(result, tuple) else (result,) for result in (actual, expected)), strict=True):
            tolerance = 16 * np.finfo(dtype).eps
            scale = np.abs(b[np.isfinite(b)]).max(initial=0)
            np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * scale, equal_nan=True)


@pytest.mark.parametrize("name", ["winograd", "winograd_many_blocks", "many_blocks", "depthwise"])
def test_an_image_does_not_depend_on_the_others(name: str) -> None:
    image, weight, *geometry = SHAPES[name]
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal(image, np.float32), rng.standard_normal(weight, np.float32)
    whole = conv.conv2d(x, w, None, *geometry)
    spoiled = x.copy()
    spoiled[0, 0, 0, 0] = np.nan  # recomputed another way
    np.testing.assert_array_equal(conv.conv2d(spoiled, w, None, *geometry)[1:], whole[1:])
    np.testing.assert_array_equal(conv.conv2d(x[-1:], w, None, *geometry), whole[-1:])


def test_winograd_is_as_exact_as_the_sums() -> None:
    """Against float64, the largest error of F(2 × 2, 3 × 3) is no larger than twice that of the reference's products."""
    image, weight, *geometry = (4, 32, 26, 26), (64, 32, 3, 3), (1, 1), ZERO, (1, 1), 1
    rng = np.random.default_rng(0)
    x, w, gradient = (rng.standard_normal(shape) for shape in (image, weight, output_shape(image, weight, *geometry)))
    for kernel, args in [
        (conv.conv2d, (x, w, None)),
        (conv.conv2d_backward_input, (gradient, w, image)),
        (conv.conv2d_backward_weight, (gradient, x, weight)),
    ]:
        last = (False,) if kernel is conv.conv2d_backward_weight else ()
        single = [a.astype(np.float32) if isinstance(a, np.ndarray) else a for a in args]
        exact, ours, sums = (
            f(*a, *geometry, *last) for f, a in [(kernel, args), (kernel, single), (lambda *a, k=kernel: k.reference(np, *a), single)]
        )
        exact, ours, sums = (result[0] if isinstance(result, tuple) else result for result in (exact, ours, sums))
        errors = [np.abs(result - exact).max() / np.abs(exact).max() for result in (ours, sums)]
        assert errors[0] <= max(2 * errors[1], 8 * np.finfo(np.float32).eps), (kernel, errors)


DECLINED: dict[str, Any] = {
    "integers": (np.ones((2, 3, 5, 5), np.int32), np.ones((4, 3, 3, 3), np.int32), None, (1, 1), ZERO, (1, 1), 1),
    "mixed": (np.ones((2, 3, 5, 5)), np.ones((4, 3, 3, 3), np.float32), None, (1, 1), ZERO, (1, 1), 1),
    "no images": (np.ones((0, 3, 5, 5)), np.ones((4, 3, 3, 3)), None, (1, 1), ZERO, (1, 1), 1),
    "no channels": (np.ones((2, 0, 5, 5)), np.ones((4, 0, 3, 3)), None, (1, 1), ZERO, (1, 1), 1),
    "channels": (np.ones((2, 3, 5, 5)), np.ones((4, 2, 3, 3)), None, (1, 1), ZERO, (1, 1), 1),
    "groups": (np.ones((2, 3, 5, 5)), np.ones((4, 1, 3, 3)), None, (1, 1), ZERO, (1, 1), 3),
    "no groups": (np.ones((2, 3, 5, 5)), np.ones((4, 3, 3, 3)), None, (1, 1), ZERO, (1, 1), 0),
    "bias": (np.ones((2, 3, 5, 5)), np.ones((4, 3, 3, 3)), np.ones(3), (1, 1), ZERO, (1, 1), 1),
    "size": (np.ones((2, 3, 2, 5)), np.ones((4, 3, 3, 3)), None, (1, 1), ZERO, (1, 1), 1),
    "stride": (np.ones((2, 3, 5, 5)), np.ones((4, 3, 3, 3)), None, (0, 1), ZERO, (1, 1), 1),
    "dilation": (np.ones((2, 3, 5, 5)), np.ones((4, 3, 3, 3)), None, (1, 1), ZERO, (1, 2**40), 1),
    "padding": (np.ones((2, 3, 5, 5)), np.ones((4, 3, 3, 3)), None, (1, 1), ((-3, 0), (0, 0)), (1, 1), 1),
    "three dimensions": (np.ones((3, 5, 5)), np.ones((4, 3, 3, 3)), None, (1, 1), ZERO, (1, 1), 1),
}


@pytest.mark.parametrize("name", DECLINED)
def test_declines_what_does_not_fit(name: str) -> None:
    assert conv.conv2d.overrides["numpy"](*DECLINED[name]) is NotImplemented


def test_declines_gradients_that_do_not_fit() -> None:
    x, w, geometry = np.ones((2, 3, 5, 5)), np.ones((4, 3, 3, 3)), ((1, 1), ZERO, (1, 1), 1)
    for shape in [(2, 4, 3, 4), (2, 5, 3, 3), (1, 4, 3, 3), (2, 4, 3)]:
        assert conv.conv2d_backward_input.overrides["numpy"](np.ones(shape), w, x.shape, *geometry) is NotImplemented
        assert conv.conv2d_backward_weight.overrides["numpy"](np.ones(shape), x, w.shape, *geometry, True) is NotImplemented
