"""Arithmetic of two operands, element by element, with broadcasting and type promotion: add, sub, mul, div, pow, maximum, where, ..."""

from __future__ import annotations

from typing import Any

from ...backend.device import array_module
from ..engine import Array
from ..function import PRODUCT_SAVES, Op
from ..tensor import Tensor, method
from .broadcasting import unbroadcast
from .promotion import BOOL, operand, promote, promote_float, result_type

Gradients = tuple[Array | None, Array | None]


class Add(Op):
    def forward(self, x: Any, y: Any) -> Array:
        needs_x, needs_y = self.needs
        self.saved = x.shape if needs_x else None, y.shape if needs_y else None
        return x + y

    def backward(self, gradient: Array) -> Gradients:
        x_shape, y_shape = self.saved
        return (
            None if x_shape is None else unbroadcast(gradient, x_shape),
            None if y_shape is None else unbroadcast(gradient, y_shape),
        )


class Sub(Op):
    def forward(self, x: Any, y: Any) -> Array:
        needs_x, needs_y = self.needs
        self.saved = x.shape if needs_x else None, y.shape if needs_y else None
        return x - y

    def backward(self, gradient: Array) -> Gradients:
        x_shape, y_shape = self.saved
        return (
            None if x_shape is None else unbroadcast(gradient, x_shape),
            None if y_shape is None else unbroadcast(-gradient, y_shape),
        )


class Mul(Op):
    def forward(self, x: Any, y: Any) -> Array:
        needs_x, needs_y = self.needs
        self.saves = PRODUCT_SAVES[self.needs]
        self.saved = x if needs_y else None, y if needs_x else None, x.shape if needs_x else None, y.shape if needs_y else None
        return x * y

    def backward(self, gradient: Array) -> Gradients:
        x, y, x_shape, y_shape = self.saved
        return (
            None if x_shape is None else unbroadcast(gradient * y, x_shape),
            None if y_shape is None else unbroadcast(gradient * x, y_shape),
        )


class Div(Op):
    def forward(self, x: Any, y: Any) -> Array:
        needs_x, needs_y = self.needs
        self.saves = (0, 1) if needs_y else (1,)
        self.saved = x if needs_y else None, y, x.shape if needs_x else None, y.shape if needs_y else None
        return array_module(y if isinstance(x, (int, float)) else x).true_divide(x, y)

    def backward(self, gradient: Array) -> Gradients:
        x, y, x_shape, y_shape = self.saved
        return (
            None if x_shape is None else unbroadcast(gradient / y, x_shape),
            None if y_shape is None else unbroadcast(-gradient * ((x / y) / y), y_shape),
        )


class Power(Op):
    """x to the power of one number."""

    saves = (0,)

    def forward(self, x: Array, *, exponent: float) -> Array:
        self.saved = x, exponent
        return _power(x, exponent)

    def backward(self, gradient: Array) -> Array:
        x, exponent = self.saved
        if exponent == 0:
            return array_module(x).zeros_like(gradient)
        return gradient * (exponent * _power(x, exponent - 1))


def _power(x: Array, exponent: float) -> Array:
    """x ** exponent, where small exponents are products (float32 powers are slow)."""
    if exponent == 2:
        return x * x
    if exponent == 3:
        return x * x * x
    return x * 1 if exponent == 1 else x**exponent


class Pow(Op):
    """x to the power y; either may be a tensor."""

    saves = (0, 1)
    saves_output = True

    def forward(self, x: Any, y: Any) -> Array:
        result = x**y
        self.saved = x, y, result
        return result

    def backward(self, gradient: Array) -> Gradients:
        x, y, result = self.saved
        xp = array_module(gradient)
        x_gradient = y_gradient = None
        if self.needs[0]:
            x_gradient = unbroadcast(xp.where(y == 0, 0, gradient * (y * x ** (y - 1))), x.shape)
        if self.needs[1]:
            flat = xp.logical_and(xp.equal(x, 0), y >= 0)
            y_gradient = unbroadcast(xp.where(flat, 0, gradient * (result * xp.log(x))).astype(gradient.dtype, copy=False), y.shape)
        return x_gradient, y_gradient


class Extremum(Op):
    """The larger or smaller of two; where they are equal each gets half of the gradient."""

    saves = (0, 1)

    def forward(self, x: Any, y: Any, *, rule: str) -> Array:
        self.saved = x, y, rule
        return getattr(array_module(x), rule)(x, y)

    def backward(self, gradient: Array) -> Gradients:
        x, y, rule = self.saved
        xp = array_module(gradient)
        x_wins = x > y if rule == "maximum" else x < y
        half = xp.where(x == y, gradient * 0.5, 0)
        return (
            unbroadcast(half + xp.where(x_wins, gradient, 0), x.shape) if self.needs[0] else None,
            unbroadcast(half + xp.where(x_wins | (x == y), 0, gradient), y.shape) if self.needs[1] else None,
        )


class Where(Op):
    def forward(self, x: Any, y: Any, *, condition: Array) -> Array:
        self.saved = condition, *[value.shape if needed else None for value, needed in zip((x, y), self.needs)]
        return array_module(condition).where(condition, x, y)

    def backward(self, gradient: Array) -> Gradients:
        condition, x_shape, y_shape = self.saved
        xp = array_module(gradient)
        return (
            None if x_shape is None else unbroadcast(xp.where(condition, gradient, 0), x_shape),
            None if y_shape is None else unbroadcast(xp.where(condition, 0, gradient), y_shape),
        )


class Remainder(Op):
    """x - y * floor(x / y)."""

    saves = (0, 1)

    def forward(self, x: Any, y: Any) -> Array:
        self.saved = x, y
        return x % y

    def backward(self, gradient: Array) -> Gradients:
        x, y = self.saved
        y_gradient = unbroadcast(-gradient * array_module(gradient).floor_divide(x, y), y.shape) if self.needs[1] else None
        return unbroadcast(gradient, x.shape) if self.needs[0] else None, y_gradient


@method
def add(input: Tensor, other: Any, *, alpha: float = 1) -> Tensor:
    """x + alpha · y."""
    if alpha != 1:
        y = mul(y, alpha) if isinstance(y, Tensor) else y * alpha
    input, other = promote(input, other)
    return Add.apply(input, other)


@method
def sub(input: Tensor, other: Any, *, alpha: float = 1) -> Tensor:
    """x - alpha · y."""
    if alpha != 1:
        y = mul(y, alpha) if isinstance(y, Tensor) else y * alpha
    input, other = promote(input, other)
    return Sub.apply(input, other)


def rsub(input: Tensor, other: Any) -> Tensor:
    """y - x."""
    input, other = promote(input, other)
    return Sub.apply(other, input)


@method
def mul(input: Tensor, other: Any) -> Tensor:
    """x · y, element by element."""
    input, other = promote(input, other)
    return Mul.apply(input, other)


@method
def div(input: Tensor, other: Any, *, rounding_mode: str | None = None) -> Tensor:
    """x / y; two integers give the default floating-point type. `rounding_mode`: None, "floor" or "trunc"."""
    if rounding_mode is not None:
        return _rounded_div(input, other, rounding_mode)
    input, other = promote_float(input, other)
    return Div.apply(input, other)


def rdiv(input: Tensor, other: Any) -> Tensor:
    """y / x."""
    input, other = promote_float(input, other)
    return Div.apply(other, input)


def _rounded_div(input: Tensor, other: Any, rounding_mode: str) -> Tensor:
    if rounding_mode == "floor":
        return floor_divide(input, other)
    if rounding_mode != "trunc":
        raise ValueError(f"rounding_mode must be None, 'floor' or 'trunc', not {rounding_mode!r}")
    input, other = promote(input, other)
    x, y = _array(x), _array(y)
    xp = array_module(x)
    if x.array.dtype.kind == "f":
        return Tensor(xp.trunc(xp.true_divide(x, y)))
    quotient = xp.floor_divide(xp.abs(x), xp.abs(y))
    return Tensor((quotient * xp.sign(x) * xp.sign(y)).astype(x.array.dtype))


def floor_divide(input: Any, other: Any) -> Tensor:
    """The quotient rounded down; it has no gradient. RuntimeError where an integer is divided by zero."""
    input, other = promote(input, other)
    x, y = _array(x), _array(y)
    if result_type(input, other).kind != "f" and (y == 0 if not isinstance(y, Tensor) else bool((y == 0).any())):
        raise RuntimeError("integer division by zero")
    return Tensor(array_module(x if isinstance(x, Tensor) else y).floor_divide(x, y))


@method
def remainder(input: Tensor, other: Any) -> Tensor:
    """x modulo y, with the sign of y."""
    input, other = promote(input, other)
    return Remainder.apply(input, other)


def rremainder(input: Tensor, other: Any) -> Tensor:
    """y modulo x."""
    input, other = promote(input, other)
    return Remainder.apply(other, input)


@method
def pow(input: Any, exponent: Any) -> Tensor:
    """x to the power `exponent`; one of the two may be a number."""
    x, exponent = promote(x, exponent)
    if isinstance(x, Tensor) and x.array.dtype == BOOL:
        raise TypeError("a power of booleans is not defined: convert them first, x.long()")
    if isinstance(exponent, (int, float)):
        return Power.apply(x, exponent=exponent)
    return Pow.apply(x, exponent)


def rpow(input: Tensor, base: Any) -> Tensor:
    """base to the power x."""
    return pow(base, x)


def _extremum(input: Any, other: Any, rule: str) -> Tensor:
    if not (isinstance(x, Tensor) and isinstance(y, Tensor)):
        raise TypeError(f"{rule} takes two tensors, not {type(x).__name__} and {type(y).__name__}; for a number use clamp")
    input, other = promote(input, other)
    return Extremum.apply(input, other, rule=rule)


@method
def maximum(input: Tensor, other: Tensor) -> Tensor:
    """The larger of each pair of elements; NaN wins."""
    return _extremum(input, other, "maximum")


@method
def minimum(input: Tensor, other: Tensor) -> Tensor:
    """The smaller of each pair of elements; NaN wins."""
    return _extremum(input, other, "minimum")


def where(condition: Tensor, input: Any = None, other: Any = None) -> Any:
    """x where `condition` holds, else y; with the condition alone, the indices of its nonzero elements (one tensor per dimension)."""
    if x is None and y is None:
        return tuple([Tensor(index) for index in condition.array.nonzero()])
    if condition.array.dtype != BOOL:
        raise TypeError(f"where needs a condition of booleans, not {condition.array.dtype}")
    input, other = operand(x), operand(y)
    if not isinstance(x, Tensor) and not isinstance(y, Tensor):
        x = Tensor(array_module(condition.array).asarray(x, result_type(input, other)))
    input, other = promote(input, other)
    return Where.apply(input, other, condition=condition.array)


def _where_method(input: Tensor, condition: Tensor, other: Any) -> Tensor:
    """x where `condition` holds, else `other`."""
    return where(condition, x, other)  # type: ignore[no-any-return]


def _array(value: Any) -> Any:
    return value.array if isinstance(value, Tensor) else value


subtract, multiply, divide, true_divide = sub, mul, div, div
_NAMES = {
    "__add__": add, "__radd__": add, "__sub__": sub, "__rsub__": rsub, "__mul__": mul, "__rmul__": mul, "__truediv__": div,
    "__rtruediv__": rdiv, "__floordiv__": floor_divide, "__rfloordiv__": lambda input, other: floor_divide(other, input), "__mod__": remainder,
    "__rmod__": rremainder, "__pow__": pow, "__rpow__": rpow, "where": _where_method, "floor_divide": floor_divide,
    "subtract": sub, "multiply": mul, "divide": div, "true_divide": div,
}  # fmt: skip
for _name, _function in _NAMES.items():
    setattr(Tensor, _name, _function)
