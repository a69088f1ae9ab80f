"""Comparisons, logic and tests of elements: results are booleans without a gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...backend.device import array_module
from ...backend.floating import quiet
from ..tensor import Tensor, method
from .promotion import promote
from .shape import axis_of


def _arrays(x: Any, y: Any) -> tuple[Any, Any]:
    x, y = promote(x, y)
    return (x.array if isinstance(x, Tensor) else x), (y.array if isinstance(y, Tensor) else y)


def _comparison(name: str, compare: Callable[[Any, Any], Any], sign: str) -> Callable[[Tensor, Any], Tensor]:
    def function(input: Tensor, other: Any) -> Any:
        if other is None:
            return NotImplemented  # so that `tensor == None` is False
        x, y = _arrays(input, other)
        return Tensor(compare(x, y))

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"input {sign} other, element by element, as booleans."
    setattr(Tensor, f"__{name}__", function)
    return method(function)


eq = _comparison("eq", lambda x, y: x == y, "==")
ne = _comparison("ne", lambda x, y: x != y, "!=")
lt = _comparison("lt", lambda x, y: x < y, "<")
le = _comparison("le", lambda x, y: x <= y, "≤")
gt = _comparison("gt", lambda x, y: x > y, ">")
ge = _comparison("ge", lambda x, y: x >= y, "≥")


def _test(name: str, summary: str) -> Callable[[Tensor], Tensor]:
    def function(input: Tensor) -> Tensor:
        return Tensor(getattr(array_module(input.array), name)(input.array))

    function.__name__ = function.__qualname__ = name
    function.__doc__ = summary
    return method(function)


isnan = _test("isnan", "Which elements are NaN.")
isinf = _test("isinf", "Which elements are infinite.")
isfinite = _test("isfinite", "Which elements are neither infinite nor NaN.")


def _logic(name: str, bitwise: bool) -> Callable[[Tensor, Any], Tensor]:
    def function(input: Tensor, other: Any) -> Tensor:
        x, y = _arrays(input, other)
        if bitwise and input.array.dtype.kind == "f":
            raise TypeError(f"{name} is for integers and booleans, not {input.array.dtype}")
        return Tensor(getattr(array_module(x), name)(x, y))

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"{name.replace('_', ' ')}, element by element."
    return method(function)


logical_and, logical_or, logical_xor = (_logic(f"logical_{name}", False) for name in ("and", "or", "xor"))
bitwise_and, bitwise_or, bitwise_xor = (_logic(f"bitwise_{name}", True) for name in ("and", "or", "xor"))


@method
def logical_not(input: Tensor) -> Tensor:
    """Which elements are zero."""
    return Tensor(array_module(input.array).logical_not(input.array))


@method
def bitwise_not(input: Tensor) -> Tensor:
    """Booleans negated, integers with all bits flipped."""
    if input.array.dtype.kind == "f":
        raise TypeError(f"bitwise_not is for integers and booleans, not {input.array.dtype}")
    return Tensor(~input.array)


@method
def all(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor:
    """Whether all elements (along `dim`) are nonzero."""
    axis = None if dim is None else axis_of(dim, input.array.ndim)
    return Tensor(input.array.all(axis=axis, keepdims=keepdim))


@method
def any(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor:
    """Whether an element (along `dim`) is nonzero."""
    axis = None if dim is None else axis_of(dim, input.array.ndim)
    return Tensor(input.array.any(axis=axis, keepdims=keepdim))


@method
def equal(input: Tensor, other: Tensor) -> bool:
    """Whether both have the same shape and elements."""
    return input.array.shape == other.array.shape and bool((input.array == other.array).all())


@method
def isclose(input: Tensor, other: Tensor, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> Tensor:
    """Where |input - other| ≤ atol + rtol · |other|."""
    with quiet():
        x, y = _arrays(input, other)
        return Tensor(array_module(x).isclose(x, y, rtol, atol, equal_nan))


@method
def allclose(input: Tensor, other: Tensor, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> bool:
    """Whether |input - other| ≤ atol + rtol · |other| everywhere."""
    return bool(isclose(input, other, rtol, atol, equal_nan).array.all())


def is_tensor(value: object) -> bool:
    """Whether `value` is a tensor."""
    return isinstance(value, Tensor)


def is_floating_point(input: Tensor) -> bool:
    """Whether the elements are of a floating-point type."""
    return input.is_floating_point()


_NAMES = {"__and__": bitwise_and, "__rand__": bitwise_and, "__or__": bitwise_or, "__ror__": bitwise_or, "__xor__": bitwise_xor,
          "__rxor__": bitwise_xor}  # fmt: skip
for _name, _function in _NAMES.items():
    setattr(Tensor, _name, _function)
setattr(Tensor, "__invert__", bitwise_not)  # noqa: B010
