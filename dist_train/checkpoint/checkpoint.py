"""`Checkpoint`: saves the objects of a training run into a directory, and restores the newest good state from it."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

from ..comm import world
from ..comm.base import Communicator
from .agreement import on_all, on_root, together
from .background import Background
from .directory import find_steps
from .objects import saved_object
from .restoring import Found, find_newest, load
from .saving import Snapshot, take_snapshot, write

_NOT_SAVED = "no checkpoint was saved"


class CheckpointWarning(UserWarning):
    """A damaged checkpoint was skipped, or a resumed run may differ in its last bits."""


class Checkpoint:
    """Checkpoints of the objects given by keyword, in `directory`, of which the `keep` newest stay (None: all).

    An object is an optimizer from `distribute`, anything with state_dict() and load_state_dict() (a module, a loader, a
    scheduler), or a dict or list of plain values, which is restored in place. A checkpoint is data, never code: tensors
    in safetensors files, the rest in a JSON manifest with every file's checksum. Any number of ranks can restore it.

    `save`, `restore` and `wait` are collective: every rank calls them, and they succeed or raise on all ranks alike.
    """

    def __init__(self, directory: str | os.PathLike[str], *, keep: int | None = 3, **objects: Any) -> None:
        if keep is not None and keep < 1:
            raise ValueError(f"keep={keep}: at least 1 checkpoint has to be kept (None keeps all)")
        if not objects:
            raise ValueError('nothing to save: give the objects by keyword, as in Checkpoint("runs/a", model=model)')
        self.directory = Path(os.path.abspath(directory))
        self.keep = keep
        self._objects = {name: saved_object(name, target) for name, target in objects.items()}
        self._comm: Communicator | None = None
        self._background_comm: Communicator | None = None
        self._background: Background | None = None
        self._worthless: set[Path] = set()

    @property
    def comm(self) -> Communicator:
        """The communicator of the job, asked for when it is first needed."""
        if self._comm is None:
            self._comm = world()
        return self._comm

    def steps(self) -> list[int]:
        """The steps that `directory` holds a checkpoint of, in ascending order. Not collective."""
        return list(find_steps(self.directory))

    def save(self, wait: bool = True) -> None:
        """Save the present state under the number of steps the first optimizer has made; an equal number is replaced.

        Without an optimizer the checkpoints are numbered from 1. With `wait=False` the state is copied now and written
        in the background; the next save, restore or wait, or the end of the program, waits for it and raises its error.

        Raises OSError (disk full, no permission) on every rank if any rank fails; the checkpoints before stay whole.
        Raises ValueError if `directory` holds a later step which `restore` did not find damaged: it is another run's.
        """
        self.wait()
        snapshot = Snapshot()
        reports = on_all(self.comm, lambda: self._capture(snapshot), _NOT_SAVED)
        step = on_root(self.comm, lambda: self._checked_step(reports), _NOT_SAVED)
        snapshot.drop_what_others_write(reports, self.comm.rank)
        if wait:
            self._warn(write(self.comm, self.directory, step, snapshot, self.keep))
        else:
            together(self.comm, snapshot.detach, _NOT_SAVED)
            self._write_in_background(step, snapshot)

    def restore(self) -> int | None:
        """Load the newest checkpoint that is whole, whatever the number of ranks that wrote it, and return its step.

        Returns None if there is no checkpoint. A truncated, altered or unfinished one is skipped with a warning that
        names the file.

        Raises ValueError, naming the first difference, for a checkpoint of another model, optimizer or set of objects,
        which changes nothing; RuntimeError if there are checkpoints but none is whole; OSError if they cannot be read.
        """
        self.wait()
        found = find_newest(self.comm, self.directory)
        if found is None:
            return None
        try:
            load(self.comm, found, self._objects)
        finally:
            self._warn(found.messages())
        self._worthless = found.worthless()
        self._warn_of_threads(found)
        return found.manifest.step

    def wait(self) -> None:
        """Return when the save in the background, if there is one, is complete; raise its error if it failed."""
        background, self._background = self._background, None
        if background is not None:
            self._warn(background.join())

    def _capture(self, snapshot: Snapshot) -> dict[str, Any]:
        take_snapshot(snapshot, self._objects, self.comm)
        return snapshot.report()

    def _checked_step(self, reports: list[dict[str, Any]]) -> int:
        steps = [report["steps"] for report in reports]
        step: int | None = steps[0]
        existing = find_steps(self.directory)
        if step is None:
            return max(existing, default=0) + 1
        for rank, other in enumerate(steps):
            if other != step:
                raise ValueError(f"the optimizer has made {step} steps on rank 0 and {other} on rank {rank}")
        later = [number for number, path in existing.items() if number > step and path not in self._worthless]
        if later:
            raise ValueError(
                f"{self.directory} holds step {later[-1]}, later than the step {step} to be saved: call restore() "
                "before training to go on from there, or use another directory"
            )
        return step

    def _write_in_background(self, step: int, snapshot: Snapshot) -> None:
        if self._background_comm is None:
            self._background_comm = self.comm.duplicate()  # once: MPI has a limited number of them
        comm, directory, keep = self._background_comm, self.directory, self.keep
        self._background = Background(comm, lambda: write(comm, directory, step, snapshot, keep))

    def _warn(self, messages: list[str]) -> None:
        for message in messages if self.comm.rank == 0 else []:
            warnings.warn(message, CheckpointWarning, stacklevel=3)

    def _warn_of_threads(self, found: Found) -> None:
        saved, here = found.manifest.threads, self.comm.threads
        if saved != here and self.comm.rank == 0:
            warnings.warn(
                f"the checkpoint {found.path} was written with {saved} BLAS threads per rank, this run has {here}: its "
                "last bits may differ from those of an uninterrupted run",
                CheckpointWarning,
                stacklevel=3,
            )
