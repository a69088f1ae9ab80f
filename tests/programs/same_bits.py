"""Train one of three model families and print what must not depend on the number of ranks: losses, weights, optimizer state.

mpirun -n 3 python same_bits.py --model cnn --steps 50 --directory runs/a [--kill-at 17]
"""

import argparse
import hashlib
import json
import os
import signal
from pathlib import Path

import numpy as np

import dist_train as dt
from dist_train import nn, optim
from dist_train.nn import functional as F
from dist_train.utils.data import DataLoader, TensorDataset

VOCABULARY, CONTEXT, WIDTH = 32, 12, 24


def mlp():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 40), nn.BatchNorm1d(40), nn.ReLU(), nn.Dropout(0.2), nn.Linear(40, 10))


def cnn():
    return nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(6, 8, 3), nn.ReLU(), nn.Dropout(0.1), nn.Flatten(), nn.Linear(32, 10),
    )  # fmt: skip


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.mlp = nn.Sequential(nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(approximate="tanh"), nn.Linear(4 * WIDTH, WIDTH))
        self.drop = nn.Dropout(0.1)

    def forward(self, x):
        n, t, c = x.shape
        q, k, v = (part.view(n, t, 3, c // 3).transpose(1, 2) for part in self.qkv(self.norm1(x)).split(c, dim=2))
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=True, dropout_p=0.1 if self.training else 0.0)
        x = x + self.drop(self.out(attended.transpose(1, 2).reshape(n, t, c)))
        return x + self.drop(self.mlp(self.norm2(x)))


class GPT(nn.Module):
    def __init__(self):
        super().__init__()
        self.tokens, self.positions = nn.Embedding(VOCABULARY, WIDTH), nn.Embedding(CONTEXT, WIDTH)
        self.blocks = nn.Sequential(Block(), Block())
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, VOCABULARY, bias=False)
        self.head.weight = self.tokens.weight  # tied

    def forward(self, x):
        h = self.tokens(x) + self.positions(dt.arange(x.shape[1]))
        return self.head(self.norm(self.blocks(h))).reshape(-1, VOCABULARY)


def data(model):
    rng = np.random.default_rng(7)
    if model == "gpt":
        text = rng.integers(0, VOCABULARY, (330, CONTEXT + 1))
        return TensorDataset(dt.tensor(text[:, :-1]), dt.tensor(text[:, 1:]))
    count = 348 if model == "mlp" else 330  # BatchNorm1d needs two samples in every micro-batch
    images = rng.standard_normal((count, 1, 8, 8)).astype(np.float32)
    return TensorDataset(dt.tensor(images), dt.tensor(rng.integers(0, 10, count)))


def state_hash(optimizer):
    digest = hashlib.sha256()
    for index, entry in sorted(optimizer.state_dict()["state"].items()):
        for name, value in sorted(entry.items()):
            digest.update(f"{index}.{name}".encode() + value.numpy().tobytes())
    return digest.hexdigest()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", choices=["mlp", "cnn", "gpt"], required=True)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--kill-at", type=int, default=-1, help="SIGKILL the last rank in this step")
    parser.add_argument("--micro-batches", type=int, default=12)
    args = parser.parse_args()

    dt.manual_seed(3)
    model = {"mlp": mlp, "cnn": cnn, "gpt": GPT}[args.model]()
    optimizer = optim.AdamW(model.parameters(), lr=3e-3)
    loader = DataLoader(data(args.model), batch_size=32, shuffle=True)  # the last batch is ragged: 28, or 10 < V
    model, optimizer, loader = dt.distribute(model, optimizer, loader, micro_batches=args.micro_batches)
    scheduler = optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=args.steps)
    losses: dict[str, str] = {}
    checkpoint = dt.Checkpoint(args.directory, keep=2, model=model, optimizer=optimizer, loader=loader, scheduler=scheduler, losses=losses)
    checkpoint.restore()
    comm = dt.comm.world()
    while optimizer.steps < args.steps:
        for inputs, labels in loader:
            optimizer.zero_grad()
            loss = F.cross_entropy(model(inputs), labels.reshape(-1))
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 0.5)
            if optimizer.steps == args.kill_at and comm.rank == comm.size - 1:
                os.kill(os.getpid(), signal.SIGKILL)
            optimizer.step()
            scheduler.step()
            if optimizer.stepped:
                losses[str(optimizer.steps)] = optimizer.loss.hex()
                if optimizer.steps % 7 == 0 or optimizer.steps == args.steps:
                    checkpoint.save()
                if optimizer.steps == args.steps:
                    break
    state = state_hash(optimizer)
    if comm.rank == 0:
        weights = (args.directory / f"step-{args.steps:08d}" / "model.safetensors").read_bytes()
        print(json.dumps({"weights": hashlib.sha256(weights).hexdigest(), "state": state, "losses": losses}))


if __name__ == "__main__":
    main()
