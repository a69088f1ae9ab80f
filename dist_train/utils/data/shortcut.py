"""Shortcuts that do for many items at once what another method does for one.

A data set's `batch_at` stands for many `__getitem__`, a sampler's `epoch_order` for its `__iter__`, a transform's
`on_batch` for many `__call__`. A class which has no such shortcut has None in its place.
"""

from __future__ import annotations


def drop_stale_shortcut(cls: type, method: str, shortcut: str) -> None:
    """Give `cls` None for `shortcut` where it changes `method` but inherits a shortcut that knows nothing of that."""
    if _depth(cls, method) < _depth(cls, shortcut):
        setattr(cls, shortcut, None)


def _depth(cls: type, name: str) -> int:
    """How far up the method resolution order `name` is defined."""
    return next((depth for depth, owner in enumerate(cls.__mro__) if name in owner.__dict__), len(cls.__mro__))
