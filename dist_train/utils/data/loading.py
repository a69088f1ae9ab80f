"""Loading one epoch's micro-batches, with random numbers of their own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from ...random import Generator
from ...random import of_thread as drawing
from .micro_batch import MicroBatch


class Loading:
    """Loads micro-batches in any thread. What a data set draws while it loads comes from a stream of (seed, epoch, step, micro-batch)."""

    def __init__(self, batch_of: Callable[[Any], Any], seed: int, epoch: int) -> None:
        self._batch_of, self._epoch = batch_of, epoch
        self._thread = _Thread(seed)

    def load(self, piece: MicroBatch) -> MicroBatch:
        """Put into `piece`, which holds samples or their indices, what `batch_of` makes of them."""
        generator = self._thread.generator
        generator.rekey("load", self._epoch, piece.step, piece.index)
        before, drawing.generator = drawing.generator, generator
        try:  # written out: a context would cost a twentieth of loading a small batch
            piece.batch = self._batch_of(piece.batch)
        except StopIteration as error:
            raise RuntimeError("loading a batch raised StopIteration, which would end the epoch") from error
        finally:
            drawing.generator = before
        return piece


class _Thread(threading.local):
    """What each thread has of its own."""

    def __init__(self, seed: int) -> None:
        self.generator = Generator().manual_seed(seed)
