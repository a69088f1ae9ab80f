"""Files in memory that the ranks of a node share."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from native_cases import needs_native

from dist_train.backend import native

SHM = Path("/dev/shm")
pytestmark = pytest.mark.skipif(not SHM.is_dir(), reason="there is no /dev/shm here")
PAGE = 2**21


@pytest.fixture
def file() -> Iterator[int]:
    path = SHM / f"dist_train-test-{os.getpid()}"
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
    yield descriptor
    os.close(descriptor)
    path.unlink()


def reserve(descriptor: int, nbytes: int) -> None:
    os.truncate(descriptor, nbytes)
    os.posix_fallocate(descriptor, 0, nbytes)


@pytest.mark.parametrize("nbytes", [1, 4096, PAGE - 1, 3 * PAGE + 12345])
def test_what_one_mapping_writes_the_other_sees(file: int, nbytes: int) -> None:
    reserve(file, nbytes)
    one, other = native.map_file(file, nbytes), native.map_file(file, nbytes)
    assert one.shape == (nbytes,) and one.dtype == np.uint8 and not one.any()
    one[:] = np.arange(nbytes) % 251
    for memory, start, stop in ((one, 0, nbytes), (other, nbytes // 3, nbytes), (one, 5, nbytes // 2)):
        native.use_large_pages(memory, start, stop)
        assert (other == np.arange(nbytes) % 251).all()
    other[nbytes // 2] = 255
    assert one[nbytes // 2] == 255


def mappings() -> int:
    return Path("/proc/self/maps").read_text().count(f"dist_train-test-{os.getpid()}")


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_the_last_view_takes_the_mapping_away(file: int) -> None:
    reserve(file, PAGE)
    memory = native.map_file(file, PAGE)
    view = memory[10:20].view(np.int16)
    del memory
    assert mappings() == 1 and view.sum() == 0
    del view
    assert mappings() == 0


@needs_native
def test_begins_where_large_pages_do(file: int) -> None:
    reserve(file, 10)
    assert native.map_file(file, 10).ctypes.data % PAGE == 0


def test_what_cannot_be_mapped_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(4096))
    descriptor = os.open(tmp_path / "file", os.O_RDONLY)
    with pytest.raises(OSError):
        native.map_file(descriptor, 4096)
    os.close(descriptor)
