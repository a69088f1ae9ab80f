"""The same training loop here (under `distribute`, V = 1) and in PyTorch: the same weights, and each can go on where the other stopped."""

import numpy as np
import pytest
from optimizer_cases import ALL_STATE, CASES

import dist_train as dt
from dist_train import nn, optim

torch = pytest.importorskip("torch")

TOLERANCE = {"float32": {"rtol": 2e-4, "atol": 2e-5}, "float64": {"rtol": 1e-8, "atol": 1e-10}}


def case_id(case):
    name, options = case
    return "-".join([name, *(f"{key}={value}" for key, value in options.items())])


def our_model(dtype):
    dt.manual_seed(0)
    return nn.Sequential(nn.Linear(12, 16), nn.Tanh(), nn.LayerNorm(16), nn.Linear(16, 5)).to(dtype)


def torch_model(weights, dtype):
    t = torch.nn
    model = t.Sequential(t.Linear(12, 16), t.Tanh(), t.LayerNorm(16), t.Linear(16, 5)).to(getattr(torch, dtype))
    model.load_state_dict({name: torch.as_tensor(value) for name, value in weights.items()})
    return model


def batches(steps, dtype, start=0):
    for step in range(start, start + steps):
        rng = np.random.default_rng([9, step])
        yield rng.standard_normal((8, 12)).astype(dtype), rng.integers(0, 5, 8)


def train_ours(model, optimizer, data):
    criterion = nn.CrossEntropyLoss()
    for inputs, labels in data:
        optimizer.zero_grad()
        criterion(model(dt.tensor(inputs)), dt.tensor(labels)).backward()
        optimizer.step()


def train_torch(model, optimizer, data):
    criterion = torch.nn.CrossEntropyLoss()
    for inputs, labels in data:
        optimizer.zero_grad()
        criterion(model(torch.tensor(inputs)), torch.tensor(labels)).backward()
        optimizer.step()


def arrays(model):
    return {name: value.numpy().copy() for name, value in model.state_dict().items()}


def assert_same(mine, theirs, dtype):
    for name, value in theirs.state_dict().items():
        np.testing.assert_allclose(mine.state_dict()[name].numpy(), value.numpy(), **TOLERANCE[dtype], err_msg=name)


def distributed(case, dtype):
    name, options = case
    model = our_model(dtype)
    model, optimizer, _ = dt.distribute(model, getattr(optim, name)(model.parameters(), **options))
    return model, optimizer


def to_torch(value):
    if isinstance(value, dict):
        return {key: to_torch(item) for key, item in value.items()}
    return torch.as_tensor(value.numpy().copy()) if isinstance(value, dt.Tensor) else value


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_twenty_steps(case, dtype):
    name, options = case
    model, optimizer = distributed(case, dtype)
    theirs = torch_model(arrays(model), dtype)
    train_ours(model, optimizer, batches(20, dtype))
    train_torch(theirs, getattr(torch.optim, name)(theirs.parameters(), **options), batches(20, dtype))
    assert_same(model, theirs, dtype)


@pytest.mark.parametrize("case", ALL_STATE, ids=case_id)
def test_a_checkpoint_goes_on_in_torch(case, tmp_path):
    """model.safetensors and optimizer.state_dict() after 7 steps, loaded into PyTorch; 7 more steps on both sides."""
    from safetensors.torch import load_file

    name, _options = case
    model, optimizer = distributed(case, "float32")
    train_ours(model, optimizer, batches(7, "float32"))
    dt.Checkpoint(tmp_path, model=model, optimizer=optimizer).save()
    theirs = torch_model(load_file(tmp_path / "step-00000007" / "model.safetensors"), "float32")
    their_optimizer = getattr(torch.optim, name)(theirs.parameters())
    state = optimizer.state_dict()
    their_optimizer.load_state_dict({"state": to_torch(state["state"]), "param_groups": state["param_groups"]})
    train_ours(model, optimizer, batches(7, "float32", 7))
    train_torch(theirs, their_optimizer, batches(7, "float32", 7))
    assert_same(model, theirs, "float32")


@pytest.mark.parametrize("case", ALL_STATE, ids=case_id)
def test_torchs_training_goes_on_here(case, tmp_path):
    from safetensors.torch import save_file

    name, options = case
    theirs = torch_model(arrays(our_model("float32")), "float32")
    their_optimizer = getattr(torch.optim, name)(theirs.parameters(), **options)
    train_torch(theirs, their_optimizer, batches(7, "float32"))
    save_file(theirs.state_dict(), tmp_path / "model.safetensors")
    model, optimizer = distributed((name, {}), "float32")
    model.load_state_dict(dt.load(tmp_path / "model.safetensors"))
    optimizer.load_state_dict(their_optimizer.state_dict())
    train_ours(model, optimizer, batches(7, "float32", 7))
    train_torch(theirs, their_optimizer, batches(7, "float32", 7))
    assert_same(model, theirs, "float32")
