"""The place in the data: which epoch, how many of its global batches are done, and where the next iteration begins."""

from __future__ import annotations


class Place:
    """Moves with the newest iteration; an older iterator that is still alive moves nothing."""

    def __init__(self) -> None:
        self.epoch = 0  # completed epochs, which is the number of the epoch that runs or comes next
        self.position = 0  # global batches of the epoch that were handed out completely
        self._fresh = True  # the next iteration begins here; else it begins the epoch after this one
        self._iteration = 0

    def begin(self) -> int:
        """An iteration begins; returns its number."""
        if not self._fresh:
            self.move(self.epoch + 1)
        self._fresh = False
        self._iteration += 1
        return self._iteration

    def reach(self, iteration: int, position: int) -> None:
        if iteration == self._iteration:
            self.position = position

    def finish(self, iteration: int) -> None:
        """The iteration came to the end of its epoch."""
        if iteration == self._iteration:
            self.move(self.epoch + 1)

    def move(self, epoch: int, position: int = 0) -> None:
        """Let the next iteration begin there."""
        self.epoch, self.position, self._fresh = epoch, position, True
        self._iteration += 1

    def set_epoch(self, epoch: int) -> None:
        """Let the next iteration be that of `epoch`, from its beginning or where it was to resume in that epoch."""
        if epoch < 0:
            raise ValueError(f"epoch has to be at least 0, not {epoch}")
        if not (self._fresh and epoch == self.epoch):
            self.move(epoch)
