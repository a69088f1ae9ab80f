"""manifest.json: what a checkpoint holds. Written last, sealed with its own SHA-256, and believed in nothing when read.

docs/checkpoint-format.md describes every field.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from .fields import Fields
from .files import DamagedFileError, FileRecord, open_regular
from .structure import Leaf, leaves

NAME = "manifest.json"
FORMAT, VERSION = "dist_train checkpoint", 1
MAX_BYTES = 1 << 28
_SEAL = ',\n "sha256": "'


class FutureFormatError(DamagedFileError):
    """The checkpoint was written in a newer format than this version reads."""


@dataclass(frozen=True)
class State:
    """An object's state_dict as structure.py encodes it; its tensors, if it has any, are in `file`."""

    state: Any
    file: str | None


@dataclass(frozen=True)
class Part:
    """One flat vector of parameters: where each lies (`table`), and the state vectors of the same length."""

    dtype: str
    length: int
    table: list[dict[str, Any]]
    vectors: list[str]


@dataclass(frozen=True)
class Slice:
    """What one rank wrote: its file, and the range [start, stop) it holds of every part."""

    file: str
    ranges: list[list[int]]


@dataclass(frozen=True)
class Shards:
    """An optimizer: its plain values (`extra`, encoded) and its flat vectors, cut into one slice per rank."""

    class_name: str
    extra: Any
    parts: list[Part]
    slices: list[Slice]


@dataclass(frozen=True)
class Manifest:
    step: int
    ranks: int
    threads: int
    micro_batches: int | None
    seed: int | None
    objects: dict[str, State | Shards]
    files: dict[str, FileRecord]
    created_by: str = field(default_factory=lambda: _creator())

    def to_text(self) -> str:
        """The JSON text, sealed."""
        objects = {name: {"kind": _kind(entry), **asdict(entry)} for name, entry in self.objects.items()}
        text = _seal({"format": FORMAT, "version": VERSION, **asdict(self), "objects": objects})
        if len(text) > MAX_BYTES:
            raise ValueError(f"the plain values take {len(text)} bytes, more than {MAX_BYTES}; store large lists of numbers as arrays")
        return text


def array_name(part: int, vector: str) -> str:
    """The name in a rank's file of its slice of a state vector."""
    return f"{part}.{vector}"


def expected_arrays(content: Manifest) -> dict[str, list[Leaf]]:
    """The arrays that each file must hold."""
    expected: dict[str, list[Leaf]] = {}
    for entry in content.objects.values():
        if isinstance(entry, Shards):
            expected |= {piece.file: _slice_arrays(entry, piece) for piece in entry.slices}
        elif entry.file is not None:
            expected[entry.file] = leaves(entry.state)
    return expected


def _slice_arrays(entry: Shards, piece: Slice) -> list[Leaf]:
    return [
        Leaf("$array", array_name(number, vector), part.dtype, (stop - start,))
        for number, (part, (start, stop)) in enumerate(zip(entry.parts, piece.ranges, strict=True))
        for vector in part.vectors
        if start < stop
    ]


def _kind(entry: State | Shards) -> str:
    return "shards" if isinstance(entry, Shards) else "state"


def _creator() -> str:
    try:
        return f"dist_train {metadata.version('dist_train')}"
    except metadata.PackageNotFoundError:
        return "dist_train, not installed"


def _seal(content: dict[str, Any]) -> str:
    """The JSON text, ending in the SHA-256 of everything before it."""
    body = json.dumps(content, indent=1, allow_nan=False).removesuffix("\n}")
    return body + _SEAL + _closing(body)


def _closing(body: str) -> str:
    return hashlib.sha256(body.encode()).hexdigest() + '"\n}\n'


def read_text(directory: Path) -> str:
    """The text of the manifest in `directory`; DamagedFileError if it is missing, linked, or absurdly large."""
    if directory.is_symlink() or not directory.is_dir():
        raise DamagedFileError(f"{directory.name} is not a directory of its own")
    try:
        with open_regular(directory / NAME) as file:
            if os.fstat(file.fileno()).st_size > MAX_BYTES:
                raise DamagedFileError(f"{NAME} is larger than {MAX_BYTES} bytes")
            return file.read().decode()
    except FileNotFoundError:
        raise DamagedFileError(f"{NAME} is missing") from None
    except UnicodeDecodeError:
        raise DamagedFileError(f"{NAME} is not text") from None


def parse(text: str, step: int) -> Manifest:
    """The manifest of the checkpoint named after `step`; DamagedFileError, with the reason, if it cannot be trusted."""
    content = _unsealed(text)
    objects = {name: _entry(Fields(value, name)) for name, value in content.get("objects", dict).items()}
    files = {name: _file(name, Fields(value, name)) for name, value in content.get("files", dict).items()}
    manifest = Manifest(
        step=content.count("step"),
        ranks=content.count("ranks"),
        threads=content.count("threads"),
        micro_batches=content.optional("micro_batches"),
        seed=content.optional("seed"),
        objects=objects,
        files=files,
        created_by=content.get("created_by", str),
    )
    if manifest.step != step:
        raise DamagedFileError(f"{NAME} is that of step {manifest.step}")
    _check_files(manifest)
    return manifest


def _unsealed(text: str) -> Fields:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DamagedFileError(f"{NAME} is not JSON: {error}") from None
    fields = Fields(content, "the top level")
    if fields.get("format", str) != FORMAT:
        raise DamagedFileError(f"{NAME} is not that of a {FORMAT}")
    if fields.count("version") > VERSION:
        raise FutureFormatError(f"{NAME} has format version {content['version']}, newer than {VERSION}; update dist_train to read it")
    if content["version"] < VERSION:
        raise DamagedFileError(f"{NAME} has the unknown format version {content['version']}")
    body, _, closing = text.rpartition(_SEAL)
    if closing != _closing(body):
        raise DamagedFileError(f"{NAME} does not have the SHA-256 it names (damaged, or edited)")
    return fields


def _file(name: str, fields: Fields) -> FileRecord:
    # A name with a directory in it could lead out of the checkpoint.
    if os.path.basename(name) != name or "\0" in name or "\\" in name or name in ("", ".", "..", NAME):
        raise DamagedFileError(f"{NAME} names the file {name!r}, which cannot be one of this checkpoint")
    return FileRecord(fields.count("size"), fields.get("sha256", str))


def _entry(fields: Fields) -> State | Shards:
    kind = fields.get("kind", str)
    if kind == "state":
        return _state(fields)
    if kind != "shards":
        raise DamagedFileError(f"{NAME}: {fields.where} is of the unknown kind {kind!r}")
    parts = [_part(part) for part in fields.objects("parts")]
    slices = [_slice(piece, len(parts)) for piece in fields.objects("slices")]
    for number, part in enumerate(parts):
        _check_cover(fields.where, number, part, slices)
    return Shards(fields.get("class_name", str), _plain(fields, "extra"), parts, slices)


def _state(fields: Fields) -> State:
    if fields.content.get("file") is None:
        return State(_plain(fields, "state"), None)
    leaves(fields.content.get("state"))  # raises if it cannot be decoded
    return State(fields.content.get("state"), fields.get("file", str))


def _plain(fields: Fields, key: str) -> Any:
    if leaves(fields.content.get(key)):
        raise DamagedFileError(f"{NAME}: {key!r} of {fields.where} has tensors, but no file with them")
    return fields.content.get(key)


def _part(fields: Fields) -> Part:
    table = [
        {**row.content, **{key: row.count(key) for key in ("index", "offset")}, "name": row.get("name", str),
         "shape": row.counts("shape")}
        for row in fields.objects("table")
    ]  # fmt: skip
    dtype = fields.get("dtype", str)
    if dtype not in np.sctypeDict or np.dtype(dtype).kind not in "fiubc":
        raise DamagedFileError(f"{NAME}: {fields.where} has the unknown type {dtype!r}")
    return Part(dtype, fields.count("length"), table, fields.names("vectors"))


def _slice(fields: Fields, num_parts: int) -> Slice:
    ranges = [Fields({"range": pair}, fields.where).counts("range") for pair in fields.get("ranges", list)]
    if len(ranges) != num_parts or any(len(pair) != 2 for pair in ranges):
        raise DamagedFileError(f"{NAME}: {fields.where} does not have one range for each of {num_parts} parts")
    return Slice(fields.get("file", str), ranges)


def _check_cover(where: str, number: int, part: Part, slices: list[Slice]) -> None:
    ranges = sorted(piece.ranges[number] for piece in slices if piece.ranges[number][0] != piece.ranges[number][1])
    end = 0
    for start, stop in ranges:
        if start != end or stop < start:
            raise DamagedFileError(f"{NAME}: the slices of {where} part {number} do not join at {end}")
        end = stop
    if end != part.length:
        raise DamagedFileError(f"{NAME}: the slices of {where} part {number} end at {end} instead of {part.length}")


def _check_files(manifest: Manifest) -> None:
    for name, entry in manifest.objects.items():
        needed = [piece.file for piece in entry.slices] if isinstance(entry, Shards) else [entry.file]
        for file in needed:
            if file is not None and file not in manifest.files:
                raise DamagedFileError(f"{NAME}: the file {file!r} of {name} is not in the table of files")
