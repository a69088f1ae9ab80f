"""The directory of checkpoints: the names in it, and the renames that make one appear and disappear as a whole.

step-00000120/              a checkpoint; its name exists only while it is complete
step-00000120.replaced/     what it replaced; counts as the checkpoint if a crash kept the new one from its name
.step-00000130.1f8a02c3.tmp/   a checkpoint being written or deleted, or what a killed job left of it
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from .files import sync_directory

_STEP = re.compile(r"step-(\d{8,18})(\.replaced)?")
_TEMPORARY = re.compile(r"\.step-\d{8,18}\.[0-9a-f]{8}\.tmp")


def step_name(step: int) -> str:
    return f"step-{step:08d}"


def find_steps(root: Path) -> dict[int, Path]:
    """The checkpoints under `root` by step, oldest first; none if `root` does not exist.

    Raises PermissionError or NotADirectoryError if `root` cannot be listed.
    """
    try:
        names = _step_names(root)
    except FileNotFoundError:
        return {}
    # In reverse "….replaced" comes before its successor, which takes its place.
    by_step = {int(_STEP.fullmatch(name)[1]): root / name for name in sorted(names, reverse=True)}  # type: ignore[index]
    return dict(sorted(by_step.items()))


def _step_names(root: Path) -> list[str]:
    matches = [match for match in map(_STEP.fullmatch, os.listdir(root)) if match]
    return [match[0] for match in matches if match[0].startswith(step_name(int(match[1])))]


@contextlib.contextmanager
def temporary_directory(root: Path, step: int) -> Iterator[Path]:
    """A new directory for the checkpoint of `step`, removed on error; its lock tells others that it is in use."""
    _make_directory(root)
    path = _temporary_path(root, step)
    path.mkdir()
    lock = _try_lock(path)
    try:
        yield path
    except BaseException:
        shutil.rmtree(path, ignore_errors=True)
        raise
    finally:
        if lock is not None:
            os.close(lock)


def _make_directory(path: Path) -> None:
    """Create a directory and those it lies in, to stay."""
    if not path.is_dir():
        _make_directory(path.parent)
        path.mkdir(exist_ok=True)
        sync_directory(path.parent)


def _temporary_path(root: Path, step: int) -> Path:
    return root / f".{step_name(step)}.{secrets.token_hex(4)}.tmp"


def _try_lock(path: Path) -> int | None:
    """A descriptor that holds the lock of `path` until it is closed or its process dies; None if another holds it."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno == errno.EWOULDBLOCK:
            os.close(descriptor)
            return None
        # A file system without locks: nothing can be told from them.
    return descriptor


def commit(temporary: Path, step: int) -> None:
    """Give a complete checkpoint its name, in the place of one of the same step."""
    sync_directory(temporary)
    target = temporary.with_name(step_name(step))
    replaced = target.with_name(f"{target.name}.replaced")
    if os.path.lexists(target):
        remove(replaced)
        os.rename(target, replaced)
    os.rename(temporary, target)
    sync_directory(target.parent)


def discard(path: Path, step: int) -> None:
    """Delete a checkpoint: first its name, at once, then its files. Nothing happens if it does not exist."""
    if os.path.lexists(path):
        doomed = _temporary_path(path.parent, step)
        os.rename(path, doomed)
        remove(doomed)


def remove(path: Path) -> None:
    """Delete whatever is at `path`, without following a symbolic link."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def prune(root: Path, step: int, keep: int | None) -> None:
    """After `step` was saved: delete later ones, all but the `keep` newest, and what replaced or killed saves left."""
    steps = find_steps(root)
    kept = [steps[number] for number in steps if number <= step][-(keep or 0) :]
    for name in _step_names(root):
        if root / name not in kept:
            discard(root / name, step)
    for name in filter(_TEMPORARY.fullmatch, os.listdir(root)):
        _remove_dead(root / name)


def _remove_dead(path: Path) -> None:
    try:
        lock = _try_lock(path)
    except (NotADirectoryError, FileNotFoundError):
        return
    if lock is not None:
        with contextlib.suppress(FileNotFoundError):
            remove(path)
        os.close(lock)
