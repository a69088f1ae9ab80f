# ruff: noqa: F401
# mypy: implicit-reexport
"""Data-parallel training on NumPy and CuPy arrays over MPI, with PyTorch's names.

    import dist_train as dt
    from dist_train import nn, optim

Tensors and their operations are here at once; everything else is imported when it is first used, so that `import dist_train` costs
little more than `import numpy`.
"""

import builtins as _builtins
import importlib as _importlib
import sys as _sys
from typing import TYPE_CHECKING, Any

import numpy as _numpy

from . import autograd, random
from .autograd import (
    Tensor,
    enable_grad,
    inference_mode,
    is_grad_enabled,
    no_grad,
    set_grad_enabled,
)
from .autograd.ops.activation import relu
from .autograd.ops.arrangement import diag, diagonal, diff, flip, roll, trace, tril, tril_indices, triu, triu_indices
from .autograd.ops.comparison import (
    all,
    allclose,
    any,
    bitwise_and,
    bitwise_not,
    bitwise_or,
    bitwise_xor,
    eq,
    equal,
    ge,
    gt,
    is_floating_point,
    is_tensor,
    isclose,
    isfinite,
    isinf,
    isnan,
    le,
    logical_and,
    logical_not,
    logical_or,
    logical_xor,
    lt,
    ne,
)
from .autograd.ops.conversion import (
    BoolTensor,
    ByteTensor,
    CharTensor,
    DoubleTensor,
    FloatTensor,
    HalfTensor,
    IntTensor,
    LongTensor,
    ShortTensor,
    clone,
)
from .autograd.ops.creation import (
    arange,
    as_tensor,
    asarray,
    empty,
    empty_like,
    eye,
    from_numpy,
    full,
    full_like,
    linspace,
    logspace,
    ones,
    ones_like,
    tensor,
    zeros,
    zeros_like,
)
from .autograd.ops.einsum import einsum
from .autograd.ops.elementwise import (
    add,
    div,
    divide,
    floor_divide,
    maximum,
    minimum,
    mul,
    multiply,
    pow,
    remainder,
    sub,
    subtract,
    true_divide,
    where,
)
from .autograd.ops.indexing import (
    gather,
    index_add,
    index_select,
    masked_fill,
    masked_scatter,
    masked_select,
    narrow,
    nonzero,
    scatter,
    scatter_add,
    select,
    take,
)
from .autograd.ops.joining import (
    cat,
    chunk,
    concat,
    concatenate,
    hstack,
    meshgrid,
    repeat_interleave,
    split,
    stack,
    tile,
    unbind,
    vstack,
)
from .autograd.ops.linalg import addmm, baddbmm, bmm, dot, matmul, mm, mv, outer
from .autograd.ops.pointwise import (
    abs,
    absolute,
    acos,
    asin,
    atan,
    ceil,
    clamp,
    clip,
    cos,
    cosh,
    erf,
    exp,
    exp2,
    expm1,
    floor,
    log,
    log1p,
    log2,
    log10,
    neg,
    negative,
    reciprocal,
    round,
    rsqrt,
    sigmoid,
    sign,
    sin,
    sinh,
    sqrt,
    square,
    tan,
    tanh,
    trunc,
)
from .autograd.ops.promotion import get_default_dtype, promote_types, result_type, set_default_dtype
from .autograd.ops.reduction import (
    amax,
    amin,
    argmax,
    argmin,
    count_nonzero,
    cumsum,
    logsumexp,
    max,
    mean,
    min,
    norm,
    prod,
    std,
    std_mean,
    sum,
    var,
    var_mean,
)
from .autograd.ops.sampling import (
    bernoulli,
    multinomial,
    normal,
    rand,
    rand_like,
    randint,
    randint_like,
    randn,
    randn_like,
    randperm,
)
from .autograd.ops.shape import (
    broadcast_tensors,
    broadcast_to,
    flatten,
    moveaxis,
    movedim,
    permute,
    ravel,
    reshape,
    squeeze,
    swapaxes,
    swapdims,
    t,
    transpose,
    unflatten,
    unsqueeze,
)
from .autograd.ops.softmax import log_softmax, softmax
from .autograd.ops.sorting import argsort, bincount, searchsorted, sort, topk, unique
from .autograd.tensor import Size
from .backend.device import Device
from .random import Generator, default_generator, get_rng_state, initial_seed, manual_seed, seed, set_rng_state

if TYPE_CHECKING:
    from . import accelerator, checkpoint, comm, cuda, distributed, nn, optim, utils, vision
    from .checkpoint import Checkpoint, save
    from .distributed.distribute import distribute
    from .distributed.memory import memory_report
    from .nn import functional

__version__ = "0.1.0"

device = Device
dtype = _numpy.dtype
float16 = half = _numpy.dtype(_numpy.float16)
float32 = float = _numpy.dtype(_numpy.float32)
float64 = double = _numpy.dtype(_numpy.float64)
uint8 = _numpy.dtype(_numpy.uint8)
int8 = _numpy.dtype(_numpy.int8)
int16 = short = _numpy.dtype(_numpy.int16)
int32 = int = _numpy.dtype(_numpy.int32)
int64 = long = _numpy.dtype(_numpy.int64)
bool = _numpy.dtype(_numpy.bool_)
inf, nan, pi, e = _numpy.inf, _numpy.nan, _numpy.pi, _numpy.e


class _Bfloat16:
    """The name `bfloat16`, for programs that list types; NumPy has no such type, so using it is an error."""

    def __repr__(self) -> str:
        return "bfloat16"

    @property
    def dtype(self) -> Any:
        raise TypeError("NumPy has no bfloat16: use float32, or float16 where memory is short")


bfloat16 = _Bfloat16()

_MODULES = ("accelerator", "checkpoint", "comm", "cuda", "distributed", "nn", "optim", "utils", "vision")
_OBJECTS = {
    "Checkpoint": ".checkpoint",
    "distribute": ".distributed",
    "functional": ".nn",
    "memory_report": ".distributed",
    "save": ".checkpoint",
}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return _importlib.import_module("." + name, __name__)
    if name in _OBJECTS:
        value = getattr(_importlib.import_module(_OBJECTS[name], __name__), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES, *_OBJECTS})


def numel(input: Tensor) -> Any:
    """The number of elements."""
    return input.numel()


def load(f: Any, map_location: Any = None, *, weights_only: _builtins.bool = True) -> Any:
    """What `save` wrote to `f` (a path or a binary file), with Tensors on `map_location`. Data only: no code is ever run."""
    from .checkpoint import load

    return load(f, map_location, weights_only=weights_only, tensor=Tensor)


def _begin_as_rank() -> None:
    """Under an MPI launch: a failing rank ends all, and rank 0 says when the step will be slow for want of compiled kernels."""
    from .comm.launch import detect_launch

    launch = detect_launch()
    if launch is None:
        return
    from .backend import native
    from .comm.failure import end_all_ranks_on_failure

    end_all_ranks_on_failure(launch)
    if launch.rank == 0 and not native.available():
        print(f"dist_train: {native.describe()}", file=_sys.stderr)


_begin_as_rank()
