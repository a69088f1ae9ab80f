"""An epoch of MNIST at batch 128, shuffled and normalised, from the published files: our loader, PyTorch's, and a training epoch.

    DIST_TRAIN_DATA=<folder with mnist/> python benchmarks/data.py
    python benchmarks/data.py --root <folder of the files> --rounds 9 --json data.json

PyTorch reads the same arrays, normalised when a sample is asked for (a plain Dataset), or before anything is timed (a TensorDataset).
"whole batches" is what PyTorch can do when the program leaves its loader's habits: a sampler of batches and one indexed copy. The ratio
is ours without threads ÷ that row. "Share" is the time of an epoch's loading, on its own, in that of the training epoch of the same row;
"longer" is what the training epoch takes more than over a loader that gives one batch again and again. The last lines set one and the same
loading, at batch 128 without threads, against the training epoch at batch 64 and at batch 128.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import report

import dist_train as dt
from dist_train.backend import native
from dist_train.utils.data import DataLoader, Dataset
from dist_train.vision import transforms
from dist_train.vision.datasets import MNIST

MEAN, STD = 0.1307, 0.3081
BATCH = 128
TRAINED = ((64, 0), (128, 0), (64, 1), (128, 1))  # batch sizes and workers of the training epochs
Epoch = Callable[[], float]


class Same(Dataset):
    """Of the same length, always the same batch."""

    def __init__(self, dataset: Any, batch: Any) -> None:
        self.length, self.batch = len(dataset), batch

    def __len__(self) -> int:
        return self.length

    def batch_at(self, indices: Any) -> Any:
        return self.batch


def seconds(batches: Iterable[Any]) -> float:
    start = time.perf_counter()
    for _inputs, _labels in batches:
        pass
    return time.perf_counter() - start


def ours(dataset: Any) -> dict[str, Epoch]:
    loaders = {number: DataLoader(dataset, BATCH, shuffle=True, num_workers=number) for number in (0, 1, 2)}
    return {_named("dist_train", number): lambda loader=loader: seconds(loader) for number, loader in loaders.items()}


def pytorch(torch: Any, dataset: Any) -> dict[str, Epoch]:
    data, images, labels = torch.utils.data, dataset.data.numpy(), dataset.targets.numpy()

    def normalized(pixels: Any) -> Any:
        return torch.from_numpy(pixels).float().div_(255).sub_(MEAN).div_(STD)

    class Samples(data.Dataset):  # type: ignore[name-defined,misc]
        def __len__(self) -> int:
            return len(images)

        def __getitem__(self, index: int) -> Any:
            return normalized(images[index][None]), int(labels[index])

    class Batches(Samples):
        def __getitem__(self, index: list[int]) -> Any:
            return normalized(images[index][:, None]), torch.from_numpy(labels[index])

    tensors = data.TensorDataset(normalized(images[:, None]), torch.from_numpy(labels))
    found = {}
    for number in (0, 2):
        for name, source in (("Dataset", Samples()), ("TensorDataset", tensors)):
            loader = data.DataLoader(source, BATCH, shuffle=True, num_workers=number)
            found[_named(f"torch, {name}", number)] = lambda loader=loader: seconds(loader)
    batches = data.BatchSampler(data.RandomSampler(range(len(images))), BATCH, False)
    loader = data.DataLoader(Batches(), sampler=batches, batch_size=None)
    return {**found, "torch, whole batches": lambda: seconds(loader)}


def _named(name: str, num_workers: int) -> str:
    return f"{name}, {num_workers} worker{'s' * (num_workers > 1)}" if num_workers else name


def training(dataset: Any, batch: int, num_workers: int) -> dict[str, Epoch]:
    """Epochs of 784-28-10: the loading alone, training, and training on a batch that needs no loading."""
    nn = dt.nn
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 28), nn.ReLU(), nn.Linear(28, 10))
    loader = DataLoader(dataset, batch, shuffle=True, num_workers=num_workers)
    same = DataLoader(Same(dataset, next(iter(loader))), batch, shuffle=True)
    model, optimizer, steps = dt.distribute(model, dt.optim.Adam(model.parameters(), lr=1e-4), loader)
    criterion = nn.CrossEntropyLoss()

    def epoch(source: Any) -> float:
        steps.loader = source
        start = time.perf_counter()
        for inputs, labels in steps:
            optimizer.zero_grad()
            criterion(model(inputs), labels).backward()
            optimizer.step()
        return time.perf_counter() - start

    epochs = {"loading": lambda: seconds(loader), "training": lambda: epoch(loader), "same": lambda: epoch(same)}
    return {f"{name} {batch} {num_workers}": measure for name, measure in epochs.items()}


def loading_rows(medians: dict[str, float]) -> list[dict[str, Any]]:
    own = medians["dist_train"]
    names = [name for name in medians if "dist_train" in name or "torch" in name]
    return [{"loader": name, "milliseconds": medians[name] * 1e3, "ratio": own / medians[name]} for name in names]


def training_row(medians: dict[str, float], batch: int, num_workers: int) -> dict[str, Any]:
    loading, trained, same = (medians[f"{what} {batch} {num_workers}"] for what in ("loading", "training", "same"))
    figures = {"loading": loading * 1e3, "training": trained * 1e3, "share": loading / trained, "longer": trained / same - 1}
    return {"batch": batch, "workers": num_workers, **figures}


def shares(medians: dict[str, float]) -> dict[str, float]:
    """The epoch's loading at batch 128 in the training epochs of either batch size, all without threads."""
    loading = medians[f"loading {BATCH} 0"]
    return {f"loading at batch {BATCH} ÷ training at batch {batch}": loading / medians[f"training {batch} 0"] for batch in (64, BATCH)}


def folder(given: Path | None) -> Path:
    root = given or (Path(os.environ["DIST_TRAIN_DATA"]) / "mnist" if "DIST_TRAIN_DATA" in os.environ else None)
    if root is None:
        raise SystemExit("data.py reads MNIST's files: give --root, or DIST_TRAIN_DATA=<folder that holds mnist/>")
    return root


def main() -> None:
    parser = report.parser(__doc__, rounds=9)
    parser.add_argument("--root", type=Path, help="the folder with MNIST's four files (default: $DIST_TRAIN_DATA/mnist)")
    args = parser.parse_args()
    transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize((MEAN,), (STD,))])
    dataset = MNIST(folder(args.root), transform=transform)
    torch = report.join_torch()
    times = report.rounds_of({**ours(dataset), **(pytorch(torch, dataset) if torch else {})}, args.rounds)
    for with_workers in (False, True):
        settings = [setting for setting in TRAINED if bool(setting[1]) == with_workers]
        epochs = {name: epoch for setting in settings for name, epoch in training(dataset, *setting).items()}
        with report.one_core(not with_workers):
            times |= report.rounds_of(epochs, args.rounds)
    medians = {name: statistics.median(values) for name, values in times.items()}
    loading, trained = loading_rows(medians), [training_row(medians, *setting) for setting in TRAINED]
    print(f"an epoch of MNIST at batch {BATCH}, milliseconds, median of {args.rounds} interleaved rounds")
    print(report.table([["loader", "ms", "ratio"], *([row["loader"], row["milliseconds"], row["ratio"]] for row in loading)]))
    print("\n784-28-10, Adam, milliseconds an epoch")
    print(report.table([list(trained[0]), *(list(row.values()) for row in trained)]))
    print("\n" + "\n".join(f"{name}: {share:.1%}" for name, share in shares(medians).items()))
    report.write(args.json, loading, training=trained, shares=shares(medians), seconds=times, kernels=native.describe())


if __name__ == "__main__":
    main()
