"""Reading idx files, the format of MNIST.

Two zero bytes, a type, the number of dimensions, their sizes as big-endian 32-bit integers, and the values.
"""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import IO, Any

import numpy as np

Array = np.ndarray[Any, Any]

_UINT8 = 8
_CHUNK = 1 << 20
_BEST_DEFLATE = 1032  # deflate cannot pack more bytes than this into one


def read_idx(path: Path, ndim: int) -> Array:
    """The uint8 array of `ndim` dimensions in an idx file, gzipped when its name ends in .gz.

    Raises RuntimeError that names the file when it is damaged or something else.
    """
    try:
        with _open(path) as file:
            return _read(file, ndim, path)
    except PermissionError:
        raise
    except (EOFError, zlib.error, OSError, ValueError) as error:
        raise RuntimeError(f"{path} is damaged ({error}): delete it and get it again, for example with download=True") from error


def _open(path: Path) -> Any:
    if path.suffix != ".gz":
        return path.open("rb")
    import gzip

    return gzip.open(path, "rb")


def _read(file: IO[bytes], ndim: int, path: Path) -> Array:
    shape = _shape(file.read(4 + 4 * ndim), ndim)
    size = int(np.prod(shape, dtype=object))
    if size > path.stat().st_size * _BEST_DEFLATE:  # before memory is asked for
        raise ValueError(f"its header promises {size} bytes of data, more than a file of its size can hold")
    array = np.empty(shape, np.uint8)
    found = _fill(array.reshape(-1), file)
    if found != size or file.read(1):
        raise ValueError(f"its header promises {size} bytes of data, it holds {found if found < size else 'more'}")
    return array


def _shape(header: bytes, ndim: int) -> tuple[int, ...]:
    if len(header) < 4 + 4 * ndim:
        raise ValueError(f"it ends within its header, after {len(header)} bytes")
    magic = int.from_bytes(header[:4], "big")
    expected = _UINT8 << 8 | ndim
    if magic != expected:
        raise ValueError(f"its magic number is {magic}, not {expected}")
    return tuple(int(size) for size in np.frombuffer(header, ">u4", ndim, offset=4))


def _fill(array: Array, file: IO[bytes]) -> int:
    """Read until the 1-D array is full or the file ends; returns the number of bytes."""
    found = 0
    while data := file.read(min(_CHUNK, len(array) - found)):
        array[found : found + len(data)] = np.frombuffer(data, np.uint8)
        found += len(data)
    return found
