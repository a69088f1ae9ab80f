"""Drift: ranks whose parameters should be the same and are not."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..backend.device import to_host
from ..comm.base import Communicator


def checksum(array: Any) -> int:
    """CRC-32 of an array's bytes."""
    return zlib.crc32(np.ascontiguousarray(to_host(array)).reshape(-1).view(np.uint8).data)


def settings(optimizer: Any) -> dict[str, Any]:
    """The hyper-parameters of an optimizer, by group."""
    groups = enumerate(optimizer.param_groups)
    return {f"group {number}: {name}": value for number, group in groups for name, value in group.items() if name != "params"}


def check_settings(comm: Communicator, optimizer: Any, step: int) -> None:
    """RuntimeError, on every rank, that names the first hyper-parameter by which a rank's optimizer differs from rank 0's."""
    everyone = comm.all_gather_object({what: repr(value) for what, value in settings(optimizer).items()})
    for rank, other in enumerate(everyone):
        for what, value in everyone[0].items():
            if other.get(what) != value:
                raise RuntimeError(
                    f"after step {step}: {what} of the optimizer is {value} on rank 0 and {other.get(what)} on rank {rank}. A schedule "
                    "must get the same numbers on every rank, such as optimizer.loss or the totals() of dist_train.distributed.split"
                )


def check_parameters(comm: Communicator, vectors: Sequence[tuple[Any, Sequence[Any]]], step: int) -> None:
    """Compare flat vectors across ranks; RuntimeError names the first tensor that differs and the ranks that disagree with rank 0."""
    sums = comm.all_gather(np.array([checksum(vector) for vector, _ in vectors], np.int64))
    if (sums == sums[0]).all():
        return
    entries = [entry for _, group in vectors for entry in group]
    each = comm.all_gather(np.array([checksum(entry.parameter.array) for entry in entries], np.int64))
    for column, entry in enumerate(entries):
        ranks = np.flatnonzero(each[:, column] != each[0, column])
        if len(ranks):
            raise RuntimeError(
                f"drift after step {step}: {entry.name!r} on rank(s) {ranks.tolist()} differs from rank 0. Something changed it on some "
                "ranks only; parameters are changed by optimizer.step(), or inside `with dist_train.distributed.edit(model):`"
            )
