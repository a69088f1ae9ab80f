"""The compiled kernel for images has the bits of its reference, and leaves to it what it does not know."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from native_cases import SITUATIONS, Case, check_case, needs_native

from dist_train.backend.reference.image import normalized_samples

pytestmark = needs_native

MNIST = [0.1307], [0.3081]
COLOURS = [0.4914, 0.4822, 0.4465], [0.2470, 0.2435, 0.2616]


def case(name: str, images: tuple[int, ...], values: Any, count: int = 5, targets: bool = True) -> Case:
    """`values`: mean and std; indices of both signs."""

    def make(rng: np.random.Generator, dtype: Any) -> Any:
        pixels = rng.integers(0, 256, images, dtype=np.uint8)
        indices = rng.integers(-images[0], images[0], count if images[0] else 0)
        return [pixels, indices, *(np.array(part, dtype) for part in values), rng.integers(0, 10, images[0]) if targets else None], {}

    return Case(f"{name}-{images}", normalized_samples, make, exact=True, dtypes=("float32",))


CASES = [
    case("mnist", (7, 28, 28), MNIST, 200),
    case("unchanged", (7, 28, 28), ([0.0], [1.0])),
    case("no targets", (7, 28, 28), MNIST, targets=False),
    case("no images", (0, 28, 28), MNIST),
    case("no indices", (3, 28, 28), MNIST, 0),
    case("no pixels", (3, 0, 28), MNIST),
    case("one pixel", (3, 1, 1), MNIST),
    case("odd", (3, 13, 17), MNIST),
    case("fewer pixels than lanes", (3, 1, 7), MNIST),
    case("lanes and a rest", (3, 3, 9), MNIST),
    case("lines, lanes and a rest", (20, 9, 17), MNIST, 40),  # 153 = 2 * 64 + 16 + 8 + 1
    case("long rows", (3, 129, 129), MNIST),  # nothing is fetched ahead
    case("fetched ahead", (1500, 28, 28), MNIST, 40),  # more than the caches hold
    case("colours fetched ahead", (500, 28, 28, 3), COLOURS, 20),
    case("one channel", (3, 5, 9, 1), MNIST),
    case("three channels", (4, 32, 32, 3), COLOURS, 60),
    case("one mean for three channels", (4, 32, 32, 3), MNIST),
    case("one mean for three deviations", (4, 9, 9, 3), ([0.5], COLOURS[1])),
    case("four channels", (2, 40, 40, 4), ([0.1, 0.2, 0.3, 0.4], [1.0, -0.5, 0.25, 2.0])),
    case("more than a piece", (2, 70, 70, 3), COLOURS),
    case("no products", (2, 16, 16), ([0.0], [1e-39])),  # its reciprocal is infinite
]


@pytest.mark.parametrize("situation", SITUATIONS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_agrees(case: Case, situation: str) -> None:
    check_case(case, situation)


def test_every_pixel_with_many_constants() -> None:
    """Products stand for quotients only where they have their bits."""
    rng = np.random.default_rng(0)
    pixels, row = np.arange(256, dtype=np.uint8).reshape(1, 16, 16), np.zeros(1, np.int64)
    for mean, std in rng.uniform(-1, 1, (2000, 2)).astype(np.float32):
        values = np.array([mean]), np.array([std])
        expected = normalized_samples.reference(np, pixels, row, *values, None)
        assert normalized_samples(pixels, row, *values, None)[0].tobytes() == expected[0].tobytes(), (mean, std)


@pytest.mark.parametrize("size", [1, 7, 8, 15, 16, 17, 63, 64, 65, 80, 255, 784])
def test_every_pixel_at_every_place(size: int) -> None:
    """A line, the lanes after it and what is left have one arithmetic."""
    pixels = (np.arange(256)[:, None] + np.arange(size)).astype(np.uint8).reshape(256, 1, size)
    rows = np.random.default_rng(0).permutation(256)
    for mean, std in zip([0.1307, 0.0, 0.5, -2.5], [0.3081, 1.0, 0.5, 3e-3]):
        values = np.array([mean], np.float32), np.array([std], np.float32)
        expected = normalized_samples.reference(np, pixels, rows, *values, None)
        assert normalized_samples(pixels, rows, *values, None)[0].tobytes() == expected[0].tobytes()


DECLINED: dict[str, Any] = {
    "floats": {"images": np.zeros((2, 4, 4), np.float32)},
    "flat images": {"images": np.zeros((2, 4), np.uint8)},
    "not contiguous": {"images": np.zeros((2, 4, 8), np.uint8)[..., ::2]},
    "many channels": {"images": np.zeros((2, 4, 4, 17), np.uint8)},
    "32-bit indices": {"indices": np.zeros(3, np.int32)},
    "two-dimensional indices": {"indices": np.zeros((3, 1), np.int64)},
    "beyond the end": {"indices": np.array([0, 2])},
    "before the beginning": {"indices": np.array([0, -3])},
    "double mean": {"mean": np.zeros(1)},
    "two means": {"mean": np.zeros(2, np.float32)},
    "two targets for three images": {"images": np.zeros((3, 4, 4), np.uint8)},
    "32-bit targets": {"targets": np.zeros(2, np.int32)},
    "every other target": {"targets": np.zeros(4, np.int64)[::2]},
}


@pytest.mark.parametrize("change", DECLINED.values(), ids=list(DECLINED))
def test_declines(change: dict[str, Any]) -> None:
    arguments = {
        "images": np.zeros((2, 4, 4), np.uint8),
        "indices": np.zeros(3, np.int64),
        "mean": np.zeros(1, np.float32),
        "std": np.ones(1, np.float32),
        "targets": np.zeros(2, np.int64),
    }
    override = normalized_samples.overrides["numpy"]
    assert override(**arguments) is not NotImplemented
    assert override(**(arguments | change)) is NotImplemented


def test_an_index_out_of_bounds_is_an_error() -> None:
    constants = np.zeros(1, np.float32), np.ones(1, np.float32)
    with pytest.raises(IndexError, match="index 2 is out of bounds for axis 0 with size 2"):
        normalized_samples(np.zeros((2, 4, 4), np.uint8), np.array([0, 2]), *constants, np.zeros(2, np.int64))
