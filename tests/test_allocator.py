"""The memory of arrays: aligned, zeroed where asked for, reused, returned, and safe between threads."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
from typing import Any

import numpy as np
import pytest
from native_cases import needs_native

from dist_train.backend import native

pytestmark = needs_native
SIZES = [0, 1, 63, 64, 65, 1023, 1024, 1025, 1100, 4096, 5000, 2**20, 2**22 - 64, 2**22 + 1, 3 * 2**22]


def owned(array: Any) -> bool:
    return bool(np._core.multiarray.get_handler_name(array) == "dist_train")


def idle() -> int:
    from dist_train.backend import _native

    return int(_native.allocator_bytes()[2])


@pytest.mark.parametrize("size", SIZES)
def test_every_size_is_aligned_and_whole(size: int) -> None:
    arrays = [np.empty(size, np.uint8) for _ in range(3)]
    for value, array in enumerate(arrays):
        assert owned(array) and array.ctypes.data % 64 == 0
        array[...] = value
    assert all((array == value).all() for value, array in enumerate(arrays))


@pytest.mark.parametrize("size", SIZES[1:])
def test_memory_comes_back_and_zeros_are_zero(size: int) -> None:
    first = np.full(size, 255, np.uint8)
    address = first.ctypes.data
    del first
    second = np.zeros(size, np.uint8)
    assert second.ctypes.data == address
    assert not second.any()


def test_resized_arrays_keep_their_values() -> None:
    for old, new in [(10, 5000), (5000, 10), (3_000_000, 3_000_001), (3_000_000, 9_000_000), (9_000_000, 100)]:
        array = np.arange(old, dtype=np.int64)
        array.resize(new, refcheck=False)
        kept = min(old, new)
        np.testing.assert_array_equal(array[:kept], np.arange(kept))
        assert not array[kept:].any()


def test_random_use() -> None:
    rng = np.random.default_rng(0)
    living: list[tuple[int, Any]] = []
    for value in range(3000):
        if living and rng.random() < 0.5:
            expected, array = living.pop(int(rng.integers(len(living))))
            assert (array == expected % 251).all()
        living.append((value, np.full(int(2 ** rng.uniform(0, 21)), value % 251, np.uint8)))
        if len(living) > 40:
            living.pop(0)


def test_what_is_kept_is_bounded() -> None:
    """Sizes that never come back are returned to the system."""
    from dist_train.backend import _native

    for size in range(2**20, 2**24, 2**17):
        np.empty(size, np.uint8)
    in_use, peak, kept = _native.allocator_bytes()
    assert in_use + kept <= peak + peak // 2


def test_what_nobody_asks_for_is_returned() -> None:
    """Arrays of a size that does not come back wait for a while, then their memory goes; that of sizes that do come back stays."""
    lonely = [np.empty(5 * 2**20, np.uint8) for _ in range(4)]
    used = np.empty(7 * 2**20, np.uint8).ctypes.data
    del lonely
    before = idle()
    for _ in range(3 * 4096):
        assert np.empty(7 * 2**20, np.uint8).ctypes.data == used
    assert idle() <= before - 20 * 2**20


def test_all_that_is_kept_can_be_returned() -> None:
    np.empty(5 * 2**20, np.uint8)
    assert idle() >= 5 * 2**20
    native.free_kept_memory()
    assert idle() == 0 == native.kept_bytes()


def test_very_large_arrays_are_not_kept() -> None:
    gc.collect()
    before = idle()
    np.empty(2**30 + 2**12, np.uint8)
    assert idle() == before


def test_arrays_of_other_threads() -> None:
    """Threads make arrays of their own; whoever drops an array, its memory goes where it came from."""
    arrays = [np.full(10_000, i) for i in range(50)]
    made: list[Any] = []

    def work() -> None:
        made.extend(np.full(10_000, i) for i in range(50))
        while arrays:
            arrays.pop()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(int(a[0]) for a in made) == sorted(list(range(50)) * 4)
    assert all((a == a[0]).all() for a in made)


def test_can_be_left_out() -> None:

    code = "import dist_train, numpy as np; print(np._core.multiarray.get_handler_name(np.empty(3)))"
    for value, name in [("numpy", "default_allocator"), ("", "dist_train")]:
        out = subprocess.run([sys.executable, "-c", code], env={**os.environ, "DIST_TRAIN_ALLOCATOR": value}, capture_output=True)
        assert out.stdout.decode().strip() == name, out.stderr.decode()
    assert native.available()
