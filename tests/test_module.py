"""Module, the containers, state_dict and gradient clipping."""

from __future__ import annotations

import copy
from collections import OrderedDict

import numpy as np
import pytest

import dist_train as dt
from dist_train import nn
from dist_train.nn.utils import clip_grad_norm_, clip_grad_value_


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3, 4)
        self.norm = nn.BatchNorm1d(4)
        self.head = nn.Linear(4, 3, bias=False)
        self.scale = nn.Parameter(dt.ones(3))
        self.register_buffer("mask", dt.zeros(3))
        self.register_buffer("scratch", dt.zeros(2), persistent=False)

    def forward(self, x):
        return self.head(self.norm(self.fc(x))) * self.scale + self.mask


def names(pairs):
    return [name for name, _ in pairs]


class TestRegistration:
    def test_parameters_come_in_definition_order(self):
        expected = ["scale", "fc.weight", "fc.bias", "norm.weight", "norm.bias", "head.weight"]
        assert names(Net().named_parameters()) == expected
        assert names(Net().named_parameters(prefix="net", recurse=False)) == ["net.scale"]

    def test_buffers_and_modules(self):
        net = Net()
        assert names(net.named_buffers()) == ["mask", "scratch", "norm.running_mean", "norm.running_var", "norm.num_batches_tracked"]
        assert names(net.named_modules()) == ["", "fc", "norm", "head"]
        assert list(net.children()) == [net.fc, net.norm, net.head]

    def test_shared_parameters_are_named_once(self):
        net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
        net[1].weight = net[0].weight
        assert names(net.named_parameters()) == ["0.weight", "0.bias", "1.bias"]
        assert len(list(net.named_parameters(remove_duplicate=False))) == 4
        assert list(net.state_dict()) == ["0.weight", "0.bias", "1.weight", "1.bias"]

    def test_shared_modules_are_named_once(self):
        layer = nn.Linear(2, 2)
        net = nn.Sequential(layer, nn.ReLU(), layer)
        assert names(net.named_children()) == ["0", "1"] and len(list(net.parameters())) == 2
        assert len(list(net.named_parameters(remove_duplicate=False))) == 4

    def test_replacing_by_none_and_deleting(self):
        net = Net()
        net.scale = None
        del net.fc
        assert "scale" not in names(net.named_parameters()) and not hasattr(net, "fc")
        assert names(net.named_children()) == ["norm", "head"]

    def test_a_buffer_can_be_replaced_by_another_tensor(self):
        net = Net()
        net.mask = dt.ones(3)
        assert net.state_dict()["mask"].numpy().sum() == 3

    @pytest.mark.parametrize(("name", "value"), [("scale", dt.ones(3)), ("fc", 3), ("mask", "text")])
    def test_a_registered_name_keeps_its_kind(self, name, value):
        with pytest.raises(TypeError, match=name):
            setattr(Net(), name, value)

    @pytest.mark.parametrize("name", ["", "a.b", "forward", "training"])
    def test_names_that_cannot_be_registered(self, name):
        with pytest.raises(KeyError):
            Net().register_buffer(name, dt.zeros(1))

    def test_assignment_before_init(self):
        class Early(nn.Module):
            def __init__(self):
                self.fc = nn.Linear(1, 1)

        with pytest.raises(AttributeError, match="before Module"):
            Early()

    def test_missing_attribute(self):
        with pytest.raises(AttributeError, match="nothing"):
            Net().nothing  # noqa: B018

    def test_without_forward(self):
        with pytest.raises(NotImplementedError, match="forward"):
            nn.Module()()

    def test_look_up_by_dotted_name(self):
        net = nn.Sequential(Net())
        assert net.get_submodule("0.fc") is net[0].fc and net.get_submodule("") is net
        assert net.get_parameter("0.fc.bias") is net[0].fc.bias and net.get_buffer("0.mask") is net[0].mask
        for call, name in ((net.get_submodule, "0.fd"), (net.get_parameter, "0.fc.bios"), (net.get_buffer, "0.fc.bias")):
            with pytest.raises(AttributeError, match=name):
                call(name)


class TestState:
    def test_shares_memory_and_round_trips(self):
        net, other = Net(), Net()
        state = net.state_dict()
        assert "scratch" not in state and state["fc.weight"].array is net.fc.weight.array
        assert not state["fc.weight"].requires_grad and net.state_dict(keep_vars=True)["fc.weight"] is net.fc.weight
        memory = other.fc.weight.array
        assert str(other.load_state_dict(state)) == "<All keys matched successfully>"
        assert other.fc.weight.array is memory
        np.testing.assert_array_equal(memory, net.fc.weight.array)

    def test_accepts_numpy_and_pytorch(self):
        torch = pytest.importorskip("torch")
        net = nn.Linear(2, 2)
        net.load_state_dict({"weight": np.eye(2), "bias": torch.ones(2, requires_grad=True)})
        np.testing.assert_array_equal(net.weight.array, np.eye(2))
        np.testing.assert_array_equal(net.bias.array, 1)
        assert net.weight.dtype == dt.float32

    def test_errors_are_torchs_and_change_nothing(self):
        torch = pytest.importorskip("torch")
        net, other = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1)), torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Linear(3, 1))
        before = net[1].weight.array.copy()
        state = {
            "0.weight": np.zeros((3, 9), "f"),
            "0.wieght": np.zeros(3, "f"),
            "1.weight": np.zeros((1, 3), "f"),
            "1.bias": np.zeros(2, "f"),
        }
        with pytest.raises(RuntimeError) as mine:
            net.load_state_dict(state)
        with pytest.raises(RuntimeError) as his:
            other.load_state_dict({name: torch.tensor(value) for name, value in state.items()})
        expected = str(his.value).replace("torch.Size", "Size").split("\n\t")
        lines = str(mine.value).split("\n\t")
        assert [line for line in lines if "did you mean" not in line] == expected
        np.testing.assert_array_equal(net[1].weight.array, before)

    def test_suggests_near_names(self):
        with pytest.raises(RuntimeError, match='"wieght": did you mean "weight"'):
            nn.Linear(1, 1).load_state_dict({"wieght": np.zeros((1, 1)), "bias": np.zeros(1)})

    def test_not_strict(self):
        net = nn.Linear(2, 1)
        result = net.load_state_dict({"weight": np.ones((1, 2)), "other": np.ones(1)}, strict=False)
        assert result.missing_keys == ["bias"] and result.unexpected_keys == ["other"]
        assert net.weight.array.sum() == 2
        with pytest.raises(RuntimeError, match=r"Size\(\[2, 2\]\)"):
            net.load_state_dict({"weight": np.ones((2, 2))}, strict=False)

    @pytest.mark.parametrize("value", ["text", [1.0]])
    def test_values_that_are_no_arrays(self, value):
        with pytest.raises(TypeError, match="bias"):
            nn.Linear(1, 1).load_state_dict({"weight": np.zeros((1, 1)), "bias": value})

    def test_values_of_another_kind(self):
        with pytest.raises(RuntimeError, match="num_batches_tracked"):
            state = {**nn.BatchNorm1d(1).state_dict(), "num_batches_tracked": np.array(1.5)}
            nn.BatchNorm1d(1).load_state_dict(state)

    def test_not_a_mapping(self):
        with pytest.raises(TypeError, match="dict-like"):
            nn.Linear(1, 1).load_state_dict([1])

    def test_deepcopy_is_independent(self):
        net = Net()
        twin = copy.deepcopy(net)
        dt.nn.init.zeros_(twin.fc.weight)
        assert net.fc.weight.array.any() and twin.fc is not net.fc and twin.fc.weight.requires_grad
        assert names(twin.named_parameters()) == names(net.named_parameters())

    def test_deepcopy_keeps_ties(self):
        net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
        net[1].weight = net[0].weight
        twin = copy.deepcopy(net)
        assert twin[1].weight is twin[0].weight is not net[0].weight


class TestChange:
    def test_train_and_eval_reach_everything(self):
        net = nn.Sequential(Net())
        assert not net.eval()[0].norm.training and net.train()[0].norm.training

    def test_types(self):
        net = Net().double()
        assert {str(t.dtype) for t in net.parameters()} == {"float64"}
        assert net.norm.running_mean.dtype == dt.float64 and net.norm.num_batches_tracked.dtype == dt.int64
        assert net.to(dt.float32).fc.weight.dtype == dt.float32
        with pytest.raises(TypeError, match="int64"):
            net.to(dt.int64)

    def test_moving_to_where_it_is_changes_no_memory(self):
        net = Net()
        memory = net.fc.weight.array
        assert net.to("cpu").cpu().float().to(dt.device("cpu"), dt.float32).fc.weight.array is memory

    def test_keeps_the_parameter_and_casts_its_gradient(self):
        net = nn.Linear(2, 1)
        weight = net.weight
        net(dt.ones(1, 2)).sum().backward()
        assert net.double().weight is weight and weight.grad.dtype == dt.float64

    def test_apply_visits_children_first(self):
        seen = []
        net = nn.Sequential(nn.Sequential(nn.ReLU()), nn.Tanh())
        assert net.apply(lambda module: seen.append(type(module).__name__)) is net
        assert seen == ["ReLU", "Sequential", "Tanh", "Sequential"]

    def test_freeze_and_zero_grad(self):
        net = nn.Linear(2, 1)
        net(dt.ones(1, 2)).sum().backward()
        net.zero_grad(set_to_none=False)
        assert not net.weight.grad.numpy().any()
        net.zero_grad()
        assert net.weight.grad is None
        assert not any(p.requires_grad for p in net.requires_grad_(False).parameters())


class TestHooks:
    def test_see_and_replace(self):
        net = nn.Linear(2, 1)
        seen = []
        with net.register_forward_hook(lambda module, args, result: seen.append((module, args, result))):
            y = net(dt.ones(1, 2))
        assert seen == [(net, seen[0][1], y)] and seen[0][1][0].shape == (1, 2)
        net(dt.ones(1, 2))
        assert len(seen) == 1
        net.register_forward_pre_hook(lambda module, args: args[0] * 0)
        handle = net.register_forward_hook(lambda module, args, result: result + 1)
        np.testing.assert_allclose(net(dt.ones(1, 2)).detach().numpy(), net.bias.array[None] + 1)
        handle.remove()
        np.testing.assert_allclose(net(dt.ones(1, 2)).detach().numpy(), net.bias.array[None])


class TestContainers:
    def test_sequential(self):
        net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
        assert len(net) == 3 and net[-1] is net[2] and len(net[:2]) == 2 and net[:2][0] is net[0]
        assert net(dt.ones(4, 2)).shape == (4, 1)
        net.append(nn.Tanh()).insert(1, nn.Identity())
        assert [type(m).__name__ for m in net] == ["Linear", "Identity", "ReLU", "Linear", "Tanh"]
        assert names(net.named_children()) == list("01234")
        del net[1]
        net[1] = nn.GELU()
        assert isinstance(net.pop(), nn.Tanh) and isinstance(net[1], nn.GELU)
        with pytest.raises(IndexError, match="3 modules"):
            net[3]

    def test_named_sequential(self):
        net = nn.Sequential(OrderedDict([("first", nn.Linear(2, 2)), ("second", nn.ReLU())]))
        assert net.first is net[0] and list(net.state_dict()) == ["first.weight", "first.bias"]
        assert names(net[1:].named_children()) == ["second"]

    def test_module_list(self):
        layers = nn.ModuleList(nn.Linear(1, 1) for _ in range(3))
        layers.insert(0, nn.ReLU())
        layers += [nn.Tanh()]
        assert len(layers) == 5 and isinstance(layers[0], nn.ReLU) and isinstance(layers[-1], nn.Tanh)
        assert isinstance(layers[1:3], nn.ModuleList) and list(layers)[1] is layers[1]
        assert next(iter(layers.state_dict())) == "1.weight"
        with pytest.raises(NotImplementedError, match="forward"):
            layers(dt.ones(1, 1))

    def test_module_dict(self):
        layers = nn.ModuleDict({"a": nn.Linear(1, 1), "b": nn.ReLU()})
        layers["c"] = nn.Tanh()
        assert list(layers) == list(layers.keys()) == ["a", "b", "c"] and "a" in layers and len(layers) == 3
        assert layers.pop("a") is not None and next(iter(layers)) == "b"
        del layers["b"]
        assert list(layers.values()) == [layers["c"]]
        layers.clear()
        assert not layers

    def test_parameter_list(self):
        values = nn.ParameterList([dt.ones(2), nn.Parameter(dt.zeros(3))])
        assert len(values) == 2 and isinstance(values[0], nn.Parameter) and values[-1].shape == (3,)
        assert list(values.state_dict()) == ["0", "1"] and [v.shape for v in values] == [(2,), (3,)]

    def test_repr(self):
        torch = pytest.importorskip("torch")

        def build(nn):
            layers = nn.ModuleList([nn.Linear(1, 2), nn.Linear(1, 2), nn.Sequential(nn.ReLU(), nn.Conv2d(1, 2, 3, padding="same"))])
            return nn.ModuleDict({"list": layers, "empty": nn.Sequential(), "none": nn.ModuleList(), "p": nn.Identity()})

        assert repr(build(nn)) == repr(build(torch.nn))


class TestClip:
    def make(self, library, gradients):
        parameters = [library.ones(*np.shape(g), dtype=library.float64).requires_grad_() for g in gradients]
        for parameter, gradient in zip(parameters, gradients):
            parameter.grad = library.tensor(gradient, dtype=library.float64)
        return [library.ones(2).requires_grad_(), *parameters]  # the first has no gradient

    @pytest.mark.parametrize("max_norm", [0.5, 100.0])
    @pytest.mark.parametrize("norm_type", [2.0, 1.0, 3.0, float("inf")])
    def test_norm(self, max_norm, norm_type):
        torch = pytest.importorskip("torch")
        gradients = [np.arange(6.0).reshape(2, 3) - 2, np.array([3.0, -4.0])]
        mine, his = self.make(dt, gradients), self.make(torch, gradients)
        memory = mine[1].grad.array
        total = clip_grad_norm_(iter(mine), max_norm, norm_type)
        expected = torch.nn.utils.clip_grad_norm_(his, max_norm, norm_type)
        np.testing.assert_allclose(total.item(), expected.item(), rtol=1e-12)
        assert mine[1].grad.array is memory
        for a, b in zip(mine[1:], his[1:]):
            np.testing.assert_allclose(a.grad.numpy(), b.grad.numpy(), rtol=1e-12)

    def test_not_finite(self):
        mine = self.make(dt, [[1.0, float("inf")]])
        with pytest.raises(RuntimeError, match="inf"):
            clip_grad_norm_(mine, 1.0, error_if_nonfinite=True)
        assert mine[1].grad.numpy()[0] == 1
        assert clip_grad_norm_([], 1.0).item() == 0 and clip_grad_norm_(dt.ones(1), 1.0).item() == 0

    def test_value(self):
        mine = self.make(dt, [[-3.0, 0.5, 7.0]])
        clip_grad_value_(mine, 1.0)
        np.testing.assert_array_equal(mine[1].grad.numpy(), [-1, 0.5, 1])

    def test_an_owner_is_asked(self):
        class Owner:
            def clip_grad_norm(self, *args):
                self.asked = args
                return dt.tensor(4.0)

            def clip_grad_value(self, *args):
                self.asked = args

        owner, (a, b) = Owner(), (dt.ones(2), dt.ones(3))
        a._owner = b._owner = owner
        assert clip_grad_norm_([a, b], 2, error_if_nonfinite=True).item() == 4
        assert owner.asked == ([a, b], 2.0, 2.0, True)
        clip_grad_value_(a, 3)
        assert owner.asked == ([a], 3.0)
        other = dt.ones(1)
        other.grad = dt.ones(1)
        with pytest.raises(RuntimeError, match="owners"):
            clip_grad_norm_([a, other], 2)
