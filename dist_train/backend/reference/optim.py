"""The optimizers' update rules on flat arrays, in place: what the classes of `dist_train.optim` compute.

Every rule treats each element alike, whatever stands beside it, so a parameter updated whole or in any slices gets the
same bits. The scalars are Python floats (computed in float64); arrays keep their own type. Gradients are never written
to.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np

from ..floating import IGNORE, reset_error_state, set_error_state
from ..kernels import kernel

Array = Any

BLOCK = 65536  # elements worked on at a time, so that they stay in cache (10 M elements of Adam: 18 instead of 30 ms)


def blockwise(num_scratch: int) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Makes `rule(xp, scratch, param, grad, ...)` run block by block; `scratch` is `num_scratch` uninitialised blocks.

    With `grad_divisor` the rule sees grad / grad_divisor, rounded: a sum of gradients becomes their mean on the way.
    """

    def decorate(rule: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(rule)
        def run(xp: ModuleType, param: Array, grad: Array, *state: Array, grad_divisor: float = 1.0, **scalars: Any) -> None:
            size = param.size if xp is not np else min(param.size, BLOCK)
            scratch = [xp.empty(size, param.dtype) for _ in range(num_scratch)]
            mean = None if grad_divisor == 1.0 else xp.empty(size, param.dtype)
            token = set_error_state(IGNORE)  # infinities and NaN pass through silently
            try:
                for start in range(0, param.size, size or 1):
                    part = slice(start, start + size)
                    count = min(size, param.size - start)
                    work = [buffer[:count] for buffer in scratch]
                    seen = grad[part] if mean is None else xp.divide(grad[part], grad_divisor, out=mean[:count])
                    rule(xp, work, param[part], seen, *[vector if vector is None else vector[part] for vector in state], **scalars)
            finally:
                reset_error_state(token)

        return run

    return decorate


def _direction(xp: ModuleType, out: Array, param: Array, grad: Array, weight_decay: float, maximize: bool) -> Array:
    """±grad + weight_decay·param: `grad` itself where nothing is to be done, else `out`."""
    if not weight_decay:
        return xp.negative(grad, out=out) if maximize else grad
    xp.multiply(param, weight_decay, out=out)
    return xp.subtract(out, grad, out=out) if maximize else xp.add(out, grad, out=out)


def _average(xp: ModuleType, average: Array, value: Array, decay: float, scratch: Array) -> None:
    """average ← decay·average + (1 − decay)·value, as average + (1 − decay)·(value − average)."""
    xp.subtract(value, average, out=scratch)
    xp.multiply(scratch, 1 - decay, out=scratch)
    xp.add(average, scratch, out=average)


def _average_square(xp: ModuleType, average: Array, value: Array, decay: float, scratch: Array) -> None:
    """average ← decay·average + (1 − decay)·value²."""
    xp.multiply(average, decay, out=average)
    xp.multiply(value, value, out=scratch)
    xp.multiply(scratch, 1 - decay, out=scratch)
    xp.add(average, scratch, out=average)


def _descend(xp: ModuleType, param: Array, numerator: Array, denominator: Array, lr: float) -> None:
    """param ← param − lr·numerator/denominator; `denominator` is overwritten."""
    xp.divide(numerator, denominator, out=denominator)
    xp.multiply(denominator, lr, out=denominator)
    xp.subtract(param, denominator, out=param)


@kernel
@blockwise(num_scratch=2)
def sgd(
    xp: ModuleType,
    scratch: list[Array],
    param: Array,
    grad: Array,
    momentum_buffer: Array | None,
    *,
    lr: float,
    momentum: float,
    dampening: float,
    weight_decay: float,
    nesterov: bool,
    maximize: bool,
    first: bool,
) -> None:
    """Gradient descent; with a momentum buffer the step follows that, and it starts as the `first` gradient."""
    work, move = scratch
    grad = _direction(xp, work, param, grad, weight_decay, maximize)
    if momentum_buffer is not None:
        if first:
            momentum_buffer[...] = grad
        else:
            xp.multiply(momentum_buffer, momentum, out=momentum_buffer)
            xp.multiply(grad, 1 - dampening, out=move)
            xp.add(momentum_buffer, move, out=momentum_buffer)
        if nesterov:
            xp.multiply(momentum_buffer, momentum, out=move)
            grad = xp.add(grad, move, out=work)
        else:
            grad = momentum_buffer
    xp.multiply(grad, lr, out=move)
    xp.subtract(param, move, out=param)


@kernel
@blockwise(num_scratch=2)
def adagrad(
    xp: ModuleType,
    scratch: list[Array],
    param: Array,
    grad: Array,
    sum: Array,
    *,
    lr: float,
    eps: float,
    weight_decay: float,
    maximize: bool,
) -> None:
    """`sum` collects squared gradients; the step is lr·grad/(√sum + eps)."""
    work, root = scratch
    grad = _direction(xp, work, param, grad, weight_decay, maximize)
    xp.multiply(grad, grad, out=root)
    xp.add(sum, root, out=sum)
    xp.sqrt(sum, out=root)
    xp.add(root, eps, out=root)
    _descend(xp, param, grad, root, lr)


@kernel
@blockwise(num_scratch=3)
def adadelta(
    xp: ModuleType,
    scratch: list[Array],
    param: Array,
    grad: Array,
    square_avg: Array,
    acc_delta: Array,
    *,
    lr: float,
    rho: float,
    eps: float,
    weight_decay: float,
    maximize: bool,
) -> None:
    """The step is lr·delta with delta = grad·√(acc_delta + eps)/√(square_avg + eps); both averages are of squares."""
    work, root, delta = scratch
    grad = _direction(xp, work, param, grad, weight_decay, maximize)
    _average_square(xp, square_avg, grad, rho, root)
    xp.add(square_avg, eps, out=root)
    xp.sqrt(root, out=root)
    xp.add(acc_delta, eps, out=delta)
    xp.sqrt(delta, out=delta)
    xp.divide(delta, root, out=delta)
    xp.multiply(delta, grad, out=delta)
    _average_square(xp, acc_delta, delta, rho, root)
    xp.multiply(delta, lr, out=delta)
    xp.subtract(param, delta, out=param)


@kernel
@blockwise(num_scratch=2)
def rmsprop(
    xp: ModuleType,
    scratch: list[Array],
    param: Array,
    grad: Array,
    square_avg: Array,
    momentum_buffer: Array | None,
    grad_avg: Array | None,
    *,
    lr: float,
    alpha: float,
    eps: float,
    weight_decay: float,
    momentum: float,
    maximize: bool,
) -> None:
    """The step is lr·grad/(√square_avg + eps), or lr times the momentum of that.

    `grad_avg` puts the variance in the place of the mean square, not below 0.
    """
    work, root = scratch
    grad = _direction(xp, work, param, grad, weight_decay, maximize)
    _average_square(xp, square_avg, grad, alpha, root)
    if grad_avg is None:
        xp.sqrt(square_avg, out=root)
    else:
        _average(xp, grad_avg, grad, alpha, root)
        xp.multiply(grad_avg, grad_avg, out=root)
        xp.subtract(square_avg, root, out=root)
        xp.maximum(root, 0, out=root)  # rounding can take the difference below 0, whose root would be NaN
        xp.sqrt(root, out=root)
    xp.add(root, eps, out=root)
    xp.divide(grad, root, out=root)
    if momentum_buffer is not None:
        xp.multiply(momentum_buffer, momentum, out=momentum_buffer)
        root = xp.add(momentum_buffer, root, out=momentum_buffer)
    xp.multiply(root, lr, out=work)
    xp.subtract(param, work, out=param)


@kernel
@blockwise(num_scratch=2)
def adam(
    xp: ModuleType,
    scratch: list[Array],
    param: Array,
    grad: Array,
    exp_avg: Array,
    exp_avg_sq: Array,
    max_exp_avg_sq: Array | None,
    *,
    step_size: float,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
    shrink: float,
    maximize: bool,
) -> None:
    """param ← shrink·param − step_size·exp_avg/(√exp_avg_sq + eps), with the largest exp_avg_sq so far where
    `max_exp_avg_sq` is given.

    The bias corrections are inside `step_size` = lr·√(1 − beta2^t)/(1 − beta1^t) and `eps` = eps₀·√(1 − beta2^t): two
    passes fewer. `weight_decay` is added to the gradient, `shrink` = 1 − lr·decay is the decoupled form.
    """
    work, root = scratch
    if shrink != 1.0:
        xp.multiply(param, shrink, out=param)
    grad = _direction(xp, work, param, grad, weight_decay, maximize)
    _average(xp, exp_avg, grad, beta1, root)
    _average_square(xp, exp_avg_sq, grad, beta2, root)
    if max_exp_avg_sq is not None:
        exp_avg_sq = xp.maximum(max_exp_avg_sq, exp_avg_sq, out=max_exp_avg_sq)
    xp.sqrt(exp_avg_sq, out=root)
    xp.add(root, eps, out=root)
    _descend(xp, param, exp_avg, root, step_size)
