"""gradcheck finds wrong gradients, says where, and refuses what it cannot judge."""

from __future__ import annotations

from typing import Any

import pytest

import dist_train as dt
from dist_train import Tensor
from dist_train.autograd import Function, gradcheck


class Scaled(Function):
    """x·y with the gradient of element 1 of y wrong by one part in a hundred."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor) -> Tensor:
        ctx.save_for_backward(x, y)
        return x * y

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        x, y = ctx.saved_tensors
        return gradient * y, gradient * x * dt.tensor([1, 1.01, 1], dtype=dt.float64)


def inputs() -> tuple[Tensor, Tensor]:
    return tuple(dt.tensor(values, dtype=dt.float64, requires_grad=True) for values in ([1.0, 2, 3], [4.0, 5, 6]))  # type: ignore[return-value]


@pytest.mark.parametrize("fast_mode", [False, True])
def test_right_and_wrong(fast_mode: bool) -> None:
    assert gradcheck(lambda x, y: x * y, inputs(), fast_mode=fast_mode)
    with pytest.raises(RuntimeError, match="input 1"):
        gradcheck(Scaled.apply, inputs(), fast_mode=fast_mode)
    assert gradcheck(Scaled.apply, inputs(), fast_mode=fast_mode, raise_exception=False) is False
    assert gradcheck(Scaled.apply, inputs(), fast_mode=fast_mode, rtol=0.05)


def test_the_message_names_the_place_and_both_values() -> None:
    with pytest.raises(RuntimeError, match=r"input 1, element 1, output 0, element 1: .*2\.02, .* 2\b"):
        gradcheck(Scaled.apply, inputs())


def test_several_outputs_and_other_inputs() -> None:
    x, _ = inputs()
    assert gradcheck(lambda a, n, mask: (a * n, a.masked_fill(mask, 0).sum(), a.argmax()), (x, 3, x > 1.5))
    assert gradcheck(lambda a: a.exp(), x)
    assert gradcheck(lambda a: dt.ones(2, dtype=dt.float64), x)  # no dependence: zeros
    with pytest.raises(RuntimeError, match="backward gives 0"):
        gradcheck(lambda a: a.detach() * 2, x)


def test_refusals() -> None:
    x = dt.ones(3, requires_grad=True)
    with pytest.raises(ValueError, match=r"input 1 is float32.*double"):
        gradcheck(lambda a, b: a * b, (inputs()[0], x))
    with pytest.raises(ValueError, match="at least one input"):
        gradcheck(lambda a: a, (dt.ones(3, dtype=dt.float64),))


def test_wrong_values_do_not_slip_through_as_nan() -> None:
    with pytest.raises(RuntimeError, match="nan"):
        gradcheck(lambda a: (a * 0).sqrt() * 0 + a, inputs()[0])
