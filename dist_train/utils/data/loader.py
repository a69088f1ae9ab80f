"""DataLoader: batches of a data set, in an order that any number of ranks can resume anywhere."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import chain, islice, starmap
from operator import attrgetter
from typing import Any

from ...random import Generator, default_generator, drawing_from
from .collate import default_collate, default_convert
from .dataset import IterableDataset
from .distributed import DistributedSampler
from .fetch import Fetch, collate_samples, samples_at
from .loading import Loading
from .micro_batch import MicroBatch, check_share, share, turn, whole
from .place import Place
from .prefetch import calls_for, calls_to_next, prefetch
from .sampler import BatchSampler, RandomSampler, SequentialSampler, runs, set_epoch
from .shortcut import shortcut

Cut = Callable[[int, Any], Iterable[MicroBatch]]


class DataLoader:
    """Batches of `dataset`, with torch's arguments.

    **Order.** With `shuffle`, the order is a pure function of the seed (`generator.initial_seed()`, by default that
    of `manual_seed`) and the epoch. `loader.epoch` counts the completed epochs; after a `break` the next iteration is
    the next epoch. With a `sampler` or `batch_sampler` the order is theirs; they are told the epoch where they have
    `set_epoch`.

    **Resuming.** `state_dict()`, JSON values, can be taken at any time; after `load_state_dict` the next iteration
    goes on with the first global batch that was not handed out completely. No data is read again, except from an
    `IterableDataset`, whose stream is read and thrown away up to that place.

    **Workers** are threads that prefetch, in order, `prefetch_factor` (default 2) batches each; a process that runs
    MPI must not fork. So `__getitem__` must be safe to call from several threads. An `IterableDataset` is read by one
    thread, however many workers. `pin_memory` and `persistent_workers` are accepted and change nothing. Without workers, the
    default, there is no thread. Handing over a batch costs about 15 µs, as much as a small batch takes to load: threads pay for
    large batches, slow files and data sets read sample by sample by code that releases Python's lock, on cores that nobody else uses.

    **Augmentation.** What a data set draws with `dist_train`'s random functions while it loads comes from a stream keyed by
    seed, epoch and micro-batch: the same in any thread, on any rank and after resuming.

    **Speed.** A data set with `batch_at` (tensors, MNIST, …) and no `collate_fn` is read by one indexed copy per batch.

    Raises ValueError for arguments that exclude each other.
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int | None = 1,
        shuffle: bool | None = None,
        sampler: Iterable[Any] | None = None,
        batch_sampler: Iterable[Any] | None = None,
        num_workers: int = 0,
        collate_fn: Callable[[Any], Any] | None = None,
        pin_memory: bool = False,
        drop_last: bool = False,
        timeout: float = 0,
        worker_init_fn: Callable[[int], object] | None = None,
        *,
        generator: Generator | None = None,
        prefetch_factor: int | None = None,
        persistent_workers: bool = False,
    ) -> None:
        self._streams = isinstance(dataset, IterableDataset)
        self._batched = batch_size is not None or batch_sampler is not None
        _check_order(self._streams, batch_size, shuffle, sampler, batch_sampler, drop_last)
        _check_workers(num_workers, timeout, prefetch_factor, persistent_workers)
        self.dataset = dataset
        self.batch_size = None if batch_sampler is not None else batch_size
        self.drop_last = drop_last
        self.num_workers = num_workers
        self.collate_fn = collate_fn or (default_collate if self._batched else default_convert)
        self.pin_memory = pin_memory
        self.timeout = timeout
        self.worker_init_fn = worker_init_fn
        self.generator = generator
        self.prefetch_factor = prefetch_factor
        self.persistent_workers = persistent_workers
        if sampler is None and batch_sampler is None and not self._streams:
            sampler = RandomSampler(dataset, generator=generator) if shuffle else SequentialSampler(dataset)
        self.sampler = sampler
        self.batch_sampler = batch_sampler if sampler is None else BatchSampler(sampler, batch_size or 1, drop_last)
        self._place = Place()

    def __iter__(self) -> Iterator[Any]:
        return map(attrgetter("batch"), self.shards(0, 1, 1))

    def __len__(self) -> int:
        """The number of global batches in an epoch."""
        if not self._streams:
            return len(self.batch_sampler)  # type: ignore[arg-type]
        size = self.batch_size or 1
        return len(self.dataset) // size if self.drop_last else -(-len(self.dataset) // size)

    # parts of the batches, for several ranks

    def shards(self, rank: int, world_size: int, micro_batches: int) -> Iterator[MicroBatch]:
        """This rank's micro-batches, each global batch cut into `micro_batches`; only their samples are loaded.

        A rank whose share of a step is empty gets one micro-batch of size 0 that holds the step's first sample. The
        loader's position moves with a rank's last micro-batch of a step, so a checkpoint between steps resumes at the
        next one and a checkpoint within a step at that step. Of an `IterableDataset` every rank reads the whole
        stream and keeps its own samples.

        Raises ValueError when `micro_batches` is less than `world_size`.
        """
        check_share(rank, world_size, micro_batches)
        self._check_whole(world_size)
        if micro_batches > 1 and not self._batched:
            raise ValueError(f"batch_size=None gives samples as they are; they cannot be cut into {micro_batches} micro-batches")
        return self._run(whole if micro_batches == 1 else partial(share, rank=rank, world_size=world_size, micro_batches=micro_batches))

    def split(self, rank: int, world_size: int) -> Iterator[Any]:
        """Global batches `rank`, `rank + world_size`, …: each goes to one rank, whole, and only that one loads it."""
        check_share(rank, world_size, world_size)
        self._check_whole(world_size)
        return map(attrgetter("batch"), self._run(partial(turn, rank=rank, world_size=world_size)))

    def _check_whole(self, world_size: int) -> None:
        replicas = getattr(self._seeded_sampler(), "num_replicas", 1)
        if world_size > 1 and replicas > 1:
            raise ValueError(
                f"the loader's DistributedSampler already gives each of {replicas} ranks its own samples, and would "
                f"be cut again for {world_size} ranks: leave out the sampler (use shuffle=True)"
            )

    def _run(self, cut: Cut) -> Iterator[MicroBatch]:
        place = self._place
        iteration = place.begin()
        set_epoch(self.dataset if self._streams else self.batch_sampler, place.epoch)
        for micro_batch in self._loaded(self._pieces(cut, place.position), place.epoch):
            place.reach(iteration, micro_batch.step + micro_batch.last)
            yield micro_batch
        place.finish(iteration)

    def _pieces(self, cut: Cut, start: int) -> Iterator[MicroBatch]:
        """What to load: micro-batches that hold indices, or samples where the data set is a stream."""
        return chain.from_iterable(starmap(cut, enumerate(self._batches(start), start)))

    def _batches(self, start: int) -> Iterator[Any]:
        if self._streams:
            size = self.batch_size or 1
            stream = _drawing(iter(self.dataset), Generator().manual_seed(self.seed).rekey("stream", self._place.epoch))
            return runs(islice(stream, start * size, None), size, self.drop_last)
        epoch_batches = shortcut(self.batch_sampler, "epoch_batches", "__iter__")
        if epoch_batches is not None:
            return epoch_batches(self._place.epoch, start)  # type: ignore[no-any-return]
        return starmap(_sequence, enumerate(islice(iter(self.batch_sampler or ()), start, None), start))

    def _loaded(self, pieces: Iterator[MicroBatch], epoch: int) -> Iterator[MicroBatch]:
        depth = self.num_workers * (self.prefetch_factor or 2)
        load = Loading(self._maker(), self.seed, epoch).load
        if not self.num_workers:
            return map(load, pieces)
        num_workers = 1 if self._streams else self.num_workers
        calls = calls_to_next(pieces, load) if self._streams else calls_for(pieces, load)
        return prefetch(calls, num_workers, depth, self.timeout, self.worker_init_fn)

    def _maker(self) -> Callable[[Any], Any]:
        """What makes a batch of a micro-batch's indices, or of a stream's samples."""
        if self._streams:
            return lambda samples: collate_samples(samples if self._batched else samples[0], self.collate_fn)
        if self._batched:
            return Fetch(self.dataset, self.collate_fn).batch_of
        return lambda index: collate_samples(samples_at(self.dataset, index)[0], self.collate_fn, index)

    # where in the data we are

    @property
    def epoch(self) -> int:
        """The number of completed epochs, which is the number of the epoch that runs or comes next."""
        return self._place.epoch

    def set_epoch(self, epoch: int) -> None:
        """Let the next iteration be that of `epoch`, from its beginning or where `load_state_dict` put it in it."""
        self._place.set_epoch(epoch)

    @property
    def seed(self) -> int:
        """The seed that the order of the samples follows from."""
        sampler = self._seeded_sampler()
        return (self.generator or default_generator).initial_seed() if sampler is None else sampler.seed

    @seed.setter
    def seed(self, seed: int) -> None:
        sampler = self._seeded_sampler()
        if sampler is not None:
            sampler.seed = seed

    def state_dict(self) -> dict[str, Any]:
        """The place in the data, as JSON values; the same on every rank between two steps."""
        return {"epoch": self._place.epoch, "position": self._place.position, "seed": int(self.seed), **self._identity()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Let the next iteration go on where `state` was taken, by any number of ranks.

        Raises ValueError when the state was taken from a loader of another data set length, batch size or kind of
        sampler.
        """
        for name, own in self._identity().items():
            if state.get(name) != own:
                raise ValueError(
                    f"DataLoader.load_state_dict: the state was saved with {name} {state.get(name)}, this loader has "
                    f"{name} {own}; resume with the same data and batch size, or start a new epoch with set_epoch"
                )
        epoch, position = _count(state, "epoch"), _count(state, "position")
        most = state["num_batches"]
        if most is not None and position > most:
            raise ValueError(f"DataLoader.load_state_dict: position {position} lies beyond the {most} batches of an epoch")
        self.seed = _count(state, "seed", least=None)
        self._place.move(epoch, position)

    def _identity(self) -> dict[str, Any]:
        """What has to be equal for a position to mean the same samples."""
        return {
            "dataset_length": _length_or_none(self.dataset),
            "batch_size": getattr(self.batch_sampler, "batch_size", self.batch_size),
            "num_batches": _length_or_none(self),
            "sampler": type(self.sampler if self.sampler is not None else self.batch_sampler).__name__,
        }

    def _seeded_sampler(self) -> RandomSampler | DistributedSampler | None:
        sampler = getattr(self.batch_sampler, "sampler", self.sampler)
        return sampler if isinstance(sampler, RandomSampler | DistributedSampler) else None


def _drawing(items: Iterator[Any], generator: Generator) -> Iterator[Any]:
    """The items, each made while drawing from `generator`."""
    while True:
        with drawing_from(generator):
            try:
                item = next(items)
            except StopIteration:
                return
        yield item


def _sequence(step: int, batch: Any) -> Any:
    """What a user's batch sampler gives, as something with a length that can be sliced."""
    batch = batch if hasattr(batch, "__len__") and hasattr(batch, "__getitem__") else list(batch)
    if not len(batch):
        raise ValueError(f"global batch {step} is empty: the batch_sampler has to give at least one index")
    return batch


def _length_or_none(sized: Any) -> int | None:
    try:
        return len(sized)
    except (TypeError, NotImplementedError):
        return None


def _count(state: dict[str, Any], name: str, least: int | None = 0) -> int:
    value = state.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or (least is not None and value < least):
        bound = "" if least is None else f" of at least {least}"
        raise ValueError(f"DataLoader.load_state_dict: {name} has to be an integer{bound}, not {value!r}")
    return value


def _check_order(streams: bool, batch_size: Any, shuffle: Any, sampler: Any, batch_sampler: Any, drop_last: bool) -> None:
    if streams and (shuffle or sampler is not None or batch_sampler is not None):
        raise ValueError("an IterableDataset has its own order: leave out shuffle, sampler and batch_sampler")
    if sampler is not None and shuffle:
        raise ValueError("sampler and shuffle=True exclude each other: the sampler gives the order")
    if batch_sampler is not None and (batch_size != 1 or shuffle or sampler is not None or drop_last):
        raise ValueError("batch_sampler excludes batch_size, shuffle, sampler and drop_last: it gives the batches")
    if batch_size is None and drop_last:
        raise ValueError("batch_size=None excludes drop_last: there are no batches")
    if batch_size is not None and (not isinstance(batch_size, int) or isinstance(batch_size, bool) or batch_size <= 0):
        raise ValueError(f"batch_size has to be a positive integer or None, not {batch_size!r}")


def _check_workers(num_workers: int, timeout: float, prefetch_factor: int | None, persistent_workers: bool) -> None:
    if num_workers < 0 or timeout < 0:
        raise ValueError(f"num_workers and timeout have to be at least 0; they are {num_workers} and {timeout}")
    if not num_workers and (prefetch_factor is not None or persistent_workers):
        raise ValueError("prefetch_factor and persistent_workers need num_workers > 0")
    if prefetch_factor is not None and prefetch_factor < 1:
        raise ValueError(f"prefetch_factor has to be at least 1, not {prefetch_factor}")
