"""RMSprop: steps divided by the root of a running mean of squared gradients."""

from __future__ import annotations

from ..backend.device import Array
from ..backend.reference import optim as rules
from .driver import Group
from .hyper import check_implementation, check_not_negative
from .optimizer import Optimizer, Params, takes_sums


class RMSprop(Optimizer):
    """RMSprop (Hinton's lecture; centred: Graves 2013), as `torch.optim.RMSprop`.

    square_avg ← alpha·square_avg + (1 − alpha)·g², param ← param − lr·g/(√square_avg + eps), where g is the gradient
    plus weight_decay·param. `centered` puts the variance in the place of the mean square (not below 0, where torch
    gives NaN); with `momentum` the step follows buffer ← momentum·buffer + g/(√square_avg + eps). `foreach` is taken
    and changes nothing.
    """

    def __init__(
        self,
        params: Params,
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum: float = 0,
        centered: bool = False,
        capturable: bool = False,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "alpha": alpha,
            "eps": eps,
            "centered": centered,
            "weight_decay": weight_decay,
            "capturable": capturable,
            "foreach": foreach,
            "maximize": maximize,
            "differentiable": differentiable,
        }
        super().__init__(params, defaults)

    def check(self, group: Group) -> None:
        check_not_negative(group, "lr", "alpha", "eps", "weight_decay", "momentum")
        check_implementation(group)

    def state_vectors(self, group: Group) -> tuple[str, ...]:
        momentum = ("momentum_buffer",) if group["momentum"] > 0 else ()
        return ("square_avg", *momentum, *(("grad_avg",) if group["centered"] else ()))

    @takes_sums
    def update(self, group: Group, step: int, param: Array, grad: Array, state: dict[str, Array]) -> None:
        rules.rmsprop(
            param,
            grad,
            state["square_avg"],
            state["momentum_buffer"] if group["momentum"] > 0 else None,
            state["grad_avg"] if group["centered"] else None,
            lr=float(group["lr"]),
            alpha=float(group["alpha"]),
            eps=float(group["eps"]),
            weight_decay=float(group["weight_decay"]),
            momentum=float(group["momentum"]),
            maximize=group["maximize"],
            grad_divisor=self.grad_divisor,
        )
