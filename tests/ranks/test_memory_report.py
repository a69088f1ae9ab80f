"""`memory_report` over ranks: what a node holds is the formula, whatever the layout."""

import os

import pytest

import dist_train as dt
from dist_train import nn, optim

WIDTH = 300
PSI = WIDTH * WIDTH + WIDTH  # one linear layer


def trained(optimizer_of, steps=1, **options):
    dt.manual_seed(0)
    model = nn.Linear(WIDTH, WIDTH)
    model, optimizer, _ = dt.distribute(model, optimizer_of(model.parameters()), **options)
    inputs = dt.randn(8, WIDTH)
    for _ in range(steps):
        while True:
            optimizer.zero_grad()
            model(inputs).square().mean().backward()
            optimizer.step()
            if optimizer.stepped:
                break
    return model, optimizer


OPTIMIZERS = [
    (optim.Adam, 2),
    (optim.SGD, 0),
    (lambda parameters: optim.SGD(parameters, momentum=0.9), 1),
    (lambda parameters: optim.Adam(parameters, amsgrad=True), 3),
]


@pytest.mark.parametrize(("optimizer_of", "vectors"), OPTIMIZERS)
def test_a_node_holds_what_the_formula_says(comm, optimizer_of, vectors):
    _, optimizer = trained(optimizer_of)
    report = dt.memory_report(optimizer)
    nodes = optimizer._driver.flats[0].layout.nodes
    here = len(next(ranks for ranks in nodes if comm.rank in ranks))
    assert here == min(int(os.environ.get("DIST_TRAIN_NODE_SIZE", comm.size)), comm.size)
    expected = {"parameters": 4 * PSI, "gradients": 4 * PSI * here, "state": 4 * vectors * PSI * here / comm.size}
    padding = 4 * 1024 * max(1, vectors) * here + 64 * 2  # a block each
    for name, size in expected.items():
        part = getattr(report, name)
        assert part.formula == pytest.approx(size, abs=1), name
        assert size <= part.node + padding and part.node <= size + padding, name
    assert report.parameters.rank == pytest.approx(report.parameters.node / here, abs=1)


def test_partial_sums_count_as_gradients(comm):
    micro_batches = 5
    _, optimizer = trained(optim.SGD, micro_batches=micro_batches)
    vectors = [len(own) for own in optimizer._driver.flats[0].vectors]
    assert dt.memory_report(optimizer).gradients.formula == 4 * PSI * sum(vectors)


def test_activations_are_measured_on_every_rank(comm):
    model, optimizer = trained(optim.Adam)
    with dt.memory_report(optimizer) as report:
        optimizer.zero_grad()
        model(dt.zeros(100 + 100 * comm.rank, WIDTH)).square().mean().backward()
        optimizer.step()
    assert report.activations.rank >= 2 * 4 * WIDTH * (100 + 100 * comm.rank)
    shares = comm.all_gather_object((optimizer._driver.flats[0].layout.lane.rank, report.activations.rank))
    own = shares[comm.rank][0]
    assert report.activations.node == sum(size for node, size in shares if node == own)
