"""CUDA devices under torch's names: is_available, device_count, set_device, synchronize, manual_seed, ..."""

from __future__ import annotations

from .backend.device import Device, cupy, device_count, is_available, set_device, synchronize
from .random import manual_seed

manual_seed_all = manual_seed  # random numbers are drawn on the host from one generator, whatever the device


def current_device() -> int:
    """The number of this thread's current GPU."""
    return int(cupy().cuda.Device().id)


def get_device_name(device: Device | int | None = None) -> str:
    """The name of a GPU, by default the current one."""
    index = device.index if isinstance(device, Device) else device
    properties = cupy().cuda.runtime.getDeviceProperties(current_device() if index is None else index)
    return str(properties["name"].decode())


def is_bf16_supported() -> bool:
    """False: the array libraries have no bfloat16."""
    return False


def memory_allocated() -> int:
    """Bytes that arrays hold in the current GPU's memory pool."""
    return int(cupy().get_default_memory_pool().used_bytes())


def empty_cache() -> None:
    """Give the unused memory of the pool back to the GPU; nothing to do without one."""
    if is_available():
        cupy().get_default_memory_pool().free_all_blocks()


__all__ = [
    "current_device",
    "device_count",
    "empty_cache",
    "get_device_name",
    "is_available",
    "is_bf16_supported",
    "manual_seed",
    "manual_seed_all",
    "memory_allocated",
    "set_device",
    "synchronize",
]
