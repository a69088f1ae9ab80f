"""Adam: steps along the running mean of the gradient, divided by the root of that of its square."""

from __future__ import annotations

import math

from ..backend.device import Array
from ..backend.reference import optim as rules
from .driver import Group
from .hyper import check_implementation, check_not_negative, check_range
from .optimizer import Optimizer, Params, takes_sums


class Adam(Optimizer):
    """Adam (Kingma, Ba 2015; amsgrad: Reddi, Kale, Kumar 2018), as `torch.optim.Adam`.

    exp_avg ← β₁·exp_avg + (1 − β₁)·g, exp_avg_sq ← β₂·exp_avg_sq + (1 − β₂)·g², and in update t param ← param −
    lr·(exp_avg/(1 − β₁ᵗ))/(√(exp_avg_sq/(1 − β₂ᵗ)) + eps), where g is the gradient plus weight_decay·param. `amsgrad`
    divides by the largest exp_avg_sq so far. With `decoupled_weight_decay`, g is the gradient alone and param ← param −
    lr·weight_decay·param comes first (AdamW). `foreach` and `fused` are taken and change nothing.
    """

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        amsgrad: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        decoupled_weight_decay: bool = False,
    ) -> None:
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "amsgrad": amsgrad,
            "maximize": maximize,
            "foreach": foreach,
            "capturable": capturable,
            "differentiable": differentiable,
            "fused": fused,
            "decoupled_weight_decay": decoupled_weight_decay,
        }
        super().__init__(params, defaults)

    def check(self, group: Group) -> None:
        check_not_negative(group, "lr", "eps", "weight_decay")
        for index, beta in enumerate(group["betas"]):
            check_range(f"betas[{index}]", beta, 1.0)
        check_implementation(group)

    def state_vectors(self, group: Group) -> tuple[str, ...]:
        return ("exp_avg", "exp_avg_sq", "max_exp_avg_sq") if group["amsgrad"] else ("exp_avg", "exp_avg_sq")

    def decoupled(self, group: Group) -> bool:
        """Whether weight decay shrinks the parameters directly instead of joining the gradient."""
        return bool(group["decoupled_weight_decay"])

    @takes_sums
    def update(self, group: Group, step: int, param: Array, grad: Array, state: dict[str, Array]) -> None:
        lr, weight_decay = float(group["lr"]), float(group["weight_decay"])
        beta1, beta2 = map(float, group["betas"])
        root = math.sqrt(1 - beta2**step)
        decoupled = self.decoupled(group)
        rules.adam(
            param,
            grad,
            state["exp_avg"],
            state["exp_avg_sq"],
            state["max_exp_avg_sq"] if group["amsgrad"] else None,
            step_size=lr * root / (1 - beta1**step),
            beta1=beta1,
            beta2=beta2,
            eps=float(group["eps"]) * root,
            weight_decay=0.0 if decoupled else weight_decay,
            shrink=1 - lr * weight_decay if decoupled else 1.0,
            maximize=group["maximize"],
            grad_divisor=self.grad_divisor,
        )
