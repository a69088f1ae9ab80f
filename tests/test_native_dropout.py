"""The compiled dropout has the bits of its reference, whose random numbers are Philox's."""

from __future__ import annotations

import numpy as np
import pytest
from native_cases import SITUATIONS, Case, check_case, needs_native

from dist_train.backend.reference import dropout as kernels

SHAPES = [(0,), (1,), (7,), (16,), (1023,), (3, 5, 70), (40_003,), (200_003,)]
KEYS = [0, 1, 2**32 + 1, 2**64 - 1]


def case(shape: tuple[int, ...], key: int, p: float) -> Case:
    return Case(
        f"{shape}-{key}-{p}",
        kernels.dropout,
        lambda rng, dtype: ([rng.standard_normal(shape).astype(dtype), key, p], {}),
        exact=True,
    )


CASES = [
    *[case(shape, 12345, 0.1) for shape in SHAPES],
    *[case((1000,), key, 0.5) for key in KEYS],
    *[case((1000,), 3, p) for p in (0.0, 1e-3, 1 / 3, 0.999, 1.0)],
]


@needs_native
@pytest.mark.parametrize("situation", SITUATIONS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_agrees(case: Case, situation: str) -> None:
    check_case(case, situation)


@needs_native
def test_declines() -> None:
    call = kernels.dropout.overrides["numpy"]
    for x, p in ((np.ones(3, "float16"), 0.5), (np.ones(3), 1.5), (np.ones(3), np.nan)):
        assert call(x, 0, p) is NotImplemented


def test_words_are_philoxs() -> None:
    """The first block of key 0: the known answer that the generator's authors publish."""
    assert [hex(word) for word in kernels.random_words(np, 4, 0).tolist()] == ["0x5f6fb709", "0xd893f64", "0x4f121f81", "0x4f730a48"]


def test_words_are_the_elements() -> None:
    """Word e does not depend on how many there are; those of one key, and of neighbouring keys, are not correlated."""
    words = kernels.random_words(np, 300_001, 7)
    np.testing.assert_array_equal(words[:1001], kernels.random_words(np, 1001, 7))
    uniform = [kernels.random_words(np, 100_000, key) / 2**32 for key in (7, 8, 7 + 2**32)]
    for place, first in enumerate(uniform):
        assert abs(first.mean() - 0.5) < 0.005 and abs(first.var() - 1 / 12) < 0.002
        assert all(abs(np.corrcoef(first, other)[0, 1]) < 0.015 for other in uniform[:place])
        assert all(abs(np.corrcoef(first[:-lag], first[lag:])[0, 1]) < 0.015 for lag in (1, 2, 3, 4, 8))
