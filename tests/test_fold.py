"""The fixed fold, on its own: one order of additions, however the leaves are spread over ranks."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dist_train.distributed.fold import LocalFold, combine, middle, share, subtrees


def reference(leaves):
    """The definition, word by word."""
    if len(leaves) == 1:
        return leaves[0]
    mid = 1
    while mid * 2 < len(leaves):
        mid *= 2
    return reference(leaves[:mid]) + reference(leaves[mid:])


@pytest.mark.parametrize("count", range(1, 40))
def test_shares_are_consecutive_and_cover_all(count):
    for size in range(1, count + 1):
        shares = [share(rank, size, count) for rank in range(size)]
        assert [leaf for lo, hi in shares for leaf in range(lo, hi)] == list(range(count))
        assert all(hi > lo for lo, hi in shares)


def test_middle_is_the_largest_power_of_two_below():
    assert [middle(0, n) for n in range(2, 10)] == [1, 2, 2, 4, 4, 4, 4, 8]
    assert middle(8, 12) == 10


@given(st.integers(1, 33), st.integers(1, 33), st.integers(0, 2**32 - 1))
def test_any_spread_gives_the_bits_of_the_definition(count, size, seed):
    size = min(size, count)
    leaves = list(np.random.default_rng(seed).standard_normal((count, 3)).astype(np.float32) * 1e3)
    partials = {}
    for rank in range(size):
        part = share(rank, size, count)
        fold = LocalFold(count)
        for leaf in range(*part):
            fold.add(leaf, leaves[leaf].copy())
        assert [span for span, _ in fold.partials] == subtrees(part, (0, count))
        partials.update(fold.partials)
    assert combine(partials, (0, count), np.add).tobytes() == reference(leaves).tobytes()


@pytest.mark.parametrize("count", [1, 2, 3, 8, 12, 31])
def test_a_rank_holds_one_buffer_a_level(count):
    fold, held = LocalFold(count), 0
    for leaf in range(count):
        fold.add(leaf, np.ones(1))
        held = max(held, len(fold.partials))
    assert held <= count.bit_length()
    assert fold.partials == [((0, count), np.array([count]))]
