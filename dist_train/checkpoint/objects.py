"""The objects a checkpoint knows, told apart by what they can do: how each is captured, checked and loaded.

- an optimizer whose state is spread over the ranks: `shard()` and `load_shard(parts, extra, read)`;
- anything else with `state_dict()` and `load_state_dict(state)`: a module, a data loader, a learning-rate scheduler;
- a dict or a list of the user's own, restored in place.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from .manifest import Part, Shards, State, array_name
from .slices import SavedVectors
from .structure import Encoder, Leaf, decode, leaves
from .tensor_file import TensorFile

Arrays = dict[str, NDArray[Any]]
EntryT = TypeVar("EntryT", State, Shards)


@dataclass
class Capture(Generic[EntryT]):
    """What an object looks like now. `entry` is for the manifest, `arrays` is what this rank writes to `file`."""

    entry: EntryT
    file: str | None = None
    arrays: Arrays = field(default_factory=dict)
    ranges: list[list[int]] = field(default_factory=list)

    def drop(self, number: int) -> None:
        """Write nothing of part `number`."""
        self.ranges[number] = [0, 0]
        self.arrays = {name: array for name, array in self.arrays.items() if not name.startswith(array_name(number, ""))}


class Saved(ABC, Generic[EntryT]):
    """An object under the keyword it was given to Checkpoint with."""

    entry_type: type[State] | type[Shards]

    def __init__(self, name: str, target: Any) -> None:
        self.name, self.target = name, target

    @abstractmethod
    def capture(self, rank: int, size: int, writer: int) -> Capture[EntryT]:
        """The object's state; what is the same on all ranks is written by the rank `writer` alone."""

    @abstractmethod
    def check(self, entry: EntryT) -> None:
        """Raise ValueError, naming the first difference, if `entry` is not of an object like this one."""

    @abstractmethod
    def load(self, directory: Path, entry: EntryT) -> None:
        """Take on the saved state."""


def saved_object(name: str, target: Any) -> Saved[Any]:
    """The adapter for `target`; TypeError for an object that cannot be saved."""
    if not name.isidentifier():
        raise ValueError(f"the keyword {name!r} cannot be the name of a file; use letters, digits and underscores")
    if hasattr(target, "shard") and hasattr(target, "load_shard"):
        return ShardedObject(name, target)
    if hasattr(target, "state_dict") and hasattr(target, "load_state_dict"):
        return StateObject(name, target)
    if isinstance(target, dict | list):
        return PlainObject(name, target)
    raise TypeError(
        f"{name} is a {type(target).__name__}, which Checkpoint cannot save: it has neither state_dict() and "
        "load_state_dict() nor is it a dict or a list"
    )


class StateObject(Saved[State]):
    """A module, loader, scheduler: its state_dict goes into the manifest, the tensors in it to one file."""

    entry_type = State

    def capture(self, rank: int, size: int, writer: int) -> Capture[State]:
        state = self._state()
        if rank not in (0, writer):
            return Capture(State(None, None))
        encoder = Encoder(self.name)
        encoded = encoder.encode(state)
        file = f"{self.name}.safetensors" if encoder.arrays else None
        if rank != writer or file is None:
            return Capture(State(encoded, file))
        return Capture(State(encoded, file), file, encoder.arrays)

    def check(self, entry: State) -> None:
        live = _tensor_table(Encoder(self.name).encode(self._state()))
        saved = _tensor_table(entry.state)
        # Nested tensors (an optimizer's state before its first step) may differ; load_state_dict judges them.
        if live is not None and (saved is not None or live):
            _check_same(self.name, saved or {}, live)

    def load(self, directory: Path, entry: State) -> None:
        file = TensorFile(directory / entry.file, entry.file) if entry.file else None
        self._load(decode(entry.state, lambda leaf: _read_leaf(file, leaf)))

    def undo(self) -> Callable[[], None]:
        """A function that takes an object of plain values back to its present state."""
        encoder = Encoder(self.name)
        state = encoder.encode(self._state())
        arrays = {name: np.array(array) for name, array in encoder.arrays.items()}
        return lambda: self._load(decode(state, lambda leaf: arrays[leaf.name]))

    def _state(self) -> Any:
        return self.target.state_dict()

    def _load(self, state: Any) -> None:
        self.target.load_state_dict(state)


class PlainObject(StateObject):
    """A dict or list, restored in place."""

    def check(self, entry: State) -> None:
        saved = decode(entry.state, lambda leaf: None)
        if isinstance(saved, list) != isinstance(self.target, list):
            here = type(self.target).__name__
            raise ValueError(f"{self.name} is a {type(saved).__name__} in the checkpoint and a {here} here")

    def _state(self) -> Any:
        return self.target

    def _load(self, state: Any) -> None:
        self.target.clear()
        (self.target.extend if isinstance(self.target, list) else self.target.update)(state)


class ShardedObject(Saved[Shards]):
    """An optimizer: each rank writes its slice of every flat vector to a file of its own."""

    entry_type = Shards

    def capture(self, rank: int, size: int, writer: int) -> Capture[Shards]:
        shard = self.target.shard()
        arrays = {
            array_name(number, name): _checked_vector(vector, part)
            for number, part in enumerate(shard["parts"])
            for name, vector in part["vectors"].items()
        }
        return Capture(
            Shards(type(self.target).__name__, Encoder(self.name).encode(shard["extra"]), [_part(part) for part in shard["parts"]], []),
            f"{self.name}-{rank:04d}-of-{size:04d}.safetensors",
            arrays,
            [[int(part["start"]), int(part["stop"])] for part in shard["parts"]],
        )

    def check(self, entry: Shards) -> None:
        here = type(self.target).__name__
        if entry.class_name != here:
            raise ValueError(f"{self.name} is of class {entry.class_name} in the checkpoint and of class {here} here")
        live = [_part(part) for part in self.target.shard()["parts"]]
        saved, own = _parameters(entry.parts), _parameters(live)
        unnamed = {index for table in (saved, own) for index, (name, _) in table.items() if name == str(index)}
        _check_same(self.name, _described(saved, unnamed), _described(own, unnamed))
        saved_vectors, live_vectors = _vector_names(entry.parts), _vector_names(live)
        if saved_vectors and live_vectors and saved_vectors != live_vectors:
            raise ValueError(
                f"{self.name} has the state vectors {sorted(saved_vectors)} in the checkpoint and {sorted(live_vectors)} here: "
                "it was made with other options"
            )

    def load(self, directory: Path, entry: Shards) -> None:
        parts = [{"dtype": part.dtype, "length": part.length, "table": part.table, "names": part.vectors} for part in entry.parts]
        self.target.load_shard(parts, decode(entry.extra, _no_leaf), SavedVectors(directory, entry).read)


def _part(part: dict[str, Any]) -> Part:
    table = [
        {**row, "index": int(row["index"]), "offset": int(row["offset"]), "shape": [int(n) for n in row["shape"]]} for row in part["table"]
    ]
    return Part(np.dtype(part["dtype"]).name, int(part["length"]), table, list(part["vectors"]))


def _checked_vector(vector: NDArray[Any], part: dict[str, Any]) -> NDArray[Any]:
    assert vector.shape == (part["stop"] - part["start"],), (vector.shape, part["start"], part["stop"])
    assert vector.dtype == np.dtype(part["dtype"]), (vector.dtype, part["dtype"])
    return vector


def _tensor_table(state: Any) -> dict[str, str] | None:
    """Each name with type and shape, if the encoded state is a flat dict of tensors (a module's); else None."""
    if not isinstance(state, dict) or not all(_is_leaf(item) for item in state.values()):
        return None
    return {repr(leaf.name): _typed(leaf.dtype, leaf.shape) for leaf in leaves(state)}


def _is_leaf(item: Any) -> bool:
    return isinstance(item, dict) and ("$tensor" in item or "$array" in item)


def _parameters(parts: list[Part]) -> dict[int, tuple[str, str]]:
    """Each parameter's name, and its type and shape, by index."""
    rows = sorted((row["index"], row["name"], part.dtype, row["shape"]) for part in parts for row in part.table)
    return {index: (name, _typed(dtype, shape)) for index, name, dtype, shape in rows}


def _described(parameters: dict[int, tuple[str, str]], unnamed: set[int]) -> dict[str, str]:
    # An optimizer that was not given names has the indices instead; those match any name.
    return {f"parameter {index}": kind if index in unnamed else f"{name!r}, {kind}" for index, (name, kind) in parameters.items()}


def _typed(dtype: str, shape: Any) -> str:
    return f"{dtype} of shape {tuple(shape)}"


def _vector_names(parts: list[Part]) -> set[str]:
    return {name for part in parts for name in part.vectors}


def _check_same(where: str, saved: dict[str, str], live: dict[str, str]) -> None:
    for name in [*live, *saved]:
        if saved.get(name) != live.get(name):
            raise ValueError(
                f"{where}: {name} is {saved.get(name, 'missing')} in the checkpoint and "
                f"{live.get(name, 'missing')} here; build the same model and optimizer, or use another directory"
            )


def _read_leaf(file: TensorFile | None, leaf: Leaf) -> NDArray[Any]:
    assert file is not None and file.holds(leaf.name, leaf.dtype, leaf.shape), leaf  # checked before
    return file.read(leaf.name)


def _no_leaf(leaf: Leaf) -> Any:
    raise AssertionError(leaf)  # checked before
