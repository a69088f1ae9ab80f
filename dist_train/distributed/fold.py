"""The fixed fold: V micro-batch values are added in one order, whatever the number of ranks.

`fold(lo, hi)` is the leaf if it holds one, else `fold(lo, mid) + fold(mid, hi)` with mid = lo + the largest power of two below hi - lo.
A rank adds up the subtrees that lie within its share; the rest of the tree is added where all partial sums meet.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from ..backend.reference import fold as kernels

Array = Any
Span = tuple[int, int]  # leaves lo … hi - 1


def middle(lo: int, hi: int) -> int:
    """Where the span of two or more leaves is cut."""
    return lo + (1 << ((hi - lo - 1).bit_length() - 1))


def share(rank: int, size: int, micro_batches: int) -> Span:
    """The leaves of one rank."""
    return rank * micro_batches // size, (rank + 1) * micro_batches // size


def subtrees(part: Span, whole: Span) -> list[Span]:
    """The largest subtrees of the fold over `whole` that lie within `part`, from left to right."""
    lo, hi = whole
    if hi <= part[0] or part[1] <= lo:
        return []
    if part[0] <= lo and hi <= part[1]:
        return [whole]
    mid = middle(lo, hi)
    return subtrees(part, (lo, mid)) + subtrees(part, (mid, hi))


@lru_cache
def _left_siblings(micro_batches: int) -> dict[Span, Span]:
    """For each right child of the tree, the left child it is added to."""
    siblings: dict[Span, Span] = {}
    stack = [(0, micro_batches)]
    while stack:
        lo, hi = stack.pop()
        if hi - lo > 1:
            mid = middle(lo, hi)
            siblings[mid, hi] = (lo, mid)
            stack += [(lo, mid), (mid, hi)]
    return siblings


def combine(partials: dict[Span, Array], whole: Span, add: Callable[[Array, Array], Array]) -> Array:
    """Add partial sums that cover `whole` in the order of the tree."""
    if whole in partials:
        return partials[whole]
    lo, hi = whole
    mid = middle(lo, hi)
    return add(combine(partials, (lo, mid), add), combine(partials, (mid, hi), add))


def merged(parts: Sequence[Span]) -> list[Span]:
    """The runs of consecutive leaves that several shares have together."""
    runs: list[Span] = []
    for lo, hi in sorted(parts):
        if runs and runs[-1][1] == lo:
            runs[-1] = (runs[-1][0], hi)
        else:
            runs.append((lo, hi))
    return runs


def places(part: Span, micro_batches: int) -> list[int]:
    """In which of its vectors a rank keeps each of its partial sums (of `subtrees(part)`).

    The vector that backward writes is number 0: only a last leaf that is a partial sum of its own can stay there. Any other leaf that
    begins a partial sum, the k-th at that moment, is moved to vector k + 1.
    """
    spans = subtrees(part, (0, micro_batches))
    return [0 if span == (part[1] - 1, part[1]) else k + 1 for k, span in enumerate(spans)]


def num_vectors(part: Span, micro_batches: int) -> int:
    """How many vectors a rank needs for its gradient and its partial sums."""
    fold, most = LocalFold(micro_batches), 1
    for leaf in range(part[0], part[1] - 1):
        if not fold.merges(leaf):
            most = max(most, len(fold.partials) + 2)
        fold.add(leaf, np.zeros(0))
    return most


class LocalFold:
    """Adds this rank's leaves, given from left to right, like a binary counter; `partials` are the subtrees finished so far."""

    def __init__(self, micro_batches: int) -> None:
        self._siblings = _left_siblings(micro_batches)
        self.partials: list[tuple[Span, Array]] = []

    def merges(self, leaf: int) -> bool:
        """Whether the next leaf, number `leaf`, is added to a partial sum at once (its memory is then free again)."""
        return bool(self.partials) and self._siblings.get((leaf, leaf + 1)) == self.partials[-1][0]

    def add(self, leaf: int, value: Array) -> None:
        """Take in a leaf: added to the partial sum it belongs to, or else kept as the beginning of a new one."""
        span: Span = (leaf, leaf + 1)
        while self.partials and self._siblings.get(span) == self.partials[-1][0]:
            left, total = self.partials.pop()
            kernels.add_into(total, value)
            span, value = (left[0], span[1]), total
        self.partials.append((span, value))
