"""The part of the fold that crosses ranks: the owner of each slice gets its partial sums and adds them in the order of the tree.

Within a node nothing travels: the owner reads the other ranks' vectors. Between nodes only what the node has added up travels, over lanes:
a rank exchanges with the ranks of its own place in the other nodes, and handles their slices for its node.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..backend.device import array_module
from ..backend.reference import fold as kernels
from ..backend.reference.fold import BLOCK
from ..comm.base import Communicator
from .flat import FlatGradient
from .fold import Span, additions, held, merged, share, subtrees

Array = Any


@dataclass(frozen=True)
class _Source:
    """A partial sum: `vector` is of the flat layout; `factor` is the rank of the node whose factor it is to be multiplied by, or None."""

    span: Span
    vector: Array
    factor: int | None = None


class _Fold:
    """Adds up part of the vectors of `sources`, which cover `span`, into `out`."""

    def __init__(self, out: Array, sources: Sequence[tuple[_Source, Array]], span: Span, squares: Array | None) -> None:
        ordered = sorted(sources, key=lambda pair: pair[0].span)
        self._out, self._squares = out, squares
        self._arrays = [part for _, part in ordered]
        self._factors = [source.factor for source, _ in ordered]
        self._additions = additions([source.span for source, _ in ordered], span)

    def run(self, factors: Sequence[float]) -> None:
        weights = [1.0 if rank is None else factors[rank] for rank in self._factors]
        kernels.fold_blocks(self._out, self._arrays, weights, self._additions, self._squares)


@dataclass(frozen=True)
class _Piece:
    """A part of this rank's slice, with what it sends and receives for it: per round (vector, starts, counts, memory, counts)."""

    rounds: list[tuple[Array, list[int], list[int], Array, list[int]]]
    fold: _Fold


class SliceReduction:
    """Reduces the gradients of `flat` over the ranks of `comm`, whose shares of V micro-batches fix which partial sums there are.

    `lane` is the layout's lane or a duplicate of it; this rank receives at most some `nbytes` at a time. The sums of squares of the slice's
    blocks go to `squares` (float64, on the host), where it is given.
    """

    def __init__(
        self, flat: FlatGradient, comm: Communicator, micro_batches: int, lane: Communicator, nbytes: int, squares: Array | None = None
    ) -> None:
        self.flat, self.whole, self._squares = flat, (0, micro_batches), squares
        self._lane, self._nbytes = lane, nbytes
        layout = flat.layout
        shares = [share(rank, comm.size, micro_batches) for rank in range(comm.size)]
        owners = [ranks[layout.node.rank] for ranks in layout.nodes]  # the ranks of this lane
        self._starts, self._counts = [flat.starts[rank] for rank in owners], [flat.counts[rank] for rank in owners]
        self._partials: list[_Source] = []  # of this node
        for place, rank in enumerate(layout.nodes[layout.lane.rank]):
            *sums, last = held(shares[rank], micro_batches)
            self._partials += [_Source(span, vector) for span, vector in zip(sums, flat.vectors[place][1:])]
            self._partials.append(_Source(last, flat.vectors[place][0], place))
        parts = [merged([shares[rank] for rank in ranks]) for ranks in layout.nodes]
        self._spans = [[span for part in node for span in subtrees(part, self.whole)] for node in parts]  # each node's sums
        self._node_folds = [fold for span in self._spans[layout.lane.rank] for fold in self._folds_for_others(span)]
        self._pieces = self._cut()

    def _within(self, span: Span) -> list[_Source]:
        return [source for source in self._partials if span[0] <= source.span[0] and source.span[1] <= span[1]]

    def _folds_for_others(self, span: Span) -> list[_Fold]:
        """What makes this node's sum over `span` of the slices of the lane's other ranks: in the vector of its first partial sum."""
        sources, own = self._within(span), self.flat.layout.lane.rank
        slices = [slice(start, start + count) for start, count in zip(self._starts, self._counts)]
        return [
            _Fold(sources[0].vector[part], [(source, source.vector[part]) for source in sources], span, None)
            for place, part in enumerate(slices)
            if place != own
        ]

    def _cut(self) -> list[_Piece]:
        """The slice in pieces, so that the memory for what comes from other nodes stays small."""
        flat, lane = self.flat, self._lane
        others = [node for node in range(lane.size) if node != lane.rank]
        rows = sum(len(self._spans[node]) for node in others)
        longest = max(self._counts)
        step = longest if not rows else max(1, self._nbytes // (flat.dtype.itemsize * rows * BLOCK)) * BLOCK
        memory = array_module(flat.gradient).empty(rows * min(step, longest), flat.dtype)
        return [self._piece(done, step, others, memory) for done in range(0, max(longest, 1), max(step, 1))]

    def _piece(self, done: int, step: int, others: list[int], memory: Array) -> _Piece:
        flat, lane = self.flat, self._lane
        lengths = [min(step, max(0, count - done)) for count in self._counts]
        starts = [start + min(done, count) for start, count in zip(self._starts, self._counts)]
        own = slice(starts[lane.rank], starts[lane.rank] + lengths[lane.rank])
        sources = [(source, source.vector[own]) for source in self._partials]
        sums = [self._within(span)[0].vector for span in self._spans[lane.rank]]
        rounds, filled = [], 0
        for k in range(max(len(self._spans[node]) for node in range(lane.size)) if others else 0):
            outgoing = [0 if node == lane.rank or k >= len(sums) else length for node, length in enumerate(lengths)]
            incoming = [0] * lane.size
            begin = filled
            for node in others:
                if k < len(self._spans[node]):
                    incoming[node] = lengths[lane.rank]
                    sources.append((_Source(self._spans[node][k], None), memory[filled : filled + lengths[lane.rank]]))
                    filled += lengths[lane.rank]
            rounds.append((sums[min(k, len(sums) - 1)], starts, outgoing, memory[begin:filled], incoming))
        squares = self._squares if self._squares is None else self._squares[done // BLOCK : (done + lengths[lane.rank]) // BLOCK]
        return _Piece(rounds, _Fold(flat.gradient[own], sources, self.whole, squares))

    def reduce(self, factors: Sequence[float]) -> None:
        """Make this rank's slice of its gradient the sum over all micro-batches; `factors` are those of the node's ranks' last leaves.

        The node's ranks call it after all of them have written their gradients, and write to them again when all have finished it.
        """
        for fold in self._node_folds:
            fold.run(factors)
        for piece in self._pieces:
            for outgoing in piece.rounds:
                self._lane.exchange(*outgoing)
            piece.fold.run(factors)

    def gather(self, vector: Array) -> None:
        """Complete a vector of which each rank of the node has written its slice, by the slices of the other nodes."""
        self._lane.gather_slices(vector, self._starts, self._counts)
