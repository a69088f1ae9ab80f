"""Train for a while, then let one rank fail in the way that is asked for. The others must not wait for it.

mpirun -n 3 python fail.py forward --rank 1
"""

import argparse
import atexit
import os
import signal
import sys
import time

parser = argparse.ArgumentParser()
parser.add_argument("where")
parser.add_argument("--rank", type=int, default=1)
args = parser.parse_args()


def mark():
    """Say when the failure begins: the test measures from here."""
    os.write(2, f"failing at {time.time()}\n".encode())


launched = int(os.environ.get("PMI_RANK", os.environ.get("OMPI_COMM_WORLD_RANK", "0")))
if args.where == "import" and launched == args.rank:
    mark()
    raise ValueError("failed as asked: import")

import dist_train as dt  # noqa: E402
from dist_train import nn, optim  # noqa: E402
from dist_train.utils.data import DataLoader, Dataset  # noqa: E402

if args.where == "before" and launched == args.rank:
    mark()
    raise ValueError("failed as asked: before")

me = dt.distributed.get_rank() == args.rank


def fail_at(where):
    if args.where == where and me:
        mark()
        raise ValueError(f"failed as asked: {where}")


class Data(Dataset):
    def __len__(self):
        return 40

    def __getitem__(self, index):
        if self.count > 12:
            fail_at("dataset")
        self.count += 1
        return dt.ones(4), dt.zeros(1)

    count = 0


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 1)
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        if self.calls > 3:
            fail_at("forward")
        return self.layer(x)


model = Model()
optimizer = optim.SGD(model.parameters(), lr=0.01)
model, optimizer, loader = dt.distribute(model, optimizer, DataLoader(Data(), 8, num_workers=1 if args.where == "dataset" else 0))
for epoch in range(3):
    for x, y in loader:
        optimizer.zero_grad()
        ((model(x) - y) ** 2).mean().backward()
        if epoch == 1:
            fail_at("between")
            if me and args.where in ("kill", "exit", "leave"):
                mark()
            if me and args.where == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            if me and args.where == "exit":
                sys.exit(3)
            if me and args.where == "leave":
                sys.exit()
        optimizer.step()
    if args.where == "alone" and me:
        mark()
        optimizer.state_dict()

if me and args.where == "atexit":
    atexit.register(fail_at, "atexit")
if args.where == "atexit":
    if not me:
        dt.distributed.barrier()  # the failing rank never arrives here
    sys.exit()
if args.where == "thread" and me:
    import threading

    threading.Thread(target=fail_at, args=("thread",)).start()
    time.sleep(30)
dt.distributed.barrier()
print("done")
