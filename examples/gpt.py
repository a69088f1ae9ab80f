"""A small GPT on the bytes of text files, by default this Python's own standard library; at the end it writes some text.

    python examples/gpt.py
    python examples/gpt.py --files book.txt --width 128 --layers 4 --steps 2000 --run-dir runs/book
    mpirun -n 2 python examples/gpt.py
    dist-train run -n 4 --threads 1 examples/gpt.py

A file's last piece is shorter than the others, so micro-batches differ in their number of tokens. `weight=` says so, and
the step's gradient is that of the mean over all its tokens. Losses, weights and text are the same for any
number of ranks up to --micro-batches (with equal BLAS threads per rank).
"""

import argparse
import hashlib
import math
import sysconfig
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

import dist_train as dt
from dist_train import nn, optim
from dist_train.nn import functional as F
from dist_train.utils.data import DataLoader, TensorDataset

VOCABULARY = 256  # the bytes
NOT_COUNTED = -100  # cross_entropy's ignore_index: there is no next byte to predict here


class Attention(nn.Module):
    """Each position takes from the earlier ones what it looks for."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.queries_keys_values = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: dt.Tensor) -> dt.Tensor:
        n, t, c = x.shape
        parts = self.queries_keys_values(x).split(c, dim=2)
        q, k, v = (part.reshape(n, t, self.heads, c // self.heads).transpose(1, 2) for part in parts)  # (n, heads, t, c / heads)
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out(attended.transpose(1, 2).reshape(n, t, c))


class Block(nn.Module):
    """Attention, then two layers for each position alone; the norms come first ("pre-norm")."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.attention = nn.LayerNorm(width), Attention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(approximate="tanh"), nn.Linear(4 * width, width))

    def forward(self, x: dt.Tensor) -> dt.Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class GPT(nn.Module):
    """Scores (n, t, 256) of each position's next byte, from bytes (n, t)."""

    def __init__(self, layers: int, width: int, heads: int, context: int) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"width {width} does not divide by {heads} heads")
        self.context = context
        self.tokens, self.positions = nn.Embedding(VOCABULARY, width), nn.Embedding(context, width)
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(layers)))
        for table in (self.tokens, self.positions):
            nn.init.normal_(table.weight, std=0.1)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, VOCABULARY, bias=False)

    def forward(self, tokens: dt.Tensor) -> dt.Tensor:
        x = self.tokens(tokens) + self.positions(dt.arange(tokens.shape[1]))
        return self.head(self.norm(self.blocks(x)))


def load_text(files: Sequence[Path], context: int) -> TensorDataset:
    """Pieces of `context` bytes, (n, context), and each byte's successor; no piece reaches over the end of its file."""
    inputs, targets = [], []
    for file in files:
        text = np.fromfile(file, np.uint8).astype(np.int64)
        pieces = max(0, math.ceil((len(text) - 1) / context))
        whole = np.full(pieces * context + 1, NOT_COUNTED)
        whole[: len(text)] = text[: len(whole)]
        inputs.append(np.maximum(whole[:-1], 0).reshape(-1, context))
        targets.append(whole[1:].reshape(-1, context))
    if not sum(map(len, inputs)):
        raise SystemExit(f"the {len(files)} files hold no text of at least 2 bytes: name others with --files")
    return TensorDataset(np.concatenate(inputs), np.concatenate(targets))


def standard_library() -> list[Path]:
    """The top-level sources of this Python's standard library."""
    return sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))


def num_tokens(batch: list[dt.Tensor]) -> float:
    """What a micro-batch weighs: the bytes of it that are predicted."""
    _, targets = batch
    return float((targets != NOT_COUNTED).sum())


def sample(model: GPT, prompt: str, length: int, seed: int, temperature: float = 0.7) -> str:
    """`prompt` and `length` more bytes, drawn one by one."""
    random = np.random.default_rng(seed)
    text = list(prompt.encode())
    model.eval()
    with dt.no_grad():
        for _ in range(length):
            scores = model(dt.tensor([text[-model.context :]]))[0, -1]
            chances = F.softmax(scores / temperature, dim=0).numpy().astype(np.float64).cumsum()
            text.append(int(np.searchsorted(chances, random.random() * chances[-1])))
    return bytes(text).decode(errors="replace")


def weights_sha256(model: nn.Module) -> str:
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(name.encode() + tensor.detach().numpy().tobytes())
    return digest.hexdigest()


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="train a small GPT on bytes")
    parser.add_argument("--files", type=Path, nargs="+", help="text files (default: the standard library's sources)")
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--context", type=int, default=64, help="bytes that the model sees")
    parser.add_argument("--batch-size", type=int, default=32, help="pieces of a step, over all ranks")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--micro-batches", type=int, default=4, help="pieces of a step: the largest number of ranks")
    parser.add_argument("--run-dir", type=Path, help="where checkpoints go (default: none are made)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--length", type=int, default=200, help="bytes to write at the end")
    parser.add_argument("--max-loss", type=float, help="more, as a mean of the last 20 steps, is an error (default: 2.6 from 200 steps on)")
    return parser.parse_args()


def main() -> None:
    args = parse_arguments()
    dt.manual_seed(args.seed)
    dataset = load_text(args.files or standard_library(), args.context)
    model = GPT(args.layers, args.width, args.heads, args.context)
    optimizer = optim.AdamW(model.parameters(), lr=3e-3, betas=(0.9, 0.95))
    loader = DataLoader(dataset, batch_size=args.batch_size, shuffle=True)

    model, optimizer, loader = dt.distribute(model, optimizer, loader, micro_batches=args.micro_batches, weight=num_tokens)
    losses: list[float] = []
    is_first = dt.distributed.get_rank() == 0
    checkpoint = None
    if args.run_dir is not None:
        checkpoint = dt.Checkpoint(args.run_dir, model=model, optimizer=optimizer, loader=loader, losses=losses)
        step = checkpoint.restore()
        if is_first and step is not None:
            print(f"resumed at step {step} from {args.run_dir}", flush=True)

    progress = tqdm(total=args.steps, initial=optimizer.steps, desc="steps", mininterval=1, disable=not is_first)
    while optimizer.steps < args.steps:
        for inputs, targets in loader:
            optimizer.zero_grad()
            loss = F.cross_entropy(model(inputs).reshape(-1, VOCABULARY), targets.reshape(-1), ignore_index=NOT_COUNTED)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            if optimizer.stepped:
                losses.append(optimizer.loss)
                progress.set_postfix(loss=f"{optimizer.loss:.4f}", refresh=False)
                progress.update()
                if is_first and optimizer.steps % 50 == 0:
                    tqdm.write(f"step {optimizer.steps}: loss {optimizer.loss:.4f}")
                if checkpoint is not None and optimizer.steps % 100 == 0:
                    checkpoint.save()
                if optimizer.steps == args.steps:
                    break
    progress.close()
    if checkpoint is not None:
        checkpoint.save()

    final_loss = sum(losses[-20:]) / len(losses[-20:])
    text = sample(model, "import ", args.length, args.seed)
    if is_first:
        print(f"loss of the last steps {final_loss:.4f} (of the first {losses[0]:.4f})")
        print(f"weights sha256 {weights_sha256(model)}")
        print(f"--- sample ---\n{text}", flush=True)
    max_loss = args.max_loss if args.max_loss is not None else 2.6 if args.steps >= 200 else math.inf
    if not final_loss <= max_loss:
        raise SystemExit(f"the loss of the last steps is {final_loss:.4f}, more than {max_loss}")


if __name__ == "__main__":
    main()
