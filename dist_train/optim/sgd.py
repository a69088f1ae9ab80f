"""SGD: stochastic gradient descent, with momentum."""

from __future__ import annotations

from typing import Any

from ..autograd.tensor import Tensor
from ..backend.device import Array
from ..backend.reference import optim as rules
from .driver import Group
from .hyper import check_implementation, check_not_negative
from .optimizer import Optimizer, Params, as_array, takes_sums


class SGD(Optimizer):
    """Stochastic gradient descent with momentum (plain or Nesterov's), as `torch.optim.SGD`.

    buffer ← momentum·buffer + (1 − dampening)·g (the first one is g itself), param ← param − lr·buffer, where g is the
    gradient plus weight_decay·param; Nesterov's form moves along g + momentum·buffer. `maximize` goes up instead of
    down. `foreach` and `fused` choose among torch's implementations of the same rule; they are taken and change
    nothing.
    """

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        momentum: float = 0,
        dampening: float = 0,
        weight_decay: float = 0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "dampening": dampening,
            "weight_decay": weight_decay,
            "nesterov": nesterov,
            "maximize": maximize,
            "foreach": foreach,
            "differentiable": differentiable,
            "fused": fused,
        }
        super().__init__(params, defaults)

    def check(self, group: Group) -> None:
        check_not_negative(group, "lr", "momentum", "weight_decay")
        check_implementation(group)
        if group["nesterov"] and (group["momentum"] <= 0 or group["dampening"] != 0):
            raise ValueError(
                f"Nesterov momentum requires a momentum and zero dampening; momentum is {group['momentum']}, dampening {group['dampening']}"
            )

    def state_vectors(self, group: Group) -> tuple[str, ...]:
        return ("momentum_buffer",) if group["momentum"] else ()

    def next_step(self, group: Group, step: int) -> int:
        """Only updates with momentum count: the first of them starts the buffer."""
        return step + 1 if group["momentum"] else step

    @takes_sums
    def update(self, group: Group, step: int, param: Array, grad: Array, state: dict[str, Array]) -> None:
        rules.sgd(
            param,
            grad,
            state["momentum_buffer"] if group["momentum"] else None,
            lr=float(group["lr"]),
            momentum=float(group["momentum"]),
            dampening=float(group["dampening"]),
            weight_decay=float(group["weight_decay"]),
            nesterov=group["nesterov"],
            maximize=group["maximize"],
            first=step == 1,
            grad_divisor=self.grad_divisor,
        )

    def pack_state(self, group: Group, step: int, vectors: dict[str, Array]) -> dict[str, Any]:
        return {name: Tensor(vector) for name, vector in vectors.items()} if step else {}

    def unpack_state(self, group: Group, entry: dict[str, Any]) -> tuple[int, dict[str, Array]]:
        """torch keeps no count here: a parameter that has a buffer has had its first update."""
        buffer = entry.get("momentum_buffer")
        return (0, {}) if buffer is None or not group["momentum"] else (1, {"momentum_buffer": as_array(buffer)})
