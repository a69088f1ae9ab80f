"""The part of the fold that crosses ranks: the owner of each slice gets its partial sums and adds them in the order of the tree.

Within a node nothing travels: the owner reads the other ranks' vectors. Between nodes only what the node has added up travels, over lanes:
a rank exchanges with the ranks of its own place in the other nodes, and handles their slices for its node.
"""

from __future__ import annotations

import os
from typing import Any

from ..backend.device import array_module
from ..backend.reference import fold as kernels
from ..comm.base import Communicator
from .flat import BLOCK, FlatGradient
from .fold import Span, combine, merged, places, share, subtrees

Array = Any


class SliceReduction:
    """Reduces the gradients of `flat` over the ranks of `comm`, whose shares of V micro-batches fix which partial sums there are."""

    def __init__(self, flat: FlatGradient, comm: Communicator, micro_batches: int) -> None:
        self.flat, self.whole = flat, (0, micro_batches)
        layout = flat.layout
        shares = [share(rank, comm.size, micro_batches) for rank in range(comm.size)]
        self._partials: dict[Span, Array] = {}  # the node's partial sums, by what they are sums of
        for rank, vectors in zip(layout.nodes[layout.lane.rank], flat.vectors):
            self._partials |= zip(subtrees(shares[rank], self.whole), [vectors[i] for i in places(shares[rank], micro_batches)])
        parts = [merged([shares[rank] for rank in ranks]) for ranks in layout.nodes]
        self._spans = [[span for part in node for span in subtrees(part, self.whole)] for node in parts]  # each node's sums
        self._sums = [self._leftmost(span) for span in self._spans[layout.lane.rank]]
        owners = [ranks[layout.node.rank] for ranks in layout.nodes]  # the ranks of this lane
        self._starts, self._counts = [flat.starts[rank] for rank in owners], [flat.counts[rank] for rank in owners]
        self._rounds = range(max(map(len, self._spans)))  # in round k every rank sends its node's k-th sum
        self._order = [spans[k] for k in self._rounds for spans in self._spans if k < len(spans)]
        self._received: Array = None

    def _leftmost(self, span: Span) -> Array:
        """The vector in which the node's sum over `span` is made: that of its first partial sum."""
        return next(vector for part, vector in self._partials.items() if part[0] == span[0])

    def reduce(self) -> Array:
        """This rank's slice of the sum over all micro-batches. It lies in one of the node's vectors.

        Everyone's vectors may be written again when all ranks have finished this.
        """
        flat = self.flat
        flat.layout.node.barrier()
        for start, count in zip(self._starts, self._counts):
            pieces = {span: vector[start : start + count] for span, vector in self._partials.items()}
            for span in self._spans[flat.layout.lane.rank]:
                combine(pieces, span, _add)
        if len(self._order) == 1:
            return self._sums[0][flat.start : flat.stop]
        return self._exchange()

    def _exchange(self) -> Array:
        """Send the node's sums along the lane and add up what comes, bucket by bucket, so that the buffer stays small."""
        flat = self.flat
        result = flat.gradient[flat.start : flat.stop]
        bucket = max(BLOCK, bucket_bytes() // (flat.dtype.itemsize * len(self._order)))
        for done in range(0, max(self._counts), bucket):
            rows = self._exchange_bucket(done, bucket)
            result[done : done + bucket] = combine(dict(zip(self._order, rows)), self.whole, _add)
        return result

    def _exchange_bucket(self, done: int, bucket: int) -> Array:
        """All nodes' sums over elements `done` … `done + bucket` of this rank's slice: (sums, elements)."""
        lane = self.flat.layout.lane
        lengths = [min(bucket, max(0, count - done)) for count in self._counts]
        starts = [start + min(done, count) for start, count in zip(self._starts, self._counts)]
        rows = self._buffer(lengths[lane.rank])
        filled = 0
        for k in self._rounds:
            counts = lengths if k < len(self._sums) else [0] * lane.size
            incoming = [rows.shape[1] if k < len(spans) else 0 for spans in self._spans]
            part = rows.reshape(-1)[filled : filled + sum(incoming)]
            lane.exchange(self._sums[min(k, len(self._sums) - 1)], starts, counts, part, incoming)
            filled += part.size
        return rows

    def _buffer(self, length: int) -> Array:
        """(sums, length), the same memory in every step."""
        count = len(self._order) * length
        if self._received is None or self._received.size < count:
            self._received = array_module(self.flat.gradient).empty(count, self.flat.dtype)
        return self._received[:count].reshape(len(self._order), length)

    def gather(self, vector: Array) -> None:
        """Complete a vector of which each rank of the node has written its slice, by the slices of the other nodes."""
        self.flat.layout.lane.gather_slices(vector, self._starts, self._counts)


def _add(left: Array, right: Array) -> Array:
    kernels.add_into(left, right)
    return left


def bucket_bytes() -> int:
    """How many bytes of partial sums a rank receives at a time (DIST_TRAIN_BUCKET_BYTES; it changes no result)."""
    return int(os.environ.get("DIST_TRAIN_BUCKET_BYTES", 32 * 2**20))
