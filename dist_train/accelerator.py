"""The accelerator of this machine, if it has one: a CUDA GPU (see `dist_train.cuda`)."""

from __future__ import annotations

from .backend.device import Device, device_count, is_available, set_device, synchronize
from .cuda import current_device


def current_accelerator(check_available: bool = False) -> Device | None:
    """`device("cuda")` where CuPy sees a GPU, else None."""
    return Device("cuda") if is_available() else None


set_device_index = set_device
current_device_index = current_device

__all__ = [
    "current_accelerator",
    "current_device_index",
    "device_count",
    "is_available",
    "set_device_index",
    "synchronize",
]
