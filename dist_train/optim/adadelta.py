"""Adadelta: steps in units of the steps taken so far."""

from __future__ import annotations

from ..backend.device import Array
from ..backend.reference import optim as rules
from .driver import Group
from .hyper import check_implementation, check_not_negative, check_range
from .optimizer import Optimizer, Params, takes_sums


class Adadelta(Optimizer):
    """Adadelta (Zeiler 2012), as `torch.optim.Adadelta`.

    square_avg ← rho·square_avg + (1 − rho)·g², delta = g·√(acc_delta + eps)/√(square_avg + eps), acc_delta ←
    rho·acc_delta + (1 − rho)·delta², param ← param − lr·delta, where g is the gradient plus weight_decay·param.
    `foreach` is taken and changes nothing.
    """

    def __init__(
        self,
        params: Params,
        lr: float = 1.0,
        rho: float = 0.9,
        eps: float = 1e-6,
        weight_decay: float = 0,
        foreach: bool | None = None,
        *,
        capturable: bool = False,
        maximize: bool = False,
        differentiable: bool = False,
    ) -> None:
        defaults = {
            "lr": lr,
            "rho": rho,
            "eps": eps,
            "weight_decay": weight_decay,
            "maximize": maximize,
            "capturable": capturable,
            "foreach": foreach,
            "differentiable": differentiable,
        }
        super().__init__(params, defaults)

    def check(self, group: Group) -> None:
        check_not_negative(group, "lr", "eps", "weight_decay")
        check_range("rho", group["rho"], 1.0, closed=True)
        check_implementation(group)

    def state_vectors(self, group: Group) -> tuple[str, ...]:
        return ("square_avg", "acc_delta")

    @takes_sums
    def update(self, group: Group, step: int, param: Array, grad: Array, state: dict[str, Array]) -> None:
        rules.adadelta(
            param,
            grad,
            state["square_avg"],
            state["acc_delta"],
            lr=float(group["lr"]),
            rho=float(group["rho"]),
            eps=float(group["eps"]),
            weight_decay=float(group["weight_decay"]),
            maximize=group["maximize"],
            grad_divisor=self.grad_divisor,
        )
