"""Seven ways down one slope: batch, stochastic and mini-batch descent, momentum, AdaGrad, RMSProp and Adam.

    python examples/optimizers.py
    python examples/optimizers.py --plot curves.png --epochs 20

All fit the same line to the same 200 noisy points from the same start. The curves of their losses come into one plot
(needs matplotlib, which comes with the extra `examples`).
"""

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

import dist_train as dt
from dist_train import nn, optim
from dist_train.utils.data import DataLoader, TensorDataset

NUM_POINTS, NOISE = 200, 0.1

# name: (batch size, optimizer)
METHODS: dict[str, tuple[int, Callable[[Iterator[nn.Parameter]], optim.Optimizer]]] = {
    "batch": (NUM_POINTS, lambda params: optim.SGD(params, lr=0.3)),
    "stochastic": (1, lambda params: optim.SGD(params, lr=0.01)),
    "mini-batch": (20, lambda params: optim.SGD(params, lr=0.1)),
    "momentum": (20, lambda params: optim.SGD(params, lr=0.02, momentum=0.9)),
    "AdaGrad": (20, lambda params: optim.Adagrad(params, lr=0.5)),
    "RMSProp": (20, lambda params: optim.RMSprop(params, lr=0.02)),
    "Adam": (20, lambda params: optim.Adam(params, lr=0.1)),
}


def points() -> TensorDataset:
    """y = 3x + 0.8 with noise."""
    dt.manual_seed(0)
    x = dt.randn(NUM_POINTS, 1)
    return TensorDataset(x, 3 * x + 0.8 + NOISE * dt.randn(NUM_POINTS, 1))


def whole_loss(model: nn.Module, dataset: TensorDataset) -> float:
    """The loss over all points."""
    x, y = dataset.tensors
    with dt.no_grad():
        return nn.functional.mse_loss(model(x), y).item()


def train(name: str, dataset: TensorDataset, epochs: int) -> list[float]:
    """The loss before training and after each epoch."""
    batch_size, make_optimizer = METHODS[name]
    dt.manual_seed(1)  # the same start and the same order for all
    model = nn.Linear(1, 1)
    optimizer = make_optimizer(model.parameters())
    loader = DataLoader(dataset, batch_size=batch_size, shuffle=True)
    losses = [whole_loss(model, dataset)]
    for _ in range(epochs):
        for x, y in loader:
            optimizer.zero_grad()
            nn.functional.mse_loss(model(x), y).backward()
            optimizer.step()
        losses.append(whole_loss(model, dataset))
    return losses


def least_squares_loss(dataset: TensorDataset) -> float:
    """The smallest loss that any line has on these points."""
    x, y = (tensor.numpy().ravel().astype(np.float64) for tensor in dataset.tensors)
    return float(np.mean((np.polyval(np.polyfit(x, y, 1), x) - y) ** 2))


def check(name: str, losses: list[float], best: float) -> None:
    """End with an error unless the method came close to the best line."""
    if not losses[-1] < 1.2 * best:
        raise SystemExit(f"{name}: the loss went from {losses[0]:.4g} to {losses[-1]:.4g}, the best line has {best:.4g}")


def draw(path: Path, curves: dict[str, list[float]], best: float) -> None:
    """The curves above the best loss into an image file."""
    try:
        import matplotlib
    except ModuleNotFoundError:
        print('no plot: matplotlib is missing; it comes with: pip install "dist-train[examples]"')
        return
    matplotlib.use("Agg")  # draws into files and needs no display
    from matplotlib import pyplot

    _, axes = pyplot.subplots()
    for name, losses in curves.items():
        axes.plot(losses, label=name)
    axes.axhline(best, color="black", linestyle=":", label="best line")
    axes.set(xlabel="epoch", ylabel="mean squared error", yscale="log")
    axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    pyplot.savefig(path)
    print(f"plot in {path}")


def main() -> None:
    parser = argparse.ArgumentParser(description="compare seven ways of descent")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--plot", type=Path, default=Path("runs/optimizers.png"), metavar="FILE")
    args = parser.parse_args()

    dataset = points()
    best = least_squares_loss(dataset)
    print(f"{'method':<12}{'batch':>6}{'start':>10}{'epoch 1':>10}{'end':>10}   (best line: {best:.5f})")
    curves = {}
    for name, (batch_size, _) in METHODS.items():
        losses = curves[name] = train(name, dataset, args.epochs)
        print(f"{name:<12}{batch_size:>6}{losses[0]:>10.5f}{losses[1]:>10.5f}{losses[-1]:>10.5f}")
    draw(args.plot, curves, best)
    for name, losses in curves.items():
        check(name, losses, best)


if __name__ == "__main__":
    main()
