"""AdamW: Adam with decoupled weight decay."""

from __future__ import annotations

from .adam import Adam
from .driver import Group
from .optimizer import Params


class AdamW(Adam):
    """AdamW (Loshchilov, Hutter 2019), as `torch.optim.AdamW`: Adam after param ← (1 − lr·weight_decay)·param."""

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        super().__init__(
            params,
            lr,
            betas,
            eps,
            weight_decay,
            amsgrad,
            foreach=foreach,
            maximize=maximize,
            capturable=capturable,
            differentiable=differentiable,
            fused=fused,
            decoupled_weight_decay=True,
        )

    def decoupled(self, group: Group) -> bool:
        return True  # whatever a loaded state_dict says
