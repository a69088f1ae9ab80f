"""Downloading published files: from the first mirror that has them, checked, and written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_CHUNK = 1 << 16
_PATIENCE = 30.0  # seconds without a byte


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold `folder` (made if missing) for this process: of many ranks that want the same files, one downloads them."""
    import fcntl

    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError:
            pass  # a file system without locks: each process downloads for itself, which is safe and only slower
        yield
    finally:
        os.close(handle)


def download(name: str, mirrors: Sequence[str], checksum: str, folder: Path) -> Path:
    """Fetch `name` into `folder` from the first of `mirrors` (URLs that end in /) that gives the file with `checksum`.

    `checksum` is "md5:…" or "sha256:…". Raises RuntimeError that says what went wrong at each mirror.
    """
    from http.client import HTTPException

    failures = []
    for mirror in mirrors:
        try:
            return _fetch(mirror + name, checksum, folder / name)
        except (OSError, HTTPException, ValueError) as error:
            failures.append(f"\n  {mirror}{name}: {error or type(error).__name__}")
    raise RuntimeError(f"could not download {name}; put the published file into {folder} by hand{''.join(failures)}")


def write_atomically(path: Path, chunks: Iterator[bytes]) -> None:
    """Write a file that appears whole or not at all."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            for chunk in chunks:
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _fetch(url: str, checksum: str, path: Path) -> Path:
    from urllib.request import urlopen

    with urlopen(url, timeout=_PATIENCE) as response:
        write_atomically(path, _checked(_chunks(response, path.name), checksum))
    return path


def _chunks(response: Any, name: str) -> Iterator[bytes]:
    """The response's bytes, with a bar on one line where somebody looks at a terminal."""
    from tqdm import tqdm

    length = response.headers.get("Content-Length")
    total = int(length) if length else None
    with tqdm(total=total, desc=name, unit="B", unit_scale=True, disable=None) as bar:
        while chunk := response.read(_CHUNK):
            bar.update(len(chunk))
            yield chunk


def _checked(chunks: Iterator[bytes], checksum: str) -> Iterator[bytes]:
    """The chunks; ValueError at their end when they do not have the checksum."""
    import hashlib

    algorithm, _, expected = checksum.partition(":")
    digest, size = hashlib.new(algorithm, usedforsecurity=False), 0
    for chunk in chunks:
        digest.update(chunk)
        size += len(chunk)
        yield chunk
    if digest.hexdigest() != expected:
        raise ValueError(f"the {size} bytes received have {algorithm} {digest.hexdigest()}, the published file has {expected}")
