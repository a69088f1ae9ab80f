"""Checks of hyper-parameters that the rules have in common."""

from __future__ import annotations

import math
from typing import Any


def check_not_negative(group: dict[str, Any], *names: str) -> None:
    """ValueError unless each named hyper-parameter is a number ≥ 0."""
    for name in names:
        check_range(name, group[name], math.inf)


def check_range(name: str, value: Any, high: float, closed: bool = False) -> None:
    """ValueError unless 0 ≤ value < high (≤ high where `closed`)."""
    if not isinstance(value, (int, float)):
        raise ValueError(f"Invalid {name} value: {value!r} of type {type(value).__name__}; expected a number (tensor.item())")
    if not (0.0 <= value < high or (closed and value == high)):
        raise ValueError(f"Invalid {name} value: {value}; expected 0 ≤ {name} {'≤' if closed else '<'} {high:g}")


def check_implementation(group: dict[str, Any]) -> None:
    """ValueError for torch's implementation flags that would change what is computed or how it can be used."""
    for name in ("capturable", "differentiable"):
        if group.get(name):
            raise ValueError(f"{name}=True is not supported: an optimizer's step is neither captured nor differentiated here")
