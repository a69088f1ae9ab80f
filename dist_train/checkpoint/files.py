"""Durable files: written once, checksummed while they are written, flushed to disk, put in place by one rename."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import os
import secrets
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

Chunk = bytes | memoryview
CHUNK_BYTES = 1 << 22


class DamagedFileError(ValueError):
    """A file is truncated, altered, or not what its name says."""


@dataclass(frozen=True)
class FileRecord:
    """The size in bytes and the SHA-256 (hexadecimal) of a file."""

    size: int
    sha256: str


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Name `path` in an OSError: a failed write or flush does not know which file it was for."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error


def write_new(path: Path, chunks: Iterable[Chunk], mode: int = 0o666) -> FileRecord:
    """Create `path`, write all chunks, flush them to disk; FileExistsError if something is there already."""
    with naming(path):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "wb") as file:
            record = _write_hashed(file, chunks)
            file.flush()
            os.fsync(file.fileno())
    return record


def _write_hashed(file: IO[bytes], chunks: Iterable[Chunk]) -> FileRecord:
    size, digest = 0, hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
        size += file.write(chunk)
    return FileRecord(size, digest.hexdigest())


def sync_directory(path: Path) -> None:
    """Flush the directory's entries, so that a created or renamed name survives a power failure."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network file systems cannot flush a directory; they make names durable themselves.
        if error.errno != errno.EINVAL:
            raise
    finally:
        os.close(descriptor)


def replace_file(path: Path, chunks: Iterable[Chunk]) -> None:
    """Write `path` so that it holds at any moment either all of the old content or all of the new."""
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():
        _write_through(target, chunks)
    else:
        _write_and_rename(target, chunks)


def _write_and_rename(target: Path, chunks: Iterable[Chunk]) -> None:
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    try:
        write_new(temporary, chunks)
        _copy_permissions(target, temporary)
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(target.parent)


def _write_through(path: Path, chunks: Iterable[Chunk]) -> None:
    # A pipe or a device such as /dev/null must not be renamed over.
    with open(path, "wb") as file:
        for chunk in chunks:
            file.write(chunk)


def _copy_permissions(source: Path, target: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        target.chmod(stat.S_IMODE(source.stat().st_mode))


def open_regular(path: Path) -> io.FileIO:
    """Open `path` for reading, refusing symbolic links, directories, pipes and devices."""
    try:
        # O_NONBLOCK: opening a pipe that nobody writes to would wait for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise DamagedFileError(f"{path.name} is a symbolic link, which a checkpoint never contains") from None
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise DamagedFileError(f"{path.name} is not a regular file")
    return io.FileIO(descriptor)


def check_file(path: Path, record: FileRecord) -> None:
    """Raise DamagedFileError unless the file at `path` has the recorded size and SHA-256."""
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size != record.size:
            raise DamagedFileError(f"{path.name} has {size} bytes instead of {record.size}")
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != record.sha256:
        raise DamagedFileError(f"{path.name} has the SHA-256 {found[:12]}… instead of {record.sha256[:12]}…")
