"""The fixed fold: V micro-batch values are added in one order, whatever the number of ranks.

`fold(lo, hi)` is the leaf if it holds one, else `fold(lo, mid) + fold(mid, hi)` with mid = lo + the largest power of two below hi - lo.
A rank adds up the subtrees that lie within its share but for the last leaf; the rest of the tree is added where all partial sums meet.
"""

from __future__ import annotations

from collections.abc import Sequence

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


def held(part: Span, micro_batches: int) -> list[Span]:
    """The partial sums that a rank ends up with, left to right: its last leaf stays as backward leaves it."""
    return [*subtrees((part[0], part[1] - 1), (0, micro_batches)), (part[1] - 1, part[1])]


def additions(spans: Sequence[Span], root: Span) -> list[int]:
    """The tree over `root` as a program for a stack: after each of `spans`, put onto it from left to right, how often the two topmost
    sums are added."""
    given, counts = set(spans), []

    def visit(lo: int, hi: int) -> None:
        if (lo, hi) in given:
            counts.append(0)
            return
        mid = middle(lo, hi)
        visit(lo, mid)
        visit(mid, hi)
        counts[-1] += 1

    visit(*root)
    return counts


def local_additions(part: Span, micro_batches: int) -> list[int]:
    """The same for a rank's own leaves, which make several trees; its last leaf waits."""
    roots = held(part, micro_batches)
    return [count for lo, hi in roots for count in additions([(leaf, leaf + 1) for leaf in range(lo, hi)], (lo, hi))]


def num_vectors(part: Span, micro_batches: int) -> int:
    """How many vectors a rank needs: number 0 for what backward writes, number k + 1 for the k-th partial sum."""
    depth = most = 0
    for count in local_additions(part, micro_batches)[:-1]:
        depth += 0 if count else 1
        most = max(most, depth)
        depth -= max(0, count - 1)
    return 1 + most


def merged(parts: Sequence[Span]) -> list[Span]:
    """The runs of consecutive leaves that several shares have together."""
    runs: list[Span] = []
    for lo, hi in sorted(parts):
        if runs and runs[-1][1] == lo:
            runs[-1] = (runs[-1][0], hi)
        else:
            runs.append((lo, hi))
    return runs
