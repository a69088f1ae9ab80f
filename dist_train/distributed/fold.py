"""The fixed fold: V micro-batch values are added in one order, whatever the number of ranks.

`fold(lo, hi)` is the leaf if it holds one, else `fold(lo, mid) + fold(mid, hi)` with mid = lo + the largest power of two below hi - lo.
A rank adds up the subtrees that lie within its share; the rest of the tree is added where all partial sums meet.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

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


class LocalFold:
    """Adds this rank's leaves, given from left to right, like a binary counter; `partials` are the subtrees finished so far."""

    def __init__(self, micro_batches: int) -> None:
        self._siblings = _left_siblings(micro_batches)
        self.partials: list[tuple[Span, Array]] = []

    def merges(self, leaf: int) -> bool:
        """Whether the next leaf, number `leaf`, is added to a partial sum at once (its memory is then free again)."""
        return bool(self.partials) and self._siblings.get((leaf, leaf + 1)) == self.partials[-1][0]

    def add(self, leaf: int, array: Array) -> list[Array]:
        """Take in a leaf, whose memory now belongs to the fold; returns the arrays that are free again."""
        span: Span = (leaf, leaf + 1)
        free = []
        while self.partials and self._siblings.get(span) == self.partials[-1][0]:
            left, total = self.partials.pop()
            kernels.add_into(total, array)
            free.append(array)
            span, array = (left[0], span[1]), total
        self.partials.append((span, array))
        return free
