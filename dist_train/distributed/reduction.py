"""The part of the fold that crosses ranks: partial sums travel to the owner of each slice, who adds them in the order of the tree."""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from ..backend.device import array_module
from ..backend.reference import fold as kernels
from ..comm.base import Communicator
from .flat import BLOCK, FlatGradient
from .fold import Span, combine, share, subtrees

Array = Any


class SliceReduction:
    """Reduces flat gradients over the ranks of `comm`, whose shares of V micro-batches fix which partial sums each rank has."""

    def __init__(self, comm: Communicator, micro_batches: int) -> None:
        self.comm = comm
        self.whole: Span = (0, micro_batches)
        self.spans = [subtrees(share(rank, comm.size, micro_batches), self.whole) for rank in range(comm.size)]
        self._rounds = range(max(map(len, self.spans)))  # in round k every rank sends its k-th partial sum
        self._order = [spans[k] for k in self._rounds for spans in self.spans if k < len(spans)]
        self._received: dict[Any, Array] = {}  # a buffer per type

    def reduce(self, flat: FlatGradient, partials: Sequence[Array]) -> Array:
        """This rank's slice of the sum over all micro-batches, from this rank's partial sums (one a span, left to right).

        The result lies in one of the vectors. It goes bucket by bucket, so the buffer stays small; buckets change no bit.
        """
        if self.spans[self.comm.rank] == [self.whole]:
            return partials[0][flat.start : flat.stop]
        result = flat.gradient[flat.start : flat.stop]
        bucket = max(BLOCK, bucket_bytes() // (flat.dtype.itemsize * len(self._order)))
        for done in range(0, max(flat.counts), bucket):
            rows = self._exchange(flat, partials, done, bucket)
            result[done : done + bucket] = combine(dict(zip(self._order, rows)), self.whole, _add)
        return result

    def _exchange(self, flat: FlatGradient, partials: Sequence[Array], done: int, bucket: int) -> Array:
        """All ranks' partial sums of elements `done` … `done + bucket` of this rank's slice: (partial sums, elements)."""
        lengths = [min(bucket, max(0, count - done)) for count in flat.counts]
        starts = [start + min(done, count) for start, count in zip(accumulate(flat.counts, initial=0), flat.counts)]
        rows = self._buffer(flat, lengths[self.comm.rank])
        filled = 0
        for k in self._rounds:
            counts = lengths if k < len(partials) else [0] * self.comm.size
            incoming = [rows.shape[1] if k < len(spans) else 0 for spans in self.spans]
            part = rows.reshape(-1)[filled : filled + sum(incoming)]
            self.comm.exchange(partials[min(k, len(partials) - 1)], starts, counts, part, incoming)
            filled += part.size
        return rows

    def _buffer(self, flat: FlatGradient, length: int) -> Array:
        """(partial sums, length), the same memory in every step."""
        count = len(self._order) * length
        buffer = self._received.get(flat.dtype)
        if buffer is None or buffer.size < count:
            buffer = self._received[flat.dtype] = array_module(flat.gradient).empty(count, flat.dtype)
        return buffer[:count].reshape(len(self._order), length)


def _add(left: Array, right: Array) -> Array:
    kernels.add_into(left, right)
    return left


def bucket_bytes() -> int:
    """How many bytes of partial sums a rank receives at a time (DIST_TRAIN_BUCKET_BYTES; it changes no result)."""
    return int(os.environ.get("DIST_TRAIN_BUCKET_BYTES", 32 * 2**20))
