"""Arithmetic of two operands, element by element, with broadcasting and type promotion: add, sub, mul, div, pow, maximum, where, ..."""

from __future__ import annotations

from typing import Any

from ...backend.device import array_module
from ...backend.floating import quiet
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
    """input + alpha · other."""
    x, y = promote(input, other if alpha == 1 else other * alpha)
    return Add.apply(x, y)


@method
def sub(input: Tensor, other: Any, *, alpha: float = 1) -> Tensor:
    """input - alpha · other."""
    x, y = promote(input, other if alpha == 1 else other * alpha)
    return Sub.apply(x, y)


def rsub(input: Tensor, other: Any) -> Tensor:
    """other - input."""
    x, y = promote(input, other)
    return Sub.apply(y, x)


@method
def mul(input: Tensor, other: Any) -> Tensor:
    """input · other, element by element."""
    x, y = promote(input, other)
    return Mul.apply(x, y)


@method
def div(input: Tensor, other: Any, *, rounding_mode: str | None = None) -> Tensor:
    """input / other; two integers give the default floating-point type. `rounding_mode`: None, "floor" or "trunc"."""
    if rounding_mode is not None:
        return _rounded_div(input, other, rounding_mode)
    x, y = promote_float(input, other)
    return Div.apply(x, y)


def rdiv(input: Tensor, other: Any) -> Tensor:
    """other / input."""
    x, y = promote_float(input, other)
    return Div.apply(y, x)


def _rounded_div(input: Tensor, other: Any, rounding_mode: str) -> Tensor:
    if rounding_mode not in ("floor", "trunc"):
        raise ValueError(f"rounding_mode must be None, 'floor' or 'trunc', not {rounding_mode!r}")
    quotient = floor_divide(input, other)
    if rounding_mode == "floor":
        return quotient
    return add(quotient, (quotient < 0) & remainder(input, other).ne(0))  # the quotient rounded down, one up where it is negative


@method
def floor_divide(input: Any, other: Any) -> Tensor:
    """The quotient rounded down; it has no gradient. RuntimeError where an integer is divided by zero."""
    operands = promote(input, other)
    x, y = (value.array if isinstance(value, Tensor) else value for value in operands)
    if result_type(*operands).kind != "f" and not (y.all() if isinstance(operands[1], Tensor) else y):
        raise RuntimeError("integer division by zero")
    with quiet():
        return Tensor(array_module(x if isinstance(operands[0], Tensor) else y).floor_divide(x, y))


def rfloor_divide(input: Tensor, other: Any) -> Tensor:
    """other // input."""
    return floor_divide(other, input)


@method
def remainder(input: Tensor, other: Any) -> Tensor:
    """input modulo other, with the sign of other."""
    x, y = promote(input, other)
    return Remainder.apply(x, y)


def rremainder(input: Tensor, other: Any) -> Tensor:
    """other modulo input."""
    x, y = promote(input, other)
    return Remainder.apply(y, x)


@method
def pow(input: Any, exponent: Any) -> Tensor:
    """input to the power `exponent`; one of the two may be a number."""
    x, y = promote(input, exponent)
    if isinstance(x, Tensor) and x.array.dtype == BOOL:
        raise TypeError("a power of booleans is not defined: convert them first, x.long()")
    if isinstance(y, (int, float)):
        return Power.apply(x, exponent=y)
    return Pow.apply(x, y)


def rpow(input: Tensor, base: Any) -> Tensor:
    """base to the power input."""
    return pow(base, input)


def _extremum(input: Tensor, other: Tensor, rule: str) -> Tensor:
    if not (isinstance(input, Tensor) and isinstance(other, Tensor)):
        raise TypeError(f"{rule} takes two tensors, not {type(input).__name__} and {type(other).__name__}; for a number use clamp")
    x, y = promote(input, other)
    return Extremum.apply(x, y, rule=rule)


@method
def maximum(input: Tensor, other: Tensor) -> Tensor:
    """The larger of each pair of elements; NaN wins."""
    return _extremum(input, other, "maximum")


@method
def minimum(input: Tensor, other: Tensor) -> Tensor:
    """The smaller of each pair of elements; NaN wins."""
    return _extremum(input, other, "minimum")


def where(condition: Tensor, input: Any = None, other: Any = None) -> Any:
    """`input` where `condition` holds, else `other`; the condition alone: the indices of its nonzero elements, one tensor per dimension."""
    if input is None and other is None:
        return tuple([Tensor(index) for index in condition.array.nonzero()])
    if condition.array.dtype != BOOL:
        raise TypeError(f"where needs a condition of booleans, not {condition.array.dtype}")
    x, y = operand(input), operand(other)
    if not isinstance(x, Tensor) and not isinstance(y, Tensor):
        x = Tensor(array_module(condition.array).asarray(x, result_type(x, y)))
    x, y = promote(x, y)
    return Where.apply(x, y, condition=condition.array)


def _where_method(input: Tensor, condition: Tensor, other: Any) -> Tensor:
    """`input` where `condition` holds, else `other`."""
    return where(condition, input, other)  # type: ignore[no-any-return]


subtract, multiply, divide, true_divide = sub, mul, div, div
_NAMES = {
    "__add__": add, "__radd__": add, "__sub__": sub, "__rsub__": rsub, "__mul__": mul, "__rmul__": mul, "__truediv__": div,
    "__rtruediv__": rdiv, "__floordiv__": floor_divide, "__rfloordiv__": rfloor_divide, "__mod__": remainder, "__rmod__": rremainder,
    "__pow__": pow, "__rpow__": rpow, "where": _where_method, "subtract": sub, "multiply": mul, "divide": div, "true_divide": div,
}  # fmt: skip
for _name, _function in _NAMES.items():
    setattr(Tensor, _name, _function)
