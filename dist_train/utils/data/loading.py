"""Loading one epoch's micro-batches: with random numbers of their own, into memory that is used again."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from ...random import Generator
from ...random import of_thread as drawing
from .buffers import Buffers
from .buffers import of_thread as memory
from .micro_batch import MicroBatch


class Loading:
    """Called with a micro-batch that holds samples or their indices, in any thread: puts there what `batch_of` makes of them.

    What a data set draws while it loads comes from a stream of (seed, epoch, step, micro-batch).
    """

    def __init__(self, batch_of: Callable[[Any], Any], seed: int, epoch: int, buffers: Buffers) -> None:
        self._batch_of, self._epoch, self._buffers = batch_of, epoch, buffers
        self._thread = _Thread(seed)

    def __call__(self, piece: MicroBatch) -> MicroBatch:
        generator = self._thread.generator
        generator.rekey("load", self._epoch, piece.step, piece.index)
        before = drawing.generator, memory.buffers
        drawing.generator, memory.buffers = generator, self._buffers
        try:  # written out: contexts would cost a tenth of loading a small batch
            piece.batch = self._batch_of(piece.batch)
        except StopIteration as error:
            raise RuntimeError("loading a batch raised StopIteration, which would end the epoch") from error
        finally:
            drawing.generator, memory.buffers = before
        return piece


class _Thread(threading.local):
    """What each thread has of its own."""

    def __init__(self, seed: int) -> None:
        self.generator = Generator().manual_seed(seed)
