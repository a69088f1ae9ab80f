"""Accumulation: one zero_grad() for several backward() calls equals the larger batch.

    python examples/accumulate.py
    mpirun -n 2 python examples/accumulate.py
    dist-train run -n 4 examples/accumulate.py

First as in torch, where each small batch's mean loss has to be scaled by hand. Then with `dt.distribute`: `micro_batches`
cuts the loader's batch, on one rank or on several, the loop stays the textbook's, and the mean is exact although 30
samples do not divide by 4.
"""

import numpy as np

import dist_train as dt
from dist_train import nn, optim
from dist_train.utils.data import DataLoader, TensorDataset

BATCH = 30
MICRO_BATCHES = 4  # of 7, 8, 7 and 8 samples


def data() -> TensorDataset:
    dt.manual_seed(0)
    return TensorDataset(dt.randn(BATCH, 5), dt.randint(0, 3, (BATCH,)))


def make_model() -> nn.Module:
    dt.manual_seed(1)
    return nn.Sequential(nn.Linear(5, 16), nn.Tanh(), nn.Linear(16, 3))


def gradients(model: nn.Module) -> list[np.ndarray]:
    return [parameter.grad.numpy() for parameter in model.parameters()]


def whole_batch(x: dt.Tensor, labels: dt.Tensor) -> list[np.ndarray]:
    """One backward over all samples."""
    model = make_model()
    nn.functional.cross_entropy(model(x), labels).backward()
    return gradients(model)


def accumulated(x: dt.Tensor, labels: dt.Tensor) -> list[np.ndarray]:
    """Three backward calls over ten samples each: `.grad` adds up what they bring."""
    model = make_model()
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    optimizer.zero_grad()
    for start in range(0, BATCH, 10):
        part = slice(start, start + 10)
        loss = nn.functional.cross_entropy(model(x[part]), labels[part])
        (loss * 10 / BATCH).backward()
    return gradients(model)


def trained(dataset: TensorDataset, micro_batches: int | None) -> list[np.ndarray]:
    """The weights after 20 steps, whole (None) or in micro-batches under dt.distribute."""
    model = make_model()
    optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    loader = DataLoader(dataset, batch_size=BATCH, shuffle=True)
    if micro_batches is not None:
        model, optimizer, loader = dt.distribute(model, optimizer, loader, micro_batches=micro_batches)
    for _ in range(20):
        for x, labels in loader:
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), labels).backward()
            optimizer.step()
    return [parameter.detach().numpy() for parameter in model.parameters()]


def compare(what: str, one: list[np.ndarray], other: list[np.ndarray]) -> None:
    """Print the largest difference, and end with an error when it is more than rounding."""
    difference = max(float(abs(a - b).max()) for a, b in zip(one, other, strict=True))
    if dt.distributed.get_rank() == 0:
        print(f"{what}: largest difference {difference:.1e}")
    if not difference < 1e-5:
        raise SystemExit(f"{what}: the largest difference is {difference:.3g}, more than rounding")


def main() -> None:
    dataset = data()
    compare("gradient, 3 backward calls or one", accumulated(*dataset.tensors), whole_batch(*dataset.tensors))
    compare(f"weights, {MICRO_BATCHES} micro-batches or one", trained(dataset, MICRO_BATCHES), trained(dataset, None))


if __name__ == "__main__":
    main()
