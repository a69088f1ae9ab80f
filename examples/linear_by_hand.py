"""A linear model fitted twice: in plain NumPy with the gradient worked out by hand, and with Module, MSELoss and SGD.

    python examples/linear_by_hand.py

Both versions make the same 500 steps in float32 and print the loss of every 50th. From step 200 on the loss stays at
3.87e-12: the weights are within rounding of the solution (2, 3), and a step is too small to change them any more.
"""

import math

import numpy as np

import dist_train as dt
from dist_train import nn, optim

X = np.array([[1, 2], [2, 3], [4, 6], [3, 1]], dtype=np.float32)
Y = np.array([[8], [13], [26], [9]], dtype=np.float32)
FIRST_WEIGHT = np.array([[2], [1]], dtype=np.float32)
LEARNING_RATE = 0.01
STEPS = 500

EXPECTED_LOSSES = [0.00345, 1.966e-06, 1.1e-09] + 7 * [3.87e-12]  # at step 50, 100, … 500
TOLERANCES = [0.01, 0.01, 0.1] + 7 * [0.01]  # relative; at step 150 the last bits of the weights already show
EXPECTED_WEIGHT = [2.000001, 2.9999993]


def by_hand() -> tuple[list[float], np.ndarray]:
    """The losses of every 50th step and the final weight, (2, 1)."""
    weight, losses = FIRST_WEIGHT.copy(), []
    for step in range(1, STEPS + 1):
        error = X @ weight - Y  # (4, 1)
        loss = (error**2).sum()
        gradient = 2 * X.T @ error  # d loss / d weight, (2, 1)
        weight -= LEARNING_RATE * gradient
        if step % 50 == 0:
            losses.append(float(loss))
    return losses, weight


class Linear(nn.Module):
    """x @ weight."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(dt.tensor(FIRST_WEIGHT))

    def forward(self, x: dt.Tensor) -> dt.Tensor:
        return x @ self.weight


def with_module() -> tuple[list[float], np.ndarray]:
    """The same with the parts that every training program is made of."""
    x, y = dt.tensor(X), dt.tensor(Y)
    model = Linear()
    criterion = nn.MSELoss(reduction="sum")
    optimizer = optim.SGD(model.parameters(), lr=LEARNING_RATE)
    losses = []
    for step in range(1, STEPS + 1):
        loss = criterion(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 50 == 0:
            losses.append(loss.item())
    return losses, model.weight.detach().numpy()


def check(name: str, losses: list[float], weight: np.ndarray) -> None:
    """End with an error unless these are the known results."""
    for number, (loss, expected, tolerance) in enumerate(zip(losses, EXPECTED_LOSSES, TOLERANCES, strict=True), 1):
        if not math.isclose(loss, expected, rel_tol=tolerance):
            raise SystemExit(f"{name}: the loss of step {50 * number} is {loss:.4g}, expected {expected:.4g}")
    if not np.allclose(weight.ravel(), EXPECTED_WEIGHT, rtol=0, atol=2e-7):
        raise SystemExit(f"{name}: the weight is {weight.ravel().tolist()}, expected {EXPECTED_WEIGHT}")


def main() -> None:
    for name, fit in [("plain NumPy", by_hand), ("Module, MSELoss, SGD", with_module)]:
        losses, weight = fit()
        print(name)
        for number, loss in enumerate(losses, 1):
            print(f"  step {50 * number}: loss {loss:.4g}")
        print(f"  weight {[[float(str(value))] for value in weight.ravel()]}")
        check(name, losses, weight)


if __name__ == "__main__":
    main()
