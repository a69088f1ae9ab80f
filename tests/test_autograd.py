"""The engine: what is recorded, where gradients go, hooks, in-place changes, users' own functions."""

from __future__ import annotations

import copy
import gc
import threading
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import dist_train as dt
from dist_train import Tensor
from dist_train.autograd import Function, Parameter, grad


def leaf(*values: float) -> Tensor:
    return dt.tensor(list(values), dtype=dt.float64, requires_grad=True)


def gradient_of(tensor: Tensor) -> Any:
    assert tensor.grad is not None
    return tensor.grad.tolist()


# the graph


def test_the_tutorials_example() -> None:
    a, a2 = leaf(5), leaf(5)
    b = 5 * a
    c = b / 2 + 5 * a2
    c.backward()
    assert (gradient_of(a), b.grad, gradient_of(a2)) == ([2.5], None, [5.0])


def test_gradients_accumulate_in_leaves() -> None:
    x = leaf(1, 2)
    for _ in range(3):
        (x * x).sum().backward()
    assert gradient_of(x) == [6, 12]
    x.grad = None
    (x * 3).sum().backward()
    assert gradient_of(x) == [3, 3]


def test_a_leafs_gradient_is_its_own() -> None:
    """It shares memory neither with the gradient passed in nor with that of another leaf."""
    x, y = leaf(1, 2), leaf(3, 4)
    seed = dt.ones(2, dtype=dt.float64)
    (x + y).backward(seed)
    assert x.grad is not None
    x.grad.zero_()
    assert gradient_of(y) == seed.tolist() == [1, 1]


def test_a_value_used_many_times() -> None:
    x = leaf(2)
    y = x * x
    (y * y + y * x + y).backward()
    assert gradient_of(x) == [4 * 8 + 3 * 4 + 2 * 2]


def test_long_chain() -> None:
    """20 000 operations, and as many that share one input."""
    x = leaf(1)
    y = x
    for _ in range(20_000):
        y = y + 1
    (y * 2).backward()
    assert gradient_of(x) == [2]
    total = x * 0
    for _ in range(20_000):
        total = total + x
    total.backward()
    assert gradient_of(x) == [2 + 20_000]
    del y, total  # freeing the chains must not recurse either


def test_freeing_an_unused_long_chain() -> None:
    x = leaf(1)
    y = x
    for _ in range(100_000):
        y = y + 1
    del y


def test_nothing_is_kept_alive_after_backward() -> None:
    x = leaf(1, 2)
    y = x.exp()
    reference = weakref.ref(y.grad_fn)
    y.sum().backward()
    del y
    assert reference() is None


def test_a_dropped_graph_needs_no_garbage_collection() -> None:
    gc.disable()
    try:
        x = leaf(1, 2)
        y = (x.exp() * x).sum()
        reference = weakref.ref(y)
        node = weakref.ref(y.grad_fn)
        del y
        assert reference() is None
        assert node() is None
    finally:
        gc.enable()


def test_leaves_and_nodes() -> None:
    x = leaf(1)
    y = x * 2
    assert (x.is_leaf, x.grad_fn, y.is_leaf) == (True, None, False)
    assert repr(y.grad_fn) == "<MulBackward>"
    assert y.grad_fn.next_functions == ((x, 0), (None, 0))
    assert not (x > 0).requires_grad
    assert not x.long().requires_grad


def test_integers_have_no_gradient() -> None:
    with pytest.raises(RuntimeError, match="int64"):
        dt.tensor([1], requires_grad=True)
    with pytest.raises(RuntimeError, match="int64"):
        dt.arange(3).requires_grad_()


def test_gradients_stop_where_none_is_wanted() -> None:
    x, constant = leaf(1, 2), dt.ones(2, dtype=dt.float64)
    (x * constant).sum().backward()
    assert constant.grad is None
    frozen = leaf(1, 2).requires_grad_(False)
    assert not (frozen * 2).requires_grad


# roots


def test_backward_needs_a_scalar_or_a_gradient() -> None:
    x = leaf(1, 2)
    with pytest.raises(RuntimeError, match=r"\(2,\)"):
        (x * 2).backward()
    with pytest.raises(RuntimeError, match=r"\(3,\).*\(2,\)"):
        (x * 2).backward(dt.ones(3))
    with pytest.raises(RuntimeError, match="does not require grad"):
        dt.ones(1).backward()
    with pytest.raises(RuntimeError, match="create_graph"):
        (x * 2).sum().backward(create_graph=True)
    (x * 2).backward(dt.tensor([1.0, 10.0]))
    assert gradient_of(x) == [2, 20]


def test_several_roots() -> None:
    x = leaf(1, 2)
    dt.autograd.backward([(x * 2).sum(), (x * x).sum()])
    assert gradient_of(x) == [4, 6]


def test_backward_from_a_leaf() -> None:
    x = leaf(3)
    x.backward()
    assert gradient_of(x) == [1]


def test_second_backward() -> None:
    x = leaf(1, 2)
    y = (x * x).sum()
    y.backward(retain_graph=True)
    y.backward()
    assert gradient_of(x) == [4, 8]
    with pytest.raises(RuntimeError, match=r"second time.*retain_graph=True"):
        y.backward()


def test_second_backward_over_a_shared_part() -> None:
    x = leaf(1, 2)
    shared = x.exp()
    shared.sum().backward()
    with pytest.raises(RuntimeError, match="second time"):
        (shared * 2).sum().backward()


def test_grad() -> None:
    x, y = leaf(1, 2), leaf(3, 4)
    product = x * y
    by_x, by_y = grad(product.sum(), [x, y], retain_graph=True)
    assert by_x is not None
    assert by_y is not None
    assert (by_x.tolist(), by_y.tolist(), x.grad) == ([3, 4], [1, 2], None)
    (by_product,) = grad((product * product).sum(), product, retain_graph=True)
    assert by_product is not None
    assert by_product.tolist() == [6, 16]
    (weighted,) = grad(product, [x], dt.tensor([1.0, 2.0]), retain_graph=True)
    assert weighted is not None
    assert weighted.tolist() == [3, 8]
    with pytest.raises(RuntimeError, match="input 1 was not used"):
        grad(product.sum(), [x, leaf(1)], retain_graph=True)
    assert grad(product.sum(), [x, leaf(1)], allow_unused=True)[1] is None
    with pytest.raises(RuntimeError, match="input 0 does not require grad"):
        grad(product.sum(), [dt.ones(1)])


# modes


def test_modes() -> None:
    x = leaf(1)
    with dt.no_grad():
        assert not dt.is_grad_enabled()
        assert not (x * 2).requires_grad
        with dt.enable_grad():
            assert (x * 2).requires_grad
        assert not (x * 2).requires_grad
    with dt.inference_mode(), dt.set_grad_enabled(True):
        assert (x * 2).requires_grad
    assert (x * 2).requires_grad

    @dt.no_grad()
    def called() -> Tensor:
        return x * 2

    @dt.no_grad
    def bare() -> Tensor:
        return x * 2

    assert not called().requires_grad
    assert not bare().requires_grad
    dt.set_grad_enabled(False)
    assert not (x * 2).requires_grad
    dt.set_grad_enabled(True)
    with pytest.raises(KeyError), dt.no_grad():
        raise KeyError
    assert dt.is_grad_enabled()


def test_modes_belong_to_a_thread() -> None:
    seen: list[bool] = []
    with dt.no_grad():
        thread = threading.Thread(target=lambda: seen.append(dt.is_grad_enabled()))
        thread.start()
        thread.join()
    assert seen == [True]


def test_detach_and_data() -> None:
    x = leaf(1, 2)
    y = x * 2
    for outside in (y.detach(), y.data):
        assert not outside.requires_grad
        assert outside.is_leaf
        assert np.shares_memory(outside.numpy(), y.detach().numpy())
    x.data = dt.tensor([5.0, 6.0], dtype=dt.float64)
    x.data.mul_(2)
    assert x.tolist() == [10, 12]
    assert x.requires_grad
    y = x * 3
    assert y.detach_() is y
    assert not y.requires_grad
    with pytest.raises(RuntimeError, match=r"detach\(\)\.numpy\(\)"):
        x.numpy()


def test_copies() -> None:
    x = leaf(1, 2)
    (x * x).sum().backward()
    other = copy.deepcopy(x)
    assert other.requires_grad
    assert gradient_of(other) == [2, 4]
    other.data.zero_()
    assert x.tolist() == [1, 2]
    with pytest.raises(RuntimeError, match="leaf"):
        copy.deepcopy(x * 2)
    parameter = copy.deepcopy(Parameter(dt.ones(2)))
    assert isinstance(parameter, Parameter)
    assert parameter.requires_grad


# hooks


def test_hooks_see_and_replace_gradients() -> None:
    x = leaf(1, 2)
    y = x * 3
    seen: list[list[float]] = []
    y.register_hook(lambda gradient: seen.append(gradient.tolist()))
    doubled = x.register_hook(lambda gradient: gradient * 2)
    (y * y).sum().backward()
    assert seen == [[6, 12]]
    assert gradient_of(x) == [36, 72]
    doubled.remove()
    x.grad = None
    with x.register_hook(lambda gradient: gradient * 0):
        pass
    (x * 1).sum().backward()
    assert gradient_of(x) == [1, 1]
    with pytest.raises(RuntimeError, match="never run"):
        dt.ones(1).register_hook(print)


def test_a_hook_runs_once_with_the_final_gradient() -> None:
    x = leaf(2)
    y = x * 1
    seen: list[Any] = []
    y.register_hook(lambda gradient: seen.append(gradient.item()))
    (y + y * y + y * 3).backward()
    assert seen == [1 + 4 + 3]


def test_post_accumulate_hook() -> None:
    x = leaf(1)
    seen: list[Any] = []
    x.register_post_accumulate_grad_hook(lambda tensor: seen.append(gradient_of(tensor)))
    (x * 2).backward()
    (x * 2).backward()
    assert seen == [[2], [4]]
    with pytest.raises(RuntimeError, match="leaves"):
        (x * 2).register_post_accumulate_grad_hook(print)


def test_retain_grad() -> None:
    x = leaf(1, 2)
    y = x * 3
    y.retain_grad()
    z = y * y
    z.sum().backward()
    assert gradient_of(y) == [6, 12]
    assert z.grad is None


# in-place changes

SAVED: dict[str, Callable[[Tensor], tuple[Tensor, Tensor]]] = {
    "input": lambda x: (x, x * x),
    "other-operand": lambda x: (y := dt.ones(2, dtype=dt.float64), x * y),
    "output": lambda x: (y := x.exp(), y * 1)[::1],
    "through-a-view": lambda x: ((y := dt.ones(2, dtype=dt.float64)).view(2, 1), x * y),
    "through-detach": lambda x: ((y := x * 1).detach(), y.sin()),
    "base-of-a-view": lambda x: (y := dt.ones(2, dtype=dt.float64), x * y.view(2)),
}


@pytest.mark.parametrize("name", SAVED)
def test_changing_what_backward_needs_is_an_error(name: str) -> None:
    changed, result = SAVED[name](leaf(1, 2))
    with dt.no_grad():
        changed.mul_(2)
    with pytest.raises(RuntimeError, match="changed in place 1 time"):
        result.sum().backward()


HARMLESS: dict[str, Callable[[Tensor], tuple[Tensor, Tensor]]] = {
    "sum": lambda x: (y := x * 1, y + 1),
    "product-with-a-number": lambda x: (y := x * 1, y * 2.0),
    "output-of-sin": lambda x: (y := x.sin(), y * 1),
    "mask": lambda x: (y := x * 1, y.masked_fill(y.detach() > 1, 0)),
}


@pytest.mark.parametrize("name", HARMLESS)
def test_changing_what_backward_does_not_need_is_fine(name: str) -> None:
    changed, result = HARMLESS[name](leaf(1, 2))
    with dt.no_grad():
        changed.mul_(2)
    result.sum().backward()


def test_in_place_rules() -> None:
    x = leaf(1, 2)
    with pytest.raises(RuntimeError, match="no_grad"):
        x.add_(1)
    with dt.no_grad():
        x.add_(1)
    assert x.tolist() == [2, 3]
    with pytest.raises(RuntimeError, match="view"):
        (x * 1).view(2, 1).add_(1)
    with pytest.raises(RuntimeError, match="int64"):
        dt.arange(3).mul_(0.5)


def test_in_place_enters_the_graph() -> None:
    x = leaf(2, 3)
    y = dt.zeros(2, 2, dtype=dt.float64)
    y[0] = x
    y[1] = x * x
    y *= 2
    y.sum().backward()
    assert gradient_of(x) == [2 * (1 + 4), 2 * (1 + 6)]


def test_a_view_taken_before_a_recorded_change() -> None:
    """Its values change with the tensor but its history does not: using it is an error instead of a wrong gradient."""
    x = leaf(1, 2)
    y = x * 1
    view = y.view(2, 1)
    y.mul_(3)
    with pytest.raises(RuntimeError, match="take the view again"):
        (view * 2).sum()
    (y.view(2, 1) * 2).sum().backward()
    assert gradient_of(x) == [6, 6]


def test_views_share_memory() -> None:
    x = dt.zeros(2, 3)
    views = [x.view(3, 2), x[0], x.t(), x.unsqueeze(0), x.detach(), x.split(1)[0], x.unbind()[0], x.narrow(1, 0, 2), x.expand(4, 2, 3)]
    for view in views:
        assert np.shares_memory(view.array, x.array)
    x[0].fill_(7)
    assert x[0].tolist() == [7, 7, 7]
    assert not np.shares_memory(x.clone().array, x.array)


# gradients under a user's own arrays


def test_the_users_error_state_is_left_alone() -> None:
    dt.tensor([0.0]).log()
    with pytest.warns(RuntimeWarning):
        np.log(np.zeros(1))


# Function


class Cube(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x * x * x

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return gradient * 3 * x * x


class Affine(Function):
    """Several inputs and outputs, a number among the inputs."""

    seen: tuple[bool, ...] = ()

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: float, y: Tensor | None) -> tuple[Tensor, Tensor]:
        ctx.scale = scale
        Affine.seen = ctx.needs_input_grad
        assert not dt.is_grad_enabled()
        return x * scale, x + (0 if y is None else y)

    @staticmethod
    def backward(ctx: Any, by_product: Tensor, by_sum: Tensor) -> tuple[Tensor | None, ...]:
        return by_product * ctx.scale + by_sum, None, by_sum if ctx.needs_input_grad[2] else None


class WithSetup(Function):
    @staticmethod
    def forward(x: Tensor) -> Tensor:  # type: ignore[override]
        return x * 2

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.factor = 2

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient * ctx.factor


def test_function() -> None:
    x = leaf(1, 2)
    y = Cube.apply(x)
    assert repr(y.grad_fn) == "<CubeBackward>"
    y.sum().backward()
    assert gradient_of(x) == [3, 12]
    with pytest.raises(RuntimeError, match="second time"):
        y.sum().backward()
    assert dt.autograd.gradcheck(Cube.apply, (leaf(1, -2),))
    assert dt.autograd.gradcheck(WithSetup.apply, (leaf(1, -2),))
    with dt.no_grad():
        assert not Cube.apply(x).requires_grad


def test_function_of_several() -> None:
    x, y = leaf(1, 2), leaf(3, 4)
    product, total = Affine.apply(x, 3.0, y)
    assert Affine.seen == (True, False, True)
    (product * 2 + total).sum().backward()
    assert (gradient_of(x), gradient_of(y)) == ([7, 7], [1, 1])
    x.grad = None
    Affine.apply(x, 3.0, None)[1].sum().backward()  # the other output's gradient is zeros
    assert gradient_of(x) == [1, 1]
    assert dt.autograd.gradcheck(lambda a, b: Affine.apply(a, 2.0, b), (leaf(1, 2), leaf(3, 4)))


def test_function_detects_changes() -> None:
    x = leaf(1, 2)
    y = x * 1
    z = Cube.apply(y)
    with dt.no_grad():
        y.add_(1)
    with pytest.raises(RuntimeError, match="CubeBackward needs"):
        z.sum().backward()


def test_function_outputs_without_gradient() -> None:
    class Largest(Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            rank = x * 1
            ctx.mark_non_differentiable(rank)
            return x * 2, rank, x.argmax()

        @staticmethod
        def backward(ctx: Any, gradient: Tensor, *_: Any) -> Tensor:
            return gradient * 2

    x = leaf(1, 2)
    doubled, rank, position = Largest.apply(x)
    assert (doubled.requires_grad, rank.requires_grad, position.requires_grad) == (True, False, False)
    doubled.sum().backward()
    assert gradient_of(x) == [2, 2]


def test_function_that_returns_its_input() -> None:
    class Reverse(Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            return x

        @staticmethod
        def backward(ctx: Any, gradient: Tensor) -> Tensor:
            return -gradient

    x = leaf(1, 2)
    y = Reverse.apply(x)
    assert x.is_leaf
    (y + x * 3).sum().backward()
    assert gradient_of(x) == [2, 2]


def test_function_errors() -> None:
    class Wrong(Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor, y: Tensor) -> Tensor:
            return x + y

        @staticmethod
        def backward(ctx: Any, gradient: Tensor) -> Any:
            return ctx.answer(gradient)

    def attempt(answer: Callable[[Tensor], Any]) -> None:
        result = Wrong.apply(leaf(1, 2), leaf(1, 2))
        result.grad_fn.answer = answer
        result.sum().backward()

    with pytest.raises(RuntimeError, match=r"1 gradient\(s\) for 2 input"):
        attempt(lambda gradient: gradient)
    with pytest.raises(RuntimeError, match=r"\(1,\) for input 1 of shape \(2,\)"):
        attempt(lambda gradient: (gradient, gradient[:1]))
    with pytest.raises(NotImplementedError, match="backward"):
        type("Half", (Function,), {"forward": staticmethod(lambda ctx, x: x * 2)}).apply(leaf(1)).backward()
    with pytest.raises(NotImplementedError, match="forward"):
        Function.apply(leaf(1))


# gradients written where they are to lie


def buffered(shape):
    parameter = Parameter(np.random.default_rng(len(shape)).standard_normal(shape))
    parameter._grad_buffer = Tensor(np.full(shape, np.nan))
    return parameter


@pytest.mark.parametrize("times", [1, 2])
def test_a_linear_layer_writes_into_the_gradient_buffer(times):
    """Once used, the product goes straight there; twice, the sum does. The result is the plain one."""
    weight, x = buffered((3, 3)), Tensor(np.random.default_rng(0).standard_normal((4, 3)))
    plain = Parameter(weight.array.copy())
    for parameter in (weight, plain):
        h = x
        for _ in range(times):
            h = dt.nn.functional.linear(h, parameter)
        (h * h).sum().backward()
    assert weight.grad is weight._grad_buffer
    assert weight.grad.array.tobytes() == plain.grad.array.tobytes()
    (dt.nn.functional.linear(x, weight)).sum().backward()  # adds to what is there
    (dt.nn.functional.linear(x, plain)).sum().backward()
    np.testing.assert_allclose(weight.grad.array, plain.grad.array)


def test_autograd_grad_leaves_the_gradient_buffer_alone():
    weight, x = buffered((3, 3)), Tensor(np.ones((4, 3)))
    dt.autograd.grad(dt.nn.functional.linear(x, weight).sum(), weight)
    assert weight.grad is None and np.isnan(weight._grad_buffer.array).all()
