"""Special functions that NumPy lacks."""

from __future__ import annotations

from math import pi, sqrt
from types import ModuleType

from ..device import Array
from ..kernels import kernel
from .blocks import blocks

# Rational approximations of W. J. Cody, "Rational Chebyshev approximations for the error function", Math. Comp. 23 (1969), highest power
# first: erf(x) = x·P(x²)/Q(x²) below 0.46875, erfc(x) = exp(-x²)·P(x)/Q(x) from there to 4 (and close enough to 6, where erf(x) is 1).
_NEAR_P = (1.85777706184603153e-1, 3.16112374387056560, 1.13864154151050156e2, 3.77485237685302021e2, 3.20937758913846947e3)
_NEAR_Q = (1.0, 2.36012909523441209e1, 2.44024637934444173e2, 1.28261652607737228e3, 2.84423683343917062e3)
_FAR_P = (
    2.15311535474403846e-8, 5.64188496988670089e-1, 8.88314979438837594, 6.61191906371416295e1, 2.98635138197400131e2,
    8.81952221241769090e2, 1.71204761263407058e3, 2.05107837782607147e3, 1.23033935479799725e3,
)  # fmt: skip
_FAR_Q = (
    1.0, 1.57449261107098347e1, 1.17693950891312499e2, 5.37181101862009858e2, 1.62138957456669019e3,
    3.29079923573345963e3, 4.36261909014324716e3, 3.43936767414372164e3, 1.23033935480374942e3,
)  # fmt: skip


# −logit(Φ(x))/x for |x| ≤ 5.2 as a polynomial in x², fitted so that erf is right to 3e-8 of itself; highest power first. Φ is the logistic
# function of −x·P(x²) and erf(x) is tanh(−x/√2·P(2x²)): both are smooth, keep to their range, and take half the operations of a quotient.
_LOGIT = (
    9.646885445543e-12, -6.276727651844e-10, 1.205038979769e-8, 7.546028837951e-8, -6.725351047312e-6, 1.066241274400e-4,
    7.158015565409e-5, -7.267033777098e-2, -1.5957691687886,
)  # fmt: skip
_LOGIT_END = 5.2**2  # beyond, the polynomial keeps its last value: 1 − Φ is below 1e-7 there


@kernel
def erf(xp: ModuleType, x: Array) -> Array:
    """2/√π ∫₀ˣ exp(-t²) dt, with a relative error of 1e-15 in float64, and of 2e-7 in narrower types, computed in float32."""
    y = xp.empty(x.shape, x.dtype)
    for part, out in blocks(xp, x, y):
        out[...] = _quotient_erf(xp, part) if x.dtype == "float64" else _single_erf(xp, part.astype("float32", copy=False))
    return y


def normal_cdf(xp: ModuleType, x: Array) -> Array:
    """Φ(x) = (1 + erf(x/√2)) / 2, for float64 and float32; an array of its own."""
    if x.dtype == "float64":
        result = _quotient_erf(xp, x * sqrt(0.5))
        result += 1
        result *= 0.5
        return result
    return logistic_of_minus(xp, _minus_logit(xp, x))


def logistic_of_minus(xp: ModuleType, x: Array) -> Array:
    """1 / (1 + exp(x)), in place."""
    xp.exp(x, out=x)
    x += 1
    return xp.divide(1, x, out=x)


def _minus_logit(xp: ModuleType, x: Array) -> Array:
    """−log(Φ(x)/(1 − Φ(x))), for float32."""
    square = x * x
    xp.clip(square, 0, _LOGIT_END, out=square)
    result = _polynomial(_LOGIT, square)
    result *= x
    return result


def _single_erf(xp: ModuleType, x: Array) -> Array:
    result = _minus_logit(xp, x * sqrt(2))
    result *= -0.5
    return xp.tanh(result, out=result)


def _quotient_erf(xp: ModuleType, x: Array) -> Array:
    size = xp.minimum(xp.abs(x), 6)
    square = size * size
    near = x * (_polynomial(_NEAR_P, square) / _polynomial(_NEAR_Q, square))
    far = 1 - xp.exp(-square) * (_polynomial(_FAR_P, size) / _polynomial(_FAR_Q, size))
    return xp.where(size < 0.46875, near, xp.copysign(far, x))


@kernel
def erf_gradient(xp: ModuleType, gradient: Array, x: Array) -> Array:
    """gradient · 2/√π exp(-x²)."""
    return gradient * (2 / sqrt(pi) * xp.exp(-(x * x)))


def _polynomial(coefficients: tuple[float, ...], x: Array) -> Array:
    """Horner's rule; the first coefficient is that of the highest power."""
    result = x * coefficients[0]
    result += coefficients[1]
    for coefficient in coefficients[2:]:
        result *= x
        result += coefficient
    return result
