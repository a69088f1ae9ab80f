"""Comparing a module or a function with PyTorch's of the same name: same weights, same input, same gradients."""

from __future__ import annotations

from typing import Any

import numpy as np

import dist_train as dt

TOLERANCE = {"float32": {"rtol": 2e-4, "atol": 2e-5}, "float64": {"rtol": 1e-9, "atol": 1e-10}}


def draw(seed: int, *specs: Any) -> list[Any]:
    """One array per spec: a shape gives normal values; (shape, n) integers below n; (shape, "unit") values inside (0, 1)."""
    source = np.random.default_rng(seed)
    return [_draw(source, spec) for spec in specs]


def _draw(source: Any, spec: Any) -> Any:
    if spec and isinstance(spec[0], tuple):
        shape, kind = spec
        return source.uniform(0.02, 0.98, shape) if kind == "unit" else source.integers(0, kind, shape)
    return source.standard_normal(spec)


def as_type(array: Any, dtype: str) -> Any:
    return array.astype(dtype) if array.dtype.kind == "f" else array


def ours(array: Any, requires_grad: bool = True) -> Any:
    return dt.tensor(array, requires_grad=requires_grad and array.dtype.kind == "f")


def theirs(array: Any, requires_grad: bool = True) -> Any:
    import torch

    return torch.tensor(array, requires_grad=requires_grad and array.dtype.kind == "f")


def close(a: Any, b: Any, dtype: str, what: str) -> None:
    if a is None or b is None:
        assert a is None and b is None, f"{what}: {a} against {b}"
        return
    a, b = a.detach().numpy(), b.detach().numpy()
    assert a.dtype == b.dtype and a.shape == b.shape, f"{what}: {a.dtype} {a.shape} against {b.dtype} {b.shape}"
    scale = max(1.0, float(np.abs(b[np.isfinite(b)]).max(initial=0)))
    tolerance = TOLERANCE[dtype]
    np.testing.assert_allclose(a, b, rtol=tolerance["rtol"], atol=tolerance["atol"] * scale, err_msg=what)


def compare(function: Any, other: Any, arrays: list[Any], dtype: str) -> None:
    """Outputs of `function(*ours)` and `other(*theirs)`, and the gradients of all float inputs for a random output gradient."""
    arrays = [as_type(array, dtype) for array in arrays]
    x, y = [ours(array) for array in arrays], [theirs(array) for array in arrays]
    a, b = function(*x), other(*y)
    close(a, b, dtype, "output")
    if not b.requires_grad:
        assert not a.requires_grad
        return
    gradient = np.asarray(np.random.default_rng(7).standard_normal(tuple(b.shape)), dtype)
    a.backward(ours(gradient, False))
    b.backward(theirs(gradient, False))
    for i, (mine, his) in enumerate(zip(x, y)):
        close(mine.grad, his.grad, dtype, f"gradient of input {i}")


def load_from(module: Any, other: Any) -> None:
    """Give `module` the weights of PyTorch's."""
    state = {name: value.detach().numpy() for name, value in other.state_dict().items()}
    assert list(module.state_dict()) == list(state), f"{list(module.state_dict())} against {list(state)}"
    module.load_state_dict(state)


def compare_modules(module: Any, other: Any, arrays: list[Any], dtype: str) -> None:
    """`compare` for modules of the same weights, and the gradients of their parameters and their buffers afterwards."""
    load_from(module, other)
    compare(module, other, arrays, dtype)
    for (name, mine), (other_name, his) in zip(module.named_parameters(), other.named_parameters(), strict=True):
        assert name == other_name
        close(mine.grad, his.grad, dtype, f"gradient of {name}")
    for (name, mine), (_, his) in zip(module.named_buffers(), other.named_buffers(), strict=True):
        close(mine, his, dtype, f"buffer {name}")
