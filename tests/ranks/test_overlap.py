"""Reduction while backward runs: the same bits with and without it, and what would change gradients that are on their way."""

import itertools

import numpy as np
import pytest

import dist_train as dt
from dist_train import nn, optim

LARGE = (6, 300, 200, 3)  # a tensor of 60 000 elements in the middle: two buckets or more
BATCH = 4


@pytest.fixture(autouse=True)
def small_buckets(monkeypatch):
    monkeypatch.setenv("DIST_TRAIN_BUCKET_BYTES", str(2**16))


def build(sizes=LARGE, micro_batches=None, rule=optim.Adam):
    dt.manual_seed(3)
    layers = [layer for a, b in itertools.pairwise(sizes) for layer in (nn.Linear(a, b), nn.Tanh())]
    model = nn.Sequential(*layers[:-1])
    model, optimizer, _ = dt.distribute(model, rule(model.parameters(), lr=0.01), micro_batches=micro_batches)
    return model, optimizer


def losses_of(model, number, calls=1):
    """The losses of a micro-batch: as many as there are backward() calls."""
    rng = np.random.default_rng(number)
    inputs = dt.tensor(rng.standard_normal((calls, BATCH, 6)).astype(np.float32))
    return [(model(inputs[i]) ** 2).mean() for i in range(calls)]


def weights(model):
    return b"".join(p.detach().numpy().tobytes() for p in model.parameters())


def train(comm, model, optimizer, micro_batches, calls=1, steps=4, clip=False):
    """Returns how many buckets were under way before each step()."""
    early = []
    lo, hi = comm.rank * micro_batches // comm.size, (comm.rank + 1) * micro_batches // comm.size
    for step, leaf in itertools.product(range(steps), range(lo, hi)):
        optimizer.zero_grad()
        for loss in losses_of(model, step * micro_batches + leaf, calls):
            loss.backward()
        overlap = optimizer._driver._overlap
        early.append(len(optimizer._driver.flats) - overlap.waiting)
        if clip:
            nn.utils.clip_grad_norm_(model.parameters(), 0.01)
        optimizer.step()
    return early


@pytest.mark.parametrize("clip", [False, True], ids=["plain", "clip"])
@pytest.mark.parametrize("calls", [1, 2])
@pytest.mark.parametrize("rounds", [1, 3])
def test_the_same_bits_with_and_without(comm, monkeypatch, rounds, calls, clip):
    results = []
    for overlap in ("1", "0"):
        monkeypatch.setenv("DIST_TRAIN_OVERLAP", overlap)
        micro_batches = rounds * comm.size
        model, optimizer = build(micro_batches=micro_batches)
        early = train(comm, model, optimizer, micro_batches, calls, clip=clip)
        results.append((weights(model), optimizer.loss))
        if optimizer._driver.overlaps:
            assert len(optimizer._driver.flats) > 1
            expected = [len(optimizer._driver.flats) if leaf == rounds - 1 else 0 for leaf in range(rounds)] * 4
            assert early == expected if rounds > 1 else early == [0, *expected[1:]]  # the first micro-batch has to be seen whole
        else:
            assert not any(early)
    assert results[0] == results[1]


def test_parameters_without_a_gradient_wait_for_the_step(comm):
    """The first layer is frozen, which does not count; the last one is not used, and everything waits for it."""
    model, optimizer = build((6, 300, 200, 3))
    model[0].weight.requires_grad_(False)
    for used in (True, True, False):
        optimizer.zero_grad()
        (model(dt.ones(2, 6)) if used else model[:4](dt.ones(2, 6))).sum().backward()
        early = optimizer._driver._overlap.waiting
        optimizer.step()
    assert early == len(optimizer._driver.flats)
    optimizer._driver.check_drift()


def started(comm):
    """A model after a step, and whether the next backward() sends gradients away."""
    model, optimizer = build(micro_batches=comm.size)
    train(comm, model, optimizer, comm.size, steps=1)
    return model, optimizer, optimizer._driver.overlaps


def second_backward(model, optimizer):
    losses_of(model, 8)[0].backward()


def zero(model, optimizer):
    optimizer.zero_grad()


def by_hand(model, optimizer):
    model[0].bias.grad = dt.ones(300)
    optimizer.step()


@pytest.mark.parametrize(
    ("change", "message"),
    [(second_backward, r"backward\(\) number 2 in a micro-batch, after at most 1"), (zero, r"zero_grad\(\)"), (by_hand, "set by hand")],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_changes_gradients_that_are_on_their_way(comm, change, message):
    model, optimizer, overlaps = started(comm)
    losses_of(model, 7)[0].backward()
    if overlaps:
        with pytest.raises(RuntimeError, match=message + r"(.|\n)*DIST_TRAIN_OVERLAP=0"):
            change(model, optimizer)
        optimizer._driver.leave()
    else:
        change(model, optimizer)


def test_fewer_calls_than_before_are_no_error(comm):
    model, optimizer = build(micro_batches=comm.size)
    train(comm, model, optimizer, comm.size, calls=2, steps=2)
    assert not any(train(comm, model, optimizer, comm.size, calls=1, steps=2))
    optimizer._driver.check_drift()


def test_a_step_that_is_left_out_after_backward(comm):
    """All ranks leave it out; the next one is right."""
    model, optimizer, _ = started(comm)
    alone, reference, _ = started(comm)
    losses_of(model, 7)[0].backward()
    optimizer._driver.schedule.leave()
    optimizer._driver.free_running.restart(optimizer.steps)
    train(comm, model, optimizer, comm.size, steps=2)
    train(comm, alone, reference, comm.size, steps=2)
    assert weights(model) == weights(alone)
