"""DistributedSampler, for programs that split their data by rank themselves, as they do with PyTorch.

A program that calls `dist_train.distribute` does not need it: the loader cuts each batch, exactly and without
repeating samples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import numpy as np

from ...random import stream
from .sampler import Array, Sampler


class DistributedSampler(Sampler[int]):
    """Every `num_replicas`-th index, beginning with `rank`, of an order that all ranks share.

    All ranks get equally many: the order is filled up by repeating its first samples, or cut by `drop_last`.
    `set_epoch` gives the next order when `shuffle` is on. Raises ValueError when `rank` is not below `num_replicas`.
    """

    # (rank, number of ranks) where the caller gives none; dist_train.distributed puts its own here
    world: ClassVar[Callable[[], tuple[int, int]]] = staticmethod(lambda: (0, 1))

    def __init__(
        self,
        dataset: Any,
        num_replicas: int | None = None,
        rank: int | None = None,
        shuffle: bool = True,
        seed: int = 0,
        drop_last: bool = False,
    ) -> None:
        self.dataset = dataset
        own_rank, world_size = type(self).world()
        self.num_replicas = world_size if num_replicas is None else num_replicas
        self.rank = own_rank if rank is None else rank
        if not 0 <= self.rank < self.num_replicas:
            raise ValueError(f"DistributedSampler: rank {self.rank} is not in 0 … {self.num_replicas - 1} (num_replicas - 1)")
        self.shuffle = shuffle
        self.seed = seed
        self.drop_last = drop_last
        self.epoch = 0

    @property
    def num_samples(self) -> int:
        """Samples of each rank."""
        total = len(self.dataset)
        return total // self.num_replicas if self.drop_last else -(-total // self.num_replicas)

    @property
    def total_size(self) -> int:
        return self.num_samples * self.num_replicas

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        return iter(self.epoch_order(self.epoch).tolist())

    def __len__(self) -> int:
        return self.num_samples

    def epoch_order(self, epoch: int) -> Array:
        total = len(self.dataset)
        order = stream(self.seed, "shuffle", epoch).permutation(total) if self.shuffle else np.arange(total)
        return np.resize(order, self.total_size)[self.rank :: self.num_replicas]
