"""The number of BLAS threads of this process. It is part of a result's identity: OpenBLAS rounds differently with another number."""

from __future__ import annotations

import os

_VARIABLES = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS")


def available_cores() -> set[int]:
    """The cores that this process may run on."""
    return set(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))


def chosen_by_user() -> bool:
    """Whether the environment fixes the number of BLAS threads."""
    return any(os.environ.get(name) for name in _VARIABLES)


def blas_threads() -> int:
    """The number of threads that NumPy's BLAS uses now."""
    import numpy as np  # loads the BLAS that is asked
    import threadpoolctl

    del np
    counts = [pool["num_threads"] for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"]
    return max(counts, default=1)


def pin_threads(count: int) -> None:
    """Give BLAS, and the compiled kernels, `count` threads from now on."""
    import threadpoolctl

    threadpoolctl.threadpool_limits(count)
