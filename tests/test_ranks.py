"""Runs tests/ranks, which hold for any number of ranks, at 1, 2, 3 and 4."""

import pytest
from mpi import FLAVOURS, ROOT, run


@pytest.mark.parametrize("ranks", [1, 2, 3, 4])
@pytest.mark.parametrize("python", FLAVOURS)
def test_at_any_number_of_ranks(python, ranks, tmp_path):
    result = run(python, ranks, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--basetemp={tmp_path}/pytest", ROOT / "tests" / "ranks")
    assert "passed" in result.stdout
