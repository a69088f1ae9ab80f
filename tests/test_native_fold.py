"""The compiled reduction kernels have the bits of their references."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from native_cases import SITUATIONS, Case, check_case, needs_native

from dist_train.backend.reference import fold

pytestmark = needs_native

# a source alone, two, three, four, and a right subtree that waits
TREES = [(0,), (0, 1), (0, 1, 1), (0, 1, 0, 2), (0, 0, 0, 3), (0, 1, 0, 2, 0, 1, 2)]


def scaled(size: int, factor: float) -> Case:
    def make(rng: np.random.Generator, dtype: Any) -> Any:
        source = rng.standard_normal(size).astype(dtype)
        return [source, factor, np.empty_like(source)], {}

    return Case(f"{size}-{factor}", fold.scale, make, exact=True)


def folded(blocks: int, additions: tuple[int, ...], weight: float, squares: bool) -> Case:
    def make(rng: np.random.Generator, dtype: Any) -> Any:
        rows = [rng.standard_normal(blocks * fold.BLOCK).astype(dtype) for _ in additions]
        weights = [weight + i for i in range(len(rows))]
        return [np.empty_like(rows[0]), rows, weights, additions, np.empty(blocks) if squares else None], {}

    return Case(f"{blocks}-{additions}-{weight}-{squares}", fold.fold_blocks, make, exact=True)


def taken(size: int, count: int, first: int) -> Case:
    def make(rng: np.random.Generator, dtype: Any) -> Any:
        return [rng.standard_normal(size), rng.integers(0, size, count), np.empty(count), first], {}

    return Case(f"{size}-{count}-{first}", fold.take_and_sum, make, dtypes=("float64",))


CASES = [taken(*sizes) for sizes in ((1, 0, 0), (1, 1, 0), (9, 30, 0), (40, 30, 7), (9, 30, 30), (5000, 4000, 12))]
CASES += [scaled(size, factor) for size in (0, 1, 17, 70_001) for factor in (1.0, 0.3)]
CASES += [folded(b, tree, w, s) for b in (0, 1, 70) for tree in TREES for w, s in ((1.0, True), (0.3, True), (0.3, False))]


@pytest.mark.parametrize("situation", SITUATIONS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_agrees(case: Case, situation: str) -> None:
    check_case(case, situation)


@pytest.mark.parametrize("weight", [1.0, 0.7])
def test_the_sum_may_be_one_of_the_sources(weight: float) -> None:
    first, second = np.random.default_rng(0).standard_normal((2, 3 * fold.BLOCK)).astype(np.float32)
    expected, squares = np.empty_like(first), np.empty(3)
    fold.fold_blocks(expected, [first, second], [weight, 1.0], (0, 1), None)
    fold.fold_blocks(second, [first, second], [weight, 1.0], (0, 1), squares)
    assert second.tobytes() == expected.tobytes()
    np.testing.assert_allclose(squares, (expected.astype(float).reshape(3, -1) ** 2).sum(axis=1))


def test_what_is_no_tree_is_refused() -> None:
    rows = [np.zeros(fold.BLOCK, np.float32)] * 2
    for additions in ((0, 0), (1, 0), (0,)):
        with pytest.raises(ValueError, match="no tree over the sources"):
            fold.fold_blocks(np.zeros(fold.BLOCK, np.float32), rows, [1.0, 1.0], additions, None)
