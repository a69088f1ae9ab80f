"""A tensor as another type, on another device, or copied: `to`, `float`, `long`, `clone`, `contiguous`, `type`, `FloatTensor`, ..."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...backend.device import Device, array_module, device_of, to_device
from ..engine import Array
from ..function import Op
from ..tensor import Tensor, method


class Cast(Op):
    def forward(self, x: Array, *, dtype: np.dtype[Any]) -> Array:
        self.saved = (x.dtype,)
        return x.astype(dtype)

    def backward(self, gradient: Array) -> Array:
        return gradient.astype(self.saved[0])


class Move(Op):
    def forward(self, x: Array, *, device: Device) -> Array:
        self.saved = (device_of(x),)
        return to_device(x, device)

    def backward(self, gradient: Array) -> Array:
        return to_device(gradient, self.saved[0])


class Clone(Op):
    def forward(self, x: Array) -> Array:
        return x.copy()

    def backward(self, gradient: Array) -> Array:
        return gradient


@method
def clone(x: Tensor) -> Tensor:
    """A copy that passes its gradient on to `x`."""
    return Clone.apply(x)


@method
def contiguous(x: Tensor) -> Tensor:
    """`x` itself if its elements lie in row-major order, else a copy that does."""
    return x if x.array.flags.c_contiguous else Clone.apply(x)


@method
def pin_memory(x: Tensor) -> Tensor:
    """`x`: host memory is used as it is."""
    return x


class TensorType:
    """`FloatTensor` and its kin: call it like the constructor, test with isinstance, or pass it to `Tensor.type`."""

    def __init__(self, name: str, dtype: Any) -> None:
        self.__name__ = name
        self.dtype = np.dtype(dtype)

    def __call__(self, *data: Any) -> Tensor:
        """A tensor of this type: from nested lists, an array or a tensor, or uninitialised from sizes."""
        if len(data) == 1 and not isinstance(data[0], int):
            source = data[0].array if isinstance(data[0], Tensor) else data[0]
            return Tensor(array_module(source).array(source, dtype=self.dtype))
        return Tensor(np.empty(data or (0,), self.dtype))

    def __instancecheck__(self, value: object) -> bool:
        return isinstance(value, Tensor) and value.array.dtype == self.dtype

    def __repr__(self) -> str:
        return f"dist_train.{self.__name__}"


FloatTensor = TensorType("FloatTensor", np.float32)
DoubleTensor = TensorType("DoubleTensor", np.float64)
HalfTensor = TensorType("HalfTensor", np.float16)
LongTensor = TensorType("LongTensor", np.int64)
IntTensor = TensorType("IntTensor", np.int32)
ShortTensor = TensorType("ShortTensor", np.int16)
CharTensor = TensorType("CharTensor", np.int8)
ByteTensor = TensorType("ByteTensor", np.uint8)
BoolTensor = TensorType("BoolTensor", np.bool_)
_TYPES = {
    t.dtype: t for t in (FloatTensor, DoubleTensor, HalfTensor, LongTensor, IntTensor, ShortTensor, CharTensor, ByteTensor, BoolTensor)
}
_BY_NAME = {t.__name__: t for t in _TYPES.values()}


@method
def type(x: Tensor, dtype: Any = None) -> Any:
    """The name of this tensor's type, or this tensor as another type: `x.type(dt.LongTensor)`, `x.type(dt.float32)`."""
    if dtype is None:
        return f"dist_train.{'cuda.' if x.is_cuda else ''}{_TYPES[x.array.dtype].__name__}"
    if isinstance(dtype, str):
        dtype = _BY_NAME.get(dtype.rpartition(".")[2], dtype)
    return x._cast(dtype.dtype if isinstance(dtype, TensorType) else np.dtype(dtype))


@method
def type_as(x: Tensor, other: Tensor) -> Tensor:
    """`x` in the type of `other`."""
    return x._cast(other.array.dtype)


def _caster(name: str, dtype: Any) -> None:
    chosen = np.dtype(dtype)

    def cast(x: Tensor) -> Tensor:
        return x._cast(chosen)

    cast.__name__ = name
    cast.__doc__ = f"`x` as {chosen}; `x` itself if it is that already."
    method(cast)


for _name, _dtype in {
    "float": np.float32, "double": np.float64, "half": np.float16, "long": np.int64, "int": np.int32, "short": np.int16,
    "char": np.int8, "byte": np.uint8, "bool": np.bool_,
}.items():  # fmt: skip
    _caster(_name, _dtype)
