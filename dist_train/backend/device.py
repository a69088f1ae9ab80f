"""Devices and array modules: where an array lives, which library computes on it, and how it moves.

The only file of the package that imports CuPy, and only when a CUDA device is asked for.
"""

from __future__ import annotations

import importlib.util
import sys
from contextlib import AbstractContextManager, nullcontext
from types import ModuleType
from typing import Any

import numpy as np

Array = Any  # a numpy.ndarray or a cupy.ndarray


class Device:
    """A place for arrays: `device("cpu")`, `device("cuda")`, `device("cuda", 1)` or `device("cuda:1")`."""

    __slots__ = ("index", "type")

    def __init__(self, type: str | Device, index: int | None = None) -> None:
        name, _, number = str(type).partition(":")
        if name not in ("cpu", "cuda") or (number and not number.isdecimal()):
            raise RuntimeError(f"unknown device {str(type)!r}: expected 'cpu', 'cuda' or 'cuda:<number>'")
        self.type = name
        self.index = int(number) if number else index

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Device) and (self.type, self.index or 0) == (other.type, other.index or 0)

    def __hash__(self) -> int:
        return hash((self.type, self.index or 0))

    def __str__(self) -> str:
        return self.type if self.index is None else f"{self.type}:{self.index}"

    def __repr__(self) -> str:
        return f"device(type='{self.type}'" + (")" if self.index is None else f", index={self.index})")


CPU = Device("cpu")


def array_module(array: Array) -> ModuleType:
    """The library that computes on `array`: NumPy, or CuPy for a CuPy array."""
    if type(array) is np.ndarray:
        return np
    return sys.modules[type(array).__module__.partition(".")[0]] if is_device_array(array) else np


def is_device_array(array: object) -> bool:
    return type(array).__module__.partition(".")[0] == "cupy"


def device_of(array: Array) -> Device:
    """The device that holds `array`."""
    return Device("cuda", array.device.id) if is_device_array(array) else CPU


def cupy() -> ModuleType:
    """The CuPy module, imported at the first call; ImportError says how to install it."""
    try:
        import cupy as module
    except ImportError as error:
        raise ImportError('CUDA needs CuPy: pip install "dist-train[cuda]"') from error
    return module  # type: ignore[no-any-return]


def module_of(device: Device) -> ModuleType:
    """The array library of a device."""
    return np if device.type == "cpu" else cupy()


def on(device: Device) -> AbstractContextManager[Any]:
    """Inside, new device arrays are made on `device`; "cuda" without a number is the current GPU."""
    return nullcontext() if device.type == "cpu" or device.index is None else cupy().cuda.Device(device.index)


def is_available() -> bool:
    """Whether CuPy is installed and sees a GPU."""
    if importlib.util.find_spec("cupy") is None:
        return False
    try:
        return int(cupy().cuda.runtime.getDeviceCount()) > 0
    except Exception:
        return False


def device_count() -> int:
    """The number of GPUs."""
    return int(cupy().cuda.runtime.getDeviceCount()) if is_available() else 0


def set_device(device: Device | int) -> None:
    """Make a GPU the current one of this thread."""
    index = device.index if isinstance(device, Device) else device
    cupy().cuda.Device(index or 0).use()


def to_device(array: Array, device: Device) -> Array:
    """`array` on `device`: the same object when it is there already, else a copy. "cuda" without a number is the current GPU."""
    if device.type == "cpu":
        return to_host(array)
    if not is_device_array(array):
        with on(device):
            return cupy().asarray(array)
    if device.index in (None, array.device.id):
        return array
    with on(device):
        return array.copy()


def to_host(array: Array) -> np.ndarray[Any, Any]:
    """`array` as a NumPy array, without a copy when it is one."""
    return cupy().asnumpy(array) if is_device_array(array) else np.asarray(array)


def synchronize() -> None:
    """Wait for the work queued on the current GPU; nothing to wait for on a CPU."""
    if "cupy" in sys.modules:
        cupy().cuda.get_current_stream().synchronize()
