"""The part of the fold that crosses ranks: partial sums travel to the owner of each slice, who adds them in the order of the tree."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

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

    def reduce(self, flat: FlatGradient, partials: Sequence[Array]) -> Array:
        """This rank's slice of the sum over all micro-batches, from this rank's partial sums (one a span, left to right).

        The result lies in one of the vectors. It goes bucket by bucket, so the buffers stay small; buckets change no bit.
        """
        if self.spans[self.comm.rank] == [self.whole]:
            return partials[0][flat.start : flat.stop]
        result = flat.gradient[flat.start : flat.stop]
        spans = [span for rank in self.spans for span in rank]
        bucket = max(BLOCK, bucket_bytes() // (flat.dtype.itemsize * len(spans)))
        for done in range(0, max(flat.counts), bucket):
            rows = self._exchange(flat, partials, done, bucket)
            result[done : done + bucket] = combine(dict(zip(spans, rows)), self.whole, _add)
        return result

    def _exchange(self, flat: FlatGradient, partials: Sequence[Array], done: int, bucket: int) -> Array:
        """All ranks' partial sums of elements `done` … `done + bucket` of this rank's slice: (partial sums, elements)."""
        lengths = [min(bucket, max(0, count - done)) for count in flat.counts]
        starts = np.cumsum([0, *flat.counts[:-1]]) + done
        xp = array_module(flat.gradient)
        send = xp.concatenate([array[start : start + n] for start, n in zip(starts, lengths) for array in partials])
        own = lengths[self.comm.rank]
        incoming = [len(spans) * own for spans in self.spans]
        receive = xp.empty(sum(incoming), flat.dtype)
        self.comm.exchange(send, [len(partials) * n for n in lengths], receive, incoming)
        return receive.reshape(-1, own) if own else xp.empty((sum(map(len, self.spans)), 0), flat.dtype)


def _add(left: Array, right: Array) -> Array:
    kernels.add_into(left, right)
    return left


def bucket_bytes() -> int:
    """How many bytes of partial sums a rank receives at a time (DIST_TRAIN_BUCKET_BYTES; it changes no result)."""
    return int(os.environ.get("DIST_TRAIN_BUCKET_BYTES", 32 * 2**20))
