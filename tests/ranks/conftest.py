"""Tests in this folder hold for any number of ranks: tests/test_ranks.py runs them under mpirun at several.

A failure on one rank would leave the others waiting, so it is printed and ends all of them.
"""

import os
import tempfile

import pytest

from dist_train.comm import world


@pytest.fixture
def comm():
    return world()


@pytest.fixture
def directory(comm):
    """An empty directory, the same one on all ranks."""
    with tempfile.TemporaryDirectory() as own:
        yield comm.broadcast_object(own)
        comm.barrier()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.failed and world().size > 1:
        text = f"[rank {world().rank} of {world().size}] {item.nodeid} failed\n{report.longreprtext}\n"
        os.write(2, text.encode())
        world().abort(1)
    return report
