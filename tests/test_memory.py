"""What training holds in memory: nothing twice, saved activations only until backward has passed, and a report that says so."""

from __future__ import annotations

import gc
import tracemalloc
import weakref

import numpy as np
import pytest

import dist_train as dt
from dist_train import nn, optim
from dist_train.autograd.engine import Node

WIDTH, BATCH, DEPTH = 64, 512, 24
UNIT = 4 * WIDTH * BATCH  # bytes of one activation
SLACK = 64 * 1024  # Python's own objects


@pytest.fixture
def traced():
    """Bytes of arrays and objects, as a function; the peak since it was last called with True."""
    gc.collect()
    tracemalloc.start()

    def level(reset=False):
        now, peak = tracemalloc.get_traced_memory()
        if reset:
            tracemalloc.reset_peak()
        return now, peak

    yield level
    tracemalloc.stop()


def deep():
    return nn.Sequential(*[layer for _ in range(DEPTH) for layer in (nn.Linear(WIDTH, WIDTH), nn.ReLU())])


def train_step(model, optimizer, inputs):
    optimizer.zero_grad()
    model(inputs).square().mean().backward()
    optimizer.step()


# activations


def test_backward_frees_what_it_has_passed(traced):
    """Saved activations lie there when forward is done, and backward adds no gradient of an activation for each layer."""
    model, inputs = deep(), dt.randn(BATCH, WIDTH)
    for parameter in model.parameters():
        parameter.grad = dt.zeros_like(parameter)  # so that backward makes none to stay
    begin, _ = traced()
    loss = model(inputs).square().mean()
    after_forward, _ = traced(reset=True)
    loss.backward()
    after_backward, peak = traced()
    assert DEPTH * UNIT <= after_forward - begin <= (DEPTH + 2) * UNIT + SLACK
    assert peak - after_forward <= 4 * UNIT + SLACK
    assert after_backward - begin <= SLACK


def test_activations_die_one_by_one():
    """When a gradient reaches layer k, the outputs of all layers above k have been freed."""
    x, alive = dt.randn(8, WIDTH, requires_grad=True), {}
    outputs, hidden = [], x
    for number in range(10):
        hidden = (hidden * 2.0).tanh()  # tanh keeps its output for backward
        outputs.append(weakref.ref(hidden.array))
        hidden.register_hook(lambda gradient, number=number: alive.update({number: [ref() is not None for ref in outputs]}))
    loss = hidden.sum()
    del hidden
    loss.backward()
    for number, found in alive.items():
        assert found == [other <= number for other in range(10)]


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.GRU(16, 16)

    def forward(self, x):
        return self.layer(x)[0]


class Attention(nn.Module):
    def forward(self, x):
        return nn.functional.scaled_dot_product_attention(x, x, x, is_causal=True)


LAYERS = {
    "linear": (nn.Linear(16, 8), (6, 16)),
    "relu": (nn.ReLU(), (6, 16)),
    "gelu": (nn.GELU(), (6, 16)),
    "tanh gelu": (nn.GELU(approximate="tanh"), (6, 16)),
    "silu": (nn.SiLU(), (6, 16)),
    "softmax": (nn.Softmax(-1), (6, 16)),
    "log-softmax": (nn.LogSoftmax(-1), (6, 16)),
    "dropout": (nn.Dropout(0.5), (6, 16)),
    "layer norm": (nn.LayerNorm(16), (6, 16)),
    "batch norm": (nn.BatchNorm2d(3), (4, 3, 8, 8)),
    "convolution": (nn.Conv2d(3, 4, 3, padding=1), (4, 3, 8, 8)),
    "depthwise": (nn.Conv2d(4, 4, 3, groups=4), (4, 4, 8, 8)),
    "max-pooling": (nn.MaxPool2d(2), (4, 3, 8, 8)),
    "average pooling": (nn.AvgPool2d(2), (4, 3, 8, 8)),
    "attention": (Attention(), (2, 4, 8, 16)),
    "recurrent": (Recurrent(), (5, 2, 16)),
    "transformer": (nn.TransformerEncoderLayer(16, 4, 32, dropout=0.1, batch_first=True), (2, 8, 16)),
}


def nodes_of(tensor):
    """All nodes of the graph behind a tensor."""
    found, stack = {tensor._node}, [tensor._node]
    while stack:
        for edge in stack.pop().edges:
            if isinstance(edge, Node) and edge not in found:
                found.add(edge)
                stack.append(edge)
    return found


def arrays_in(value, own=()):
    """The arrays of more than one element that a node holds, itself or in what it holds; not those of the layer, `own`."""
    array = value.array if isinstance(value, dt.Tensor) else value
    if isinstance(array, np.ndarray):
        return [array] if array.size > 1 and not any(np.shares_memory(array, other) for other in own) else []
    within = gc.get_referents(value) if isinstance(value, Node | dict | list | tuple) else ()
    return [array for part in within if part is not value for array in arrays_in(part, own)]


@pytest.mark.parametrize("name", LAYERS)
def test_nodes_hold_no_array_after_backward(name):
    layer, shape = LAYERS[name]
    output = layer(dt.randn(*shape, requires_grad=True))
    loss = nn.functional.cross_entropy(output.flatten(1), dt.zeros(shape[0], dtype=dt.int64))
    nodes = nodes_of(loss)
    assert any(arrays_in(node.saved) for node in nodes)
    loss.backward()
    own = [array for p in layer.parameters() for array in (p.array, p.grad.array)]  # a node may know where a gradient goes
    assert not {node.name(): arrays for node in nodes if (arrays := arrays_in(node, own))}


def test_the_loss_does_not_keep_the_graph():
    model = deep()
    loss = model(dt.randn(4, WIDTH)).square().mean()
    nodes = [weakref.ref(node) for node in nodes_of(loss) if node is not loss._node]
    loss.backward()
    gc.collect()
    assert nodes and not [node() for node in nodes if node() is not None]


# parameters, gradients, state


def test_nothing_is_held_twice_on_one_rank(traced):
    """Ψ parameters: 4Ψ for the model, then 4Ψ for gradients with `distribute`, and 8Ψ for Adam's state with the first step."""
    trained()  # imports what it needs
    gc.collect()
    width, depth = 1024, 4  # large against the blocks of 32768 elements in which the references work
    inputs = dt.randn(4, width)
    begin, _ = traced()
    model = nn.Sequential(*[nn.Linear(width, width) for _ in range(depth)])
    psi = sum(parameter.numel() for parameter in model.parameters())
    optimizer = optim.Adam(model.parameters())
    before = [weakref.ref(parameter.array) for parameter in model.parameters()]
    allowed = 0.02 * 16 * psi + SLACK

    def held():
        return traced()[0] - begin

    assert 4 * psi <= held() <= 4 * psi + allowed
    model, optimizer, _ = dt.distribute(model, optimizer)
    assert not any(array() is not None for array in before)
    assert 8 * psi <= held() <= 8 * psi + allowed
    for _ in range(3):
        train_step(model, optimizer, inputs)
    assert 16 * psi <= held() <= 16 * psi + allowed
    traced(reset=True)
    train_step(model, optimizer, inputs)
    assert traced()[1] - begin <= 16 * psi + allowed


def test_a_step_makes_no_gradient_of_its_own_under_distribute():
    model = nn.Linear(64, 64)
    model, optimizer, _ = dt.distribute(model, optim.SGD(model.parameters()))
    flat = optimizer._driver.flats[0]
    for _ in range(2):
        optimizer.zero_grad()
        model(dt.randn(4, 64)).sum().backward()
        assert all(np.shares_memory(parameter.grad.array, flat.gradient) for parameter in model.parameters())
        assert all(np.shares_memory(parameter.array, flat.parameters) for parameter in model.parameters())
        optimizer.step()


# the report


def trained(distributed=True, optimizer_of=optim.Adam, steps=2):
    model, inputs = deep(), dt.randn(BATCH, WIDTH)
    optimizer = optimizer_of(model.parameters())
    if distributed:
        model, optimizer, _ = dt.distribute(model, optimizer)
    for _ in range(steps):
        train_step(model, optimizer, inputs)
    return model, optimizer, inputs


PSI = DEPTH * (WIDTH * WIDTH + WIDTH)


@pytest.mark.parametrize("distributed", [False, True])
@pytest.mark.parametrize(("optimizer_of", "vectors"), [(optim.Adam, 2), (optim.SGD, 0), (optim.RMSprop, 1)])
def test_what_the_report_counts(distributed, optimizer_of, vectors):
    report = dt.memory_report(trained(distributed, optimizer_of)[1])
    for name, number in {"parameters": 1, "gradients": 1, "state": vectors}.items():
        part = getattr(report, name)
        assert part.formula == 4 * PSI * number
        assert part.rank == part.node == pytest.approx(part.formula, abs=4 * 1024 * max(1, number))
    assert report.activations.rank is None and report.activations.node is None
    assert report.resident.rank >= report.process.rank >= report.parameters.rank + report.gradients.rank + report.state.rank
    assert report.other.rank + report.kept.rank <= report.process.rank


def test_before_the_first_step_there_is_no_state():
    report = dt.memory_report(trained(steps=0)[1])
    assert report.state.rank == 0 and report.state.formula == 8 * PSI
    report = dt.memory_report(trained(distributed=False, steps=0)[1])
    assert report.state.rank == report.gradients.rank == 0 and report.gradients.formula == 4 * PSI


@pytest.mark.parametrize("distributed", [False, True])
def test_activations_at_their_peak(distributed):
    model, optimizer, inputs = trained(distributed)
    with dt.memory_report(optimizer) as report:
        train_step(model, optimizer, inputs)
    assert DEPTH * UNIT <= report.activations.rank <= (DEPTH + 5) * UNIT + SLACK
    with dt.memory_report(optimizer) as smaller:
        train_step(model, optimizer, inputs[: BATCH // 2])
    assert smaller.activations.rank <= 0.6 * report.activations.rank


def test_the_first_steps_state_is_no_activation():
    model, optimizer, _ = trained(steps=0)
    with dt.memory_report(optimizer) as report:
        train_step(model, optimizer, dt.randn(1, WIDTH))
    assert report.activations.rank < 6 * PSI and report.state.rank >= 8 * PSI


def test_tracing_ends_with_the_block():
    assert not tracemalloc.is_tracing()
    with dt.memory_report():
        assert tracemalloc.is_tracing()
    assert not tracemalloc.is_tracing()
    with pytest.raises(KeyError), dt.memory_report():
        raise KeyError
    assert not tracemalloc.is_tracing()


def test_tracing_of_the_program_goes_on(traced):
    with dt.memory_report() as report:
        np.ones(100_000)
    assert tracemalloc.is_tracing() and 800_000 <= report.activations.rank <= 800_000 + SLACK


def test_all_optimizers_of_the_process_by_default():
    gc.collect()
    before = dt.memory_report().parameters.rank
    _, optimizer, _ = trained()
    _, other, _ = trained(distributed=False)
    assert dt.memory_report().parameters.rank == pytest.approx(before + 8 * PSI, abs=4096)
    assert dt.memory_report(optimizer, other).parameters.formula == 8 * PSI


def test_printing():
    _, optimizer, _ = trained()
    lines = str(dt.memory_report(optimizer)).splitlines()
    assert lines[0].split() == ["MiB", "this", "rank", "node", "formula"]
    assert lines[1].split() == ["parameters", "0.4", "0.4", "0.4"]
    assert lines[3].split() == ["optimizer", "state", "0.8", "0.8", "0.8"]
    assert lines[4].split()[-3:] == ["-", "-", "-"]
    assert len({len(line) for line in lines}) == 1
