"""utils.checkpoint: less memory, and the gradients of the plain call to the bit."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest

import dist_train as dt
from dist_train import nn
from dist_train.utils.checkpoint import checkpoint, checkpoint_sequential


def model():
    dt.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Dropout(0.5), nn.Linear(7, 7), nn.GELU(), nn.Dropout(0.3), nn.Linear(7, 2))


def gradients(run, requires_grad=True):
    """Gradients of a step of the model (and of its input), and the next random number."""
    net = model()
    dt.manual_seed(1)
    x = dt.randn(4, 5).requires_grad_(requires_grad)
    (run(net, x) ** 2).sum().backward()
    return [None if p.grad is None else p.grad.numpy().tobytes() for p in (x, *net.parameters())] + [dt.rand(1).item()]


RUNS = {
    "whole": checkpoint,
    "reentrant": lambda net, x: checkpoint(net, x, use_reentrant=True),
    "keyword": lambda net, x: checkpoint(net.forward, input=x, use_reentrant=False),
    "parts": lambda net, x: checkpoint(net[3:], checkpoint(net[:3], x)),
    "middle": lambda net, x: net[4:](checkpoint(net[2:4], net[:2](x))),
    "nested": lambda net, x: checkpoint(lambda y: net[3:](checkpoint(net[:3], y)), x),
    "sequential": lambda net, x: checkpoint_sequential(net, 3, x, use_reentrant=False),
    "list": lambda net, x: checkpoint_sequential(list(net), 1, x),
}


@pytest.mark.parametrize("requires_grad", [True, False])
@pytest.mark.parametrize("name", RUNS)
def test_bits_are_those_of_the_plain_call(name, requires_grad):
    assert gradients(RUNS[name], requires_grad) == gradients(lambda net, x: net(x), requires_grad)


def test_random_numbers_may_differ():
    x = dt.ones(100, requires_grad=True)
    y = checkpoint(nn.Dropout(0.5), x, preserve_rng_state=False)
    y.sum().backward()
    assert not np.array_equal(x.grad.numpy(), y.detach().numpy())


def test_arguments_and_results_of_all_kinds():
    x, y = dt.tensor([1.0, 2.0], requires_grad=True), dt.tensor([3.0, 4.0], requires_grad=True)

    def call(a, factor, b, *, c, label):
        return a * b * factor, c.exp(), a.argmax(), label, c.detach()

    product, power, place, label, constant = checkpoint(call, x, 2.0, y, c=y, label="text")
    assert label == "text" and place.item() == 1 and not place.requires_grad and not constant.requires_grad
    product.sum().backward()
    assert x.grad.tolist() == [6, 8] and y.grad.tolist() == [2, 4]
    assert power.requires_grad


def test_an_argument_given_twice():
    x = dt.tensor([3.0], requires_grad=True)
    checkpoint(lambda a, b: a * b, x, x).backward()
    assert x.grad.item() == 6


def test_nothing_is_recorded_where_nothing_wants_a_gradient():
    assert not checkpoint(lambda x: x * 2, dt.ones(2)).requires_grad
    with dt.no_grad():
        assert not checkpoint(model(), dt.ones(1, 5)).requires_grad


def test_activations_are_not_kept():
    kept = []

    def call(x):
        middle = x.exp()
        kept.append(weakref.ref(middle))
        return middle * middle

    x = dt.ones(3, requires_grad=True)
    y = checkpoint(call, x)
    gc.collect()
    assert kept[0]() is None
    y.sum().backward()
    assert len(kept) == 2
    np.testing.assert_allclose(x.grad.numpy(), 2 * np.exp(2), rtol=1e-6)


def test_an_argument_changed_in_place_is_noticed():
    x = dt.ones(2, requires_grad=True)
    y = x * 1
    z = checkpoint(dt.exp, y)
    y.mul_(2)
    with pytest.raises(RuntimeError, match="in place"):
        z.sum().backward()


def test_segments():
    with pytest.raises(ValueError, match="8 segments for 7 modules"):
        checkpoint_sequential(model(), 8, dt.ones(1, 5))
