"""How many cores this process may use, and how many ranks share this machine."""

import math
import os
from collections.abc import Mapping
from pathlib import Path


def available_cores() -> int:
    """Physical cores in this process's affinity mask, at most the container's CPU quota, at least 1."""
    return max(1, min(physical_cores(affinity()), cpu_quota()))


def affinity() -> set[int]:
    if hasattr(os, "sched_getaffinity"):
        return set(os.sched_getaffinity(0))
    return set(range(os.cpu_count() or 1))


def physical_cores(processors: set[int], root: Path = Path("/sys/devices/system/cpu")) -> int:
    """`processors` with hyper-threads of one core counted once (BLAS gains nothing from them)."""
    return len({siblings(root / f"cpu{number}", number) for number in processors})


def siblings(folder: Path, number: int) -> str:
    try:
        return (folder / "topology" / "thread_siblings_list").read_text().strip()
    except OSError:
        return str(number)


def cpu_quota(file: Path = Path("/sys/fs/cgroup/cpu.max")) -> int:
    """Whole CPUs that the container's limit (`docker run --cpus`) leaves; a large number where there is no limit."""
    try:
        quota, period = file.read_text().split()[:2]
        return max(1, int(quota) // int(period))
    except (OSError, ValueError):  # no such file, or "max"
        return 1 << 20


def local_ranks(ranks: int, environment: Mapping[str, str]) -> int:
    """The most ranks one node of the batch job in `environment` gets; all of them outside a batch job."""
    return math.ceil(ranks / max(1, allocated_nodes(environment)))


def allocated_nodes(environment: Mapping[str, str]) -> int:
    """Nodes of the surrounding Slurm or PBS allocation, 1 where there is none."""
    for name in ("SLURM_JOB_NUM_NODES", "SLURM_NNODES"):
        if environment.get(name, "").isdecimal():
            return int(environment[name])
    try:
        return len(set(Path(environment["PBS_NODEFILE"]).read_text().split()))
    except (KeyError, OSError):
        return 1
