"""Gradient clipping, on the parameters' own memory or, under `dist_train.distribute`, by the owner of them all."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from ...autograd import Tensor
from ...backend.device import array_module
from ...backend.floating import quiet


def get_total_norm(tensors: Tensor | Iterable[Tensor], norm_type: float = 2.0, error_if_nonfinite: bool = False) -> Tensor:
    """The norm of all elements of `tensors` together, as the norm of their norms.

    RuntimeError if `error_if_nonfinite` and the norm is NaN or infinite.
    """
    arrays = [tensor.array for tensor in ([tensors] if isinstance(tensors, Tensor) else tensors)]
    if not arrays:
        return Tensor(0.0)
    xp = array_module(arrays[0])
    order = float(norm_type)
    with quiet():
        norms = xp.stack([xp.linalg.norm(array.reshape(-1), order) if array.size else xp.zeros((), array.dtype) for array in arrays])
        total = Tensor(xp.linalg.norm(norms, order))
    if error_if_nonfinite and not math.isfinite(total.item()):
        raise RuntimeError(
            f"the total norm of order {order} of the gradients is {total.item()}, so it cannot be clipped; "
            "pass error_if_nonfinite=False to scale by it anyway"
        )
    return total


def clip_grad_norm_(
    parameters: Tensor | Iterable[Tensor], max_norm: float, norm_type: float = 2.0, error_if_nonfinite: bool = False
) -> Tensor:
    """Scale all gradients by min(1, max_norm / (norm + 1e-6)), where norm is that of all of them together, and return it.

    RuntimeError if `error_if_nonfinite` and the norm is NaN or infinite.
    """
    chosen = _with_gradient_or_owner(parameters)
    owner = _owner(chosen)
    if owner is not None:
        return owner.clip_grad_norm(chosen, float(max_norm), float(norm_type), error_if_nonfinite)  # type: ignore[no-any-return]
    gradients = [parameter.grad for parameter in chosen if parameter.grad is not None]
    total = get_total_norm(gradients, norm_type, error_if_nonfinite)
    with quiet():
        factor = array_module(total.array).minimum(max_norm / (total.array + 1e-6), 1.0)
        for gradient in gradients:
            gradient.array[...] *= factor
    return total


def clip_grad_value_(parameters: Tensor | Iterable[Tensor], clip_value: float) -> None:
    """Keep every element of the gradients between −clip_value and clip_value."""
    chosen = _with_gradient_or_owner(parameters)
    owner = _owner(chosen)
    if owner is not None:
        owner.clip_grad_value(chosen, float(clip_value))
        return
    for parameter in chosen:
        if parameter.grad is not None:
            array = parameter.grad.array
            array_module(array).clip(array, -clip_value, clip_value, out=array)


def _with_gradient_or_owner(parameters: Tensor | Iterable[Tensor]) -> list[Tensor]:
    """Under `distribute` a parameter counts even where this rank has no gradient of it."""
    listed = [parameters] if isinstance(parameters, Tensor) else list(parameters)
    return [parameter for parameter in listed if parameter._owner is not None or parameter.grad is not None]


def _owner(parameters: list[Tensor]) -> Any:
    """The one owner of all parameters, or None; RuntimeError for a mixture."""
    owners = {id(parameter._owner): parameter._owner for parameter in parameters}
    if len(owners) > 1:
        raise RuntimeError(
            f"these {len(parameters)} parameters belong to {len(owners)} different owners (models under dist_train.distribute, or none): "
            "clip the gradients of each in a call of its own"
        )
    return next(iter(owners.values()), None)
