"""The compiled kernels: overrides in C++ for NumPy arrays. Without them the references run.

Each module here registers one family; the C++ functions check their arrays themselves and return NotImplemented for what they decline.
DIST_TRAIN_NATIVE=0 leaves them out, DIST_TRAIN_NATIVE=<path> loads another build of them.
DIST_TRAIN_ISA=base|avx2|avx512 chooses an instruction set below the processor's best one.
DIST_TRAIN_ALLOCATOR=numpy leaves the memory of arrays to NumPy.
"""

from __future__ import annotations

import importlib
import importlib.util
import mmap
import os
import sys
from typing import Any

import numpy as np

_NAME = __name__.removesuffix("native") + "_native"
_FAMILIES = ("activation", "attention", "conv", "dropout", "embedding", "fold", "image", "norm", "optim", "pool", "product", "softmax")


def _load() -> tuple[Any, str]:
    """The compiled module, or None and why there is none."""
    chosen = os.environ.get("DIST_TRAIN_NATIVE", "1")
    if chosen == "0":
        return None, "switched off by DIST_TRAIN_NATIVE=0"
    try:
        return importlib.import_module(_NAME) if chosen == "1" else _load_file(chosen), ""
    except ModuleNotFoundError:
        return None, "not built: there was no C++ compiler, or it failed, when dist_train was installed"
    except ImportError as error:
        return None, f"not loaded: {error}"


def _load_file(path: str) -> Any:
    spec = importlib.util.spec_from_file_location(_NAME, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"DIST_TRAIN_NATIVE={path!r}: expected 0, 1 or the path of a compiled module")
    module = sys.modules[_NAME] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_module, _problem = _load()


def available() -> bool:
    """Whether the compiled kernels run."""
    return _module is not None


def describe() -> str:
    """One line for people: what runs, or why the compiled kernels do not."""
    if _module is None:
        return f"NumPy alone; compiled kernels {_problem}"
    from .product import products_by

    return f"compiled kernels for {_module.instruction_set()}, matrix products by {products_by()}"


def kept_bytes() -> int:
    """Memory of freed arrays that is kept for new ones."""
    return 0 if _module is None else int(_module.allocator_bytes()[2])


def free_kept_memory() -> None:
    """Give it back to the system."""
    if _module is not None:
        _module.free_kept_blocks()


# barrier(flags, rank, size, arrival, spins, yields, seconds): wait until all `size` processes that share `flags`, a line of 64 bytes
# each, have made their call number `arrival`. Looks `spins` times, gives its core away `yields` times, then sleeps. False where `seconds`
# were not enough: call it again. It is the compiled function itself, so that a rank that waits is seen to wait in its caller.
barrier: Any = getattr(_module, "barrier", None)


def map_file(descriptor: int, nbytes: int) -> Any:
    """A file in memory as an array of bytes; what is written to it is in the file. Raises OSError."""
    return np.frombuffer(mmap.mmap(descriptor, nbytes), np.uint8) if _module is None else _module.map_file(descriptor, nbytes)


def use_large_pages(memory: Any, start: int, stop: int) -> None:
    """Put bytes of a mapped file, which are reserved, into large pages where that can be done."""
    if _module is not None:
        _module.use_large_pages(memory, start, stop)


if _module is not None:
    if "DIST_TRAIN_ISA" in os.environ:
        _module.set_instruction_set(os.environ["DIST_TRAIN_ISA"])
    if os.environ.get("DIST_TRAIN_ALLOCATOR") != "numpy":
        _module.use_allocator()  # arrays reuse the memory of freed ones: a step of the CNN or the GPT takes 0.88 of the time
    for _family in _FAMILIES:  # each registers its overrides
        importlib.import_module(f"{__name__}.{_family}")
