"""Memory of batches: used again when nobody refers to the batch, and never before."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest

from dist_train import nn
from dist_train.autograd.tensor import Tensor
from dist_train.random import manual_seed
from dist_train.utils.data import DataLoader, Dataset, TensorDataset, buffers
from dist_train.utils.data.buffers import LEAST, Buffers
from dist_train.utils.data.dataset import take_rows
from dist_train.vision.transforms import Compose, Normalize, ToTensor, on_rows

BYTES = np.dtype(np.uint8)
ROWS, WIDTH, BATCH = 92, 2**16, 4  # batches of 4 rows are 1 MiB of float32
VALUES = np.arange(ROWS, dtype=np.float32)[:, None] + np.arange(WIDTH, dtype=np.float32) / 2**17


class OneByOne(Dataset):
    """Its samples are collated."""

    def __len__(self):
        return ROWS

    def __getitem__(self, index):
        return VALUES[index]


class Pictures(Dataset):
    """Bytes that become floats."""

    images = np.random.default_rng(0).integers(0, 256, (ROWS, 256, 256), dtype=np.uint8)
    transform = Compose([ToTensor(), Normalize(0.5, 0.25)])

    def __len__(self):
        return ROWS

    def __getitem__(self, index):
        return self.transform(self.images[index])

    def batch_at(self, indices):
        return Tensor(on_rows(self.transform, self.images, indices))


class Rows(TensorDataset):
    """The tensor alone, without a list around it."""

    def batch_at(self, indices):
        return super().batch_at(indices)[0]

    def __getitem__(self, index):
        return super().__getitem__(index)[0]


DATASETS = {"rows": lambda: Rows(VALUES), "collated": OneByOne, "pictures": Pictures}
WORKERS = [0, 1, 3]


def expected(dataset):
    """The whole data set's batches."""
    samples = np.stack([np.asarray(getattr(sample, "array", sample)) for sample in (dataset[i] for i in range(ROWS))])
    return [samples[i : i + BATCH] for i in range(0, ROWS, BATCH)]


def address(batch):
    return batch.array.__array_interface__["data"][0]


@pytest.mark.parametrize("num_workers", WORKERS)
@pytest.mark.parametrize("kind", DATASETS)
def test_memory_is_used_again(kind, num_workers):
    dataset = DATASETS[kind]()
    found = set()
    for batch, values in zip(DataLoader(dataset, BATCH, num_workers=num_workers), expected(dataset), strict=True):
        assert np.array_equal(batch.array, values)
        found.add(id(batch.array.base))
    assert len(found) <= 2 + 3 * num_workers < ROWS // BATCH
    assert type(batch.array.base) is np.ndarray


@pytest.mark.parametrize("num_workers", WORKERS)
@pytest.mark.parametrize("kind", DATASETS)
def test_a_list_of_the_loader_holds_every_batch(kind, num_workers):
    dataset = DATASETS[kind]()
    batches = list(DataLoader(dataset, BATCH, num_workers=num_workers))
    assert all(np.array_equal(batch.array, values) for batch, values in zip(batches, expected(dataset), strict=True))
    assert len({address(batch) for batch in batches}) == len(batches)


def to_torch(batch):
    return pytest.importorskip("torch").from_numpy(batch.numpy())


# what a program may keep of a batch → the values of its first row from what it kept
KEPT = {
    "tensor": (lambda batch: batch, lambda kept: kept.array[0]),
    "array": (lambda batch: batch.array, lambda kept: kept[0]),
    "numpy": (lambda batch: batch.numpy(), lambda kept: kept[0]),
    "row": (lambda batch: batch[0], lambda kept: kept.array),
    "view of a view": (lambda batch: batch.array.reshape(-1)[1:WIDTH], lambda kept: [np.nan, *kept]),
    "detached": (lambda batch: batch.detach(), lambda kept: kept.array[0]),
    "memoryview": (lambda batch: memoryview(batch.array), lambda kept: np.asarray(kept)[0]),
    "torch": (to_torch, lambda kept: kept.numpy()[0]),
    "iterator": (lambda batch: iter(batch.array), lambda kept: next(kept)),
    "closure": (lambda batch: lambda: batch.array[0], lambda kept: kept()),
}


@pytest.mark.parametrize("num_workers", WORKERS)
@pytest.mark.parametrize("name", KEPT)
def test_what_is_kept_is_never_overwritten(name, num_workers):
    keep, first_row = KEPT[name]
    kept = {}
    for number, batch in enumerate(DataLoader(Rows(VALUES), BATCH, num_workers=num_workers)):
        if number % 3 == 1:
            kept[number] = keep(batch)
        batch = None  # the only reference besides what was kept
    for number, value in kept.items():
        np.testing.assert_array_equal(np.asarray(first_row(value))[1:WIDTH], VALUES[number * BATCH, 1:])


@pytest.mark.parametrize("num_workers", WORKERS)
def test_what_backward_needs_is_never_overwritten(num_workers):
    manual_seed(0)
    layer = nn.Linear(WIDTH, 1, bias=False)
    losses = [layer(batch).sum() for batch in DataLoader(Rows(VALUES), BATCH, num_workers=num_workers)]
    for number, loss in enumerate(losses):
        layer.weight.grad = None
        loss.backward()
        rows = VALUES[number * BATCH : (number + 1) * BATCH]
        np.testing.assert_allclose(layer.weight.grad.array[0], rows.sum(axis=0), rtol=1e-6)


@pytest.mark.parametrize("num_workers", WORKERS)
def test_changing_a_batch_changes_no_other(num_workers):
    for batch, values in zip(DataLoader(Rows(VALUES), BATCH, num_workers=num_workers), expected(Rows(VALUES)), strict=True):
        assert np.array_equal(batch.array, values)
        batch.array[...] = np.nan


def test_nothing_is_kept_when_the_iteration_is_over():
    iteration = iter(DataLoader(Rows(VALUES), BATCH))
    batch = next(iteration)
    memory = weakref.ref(batch.array.base)
    del batch
    gc.collect()
    assert memory() is not None
    del iteration
    gc.collect()
    assert memory() is None


def test_small_batches_are_left_to_the_allocator():
    small = VALUES[:, : WIDTH // 2 - 1].copy()
    for batch in DataLoader(Rows(small), BATCH // 2):
        assert batch.array.base is None and batch.array.nbytes < LEAST


# the memory itself


def test_at_most_so_many_pieces():
    memory = Buffers(2)
    held = [memory.empty((10,), BYTES) for _ in range(5)]
    assert len(memory._pieces) == 2
    last = {id(array.base) for array in held[-2:]}
    del held
    assert {id(memory.empty((10,), BYTES).base) for _ in range(4)} <= last


@pytest.mark.parametrize(("first", "then", "same"), [(100, 100, True), (100, 50, True), (100, 49, False), (100, 101, False)])
def test_a_piece_serves_what_fits(first, then, same):
    memory = Buffers(2)
    base = weakref.ref(memory.empty((first,), BYTES).base)
    assert (memory.empty((then,), BYTES).base is base()) == same


def test_types_and_shapes_share_a_piece():
    memory = Buffers(1)
    pieces = {id(memory.empty(*form).base) for form in [((4, 2), np.dtype(np.float64)), ((16,), np.dtype(np.int32)), ((8, 8, 1), BYTES)]}
    assert len(pieces) == 1


def test_without_exact_counts_nothing_is_used_again(monkeypatch):
    monkeypatch.setattr(buffers, "_COUNTS", False)
    memory = Buffers(2)
    first = weakref.ref(memory.empty((10,), BYTES).base)
    assert memory.empty((10,), BYTES).base is not first()


def test_outside_of_a_loader_memory_is_new():
    first = buffers.empty((LEAST,), BYTES)
    assert first.base is None and first.shape == (LEAST,)


@pytest.mark.parametrize("indices", [[0, 91, -1, -92, 5], [3], []])
@pytest.mark.parametrize("array", [VALUES, VALUES[:, :8], VALUES[::2].repeat(2, axis=0), VALUES[:, ::2], VALUES[:0].reshape(0, WIDTH)])
def test_rows(array, indices):
    indices = np.array(indices if len(array) else [], np.int64)
    assert np.array_equal(take_rows(array, indices), array[indices])


@pytest.mark.parametrize("index", [92, -93])
@pytest.mark.parametrize("array", [VALUES, VALUES[:, :8].copy(), VALUES[:, ::2]])
def test_rows_out_of_bounds(array, index):
    with pytest.raises(IndexError, match=f"index {index} is out of bounds for axis 0 with size 92"):
        take_rows(array, np.full(16, index))
