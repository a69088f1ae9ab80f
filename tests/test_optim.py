"""Optimizers: PyTorch's numbers and layouts, the same bits in any slices, groups, errors, and the state in a checkpoint."""

import inspect
import itertools
import json

import numpy as np
import pytest
from optimizer_cases import ALL_STATE, CASES

from dist_train import optim
from dist_train.autograd import Parameter, Tensor
from dist_train.backend.reference import optim as rules

SHAPES = [(5, 3), (3,), (), (0,), (1, 7)]


def row_id(row):
    name, options = row
    return "-".join([name, *(f"{key}={value}" for key, value in options.items())])


every_case = pytest.mark.parametrize("case", CASES, ids=row_id)
every_state = pytest.mark.parametrize("case", ALL_STATE, ids=row_id)


def initial_weights(dtype=np.float64, shapes=SHAPES):
    random = np.random.default_rng(1)
    return [np.asarray(random.normal(size=shape), dtype=dtype) for shape in shapes]


def gradient(weight, step, index):
    """Of a quadratic seen through noise; about one element in six is 0."""
    random = np.random.default_rng([step, index])
    noise = random.normal(size=weight.shape) * (random.random(weight.shape) > 0.15)
    return np.asarray((noise + 0.3 * weight) * (noise != 0), dtype=weight.dtype)


def train(optimizer, params, steps):
    for step in steps:
        for index, param in enumerate(params):
            param.grad = Tensor(gradient(param.array, step, index))
        optimizer.step()


def train_torch(optimizer, params, steps):
    import torch

    for step in steps:
        for index, param in enumerate(params):
            param.grad = torch.from_numpy(gradient(param.detach().numpy(), step, index))
        optimizer.step()


def make(case, dtype=np.float64, shapes=SHAPES):
    name, options = case
    params = [Parameter(array) for array in initial_weights(dtype, shapes)]
    return getattr(optim, name)(params, **options), params


def make_torch(case, dtype=np.float64):
    torch = pytest.importorskip("torch")
    name, options = case
    params = [torch.nn.Parameter(torch.from_numpy(array)) for array in initial_weights(dtype)]
    return getattr(torch.optim, name)(params, **options), params


def assert_weights(params, theirs, dtype):
    tolerance = {"rtol": 1e-12, "atol": 1e-13} if dtype == np.float64 else {"rtol": 1e-5, "atol": 2e-6}
    for param, other in zip(params, theirs, strict=True):
        assert param.array.dtype == dtype
        np.testing.assert_allclose(param.array, other.detach().numpy(), **tolerance)


def assert_states(ours, theirs, rtol=1e-10):
    assert ours.keys() == theirs.keys()
    for index, entry in theirs.items():
        assert list(ours[index]) == list(entry)
        for name, value in entry.items():
            mine = ours[index][name]
            assert tuple(mine.shape) == tuple(value.shape)
            assert mine.dtype.name == str(value.dtype).removeprefix("torch.")
            np.testing.assert_allclose(mine.array, value.numpy(), rtol=rtol, atol=1e-12)


# PyTorch's numbers


@every_case
@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
def test_twenty_steps_are_torchs(case, dtype):
    ours, params = make(case, dtype)
    theirs, their_params = make_torch(case, dtype)
    train(ours, params, range(20))
    train_torch(theirs, their_params, range(20))
    assert_weights(params, their_params, dtype)


@every_state
def test_state_dict_has_torchs_layout(case):
    ours, params = make(case)
    theirs, their_params = make_torch(case)
    train(ours, params[:3], range(3))  # two parameters never have a gradient
    train_torch(theirs, their_params[:3], range(3))
    ours, theirs = ours.state_dict(), theirs.state_dict()
    assert_states(ours["state"], theirs["state"])
    assert ours["param_groups"] == theirs["param_groups"]
    assert [list(group) for group in ours["param_groups"]] == [list(group) for group in theirs["param_groups"]]


@every_state
def test_training_goes_on_in_torch(case):
    torch = pytest.importorskip("torch")
    ours, params = make(case)
    train(ours, params, range(5))
    theirs, their_params = make_torch(case)
    for mine, other in zip(params, their_params):
        other.data = torch.from_numpy(mine.array.copy())
    theirs.load_state_dict(to_torch(ours.state_dict()))
    train(ours, params, range(5, 12))
    train_torch(theirs, their_params, range(5, 12))
    assert_weights(params, their_params, np.float64)


def to_torch(value):
    torch = pytest.importorskip("torch")
    if isinstance(value, dict):
        return {key: to_torch(item) for key, item in value.items()}
    return torch.as_tensor(value.numpy().copy()) if isinstance(value, Tensor) else value


@every_state
@pytest.mark.parametrize("as_array", [False, True], ids=["torch-tensors", "arrays"])
def test_training_of_torch_goes_on_here(case, as_array):
    theirs, their_params = make_torch(case)
    train_torch(theirs, their_params, range(5))
    state = theirs.state_dict()
    if as_array:
        state["state"] = {i: {k: v.numpy() for k, v in entry.items()} for i, entry in state["state"].items()}
    ours, params = make(case)
    for mine, other in zip(params, their_params):
        mine.data = Tensor(other.detach().numpy().copy())
    ours.load_state_dict(state)
    train_torch(theirs, their_params, range(5, 12))
    train(ours, params, range(5, 12))
    assert_weights(params, their_params, np.float64)
    assert_states(ours.state_dict()["state"], theirs.state_dict()["state"])


@pytest.mark.parametrize("name", ["SGD", "Adagrad", "Adadelta", "RMSprop", "Adam", "AdamW"])
def test_arguments_and_defaults_are_torchs(name):
    torch = pytest.importorskip("torch")
    ours, theirs = (inspect.signature(getattr(module, name)).parameters for module in (optim, torch.optim))
    assert [(p.name, p.default, p.kind) for p in ours.values()] == [(p.name, p.default, p.kind) for p in theirs.values()]


@pytest.mark.parametrize(("before", "after"), [(0, 0.9), (0.9, 0.5), (0.9, 0)])
def test_momentum_that_changes_in_training(before, after):
    case = ("SGD", {"lr": 0.05, "momentum": before, "dampening": 0.3})
    (ours, params), (theirs, their_params) = make(case), make_torch(case)
    for first, momentum in ((0, before), (3, after), (6, 0.9)):
        ours.param_groups[0]["momentum"] = theirs.param_groups[0]["momentum"] = momentum
        train(ours, params, range(first, first + 3))
        train_torch(theirs, their_params, range(first, first + 3))
    assert_weights(params, their_params, np.float64)


# a rule does not know where its slice begins


@every_case
@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
def test_slices_and_blocks_have_the_bits_of_the_whole(case, dtype, monkeypatch):
    name, options = case
    size = 700
    optimizer = getattr(optim, name)([Parameter(np.zeros(1, dtype))], **options)
    group = optimizer.param_groups[0]
    names = optimizer.state_vectors(group)
    cuts = [0, *sorted(np.random.default_rng(len(CASES)).integers(0, size, 9)), size]
    arrays = {"whole": fresh(optimizer, size, dtype), "blocks": fresh(optimizer, size, dtype), "slices": fresh(optimizer, size, dtype)}
    step = 0
    for number in range(4):
        grad = np.random.default_rng(number).normal(size=size).astype(dtype)
        step = optimizer.next_step(group, step)
        for way, (param, state) in arrays.items():
            monkeypatch.setattr(rules, "BLOCK", 64 if way == "blocks" else 2**16)
            pieces = itertools.pairwise(cuts) if way == "slices" else [(0, size)]
            for start, stop in pieces:
                part = {key: state[key][start:stop] for key in names}
                kept = grad.copy()
                optimizer.update(group, step, param[start:stop], grad[start:stop], part)
                assert grad.tobytes() == kept.tobytes()
    for way in ("blocks", "slices"):
        assert arrays[way][0].tobytes() == arrays["whole"][0].tobytes()
        assert all(arrays[way][1][key].tobytes() == arrays["whole"][1][key].tobytes() for key in names)


def fresh(optimizer, size, dtype):
    group = optimizer.param_groups[0]
    state = {name: np.full(size, optimizer.initial_state(group, name), dtype) for name in optimizer.state_vectors(group)}
    return np.random.default_rng(0).normal(size=size).astype(dtype), state


@every_state
def test_float32_state_stays_float32(case):
    optimizer, params = make(case, np.float32)
    optimizer.param_groups[0]["lr"] = np.float64(0.01)  # a NumPy scalar would promote if it reached the arrays
    train(optimizer, params, range(2))
    assert {array.dtype.name for param in params for array in [param.array]} == {"float32"}
    assert all(v.dtype == np.float32 for entry in optimizer.state_dict()["state"].values() for v in entry.values())


@every_state
def test_infinities_and_nan_spread_without_warnings(case):
    optimizer, params = make(case, np.float32, [(4,)])
    params[0].grad = Tensor(np.array([np.inf, np.nan, 1e30, 1.0], np.float32))
    optimizer.step()
    optimizer.step()
    assert np.isfinite(params[0].array[3])
    assert np.isnan(params[0].array[1])


def test_centred_rmsprop_of_a_constant_gradient_stays_finite():
    param = Parameter(np.zeros(100, np.float32))
    optimizer = optim.RMSprop([param], lr=1e-3, alpha=0.5, centered=True)
    param.grad = Tensor(np.linspace(0.1, 1, 100, dtype=np.float32))
    for _ in range(50):
        optimizer.step()
    assert np.isfinite(param.array).all()


# groups


def test_groups_have_their_own_hyper_parameters():
    torch = pytest.importorskip("torch")
    weights = initial_weights()
    ours, theirs = [Parameter(w.copy()) for w in weights], [torch.nn.Parameter(torch.from_numpy(w.copy())) for w in weights]

    def build(module, params):
        optimizer = module.Adam([{"params": params[:2]}, {"params": params[2], "lr": 0.1, "amsgrad": True}], lr=0.01)
        optimizer.add_param_group({"params": params[3:], "weight_decay": 0.1, "betas": (0.5, 0.5)})
        return optimizer

    ours_optimizer, theirs_optimizer = build(optim, ours), build(torch.optim, theirs)
    train(ours_optimizer, ours, range(8))
    train_torch(theirs_optimizer, theirs, range(8))
    assert_weights(ours, theirs, np.float64)
    assert_states(ours_optimizer.state_dict()["state"], theirs_optimizer.state_dict()["state"])
    assert ours_optimizer.state_dict()["param_groups"] == theirs_optimizer.state_dict()["param_groups"]


def test_named_parameters_keep_their_names():
    a, b = Parameter(np.zeros(2)), Parameter(np.zeros(3))
    optimizer = optim.SGD([("weight", a), ("bias", b)], lr=0.1)
    assert optimizer.param_groups[0]["param_names"] == ["weight", "bias"]
    assert optimizer.state_dict()["param_groups"][0]["params"] == [0, 1]
    assert [row["name"] for row in optimizer.shard()["parts"][0]["table"]] == ["weight", "bias"]


def test_a_group_given_by_the_user_is_not_changed():
    group = {"params": (p for p in [Parameter(np.zeros(2))]), "lr": 0.5}
    optimizer = optim.Adam([group])
    assert set(group) == {"params", "lr"}
    assert optimizer.param_groups[0]["lr"] == 0.5


# step, zero_grad


def test_parameters_without_gradient_are_skipped():
    a, b = Parameter(np.ones(2)), Parameter(np.ones(2))
    optimizer = optim.Adam([a, b], lr=0.1, weight_decay=0.1)
    optimizer.step()
    assert (optimizer.stepped, optimizer.steps) == (False, 0)
    a.grad = Tensor(np.ones(2))
    optimizer.step()
    assert (optimizer.stepped, optimizer.steps) == (True, 1)
    assert (b.array == 1).all()
    assert list(optimizer.state_dict()["state"]) == [0]
    assert optimizer.step_complete
    assert optimizer.loss is None


def test_closure_runs_first_and_its_result_is_returned():
    from dist_train.autograd import is_grad_enabled, no_grad

    param = Parameter(np.ones(2))
    optimizer = optim.SGD([param], lr=0.1)

    def closure():
        assert is_grad_enabled()
        param.grad = Tensor(np.ones(2))
        return 7.0

    with no_grad():
        assert optimizer.step(closure) == 7.0
    np.testing.assert_allclose(param.array, 0.9)


def test_zero_grad():
    param = Parameter(np.ones(2))
    optimizer = optim.SGD([param], lr=0.1)
    param.grad = kept = Tensor(np.ones(2))
    optimizer.zero_grad(set_to_none=False)
    assert param.grad is kept
    assert (kept.array == 0).all()
    optimizer.zero_grad()
    assert param.grad is None


def test_hooks_run_around_the_step():
    param = Parameter(np.ones(2))
    optimizer = optim.SGD([param], lr=1.0)
    seen = []
    optimizer.register_step_pre_hook(lambda *_: seen.append(float(param.array[0])))
    handle = optimizer.register_step_post_hook(lambda *_: seen.append(float(param.array[0])))
    param.grad = Tensor(np.ones(2))
    optimizer.step()
    handle.remove()
    optimizer.step()
    assert seen == [1.0, 0.0, 0.0]


@pytest.mark.parametrize("layout", ["F-order", "strided", "transposed gradient"])
def test_memory_layout_does_not_matter(layout):
    weights = np.random.default_rng(0).normal(size=(4, 6))
    arrays = {"F-order": np.asfortranarray(weights), "strided": np.repeat(weights, 2, axis=1)[:, ::2]}
    param, plain = Parameter(arrays.get(layout, weights.copy())), Parameter(weights.copy())
    array = param.array
    ours, expected = optim.Adam([param], lr=0.1), optim.Adam([plain], lr=0.1)
    for step in range(3):
        grad = gradient(plain.array, step, 0)
        plain.grad = Tensor(grad)
        param.grad = Tensor(np.asfortranarray(grad) if layout == "transposed gradient" else grad)
        ours.step()
        expected.step()
    assert param.array is array
    assert np.ascontiguousarray(array).tobytes() == plain.array.tobytes()


def test_a_gradient_of_another_float_type_is_converted():
    param = Parameter(np.ones(3, np.float32))
    param.grad = Tensor(np.ones(3, np.float64))
    optim.Adam([param], lr=0.5).step()
    np.testing.assert_allclose(param.array, np.full(3, 0.5, np.float32), rtol=1e-6)
    assert param.array.dtype == np.float32


def test_a_step_counts_as_a_change_in_place():
    param = Parameter(np.ones(3))
    param._version = [4]
    param.grad = Tensor(np.ones(3))
    optim.SGD([param]).step()
    assert param._version == [5]


def test_own_optimizer_is_an_update_rule():
    class SignDescent(optim.Optimizer):
        def __init__(self, params, lr=1e-3):
            super().__init__(params, {"lr": lr})

        def update(self, group, step, param, grad, state):
            param -= group["lr"] * np.sign(grad)

    param = Parameter(np.zeros((2, 2)))
    param.grad = Tensor(np.array([[1.0, -2.0], [0.0, 3.0]]))
    optimizer = SignDescent([param], lr=0.5)
    optimizer.step()
    assert param.array.tolist() == [[-0.5, 0.5], [0.0, -0.5]]
    assert "lr: 0.5" in repr(optimizer)


# errors


def leaf():
    return Parameter(np.zeros(2))


def computed():
    tensor = leaf()
    tensor._node = object()
    return tensor


def twice():
    tensor = leaf()
    return [tensor, tensor]


def in_two_groups():
    tensor = leaf()
    return [{"params": [tensor]}, {"params": [tensor]}]


@pytest.mark.parametrize(
    ("params", "error", "message"),
    [
        (leaf, TypeError, "single tensor"),
        (lambda: {"params": [leaf()]}, TypeError, "single dict"),
        (lambda: {leaf()}, TypeError, "order"),
        (list, ValueError, "empty"),
        (lambda: [np.zeros(2)], TypeError, "parameter 0 of the group is a ndarray"),
        (lambda: [leaf(), computed()], ValueError, "parameter 1 .* not a leaf"),
        (twice, ValueError, r"parameter 1 .*shape \(2,\).* more than once"),
        (in_two_groups, ValueError, "more than once"),
        (lambda: [("a", leaf()), leaf()], ValueError, "1 of 2 parameters have names"),
        (lambda: [{"params": [("a", leaf())]}, {"params": [leaf()]}], ValueError, "names"),
        (lambda: [{"params": [leaf()], "lr": -0.1}], ValueError, "Invalid lr value: -0.1"),
    ],
)
def test_bad_parameters(params, error, message):
    with pytest.raises(error, match=message):
        optim.Adam(params())


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("SGD", {"lr": -1}, "Invalid lr value: -1"),
        ("SGD", {"momentum": -0.5}, "Invalid momentum value: -0.5"),
        ("SGD", {"weight_decay": -1}, "Invalid weight_decay"),
        ("SGD", {"nesterov": True}, "Nesterov momentum requires"),
        ("SGD", {"nesterov": True, "momentum": 0.9, "dampening": 0.1}, "dampening 0.1"),
        ("SGD", {"differentiable": True}, "differentiable=True is not supported"),
        ("Adagrad", {"lr_decay": -1}, "Invalid lr_decay"),
        ("Adagrad", {"initial_accumulator_value": -1}, "Invalid initial_accumulator_value"),
        ("Adadelta", {"rho": 1.5}, "Invalid rho value: 1.5"),
        ("RMSprop", {"alpha": -1}, "Invalid alpha"),
        ("Adam", {"betas": (1.0, 0.9)}, r"Invalid betas\[0\] value: 1.0"),
        ("Adam", {"betas": (0.9, -0.1)}, r"Invalid betas\[1\]"),
        ("Adam", {"eps": -1}, "Invalid eps"),
        ("Adam", {"eps": float("nan")}, "Invalid eps"),
        ("Adam", {"capturable": True}, "capturable=True is not supported"),
        ("AdamW", {"lr": Tensor(np.array(0.1))}, "expected a number"),
    ],
)
def test_bad_hyper_parameters(name, options, message):
    with pytest.raises(ValueError, match=message):
        getattr(optim, name)([leaf()], **options)


def test_torchs_choice_of_implementation_is_taken():
    assert optim.Adam([leaf()], fused=True).param_groups[0]["fused"]
    assert optim.SGD([leaf()], foreach=False).param_groups[0]["foreach"] is False


def test_gradient_of_another_shape():
    param = leaf()
    param.grad = Tensor(np.zeros(3))
    with pytest.raises(RuntimeError, match=r"gradient of shape \(3,\) for a parameter of shape \(2,\)"):
        optim.SGD([param]).step()


def adam_state(**changes):
    entry = {"step": 1.0, "exp_avg": np.ones(2), "exp_avg_sq": np.ones(2), **changes}
    entry = {key: value for key, value in entry.items() if value is not None}
    return {"state": {0: entry}, "param_groups": [{"lr": 9.0, "params": [0]}]}


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"state": {}, "param_groups": []}, "0 parameter groups, this optimizer 1"),
        ({"state": {}, "param_groups": [{"params": [0, 1]}]}, "has 2 parameters, this optimizer's 1"),
        ({"state": {3: {}}, "param_groups": [{"params": [0]}]}, "parameter 3"),
        (adam_state(exp_avg=None), "lacks 'exp_avg'"),
        (adam_state(exp_avg_sq=np.ones(5)), r"'exp_avg_sq' of parameter 0 has shape \(5,\), the parameter \(2,\)"),
    ],
)
def test_a_state_dict_that_does_not_fit_changes_nothing(state, message):
    optimizer = optim.Adam([leaf()], lr=0.5)
    with pytest.raises(ValueError, match=message):
        optimizer.load_state_dict(state)
    assert optimizer.param_groups[0]["lr"] == 0.5
    assert optimizer.state_dict()["state"] == {}


def test_load_state_dict_copies():
    state = adam_state()
    optimizer = optim.Adam([leaf()])
    optimizer.load_state_dict(state)
    optimizer.param_groups[0]["params"][0].grad = Tensor(np.ones(2))
    optimizer.step()
    assert (state["state"][0]["exp_avg"] == 1).all()
    assert optimizer.param_groups[0]["lr"] == 9.0
    assert optimizer.state_dict()["state"][0]["step"].item() == 2


# checkpoints


def stored(shard, padding=0):
    """What a checkpoint gives back of `shard`: parts, extra (through JSON), and a reader; the parameters moved apart by `padding`."""
    parts, vectors = [], []
    for part in shard["parts"]:
        table = [{**row, "offset": row["offset"] + padding * (number + 1)} for number, row in enumerate(part["table"])]
        length = part["length"] + padding * (len(table) + 1)
        arrays = {name: spread(vector, part["table"], table, length) for name, vector in part["vectors"].items()}
        parts.append({"dtype": part["dtype"], "length": length, "table": table, "names": list(arrays)})
        vectors.append(arrays)
    parts, extra = json.loads(json.dumps([parts, shard["extra"]]))
    return parts, extra, lambda number, name, start, stop: vectors[number][name][start:stop]


def spread(vector, table, moved, length):
    result = np.full(length, np.nan, vector.dtype)
    for old, new in zip(table, moved):
        size = int(np.prod(old["shape"]))
        result[new["offset"] : new["offset"] + size] = vector[old["offset"] : old["offset"] + size]
    return result


@every_state
@pytest.mark.parametrize("padding", [0, 5])
def test_a_shard_restores_the_state(case, padding):
    (ours, params), (again, other) = make(case), make(case)
    ours.param_groups[0]["lr"] = 0.02
    train(ours, params[:3], range(4))
    again.load_shard(*stored(ours.shard(), padding))
    assert again.steps == 4
    assert again.param_groups[0] | {"params": 0} == ours.param_groups[0] | {"params": 0}
    for mine, theirs in zip(params, other):
        theirs.array[...] = mine.array
    train(ours, params, range(4, 8))
    train(again, other, range(4, 8))
    assert all(mine.array.tobytes() == theirs.array.tobytes() for mine, theirs in zip(params, other))
    assert [list(entry) for entry in ours.state_dict()["state"].values()] == [list(entry) for entry in again.state_dict()["state"].values()]


def test_a_shard_has_one_part_per_type():
    params = [Parameter(np.zeros(2, np.float32)), Parameter(np.zeros((3, 1), np.float64)), Parameter(np.zeros(4, np.float32))]
    optimizer = optim.Adam(params)
    train(optimizer, params[:2], range(1))
    first, second = optimizer.shard()["parts"]
    assert (first["dtype"], first["length"], first["start"], first["stop"]) == ("float32", 6, 0, 6)
    assert [(row["index"], row["shape"], row["offset"]) for row in first["table"]] == [(0, [2], 0), (2, [4], 2)]
    assert second["vectors"]["exp_avg"].dtype == np.float64
    assert optimizer.shard()["extra"]["step_counts"] == [1, 1, 0]


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ([(2,), (3,)], r"parameter 1 \(1\) has shape \(3,\), in the saved state \(1\) \(4,\)"),
        ([(2,), (4,), (1,)], "no parameter 2"),
        ([(2,)], "holds 2 parameters, this optimizer 1"),
    ],
)
def test_a_shard_of_another_model(shapes, message):
    optimizer, params = make(("Adam", {}), shapes=[(2,), (4,)])
    train(optimizer, params, range(1))
    with pytest.raises(ValueError, match=message):
        make(("Adam", {}), shapes=shapes)[0].load_shard(*stored(optimizer.shard()))


def test_a_hyper_parameter_that_is_no_json_value():
    optimizer, _ = make(("Adam", {}))
    optimizer.param_groups[0]["lr"] = np.float32(0.5)
    assert optimizer.shard()["extra"]["param_groups"][0]["lr"] == 0.5
    optimizer.param_groups[0]["schedule"] = object()
    with pytest.raises(TypeError, match="'schedule' of type object cannot be saved"):
        optimizer.shard()
