"""A real model in a few seconds: scikit-learn's 1797 handwritten digits, trained on any number of ranks up to 4.

    python examples/digits.py
    mpirun -n 2 python examples/digits.py
    dist-train run -n 4 --threads 1 examples/digits.py

A step has 64 samples, cut into 4 micro-batches. Their gradients are added in an order that the number of ranks does not
change, so with equal BLAS threads per rank the SHA-256 of the weights printed at the end is the same for 1, 2, 3 and 4
ranks. Stop the program and start it again, on another number of ranks if you like: it goes on from its checkpoint in
runs/digits and ends with the same weights. Delete that directory to train anew.

Needs scikit-learn, which comes with the extra `examples`.
"""

import argparse
import hashlib
from pathlib import Path

import numpy as np
from tqdm import tqdm

import dist_train as dt
from dist_train import nn, optim
from dist_train.utils.data import DataLoader, TensorDataset


def load_digits() -> tuple[TensorDataset, TensorDataset]:
    """1437 samples for training and 360, every fifth, for the test: 8 x 8 images with values from 0 to 1, and labels."""
    try:
        from sklearn import datasets
    except ModuleNotFoundError:
        raise SystemExit('scikit-learn is missing; it comes with: pip install "dist-train[examples]"') from None
    digits = datasets.load_digits()
    images, labels = (digits.images / 16).astype(np.float32), digits.target.astype(np.int64)
    is_test = np.arange(len(labels)) % 5 == 0
    return TensorDataset(images[~is_test], labels[~is_test]), TensorDataset(images[is_test], labels[is_test])


def make_model() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 256), nn.ReLU(), nn.Dropout(0.3), nn.Linear(256, 10))


def test(model: nn.Module, dataset: TensorDataset) -> tuple[int, int]:
    """How many of the samples the model gets right, and how many there are; each rank looks at a part of them."""
    batches = dt.distributed.split(DataLoader(dataset, batch_size=100))
    model.eval()
    with dt.no_grad():
        for images, labels in batches:
            batches.add((model(images).argmax(dim=1) == labels).sum(), len(labels))
    model.train()
    correct, count = batches.totals()
    return int(correct), int(count)


def weights_sha256(model: nn.Module) -> str:
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(name.encode() + tensor.detach().numpy().tobytes())
    return digest.hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(description="train on scikit-learn's handwritten digits")
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--run-dir", type=Path, default=Path("runs/digits"), help="where checkpoints go")
    parser.add_argument("--min-accuracy", type=float, default=96.0, help="percent; less is an error")
    args = parser.parse_args()

    dt.manual_seed(0)
    train_set, test_set = load_digits()
    model = make_model()
    optimizer = optim.Adam(model.parameters(), lr=3e-3)
    loader = DataLoader(train_set, batch_size=64, shuffle=True)
    model, optimizer, loader = dt.distribute(model, optimizer, loader, micro_batches=4)
    checkpoint = dt.Checkpoint(args.run_dir, model=model, optimizer=optimizer, loader=loader)
    checkpoint.restore()
    is_first = dt.distributed.get_rank() == 0
    if is_first and optimizer.steps:
        print(f"resumed at step {optimizer.steps}, after {loader.epoch} epochs", flush=True)

    epochs = tqdm(range(loader.epoch, args.epochs), desc="epochs", mininterval=1, disable=not is_first)
    for _ in epochs:
        for images, labels in loader:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(images), labels)
            loss.backward()
            optimizer.step()
        epochs.set_postfix(loss=f"{optimizer.loss:.4f}", refresh=False)
        checkpoint.save()

    correct, count = test(model, test_set)
    if is_first:
        print(f"Accuracy:{correct}/{count}({100 * correct / count:.2f}%)")
        print(f"weights sha256 {weights_sha256(model)}", flush=True)
    if 100 * correct / count < args.min_accuracy:
        raise SystemExit(f"the test accuracy is {100 * correct / count:.2f}%, less than {args.min_accuracy}%")


if __name__ == "__main__":
    main()
