"""The compiled update rules have the bits of their references."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from native_cases import SITUATIONS, Case, check_case, needs_native

from dist_train.backend.reference import optim

pytestmark = needs_native

SIZES = [0, 1, 7, 16, 1023, 200_003]


def vectors(rng: np.random.Generator, dtype: Any, size: int, number: int) -> list[Any]:
    """Parameter, gradient, and state vectors that are not negative."""
    first = [rng.standard_normal(size).astype(dtype) for _ in range(2)]
    return first + [np.abs(rng.standard_normal(size)).astype(dtype) for _ in range(number)]


def cases(kernel: Any, states: list[bool], options: dict[str, list[Any]], size: int) -> list[Case]:
    """All combinations of the options, at one size; False in `states` stands for None."""
    found = []
    for values in itertools.product(*options.values()):
        kwargs = dict(zip(options, values))

        def make(rng: Any, dtype: Any, kwargs: dict[str, Any] = kwargs) -> Any:
            given = iter(vectors(rng, dtype, size, sum(states)))
            return [next(given), next(given), *[next(given) if present else None for present in states]], kwargs

        found.append(Case(f"{size}-{'-'.join(map(str, values))}-{states}", kernel, make, exact=True))
    return found


def family(size: int) -> list[Case]:
    decay: dict[str, list[Any]] = {"weight_decay": [0.0, 0.01], "maximize": [False, True]}
    adam = {"step_size": [1e-3], "beta1": [0.9], "beta2": [0.999], "eps": [1e-8], "shrink": [1.0, 0.999], **decay}
    sgd = {"lr": [0.1], "momentum": [0.9], "dampening": [0.0, 0.1], "nesterov": [False, True], "first": [False, True], **decay}
    rmsprop = {"lr": [0.01], "alpha": [0.99], "eps": [1e-8], "momentum": [0.9], **decay}
    found = [c for amsgrad in (False, True) for c in cases(optim.adam, [True, True, amsgrad], adam, size)]
    found += [c for buffer in (False, True) for c in cases(optim.sgd, [buffer], sgd, size)]
    found += [c for m in (False, True) for a in (False, True) for c in cases(optim.rmsprop, [True, m, a], rmsprop, size)]
    found += cases(optim.adagrad, [True], {"lr": [0.01], "eps": [1e-10], **decay}, size)
    found += cases(optim.adadelta, [True, True], {"lr": [1.0], "rho": [0.9], "eps": [1e-6], **decay}, size)
    return found + [divided(case) for case in found if "True" not in case.name]


def divided(case: Case) -> Case:
    """The same with a sum of gradients."""

    def make(rng: Any, dtype: Any) -> Any:
        arrays, scalars = case.make(rng, dtype)
        return arrays, {**scalars, "grad_divisor": 3.0}

    return Case(f"{case.name}-mean", case.kernel, make, exact=True)


@pytest.mark.parametrize("situation", SITUATIONS)
@pytest.mark.parametrize("case", family(1023), ids=str)
def test_agrees(case: Case, situation: str) -> None:
    check_case(case, situation)


@pytest.mark.parametrize("case", [c for size in SIZES for c in family(size) if "True" not in c.name.split("[")[0]], ids=str)
def test_sizes(case: Case) -> None:
    check_case(case, "plain")


@pytest.mark.parametrize("case", [c for c in family(200_003) if "True" not in c.name.split("[")[0]], ids=str)
def test_threads(case: Case) -> None:
    check_case(case, "threads")
