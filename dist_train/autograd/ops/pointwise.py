"""Functions of one operand, element by element: one row each with the value and the gradient, and `clamp`."""

from __future__ import annotations

from collections.abc import Callable
from math import log as ln
from types import ModuleType
from typing import Any, ClassVar

from ...backend.device import array_module
from ...backend.reference import activation as kernels
from ...backend.reference.special import erf as erf_kernel
from ...backend.reference.special import erf_gradient
from ..engine import Array
from ..function import Op
from ..tensor import Tensor, method
from .elementwise import where
from .promotion import floating, operand

Value = Callable[[ModuleType, Array], Array]  # (xp, x) → y
Rule = Callable[[ModuleType, Array, Array], Array]  # (xp, gradient, x or y) → gradient of x


class OfInput(Op):
    """y = value(x) whose gradient is a function of x."""

    saves = (0,)
    value: ClassVar[Any]
    rule: ClassVar[Any]

    def forward(self, x: Array) -> Array:
        xp = array_module(x)
        self.saved = xp, x
        return self.value(xp, x)

    def backward(self, gradient: Array) -> Array:
        xp, x = self.saved
        return self.rule(xp, gradient, x)


class OfOutput(Op):
    """y = value(x) whose gradient is a function of y."""

    saves_output = True
    value: ClassVar[Any]
    rule: ClassVar[Any]

    def forward(self, x: Array) -> Array:
        xp = array_module(x)
        y = self.value(xp, x)
        self.saved = xp, y
        return y

    def backward(self, gradient: Array) -> Array:
        xp, y = self.saved
        return self.rule(xp, gradient, y)


class Step(Op):
    """y = value(x) whose gradient needs neither: -x, and what is constant almost everywhere."""

    value: ClassVar[Any]
    rule: ClassVar[Any]

    def forward(self, x: Array) -> Array:
        xp = array_module(x)
        self.saved = (xp,)
        return self.value(xp, x)

    def backward(self, gradient: Array) -> Array:
        return self.rule(self.saved[0], gradient, None)


def _function(base: type[Op], name: str, value: Value, rule: Rule, summary: str, integers: bool = False) -> Callable[[Tensor], Tensor]:
    """Make the Op and its function, attached to Tensor; without `integers` these become the default floating-point type first."""
    op: type[Op] = type(name.capitalize(), (base,), {"value": staticmethod(value), "rule": staticmethod(rule), "__doc__": summary})

    def function(input: Tensor) -> Tensor:
        return op.apply(input if integers or input.array.dtype.kind == "f" else floating(input))

    function.__name__ = function.__qualname__ = name
    function.__doc__ = summary
    return method(function)


def _zero(xp: ModuleType, gradient: Array, _: Array) -> Array:
    return xp.zeros_like(gradient)


def _rounded(name: str) -> Value:
    return lambda xp, x: getattr(xp, name)(x) if x.dtype.kind == "f" else x.copy()


exp = _function(OfOutput, "exp", lambda xp, x: xp.exp(x), lambda xp, g, y: g * y, "e to the power x.")
expm1 = _function(OfOutput, "expm1", lambda xp, x: xp.expm1(x), lambda xp, g, y: g * (y + 1), "exp(x) - 1, exact near 0.")
exp2 = _function(OfOutput, "exp2", lambda xp, x: xp.exp2(x), lambda xp, g, y: g * y * ln(2), "2 to the power x.")
sqrt = _function(OfOutput, "sqrt", lambda xp, x: xp.sqrt(x), lambda xp, g, y: g / (2 * y), "The square root.")
rsqrt = _function(OfOutput, "rsqrt", lambda xp, x: 1 / xp.sqrt(x), lambda xp, g, y: g * (-0.5 * y * y * y), "1 / sqrt(x).")
reciprocal = _function(OfOutput, "reciprocal", lambda xp, x: 1 / x, lambda xp, g, y: -g * y * y, "1 / x.")
tanh = _function(OfOutput, "tanh", lambda xp, x: kernels.tanh(x), lambda xp, g, y: kernels.tanh_backward(g, y), "The hyperbolic tangent.")
tan = _function(OfOutput, "tan", lambda xp, x: xp.tan(x), lambda xp, g, y: g * (1 + y * y), "The tangent.")
sigmoid = _function(
    OfOutput, "sigmoid", lambda xp, x: kernels.sigmoid(x), lambda xp, g, y: kernels.sigmoid_backward(g, y), "1 / (1 + exp(-x))."
)

log = _function(OfInput, "log", lambda xp, x: xp.log(x), lambda xp, g, x: g / x, "The natural logarithm.")
log2 = _function(OfInput, "log2", lambda xp, x: xp.log2(x), lambda xp, g, x: g / (x * ln(2)), "The logarithm to base 2.")
log10 = _function(OfInput, "log10", lambda xp, x: xp.log10(x), lambda xp, g, x: g / (x * ln(10)), "The logarithm to base 10.")
log1p = _function(OfInput, "log1p", lambda xp, x: xp.log1p(x), lambda xp, g, x: g / (x + 1), "log(1 + x), exact near 0.")
sin = _function(OfInput, "sin", lambda xp, x: xp.sin(x), lambda xp, g, x: g * xp.cos(x), "The sine.")
cos = _function(OfInput, "cos", lambda xp, x: xp.cos(x), lambda xp, g, x: g * -xp.sin(x), "The cosine.")
sinh = _function(OfInput, "sinh", lambda xp, x: xp.sinh(x), lambda xp, g, x: g * xp.cosh(x), "The hyperbolic sine.")
cosh = _function(OfInput, "cosh", lambda xp, x: xp.cosh(x), lambda xp, g, x: g * xp.sinh(x), "The hyperbolic cosine.")
asin = _function(OfInput, "asin", lambda xp, x: xp.arcsin(x), lambda xp, g, x: g / xp.sqrt(1 - x * x), "The inverse sine.")
acos = _function(OfInput, "acos", lambda xp, x: xp.arccos(x), lambda xp, g, x: -g / xp.sqrt(1 - x * x), "The inverse cosine.")
atan = _function(OfInput, "atan", lambda xp, x: xp.arctan(x), lambda xp, g, x: g / (1 + x * x), "The inverse tangent.")
erf = _function(OfInput, "erf", lambda xp, x: erf_kernel(x), lambda xp, g, x: erf_gradient(g, x), "The error function.")
square = _function(OfInput, "square", lambda xp, x: x * x, lambda xp, g, x: g * (2 * x), "x · x.", integers=True)
abs = _function(OfInput, "abs", lambda xp, x: xp.abs(x), lambda xp, g, x: g * xp.sign(x), "The absolute value.", integers=True)

neg = _function(Step, "neg", lambda xp, x: -x, lambda xp, g, _: -g, "-x.", integers=True)
sign = _function(Step, "sign", lambda xp, x: xp.sign(x), _zero, "-1, 0 or 1; the gradient is 0.", integers=True)
floor = _function(Step, "floor", _rounded("floor"), _zero, "The next integer below; the gradient is 0.", integers=True)
ceil = _function(Step, "ceil", _rounded("ceil"), _zero, "The next integer above; the gradient is 0.", integers=True)
trunc = _function(Step, "trunc", _rounded("trunc"), _zero, "The integer part; the gradient is 0.", integers=True)
_round = _function(Step, "round", _rounded("rint"), _zero, "The nearest integer, halves to even; the gradient is 0.", integers=True)


@method
def round(input: Tensor, *, decimals: int = 0) -> Tensor:
    """The nearest multiple of 10^-decimals, halves to even; the gradient is 0."""
    return _round(input * 10**decimals) / 10**decimals if decimals else _round(input)


class Clamp(Op):
    """x kept within [low, high]; at the border the gradient still passes."""

    saves = (0,)

    def forward(self, x: Array, *, low: Any, high: Any) -> Array:
        self.saved = x, low, high
        return array_module(x).clip(x, low, high)

    def backward(self, gradient: Array) -> Array:
        x, low, high = self.saved
        inside = (x >= low) if high is None else (x <= high) if low is None else (x >= low) & (x <= high)
        return gradient * inside


@method
def clamp(input: Tensor, min: Any = None, max: Any = None) -> Tensor:
    """`input` kept within [min, max]; either bound may be missing, a number or a tensor."""
    if min is None and max is None:
        raise ValueError("clamp needs min, max or both")
    low, high = (None if bound is None else operand(bound) for bound in (min, max))
    if isinstance(low, Tensor) or isinstance(high, Tensor):
        return _clamp_by_tensors(input, low, high)
    if input.array.dtype.kind != "f" and (isinstance(low, float) or isinstance(high, float)):
        input = floating(input)
    return Clamp.apply(input, low=low, high=high)


def _clamp_by_tensors(x: Tensor, low: Any, high: Any) -> Tensor:
    """By selection, so that each element's gradient goes to the one it was taken from (to x at the border)."""
    if low is not None:
        x = where(x < low, low, x)
    return x if high is None else where(x > high, high, x)


def positive(input: Tensor) -> Tensor:
    """`input` itself."""
    return input


clip = clamp
absolute = abs
for _name, _method in {"__neg__": neg, "__pos__": positive, "__abs__": abs, "clip": clamp, "absolute": abs, "negative": neg}.items():
    setattr(Tensor, _name, _method)
negative = neg
