"""Adagrad: steps divided by the root of the sum of all squared gradients."""

from __future__ import annotations

from ..backend.device import Array
from ..backend.reference import optim as rules
from .driver import Group
from .hyper import check_implementation, check_not_negative
from .optimizer import Optimizer, Params, takes_sums


class Adagrad(Optimizer):
    """Adagrad (Duchi, Hazan, Singer 2011), as `torch.optim.Adagrad`.

    sum ← sum + g², param ← param − lr/(1 + (t − 1)·lr_decay)·g/(√sum + eps) in update t, where g is the gradient plus
    weight_decay·param and `sum` starts from `initial_accumulator_value`. `foreach` and `fused` are taken and change
    nothing.
    """

    eager_state = True

    def __init__(
        self,
        params: Params,
        lr: float = 1e-2,
        lr_decay: float = 0,
        weight_decay: float = 0,
        initial_accumulator_value: float = 0,
        eps: float = 1e-10,
        foreach: bool | None = None,
        *,
        maximize: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        defaults = {
            "lr": lr,
            "lr_decay": lr_decay,
            "eps": eps,
            "weight_decay": weight_decay,
            "initial_accumulator_value": initial_accumulator_value,
            "foreach": foreach,
            "maximize": maximize,
            "differentiable": differentiable,
            "fused": fused,
        }
        super().__init__(params, defaults)

    def check(self, group: Group) -> None:
        check_not_negative(group, "lr", "lr_decay", "weight_decay", "initial_accumulator_value", "eps")
        check_implementation(group)

    def state_vectors(self, group: Group) -> tuple[str, ...]:
        return ("sum",)

    def initial_state(self, group: Group, name: str) -> float:
        return float(group["initial_accumulator_value"])

    @takes_sums
    def update(self, group: Group, step: int, param: Array, grad: Array, state: dict[str, Array]) -> None:
        rules.adagrad(
            param,
            grad,
            state["sum"],
            lr=float(group["lr"]) / (1 + (step - 1) * float(group["lr_decay"])),
            eps=float(group["eps"]),
            weight_decay=float(group["weight_decay"]),
            maximize=group["maximize"],
            grad_divisor=self.grad_divisor,
        )
