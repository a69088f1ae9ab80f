"""Loading a state_dict: compare everything first, then copy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from ..autograd import Tensor
from ..autograd.tensor import Size
from ..backend.device import is_device_array, to_device


class IncompatibleKeys(NamedTuple):
    """What `load_state_dict` did not find, and what it had no place for."""

    missing_keys: list[str]
    unexpected_keys: list[str]

    def __repr__(self) -> str:
        if not any(self):
            return "<All keys matched successfully>"
        return f"IncompatibleKeys(missing_keys={self.missing_keys}, unexpected_keys={self.unexpected_keys})"


def load(model: str, own: Mapping[str, Tensor], given: Mapping[str, Any], strict: bool) -> IncompatibleKeys:
    """Copy `given` into the tensors of `own` with the same names, or raise RuntimeError before any is changed."""
    if not isinstance(given, Mapping):
        raise TypeError(f"Expected state_dict to be dict-like, got {type(given)}.")
    keys = IncompatibleKeys([name for name in own if name not in given], [name for name in given if name not in own])
    arrays = {name: _as_array(name, given[name]) for name in own if name in given}
    problems = _key_problems(keys) if strict else []
    problems += [problem for name, array in arrays.items() for problem in _mismatch(name, array, own[name])]
    if problems:
        raise RuntimeError(f"Error(s) in loading state_dict for {model}:\n\t" + "\n\t".join(problems))
    for name, array in arrays.items():
        own[name]._write(to_device(array, own[name].device))
    return keys


def _as_array(name: str, value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.array
    if is_device_array(value):
        return value
    if not hasattr(value, "__array__"):
        raise TypeError(f'state_dict entry "{name}" must be a tensor or an array, not {type(value).__name__}')
    return np.asarray(value.detach() if hasattr(value, "detach") else value)


def _key_problems(keys: IncompatibleKeys) -> list[str]:
    problems = []
    if keys.missing_keys:
        problems.append(f"Missing key(s) in state_dict: {_quoted(keys.missing_keys)}. ")
    if keys.unexpected_keys:
        problems.append(f"Unexpected key(s) in state_dict: {_quoted(keys.unexpected_keys)}. ")
    return problems + _suggestions(keys)


def _suggestions(keys: IncompatibleKeys) -> list[str]:
    """For each unknown key the missing one that looks most like it."""
    import difflib  # only an error needs it

    pairs = [(name, difflib.get_close_matches(name, keys.missing_keys, 1)) for name in keys.unexpected_keys]
    return [f'"{name}": did you mean "{near[0]}"?' for name, near in pairs if near]


def _mismatch(name: str, array: Any, own: Tensor) -> list[str]:
    if array.shape != own.array.shape:
        return [
            f"size mismatch for {name}: copying a param with shape {Size(array.shape)} from checkpoint, "
            f"the shape in current model is {own.shape}."
        ]
    if not np.can_cast(array.dtype, own.dtype, "same_kind"):
        return [f"type mismatch for {name}: values of type {array.dtype} do not fit into {own.dtype}."]
    return []


def _quoted(names: list[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)
