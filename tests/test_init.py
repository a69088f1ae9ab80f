"""Initialisation: bounds, moments and fans are torch's; the default initialisation of every layer follows the same distribution."""

from __future__ import annotations

import math

import numpy as np
import pytest

import dist_train as dt
from dist_train import nn
from dist_train.nn import init

SHAPE = (64, 24, 3, 2)

# call, is it bounded (uniform) or not
CALLS = [
    ("uniform_(t)", True),
    ("uniform_(t, -2.0, 3.0)", True),
    ("normal_(t, 1.0, 0.3)", False),
    ("trunc_normal_(t)", True),
    ("trunc_normal_(t, std=0.02)", False),
    ("trunc_normal_(t, 0.5, 2.0, -0.5, 0.7)", True),
    ("trunc_normal_(t, 0.0, 1.0, 3.0, 4.0)", True),
    ("xavier_uniform_(t)", True),
    ("xavier_uniform_(t, gain=2.0)", True),
    ("xavier_normal_(t, 0.5)", False),
    ("kaiming_uniform_(t)", True),
    ("kaiming_uniform_(t, a=5**0.5)", True),
    ("kaiming_uniform_(t, mode='fan_out', nonlinearity='relu')", True),
    ("kaiming_normal_(t, nonlinearity='tanh')", False),
    ("kaiming_normal_(t, 0.2, 'fan_out')", False),
    ("constant_(t, 0.3)", True),
    ("ones_(t)", True),
    ("zeros_(t)", True),
]


def both(call, shape=SHAPE):
    """The values that dist_train and PyTorch give."""
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    dt.manual_seed(0)
    mine, his = dt.empty(*shape), torch.empty(*shape)
    assert eval(f"nn.init.{call}", {"nn": nn, "t": mine}) is mine
    eval(f"nn.init.{call}", {"nn": torch.nn, "t": his})
    return mine.numpy(), his.numpy()


@pytest.mark.filterwarnings("ignore:mean is more than 2 std:UserWarning")
@pytest.mark.parametrize(("call", "bounded"), CALLS)
def test_distribution_is_torchs(call, bounded):
    mine, his = both(call)
    error = 6 * his.std() / math.sqrt(his.size) + 1e-7
    assert abs(mine.mean() - his.mean()) < error and abs(mine.std() - his.std()) < error
    assert mine.dtype == np.float32
    if bounded:
        width = his.max() - his.min()
        np.testing.assert_allclose([mine.min(), mine.max()], [his.min(), his.max()], atol=0.02 * width + 1e-7)
    quantiles = np.linspace(0.1, 0.9, 9)
    np.testing.assert_allclose(np.quantile(mine, quantiles), np.quantile(his, quantiles), atol=0.06 * his.std() + 1e-7)


@pytest.mark.parametrize("shape", [(5, 3), (3, 5), (4, 2, 3)])
def test_orthogonal(shape):
    dt.manual_seed(0)
    values = init.orthogonal_(dt.empty(*shape, dtype=dt.float64), gain=2.0).numpy().reshape(shape[0], -1)
    small = values if shape[0] <= values.shape[1] else values.T
    np.testing.assert_allclose(small @ small.T, 4 * np.eye(len(small)), atol=1e-12)


def test_eye():
    np.testing.assert_array_equal(init.eye_(dt.empty(2, 3)).numpy(), np.eye(2, 3))


@pytest.mark.parametrize("name", ["linear", "conv2d", "sigmoid", "tanh", "relu", "leaky_relu", "selu"])
def test_gain(name):
    torch = pytest.importorskip("torch")
    assert init.calculate_gain(name) == torch.nn.init.calculate_gain(name)
    assert init.calculate_gain("leaky_relu", 0.3) == torch.nn.init.calculate_gain("leaky_relu", 0.3)


# layers large enough for moments; each draws its weights at construction
@pytest.mark.parametrize(
    "text", ["Linear(300, 200)", "Conv2d(24, 64, 5)", "Conv2d(24, 64, 5, groups=4)", "Conv1d(64, 128, 7)", "Embedding(300, 200)"]
)
def test_default_initialisation_of_layers_is_torchs(text):
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    dt.manual_seed(0)
    module, other = eval(f"nn.{text}", {"nn": nn}), eval(f"nn.{text}", {"nn": torch.nn})
    for mine, his in zip(module.parameters(), other.parameters(), strict=True):
        mine, his = mine.detach().numpy(), his.detach().numpy()
        error = 6 * his.std() / math.sqrt(his.size)
        assert abs(mine.mean() - his.mean()) < error and abs(mine.std() - his.std()) < error
        if "Embedding" not in text:
            np.testing.assert_allclose([mine.min(), mine.max()], [his.min(), his.max()], rtol=0.15)


def test_a_layer_is_a_function_of_the_seed():
    weights = [nn.Linear(4, 4).weight.detach().numpy().copy() for seed in (1, 1, 2) if dt.manual_seed(seed)]
    assert np.array_equal(weights[0], weights[1]) and not np.array_equal(weights[0], weights[2])


def test_own_generator_leaves_the_default_alone():
    dt.manual_seed(0)
    first = dt.rand(1).item()
    dt.manual_seed(0)
    a, b = (init.normal_(dt.empty(5), generator=dt.Generator().manual_seed(4)).numpy() for _ in range(2))
    assert np.array_equal(a, b) and dt.rand(1).item() == first


def test_a_parameter_keeps_its_memory_and_history():
    weight = nn.Parameter(dt.zeros(4, 4))
    memory = weight.array
    assert init.xavier_normal_(weight).array is memory and weight.is_leaf and weight.requires_grad


@pytest.mark.parametrize(
    ("call", "words"),
    [
        ("xavier_uniform_(dt.empty(3))", "2 dimensions"),
        ("orthogonal_(dt.empty(3))", "2 dimensions"),
        ("eye_(dt.empty(3))", "2 dimensions"),
        ("kaiming_normal_(dt.empty(3, 2), mode='fan')", "fan_in"),
        ("kaiming_normal_(dt.empty(3, 2), nonlinearity='swish')", "swish"),
        ("trunc_normal_(dt.empty(3), a=2.0, b=1.0)", "a < b"),
    ],
)
def test_bad_arguments(call, words):
    with pytest.raises(ValueError, match=words):
        eval(f"init.{call}", {"init": init, "dt": dt})


def test_old_names_warn():
    with pytest.warns(FutureWarning, match="constant_"):
        assert init.constant(dt.empty(2), 3.0).tolist() == [3, 3]
