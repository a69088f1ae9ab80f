"""Parameter, and how layers make theirs."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..autograd import Parameter, Tensor
from ..autograd.ops.promotion import get_default_dtype
from ..backend.device import CPU, Device, module_of

__all__ = ["Parameter", "new_parameter", "new_tensor"]


def new_tensor(shape: tuple[int, ...], value: float = 0.0, *, dtype: Any = None, device: Any = None) -> Tensor:
    """A tensor filled with `value`, by default of the default type, on the CPU."""
    place = CPU if device is None else Device(device)
    return Tensor(module_of(place).full(shape, value, get_default_dtype() if dtype is None else np.dtype(dtype)))


def new_parameter(shape: tuple[int, ...], value: float = 0.0, *, dtype: Any = None, device: Any = None) -> Parameter:
    """A parameter filled with `value`."""
    return Parameter(new_tensor(shape, value, dtype=dtype, device=device))
