"""Re-slicing: any range of a saved flat vector, put together from the files of the ranks that wrote it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .manifest import Shards, Slice, array_name
from .tensor_file import TensorFile


class SavedVectors:
    """The flat vectors of one saved optimizer; a file is opened when a range of it is asked for."""

    def __init__(self, directory: Path, entry: Shards) -> None:
        self._directory, self._entry = directory, entry
        self._files: dict[str, TensorFile] = {}

    def read(self, part: int, vector: str, start: int, stop: int) -> NDArray[Any]:
        """Elements start … stop − 1 of the saved vector, as a new array.

        Raises ValueError for a part, vector or range that was not saved.
        """
        self._check(part, vector, start, stop)
        pieces = [self._piece(piece, part, vector, start, stop) for piece in self._ordered(part)]
        found = [piece for piece in pieces if piece is not None]
        return found[0] if len(found) == 1 else np.concatenate([np.empty(0, self._entry.parts[part].dtype), *found])

    def _check(self, part: int, vector: str, start: int, stop: int) -> None:
        if not 0 <= part < len(self._entry.parts):
            raise ValueError(f"part {part} of {len(self._entry.parts)} saved parts")
        saved = self._entry.parts[part]
        if vector not in saved.vectors:
            raise ValueError(f"part {part} has no saved vector {vector!r}, only {saved.vectors}")
        if not 0 <= start <= stop <= saved.length:
            raise ValueError(f"range {start} … {stop} of the {saved.length} saved elements of part {part}")

    def _ordered(self, part: int) -> list[Slice]:
        return sorted(self._entry.slices, key=lambda piece: piece.ranges[part])

    def _piece(self, piece: Slice, part: int, vector: str, start: int, stop: int) -> NDArray[Any] | None:
        first, last = piece.ranges[part]
        low, high = max(first, start), min(last, stop)
        if low >= high:
            return None
        file = self._file(piece.file)
        assert file.holds(array_name(part, vector), self._entry.parts[part].dtype, (last - first,))  # checked before
        return file.read_range(array_name(part, vector), low - first, high - first)

    def _file(self, name: str) -> TensorFile:
        if name not in self._files:
            self._files[name] = TensorFile(self._directory / name, name)
        return self._files[name]
