"""`DistributedDataParallel`, under torch's name; it lives with the communication it uses, in `dist_train.distributed`."""

from typing import Any


def __getattr__(name: str) -> Any:
    if name == "DistributedDataParallel":
        from ...distributed.data_parallel import DistributedDataParallel

        return DistributedDataParallel
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
