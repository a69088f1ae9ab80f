"""Benchmarks that start processes: a script on a number of ranks, ours by the launcher, PyTorch's by the environment that it reads."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from report import free_port

TIME_LIMIT = 600  # seconds


def environment(**extra: str) -> dict[str, str]:
    """One thread each, and what Open MPI wants as root and with few cores."""
    return {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "OMPI_ALLOW_RUN_AS_ROOT": "1",
        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
        "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
        **extra,
    }


def launcher(ranks: int) -> list[str]:
    """mpiexec of this environment, or the one on the path; nothing for one rank."""
    if ranks == 1:
        return []
    beside = Path(sys.executable).parent / "mpiexec"
    found = str(beside) if beside.exists() else shutil.which("mpiexec")
    if found is None:
        raise RuntimeError("no mpiexec: install dist-train[mpi], or load the module of the site's MPI")
    return [found, "-n", str(ranks)]


def run_under_mpi(ranks: int, *words: str) -> str:
    """What `python words…` on that many ranks prints."""
    command = [*launcher(ranks), sys.executable, *words]
    return subprocess.run(command, env=environment(), stdout=subprocess.PIPE, text=True, check=True, timeout=TIME_LIMIT).stdout


def run_under_torch(ranks: int, *words: str) -> str:
    """The same with RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT set, as torchrun does; what rank 0 prints. Cheaper than torchrun."""
    place = {"WORLD_SIZE": str(ranks), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    processes = [
        subprocess.Popen([sys.executable, *words], env=environment(**place, RANK=str(rank)), stdout=subprocess.PIPE, text=True)
        for rank in range(ranks)
    ]
    try:
        outputs = [process.communicate(timeout=TIME_LIMIT)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    if any(process.returncode for process in processes):
        raise RuntimeError(f"{' '.join(words)} ended with {[process.returncode for process in processes]}")
    return outputs[0]
