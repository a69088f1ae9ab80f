"""Weight normalisation (Salimans and Kingma 2016): a weight as a length g times a direction v / ‖v‖."""

from __future__ import annotations

from typing import Any, TypeVar

from ...autograd import Parameter, Tensor, no_grad
from ..module import Module

M = TypeVar("M", bound=Module)


class WeightNorm:
    """The forward pre-hook that computes the weight from `<name>_g` and `<name>_v`."""

    def __init__(self, name: str, dim: int | None) -> None:
        self.name, self.dim = name, dim

    def compute_weight(self, module: Module) -> Tensor:
        g, v = (getattr(module, f"{self.name}_{part}") for part in "gv")
        return v * (g / _norm(v, self.dim))  # type: ignore[no-any-return]

    def __call__(self, module: Module, _: Any) -> None:
        setattr(module, self.name, self.compute_weight(module))


def _norm(v: Tensor, dim: int | None) -> Tensor:
    """‖v‖ over all axes but `dim`, of a shape that broadcasts; over all where `dim` is None or −1, as in torch."""
    if dim is None or dim == -1:
        return v.norm()  # type: ignore[no-any-return]
    axes = [axis for axis in range(v.array.ndim) if axis != dim % v.array.ndim]
    return v.norm(2, axes, keepdim=True) if axes else v.abs()  # type: ignore[no-any-return]


def weight_norm(module: M, name: str = "weight", dim: int | None = 0) -> M:
    """Replace the parameter `name` by `<name>_g`, a length per index of `dim` (one for all if None), and `<name>_v`.

    RuntimeError where that has been done already.
    """
    if _hook(module, name) is not None:
        raise RuntimeError(f"Cannot register two weight_norm hooks on the same parameter {name}")
    weight = module.get_parameter(name)
    hook = WeightNorm(name, dim)
    delattr(module, name)
    with no_grad():
        lengths = _norm(weight, dim)
    module.register_parameter(f"{name}_g", Parameter(Tensor(lengths.array.copy())))
    module.register_parameter(f"{name}_v", Parameter(Tensor(weight.array.copy())))
    setattr(module, name, hook.compute_weight(module))
    module.register_forward_pre_hook(hook)
    return module


def remove_weight_norm(module: M, name: str = "weight") -> M:
    """Make the weight a parameter again, of its present value. ValueError where `weight_norm` has not been applied to it."""
    key = _hook(module, name)
    if key is None:
        raise ValueError(f"weight_norm of '{name}' not found in {module}")
    with no_grad():
        weight = module._forward_pre_hooks[key].compute_weight(module)
    for attribute in (name, f"{name}_g", f"{name}_v"):
        delattr(module, attribute)
    module.register_parameter(name, Parameter(weight))
    del module._forward_pre_hooks[key]
    return module


def _hook(module: Module, name: str) -> Any:
    """The key of the hook that computes `name`, or None."""
    hooks = module._forward_pre_hooks.items()
    return next((key for key, hook in hooks if isinstance(hook, WeightNorm) and hook.name == name), None)
