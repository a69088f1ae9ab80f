"""Loading one epoch's micro-batches: with random numbers of their own, into memory that is used again."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from ...random import Generator, drawing_from
from .buffers import Buffers, reusing
from .micro_batch import MicroBatch


class Loading:
    """Called with a micro-batch that holds samples or their indices, in any thread: puts there what `batch_of` makes of them.

    What a data set draws while it loads comes from a stream of (seed, epoch, step, micro-batch).
    """

    def __init__(self, batch_of: Callable[[Any], Any], seed: int, epoch: int, buffers: Buffers) -> None:
        self._batch_of, self._epoch = batch_of, epoch
        self._thread = _Thread(seed, buffers)

    def __call__(self, piece: MicroBatch) -> MicroBatch:
        generator, drawing, reusing = self._thread.own
        generator.rekey("load", self._epoch, piece.step, piece.index)
        with drawing, reusing:
            piece.batch = self._batch_of(piece.batch)
        return piece


class _Thread(threading.local):
    """What each thread has of its own."""

    def __init__(self, seed: int, buffers: Buffers) -> None:
        generator = Generator().manual_seed(seed)
        self.own = generator, drawing_from(generator), reusing(buffers)
