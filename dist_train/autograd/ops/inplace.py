"""Changes in place: `add_`, `mul_`, `zero_`, `copy_`, `x += 1`, ... Each computes its result, then the tensor takes it over."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ...backend.device import array_module, device_of, to_device
from ..grad_mode import mode
from ..tensor import Tensor, method
from . import arrangement, elementwise, indexing, pointwise, shape


def _in_place(name: str, function: Callable[..., Any]) -> Callable[..., Tensor]:
    def change(input: Tensor, *args: Any, **params: Any) -> Tensor:
        return input._assign(function(input, *args, **params))

    change.__name__ = change.__qualname__ = name
    change.__doc__ = f"`{function.__name__}` in place."
    return method(change)


_FAMILIES = {
    elementwise: "add sub mul div pow remainder floor_divide subtract multiply divide true_divide",
    pointwise: "abs neg exp expm1 log log2 log10 log1p sqrt rsqrt reciprocal square sin cos tan tanh sigmoid erf floor ceil trunc round "
    "sign clamp clip",
    indexing: "masked_fill masked_scatter scatter scatter_add index_add",
    arrangement: "tril triu",
}
for _family, _names in _FAMILIES.items():
    for _name in _names.split():
        _in_place(_name + "_", getattr(_family, _name))

add_, sub_, mul_, div_, pow_, floor_divide_, remainder_ = (
    getattr(Tensor, name + "_") for name in ("add", "sub", "mul", "div", "pow", "floor_divide", "remainder")
)
_OPERATORS = {
    "__iadd__": add_, "__isub__": sub_, "__imul__": mul_, "__itruediv__": div_, "__ipow__": pow_, "__ifloordiv__": floor_divide_,
    "__imod__": remainder_,
}  # fmt: skip
for _name, _function in _OPERATORS.items():
    setattr(Tensor, _name, _function)
for _letter, _operator in {"and": "__and__", "or": "__or__", "xor": "__xor__"}.items():
    _function = _in_place(f"logical_{_letter}_", getattr(Tensor, _operator))
    setattr(Tensor, f"__i{_letter}__", _function)


def _overwrite(input: Tensor, value: Tensor) -> Tensor:
    """All values replaced; the gradient of the old ones is 0."""
    if mode.enabled and input.requires_grad:
        return input._assign(indexing.SetItem.apply(input, value, index=...))
    return input._assign(value)


@method
def fill_(input: Tensor, value: Any) -> Tensor:
    """Set every element to `value`, a number or a tensor without dimensions."""
    if not isinstance(value, Tensor):
        value = Tensor(array_module(input.array).full((), value, input.array.dtype))
    elif value.array.ndim:
        raise RuntimeError(f"fill_ takes a value without dimensions, not one of shape {tuple(value.shape)}")
    return _overwrite(input, value._cast(input.array.dtype))


@method
def zero_(input: Tensor) -> Tensor:
    """Set every element to 0."""
    return fill_(input, 0)


@method
def copy_(input: Tensor, src: Tensor, non_blocking: bool = False) -> Tensor:
    """Take over the values of `src`, which broadcasts, whatever its type and device."""
    return _overwrite(input, src.to(device_of(input.array), input.array.dtype))


@method
def addcmul_(input: Tensor, tensor1: Tensor, tensor2: Tensor, *, value: float = 1) -> Tensor:
    """Add value · tensor1 · tensor2."""
    return input._assign(input + value * (tensor1 * tensor2))


@method
def addcdiv_(input: Tensor, tensor1: Tensor, tensor2: Tensor, *, value: float = 1) -> Tensor:
    """Add value · tensor1 / tensor2."""
    return input._assign(input + value * (tensor1 / tensor2))


@method
def lerp_(input: Tensor, end: Tensor, weight: float) -> Tensor:
    """Move from here towards `end` by the fraction `weight`."""
    return input._assign(input + weight * (end - input))


@method
def fill_diagonal_(input: Tensor, value: float) -> Tensor:
    """Set the diagonal of a matrix to `value`."""
    count = min(input.array.shape)
    along = Tensor(to_device(np.arange(count), device_of(input.array)))
    input[along, along] = value
    return input


def _reshaped_in_place(name: str, function: Callable[..., Tensor]) -> None:
    def change(input: Tensor, *args: Any) -> Tensor:
        result = function(input, *args)
        if input.requires_grad and input.is_leaf:
            raise RuntimeError(f"{name} of a leaf that requires grad: use {name[:-1]}")
        input.array, input._node = result.array, result._node
        return input

    change.__name__ = name
    change.__doc__ = f"`{name[:-1]}` of this very tensor."
    method(change)


for _name in ("squeeze", "unsqueeze", "transpose", "t"):
    _reshaped_in_place(_name + "_", getattr(shape, _name))
