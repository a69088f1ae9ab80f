"""An optimizer in a checkpoint: flat vectors with a table that says where each parameter lies, and JSON values beside
them.

A part is one flat vector's worth: {"dtype", "length", "start", "stop", "table": [{"index", "name", "shape", "offset"},
...], "vectors": {name: elements start…stop}}. Parameters are known by their index in the order of `param_groups`; gaps
in a table are padding, so tables of different layouts describe the same state.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from .optimizer import Optimizer

Read = Callable[[int, str, int, int], "np.ndarray[Any, Any]"]  # (number of the part, vector's name, start, stop)
Part = dict[str, Any]
Table = list[dict[str, Any]]


def dense_table(optimizer: Optimizer, indices: list[int]) -> tuple[Table, int]:
    """Table of the parameters `indices` laid one after another, and their length together."""
    names, params = param_names(optimizer), optimizer.indexed_params()
    table: Table = []
    offset = 0
    for index in indices:
        array = params[index][1].array
        table.append({"index": index, "name": names[index], "shape": list(array.shape), "offset": offset})
        offset += array.size
    return table, offset


def param_names(optimizer: Optimizer) -> list[str]:
    """The parameters' names where the optimizer was given named parameters, else their indices."""
    names = [name for group in optimizer.param_groups for name in group.get("param_names") or group["params"]]
    return [name if isinstance(name, str) else str(index) for index, name in enumerate(names)]


def check_tables(optimizer: Optimizer, parts: list[Part]) -> None:
    """ValueError that names the first parameter which the saved tables and the optimizer do not have alike."""
    saved = {row["index"]: row for part in parts for row in part["table"]}
    names, params = param_names(optimizer), optimizer.indexed_params()
    for index, (_, param) in enumerate(params):
        row = saved.get(index)
        shape = tuple(param.array.shape)
        if row is None:
            raise ValueError(f"the saved state has no parameter {index} ({names[index]}, shape {shape}); it holds {len(saved)}")
        if tuple(row["shape"]) != shape:
            raise ValueError(
                f"parameter {index} ({names[index]}) has shape {shape}, in the saved state ({row['name']}) {tuple(row['shape'])}"
            )
    if len(saved) != len(params):
        raise ValueError(f"the saved state holds {len(saved)} parameters, this optimizer {len(params)}")


def read_parameter(parts: list[Part], read: Read, index: int, name: str) -> np.ndarray[Any, Any] | None:
    """The whole state vector `name` of parameter `index`, 1-D; None where it was not saved."""
    number, row = find_parameter(parts, index)
    if name not in parts[number]["names"]:
        return None
    return read(number, name, row["offset"], row["offset"] + math.prod(row["shape"]))


def find_parameter(parts: list[Part], index: int) -> tuple[int, dict[str, Any]]:
    """The number of the part that holds parameter `index`, and the parameter's row in its table."""
    for number, part in enumerate(parts):
        for row in part["table"]:
            if row["index"] == index:
                return number, row
    raise ValueError(f"the saved state has no parameter {index}")


def extra(optimizer: Optimizer, step_counts: list[int]) -> dict[str, Any]:
    """The JSON values that go with the parts; `step_counts` by parameter index."""
    return {"steps": optimizer.steps, "step_counts": step_counts, "param_groups": hyper_parameters(optimizer)}


def load_extra(optimizer: Optimizer, extra: dict[str, Any]) -> None:
    """Take back `steps` and the hyper-parameters from `extra`."""
    load_hyper_parameters(optimizer, extra["param_groups"])
    optimizer.steps = int(extra["steps"])


def hyper_parameters(optimizer: Optimizer) -> list[dict[str, Any]]:
    """The parameter groups without their parameters, as JSON values; TypeError names one that is none."""
    return [{key: _json(key, value) for key, value in group.items() if key != "params"} for group in optimizer.param_groups]


def load_hyper_parameters(optimizer: Optimizer, groups: list[dict[str, Any]]) -> None:
    """Set each group's hyper-parameters to those of `groups` (JSON or a state_dict's); a key missing there stays."""
    for group, merged in zip(optimizer.param_groups, merged_groups(optimizer, groups)):
        group.update(merged)


def merged_groups(optimizer: Optimizer, groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The optimizer's groups with the hyper-parameters of `groups`. ValueError if their numbers differ."""
    if len(groups) != len(optimizer.param_groups):
        raise ValueError(f"the saved state has {len(groups)} parameter groups, this optimizer {len(optimizer.param_groups)}")
    return [
        group | {key: _plain(value, group.get(key)) for key, value in saved.items() if key != "params"}
        for group, saved in zip(optimizer.param_groups, groups)
    ]


def _json(key: str, value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, (list, tuple)):
        return [_json(key, item) for item in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"hyper-parameter {key!r} of type {type(value).__name__} cannot be saved: use a number, string, list or None")


def _plain(value: Any, current: Any) -> Any:
    """`value` in the form the group has it: a tuple where it is one now, a number for a tensor of one element."""
    if isinstance(value, (list, tuple)):
        values = [_plain(item, None) for item in value]
        return tuple(values) if isinstance(current, tuple) else values
    return value.item() if hasattr(value, "item") else value
