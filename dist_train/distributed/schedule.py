"""Where this rank is within a step: which micro-batch, of what weight, and whether it is the rank's last one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .. import random
from .fold import share


@dataclass(slots=True)  # not frozen: that makes one three times as slowly
class MicroBatch:
    """One of a step's V micro-batches. A ghost stands in for a share without samples: it runs, and nothing of it is counted."""

    index: int
    weight: float
    last: bool
    ghost: bool = False


class Schedule:
    """The micro-batches of this rank, the one that runs now (`current`), and what must happen when one begins.

    Random numbers are re-keyed at the beginning of each, so they depend on the micro-batch and never on the rank.
    """

    def __init__(self, micro_batches: int, rank: int, size: int) -> None:
        self.micro_batches = micro_batches
        self.share = share(rank, size, micro_batches)
        self.current: MicroBatch | None = None
        self.on_begin: list[Callable[[bool], None]] = []  # called with whether it is the rank's first of the step
        self.on_leave: list[Callable[[], None]] = []  # called when the loop is left, maybe in the middle of a step
        self.complete: Callable[[], None] = lambda: None  # does what the steps before have left to do
        self.steps = 0  # steps begun since the start of the program: the same on all ranks when they are in the same one
        self.begun = 0  # micro-batches of the step that have begun
        self._first = True

    def begin(self, micro_batch: MicroBatch, *key: int) -> None:
        """Enter a micro-batch; `key` identifies the step."""
        if self._first:
            self.complete()
            self.steps, self.begun = self.steps + 1, 0
        self.begun += 1
        for action in self.on_begin:
            action(self._first)
        self._first = micro_batch.last
        self.current = micro_batch
        random.default_generator.rekey("micro-batch", *key, micro_batch.index)

    def leave(self) -> None:
        """Leave the loop over the data; what has been done of an unfinished step is dropped."""
        self.current = None
        self._first = True
        for action in self.on_leave:
            action()

    def finish(self, *key: int) -> None:
        """Leave the loop over the data: random numbers are the same on all ranks again."""
        self.leave()
        random.default_generator.rekey("between", *key)


class FreeRunning:
    """Micro-batches without a loader: each ends with the optimizer's step, and all weigh the same."""

    def __init__(self, schedule: Schedule, steps: int) -> None:
        self.schedule = schedule
        self.restart(steps)

    def restart(self, steps: int) -> None:
        """Begin the step after `steps` steps, wherever this rank was."""
        self.steps = steps
        self.schedule.leave()
        self._begin(self.schedule.share[0])

    def advance(self) -> None:
        """The current micro-batch is over."""
        micro_batch = self.schedule.current
        assert micro_batch is not None
        self.steps += micro_batch.last
        self._begin(self.schedule.share[0] if micro_batch.last else micro_batch.index + 1)

    def _begin(self, index: int) -> None:
        self.schedule.begin(MicroBatch(index, 1.0, last=index == self.schedule.share[1] - 1), self.steps)
