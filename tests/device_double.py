"""A stand-in for CuPy where there is no GPU: NumPy computes, but only what CuPy 14 lets through.

`module()` makes a module that a test puts into `sys.modules["cupy"]` for as long as it runs. Its arrays refuse host arrays in every
operation and every implicit conversion to NumPy; indexing and reductions give 0-dimensional arrays, never scalars; a function, method or
keyword exists only if it is in the tables below, which follow CuPy's source. Code that needs another one: look it up there, then add a
line. A host array may be an index, which CuPy copies. In one place the stand-in is stricter: CuPy takes a 0-dimensional host array as the
value in `x[...] = value`.
"""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

NUM_DEVICES = 2

FUNCTIONS = """
arange(start, stop=None, step=1, dtype=None)
argmax(a, axis=None, dtype=None, out=None, keepdims=False)
argmin(a, axis=None, dtype=None, out=None, keepdims=False)
argsort(a, axis=-1, kind=None)
ascontiguousarray(a, dtype=None)
bincount(x, weights=None, minlength=None)
broadcast_to(array, shape)
clip(a, a_min, a_max, out=None)
concatenate(tup, axis=0, out=None, *, dtype=None, casting='same_kind')
cumprod(a, axis=None, dtype=None, out=None)
cumsum(a, axis=None, dtype=None, out=None)
diag(v, k=0)
empty(shape, dtype=float, order='C')
empty_like(prototype, dtype=None, order='K', subok=None, shape=None)
eye(N, M=None, k=0, dtype=float, order='C')
flatnonzero(a)
flip(a, axis=None)
full(shape, fill_value, dtype=None, order='C')
isclose(a, b, rtol=1e-05, atol=1e-08, equal_nan=False)
matmul(x1, x2, out=None)
max(a, axis=None, out=None, keepdims=False)
may_share_memory(a, b, max_work=None)
min(a, axis=None, out=None, keepdims=False)
moveaxis(a, source, destination)
ones(shape, dtype=float, order='C')
ones_like(a, dtype=None, order='K', subok=None, shape=None)
repeat(a, repeats, axis=None)
roll(a, shift, axis=None)
searchsorted(a, v, side='left', sorter=None)
stack(tup, axis=0, out=None, *, dtype=None, casting='same_kind')
take_along_axis(a, indices, axis)
tile(A, reps)
tri(N, M=None, k=0, dtype=float)
tril(m, k=0)
triu(m, k=0)
unique(ar, return_index=False, return_inverse=False, return_counts=False, axis=None, *, equal_nan=True)
where(condition, x=None, y=None)
zeros(shape, dtype=float, order='C')
zeros_like(a, dtype=None, order='K', subok=None, shape=None)
einsum(subscripts, *operands, dtype=None, optimize=False)
put_along_axis(arr, indices, values, axis)
"""
NESTED = {
    "linalg": ("norm(x, ord=None, axis=None, keepdims=False)",),
    "lib.stride_tricks": (
        "as_strided(x, shape=None, strides=None)",
        "sliding_window_view(x, window_shape, axis=None, *, subok=False, writeable=False)",
    ),
}
UFUNCS = """
abs absolute add arccos arcsin arctan bitwise_and bitwise_or bitwise_xor ceil copysign cos cosh divide equal exp exp2 expm1 floor
floor_divide greater greater_equal invert isfinite isinf isnan less less_equal log log10 log1p log2 logaddexp logical_and logical_not
logical_or logical_xor maximum minimum multiply negative not_equal power remainder rint sign sin sinh sqrt square subtract tan tanh
true_divide trunc
"""
REDUCING = ("add", "multiply")  # the only ufuncs of CuPy that have reduce
ADDABLE = ("int32", "float16", "float32", "float64", "uint32", "uint64")  # the types of CuPy's add.at
METHODS = """
all(axis=None, out=None, keepdims=False)
any(axis=None, out=None, keepdims=False)
argsort(axis=-1, kind=None)
astype(dtype, order='K', casting=None, subok=None, copy=True)
clip(min=None, max=None, out=None)
copy(order='C')
cumprod(axis=None, dtype=None, out=None)
cumsum(axis=None, dtype=None, out=None)
diagonal(offset=0, axis1=0, axis2=1)
dot(b, out=None)
fill(value)
flatten(order='C')
max(axis=None, out=None, keepdims=False)
mean(axis=None, dtype=None, out=None, keepdims=False)
min(axis=None, out=None, keepdims=False)
nonzero()
prod(axis=None, dtype=None, out=None, keepdims=False)
ravel(order='C')
reshape(*shape, order='C')
squeeze(axis=None)
sum(axis=None, dtype=None, out=None, keepdims=False)
swapaxes(axis1, axis2)
transpose(*axes)
view(dtype=None, array_class=None)
"""
SCALARS = (bool, int, float, np.generic)


class ndarray:
    """An array of the stand-in; `_host` is the NumPy array that holds its values."""

    __array_priority__ = 100

    def __init__(self, host: np.ndarray) -> None:
        self._host = host
        self.device = Device()

    shape = property(lambda self: self._host.shape)
    strides = property(lambda self: self._host.strides)
    dtype = property(lambda self: self._host.dtype)
    ndim = property(lambda self: self._host.ndim)
    size = property(lambda self: self._host.size)
    itemsize = property(lambda self: self._host.itemsize)
    nbytes = property(lambda self: self._host.nbytes)
    T = property(lambda self: ndarray(self._host.T))

    @property
    def flags(self) -> Any:
        flags = self._host.flags
        return SimpleNamespace(c_contiguous=flags.c_contiguous, f_contiguous=flags.f_contiguous, owndata=flags.owndata)

    def get(self) -> np.ndarray:
        return self._host.copy()

    def item(self) -> Any:
        return self._host.item()

    def tolist(self) -> Any:
        return self._host.tolist()

    def __getitem__(self, index: Any) -> ndarray:
        index = index_of(index)
        result = self._host[index]
        if isinstance(result, np.generic):  # a view, as in CuPy
            result = self._host[(*index, ...) if isinstance(index, tuple) else (index, ...)]
        return ndarray(result)

    def __setitem__(self, index: Any, value: Any) -> None:
        self._host[index_of(index)] = unwrapped(value)

    def take(self, indices: Any, axis: int | None = None) -> ndarray:
        return ndarray(np.asarray(self._host.take(index_of(indices), axis)))

    def __len__(self) -> int:
        return len(self._host)

    def __iter__(self) -> Any:
        return (self[i] for i in range(len(self)))

    def __bool__(self) -> bool:
        return bool(self._host)

    def __int__(self) -> int:
        return int(self._host)

    def __float__(self) -> float:
        return float(self._host)

    def __format__(self, spec: str) -> str:
        return format(self._host, spec)

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Please use `.get()`")

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        function = ufunc_of(ufunc.__name__)
        if "out" in kwargs:
            (kwargs["out"],) = kwargs["out"]
        return (function if method == "__call__" else getattr(function, method))(*inputs, **kwargs)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        own = CALLS.get(function.__name__)
        return NotImplemented if own is None else own(*args, **kwargs)


class Device:
    """A GPU: `with Device(1):` and `Device(1).use()` make it the current one, where new arrays live."""

    current = 0

    def __init__(self, id: int | None = None) -> None:
        self.id = Device.current if id is None else int(id)

    def use(self) -> None:
        Device.current = self.id

    def __enter__(self) -> Device:
        self._before, Device.current = Device.current, self.id
        return self

    def __exit__(self, *_: object) -> None:
        Device.current = self._before


class UFunc:
    """A ufunc with what CuPy's have: `out` and `dtype`; reduce of add and multiply, at and reduceat of add."""

    def __init__(self, name: str) -> None:
        self._ufunc = getattr(np, name)
        self.__name__ = name

    def __call__(self, *args: Any, out: Any = None, dtype: Any = None, casting: str = "same_kind") -> Any:
        return wrapped(self._ufunc(*unwrapped(args), out=unwrapped(out), dtype=dtype, casting=casting), out)

    def reduce(self, array: ndarray, axis: Any = 0, dtype: Any = None, out: Any = None, keepdims: bool = False) -> Any:
        if self.__name__ not in REDUCING:
            raise NotImplementedError(f"`{self.__name__}.reduce` is not supported yet")
        return wrapped(self._ufunc.reduce(device_only(array), axis, dtype, unwrapped(out), keepdims), out)

    def at(self, array: ndarray, indices: Any, values: Any = None) -> None:
        if self.__name__ != "add" or array.dtype.name not in ADDABLE:
            raise TypeError(f"cupy.{self.__name__}.at does not support {array.dtype}")
        self._ufunc.at(device_only(array), index_of(indices), unwrapped(values))

    def reduceat(self, array: ndarray, indices: Any, axis: int = 0, dtype: Any = None, out: Any = None) -> Any:
        if self.__name__ != "add":
            raise NotImplementedError(f"`{self.__name__}.reduceat` is not supported yet")
        return wrapped(self._ufunc.reduceat(device_only(array), device_only(indices), axis, dtype, unwrapped(out)), out)


def unwrapped(value: Any) -> Any:
    """The NumPy side of an argument; TypeError for a host array, at any depth."""
    if isinstance(value, ndarray):
        return value._host
    if isinstance(value, np.ndarray):
        raise TypeError("Unsupported type <class 'numpy.ndarray'>")
    if isinstance(value, (list, tuple)):
        return type(value)([unwrapped(item) for item in value])
    return value


def index_of(value: Any) -> Any:
    """The NumPy side of an index, in which host arrays may occur."""
    if isinstance(value, tuple):
        return tuple([index_of(part) for part in value])
    return value if isinstance(value, np.ndarray) else unwrapped(value)


def device_only(array: Any) -> np.ndarray:
    if not isinstance(array, ndarray):
        raise TypeError(f"expected a cupy.ndarray, not {type(array).__name__}")
    return array._host


def wrapped(result: Any, *owners: Any) -> Any:
    """The stand-in's side of a result: one of `owners` where the result is that one's memory."""
    if isinstance(result, (np.ndarray, np.generic)):
        same = [owner for owner in owners if isinstance(owner, ndarray) and owner._host is result]
        return same[0] if same else ndarray(np.asarray(result))
    return tuple([wrapped(item) for item in result]) if isinstance(result, tuple) else result


def guarded(signature: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` of NumPy behind CuPy's signature."""
    name, _, parameters = signature.partition("(")
    form = inspect.signature(eval(f"lambda {parameters.removesuffix(')')}: None"))

    def call(*args: Any, **kwargs: Any) -> Any:
        form.bind(*args, **kwargs)
        result = function(*unwrapped(args), **{key: unwrapped(value) for key, value in kwargs.items()})
        return wrapped(result, kwargs.get("out"), *args)

    call.__name__ = name
    return call


def repeat(a: Any, repeats: Any, axis: Any = None) -> Any:
    if isinstance(repeats, np.ndarray):
        raise ValueError("cupy.ndarray cannot be specified as `repeats` argument")
    return np.repeat(a, repeats, axis)


def where(condition: Any, x: Any = None, y: Any = None) -> Any:
    if not isinstance(condition, np.ndarray):
        raise AttributeError(f"{type(condition).__name__!r} object has no attribute 'astype'")
    return condition.nonzero() if x is None and y is None else np.where(condition, x, y)


def bincount(x: Any, weights: Any = None, minlength: Any = None) -> Any:
    if not x.size:
        raise ValueError("zero-size array to reduction operation cupy_max which has no identity")
    return np.bincount(x, weights, minlength or 0)


OWN = {"repeat": repeat, "where": where, "bincount": bincount}  # where CuPy takes less than NumPy, or other values


def calls(signatures: Any, source: Any) -> dict[str, Callable[..., Any]]:
    names = [signature.partition("(")[0] for signature in signatures]
    return {name: guarded(signature, OWN.get(name) or getattr(source, name)) for name, signature in zip(names, signatures)}


def asarray(a: Any, dtype: Any = None, order: Any = None, *, copy: Any = None, blocking: bool = False) -> ndarray:
    """The one way in: host arrays are copied to the device."""
    if isinstance(a, ndarray):
        return a if dtype is None or a.dtype == dtype else a.astype(dtype)
    return ndarray(np.array(unwrapped(a) if isinstance(a, (list, tuple)) else a, dtype))


def asnumpy(a: ndarray) -> np.ndarray:
    """The one way out."""
    return a.get()


def ufunc_of(name: str) -> UFunc:
    return CALLS[name]


def _operator(name: str, swapped: bool, in_place: bool) -> Callable[[Any, Any], Any]:
    function = getattr(operator, {"and": "and_", "or": "or_"}.get(name, name))

    def method(self: ndarray, other: Any) -> Any:
        if not isinstance(other, (ndarray, np.ndarray, *SCALARS)):
            return NotImplemented
        x, y = self._host, unwrapped(other)
        if in_place:
            getattr(operator, "i" + name)(x, y)
            return self
        return wrapped(np.asarray(function(y, x) if swapped else function(x, y)))

    return method


for _name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "and", "or", "xor", "rshift", "matmul"):
    for _prefix in ("", "r", "i"):
        setattr(ndarray, f"__{_prefix}{_name}__", _operator(_name, _prefix == "r", _prefix == "i"))
for _name in ("lt", "le", "gt", "ge", "eq", "ne"):
    setattr(ndarray, f"__{_name}__", _operator(_name, False, False))
for _name in ("neg", "abs", "invert"):
    setattr(ndarray, f"__{_name}__", lambda self, name=_name: wrapped(np.asarray(getattr(operator, name)(self._host))))
for _signature in METHODS.split("\n")[1:-1]:
    _name = _signature.partition("(")[0]
    _call = guarded(_signature.replace("(", "(self, "), getattr(np.ndarray, _name))
    setattr(ndarray, _name, lambda self, *args, call=_call, **kwargs: call(self, *args, **kwargs))
ndarray.__hash__ = None  # type: ignore[assignment]
ndarray.__module__ = "cupy"
CALLS: dict[str, Any] = {**calls(FUNCTIONS.split("\n")[1:-1], np), **{name: UFunc(name) for name in UFUNCS.split()}}


def module() -> ModuleType:
    """A fresh module `cupy`."""
    cupy = ModuleType("cupy")
    cupy.__spec__ = ModuleSpec("cupy", None)
    vars(cupy).update(CALLS, ndarray=ndarray, asarray=asarray, array=asarray, asnumpy=asnumpy)
    vars(cupy).update({name: getattr(np, name) for name in ("inf", "nan", "finfo", "uint8", "int32", "int64", "float32", "float64")})
    cupy.linalg = SimpleNamespace(**calls(NESTED["linalg"], np.linalg))  # type: ignore[attr-defined]
    tricks = SimpleNamespace(**calls(NESTED["lib.stride_tricks"], np.lib.stride_tricks))
    cupy.lib = SimpleNamespace(stride_tricks=tricks)  # type: ignore[attr-defined]
    runtime = SimpleNamespace(getDeviceCount=lambda: NUM_DEVICES)
    stream = SimpleNamespace(synchronize=lambda: None)
    cupy.cuda = SimpleNamespace(Device=Device, runtime=runtime, get_current_stream=lambda: stream)  # type: ignore[attr-defined]
    return cupy
