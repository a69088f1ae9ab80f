"""Gradients, step by step: who gets one, how to compute without one, and that they add up.

    python examples/autograd_basics.py

Every value is checked against the one worked out by hand.
"""

import dist_train as dt


def check(what: str, value: object, expected: object) -> None:
    """Print the value, and end with an error when it is not the expected one."""
    print(f"{what} = {value}")
    if value != expected:
        raise SystemExit(f"{what} is {value}, expected {expected}")


def gradients() -> None:
    """backward() walks from c to the leaves that ask for a gradient: a and a2. b lies between and keeps none."""
    a = dt.tensor(5.0, requires_grad=True)
    a2 = dt.tensor(5.0, requires_grad=True)
    b = 5 * a
    c = b / 2 + 5 * a2
    c.backward()
    check("dc/da", a.grad.item(), 2.5)  # 5 / 2
    check("dc/da2", a2.grad.item(), 5.0)
    check("gradient of b", b.grad, None)
    check("a is a leaf", a.is_leaf, True)
    check("b is a leaf", b.is_leaf, False)


def kept_gradient() -> None:
    """retain_grad() keeps the gradient of a tensor in between."""
    a = dt.tensor(5.0, requires_grad=True)
    b = 5 * a
    b.retain_grad()
    (b / 2).backward()
    check("dc/db after retain_grad()", b.grad.item(), 0.5)


def without_gradients() -> None:
    """Inside no_grad() nothing is recorded, so a parameter can be changed there."""
    a = dt.tensor(5.0, requires_grad=True)
    with dt.no_grad():
        b = 5 * a
        a -= 1
    check("5a asks for a gradient inside no_grad()", b.requires_grad, False)
    check("a after a -= 1", a.item(), 4.0)
    check("a.detach() asks for a gradient", a.detach().requires_grad, False)


def accumulation() -> None:
    """Each backward() adds to .grad until it is cleared."""
    a = dt.tensor(5.0, requires_grad=True)
    for number in range(1, 4):
        (a * a).backward()
        check(f"gradient of a² after backward() number {number}", a.grad.item(), 10.0 * number)
    a.grad = None  # what optimizer.zero_grad() does
    (a * a).backward()
    check("gradient of a² after clearing", a.grad.item(), 10.0)


def main() -> None:
    for part in (gradients, kept_gradient, without_gradients, accumulation):
        print(f"# {part.__doc__}")
        part()


if __name__ == "__main__":
    main()
