"""Type promotion by PyTorch's rules (https://docs.pytorch.org/docs/stable/tensor_attributes.html#type-promotion-doc).

Categories bool < integer < float; tensors with dimensions outrank 0-dimensional ones, which outrank Python numbers. `promote` is on the
way of every binary operation: where the types agree, or a number meets a float tensor, it only looks. Numbers stay numbers, because
NumPy lets them take the type of the array they meet.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ...backend.device import is_device_array
from ..tensor import Parameter, Tensor

DType = np.dtype[Any]

BOOL, INT64, FLOAT32 = np.dtype(bool), np.dtype(np.int64), np.dtype(np.float32)
_default = [FLOAT32]


def get_default_dtype() -> DType:
    """The type of tensors made from Python floats: float32 unless changed."""
    return _default[0]


def set_default_dtype(dtype: Any) -> None:
    """Make a floating-point type the one of tensors made from Python floats."""
    chosen = np.dtype(dtype)
    if chosen.kind != "f":
        raise TypeError(f"the default type must be a floating-point one, not {chosen}")
    _default[0] = chosen


def promote(x: Any, y: Any) -> tuple[Any, Any]:
    """Both operands in their common type; Python numbers are left as they are."""
    kind = type(y)
    if kind is Tensor or kind is Parameter:
        if type(x) is not Tensor and type(x) is not Parameter:
            return _promote(x, y)
        if x.array.dtype is y.array.dtype:
            return x, y
    elif (kind is float or kind is int) and isinstance(x, Tensor) and x.array.dtype.kind == "f":
        return x, y
    return _promote(x, y)


def _promote(x: Any, y: Any) -> tuple[Any, Any]:
    x, y = operand(x), operand(y)
    dtype = result_type(x, y)
    return _converted(x, dtype), _converted(y, dtype)


def _converted(value: Any, dtype: DType) -> Any:
    return value._cast(dtype) if isinstance(value, Tensor) else value


def promote_float(x: Any, y: Any) -> tuple[Any, Any]:
    """Both operands in a common floating-point type: integers become the default one."""
    x, y = promote(x, y)
    dtype = (x if isinstance(x, Tensor) else y).array.dtype
    return (x, y) if dtype.kind == "f" else (_converted(x, _default[0]), _converted(y, _default[0]))


def floating(x: Tensor) -> Tensor:
    """`x` itself when it is of a floating-point type, else `x` in the default one."""
    return x if x.array.dtype.kind == "f" else x._cast(_default[0])


def operand(value: Any) -> Any:
    """A tensor or a Python number; NumPy's scalars count as numbers, its arrays and CuPy's as tensors."""
    if isinstance(value, (Tensor, bool, int, float)) and not isinstance(value, np.generic):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray) or is_device_array(value):
        return Tensor(value)
    raise TypeError(f"expected a tensor or a number, not {type(value).__name__}")


def result_type(*operands: Any) -> DType:
    """The type that an operation on these tensors and Python numbers has."""
    ranks: list[DType | None] = [None, None, None]  # of tensors with dimensions, without, and of numbers
    for value in operands:
        rank = 2 if not isinstance(value, Tensor) else 0 if value.array.ndim else 1
        dtype = number_type(value) if rank == 2 else value.array.dtype
        ranks[rank] = _join(ranks[rank], dtype)
    return _outrank(ranks[0], _outrank(ranks[1], ranks[2]))  # type: ignore[return-value]


def promote_types(a: Any, b: Any) -> DType:
    """The smallest type that holds both, where a floating-point type holds every integer."""
    return _join(np.dtype(a), np.dtype(b))


def number_type(value: Any) -> DType:
    """The type of a tensor made from a Python number."""
    if isinstance(value, np.generic):
        return value.dtype
    return BOOL if isinstance(value, bool) else INT64 if isinstance(value, int) else _default[0]


def _join(a: DType | None, b: DType) -> DType:
    if a is None or a == b:
        return b
    if (a.kind == "f") != (b.kind == "f"):
        return a if a.kind == "f" else b
    return np.promote_types(a, b)


def _outrank(high: DType | None, low: DType | None) -> DType | None:
    """The lower rank counts only where its category is the higher one."""
    if high is None or low is None:
        return low if high is None else high
    return _join(high, low) if _category(low) > _category(high) else high


def _category(dtype: DType) -> int:
    return 2 if dtype.kind == "f" else 0 if dtype.kind == "b" else 1
