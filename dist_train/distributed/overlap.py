"""Reduction while backward still runs: a bucket goes on its way as soon as its gradients are final.

Backward makes gradients final from the end of the model to its beginning, so buckets are launched from the last to the first, on every rank
alike. A gradient is final in the last backward() of the rank's last micro-batch of a step. How many backward() calls a micro-batch has is
learned: nothing is launched before as many as any micro-batch had so far, and one more after that is an error, never a wrong sum.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from .flat import FlatGradient


class Overlap:
    """Calls `launch(number)` for each of `flats`, once a step, from the last to the first."""

    def __init__(self, flats: Sequence[FlatGradient], launch: Callable[[int], None]) -> None:
        self._launch = launch
        self._members = [[entry.parameter for entry in flat.entries] for flat in flats]
        self._bucket_of = {parameter: number for number, members in enumerate(self._members) for parameter in members}
        self._expected = 0  # backward() calls of a micro-batch, the most so far
        self._made = 0  # in the current one
        self.reset()

    def reset(self) -> None:
        """Begin a step."""
        self.waiting = len(self._members)  # buckets that are not launched yet
        self._missing: list[int] = []  # gradients of each bucket that are not final, from the first final one on

    @property
    def under_way(self) -> bool:
        """Whether a bucket of this step has been launched."""
        return self.waiting < len(self._members)

    def begin(self) -> None:
        """A micro-batch begins."""
        self._made = 0

    def gradient_final(self, parameter: Any, last: bool) -> None:
        """The current backward() adds no more to a gradient; `last`: it is one of the rank's last micro-batch of the step."""
        if self._made >= self._expected:
            self.refuse(f"backward() number {self._made + 1}")
        if not last or self._made + 1 != self._expected:
            return
        bucket = self._bucket_of[parameter]
        if bucket >= self.waiting:
            self.refuse("a parameter that began to require a gradient")
        if not self._missing:
            self._missing = [sum(member.requires_grad for member in members) for members in self._members]
        self._missing[bucket] -= 1
        while self.waiting and not self._missing[self.waiting - 1]:
            self.launch_next()

    def backward_done(self) -> None:
        """A backward() of the micro-batch is over."""
        self._made += 1

    def micro_batch_done(self) -> None:
        """The micro-batch has had all its backward() calls."""
        self._expected = max(self._expected, self._made)

    def launch_next(self) -> None:
        self.waiting -= 1
        self._launch(self.waiting)

    def launch_rest(self) -> None:
        """The gradients of the step are final."""
        while self.waiting:
            self.launch_next()

    def refuse(self, what: str) -> None:
        """RuntimeError where `what` changes gradients that are on their way."""
        if self.under_way:
            raise RuntimeError(
                f"{what} in a micro-batch, after at most {self._expected} backward() in those before: the step's gradients are on their "
                "way to other nodes. Make equally many backward() calls in every micro-batch and change no gradient after the last one, "
                "or set DIST_TRAIN_OVERLAP=0"
            )
