"""The safetensors file format: named arrays behind a JSON header, written as a stream and read by byte range.

A file is 8 bytes with the header's length (little-endian), the header, and the arrays' bytes without gaps. The header
is a JSON object from each name to its "dtype", "shape" and "data_offsets", with strings about the file under
"__metadata__" (https://github.com/huggingface/safetensors). That library reads our files and we read its files. We
write them ourselves to checksum in the same pass and to learn of a full disk as an OSError, and read them ourselves to
fetch a range of a vector without mapping into memory a file that may shrink.
"""

from __future__ import annotations

import io
import json
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from .files import CHUNK_BYTES, Chunk, DamagedFileError

MAX_HEADER_BYTES = 100_000_000  # the limit of the safetensors library: it would refuse to read a longer header
_CODES = {
    "float64": "F64",
    "float32": "F32",
    "float16": "F16",
    "complex64": "C64",
    "int64": "I64",
    "int32": "I32",
    "int16": "I16",
    "int8": "I8",
    "uint64": "U64",
    "uint32": "U32",
    "uint16": "U16",
    "uint8": "U8",
    "bool": "BOOL",
}
_DTYPES = {code: np.dtype(name).newbyteorder("<") for name, code in _CODES.items()}


def stream(arrays: Mapping[str, NDArray[Any]], metadata: Mapping[str, str]) -> Iterator[Chunk]:
    """Yield the bytes of a file which holds `arrays` and `metadata`; TypeError for a type the format does not have."""
    order = file_order(arrays)
    yield _header({name: arrays[name] for name in order}, metadata)
    for name in order:
        yield from array_chunks(arrays[name])


def file_order(arrays: Mapping[str, NDArray[Any]]) -> list[str]:
    """The names in the order of their data: wide types first, which keeps every array aligned, then by name."""
    return sorted(arrays, key=lambda name: (-arrays[name].dtype.itemsize, name))


def array_chunks(array: NDArray[Any]) -> Iterator[Chunk]:
    """The array's elements as little-endian bytes in C order."""
    flat = np.asarray(array, dtype=array.dtype.newbyteorder("<"), order="C").reshape(-1).view(np.uint8)
    for start in range(0, flat.size, CHUNK_BYTES):
        yield flat.data[start : start + CHUNK_BYTES]


def type_code(where: str, dtype: np.dtype[Any]) -> str:
    """The format's code of a NumPy type; TypeError, saying where it is, for a type it does not have."""
    if dtype.name not in _CODES:
        raise TypeError(f"{where} has type {dtype}, which cannot be stored; convert it to one of {', '.join(_CODES)}")
    return _CODES[dtype.name]


def _header(arrays: Mapping[str, NDArray[Any]], metadata: Mapping[str, str]) -> bytes:
    entries: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    offset = 0
    for name, array in arrays.items():
        code, end = type_code(name, array.dtype), offset + array.nbytes
        entries[name] = {"dtype": code, "shape": list(array.shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(entries, separators=(",", ":")).encode("ascii")
    if len(text) > MAX_HEADER_BYTES:
        raise ValueError(
            f"names, shapes and plain values take {len(text)} bytes, more than the {MAX_HEADER_BYTES} a safetensors "
            "header may have; store large lists of numbers as arrays"
        )
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


@dataclass(frozen=True)
class Entry:
    """Where one array lies: its type code, shape, and byte range from the start of the data."""

    code: str
    shape: tuple[int, ...]
    start: int
    stop: int

    @property
    def size(self) -> int:
        return math.prod(self.shape)


class TensorFile:
    """A safetensors file (a path or its bytes): the header is read and checked here, arrays when asked for.

    Raises DamagedFileError where header and size do not fit together. No file stays open between reads.
    """

    def __init__(self, source: Path | bytes, name: str) -> None:
        self._source, self.name = source, name
        with self._open() as file:
            size = file.seek(0, os.SEEK_END)
            header = self._read_header(file, size)
        self.metadata = _checked_metadata(header.pop("__metadata__", {}), self.name)
        self.entries = {key: _checked_entry(key, value, self.name) for key, value in header.items()}
        self._check_tiling(size - self._data_start)

    def _open(self) -> IO[bytes]:
        return io.BytesIO(self._source) if isinstance(self._source, bytes) else open(self._source, "rb", buffering=0)

    def _read_header(self, file: IO[bytes], size: int) -> dict[str, Any]:
        file.seek(0)
        length = int.from_bytes(file.read(8), "little")
        self._data_start = 8 + length
        if size < 8 or length > MAX_HEADER_BYTES or self._data_start > size:
            raise DamagedFileError(f"{self.name} is truncated or not a safetensors file ({size} bytes)")
        return _parse_object(_read_exactly(file, bytearray(length), self.name), self.name)

    def _check_tiling(self, data_bytes: int) -> None:
        offset = 0
        for key in self.in_file_order():
            if self.entries[key].start != offset:
                raise DamagedFileError(f"{self.name}: the data of {key!r} does not begin where the one before ends")
            offset = self.entries[key].stop
        if offset != data_bytes:
            raise DamagedFileError(f"{self.name} holds {data_bytes} bytes of data instead of {offset}; is it truncated?")

    def in_file_order(self) -> list[str]:
        return sorted(self.entries, key=lambda key: (self.entries[key].start, self.entries[key].stop))

    def dtype(self, key: str) -> np.dtype[Any]:
        """The array's NumPy type; TypeError for a type that NumPy does not have."""
        code = self.entries[key].code
        if code not in _DTYPES:
            raise TypeError(f"{self.name}: {key!r} has type {code}, which NumPy does not have; convert it to F32 first")
        return _DTYPES[code]

    def holds(self, key: str, dtype: str, shape: tuple[int, ...]) -> bool:
        """Whether there is an array of this name, type and shape."""
        entry = self.entries.get(key)
        return entry is not None and (entry.code, entry.shape) == (_CODES.get(dtype), shape)

    def read(self, key: str) -> NDArray[Any]:
        """The whole array, in its shape."""
        return self.read_range(key, 0, self.entries[key].size).reshape(self.entries[key].shape)

    def read_range(self, key: str, start: int, stop: int) -> NDArray[Any]:
        """Elements start … stop − 1 of the flattened array; only their bytes are read."""
        entry, dtype = self.entries[key], self.dtype(key)
        assert 0 <= start <= stop <= entry.size, (key, start, stop, entry.size)
        elements = np.empty(stop - start, dtype)
        with self._open() as file:
            file.seek(self._data_start + entry.start + start * dtype.itemsize)
            _read_exactly(file, elements.view(np.uint8), self.name)
        return elements.astype(dtype.newbyteorder("="), copy=False)


def _read_exactly(file: IO[bytes], buffer: Any, name: str) -> Any:
    view, done = memoryview(buffer), 0
    while done < len(view):  # one system call moves at most 2 GiB
        count = file.readinto(view[done:])  # type: ignore[attr-defined]
        if not count:
            raise DamagedFileError(f"{name} ends {len(view) - done} bytes early")
        done += count
    return buffer


def _parse_object(text: bytearray, name: str) -> dict[str, Any]:
    try:
        parsed = json.loads(text.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise DamagedFileError(f"{name} has an unreadable header: {error}") from None
    if not isinstance(parsed, dict):
        raise DamagedFileError(f"{name} has a header that is no JSON object")
    return parsed


def _checked_metadata(value: Any, name: str) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise DamagedFileError(f"{name} has metadata that are not strings")
    return value


def _checked_entry(key: str, value: Any, name: str) -> Entry:
    try:
        code, shape, (start, stop) = value["dtype"], tuple(value["shape"]), value["data_offsets"]
    except (TypeError, KeyError, ValueError):
        raise DamagedFileError(f"{name}: the entry of {key!r} is unreadable") from None
    if not isinstance(code, str) or not _are_counts((*shape, start, stop)) or len(shape) > 32:
        raise DamagedFileError(f"{name}: the entry of {key!r} has a wrong type, shape or offset")
    entry = Entry(code, shape, start, stop)
    if code in _DTYPES and stop - start != entry.size * _DTYPES[code].itemsize:
        raise DamagedFileError(f"{name}: {key!r} of shape {shape} and type {code} cannot take {stop - start} bytes")
    return entry


def _are_counts(values: tuple[Any, ...]) -> bool:
    return all(type(value) is int and 0 <= value < 2**48 for value in values)
