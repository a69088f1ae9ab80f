"""The fixed fold, on its own: one order of additions, however the leaves are spread over ranks."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dist_train.backend.reference.fold import BLOCK, fold_blocks
from dist_train.distributed.fold import additions, held, local_additions, middle, num_vectors, share
from dist_train.distributed.record import _levels


def reference(leaves):
    """The definition, word by word."""
    if len(leaves) == 1:
        return leaves[0]
    mid = 1
    while mid * 2 < len(leaves):
        mid *= 2
    return reference(leaves[:mid]) + reference(leaves[mid:])


def run(program, values):
    """What a program of additions leaves on its stack."""
    stack = []
    for value, count in zip(values, program, strict=True):
        stack.append(value)
        for _ in range(count):
            stack[-2:] = [stack[-2] + stack[-1]]
    return stack


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
    leaves = list(np.random.default_rng(seed).standard_normal((count, BLOCK)).astype(np.float32) * 1e3)
    spans, partials = [], []
    for rank in range(size):
        part = share(rank, size, count)
        spans += held(part, count)
        partials += run(local_additions(part, count), leaves[slice(*part)])
    program = additions(spans, (0, count))
    result = np.empty(BLOCK, np.float32)
    fold_blocks(result, partials, [1.0] * len(partials), program, None)
    assert result.tobytes() == reference(leaves).tobytes()
    rows = np.array(partials)
    for left, right in _levels(program):
        rows[left] += rows[right]
    assert rows[0].tobytes() == result.tobytes()


@pytest.mark.parametrize("count", [1, 2, 3, 8, 12, 31])
def test_a_rank_holds_one_vector_a_level(count):
    assert num_vectors((0, count), count) <= count.bit_length()
    assert held((0, count), count)[-1] == (count - 1, count)
    assert num_vectors((5, 6), 9) == 1
