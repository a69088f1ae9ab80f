"""MNIST from the published files to a tested model: one process, mpirun or the launcher, stopped and resumed at will.

    python examples/mnist.py --download
    mpirun -n 4 python examples/mnist.py --epochs 2
    dist-train run -n 2 --threads 1 examples/mnist.py --model cnn --run-dir runs/cnn

The files are looked for in --data-dir; by default that is the folder mnist in $DIST_TRAIN_DATA, or ./data where that is
not set. Model, optimizer and place in the data are saved in --run-dir after every epoch and every --save-every steps; a
program that finds a checkpoint there goes on from it, on any number of ranks up to --micro-batches. Everything
printed, down to the SHA-256 of the weights, is then the same (with equal BLAS threads per rank).
"""

import argparse
import hashlib
import os
from pathlib import Path

from tqdm import tqdm

import dist_train as dt
from dist_train import nn, optim
from dist_train.utils.data import DataLoader
from dist_train.vision import transforms
from dist_train.vision.datasets import MNIST

BATCH_SIZE = 128  # of a step, over all ranks
NORMALIZED = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.1307,), (0.3081,))])


def mlp() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 28), nn.ReLU(), nn.Linear(28, 10))


def wide() -> nn.Module:
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(784, 1024), nn.ReLU(),
        nn.Linear(1024, 1024), nn.ReLU(),
        nn.Linear(1024, 10),
    )  # fmt: skip


def cnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 32, 3), nn.ReLU(),
        nn.Conv2d(32, 64, 3), nn.ReLU(),
        nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(9216, 128), nn.ReLU(),
        nn.Linear(128, 10),
    )  # fmt: skip


MODELS = {"mlp": mlp, "wide": wide, "cnn": cnn}


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="train and test a model on MNIST")
    parser.add_argument("--data-dir", type=Path, default=default_data_dir(), help="folder of the four files")
    parser.add_argument("--download", action="store_true", help="fetch the files if they are missing")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--steps", type=int, help="end after this many steps, if that is earlier")
    parser.add_argument("--micro-batches", type=int, default=4, help="pieces of a step: the largest number of ranks")
    parser.add_argument("--model", choices=MODELS, default="mlp")
    parser.add_argument("--run-dir", type=Path, help="where checkpoints go (default: runs/mnist-MODEL)")
    parser.add_argument("--save-every", type=int, default=200, metavar="STEPS")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--min-accuracy", type=float, help="percent; less is an error (default: 90 after whole epochs)")
    return parser.parse_args()


def default_data_dir() -> Path:
    folder = os.environ.get("DIST_TRAIN_DATA")
    return Path(folder) / "mnist" if folder else Path("data")


def train_epoch(
    model: nn.Module, optimizer: optim.Optimizer, loader: DataLoader, checkpoint: dt.Checkpoint, args: argparse.Namespace
) -> None:
    """One epoch, or what is left of it, or the steps up to --steps."""
    title, is_first = f"epoch {loader.epoch + 1}/{args.epochs}", dt.distributed.get_rank() == 0
    start = optimizer.steps % len(loader)  # not 0 where a checkpoint was made within the epoch
    with tqdm(total=len(loader), initial=start, desc=title, mininterval=1, disable=not is_first) as progress:
        for images, labels in loader:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(images), labels)
            loss.backward()
            optimizer.step()
            if optimizer.stepped:  # so it was the step's last micro-batch
                progress.set_postfix(loss=f"{optimizer.loss:.4f}", refresh=False)
                progress.update()
                if optimizer.steps % args.save_every == 0:
                    checkpoint.save()
                if optimizer.steps == args.steps:
                    break
    checkpoint.save()


def test(model: nn.Module, dataset: MNIST) -> tuple[float, int, int]:
    """Average loss, number of correct answers and number of samples; each rank looks at a part of the test set."""
    batches = dt.distributed.split(DataLoader(dataset, batch_size=500))
    model.eval()
    with dt.no_grad():
        for images, labels in batches:
            outputs = model(images)
            loss = nn.functional.cross_entropy(outputs, labels, reduction="sum")
            batches.add(loss, (outputs.argmax(dim=1) == labels).sum(), len(labels))
    model.train()
    loss, correct, count = batches.totals()
    return loss / count, int(correct), int(count)


def weights_sha256(model: nn.Module) -> str:
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(name.encode() + tensor.detach().numpy().tobytes())
    return digest.hexdigest()


def main() -> None:
    args = parse_arguments()
    dt.manual_seed(args.seed)
    train_set = MNIST(args.data_dir, train=True, transform=NORMALIZED, download=args.download)
    test_set = MNIST(args.data_dir, train=False, transform=NORMALIZED)
    model = MODELS[args.model]()
    optimizer = optim.Adam(model.parameters(), lr=1e-3)
    loader = DataLoader(train_set, batch_size=BATCH_SIZE, shuffle=True)

    model, optimizer, loader = dt.distribute(model, optimizer, loader, micro_batches=args.micro_batches)
    run_dir = args.run_dir or Path(f"runs/mnist-{args.model}")
    checkpoint = dt.Checkpoint(run_dir, model=model, optimizer=optimizer, loader=loader)
    step = checkpoint.restore()
    is_first = dt.distributed.get_rank() == 0
    if is_first and step is not None:
        print(f"resumed at step {step} from {run_dir}", flush=True)

    def report() -> float:
        loss, correct, count = test(model, test_set)
        accuracy = 100 * correct / count
        if is_first:
            print(f"after step {optimizer.steps}: average loss {loss:.4f}, Accuracy:{correct}/{count}({accuracy:.2f}%)", flush=True)
        return accuracy

    last_step = args.epochs * len(loader) if args.steps is None else args.steps
    accuracy = None
    while loader.epoch < args.epochs and optimizer.steps < last_step:
        train_epoch(model, optimizer, loader, checkpoint, args)
        accuracy = report()
    if accuracy is None:  # there was nothing left to train
        accuracy = report()

    if is_first:
        print(f"weights sha256 {weights_sha256(model)}", flush=True)
    required = args.min_accuracy if args.min_accuracy is not None else 90.0 if loader.epoch >= 1 else 0.0
    if accuracy < required:
        raise SystemExit(f"the test accuracy is {accuracy:.2f}%, less than {required}%")


if __name__ == "__main__":
    main()
