"""The package on device arrays, with the stand-in for CuPy of `device_double.py` where there is no GPU.

What this proves: on device arrays every operation, layer, loss, optimizer, a training step, `distribute` and a checkpoint mix no host and
device arrays, make no implicit copy to the host, and call only what CuPy has, with the keywords it has; outputs and gradients stay on the
device and have the bits of the host's, because the reference kernels of both are the same code. What it does not prove: CuPy's own
numerics, its speed, the order in which a GPU adds, several GPUs, and what CuPy does with an index out of range (it wraps around).
"""

from __future__ import annotations

import sys
from typing import Any

import device_double
import numpy as np
import pytest

import dist_train as dt
import dist_train.nn.functional as F
from dist_train import nn, optim
from dist_train.backend.kernels import REGISTRY
from dist_train.utils.data import DataLoader, TensorDataset

pytest.importorskip("torch")  # the tables' own tests compare with it
import test_attention
import test_functional
import test_nn
import test_ops
import test_rnn
from optimizer_cases import ALL_STATE
from parity import draw

PLACES = ("cpu", "cuda")


@pytest.fixture(autouse=True)
def gpu(monkeypatch):
    """CuPy's stand-in, and no overrides: both places run the reference kernels."""
    monkeypatch.setitem(sys.modules, "cupy", device_double.module())
    monkeypatch.setattr(device_double.Device, "current", 0)
    for kernel in REGISTRY.values():
        monkeypatch.setattr(kernel, "overrides", {})


class Library:
    """dist_train whose new tensors are made at `place`."""

    def __init__(self, place: str) -> None:
        self.place = place

    def __getattr__(self, name: str) -> Any:
        function = getattr(dt, name)
        if name not in ("tensor", "from_numpy", "zeros", "ones", "full", "arange"):
            return function
        function = dt.as_tensor if name == "from_numpy" else function
        return lambda *args, **options: function(*args, **{"device": self.place, **options})


def put(arrays: Any, place: str) -> list[dt.Tensor]:
    """Float32 leaves, and integers as they are."""
    tensors = [dt.tensor(array, dtype=dt.float32 if array.dtype.kind == "f" else None, device=place) for array in arrays]
    return [tensor.requires_grad_(tensor.is_floating_point()) for tensor in tensors]


def forward_backward(call: Any, arrays: Any, place: str) -> list[Any]:
    """The output and the inputs' gradients."""
    dt.manual_seed(3)
    inputs = put(arrays, place)
    output = call(*inputs)
    if output.requires_grad:
        output.backward(dt.randn(*output.shape).to(place))
    return [output, *[tensor.grad for tensor in inputs]]


def assert_same(results: list[list[Any]]) -> None:
    """What the CPU gave, and, of the same bits, what the device gave and kept."""
    for expected, result in zip(*results, strict=True):
        assert (expected is None) == (result is None)
        if expected is not None:
            assert (str(expected.device), str(result.device)) == ("cpu", "cuda:0")
            expected, result = expected.detach().numpy(), result.detach().cpu().numpy()
            assert (expected.dtype, expected.shape) == (result.dtype, result.shape)
            assert expected.tobytes() == result.tobytes()


# the stand-in is as strict as CuPy

device, host = device_double.asarray([1.0, 2.0]), np.ones(2)
REFUSED = {
    "add": lambda: device + host,
    "radd": lambda: host + device,
    "0d": lambda: device * np.asarray(2.0),
    "iadd": lambda: device.__iadd__(host),
    "host-iadd": lambda: host.__iadd__(device),
    "ufunc": lambda: np.multiply(device, host),
    "function": lambda: np.concatenate([device, host]),
    "dot": lambda: device.dot(host),
    "assign": lambda: device.__setitem__(slice(None), host),
    "host-assign": lambda: host.__setitem__(slice(None), device),
    "asarray": lambda: np.asarray(device),
    "unknown-keyword": lambda: device.sum(initial=0),
    "unknown-function": lambda: np.percentile(device, 3),
    "range": lambda: range(device[0]),
}


@pytest.mark.parametrize("name", REFUSED)
def test_the_stand_in_refuses(name):
    with pytest.raises(TypeError):
        REFUSED[name]()


def test_the_stand_in_gives_no_scalars():
    for result in (device[0], device.sum(), np.add(device, 1), np.float32(2) * device, 2 - device, device.max(0)):
        assert type(result).__module__ == "cupy"
    assert float(device.sum()) == 3 and bool(device[0] > 0) and device.item is not None
    view = device[0]
    view += 5
    assert device.tolist() == [6, 2]
    view -= 5


# operations


@pytest.mark.parametrize("row", test_ops.ROWS, ids=[row.name for row in test_ops.ROWS])
def test_operation(row, monkeypatch):
    monkeypatch.setattr(test_ops, "host", lambda tensor: tensor)
    arrays = test_ops.arrays_of(row, "float32")
    results = [test_ops.run(Library(place), row, [array.copy() for array in arrays]) for place in PLACES]
    assert_same([outputs + gradients for outputs, gradients in results])


@pytest.mark.parametrize("name", test_ops.IN_PLACE)
def test_in_place(name):
    change = test_ops.IN_PLACE[name]

    def results(place):
        leaf, values = put([np.random.default_rng(5).normal(size=(3, 4))] * 2, place)
        change(Library(place), values.detach())
        if name in test_ops.DIFFERENTIATED:
            (change(Library(place), leaf * 1.5) ** 2).sum().backward()
        return [values, leaf.grad]

    assert_same([results(place) for place in PLACES])


x = np.arange(12.0).reshape(3, 4)
ELSEWHERE = {  # what the tables do not reach
    "raw-array": lambda m, t: t + t.array,
    "negative-index": lambda m, t: t[m.tensor([-1, 0])],
    "isclose": lambda m, t: m.isclose(t, t + 1e-9),
    "like": lambda m, t: m.zeros_like(t) + m.full_like(t, 2) + m.ones_like(t) + t.new_zeros(3, 4) + t.new_tensor([1.0]),
    "random-like": lambda m, t: m.rand_like(t) + m.randn_like(t),
    "bernoulli": lambda m, t: m.bernoulli(t / 12),
    "multinomial": lambda m, t: m.multinomial(t + 1, 2),
    "normal_": lambda m, t: t.normal_(),
    "dropout": lambda m, t: F.dropout(t, 0.5),
    "one_hot": lambda m, t: F.one_hot(t.long()),
    "init": lambda m, t: nn.init.orthogonal_(nn.init.kaiming_uniform_(t)),
    "deepcopy": lambda m, t: __import__("copy").deepcopy(t),
    "nested": lambda m, t: m.tensor([t[0, 0], 2.0]),
    "comparison": lambda m, t: (t > t.mean()) & (t != 3) | t.isfinite(),
    "bincount-empty": lambda m, t: t[:0].flatten().long().bincount(minlength=2),
    "cross-device": lambda m, t: t.cpu().to(t.device),
    "copy_": lambda m, t: t.copy_(dt.ones(4)),
    "fill": lambda m, t: t.fill_(dt.tensor(2.0).to(t.device)),
}


@pytest.mark.parametrize("name", ELSEWHERE)
def test_elsewhere(name):
    def result(place):
        dt.manual_seed(0)
        return [ELSEWHERE[name](Library(place), dt.tensor(x, dtype=dt.float32, device=place))]

    assert_same([result(place) for place in PLACES])


def test_values_on_the_host():
    t = dt.tensor([[1.5, 2.0]], device="cuda")
    assert "device='cuda:0'" in repr(t) and f"{t[0, 0]:.2f}" == "1.50" and t.tolist() == [[1.5, 2.0]]
    assert float(t.sum()) == 3.5 and int(t.max()) == 2 and bool(t.any()) and t[0, 1].item() == 2
    with pytest.raises(TypeError, match="cpu"):
        t.numpy()
    with pytest.raises(IndexError, match="7"):
        F.embedding(dt.tensor([7], device="cuda"), t)
    with pytest.raises(IndexError, match="target 5"):
        F.cross_entropy(t, dt.tensor([5], device="cuda"))


def test_places():
    assert dt.cuda.is_available() and dt.cuda.device_count() == device_double.NUM_DEVICES
    second = dt.zeros(2, device="cuda:1")
    for t in (
        second,
        dt.tensor([1], device="cuda:1"),
        dt.eye(2, device="cuda:1"),
        dt.ones(2, device="cuda").to("cuda:1"),
        second.to("cuda"),
    ):
        assert str(t.device) == "cuda:1"
    dt.cuda.set_device(1)
    assert str(dt.ones(2).cuda().device) == str(nn.Linear(2, 2).to("cuda").weight.device) == "cuda:1"


# layers, losses, functions


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize(("text", "spec"), test_nn.LAYERS)
def test_layer(text, spec, training):
    def results(place):
        dt.manual_seed(1)
        module = test_nn.build(text, "ours").train(training).to(place)
        results = forward_backward(module, draw(0, spec), place)
        return [*results, *[parameter.grad for parameter in module.parameters()], *module.buffers()]

    assert_same([results(place) for place in PLACES])


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize(("text", "input_spec", "target_spec"), test_nn.LOSSES)
def test_loss(text, input_spec, target_spec, reduction):
    values, target = draw(5, input_spec, target_spec)

    def results(place):
        module = test_nn.build(text, "ours").to(place)
        module.reduction = reduction
        return forward_backward(lambda a: module(a, put([target], place)[0].detach()), [values], place)

    assert_same([results(place) for place in PLACES])


@pytest.mark.parametrize(("expression", "shapes"), [(text, shapes) for text, *shapes in test_functional.CALLS])
def test_function(expression, shapes):
    def call(*inputs):
        return eval(expression, {"F": F, **dict(zip("xyz", inputs))})

    assert_same([forward_backward(call, draw(1, *shapes), place) for place in PLACES])


@pytest.mark.parametrize(("text", "shape", "state_shape"), test_rnn.ROWS)
def test_recurrent_layer(text, shape, state_shape):
    def results(place):
        dt.manual_seed(1)
        module = test_rnn.build(text, "ours").to(place)
        results = forward_backward(test_rnn.Flat(module, dt), test_rnn.inputs(text, shape, state_shape), place)
        return [*results, *[parameter.grad for parameter in module.parameters()]]

    assert_same([results(place) for place in PLACES])


@pytest.mark.parametrize(("lengths", "enforce_sorted"), test_rnn.LENGTHS)
def test_packed_sequences(lengths, enforce_sorted):
    def results(place):
        dt.manual_seed(1)
        module = nn.LSTM(4, 6, bidirectional=True).to(place)

        def call(x):
            output, (hidden, _) = module(nn.utils.rnn.pack_padded_sequence(x, lengths, enforce_sorted=enforce_sorted))
            return dt.cat([nn.utils.rnn.pad_packed_sequence(output)[0].reshape(-1), hidden.reshape(-1)])

        return forward_backward(call, draw(0, (5, 4, 4)), place)

    assert_same([results(place) for place in PLACES])


@pytest.mark.parametrize(("text", "shapes", "options"), test_attention.ROWS)
def test_attention_layer(text, shapes, options):
    def results(place):
        dt.manual_seed(1)
        call = test_attention.Attention(test_attention.build(text, "ours").to(place), dt, options, "float32")
        call.options = {name: value.to(place) if isinstance(value, dt.Tensor) else value for name, value in call.options.items()}
        results = forward_backward(call, draw(0, *shapes), place)
        return [*results, *[parameter.grad for parameter in call.module.parameters()]]

    assert_same([results(place) for place in PLACES])


def test_weight_norm_and_recomputation():
    def results(place):
        dt.manual_seed(1)
        module = nn.Sequential(nn.utils.weight_norm(nn.Linear(5, 3)), nn.Dropout(0.5)).to(place)
        results = forward_backward(lambda x: dt.utils.checkpoint.checkpoint(module, x), draw(0, (4, 5)), place)
        return [*results, *[parameter.grad for parameter in module.parameters()]]

    assert_same([results(place) for place in PLACES])


def test_cosine_embedding_loss():
    def results(place):
        target = dt.tensor([1, -1, 1], device=place)
        return forward_backward(lambda x, y: F.cosine_embedding_loss(x, y, target, 0.1), draw(0, (3, 4), (3, 4)), place)

    assert_same([results(place) for place in PLACES])


# training

MODELS = [
    (test_functional.mlp, (6, 1, 28, 28), ((6,), 10)),
    (test_functional.cnn, (6, 1, 28, 28), ((6,), 10)),
    (test_functional.residual_cnn, (6, 1, 28, 28), ((6,), 10)),
    (test_functional.gpt, ((6, 16), 65), ((6, 16), 65)),
]
models = pytest.mark.parametrize("case", MODELS, ids=[case[0].__name__ for case in MODELS])


def train(model, optimizer, batches, place):
    """The losses and the gradients' norms."""
    results = []
    for inputs, labels in batches:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(inputs.to(place)), labels.to(place).flatten())
        loss.backward()
        results += [loss, nn.utils.clip_grad_norm_(model.parameters(), 0.5)]
        optimizer.step()
    return results


def everything(model, optimizer):
    states = optimizer.state_dict()["state"].values()
    vectors = [value for state in states for name, value in state.items() if name != "step"]
    return [*model.parameters(), *model.buffers(), *vectors]


@models
def test_training_step(case):
    build, spec, label_spec = case

    def results(place):
        dt.manual_seed(0)
        model = build(nn, F, Library(place)).to(place)
        optimizer = optim.AdamW(model.parameters())
        values, labels = put(draw(0, spec, label_spec), "cpu")
        seen = train(model, optimizer, [(values.detach(), labels)] * 2, place)
        return [*seen, *[p.grad for p in model.parameters()], *everything(model, optimizer)]

    assert_same([results(place) for place in PLACES])


@pytest.mark.parametrize("case", ALL_STATE, ids=[f"{name}-{number}" for number, (name, _) in enumerate(ALL_STATE)])
def test_optimizer(case):
    name, options = case

    def results(place):
        params = [nn.Parameter(dt.tensor(array, device=place)) for array in draw(1, (5, 3), (3,), (0,), ())]
        optimizer = getattr(optim, name)(params, **options)
        for step in range(3):
            for param, gradient in zip(params, draw(step, (5, 3), (3,), (0,), ())):
                param.grad = dt.tensor(gradient, device=place)
            optimizer.step()
            optimizer.load_state_dict(optimizer.state_dict())
        nn.utils.clip_grad_value_(params, 0.1)
        return [
            *params,
            *[p.grad for p in params],
            *[v for s in optimizer.state_dict()["state"].values() for k, v in s.items() if k != "step"],
        ]

    assert_same([results(place) for place in PLACES])


def distributed(case, place, directory, micro_batches=3):
    """A model, its optimizer and loader under `distribute`, and their checkpoint."""
    build, spec, label_spec = case
    dt.manual_seed(0)
    model = build(nn, F, Library(place)).to(place)
    values, labels = put(draw(0, spec, label_spec), "cpu")
    loader = DataLoader(TensorDataset(values.detach(), labels), batch_size=6)
    model, optimizer, loader = dt.distribute(model, optim.AdamW(model.parameters()), loader, micro_batches=micro_batches)
    checkpoint = dt.Checkpoint(directory, model=model, optimizer=optimizer, loader=loader)
    return model, optimizer, loader, checkpoint


@models
def test_distribute_and_checkpoint(case, tmp_path):
    """Two steps in three micro-batches, a checkpoint between them, and the second step again from it in the other place."""
    results = []
    for place in PLACES:
        model, optimizer, loader, checkpoint = distributed(case, place, tmp_path / place)
        seen = train(model, optimizer, loader, place)
        checkpoint.save(wait=True)
        seen += train(model, optimizer, loader, place)
        assert optimizer.steps == 2
        results.append([*seen, *everything(model, optimizer)])
    assert_same(results)
    model, optimizer, loader, checkpoint = distributed(case, "cuda", tmp_path / "cpu")
    assert checkpoint.restore() == 1
    train(model, optimizer, loader, "cuda")
    assert_same([results[0][-len(everything(model, optimizer)) :], everything(model, optimizer)])


def test_edit_after_distribute(tmp_path):
    model, *_ = distributed(MODELS[0], "cuda", tmp_path)
    with dt.distributed.edit(model):
        model[1].weight.data.mul_(0)
    assert model[1].weight.is_cuda and not model[1].weight.any()


def test_data_on_the_device():
    data = TensorDataset(dt.arange(12.0, device="cuda").reshape(6, 2), dt.arange(6, device="cuda"))
    batches = list(DataLoader(data, batch_size=4, shuffle=True))
    assert all(tensor.is_cuda for batch in batches for tensor in batch)
    collated = list(DataLoader([data[i] for i in range(6)], batch_size=3))
    assert collated[1][0].is_cuda and collated[1][1].tolist() == [3, 4, 5]


# where CuPy goes its own way


def test_overrides_for_cupy(monkeypatch):
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "cupy", device_double.module())
    [gradient, indices] = draw(0, (1000, 4), ((1000,), 3))
    weight = dt.zeros(3, 4, device="cuda", requires_grad=True)
    F.embedding(dt.tensor(indices, device="cuda"), weight).backward(dt.tensor(gradient, dtype=dt.float32, device="cuda"))
    exact = [gradient[indices == i].astype("float32").astype("float64").sum(0) for i in range(3)]
    np.testing.assert_array_equal(weight.grad.cpu().numpy(), np.stack(exact).astype("float32"))
    counts = dt.zeros(3, dtype=dt.int64, device="cuda").index_add(
        0, dt.tensor(indices, device="cuda"), dt.tensor([-1] * 1000, device="cuda")
    )
    assert counts.tolist() == (-np.bincount(indices)).tolist()
