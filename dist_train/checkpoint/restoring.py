"""Finding the newest good checkpoint and loading it, on all ranks together: no rank decides alone."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from ..comm.base import Communicator
from . import manifest
from .agreement import on_all, on_root, together
from .directory import find_steps
from .files import DamagedFileError, check_file
from .manifest import FutureFormatError, Manifest, Shards, State
from .objects import Saved, StateObject
from .structure import Leaf
from .tensor_file import TensorFile

T = TypeVar("T")


@dataclass
class Found:
    """The newest checkpoint that is whole, and why newer ones were skipped."""

    path: Path
    manifest: Manifest
    skipped: dict[Path, DamagedFileError] = field(default_factory=dict)

    def messages(self) -> list[str]:
        return [f"skipped the checkpoint {path}: {reason}" for path, reason in self.skipped.items()]

    def worthless(self) -> set[Path]:
        """What may be deleted: not a checkpoint that a newer version of dist_train can read."""
        return {path for path, reason in self.skipped.items() if not isinstance(reason, FutureFormatError)}


def find_newest(comm: Communicator, root: Path) -> Found | None:
    """The newest checkpoint under `root` whose files are all whole; None if there is none at all.

    Raises RuntimeError if there are some and none of them is whole, OSError if they cannot be read.
    """
    context = f"the checkpoints in {root} cannot be read"
    candidates = on_root(comm, lambda: [(step, str(path)) for step, path in find_steps(root).items()], context)
    skipped: dict[Path, DamagedFileError] = {}
    for step, path in reversed(candidates):
        opened = _open(comm, Path(path), step, context)
        if isinstance(opened, Manifest):
            return Found(Path(path), opened, skipped)
        skipped[Path(path)] = opened
    if skipped:
        raise RuntimeError(_none_left(root, skipped))
    return None


def _none_left(root: Path, skipped: dict[Path, DamagedFileError]) -> str:
    lines = "".join(f"\n  {path.name}: {reason}" for path, reason in skipped.items())
    return f"no checkpoint in {root} is whole; to begin anew, move them away or use another directory{lines}"


def _open(comm: Communicator, path: Path, step: int, context: str) -> Manifest | DamagedFileError:
    """The manifest of a checkpoint that is whole, or what is wrong with it; the same on every rank."""
    text, reason = on_root(comm, lambda: _or_reason(lambda: manifest.read_text(path)), context)
    if text is None:
        return DamagedFileError(str(reason))
    try:
        content = manifest.parse(text, step)
    except DamagedFileError as error:
        return error
    reasons = on_all(comm, lambda: _or_reason(lambda: _check_share(comm, path, content))[1], context)
    return next((DamagedFileError(reason) for reason in reasons if reason), content)


def _or_reason(work: Callable[[], T]) -> tuple[T | None, str | None]:
    """The result of `work` and None, or None and what is damaged. Other errors are errors."""
    try:
        return work(), None
    except DamagedFileError as error:
        return None, str(error)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.EIO):
            raise
        return None, f"{os.path.basename(error.filename or 'a file')}: {error.strerror}"


def _check_share(comm: Communicator, path: Path, content: Manifest) -> None:
    """Check every size-th file, largest first, so that the ranks share the work about evenly."""
    expected = manifest.expected_arrays(content)
    files = sorted(content.files, key=lambda name: (-content.files[name].size, name))
    for name in files[comm.rank :: comm.size]:
        check_file(path / name, content.files[name])
        _check_arrays(TensorFile(path / name, name), expected.get(name, []))


def _check_arrays(file: TensorFile, expected: list[Leaf]) -> None:
    for leaf in expected:
        if not file.holds(leaf.name, leaf.dtype, leaf.shape):
            raise DamagedFileError(f"{file.name} lacks {leaf.name!r}, {leaf.dtype} of shape {leaf.shape}")


def load(comm: Communicator, found: Found, objects: Mapping[str, Saved[Any]]) -> None:
    """Load the checkpoint into the objects.

    Everything is checked before anything is changed: ValueError names the first difference, on every rank.
    """
    together(comm, lambda: _check(found.manifest, objects), f"the checkpoint {found.path} does not fit")
    undo: list[Callable[[], None]] = []
    try:
        together(comm, lambda: _load(found, objects, undo), f"the checkpoint {found.path} could not be loaded")
    except Exception:
        for action in reversed(undo):
            action()
        raise


def _check(content: Manifest, objects: Mapping[str, Saved[Any]]) -> None:
    for name in [*objects, *content.objects]:
        if name not in content.objects:
            raise ValueError(f"it does not hold {name!r}, only {', '.join(content.objects)}")
        if name not in objects:
            raise ValueError(f"it holds {name!r}, which was not given to Checkpoint; give it, or read single files with load()")
        if type(content.objects[name]) is not objects[name].entry_type:
            raise ValueError(f"{name!r} was saved as another kind of object than {type(objects[name].target).__name__}")
    # Optimizers first: their shard() is collective (it compares the ranks' parameters).
    for saved in sorted(objects.values(), key=lambda saved: saved.entry_type is not Shards):
        saved.check(content.objects[saved.name])


def _load(found: Found, objects: Mapping[str, Saved[Any]], undo: list[Callable[[], None]]) -> None:
    entries = found.manifest.objects
    # A module last: nothing about it is left to fail. Plain values first: a loader may still refuse them, and they can be
    # taken back if an optimizer refuses its state afterwards.
    for saved in sorted(objects.values(), key=lambda saved: _stage(entries[saved.name])):
        if isinstance(saved, StateObject) and _stage(entries[saved.name]) == 0:
            undo.append(saved.undo())
        saved.load(found.path, entries[saved.name])


def _stage(entry: State | Shards) -> int:
    if isinstance(entry, Shards):
        return 1
    return 0 if entry.file is None else 2
