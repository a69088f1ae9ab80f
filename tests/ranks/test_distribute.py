"""`distribute` against one process that takes the whole batch: exact means, sharded state, messages, and what users get wrong."""

import copy
import itertools
import math
import os
from collections import Counter

import numpy as np
import pytest

import dist_train as dt
from dist_train import nn, optim
from dist_train.distributed.flat import BLOCK
from dist_train.distributed.fold import held, subtrees
from dist_train.nn import functional as F
from dist_train.utils.data import DataLoader, TensorDataset

V = 5  # micro-batches: more than the ranks, and no multiple of 2, 3 or 4


def model64(*sizes):
    """A float64 MLP, the same on every call."""
    dt.manual_seed(11)
    layers = [layer for a, b in itertools.pairwise(sizes) for layer in (nn.Linear(a, b), nn.Tanh())]
    return nn.Sequential(*layers[:-1]).double()


def dataset(count, features=6):
    rng = np.random.default_rng(5)
    return TensorDataset(dt.tensor(rng.standard_normal((count, features))), dt.tensor(rng.standard_normal((count, 3))))


def weights(model):
    return np.concatenate([p.detach().numpy().reshape(-1) for p in model.parameters()])


def whole_batch_gradient(data, loss_function=F.mse_loss):
    model = model64(6, 9, 3)
    loss = loss_function(model(data.tensors[0]), data.tensors[1])
    loss.backward()
    return np.concatenate([p.grad.numpy().reshape(-1) for p in model.parameters()]), loss.item()


def one_step(data, batch_size, micro_batches=V, **options):
    """A step of SGD with learning rate 1: the change of the weights is the gradient."""
    model = model64(6, 9, 3)
    optimizer = optim.SGD(model.parameters(), lr=1.0)
    before = weights(model)
    model, optimizer, loader = dt.distribute(model, optimizer, DataLoader(data, batch_size), micro_batches=micro_batches, **options)
    for inputs, targets in loader:
        optimizer.zero_grad()
        F.mse_loss(model(inputs), targets).backward()
        optimizer.step()
        if optimizer.stepped:
            break
    return before - weights(model), optimizer


@pytest.mark.parametrize("count", [23, 20, 5, 3, 1], ids="batch{}".format)
def test_mean_over_a_ragged_batch_is_exact(count):
    data = dataset(count)
    gradient, optimizer = one_step(data, count)
    expected, loss = whole_batch_gradient(data)
    np.testing.assert_allclose(gradient, expected, rtol=1e-12, atol=1e-14)
    assert optimizer.loss == pytest.approx(loss, rel=1e-13)
    assert optimizer.steps == 1


def test_sum_adds_the_gradients():
    data = dataset(20)
    gradient, optimizer = one_step(data, 20, reduction="sum")
    parts = [TensorDataset(*[t[4 * i : 4 * i + 4] for t in data.tensors]) for i in range(V)]
    expected = sum(whole_batch_gradient(part)[0] for part in parts)
    np.testing.assert_allclose(gradient, expected, rtol=1e-12, atol=1e-14)
    assert optimizer.loss == pytest.approx(sum(whole_batch_gradient(part)[1] for part in parts))


class Halved(optim.SGD):
    """A rule of the user's own on top of one that divides on the way."""

    def update(self, group, step, param, grad, state):
        super().update(group, step, param, grad * 0.5, state)


def test_a_rule_of_ones_own_is_given_the_mean():
    data = dataset(13)
    model = model64(6, 9, 3)
    before = weights(model)
    model, optimizer, loader = dt.distribute(model, Halved(model.parameters(), lr=1.0), DataLoader(data, 13), micro_batches=V)
    for inputs, targets in loader:
        optimizer.zero_grad()
        F.mse_loss(model(inputs), targets).backward()
        optimizer.step()
    np.testing.assert_allclose(before - weights(model), whole_batch_gradient(data)[0] / 2, rtol=1e-12, atol=1e-14)


def test_token_weights():
    """Each sample counts as many tokens as its first feature says; the step is their mean."""
    data = dataset(17)
    tokens = np.arange(17) % 4 + 1.0
    data.tensors[0].array[:, 0] = tokens

    def token_mean(output, inputs, targets):
        count = inputs[:, 0]
        return (((output - targets) ** 2).sum(1) * count).sum() / count.sum()

    model = model64(6, 9, 3)
    optimizer = optim.SGD(model.parameters(), lr=1.0)
    loss = token_mean(model(data.tensors[0]), *data.tensors)
    loss.backward()
    expected = np.concatenate([p.grad.numpy().reshape(-1) for p in model.parameters()])
    model.zero_grad()
    before = weights(model)
    model, optimizer, loader = dt.distribute(
        model, optimizer, DataLoader(data, 17), micro_batches=V, weight=lambda batch: batch[0][:, 0].sum().item()
    )
    for inputs, targets in loader:
        optimizer.zero_grad()
        token_mean(model(inputs), inputs, targets).backward()
        optimizer.step()
    np.testing.assert_allclose(before - weights(model), expected, rtol=1e-12, atol=1e-14)
    assert optimizer.loss == pytest.approx(loss.item(), rel=1e-13)


@pytest.mark.parametrize("sizes", [(6, 200, 100, 3), (6, 1, 3), (700, 31, 3)], ids=str)
def test_each_rank_holds_its_share_of_the_state(comm, sizes):
    model = model64(*sizes)
    optimizer = optim.Adam(model.parameters())
    model, optimizer, loader = dt.distribute(model, optimizer, DataLoader(dataset(8, sizes[0]), 8), micro_batches=V)
    for inputs, targets in loader:
        optimizer.zero_grad()
        F.mse_loss(model(inputs), targets).backward()
        optimizer.step()
    held = [vector for state in optimizer._driver.states for vector in state.vectors.values()]
    total = sum(p.numel() for p in model.parameters())
    share = math.ceil(total / comm.size)
    for vector in held:
        assert abs(vector.size - share) <= BLOCK
    assert comm.all_gather(np.array([vector.nbytes for vector in held] or [0, 0])).sum() <= 2 * 8 * (total + BLOCK + 8 * 16)


def test_messages_of_a_step(comm):
    """Along the lanes between nodes each node's sums of the owners' slices, the new parameters, and one small record."""
    model = model64(6, 300, 3)
    optimizer = optim.Adam(model.parameters())
    model, optimizer, loader = dt.distribute(model, optimizer, DataLoader(dataset(2 * V), 2 * V), micro_batches=V)
    driver = optimizer._driver
    (flat,) = driver.flats
    other = driver._worker.layout.lane  # of the thread that communicates, where there is one
    for _ in range(3):
        comm.traffic.clear()
        other.traffic.clear()
        for inputs, targets in loader:
            optimizer.zero_grad()
            F.mse_loss(model(inputs), targets).backward()
            optimizer.step()
    if comm.size == 1:
        return
    shares = [(rank * V // comm.size, (rank + 1) * V // comm.size) for rank in range(comm.size)]
    nodes, lane, own = flat.layout.nodes, flat.layout.lane, flat.counts[comm.rank]
    sums = [len(subtrees((shares[ranks[0]][0], shares[ranks[-1]][1]), (0, V))) for ranks in nodes]
    record = 4 + own // BLOCK + 2 * len(held(shares[comm.rank], V))
    expected = {}
    if lane.size > 1:
        others = sum(flat.counts[ranks[flat.layout.node.rank]] for ranks in nodes) - own
        gathered = 8 * (own + math.ceil(record / 8) * 8) * (lane.size - 1)
        expected = {"exchange": max(sums), "exchange bytes": 8 * sums[lane.rank] * others}
        expected |= {"gather_slices": 2, "gather_slices bytes": gathered}
    assert lane.traffic + (Counter() if other is lane else other.traffic) == +Counter(expected)


def test_a_node_has_the_parameters_once(comm):
    model = model64(6, 9, 3)
    model, optimizer, _ = dt.distribute(model, optim.SGD(model.parameters()))
    (flat,) = optimizer._driver.flats
    node = int(os.environ.get("DIST_TRAIN_NODE_SIZE", comm.size))
    assert flat.layout.node.size == (node if comm.size % node == 0 else 1)
    flat.own()[:1] = comm.rank + 1  # a stray write: who sees it?
    comm.barrier()
    seen = [flat.parameters[flat.starts[rank]] == rank + 1 for rank in range(comm.size) if flat.counts[rank]]
    assert sum(seen) == sum(flat.counts[rank] > 0 for rank in flat.layout.nodes[flat.layout.lane.rank])


class Branches(nn.Module):
    """Parameters that are used twice, in some micro-batches only, never, frozen, and empty."""

    def __init__(self):
        super().__init__()
        dt.manual_seed(2)
        self.shared = nn.Linear(6, 6).double()
        self.sometimes = nn.Linear(6, 3).double()
        self.always = nn.Linear(6, 3).double()
        self.never = nn.Linear(2, 2).double()
        self.frozen = nn.Parameter(dt.ones(3, dtype=dt.float64), requires_grad=False)
        self.empty = nn.Parameter(dt.zeros(0, 4, dtype=dt.float64))

    def forward(self, x):
        h = self.shared(self.shared(x).tanh())
        out = self.always(h) * self.frozen
        return out + self.sometimes(h) if (x[:, 0] > 1.0).any() else out


@pytest.mark.parametrize("rule", [optim.SGD, optim.Adam], ids=lambda rule: rule.__name__)
def test_parameters_used_twice_sometimes_never(rule):
    """Equal to one process that adds up the micro-batches' gradients by hand, parameters without one being skipped."""
    data = dataset(8)
    data.tensors[0].array[:, 0] = [0, 0, 0, 0, 5, 0, 0, 0]  # one micro-batch takes the branch
    alone, spread = Branches(), Branches()
    reference = rule(alone.parameters(), lr=0.1, weight_decay=0.1)
    optimizer = rule(spread.parameters(), lr=0.1, weight_decay=0.1)
    spread, optimizer, loader = dt.distribute(spread, optimizer, DataLoader(data, 8), micro_batches=V)
    for _ in range(3):
        for inputs, targets in loader:
            optimizer.zero_grad()
            F.mse_loss(spread(inputs), targets).backward()
            optimizer.step()
        cuts = [i * 8 // V for i in range(V + 1)]
        reference.zero_grad()
        for lo, hi in itertools.pairwise(cuts):
            loss = F.mse_loss(alone(data.tensors[0][lo:hi]), data.tensors[1][lo:hi]) * (hi - lo) / 8
            loss.backward()
        reference.step()
        data.tensors[0].array[4, 0] = 0  # from the second step on nobody takes the branch
    for (name, p), q in zip(alone.named_parameters(), spread.parameters()):
        np.testing.assert_allclose(q.detach().numpy(), p.detach().numpy(), rtol=1e-11, atol=1e-13, err_msg=name)


def test_tied_weights_and_param_groups():
    def build():
        dt.manual_seed(4)
        embedding, head = nn.Embedding(10, 4).double(), nn.Linear(4, 10, bias=True).double()
        head.weight = embedding.weight
        return nn.Sequential(embedding, nn.Tanh(), head)

    def groups(model):
        return [{"params": [model[0].weight]}, {"params": [model[2].bias], "lr": 0.5, "momentum": 0.9, "weight_decay": 0.01}]

    rng = np.random.default_rng(0)
    data = TensorDataset(dt.tensor(rng.integers(0, 10, 20)), dt.tensor(rng.integers(0, 10, 20)))
    alone, spread = build(), build()
    reference, optimizer = optim.SGD(groups(alone), lr=0.1), optim.SGD(groups(spread), lr=0.1)
    spread, optimizer, loader = dt.distribute(spread, optimizer, DataLoader(data, 10), micro_batches=V)
    for inputs, labels in loader:
        optimizer.zero_grad()
        F.cross_entropy(spread(inputs), labels).backward()
        optimizer.step()
    for inputs, labels in DataLoader(data, 10):
        reference.zero_grad()
        F.cross_entropy(alone(inputs), labels).backward()
        reference.step()
    np.testing.assert_allclose(weights(spread), weights(alone), rtol=1e-12)
    assert spread[0].weight is spread[2].weight


@pytest.mark.parametrize("norm_type", [2.0, 1.0, 3.0, math.inf])
@pytest.mark.parametrize("max_norm", [0.01, 100.0])
def test_clip_grad_norm(max_norm, norm_type):
    data = dataset(13)
    alone, spread = model64(6, 9, 3), model64(6, 9, 3)
    reference = optim.SGD(alone.parameters(), lr=1.0)
    F.mse_loss(alone(data.tensors[0]), data.tensors[1]).backward()
    expected = nn.utils.clip_grad_norm_(alone.parameters(), max_norm, norm_type)
    reference.step()
    optimizer = optim.SGD(spread.parameters(), lr=1.0)
    spread, optimizer, loader = dt.distribute(spread, optimizer, DataLoader(data, 13), micro_batches=V)
    for inputs, targets in loader:
        optimizer.zero_grad()
        F.mse_loss(spread(inputs), targets).backward()
        norm = nn.utils.clip_grad_norm_(spread.parameters(), max_norm, norm_type)
        optimizer.step()
    assert norm.item() == pytest.approx(expected.item(), rel=1e-12)
    np.testing.assert_allclose(weights(spread), weights(alone), rtol=1e-12)


def test_clip_grad_value():
    data = dataset(13)
    gradient, _ = whole_batch_gradient(data)
    model = model64(6, 9, 3)
    before = weights(model)
    optimizer = optim.SGD(model.parameters(), lr=1.0)
    model, optimizer, loader = dt.distribute(model, optimizer, DataLoader(data, 13), micro_batches=V)
    for inputs, targets in loader:
        optimizer.zero_grad()
        F.mse_loss(model(inputs), targets).backward()
        nn.utils.clip_grad_value_(model.parameters(), 0.02)
        optimizer.step()
    np.testing.assert_allclose(before - weights(model), np.clip(gradient, -0.02, 0.02), rtol=1e-11, atol=1e-14)


def test_running_statistics_are_the_weighted_mean():
    data = dataset(13)
    model = nn.Sequential(nn.BatchNorm1d(6, momentum=0.3), nn.Linear(6, 3)).double()
    optimizer = optim.SGD(model.parameters(), lr=0.0)
    model, optimizer, loader = dt.distribute(model, optimizer, DataLoader(data, 13), micro_batches=V)
    for inputs, targets in loader:
        optimizer.zero_grad()
        F.mse_loss(model(inputs), targets).backward()
        optimizer.step()
    x = data.tensors[0].numpy()
    cuts = [i * 13 // V for i in range(V + 1)]
    parts = [x[lo:hi] for lo, hi in itertools.pairwise(cuts)]
    mean = sum(len(p) * p.mean(0) for p in parts) / 13
    var = sum(len(p) * p.var(0, ddof=1) for p in parts) / 13
    np.testing.assert_allclose(model[0].running_mean.numpy(), 0.3 * mean, rtol=1e-12)
    np.testing.assert_allclose(model[0].running_var.numpy(), 0.7 + 0.3 * var, rtol=1e-12)
    assert model[0].num_batches_tracked.item() == 1


def gan_step(g, d, og, od, batches, weights=(1.0,), sequential=True):
    """One step of both networks by hand. Not sequential: the second loss sees the first network before its update."""
    od.zero_grad()
    for inputs, weight in zip(batches, weights):
        ((d(g(inputs).detach()).mean() - d(inputs).mean()) * weight).backward()
    gradients = [p.grad.clone() for p in d.parameters()]
    if sequential:
        od.step()
    og.zero_grad()
    for inputs, weight in zip(batches, weights):
        (-d(g(inputs)).mean() * weight).backward()
    og.step()
    if not sequential:
        for p, gradient in zip(d.parameters(), gradients):
            p.grad = gradient
        od.step()


def gan_reference(data, micro_batches):
    g, d = model64(6, 5, 6), model64(6, 4, 1)
    og, od = optim.Adam(g.parameters(), lr=0.05), optim.SGD(d.parameters(), lr=0.05)
    cuts = [i * 8 // micro_batches for i in range(micro_batches + 1)]
    for _ in range(4):
        batches = [data.tensors[0][lo:hi] for lo, hi in itertools.pairwise(cuts)]
        gan_step(g, d, og, od, batches, [len(b) / 8 for b in batches], sequential=micro_batches == 1)
    return np.concatenate([weights(g), weights(d)])


@pytest.mark.parametrize("micro_batches", [1, 4, 7])
@pytest.mark.parametrize("drop", ["optimizer", "module"])
def test_two_models_share_a_loader(comm, micro_batches, drop):
    """The networks of a GAN: two optimizers a micro-batch; what the second loss leaves in the first model's gradients is dropped."""
    if micro_batches < comm.size:
        return
    data = dataset(8)
    g, d = model64(6, 5, 6), model64(6, 4, 1)
    og, od = optim.Adam(g.parameters(), lr=0.05), optim.SGD(d.parameters(), lr=0.05)
    (d, g), (od, og), loader = dt.distribute([d, g], [od, og], DataLoader(data, 8), micro_batches=micro_batches)
    for _ in range(4):
        for inputs, _ in loader:
            (od if drop == "optimizer" else d).zero_grad()
            loss = d(g(inputs).detach()).mean() - d(inputs).mean()
            loss.backward()
            od.step()
            og.zero_grad()
            (-d(g(inputs)).mean()).backward()
            og.step()
    if micro_batches == 1:
        assert od.loss == pytest.approx(loss.item())
    assert od.steps == og.steps == 4
    np.testing.assert_allclose(np.concatenate([weights(g), weights(d)]), gan_reference(data, micro_batches), rtol=1e-10, atol=1e-12)


def test_without_a_loader(comm):
    data = dataset(V * 2)
    model = model64(6, 9, 3)
    before = weights(model)
    optimizer = optim.SGD(model.parameters(), lr=1.0)
    model, optimizer, nothing = dt.distribute(model, optimizer, micro_batches=V)
    assert nothing is None
    lo, hi = comm.rank * V // comm.size, (comm.rank + 1) * V // comm.size
    for leaf in range(lo, hi):
        assert not optimizer.stepped
        optimizer.zero_grad()
        F.mse_loss(model(data.tensors[0][2 * leaf : 2 * leaf + 2]), data.tensors[1][2 * leaf : 2 * leaf + 2]).backward()
        optimizer.step()
    assert optimizer.stepped and optimizer.steps == 1
    np.testing.assert_allclose(before - weights(model), whole_batch_gradient(data)[0], rtol=1e-12, atol=1e-14)


def test_schedulers_count_steps_not_micro_batches():
    model = model64(6, 4, 3)
    optimizer = optim.SGD(model.parameters(), lr=1.0)
    scheduler = optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.5)
    model, optimizer, loader = dt.distribute(model, optimizer, DataLoader(dataset(12), 6), micro_batches=V)
    for inputs, targets in loader:
        optimizer.zero_grad()
        F.mse_loss(model(inputs), targets).backward()
        optimizer.step()
        scheduler.step()
    assert optimizer.steps == 2 and len(loader) == 2
    assert optimizer.param_groups[0]["lr"] == 0.25


def test_state_dict_is_whole_and_loads_anywhere():
    data = dataset(10)

    def train(model, optimizer, loader, epochs):
        for _ in range(epochs):
            for inputs, targets in loader:
                optimizer.zero_grad()
                F.mse_loss(model(inputs), targets).backward()
                optimizer.step()

    def build():
        model = model64(6, 9, 3)
        return model, optim.Adam(model.parameters(), lr=0.01)

    model, optimizer = build()
    model, optimizer, loader = dt.distribute(model, optimizer, DataLoader(data, 5), micro_batches=V)
    train(model, optimizer, loader, 2)
    saved, state = {k: v.clone() for k, v in model.state_dict().items()}, optimizer.state_dict()
    train(model, optimizer, loader, 1)
    expected = weights(model)

    again, other = build()  # before distribute
    again.load_state_dict(saved)
    other.load_state_dict(state)
    again, other, loader = dt.distribute(again, other, DataLoader(data, 5), micro_batches=V)
    train(again, other, loader, 1)
    assert weights(again).tobytes() == expected.tobytes()

    again, other = build()  # after distribute
    again, other, loader = dt.distribute(again, other, DataLoader(data, 5), micro_batches=V)
    again.load_state_dict(saved)
    other.load_state_dict(state)
    train(again, other, loader, 1)
    assert weights(again).tobytes() == expected.tobytes()


# what users get wrong


def bad_step(model, value):
    x = dt.full((2, 6), value, dtype=dt.float64)
    (model(x).sum()).backward()


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_gradients_that_are_not_finite(comm, value):
    model = model64(6, 4, 3)
    optimizer = optim.Adam(model.parameters())
    model, optimizer, _ = dt.distribute(model, optimizer)
    before = weights(model)
    bad_step(model, value if comm.rank == comm.size - 1 else 1.0)
    with pytest.raises(RuntimeError, match=r"step 1 is not finite .* 0\.weight"):
        optimizer.step()
    assert weights(model).tobytes() == before.tobytes()


def test_steps_that_are_not_finite_can_be_skipped(comm):
    model = model64(6, 4, 3)
    optimizer = optim.Adam(model.parameters())
    model, optimizer, _ = dt.distribute(model, optimizer, nonfinite="skip")
    before = weights(model)
    bad_step(model, math.nan if comm.rank == 0 else 1.0)
    optimizer.step()
    assert not optimizer.stepped and optimizer.step_complete and optimizer.steps == 0
    assert weights(model).tobytes() == before.tobytes()
    optimizer.zero_grad()
    bad_step(model, 1.0)
    optimizer.step()
    assert optimizer.stepped and optimizer.steps == 1


def test_parameters_are_read_only():
    model = model64(6, 4, 3)
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    model, optimizer, _ = dt.distribute(model, optimizer)
    weight = model[0].weight
    with pytest.raises(RuntimeError, match=r"distributed\.edit\(model\)"):
        weight.data.mul_(0.5)
    with pytest.raises(RuntimeError, match=r"distributed\.edit\(model\)"):
        weight.data = dt.zeros(4, 6, dtype=dt.float64)
    with pytest.raises(ValueError, match="read-only"):
        weight.detach().numpy()[0] = 1


def test_edit_publishes_equal_edits(comm):
    model = model64(6, 4, 3)
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    model, optimizer, _ = dt.distribute(model, optimizer)
    before = weights(model)
    with dt.distributed.edit(model), dt.no_grad():
        for p in model.parameters():
            p.mul_(0.5)
    assert (weights(model) == before * 0.5).all()
    nn.init.zeros_(model[0].weight)
    assert (model[0].weight.detach().numpy() == 0).all()
    if comm.size > 1:
        before = weights(model)
        message = r"edits of '0\.bias' differ: rank\(s\) \[.*\] made another change"
        with pytest.raises(RuntimeError, match=message), dt.distributed.edit(model), dt.no_grad():
            model[0].bias.fill_(comm.rank)
        assert weights(model).tobytes() == before.tobytes()
    optimizer._driver.check_drift()


def test_initialisation_draws_the_same_on_every_rank(comm):
    """Also where a micro-batch runs, whose own random numbers differ between ranks."""
    model = model64(6, 4, 3)
    model, optimizer, _ = dt.distribute(model, optim.SGD(model.parameters(), lr=0.1), micro_batches=V)
    nn.init.normal_(model[0].weight)
    first = weights(model)
    nn.init.normal_(model[0].weight)
    assert (weights(model) != first).any()
    with dt.distributed.edit(model), dt.no_grad():
        dt.manual_seed(5)
        model[0].bias.copy_(dt.randn(4))
    drawn = model[0].bias.tolist()
    dt.manual_seed(5)
    assert dt.randn(4).tolist() == pytest.approx(drawn, rel=1e-6)
    optimizer._driver.check_drift()


def test_drift_names_tensor_and_rank(comm):
    model = model64(6, 4, 3)
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    model, optimizer, _ = dt.distribute(model, optimizer)
    (flat,) = optimizer._driver.flats
    last = flat.layout.nodes[-1]
    if len(flat.layout.nodes) > 1:
        if comm.rank == last[0]:
            flat.parameters[0] += 1  # what a stray write through another library would do
        comm.barrier()
        with pytest.raises(RuntimeError, match=rf"'0\.weight' on rank\(s\) \[{', '.join(map(str, last))}\] differs from rank 0"):
            optimizer._driver.check_drift()


def test_too_few_micro_batches(comm):
    model = model64(6, 3)
    with pytest.raises(ValueError, match=rf"micro_batches={comm.size - 1} for {comm.size} ranks"):
        dt.distribute(model, optim.SGD(model.parameters()), micro_batches=comm.size - 1)


def test_an_optimizer_over_other_parameters():
    with pytest.raises(ValueError, match=r"parameter 0 of optimizer 0 \(shape \(3, 6\)\) belongs to no model"):
        dt.distribute(model64(6, 3), optim.SGD(model64(6, 3).parameters()))


def test_different_models(comm):
    if comm.size > 1:
        model = model64(6, 5 if comm.rank == 1 else 4, 3)
        with pytest.raises(ValueError, match=r"tensor 0 is 0\.weight \(4, 6\) float64 on rank 0 and 0\.weight \(5, 6\) float64 on rank 1"):
            dt.distribute(model, optim.SGD(model.parameters()))


def test_rank_0s_weights_and_seed_are_everyones(comm):
    dt.manual_seed(comm.rank)
    model = nn.Linear(3, 3)
    expected = comm.broadcast_object(model.weight.detach().numpy().tolist())
    model, _, _ = dt.distribute(model, optim.SGD(model.parameters()))
    assert model.weight.tolist() == expected
    assert dt.initial_seed() == 0


def test_step_outside_the_loop():
    model = model64(6, 3)
    optimizer = optim.SGD(model.parameters())
    model, optimizer, _ = dt.distribute(model, optimizer, DataLoader(dataset(8), 8))
    with pytest.raises(RuntimeError, match="outside the loop"):
        optimizer.step()


def test_a_micro_batch_ends_with_its_step(comm):
    model = model64(6, 3)
    optimizer = optim.SGD(model.parameters())
    model, optimizer, loader = dt.distribute(model, optimizer, DataLoader(dataset(20), 20), micro_batches=2 * comm.size)
    for inputs, _ in loader:
        model(inputs).sum().backward()
        optimizer.step()
        if not optimizer.step_complete:
            with pytest.raises(RuntimeError, match=r"a second optimizer\.step"):
                optimizer.step()


def test_a_buffer_of_unknown_kind():
    class Counter(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(dt.ones(1))
            self.register_buffer("seen", dt.zeros(1))

        def forward(self, x):
            self.seen += x.shape[0]
            return x * self.scale

    model = Counter()
    optimizer = optim.SGD(model.parameters())
    model, optimizer, _ = dt.distribute(model, optimizer, micro_batches=V)
    model(dt.ones(3)).sum().backward()
    with pytest.raises(RuntimeError, match=r"changed the buffer 'seen'.*running_statistics"):
        optimizer.step()


# loops that are left, and micro-batches without a step


def plain_step(model, optimizer, inputs, targets):
    optimizer.zero_grad()
    F.mse_loss(model(inputs), targets).backward()
    optimizer.step()


def with_batch_norm(micro_batches, count=40, batch_size=20):
    dt.manual_seed(6)
    model = nn.Sequential(nn.BatchNorm1d(6), nn.Linear(6, 3)).double()
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    return dt.distribute(model, optimizer, DataLoader(dataset(count), batch_size), micro_batches=micro_batches)


def test_leaving_the_loop_in_the_middle_of_a_step_drops_the_step(comm):
    model, optimizer, loader = with_batch_norm(2 * comm.size)
    before = weights(model), model[0].running_mean.tolist()
    for inputs, targets in loader:
        plain_step(model, optimizer, inputs, targets)
        break
    for inputs, _ in loader:
        model(inputs).sum().backward()
        break
    optimizer.zero_grad()
    assert optimizer.steps == 0 and weights(model).tobytes() == before[0].tobytes()
    assert model[0].running_mean.tolist() == before[1]
    for inputs, targets in loader:
        plain_step(model, optimizer, inputs, targets)
    assert optimizer.steps == 2


def test_an_older_iterator_ends_while_the_next_one_runs():
    model, optimizer, loader = with_batch_norm(V)
    older = iter(loader)
    next(older)
    for inputs, targets in loader:
        older = None  # closes it
        plain_step(model, optimizer, inputs, targets)
    assert older is None and optimizer.steps == 2


@pytest.mark.parametrize("left_out", [0, -1], ids=["first", "last"])
def test_a_micro_batch_without_a_step(comm, left_out):
    model, optimizer, loader = with_batch_norm(2 * comm.size)
    number = (2 * comm.rank, 2 * comm.rank + 1)[left_out]
    with pytest.raises(RuntimeError, match=r"had no optimizer\.step\(\): .* every micro-batch ends with its step"):
        for inputs, targets in loader:
            if optimizer._driver.schedule.current.index != number:
                plain_step(model, optimizer, inputs, targets)


def test_a_rank_that_leaves_out_a_step(comm):
    """Each rank has one micro-batch a step; from the one left out on, ranks would add up gradients of different steps."""
    model, optimizer, loader = with_batch_norm(comm.size, 60, 20)
    if comm.size > 1:
        with pytest.raises(RuntimeError, match=r"has begun 2 steps of the loop, rank 1 .* has begun 3: .* leave no micro-batch"):
            for number, (inputs, targets) in enumerate(loader):
                if not (number == 1 and comm.rank == 1):
                    plain_step(model, optimizer, inputs, targets)


def test_a_step_that_is_clipped_and_not_made():
    model, optimizer, loader = with_batch_norm(V, 60, 20)
    dropped = 0
    for inputs, targets in loader:
        optimizer.zero_grad()
        (F.mse_loss(model(inputs), targets) * (math.nan if optimizer.steps == 1 and not dropped else 1.0)).backward()
        try:
            nn.utils.clip_grad_norm_(model.parameters(), 1.0, error_if_nonfinite=True)
        except RuntimeError:
            dropped += 1
            continue
        optimizer.step()
    assert dropped == 1 and optimizer.steps == 2


def critic_reference(data, micro_batches):
    """Both losses see the networks of the step before; the generator steps in every second step only."""
    g, d = model64(6, 5, 6), model64(6, 4, 1)
    og, od = optim.Adam(g.parameters(), lr=0.05), optim.SGD(d.parameters(), lr=0.05)
    cuts = [i * 8 // micro_batches for i in range(micro_batches + 1)]
    batches = [data.tensors[0][lo:hi] for lo, hi in itertools.pairwise(cuts)]
    for step in range(5):
        od.zero_grad()
        for x in batches:
            ((d(g(x).detach()).mean() - d(x).mean()) * (len(x) / 8)).backward()
        gradients = [p.grad.clone() for p in d.parameters()]
        if step % 2 == 0:
            og.zero_grad()
            for x in batches:
                (-d(g(x)).mean() * (len(x) / 8)).backward()
            og.step()
        for p, gradient in zip(d.parameters(), gradients):
            p.grad = gradient
        od.step()
    return np.concatenate([weights(g), weights(d)])


def test_a_generator_that_steps_less_often_than_its_critic():
    data = dataset(8)
    g, d = model64(6, 5, 6), model64(6, 4, 1)
    og, od = optim.Adam(g.parameters(), lr=0.05), optim.SGD(d.parameters(), lr=0.05)
    (d, g), (od, og), loader = dt.distribute([d, g], [od, og], DataLoader(data, 8), micro_batches=V)
    for step in range(5):
        for inputs, _ in loader:
            od.zero_grad()
            (d(g(inputs).detach()).mean() - d(inputs).mean()).backward()
            od.step()
            if step % 2 == 0:
                og.zero_grad()
                (-d(g(inputs)).mean()).backward()
                og.step()
    assert (od.steps, og.steps) == (5, 3)
    np.testing.assert_allclose(np.concatenate([weights(g), weights(d)]), critic_reference(data, V), rtol=1e-10, atol=1e-12)


def test_resuming_without_a_loader(directory):
    """Random numbers go on with the step's, on every rank with its own."""

    def train(steps):
        dt.manual_seed(8)
        model = nn.Sequential(nn.Linear(6, 6), nn.Dropout(0.5), nn.Linear(6, 3)).double()
        model, optimizer, _ = dt.distribute(model, optim.Adam(model.parameters()), micro_batches=V)
        checkpoint = dt.Checkpoint(directory, model=model, optimizer=optimizer)
        if steps > 3:
            checkpoint.restore()
        while optimizer.steps < steps:
            optimizer.zero_grad()
            model(dt.randn(4, 6, dtype=dt.float64)).sum().backward()
            optimizer.step()
        if steps == 3:
            checkpoint.save()
        return weights(model)

    straight = train(6)
    train(3)
    assert train(6).tobytes() == straight.tobytes()


# what differs between ranks and must not


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lr": 0.5}, "optimizer 0, group 0: lr is 0.1 on rank 0 and 0.5 on rank 1"),
        ({"rule": optim.Adam}, "the class of optimizer 0 is 'SGD' on rank 0 and 'Adam' on rank 1"),
        ({"reverse": True}, r"the parameters of optimizer 0 is \['0.weight', '0.bias'\] on rank 0 and \['0.bias'"),
        ({"count": 30}, "the loader's dataset_length is 20 on rank 0 and 30 on rank 1"),
        ({"micro_batches": 9}, "micro_batches is 5 on rank 0 and 9 on rank 1"),
        ({"reduction": "sum"}, "reduction is 'mean' on rank 0 and 'sum' on rank 1"),
        ({"loader": None}, "the loader is 'DataLoader' on rank 0 and None on rank 1"),
    ],
    ids=str,
)
def test_ranks_that_are_set_up_differently(comm, change, message):
    def set_up(lr=0.1, rule=optim.SGD, reverse=False, count=20, micro_batches=V, reduction="mean", loader=DataLoader):
        model = model64(6, 3)
        parameters = list(model.parameters())[:: -1 if reverse else 1]
        loader = loader and loader(dataset(count), 10)
        dt.distribute(model, rule(parameters, lr=lr), loader, micro_batches=micro_batches, reduction=reduction)

    if comm.size > 1:
        with pytest.raises(ValueError, match=message):
            set_up(**change if comm.rank == 1 else {})


def test_drift_of_hyper_parameters_and_running_statistics(comm):
    model, optimizer, loader = with_batch_norm(V)
    for inputs, targets in loader:
        plain_step(model, optimizer, inputs, targets)
    optimizer._driver.check_drift()
    if comm.size > 1:
        model(dataset(3 + comm.rank).tensors[0])  # evaluation that forgets model.eval()
        with pytest.raises(RuntimeError, match=r"the buffer '0\.running_mean' on rank\(s\) .* differs.*model\.eval\(\)"):
            optimizer._driver.check_drift()
        optimizer.param_groups[0]["lr"] = 0.1 + comm.rank
        with pytest.raises(RuntimeError, match=r"group 0: lr of the optimizer is 0\.1 on rank 0 and 1\.1 on rank 1"):
            optimizer._driver.check_drift()


@pytest.mark.parametrize("value", [-1.0, math.nan, math.inf])
def test_weights_that_are_none(value):
    model = model64(6, 3)
    optimizer = optim.SGD(model.parameters())
    model, optimizer, loader = dt.distribute(model, optimizer, DataLoader(dataset(20), 20), micro_batches=V, weight=lambda batch: value)
    with pytest.raises(ValueError, match=rf"weight\(batch\) is {value} for micro-batch \d of 4 samples"):
        next(iter(loader))


def test_what_is_no_loader_or_number():
    model = model64(6, 3)
    optimizer = optim.SGD(model.parameters())
    with pytest.raises(TypeError, match=r"needs a DataLoader of dist_train\.utils\.data, not a list"):
        dt.distribute(model, optimizer, [1, 2])
    with pytest.raises(TypeError, match="micro_batches='8': expected an int"):
        dt.distribute(model, optimizer, micro_batches="8")
    with pytest.raises(ValueError, match="needs a Module, or a list of at least one"):
        dt.distribute([], optimizer)
    _, _, loader = dt.distribute(model, optimizer, DataLoader(dataset(8), 8), micro_batches=V)
    with pytest.raises(TypeError, match="the loader has been distributed before"):
        dt.distribute(model64(6, 3), optimizer, loader)


def test_zeroed_gradients_leave_frozen_parameters_alone():
    """As in torch, zero_grad(set_to_none=False) makes no gradient where there was none: weight decay would change the parameter."""
    data = dataset(8)
    alone, spread = model64(6, 5, 3), model64(6, 5, 3)
    reference = optim.AdamW(alone.parameters(), weight_decay=0.1)
    optimizer = optim.AdamW(spread.parameters(), weight_decay=0.1)
    spread, optimizer, loader = dt.distribute(spread, optimizer, DataLoader(data, 8), micro_batches=V)
    for _ in range(3):
        for model in (alone, spread):
            model[0].requires_grad_(False)
        reference.zero_grad(set_to_none=False)
        F.mse_loss(alone(data.tensors[0]), data.tensors[1]).backward()
        reference.step()
        for inputs, targets in loader:
            optimizer.zero_grad(set_to_none=False)
            F.mse_loss(spread(inputs), targets).backward()
            optimizer.step()
    np.testing.assert_allclose(weights(spread), weights(alone), rtol=1e-10)


# evaluation, and torch's DistributedDataParallel


@pytest.mark.parametrize("count", [1, 7, 40])
def test_split_gives_each_batch_once(comm, count):
    batches = dt.distributed.split(DataLoader(TensorDataset(dt.arange(count)), 3))
    seen = []
    for (values,) in batches:
        seen += values.tolist()
        batches.add(float(np.sin(values.numpy()).sum()), len(values))
    everyone = comm.all_gather_object(seen)
    assert sorted(value for rank in everyone for value in rank) == list(range(count))
    total, number = batches.totals()
    assert number == count
    assert total == sum(float(np.sin(np.arange(i, min(i + 3, count))).sum()) for i in range(0, count, 3))


def test_distributed_data_parallel(comm):
    data = dataset(2 * comm.size)
    inner = model64(6, 9, 3)
    model = nn.parallel.DistributedDataParallel(inner)
    own = slice(2 * comm.rank, 2 * comm.rank + 2)
    F.mse_loss(model(data.tensors[0][own]), data.tensors[1][own]).backward()
    gradient = np.concatenate([p.grad.numpy().reshape(-1) for p in model.parameters()])
    np.testing.assert_allclose(gradient, whole_batch_gradient(data)[0], rtol=1e-12, atol=1e-14)
    with model.no_sync():
        F.mse_loss(model(data.tensors[0][own]), data.tensors[1][own]).backward()
    F.mse_loss(model(data.tensors[0][own]), data.tensors[1][own]).backward()
    gradient = np.concatenate([p.grad.numpy().reshape(-1) for p in model.parameters()])
    np.testing.assert_allclose(gradient, 3 * whole_batch_gradient(data)[0], rtol=1e-11, atol=1e-14)
    norm = nn.utils.clip_grad_norm_(model.parameters(), 1e-3)
    assert norm.item() == pytest.approx(float(np.linalg.norm(gradient)))
    optim.SGD(model.parameters(), lr=0.1).step()
    assert len({row.tobytes() for row in comm.all_gather(weights(inner))}) == 1


def test_a_copy_of_distributed_data_parallel(comm):
    model = nn.parallel.DistributedDataParallel(model64(6, 3))
    other = copy.deepcopy(model)
    x = dt.ones(2, 6, dtype=dt.float64) * (comm.rank + 1)
    for item in (model, other):
        item(x).sum().backward()
        assert item.module[0].weight.grad.tolist() == [[comm.size + 1.0] * 6] * 3
    assert other.module[0].weight is not model.module[0].weight


def test_distribute_and_distributed_data_parallel_exclude_each_other():
    model = nn.parallel.DistributedDataParallel(model64(6, 3))
    with pytest.raises(ValueError, match=r"'module\.0\.weight' is in a DistributedDataParallel, .* pass the module inside"):
        dt.distribute(model, optim.SGD(model.parameters()))
    spread = model64(6, 3)
    dt.distribute(spread, optim.SGD(spread.parameters()))
    with pytest.raises(RuntimeError, match=r"'0\.weight' is under dist_train\.distribute, .* leave DistributedDataParallel out"):
        nn.parallel.DistributedDataParallel(spread)


# shared memory


@pytest.mark.filterwarnings("ignore:/dev/shm has no room")
def test_without_room_in_shared_memory_messages_are_used(comm, monkeypatch, recwarn):
    """The result is the same; rank 0 says so, once."""
    monkeypatch.setattr("dist_train.comm.node._RESERVE", 2**60)
    monkeypatch.setattr(comm, "_said", False, raising=False)
    data = dataset(11)
    gradient, optimizer = one_step(data, 11)
    np.testing.assert_allclose(gradient, whole_batch_gradient(data)[0], rtol=1e-12, atol=1e-14)
    assert optimizer._driver.flats[0].layout.node.size == 1
    one_step(data, 11)
    shares = comm.size > 1 and comm.size % int(os.environ.get("DIST_TRAIN_NODE_SIZE", comm.size)) == 0
    shares = shares and os.environ.get("DIST_TRAIN_NODE_SIZE") != "1"
    said = [str(warning.message) for warning in recwarn if "/dev/shm has no room" in str(warning.message)]
    assert len(said) == (1 if shares and comm.rank == 0 else 0)


def test_shared_memory_has_no_name(comm):
    """So nothing is left behind, however the job ends."""
    model = model64(6, 9, 3)
    dt.distribute(model, optim.SGD(model.parameters()))
    comm.barrier()
    assert not [name for name in os.listdir("/dev/shm") if name.startswith(f"dist_train-{os.getpid()}-")]
