"""Nested data as JSON: dicts, lists, tuples and plain values, with tensors moved out into named arrays.

What JSON has stays as it is. The rest is an object with one marked key: {"$tuple": [...]}, {"$float": "nan"},
{"$dict": [[key, value], ...]} for keys that are no plain strings, and {"$tensor" or "$array": name, "dtype", "shape"}.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .files import DamagedFileError
from .tensor_file import type_code

MAX_DEPTH = 100
_ALLOWED = "dict, list, tuple, str, int, float, bool, None, tensors and NumPy arrays"


@dataclass(frozen=True)
class Leaf:
    """A tensor's place in the structure: its name among the arrays, its type and its shape."""

    kind: str  # "$tensor" or "$array"
    name: str
    dtype: str
    shape: tuple[int, ...]

    def json(self) -> dict[str, Any]:
        return {self.kind: self.name, "dtype": self.dtype, "shape": list(self.shape)}


def is_tensor(value: Any) -> bool:
    """True for NumPy arrays and for everything array-like that converts itself by `.numpy()` or `.get()`."""
    converts = hasattr(value, "numpy") or hasattr(value, "get")
    return isinstance(value, np.ndarray) or (converts and hasattr(value, "dtype") and hasattr(value, "shape"))


def to_array(value: Any) -> NDArray[Any]:
    """The NumPy array of a tensor, wherever it lives; without a copy where it is in host memory already."""
    if isinstance(value, np.ndarray):
        return value
    if not hasattr(value, "numpy"):
        return np.asarray(value.get())
    for step in ("detach", "cpu"):
        value = getattr(value, step, lambda value=value: value)()
    return np.asarray(value.numpy())


class Encoder:
    """Encodes values one after another; `arrays` collects the tensors, each under a name of its own."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.arrays: dict[str, NDArray[Any]] = {}

    def encode(self, value: Any, path: tuple[Any, ...] = ()) -> Any:
        """The JSON form of `value`; TypeError, naming the key path, for anything that is not data."""
        if len(path) > MAX_DEPTH:
            raise ValueError(f"{self.root} is nested deeper than {MAX_DEPTH} levels; does it contain itself?")
        if isinstance(value, np.generic):
            value = value.item()
        if value is None or isinstance(value, bool | int | str):
            return value
        if isinstance(value, float):
            return float(value) if math.isfinite(value) else {"$float": repr(float(value))}
        return self._encode_container(value, path)

    def _encode_container(self, value: Any, path: tuple[Any, ...]) -> Any:
        if isinstance(value, Mapping):
            return self._encode_dict(value, path)
        if isinstance(value, list | tuple):
            items = [self.encode(item, (*path, index)) for index, item in enumerate(value)]
            return items if isinstance(value, list) else {"$tuple": items}
        if is_tensor(value):
            return self._encode_tensor(value, path)
        raise TypeError(f"{self._where(path)} is {_describe(value)}; only {_ALLOWED} can be stored{_remedy(value)}")

    def _encode_dict(self, value: Mapping[Any, Any], path: tuple[Any, ...]) -> Any:
        items = {key: self.encode(item, (*path, key)) for key, item in value.items()}
        if all(type(key) is str and not key.startswith("$") for key in items):
            return items
        return {"$dict": [[self._encode_key(key, path), item] for key, item in items.items()]}

    def _encode_key(self, key: Any, path: tuple[Any, ...]) -> Any:
        if key is None or isinstance(key, str | int | float | np.generic):
            return self.encode(key)
        raise TypeError(f"{self._where(path)} has the key {key!r}; only str, int, float, bool and None can be keys")

    def _encode_tensor(self, value: Any, path: tuple[Any, ...]) -> Any:
        array = self._converted(value, path)
        type_code(self._where(path), array.dtype)
        name = self._new_name(".".join(map(str, path)) or "tensor")
        self.arrays[name] = array
        kind = "$array" if isinstance(value, np.ndarray) else "$tensor"
        return Leaf(kind, name, array.dtype.name, array.shape).json()

    def _converted(self, value: Any, path: tuple[Any, ...]) -> NDArray[Any]:
        try:
            return to_array(value)
        except Exception as error:  # whatever another library's tensor raises
            raise TypeError(
                f"{self._where(path)} of type {value.dtype} cannot become a NumPy array; convert it, for instance to float32 ({error})"
            ) from error

    def _new_name(self, wanted: str) -> str:
        name, number = wanted, 1
        while name in self.arrays or name == "__metadata__":
            name, number = f"{wanted}#{number}", number + 1
        return name

    def _where(self, path: tuple[Any, ...]) -> str:
        return self.root + "".join(f"[{key!r}]" for key in path)


def _describe(value: Any) -> str:
    return f"the class {value.__qualname__}" if isinstance(value, type) else f"a {type(value).__qualname__}"


def _remedy(value: Any) -> str:
    if hasattr(value, "state_dict"):
        return "; store its state_dict()"
    if callable(value):
        return "; code is never stored: keep it in the program and store the numbers it needs"
    return "; convert it, or leave it out"


def decode(value: Any, tensor: Callable[[Leaf], Any], depth: int = 0) -> Any:
    """The data that `Encoder.encode` turned into `value`, with `tensor(leaf)` in the tensors' places."""
    if depth > 2 * MAX_DEPTH + 2:  # a marked value takes two levels
        raise DamagedFileError(f"the structure is nested deeper than {MAX_DEPTH} levels")
    if isinstance(value, list):
        return [decode(item, tensor, depth + 1) for item in value]
    if not isinstance(value, dict):
        return value
    marks = [key for key in value if key.startswith("$")]
    if marks:
        return _decode_marked(value, marks[0], tensor, depth)
    return {key: decode(item, tensor, depth + 1) for key, item in value.items()}


def _decode_marked(value: dict[str, Any], mark: str, tensor: Callable[[Leaf], Any], depth: int) -> Any:
    if mark in ("$tensor", "$array"):
        return tensor(_leaf(value, mark))
    if mark == "$float" and value[mark] in ("nan", "inf", "-inf"):
        return float(value[mark])
    if mark == "$tuple" and isinstance(value[mark], list):
        return tuple(decode(value[mark], tensor, depth + 1))
    if mark == "$dict":
        return {key: decode(item, tensor, depth + 2) for key, item in _pairs(value[mark])}
    raise DamagedFileError(f"the structure has an unreadable {mark}")


def _leaf(value: dict[str, Any], mark: str) -> Leaf:
    try:
        leaf = Leaf(mark, value[mark], value["dtype"], tuple(value["shape"]))
        hash(leaf)
    except (KeyError, TypeError):
        raise DamagedFileError(f"the structure has an unreadable {mark}") from None
    return leaf


def _pairs(value: Any) -> list[tuple[Any, Any]]:
    try:
        pairs = [(decode(key, _no_tensor), item) for key, item in value]
        hash(tuple(key for key, _ in pairs))
    except (TypeError, ValueError):
        raise DamagedFileError("the structure has an unreadable $dict") from None
    return pairs


def _no_tensor(leaf: Leaf) -> Any:
    raise TypeError(f"the tensor {leaf.name!r} as a key")


def leaves(value: Any) -> list[Leaf]:
    """All tensors of an encoded structure, in order."""
    found: list[Leaf] = []
    decode(value, found.append)
    return found
