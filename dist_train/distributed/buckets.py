"""Buckets: what is reduced between nodes in one go. Cut by the links' speed, which changes no result.

A bucket is a run of whole parameters with a flat vector of its own. It begins with a large tensor, which begins with a block of the vector
wherever that is cut, so that the blocks are always the same.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from ..comm.link import Link
from .flat import Named, begins_a_block

_OVERHEAD = 1e-4  # seconds that a bucket costs a rank besides its messages
_SHARE = 0.02  # of its time a bucket may spend on that and on latency
_LEAST, _MOST = 2**20, 32 * 2**20  # bytes


def bucket_bytes(link: Link | None) -> int:
    """How large buckets are at least. DIST_TRAIN_BUCKET_BYTES overrides."""
    wanted = _MOST if link is None else (link.latency + _OVERHEAD) / _SHARE * link.bandwidth
    return _given() or int(min(max(wanted, _LEAST), _MOST))


def buffer_bytes() -> int:
    """How much a rank receives at a time: large, as every piece waits for the slowest rank. DIST_TRAIN_BUCKET_BYTES overrides."""
    return _given() or _MOST


def _given() -> int:
    return int(os.environ.get("DIST_TRAIN_BUCKET_BYTES", 0))


def cut(groups: Sequence[Named], nbytes: int) -> list[Named]:
    """Each group in buckets of at least `nbytes` where the tensors allow it. They are cut from the end, whose gradients are final first."""
    return [bucket for group in groups for bucket in _cut_group(group, nbytes)]


def _cut_group(group: Named, nbytes: int) -> list[Named]:
    buckets: list[Named] = []
    end, size = len(group), 0
    for place in range(len(group) - 1, -1, -1):
        array = group[place][2].array
        size += array.nbytes
        if place == 0 or (size >= nbytes and begins_a_block(array)):
            buckets.insert(0, group[place:end])
            end, size = place, 0
    return buckets
