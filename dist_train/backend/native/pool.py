"""Pooling, of as many planes at a time as a vector holds."""

from .. import _native
from ..reference import pool

for kernel in (pool.max_pool, pool.max_pool_backward, pool.avg_pool, pool.avg_pool_backward):
    kernel.override("numpy")(getattr(_native, kernel.name))
