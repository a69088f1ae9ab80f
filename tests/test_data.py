"""Data sets, samplers, collating and the loader: torch's behaviour, a fixed order, exact resume, exact cutting."""

from __future__ import annotations

import ast
import gc
import json
import subprocess
import sys
import threading
import time
import traceback
from collections import namedtuple
from itertools import chain
from pathlib import Path

import native_cases
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dist_train as dt
import dist_train.utils.data as data
from dist_train.autograd.tensor import Tensor
from dist_train.random import Generator, default_generator, manual_seed
from dist_train.utils.data import (
    BatchSampler,
    ConcatDataset,
    DataLoader,
    Dataset,
    DistributedSampler,
    IterableDataset,
    RandomSampler,
    Sampler,
    SequentialSampler,
    Subset,
    TensorDataset,
    default_collate,
    default_convert,
    random_split,
)


class Numbers(Dataset):
    """Sample i is the number i, one by one; keeps a list of what was asked for."""

    def __init__(self, length, error_at=None):
        self.length, self.error_at, self.asked = length, error_at, []

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        self.asked.append(index)
        if index == self.error_at:
            raise KeyError("no such sample")
        return index


class Whole(Numbers):
    """The same by whole arrays."""

    def batch_at(self, indices):
        self.asked.extend(indices.tolist())
        return Tensor(indices.astype(np.int64))


class Stream(IterableDataset):
    def __init__(self, length):
        self.length, self.epochs = length, []

    def set_epoch(self, epoch):
        self.epochs.append(epoch)

    def __iter__(self):
        return iter(range(self.length))


class Endless(Sampler):
    """An infinite sampler without a known order or length."""

    def __iter__(self):
        number = 0
        while True:
            yield number % 7
            number += 1


DATASETS = [Numbers, Whole, Stream]


def epoch_of(loader):
    return [batch.array.tolist() for batch in loader]


def take(loader, count):
    """The first `count` batches of the loader's next iteration."""
    taken = []
    for batch in loader:
        taken.append(batch.array.tolist())
        if len(taken) == count:
            break
    return taken


def our_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("dist_train loader")]


@pytest.fixture(autouse=True)
def seeded_and_tidy():
    manual_seed(0)
    yield
    if our_threads():
        gc.collect()  # an iterator may hang in the traceback of an expected exception
    assert not our_threads()


# data sets


def test_tensor_dataset_gives_rows():
    dataset = TensorDataset(Tensor(np.arange(6.0).reshape(3, 2)), np.array([5, 6, 7]))
    row, label = dataset[1]
    assert row.array.tolist() == [2.0, 3.0] and label.array.tolist() == 6
    assert len(dataset) == 3


def test_tensor_dataset_refuses_different_lengths():
    with pytest.raises(ValueError, match=r"\[3, 2\]"):
        TensorDataset(np.zeros(3), np.zeros(2))


def test_concat_finds_each_part():
    joined = Numbers(3) + Numbers(2) + Numbers(1)
    assert [joined[i] for i in range(6)] == [0, 1, 2, 0, 1, 0]
    assert joined[-1] == 0 and joined[-2] == 1
    with pytest.raises(IndexError, match=r"index 6 .* 6 samples"):
        joined[6]


@pytest.mark.parametrize("datasets", [[], [Stream(3)]])
def test_concat_refuses(datasets):
    with pytest.raises(ValueError, match="ConcatDataset"):
        ConcatDataset(datasets)


@pytest.mark.parametrize("indices", [[4, 2, 2], (4, 2, 2), np.array([4, 2, 2], np.int32)])
def test_subset(indices):
    subset = Subset(Whole(5), indices)
    assert [subset[i] for i in range(3)] == [4, 2, 2]
    assert type(subset[0]) is int
    assert subset.batch_at(np.array([0, 1])).array.tolist() == [4, 2]


def test_subset_of_other_keys():
    subset = Subset({"a": 1.5, "b": 2.5}, ["b", "a"])
    assert epoch_of(DataLoader(subset, batch_size=2)) == [[2.5, 1.5]]


@pytest.mark.parametrize(
    ("total", "lengths", "sizes"),
    [
        (10, [7, 3], [7, 3]),
        (10, [0.7, 0.3], [7, 3]),
        (11, [0.5, 0.5], [6, 5]),
        (10, [1 / 3, 1 / 3, 1 / 3], [4, 3, 3]),
        (10, [10, 0], [10, 0]),
        (10, [0.7, 0.2, 0.1], [7, 2, 1]),
        (5, [1.0], [5]),
    ],
)
def test_random_split(total, lengths, sizes):
    parts = random_split(Numbers(total), lengths)
    assert [len(part) for part in parts] == sizes
    assert sorted(part[i] for part in parts for i in range(len(part))) == list(range(total))


def test_random_split_follows_the_seed_not_the_draws():
    def members(generator):
        return [part.indices.tolist() for part in random_split(Numbers(20), [15, 5], generator)]

    first = members(None)
    default_generator.numpy().random(7)
    assert members(None) == first
    assert members(Generator().manual_seed(5)) == members(Generator().manual_seed(5)) != first


@pytest.mark.parametrize("lengths", [[7, 4], [0.5, 0.6], [12, -2], [7.5, 2.5]])
def test_random_split_refuses(lengths):
    with pytest.raises(ValueError, match=r"add up to .* 10"):
        random_split(Numbers(10), lengths)


# samplers


def test_random_sampler_is_a_permutation_that_changes():
    sampler = RandomSampler(Numbers(50))
    first, second = list(sampler), list(sampler)
    assert sorted(first) == sorted(second) == list(range(50)) and first != second
    sampler.set_epoch(0)
    assert list(sampler) == first


def test_random_sampler_follows_the_seed_not_the_draws():
    first = list(RandomSampler(Numbers(50)))
    default_generator.numpy().random(3)
    assert list(RandomSampler(Numbers(50))) == first
    assert list(RandomSampler(Numbers(50), generator=Generator().manual_seed(1))) != first


@pytest.mark.parametrize(("replacement", "count"), [(True, 30), (False, 5), (False, 23)])
def test_random_sampler_num_samples(replacement, count):
    drawn = list(RandomSampler(Numbers(10), replacement, count))
    assert len(drawn) == count and set(drawn) <= set(range(10))
    if not replacement:
        assert max(drawn.count(i) for i in range(10)) == -(-count // 10)


def test_random_sampler_refuses_an_empty_data_set():
    with pytest.raises(ValueError, match="positive integer, not 0"):
        RandomSampler(Numbers(0))


@pytest.mark.parametrize("drop_last", [False, True])
def test_batch_sampler(drop_last):
    sampler = BatchSampler(SequentialSampler(Numbers(7)), 3, drop_last)
    expected = [[0, 1, 2], [3, 4, 5]] + ([] if drop_last else [[6]])
    assert list(sampler) == expected and len(sampler) == len(expected)
    assert [batch.tolist() for batch in sampler.epoch_batches(0, 1)] == expected[1:]


@pytest.mark.parametrize("total", [1, 7, 12])
@pytest.mark.parametrize("replicas", [1, 2, 3, 5])
@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("shuffle", [False, True])
def test_distributed_sampler_like_torch(total, replicas, drop_last, shuffle):
    torch_data = pytest.importorskip("torch").utils.data
    parts = []
    for rank in range(replicas):
        ours = DistributedSampler(Numbers(total), replicas, rank, shuffle=shuffle, drop_last=drop_last)
        theirs = torch_data.DistributedSampler(range(total), replicas, rank, shuffle=False, drop_last=drop_last)
        if total >= replicas or not drop_last:
            assert len(ours) == len(list(ours)) == len(theirs)
        if not shuffle:
            assert list(ours) == list(theirs)
        parts += list(ours)
    assert drop_last or set(parts) == set(range(total))


def test_distributed_sampler_epochs_and_world(monkeypatch):
    sampler = DistributedSampler(Numbers(40), 2, 0)
    first = list(sampler)
    assert list(sampler) == first
    sampler.set_epoch(1)
    assert list(sampler) != first
    assert (DistributedSampler(Numbers(4)).rank, DistributedSampler(Numbers(4)).num_replicas) == (0, 1)
    monkeypatch.setattr(DistributedSampler, "world", lambda: (2, 3))
    assert list(DistributedSampler(Numbers(6), shuffle=False)) == [2, 5]
    with pytest.raises(ValueError, match=r"rank 3 is not in 0 … 2"):
        DistributedSampler(Numbers(6), num_replicas=3, rank=3)


# collating

Point = namedtuple("Point", "x y")

SAMPLES = [
    [1, 2, 3],
    [1.5, 2.0],
    [True, False],
    ["a", "b"],
    [b"a", b"b"],
    [(1, 2.0), (3, 4.0)],
    [[1, "x"], [3, "y"]],
    [{"a": 1, "b": (2, 3)}, {"a": 4, "b": (5, 6)}],
    [Point(1, 2.0), Point(3, 4.0)],
    [np.float32(1), np.float32(2)],
    [np.float64(1), np.float64(2)],
    [np.int32(1), np.int32(2)],
    [np.ones((2, 3), np.float32), np.zeros((2, 3), np.float32)],
    [np.array(1), np.array(2)],
    [(np.zeros(3, np.uint8), 1), (np.ones(3, np.uint8), 2)],
]


def plain(value):
    """A batch of ours or torch's as Python values with types and shapes."""
    if hasattr(value, "numpy"):
        return str(value.numpy().dtype), value.numpy().tolist()
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(*map(plain, value)) if hasattr(value, "_fields") else type(value)(map(plain, value))
    return value


@pytest.mark.parametrize("samples", SAMPLES, ids=repr)
def test_default_collate_like_torch(samples):
    torch_data = pytest.importorskip("torch").utils.data
    assert plain(default_collate(samples)) == plain(torch_data.default_collate(samples))


@pytest.mark.parametrize("value", [*SAMPLES, 3, "text", np.array(["a"])], ids=repr)
def test_default_convert_like_torch(value):
    torch_data = pytest.importorskip("torch").utils.data
    ours, theirs = default_convert(value), torch_data.default_convert(value)
    if isinstance(value, np.ndarray):
        assert ours is value and theirs is value
    else:
        assert plain(ours) == plain(theirs)


def test_collate_stacks_tensors():
    batch = default_collate([Tensor(np.zeros((2, 1))), Tensor(np.ones((2, 1)))])
    assert batch.shape == (2, 2, 1)


@pytest.mark.parametrize(
    ("samples", "error", "message"),
    [
        ([np.zeros(2), np.zeros(2), np.zeros(3)], ValueError, r"sample 0 .* \(2,\), sample 2 has \(3,\)"),
        ([(1, 2), (1, 2, 3)], ValueError, "lengths: sample 0 of the batch has 2, sample 1 has 3"),
        ([np.array(["a"])], TypeError, "<U1"),
        ([object()], TypeError, "type object.*collate_fn"),
        ([None], TypeError, "NoneType"),
    ],
)
def test_collate_refuses(samples, error, message):
    with pytest.raises(error, match=message):
        default_collate(samples)


def test_ragged_samples_are_named_by_their_index():
    dataset = [np.zeros(2), np.zeros(2), np.zeros(2), np.zeros(5)]
    with pytest.raises(ValueError, match=r"\(2,\), sample 1 has \(5,\)") as caught:
        epoch_of(DataLoader(dataset, batch_size=2))
    assert "while collating samples [2, 3] (2 in all)" in caught.value.__notes__


# the loader's batches


@pytest.mark.parametrize("kind", DATASETS)
@pytest.mark.parametrize("num_workers", [0, 1, 3])
@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize(("total", "size"), [(10, 3), (9, 3), (2, 5), (1, 1)])
def test_batches_in_order(kind, num_workers, drop_last, total, size):
    loader = DataLoader(kind(total), batch_size=size, num_workers=num_workers, drop_last=drop_last)
    expected = [list(range(i, min(i + size, total))) for i in range(0, total, size)]
    expected = [batch for batch in expected if len(batch) == size or not drop_last]
    assert epoch_of(loader) == expected
    assert epoch_of(loader) == expected


@pytest.mark.parametrize(("drop_last", "length"), [(False, 4), (True, 3)])
def test_length(drop_last, length):
    assert len(DataLoader(Numbers(10), 3, drop_last=drop_last)) == length
    with pytest.raises(TypeError, match=r"len\(\)"):
        len(DataLoader(Stream(10), 3))


@pytest.mark.parametrize("num_workers", [0, 2])
def test_shuffled_order_follows_seed_and_epoch_alone(num_workers):
    loader = DataLoader(Numbers(20), 4, shuffle=True, num_workers=num_workers)
    epochs = [epoch_of(loader) for _ in range(3)]
    assert loader.epoch == 3
    assert all(sorted(chain(*epoch)) == list(range(20)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    default_generator.numpy().random(11)
    again = DataLoader(Whole(20), 4, shuffle=True)
    again.set_epoch(2)
    assert epoch_of(again) == epochs[2]
    manual_seed(1)
    assert epoch_of(DataLoader(Numbers(20), 4, shuffle=True)) != epochs[0]
    assert epoch_of(DataLoader(Numbers(20), 4, shuffle=True, generator=Generator().manual_seed(0))) == epochs[0]


def test_whole_batches_equal_single_samples_bit_for_bit():
    values = np.random.default_rng(0).standard_normal((23, 4)).astype(np.float32)
    labels = np.arange(23)
    for part in (values, np.asfortranarray(values), values[:, ::2]):
        dataset = TensorDataset(part, labels)
        subset = random_split(dataset, [20, 3])[0]
        for source in (dataset, subset, Subset(subset, range(5))):
            singly = DataLoader(source, 6, shuffle=True, collate_fn=lambda samples: default_collate(samples))
            for (x, y), (a, b) in zip(DataLoader(source, 6, shuffle=True), singly, strict=True):
                assert x.array.tobytes() == a.array.tobytes() and x.dtype == a.dtype and x.shape == a.shape
                assert y.array.tobytes() == b.array.tobytes() and y.dtype == b.dtype


def test_a_subclass_that_changes_getitem_is_asked_for_each_sample():
    class Doubled(Whole):
        def __getitem__(self, index):
            return 2 * index

    class Mixin:
        def __getitem__(self, index):
            return 3 * index

    class Tripled(Mixin, Whole):
        pass

    assert epoch_of(DataLoader(Doubled(4), 4)) == [[0, 2, 4, 6]]
    assert epoch_of(DataLoader(Tripled(4), 4)) == [[0, 3, 6, 9]]


def test_a_subclass_that_changes_the_order_is_asked_for_it():
    class Backwards(SequentialSampler):
        def __iter__(self):
            return iter(range(len(self) - 1, -1, -1))

    class Pairs(BatchSampler):
        def __iter__(self):
            return ([0, i] for i in range(2))

    assert epoch_of(DataLoader(Numbers(3), 2, sampler=Backwards(Numbers(3)))) == [[2, 1], [0]]
    assert epoch_of(DataLoader(Numbers(3), batch_sampler=Pairs(range(3), 2))) == [[0, 0], [0, 1]]


def test_getitems_of_torch():
    class Many(Numbers):
        def __getitems__(self, indices):
            return [10 * index for index in indices]

    assert epoch_of(DataLoader(Many(3), 2)) == [[0, 10], [20]]


def test_collate_fn_gets_samples():
    assert list(DataLoader(Whole(3), 2, collate_fn=lambda samples: samples)) == [[0, 1], [2]]


@pytest.mark.parametrize("kind", DATASETS)
def test_no_batching(kind):
    assert list(DataLoader(kind(3), batch_size=None)) == [0, 1, 2]


def test_infinite_sampler_is_read_as_needed():
    loader = DataLoader(Numbers(7), 3, sampler=Endless(), num_workers=2)
    assert take(loader, 4) == [[0, 1, 2], [3, 4, 5], [6, 0, 1], [2, 3, 4]]


@pytest.mark.parametrize("batches", [[[0, 2], [1]], [(0, 2), (1,)], [np.array([0, 2]), np.array([1])], [iter([0, 2]), {1: 0}.keys()]])
def test_batch_sampler_of_the_user(batches):
    assert epoch_of(DataLoader(Numbers(3), batch_sampler=batches)) == [[0, 2], [1]]


def test_an_empty_batch_is_refused():
    with pytest.raises(ValueError, match="global batch 1 is empty"):
        epoch_of(DataLoader(Numbers(3), batch_sampler=[[0], []]))


@pytest.mark.parametrize("wrap", [lambda s: {"sampler": s}, lambda s: {"batch_sampler": BatchSampler(s, 1)}])
def test_samplers_are_told_the_epoch(wrap):
    sampler = DistributedSampler(Numbers(30), 2, 0)
    loader = DataLoader(Numbers(30), **wrap(sampler))
    first = epoch_of(loader)
    assert first != epoch_of(loader) and sampler.epoch == 1
    stream = Stream(3)
    loader = DataLoader(stream)
    epoch_of(loader), epoch_of(loader)
    assert stream.epochs == [0, 1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0}, "positive integer or None, not 0"),
        ({"batch_size": 2.0}, "not 2.0"),
        ({"shuffle": True, "sampler": [0]}, "sampler and shuffle"),
        ({"batch_sampler": [[0]], "batch_size": 2}, "batch_sampler excludes"),
        ({"batch_sampler": [[0]], "drop_last": True}, "batch_sampler excludes"),
        ({"batch_size": None, "drop_last": True}, "excludes drop_last"),
        ({"num_workers": -1}, "at least 0"),
        ({"timeout": -1}, "at least 0"),
        ({"prefetch_factor": 2}, "num_workers > 0"),
        ({"persistent_workers": True}, "num_workers > 0"),
        ({"num_workers": 1, "prefetch_factor": 0}, "at least 1, not 0"),
    ],
)
def test_arguments_that_exclude_each_other(arguments, message):
    with pytest.raises(ValueError, match=message):
        DataLoader(Numbers(3), **arguments)


@pytest.mark.parametrize("arguments", [{"shuffle": True}, {"sampler": [0]}, {"batch_sampler": [[0]]}])
def test_streams_have_their_own_order(arguments):
    with pytest.raises(ValueError, match="IterableDataset"):
        DataLoader(Stream(3), **arguments)


# workers and errors


@pytest.mark.parametrize("kind", [Numbers, Stream])
def test_workers_run_ahead_but_not_far(kind):
    class Slow(kind):
        def __iter__(self):
            for i in range(self.length):
                self.reached = i
                yield i

    dataset = Slow(100)
    loader = iter(DataLoader(dataset, num_workers=2, prefetch_factor=3))
    next(loader)
    deadline = time.monotonic() + 5
    reached = (lambda: len(dataset.asked)) if kind is Numbers else (lambda: dataset.reached + 1)
    while reached() < 7 and time.monotonic() < deadline:
        time.sleep(0.001)
    time.sleep(0.02)
    assert reached() == 7  # the one handed out and 2 * 3 ahead


def test_workers_load_side_by_side():
    barrier = threading.Barrier(3, timeout=10)

    class Meeting(Numbers):
        def __getitem__(self, index):
            barrier.wait()
            return index

    assert epoch_of(DataLoader(Meeting(6), num_workers=3)) == [[i] for i in range(6)]


@pytest.mark.parametrize("num_workers", [0, 1, 3])
def test_an_error_comes_in_its_turn_with_traceback_and_index(num_workers):
    loader = DataLoader(Numbers(10, error_at=6), 2, num_workers=num_workers)
    seen = []
    with pytest.raises(KeyError, match="no such sample") as caught:
        for batch in loader:
            seen.append(batch.array.tolist())
    assert seen == [[0, 1], [2, 3], [4, 5]]
    assert "while loading sample 6 of Numbers" in caught.value.__notes__
    assert "in __getitem__" in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("num_workers", [0, 2])
def test_an_error_of_whole_batches_names_the_samples(num_workers):
    dataset = TensorDataset(np.zeros(4))
    with pytest.raises(IndexError, match="out of bounds") as caught:
        list(DataLoader(dataset, 2, sampler=[0, 1, 2, 9], num_workers=num_workers))
    assert caught.value.__notes__ == ["while loading samples [2, 9] (2 in all) of TensorDataset"]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_an_error_of_the_sampler_comes_in_its_turn(num_workers):
    def batches():
        yield [0]
        yield [1]
        raise OSError("index file lost")

    loader, seen = DataLoader(Numbers(3), batch_sampler=batches(), num_workers=num_workers), []
    with pytest.raises(OSError, match="index file lost"):
        for batch in loader:
            seen.append(batch.array.tolist())
    assert seen == [[0], [1]]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_stop_iteration_in_a_data_set_is_no_end(num_workers):
    class Stops(Numbers):
        def __getitem__(self, index):
            return next(iter([]))

    with pytest.raises(RuntimeError, match="StopIteration"):
        epoch_of(DataLoader(Stops(3), num_workers=num_workers))


def test_worker_init_fn():
    seen = []
    loader = DataLoader(Numbers(4), num_workers=2, worker_init_fn=seen.append)
    epoch_of(loader)
    assert sorted(seen) == [0, 1]
    with pytest.raises(ZeroDivisionError):
        epoch_of(DataLoader(Numbers(4), num_workers=2, worker_init_fn=lambda number: 1 // 0))


def test_timeout():
    release = threading.Event()

    class Stuck(Numbers):
        def __getitem__(self, index):
            return release.wait(20)

    start = time.monotonic()
    with pytest.raises(RuntimeError, match=r"timeout=0\.05"):
        epoch_of(DataLoader(Stuck(2), num_workers=1, timeout=0.05))
    assert time.monotonic() - start < 5
    release.set()
    for thread in our_threads():
        thread.join(5)


@pytest.mark.parametrize("kind", DATASETS)
def test_break_ends_the_threads(kind):
    for _ in DataLoader(kind(1000), num_workers=3):
        assert our_threads()
        break
    assert not our_threads()


def test_an_exception_in_the_loop_ends_the_threads():
    with pytest.raises(KeyboardInterrupt):
        for _ in DataLoader(Numbers(1000), num_workers=3):
            raise KeyboardInterrupt
    assert not our_threads()


def test_interrupt_while_waiting_ends_the_program():
    program = """
import os, signal, threading, time
from dist_train.utils.data import DataLoader, Dataset
class Slow(Dataset):
    def __len__(self): return 4
    def __getitem__(self, index):
        time.sleep(0.3)
        return index
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have started the tests with it ignored
try:
    threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
    for batch in DataLoader(Slow(), num_workers=2): pass
except KeyboardInterrupt:
    print("interrupted", [t.name for t in threading.enumerate() if "loader" in t.name])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.stdout == "interrupted []\n", done.stderr


# where in the data


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("kind", DATASETS)
def test_resume_anywhere(kind, num_workers):
    arguments = {"batch_size": 3, "num_workers": num_workers} | ({} if kind is Stream else {"shuffle": True})
    whole = DataLoader(kind(11), **arguments)
    epochs = [epoch_of(whole), epoch_of(whole)]
    for done in range(1, 9):
        first = DataLoader(kind(11), **arguments)
        seen = []
        while len(seen) < done:
            seen += take(first, done - len(seen))
        state = json.loads(json.dumps(first.state_dict()))
        manual_seed(99)
        second = DataLoader(kind(11), **arguments)
        second.load_state_dict(state)
        assert second.epoch == (done - 1) // 4
        seen += epoch_of(second)
        assert seen == list(chain(*epochs))[: len(seen)] and len(seen) == 4 * second.epoch
        manual_seed(0)


@pytest.mark.parametrize("kind", DATASETS)
def test_state_counts_what_was_handed_out(kind):
    loader = DataLoader(kind(20), 2, num_workers=3)
    for number, _ in enumerate(loader):
        assert loader.state_dict()["position"] == number + 1
    assert (loader.state_dict()["epoch"], loader.state_dict()["position"]) == (1, 0)


def test_resume_reads_no_data_again():
    dataset = Numbers(1000)
    loader = DataLoader(dataset, 10, shuffle=True)
    loader.load_state_dict(loader.state_dict() | {"position": 99})
    assert len(epoch_of(loader)) == 1 and len(dataset.asked) == 10


def test_a_break_begins_the_next_epoch_anew():
    loader, whole = DataLoader(Numbers(9), 2, shuffle=True), DataLoader(Numbers(9), 2, shuffle=True)
    epochs = [epoch_of(whole) for _ in range(3)]
    assert take(loader, 2) == epochs[0][:2]
    assert loader.epoch == 0
    assert take(loader, 1) == epochs[1][:1]
    assert epoch_of(loader) == epochs[2]
    assert loader.epoch == 3


def test_set_epoch():
    loader, whole = DataLoader(Numbers(9), 2, shuffle=True), DataLoader(Numbers(9), 2, shuffle=True)
    epochs = [epoch_of(whole) for _ in range(3)]
    take(loader, 2)
    loader.set_epoch(0)
    assert take(loader, 3) == epochs[0][:3]
    state = loader.state_dict()
    loader.set_epoch(2)
    assert epoch_of(loader) == epochs[2]
    loader.load_state_dict(state)
    loader.set_epoch(0)  # the usual call at the head of an epoch keeps the place in that epoch
    assert epoch_of(loader) == epochs[0][3:]
    loader.load_state_dict(state)
    loader.set_epoch(1)
    assert epoch_of(loader) == epochs[1]
    with pytest.raises(ValueError, match="at least 0, not -1"):
        loader.set_epoch(-1)


def test_only_the_newest_iterator_moves_the_place():
    loader = DataLoader(Numbers(6), 2)
    old = iter(loader)
    next(old)
    new = iter(loader)
    next(new)
    assert len(list(old)) == 2
    assert (loader.epoch, loader.state_dict()["position"]) == (1, 1)


def test_a_checkpoint_after_the_last_batch_ends_the_epoch_on_resume():
    loader = DataLoader(Numbers(4), 2)
    for _ in loader:
        state = loader.state_dict()
    resumed = DataLoader(Numbers(4), 2)
    resumed.load_state_dict(state)
    assert resumed.epoch == 0 and epoch_of(resumed) == [] and resumed.epoch == 1


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (lambda: DataLoader(Numbers(12), 2), "dataset_length 10, this loader has dataset_length 12"),
        (lambda: DataLoader(Numbers(10), 5), "batch_size 2, this loader has batch_size 5"),
        (lambda: DataLoader(Numbers(10), 2, shuffle=True), "sampler SequentialSampler, this loader has sampler Random"),
        (lambda: DataLoader(Numbers(10), 2, sampler=range(4)), "num_batches 5, this loader has num_batches 2"),
    ],
)
def test_a_state_of_other_data_is_refused(other, message):
    with pytest.raises(ValueError, match=message):
        other().load_state_dict(DataLoader(Numbers(10), 2).state_dict())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"position": 6}, "position 6 lies beyond the 5 batches"),
        ({"position": -1}, "position has to be"),
        ({"epoch": "1"}, "epoch has to be .* '1'"),
        ({"seed": None}, "seed has to be"),
    ],
)
def test_a_damaged_state_is_refused(change, message):
    loader = DataLoader(Numbers(10), 2)
    with pytest.raises(ValueError, match=message):
        loader.load_state_dict(loader.state_dict() | change)
    with pytest.raises(ValueError, match="None"):
        loader.load_state_dict({})


# several ranks


def cuts(total, parts):
    return [i * total // parts for i in range(parts + 1)]


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 40),
    st.integers(1, 12),
    st.integers(1, 5),
    st.integers(0, 7),
    st.sampled_from(DATASETS),
    st.sampled_from([0, 2]),
)
def test_shards_cut_every_batch_exactly(total, size, world_size, extra, kind, num_workers):
    micro_batches = world_size + extra
    whole = epoch_of(DataLoader(kind(total), size))
    found = [{} for _ in whole]
    for rank in range(world_size):
        dataset = kind(total)
        loader = DataLoader(dataset, size, num_workers=num_workers)
        own = cuts(micro_batches, world_size)[rank : rank + 2]
        previous = (-1, 0)
        for micro in loader.shards(rank, world_size, micro_batches):
            assert own[0] <= micro.index < own[1]
            assert (micro.step, micro.index) > previous
            previous = micro.step, micro.index
            assert loader.state_dict()["position"] == micro.step + micro.last
            if micro.size:
                found[micro.step][micro.index] = micro.batch.array.tolist()
                assert len(micro.batch.array) == micro.size
            else:
                assert micro.last and micro.index == own[0] and micro.batch.array.tolist() == whole[micro.step][:1]
        assert loader.epoch == 1 and loader.state_dict()["position"] == 0
    for batch, parts in zip(whole, found, strict=True):
        bounds = cuts(len(batch), micro_batches)
        expected = {i: batch[bounds[i] : bounds[i + 1]] for i in range(micro_batches) if bounds[i + 1] > bounds[i]}
        assert parts == expected
        lengths = [len(part) for part in parts.values()]
        assert max(lengths) - min(lengths) <= 1


def test_each_rank_has_exactly_one_last_per_step():
    for rank in range(3):
        micros = list(DataLoader(Numbers(10), 4).shards(rank, 3, 7))
        assert [micro.step for micro in micros if micro.last] == [0, 1, 2]


@pytest.mark.parametrize("kind", [Numbers, Whole])
def test_a_rank_loads_only_its_own_samples(kind):
    dataset = kind(20)
    list(DataLoader(dataset, 10).shards(1, 2, 4))
    assert sorted(dataset.asked) == [5, 6, 7, 8, 9, 15, 16, 17, 18, 19]


def test_resume_within_and_between_steps_on_another_number_of_ranks():
    def samples(loader, world_size, stop=None):
        seen = []
        for rank in range(world_size):
            each = DataLoader(Numbers(12), 4, shuffle=True)
            each.load_state_dict(loader.state_dict())
            seen += [(m.step, m.index, m.batch.array.tolist()) for m in each.shards(rank, world_size, 4)]
        return sorted(seen)

    loader = DataLoader(Numbers(12), 4, shuffle=True)
    whole = samples(loader, 1)
    handed = []
    for micro in loader.shards(0, 2, 4):
        handed.append((micro.step, micro.index, micro.batch.array.tolist()))
        complete = [entry for entry in whole if entry[0] >= micro.step + micro.last]
        for world_size in (1, 2, 3, 4):
            assert samples(loader, world_size) == complete
    assert len(handed) == 6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 3, 2), "micro_batches=2 is less than the 3 ranks"),
        ((2, 2, 2), r"rank 2 is not in 0 … 1"),
        ((-1, 2, 2), "rank -1"),
    ],
)
def test_shards_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        DataLoader(Numbers(3)).shards(*arguments)


def test_shards_refuses_to_cut_twice_or_single_samples():
    loader = DataLoader(Numbers(8), sampler=DistributedSampler(Numbers(8), 2, 0))
    with pytest.raises(ValueError, match="leave out the sampler"):
        loader.shards(0, 2, 2)
    assert len(list(loader.shards(0, 1, 1))) == 4
    with pytest.raises(ValueError, match="batch_size=None"):
        DataLoader(Numbers(3), batch_size=None).shards(0, 1, 2)


@pytest.mark.parametrize("kind", DATASETS)
def test_split_gives_each_batch_to_one_rank(kind):
    whole = epoch_of(DataLoader(kind(11), 2))
    for world_size in (1, 2, 3, 7):
        parts = [[batch.array.tolist() for batch in DataLoader(kind(11), 2).split(r, world_size)] for r in range(world_size)]
        assert all(parts[rank] == whole[rank::world_size] for rank in range(world_size))


# the house's rules


def test_importing_costs_little():
    program = "import sys, dist_train.utils.data, dist_train.vision; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    heavy = {
        "gzip",
        "urllib.request",
        "hashlib",
        "concurrent.futures",
        "tarfile",
        "tqdm",
        "http.client",
        "mpi4py",
        "cupy",
    }
    before = subprocess.run([sys.executable, "-c", "import sys, numpy; print(*sys.modules)"], capture_output=True, text=True)
    assert not (heavy & set(done.stdout.split())) - set(before.stdout.split())


def test_imports_stay_inside_their_layer():
    folder = Path(data.__file__).parent
    found = set()
    for path in folder.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.level == 3:
                found.add(node.module)
    assert found <= {"random", "autograd.tensor", "backend.reference.embedding"}


# memory of batches


@native_cases.needs_native
@pytest.mark.parametrize("num_workers", [0, 1, 3])
@pytest.mark.parametrize("collate_fn", [None, lambda samples: default_collate(samples)], ids=["rows", "collated"])
def test_memory_of_batches_is_used_again(collate_fn, num_workers):
    """In the threads of workers too."""
    values = np.arange(60.0)[:, None] + np.zeros(2**16)
    addresses = set()
    for number, (batch,) in enumerate(DataLoader(TensorDataset(values), 2, num_workers=num_workers, collate_fn=collate_fn)):
        assert np.array_equal(batch.array, values[2 * number : 2 * number + 2])
        assert np._core.multiarray.get_handler_name(batch.array) == "dist_train"
        addresses.add(batch.array.ctypes.data)
    assert len(addresses) <= 4 + 3 * num_workers < 30


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_batch_that_is_kept_is_never_overwritten(num_workers):
    values = np.arange(60.0)[:, None] + np.zeros(2**16)
    views = [batch.array[1, ::2] for (batch,) in DataLoader(TensorDataset(values), 2, num_workers=num_workers)]
    assert all((view == 2 * number + 1).all() for number, view in enumerate(views))


def test_batch_at_is_looked_up_once_an_epoch():
    class Lookups(Numbers):
        lookups = 0

        @property
        def batch_at(self):
            self.lookups += 1
            return lambda indices: Tensor(indices)

    loader = DataLoader(Lookups(9), 2)
    assert [batch.tolist() for batch in loader] == [[0, 1], [2, 3], [4, 5], [6, 7], [8]]
    assert loader.dataset.lookups == 1 and not loader.dataset.asked
    assert len(list(loader)) == 5 and loader.dataset.lookups == 2


# augmentation


class Noisy(Dataset):
    """Each sample is drawn anew: what an augmentation would do."""

    def __len__(self):
        return 22

    def __getitem__(self, index):
        return index + dt.rand(()).item()


class NoisyStream(IterableDataset):
    def __iter__(self):
        return (index + dt.rand(()).item() for index in range(22))


def drawn(kind, rank=0, world_size=1, **arguments):
    """Micro-batch's number in the epoch → its values, for one rank's share; the caller's own draws go on in between."""
    result = {}
    for item in DataLoader(kind(), 6, **arguments).shards(rank, world_size, 3):
        dt.rand(rank + 1)
        result[item.step, item.index] = item.batch.tolist()
    return result


@pytest.mark.parametrize("kind", [Noisy, NoisyStream])
def test_augmentation_does_not_depend_on_ranks_or_threads(kind):
    dt.manual_seed(1)
    expected = drawn(kind)
    assert drawn(kind, num_workers=3) == expected
    assert drawn(kind, 0, 2) | drawn(kind, 1, 2, num_workers=2) == expected
    dt.manual_seed(2)
    assert drawn(kind) != expected


def test_loading_does_not_move_the_default_generator():
    dt.manual_seed(1)
    expected = dt.rand(3).tolist()
    dt.manual_seed(1)
    for _ in DataLoader(Noisy(), 6):
        pass
    assert dt.rand(3).tolist() == expected
