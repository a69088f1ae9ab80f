"""The compiled kernels: overrides in C++ for NumPy arrays. Without them, or with DIST_TRAIN_NATIVE=0, the references run.

Each module here registers one family; the C++ functions check their arrays themselves and return NotImplemented for what they decline.
DIST_TRAIN_ISA=base|avx2|avx512 chooses an instruction set below the processor's best one; it changes the speed, and no bit.
DIST_TRAIN_ALLOCATOR=numpy leaves the memory of arrays to NumPy.
"""

from __future__ import annotations

import os
from typing import Any

_module: Any = None
if os.environ.get("DIST_TRAIN_NATIVE", "1") != "0":
    try:
        from .. import _native

        _module = _native
    except ImportError:
        pass


def available() -> bool:
    """Whether the compiled kernels run."""
    return _module is not None


def instruction_set() -> str | None:
    """The instruction set that the kernels use; None without them."""
    return None if _module is None else str(_module.instruction_set())


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

if _module is not None:
    if "DIST_TRAIN_ISA" in os.environ:
        _module.set_instruction_set(os.environ["DIST_TRAIN_ISA"])
    if os.environ.get("DIST_TRAIN_ALLOCATOR") != "numpy":
        _module.use_allocator()  # arrays reuse the memory of freed ones: a step of 10 MB of activations takes 0.88 of the time
    from . import activation, attention, conv, dropout, embedding, fold, image, norm, optim, pool, product, softmax

    _families = (
        activation,
        attention,
        conv,
        dropout,
        embedding,
        fold,
        image,
        norm,
        optim,
        pool,
        product,
        softmax,
    )  # importing them registers them
