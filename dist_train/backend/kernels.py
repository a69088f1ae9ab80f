"""The registry of numeric kernels: a reference that says what is computed, and faster overrides per array library.

@kernel
def relu(xp, x):                      # the specification, for NumPy and CuPy alike
    return xp.maximum(x, 0)

@relu.override("numpy")               # tried first on NumPy arrays; may decline
def relu_native(x):
    return native.relu(x) if x.dtype == "float32" else NotImplemented

relu(array)                           # the library is that of the first argument
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy import ndarray

from .device import array_module

REGISTRY: dict[str, Kernel] = {}


class Kernel:
    """A named computation on arrays: call it without `xp`; overrides are tried before the reference."""

    def __init__(self, reference: Callable[..., Any]) -> None:
        self.name = reference.__name__
        self.reference = reference
        self.overrides: dict[str, Callable[..., Any]] = {}
        self.__doc__ = reference.__doc__

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        xp = np if type(args[0]) is ndarray else array_module(args[0])
        override = self.overrides.get("numpy" if xp is np else "cupy")
        if override is not None:
            result = override(*args, **kwargs)
            if result is not NotImplemented:
                return result
        return self.reference(xp, *args, **kwargs)

    def override(self, library: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Register a faster function for arrays of `library` ("numpy" or "cupy"); it may return NotImplemented."""

        def register(function: Callable[..., Any]) -> Callable[..., Any]:
            self.overrides[library] = function
            return function

        return register

    def __repr__(self) -> str:
        return f"<kernel {self.name}, overrides: {', '.join(self.overrides) or 'none'}>"


def kernel(reference: Callable[..., Any]) -> Kernel:
    """Register `reference(xp, array, ...)` as a kernel under its own name."""
    if reference.__name__ in REGISTRY:
        raise ValueError(f"a kernel named {reference.__name__!r} is registered already")
    return REGISTRY.setdefault(reference.__name__, Kernel(reference))
