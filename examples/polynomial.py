"""y = 5x² + 3 found from random points by Adam: training on data made on the fly, on any number of ranks.

    python examples/polynomial.py
    mpirun -n 2 python examples/polynomial.py
    dist-train run -n 4 examples/polynomial.py

There is no data set and no loader. A step has 100 new points, in 4 micro-batches of 25, and each rank makes those of
its own micro-batches: random numbers depend on the step and the micro-batch, never on the rank, so 1, 2, 3 and 4 ranks
see the same points and print the same weights.
"""

import argparse

import dist_train as dt
from dist_train import nn, optim

MICRO_BATCHES = 4
POINTS = 100  # a step
TRUTH = [5.0, 0.0, 3.0]  # of x², x and 1


def features(x: dt.Tensor) -> dt.Tensor:
    """(n, 1) to (n, 3): x², x, 1."""
    return dt.cat([x**2, x, dt.ones_like(x)], dim=1)


def main() -> None:
    parser = argparse.ArgumentParser(description="fit y = 5x² + 3 on random points")
    parser.add_argument("--steps", type=int, default=1000)
    args = parser.parse_args()

    dt.manual_seed(0)
    model = nn.Linear(3, 1, bias=False)
    optimizer = optim.Adam(model.parameters(), lr=0.1)
    model, optimizer, _ = dt.distribute(model, optimizer, micro_batches=MICRO_BATCHES)
    is_first = dt.distributed.get_rank() == 0

    while optimizer.steps < args.steps:
        x = dt.randn(POINTS // MICRO_BATCHES, 1)
        loss = nn.functional.mse_loss(model(features(x)), 5 * x**2 + 3)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if is_first and optimizer.stepped and optimizer.steps % 100 == 0:
            print(f"step {optimizer.steps}: loss {optimizer.loss:.3g}")

    weight = model.weight.detach().numpy().ravel().tolist()
    if is_first:
        print(f"w = {weight}")
    if any(abs(value - truth) > 1e-3 for value, truth in zip(weight, TRUTH)):
        raise SystemExit(f"w = {weight}, expected {TRUTH}")


if __name__ == "__main__":
    main()
