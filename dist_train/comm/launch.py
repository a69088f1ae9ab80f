"""Whether this process was started by an MPI launcher, read from the environment that launchers set; importing MPI would cost a second."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import NamedTuple

# launcher, then the variables that hold rank, number of ranks, rank on the node, ranks on the node ("" where there is none)
_LAUNCHERS = (
    (
        "Open MPI",
        "OMPI_COMM_WORLD_RANK",
        "OMPI_COMM_WORLD_SIZE",
        "OMPI_COMM_WORLD_LOCAL_RANK",
        "OMPI_COMM_WORLD_LOCAL_SIZE",
    ),
    ("MVAPICH", "MV2_COMM_WORLD_RANK", "MV2_COMM_WORLD_SIZE", "MV2_COMM_WORLD_LOCAL_RANK", "MV2_COMM_WORLD_LOCAL_SIZE"),
    ("PALS", "PALS_RANKID", "PMI_SIZE", "PALS_LOCAL_RANKID", "PALS_LOCAL_SIZE"),
    ("MPICH or Intel MPI (Hydra)", "PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", "MPI_LOCALNRANKS"),
    ("Flux", "FLUX_TASK_RANK", "FLUX_JOB_SIZE", "FLUX_TASK_LOCAL_ID", ""),
    ("jsrun", "JSM_NAMESPACE_RANK", "JSM_NAMESPACE_SIZE", "JSM_NAMESPACE_LOCAL_RANK", "JSM_NAMESPACE_LOCAL_SIZE"),
    (
        "srun",
        "SLURM_PROCID",
        "SLURM_STEP_NUM_TASKS",
        "SLURM_LOCALID",
        "",
    ),  # SLURM_NTASKS is set in every batch shell too
    ("PMIx", "PMIX_RANK", "", "", ""),
)


class Launch(NamedTuple):
    """What a launcher told this process; `size` is 0 where it does not say."""

    launcher: str
    rank: int
    size: int
    local_size: int


def detect_launch(environ: Mapping[str, str] = os.environ) -> Launch | None:
    """The MPI launch that this process belongs to, or None for a process on its own (also for a launch of one)."""
    for launcher, rank, size, _, local_size in _LAUNCHERS:
        if rank in environ and (not size or size in environ):
            launch = Launch(launcher, int(environ[rank]), int(environ.get(size, 0)), int(environ.get(local_size, 0)))
            return None if launch.size == 1 else launch
    return None
