"""The environment of the ranks: threads per rank, and what must travel to other hosts."""

from collections.abc import Mapping

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

# Open MPI carries only its own variables to other hosts; these are what Python, the libraries and the package read.
FORWARDED = frozenset({"PATH", "LD_LIBRARY_PATH", "VIRTUAL_ENV", "CUDA_VISIBLE_DEVICES", "CUDA_PATH", "HOME", "LANG"})
FORWARDED_PREFIXES = ("PYTHON", "DIST_TRAIN_", "OMP_", "OPENBLAS_", "MKL_", "NCCL_", "CUPY_", "MPI4PY_", "UCX_", "FI_")


def thread_settings(exported: Mapping[str, str], *, threads: int | None, cores: int, local_ranks: int) -> dict[str, str]:
    """Values of the thread variables in every rank.

    `threads` wins; without it what the user exported stays, and the rest follows OMP_NUM_THREADS or, where that is
    not a number, cores / local_ranks (at least 1).
    """
    if threads is not None:
        return dict.fromkeys(THREAD_VARIABLES, str(threads))
    default = exported.get("OMP_NUM_THREADS", "")
    if not default.isdecimal():
        default = str(max(1, cores // local_ranks))
    return {name: exported.get(name) or default for name in THREAD_VARIABLES}


def most_threads(settings: Mapping[str, str]) -> int:
    """The largest number of threads in `settings`; nested OpenMP lists ("4,2") count by their first number."""
    numbers = [value.partition(",")[0] for value in settings.values()]
    return max((int(number) for number in numbers if number.isdecimal()), default=1)


def forwarded_names(exported: Mapping[str, str]) -> tuple[str, ...]:
    """Names of the exported variables that ranks on other hosts need, sorted."""
    return tuple(sorted(name for name in exported if name in FORWARDED or name.startswith(FORWARDED_PREFIXES)))


def torch_variables(rank: int, size: int, local_rank: int, local_size: int) -> dict[str, str]:
    """torchrun's names for a rank's place."""
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    return dict(zip(names, map(str, (rank, size, local_rank, local_size)), strict=True))
