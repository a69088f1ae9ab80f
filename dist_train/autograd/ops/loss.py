"""Losses of pairs: two tensors of one shape, compared element by element, then reduced."""

from __future__ import annotations

import warnings
from typing import Any, ClassVar

from ...backend.kernels import Kernel
from ...backend.reference import loss as kernels
from ..engine import Array
from ..function import Op
from ..tensor import Tensor
from .promotion import promote_float


class PairLoss(Op):
    """kernel(x, target, **params)·weight, reduced in the same step."""

    saves = (0, 1)
    kernel: ClassVar[Kernel]
    kernel_backward: ClassVar[Kernel]

    def forward(self, x: Array, target: Array, *, reduction: str, weight: Array = None, **params: Any) -> Array:
        losses = self.kernel(x, target, **params)
        if weight is not None:
            losses = losses * weight
        self.saved = x, target, weight, params, _share(reduction, losses.size)
        return reduced(losses, reduction)

    def backward(self, gradient: Array) -> Any:
        x, target, weight, params, share = self.saved
        gradient = gradient if share == 1 else gradient * share
        if weight is not None:
            gradient = gradient * weight
        result = self.kernel_backward(gradient, x, target, **params)
        return (result if self.needs[0] else None, -result if self.needs[1] else None)


class MSE(PairLoss):
    kernel, kernel_backward = kernels.mse, kernels.mse_backward


class L1(PairLoss):
    kernel, kernel_backward = kernels.l1, kernels.l1_backward


class SmoothL1(PairLoss):
    kernel, kernel_backward = kernels.smooth_l1, kernels.smooth_l1_backward


class BCE(PairLoss):
    kernel, kernel_backward = kernels.bce, kernels.bce_backward


class BCEWithLogits(PairLoss):
    kernel, kernel_backward = kernels.bce_with_logits, kernels.bce_with_logits_backward


class KLDiv(PairLoss):
    kernel, kernel_backward = kernels.kl_div, kernels.kl_div_backward


def check_reduction(reduction: str) -> None:
    if reduction not in ("none", "mean", "sum"):
        raise ValueError(f"{reduction!r} is not a valid value for reduction: use 'none', 'mean' or 'sum'")


def reduced(losses: Array, reduction: str) -> Array:
    """The losses themselves, their sum or their mean (NaN for none at all)."""
    if reduction == "none":
        return losses
    total = losses.sum()
    return total if reduction == "sum" else total * _share("mean", losses.size)


def _share(reduction: str, count: int) -> float:
    """What one loss counts in the result."""
    return 1.0 if reduction != "mean" else 1 / count if count else float("nan")


def mse_loss(input: Tensor, target: Tensor, *, reduction: str = "mean", weight: Tensor | None = None) -> Tensor:
    """(input − target)², reduced. Shapes that differ are broadcast, with a warning."""
    check_reduction(reduction)
    input, target = _pair("mse_loss", input, target)
    return MSE.apply(input, target, reduction=reduction, weight=None if weight is None else weight.array)


def l1_loss(input: Tensor, target: Tensor, *, reduction: str = "mean", weight: Tensor | None = None) -> Tensor:
    """|input − target|, reduced. Shapes that differ are broadcast, with a warning."""
    check_reduction(reduction)
    input, target = _pair("l1_loss", input, target)
    return L1.apply(input, target, reduction=reduction, weight=None if weight is None else weight.array)


def smooth_l1_loss(input: Tensor, target: Tensor, *, reduction: str = "mean", beta: float = 1.0) -> Tensor:
    """½·d²/beta where d = |input − target| < beta, else d − ½·beta, reduced."""
    check_reduction(reduction)
    if beta < 0:
        raise RuntimeError(f"smooth_l1_loss needs beta >= 0, got {beta}")
    input, target = _pair("smooth_l1_loss", input, target)
    return SmoothL1.apply(input, target, reduction=reduction, beta=float(beta))


def binary_cross_entropy(input: Tensor, target: Tensor, weight: Tensor | None = None, *, reduction: str = "mean") -> Tensor:
    """−target·log(input) − (1 − target)·log(1 − input) for probabilities `input`, times `weight`, reduced.

    ValueError for shapes that differ; RuntimeError for an input outside [0, 1].
    """
    check_reduction(reduction)
    input, target = _same_shape("binary_cross_entropy", input, target)
    if input.array.size and not (input.array.min() >= 0 and input.array.max() <= 1):
        raise RuntimeError(
            f"binary_cross_entropy expects probabilities in [0, 1], got {input.array.min()} to {input.array.max()}: "
            "apply sigmoid first, or use binary_cross_entropy_with_logits"
        )
    return BCE.apply(input, target, reduction=reduction, weight=None if weight is None else weight.array)


def binary_cross_entropy_with_logits(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    *,
    reduction: str = "mean",
    pos_weight: Tensor | None = None,
) -> Tensor:
    """binary_cross_entropy(sigmoid(input), target) without overflow; positive targets count `pos_weight` times.

    ValueError for shapes that differ.
    """
    check_reduction(reduction)
    input, target = _same_shape("binary_cross_entropy_with_logits", input, target)
    return BCEWithLogits.apply(
        input,
        target,
        reduction=reduction,
        weight=None if weight is None else weight.array,
        positive_weight=None if pos_weight is None else pos_weight.array,
    )


def kl_div(input: Tensor, target: Tensor, *, reduction: str = "mean", log_target: bool = False) -> Tensor:
    """target·(log target − input) for log-probabilities `input`, reduced; "batchmean" divides by the length of dimension 0."""
    if reduction == "batchmean":
        return kl_div(input, target, reduction="sum", log_target=log_target) / len(input)
    check_reduction(reduction)
    input, target = _pair("kl_div", input, target)
    _no_gradient("kl_div", target)
    return KLDiv.apply(input, target, reduction=reduction, log_target=log_target)


def _pair(name: str, input: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Both in one floating-point type and one shape."""
    if input.array.shape != target.array.shape:
        warnings.warn(
            f"{name}: the target's shape {tuple(target.shape)} differs from the input's {tuple(input.shape)}; they are broadcast, "
            "which is rarely meant: give both the same shape",
            stacklevel=3,
        )
        shape = _common_shape(name, input, target)
        input, target = input.expand(shape), target.expand(shape)
    input, target = promote_float(input, target)
    return input, target


def _common_shape(name: str, input: Tensor, target: Tensor) -> tuple[int, ...]:
    longest = max(input.array.ndim, target.array.ndim)
    shapes = [(1,) * (longest - t.array.ndim) + t.array.shape for t in (input, target)]
    if any(a != b and 1 not in (a, b) for a, b in zip(*shapes)):
        raise RuntimeError(f"{name}: input of shape {tuple(input.shape)} and target of shape {tuple(target.shape)} do not match")
    return tuple(b if a == 1 else a for a, b in zip(*shapes))


def _same_shape(name: str, input: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    if input.array.shape != target.array.shape:
        raise ValueError(
            f"{name}: target of shape {tuple(target.shape)} and input of shape {tuple(input.shape)} must be the same; "
            "use unsqueeze or view to give both one shape"
        )
    _no_gradient(name, target)
    input, target = promote_float(input, target)
    return input, target


def _no_gradient(name: str, target: Tensor) -> None:
    if target.requires_grad:
        raise RuntimeError(f"{name} has no gradient with respect to its target: use target.detach()")
