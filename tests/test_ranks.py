"""Runs tests/ranks, which hold for any number of ranks, at 1, 2, 3 and 4: on one node, and cut into several."""

import pytest
from mpi import FLAVOURS, ROOT, run

LAYOUTS = [(1, 1), (2, 2), (2, 1), (3, 3), (3, 1), (4, 4), (4, 2), (4, 1)]  # ranks, ranks of a node


@pytest.mark.parametrize(("ranks", "node"), LAYOUTS)
@pytest.mark.parametrize("python", FLAVOURS)
def test_at_any_number_of_ranks(python, ranks, node, tmp_path):
    program = ["-m", "pytest", "-q", "-p", "no:cacheprovider", f"--basetemp={tmp_path}/pytest", ROOT / "tests" / "ranks"]
    result = run(python, ranks, *program, DIST_TRAIN_NODE_SIZE=node)
    assert "passed" in result.stdout
