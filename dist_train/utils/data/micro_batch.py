"""Cutting a global batch into micro-batches, and the part of them that one rank gets.

Micro-batch i of V holds samples ⌊iB/V⌋ … ⌊(i+1)B/V⌋ − 1 of the batch's B samples, so the sizes differ by at most one;
rank r of N has the consecutive micro-batches ⌊rV/N⌋ … ⌊(r+1)V/N⌋ − 1. What a micro-batch holds does not depend on N.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(slots=True)
class MicroBatch:
    """One forward and backward's worth of data."""

    step: int  # number of the global batch in its epoch
    index: int  # number of the micro-batch in its step, 0 … V - 1
    size: int  # number of samples; 0 for a rank without a share, which gets the step's first sample to run its loop on
    last: bool  # this rank's last one of the step
    batch: Any  # the data


def share(step: int, batch: Any, rank: int, world_size: int, micro_batches: int) -> list[MicroBatch]:
    """This rank's micro-batches that are not empty, of `batch`, a sequence of samples or of their indices."""
    first, stop = rank * micro_batches // world_size, (rank + 1) * micro_batches // world_size
    cuts = [i * len(batch) // micro_batches for i in range(first, stop + 1)]
    bounds = zip(range(first, stop), cuts, cuts[1:])
    own = [MicroBatch(step, i, end - start, False, batch[start:end]) for i, start, end in bounds if end > start]
    own = own or [MicroBatch(step, first, 0, False, batch[:1])]
    own[-1].last = True
    return own


def whole(step: int, batch: Any) -> tuple[MicroBatch]:
    """The batch as the only micro-batch, of a single rank."""
    return (MicroBatch(step, 0, len(batch), True, batch),)


def turn(step: int, batch: Any, rank: int, world_size: int) -> list[MicroBatch]:
    """The whole batch where it is this rank's turn, else nothing."""
    return [MicroBatch(step, 0, len(batch), True, batch)] if step % world_size == rank else []


def check_share(rank: int, world_size: int, micro_batches: int) -> None:
    """Raise ValueError where a rank would have no micro-batch, or is none."""
    if not 0 <= rank < world_size:
        raise ValueError(f"rank {rank} is not in 0 … {world_size - 1} (world_size - 1)")
    if micro_batches < world_size:
        raise ValueError(f"micro_batches={micro_batches} is less than the {world_size} ranks: each rank needs at least one")
