"""Shortcuts that do for many items at once what another method does for one.

A data set's `batch_at` stands for many `__getitem__`, a sampler's `epoch_order` for its `__iter__`, a transform's
`on_batch` for many `__call__`.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any


def shortcut(target: Any, name: str, stands_for: str) -> Any:
    """The method `name` of `target`, or None where it has none.

    None too where a subclass changes `stands_for` but inherits the shortcut, which then knows nothing of the change.
    """
    current = _is_current(type(target), name, stands_for)  # type: ignore[arg-type]
    return getattr(target, name, None) if current else None


@lru_cache(maxsize=256)
def _is_current(cls: type, name: str, stands_for: str) -> bool:
    return _depth(cls, name) <= _depth(cls, stands_for)


def _depth(cls: type, name: str) -> int:
    """How far up the method resolution order `name` is defined."""
    return next((depth for depth, owner in enumerate(cls.__mro__) if name in owner.__dict__), len(cls.__mro__))
