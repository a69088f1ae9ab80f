"""The one way to test compiled kernels: every override against its reference, over what breaks kernels.

A family's test file lists `Case`s and calls `check_case` for every case and situation:

    @pytest.mark.parametrize("situation", SITUATIONS)
    @pytest.mark.parametrize("case", CASES, ids=str)
    def test_agrees(case, situation):
        check_case(case, situation)
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import pytest

from dist_train.backend import native
from dist_train.backend.kernels import Kernel

required = os.environ.get("DIST_TRAIN_TEST_REQUIRE") == "1"
needs_native = pytest.mark.skipif(not native.available() and not required, reason="the compiled kernels are not built (no C++ compiler)")

SPECIAL = [np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-40, -1e-42, 3e38, -3e38, 1.17549435e-38]
SITUATIONS = ["plain", "special", "noncontiguous", "shifted", "threads", "base", "avx2"]

Arguments = tuple[list[Any], dict[str, Any]]


@dataclass
class Case:
    """A call of a kernel: `make(rng, dtype)` gives its positional and keyword arguments.

    `exact`: override and reference have the same bits; else they agree to `rtol` (in units of the type's precision) of the largest
    magnitude of the result. `special`: whether nan, infinities and denormal numbers are put into the floating arguments.
    `dtypes`: those that the override must not decline. `products`: whether it multiplies matrices, which the base instruction set rounds
    otherwise than those with fused multiply-adds.
    """

    name: str
    kernel: Kernel
    make: Callable[[np.random.Generator, Any], Arguments]
    exact: bool = False
    rtol: float = 16.0
    special: bool = True
    dtypes: tuple[str, ...] = ("float32", "float64")
    products: bool = False
    ignore_special: tuple[int, ...] = field(default=())  # positions of arguments which stay finite

    def __str__(self) -> str:
        return f"{self.kernel.name}-{self.name}"


def check_case(case: Case, situation: str) -> None:
    if situation == "special" and not case.special:
        return
    for dtype in map(np.dtype, case.dtypes):
        args, kwargs = case.make(np.random.default_rng(0), dtype)
        if situation == "special":
            args = [_with_special(a, i) if i not in case.ignore_special else a for i, a in enumerate(args)]
        with np.errstate(all="ignore"):
            expected = _run(case.kernel.reference, [np, *copy.deepcopy(args)], kwargs)
        _check_situation(case, situation, dtype, args, kwargs, expected)


def _check_situation(case: Case, situation: str, dtype: np.dtype[Any], args: list[Any], kwargs: dict[str, Any], expected: Any) -> None:
    override = case.kernel.overrides["numpy"]
    if situation == "base" and case.products:
        with instruction_set("base"):
            _compare(case, dtype, _run(override, copy.deepcopy(args), kwargs), expected)
    elif situation in ("base", "avx2"):
        _check_same_bits_on(situation, override, args, kwargs)
    elif situation == "threads":
        _check_same_bits_with_threads(override, args, kwargs)
    elif situation == "shifted":
        first = _run(override, copy.deepcopy(args), kwargs)
        for shift in range(1, 16):
            _assert_same_bits(_run(override, [_map_arrays(a, partial(_shifted, shift=shift)) for a in args], kwargs), first)
    elif situation == "noncontiguous":
        args = [_map_arrays(a, _noncontiguous) for a in args]
        actual = _run(override, args, kwargs)
        if actual[0] is not NotImplemented:
            _compare(case, dtype, actual, expected)
    else:
        actual = _run(override, copy.deepcopy(args), kwargs)
        assert actual[0] is not NotImplemented, f"{case} declined {dtype}"
        _compare(case, dtype, actual, expected)


@contextmanager
def instruction_set(name: str) -> Iterator[None]:
    from dist_train.backend import _native

    best = _native.instruction_set()
    _native.set_instruction_set(name)
    try:
        yield
    finally:
        _native.set_instruction_set(best)


def _check_same_bits_on(isa: str, override: Any, args: list[Any], kwargs: dict[str, Any]) -> None:
    """Every instruction set gives the bits of the best one."""
    from dist_train.backend import _native

    if isa == "avx2" and _native.instruction_set() == "base":
        pytest.skip("this processor has no AVX2")
    expected = _run(override, copy.deepcopy(args), kwargs)
    with instruction_set(isa):
        actual = _run(override, copy.deepcopy(args), kwargs)
    _assert_same_bits(actual, expected)


def _check_same_bits_with_threads(override: Any, args: list[Any], kwargs: dict[str, Any]) -> None:
    from threadpoolctl import threadpool_limits

    results = []
    for threads in (1, 2, 3):
        with threadpool_limits(threads, user_api="openmp"):
            results.append(_run(override, copy.deepcopy(args), kwargs))
    for result in results[1:]:
        _assert_same_bits(result, results[0])


def _run(function: Any, args: list[Any], kwargs: dict[str, Any]) -> list[Any]:
    """The result and all arguments after the call."""
    result = function(*args, **kwargs)
    return [result, *[a for a in args if a is not np]]


def _compare(case: Case, dtype: np.dtype[Any], actual: Any, expected: Any) -> None:
    if case.exact:
        _assert_same_bits(actual, expected)
        return
    tolerance = case.rtol * np.finfo(dtype).eps
    for a, b in zip(_leaves(actual), _leaves(expected), strict=True):
        assert a.shape == b.shape and a.dtype == b.dtype, (a.shape, b.shape, a.dtype, b.dtype)
        finite = b[np.isfinite(b)] if b.dtype.kind == "f" else b
        scale = float(np.abs(finite).max(initial=0)) if b.dtype.kind == "f" else 0.0
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * min(scale, 1e30), equal_nan=True)


def _assert_same_bits(actual: Any, expected: Any) -> None:
    for a, b in zip(_leaves(actual), _leaves(expected), strict=True):
        assert a.shape == b.shape and a.dtype == b.dtype, (a.shape, b.shape, a.dtype, b.dtype)
        np.testing.assert_array_equal(a, b)  # nan equals nan
        if a.dtype.kind == "f":
            np.testing.assert_array_equal(np.signbit(a) & ~np.isnan(a), np.signbit(b) & ~np.isnan(b))


def _leaves(value: Any) -> list[np.ndarray[Any, Any]]:
    if isinstance(value, np.ndarray | np.generic | float):
        return [np.asarray(value)]
    if isinstance(value, list | tuple):
        return [leaf for item in value for leaf in _leaves(item)]
    return []


def _map_arrays(value: Any, change: Callable[[Any], Any]) -> Any:
    """`value` with `change` applied to its arrays; everything is copied."""
    if isinstance(value, np.ndarray):
        return change(value)
    if isinstance(value, list | tuple):
        return type(value)(_map_arrays(item, change) for item in value)
    return value


def _with_special(value: Any, seed: int) -> Any:
    def change(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        array = array.copy()
        if array.dtype.kind == "f" and array.size:
            rng = np.random.default_rng(seed)
            places = rng.choice(array.size, min(array.size, len(SPECIAL)), replace=False)
            with np.errstate(all="ignore"):
                array.reshape(-1)[places] = np.array(SPECIAL[: len(places)]).astype(array.dtype)
        return array

    return _map_arrays(value, change)


def _noncontiguous(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    wide = np.zeros((*array.shape[:-1], 2 * array.shape[-1]) if array.ndim else (), array.dtype)
    if not array.ndim:
        return array.copy()
    wide[..., ::2] = array
    return wide[..., ::2]


def _shifted(array: np.ndarray[Any, Any], shift: int) -> np.ndarray[Any, Any]:
    """A copy that begins `shift` elements after a 64-byte boundary."""
    memory = np.empty(array.nbytes + 64 + 16 * array.itemsize, np.uint8)
    start = -memory.ctypes.data % 64 + shift * array.itemsize
    result = memory[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    result[...] = array
    return result
