"""Linear regression on 500 points of y = 3x + 0.8: by hand on `.data` and `.grad`, then with nn.Linear and an optimizer.

    python examples/linear_regression.py
    python examples/linear_regression.py --plot line.png --steps 500

Draws truth and prediction (needs matplotlib, which comes with the extra `examples`).
"""

import argparse
from pathlib import Path

import dist_train as dt
from dist_train import nn, optim

SLOPE, INTERCEPT = 3.0, 0.8
LEARNING_RATE = 0.3


def by_hand(x: dt.Tensor, y: dt.Tensor, steps: int) -> tuple[float, float]:
    """Gradient descent with nothing but backward(): `.grad` is what to subtract, `.data` is where."""
    slope = dt.zeros(1, requires_grad=True)
    intercept = dt.zeros(1, requires_grad=True)
    for step in range(1, steps + 1):
        loss = ((slope * x + intercept - y) ** 2).mean()
        for parameter in (slope, intercept):
            parameter.grad = None
        loss.backward()
        for parameter in (slope, intercept):
            parameter.data -= LEARNING_RATE * parameter.grad.data
        report(step, steps, loss)
    return slope.item(), intercept.item()


def with_linear(x: dt.Tensor, y: dt.Tensor, steps: int) -> tuple[float, float]:
    """The same with a layer, a loss and an optimizer."""
    model = nn.Linear(1, 1)
    criterion = nn.MSELoss()
    optimizer = optim.SGD(model.parameters(), lr=LEARNING_RATE)
    for step in range(1, steps + 1):
        loss = criterion(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        report(step, steps, loss)
    return model.weight.item(), model.bias.item()


def report(step: int, steps: int, loss: dt.Tensor) -> None:
    if step == 1 or step % 200 == 0 or step == steps:
        print(f"  step {step}: loss {loss.item():.3g}")


def check(slope: float, intercept: float) -> None:
    """End with an error unless the fit is the line that made the points."""
    if abs(slope - SLOPE) > 1e-3 or abs(intercept - INTERCEPT) > 1e-3:
        raise SystemExit(f"fitted y = {slope:.4f}x + {intercept:.4f}, expected y = {SLOPE}x + {INTERCEPT}")


def draw(path: Path, x: dt.Tensor, y: dt.Tensor, fits: dict[str, tuple[float, float]]) -> None:
    """Truth and predictions into an image file."""
    try:
        import matplotlib
    except ModuleNotFoundError:
        print('no plot: matplotlib is missing; it comes with: pip install "dist-train[examples]"')
        return
    matplotlib.use("Agg")  # draws into files and needs no display
    from matplotlib import pyplot

    _, axes = pyplot.subplots()
    axes.scatter(x.numpy(), y.numpy(), s=8, color="lightgrey", label="truth")
    for (name, (slope, intercept)), style in zip(fits.items(), ["-", ":"]):
        axes.plot([0, 1], [intercept, slope + intercept], style, linewidth=2, label=f"prediction {name}")
    axes.set(xlabel="x", ylabel="y")
    axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    pyplot.savefig(path)
    print(f"plot in {path}")


def main() -> None:
    parser = argparse.ArgumentParser(description="linear regression, by hand and with nn.Linear")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--plot", type=Path, default=Path("runs/linear_regression.png"), metavar="FILE")
    args = parser.parse_args()

    dt.manual_seed(0)
    x = dt.rand(500, 1)
    y = SLOPE * x + INTERCEPT
    fits = {}
    for name, fit in [("by hand", by_hand), ("with nn.Linear", with_linear)]:
        print(name)
        fits[name] = fit(x, y, args.steps)
        print("  y = {:.4f}x + {:.4f}".format(*fits[name]))
    draw(args.plot, x, y, fits)
    for slope, intercept in fits.values():
        check(slope, intercept)


if __name__ == "__main__":
    main()
