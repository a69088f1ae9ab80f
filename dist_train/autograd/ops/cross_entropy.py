"""Losses of classification: cross-entropy and negative log-likelihood, over scores (N, C, …) and class indices (N, …)."""

from __future__ import annotations

from typing import Any

from ...backend.device import array_module
from ...backend.floating import quiet
from ...backend.reference import loss as kernels
from ..engine import Array
from ..function import Op
from ..tensor import Tensor
from .embedding import all_below
from .loss import check_reduction
from .promotion import operand
from .shape import Reshape


class RowLoss(Op):
    """A loss per row of scores, weighted by row, reduced: what cross-entropy and NLL have in common.

    The mean divides by the sum of the rows' weights. Scores (N, C, …) become rows (M, C) by moving the classes last.
    """

    def forward(self, x: Array, *, target: Array, row_weight: Array, reduction: str) -> Array:
        rows, self._shape = class_last(x), x.shape
        losses, keep = self.losses(rows, target)
        if row_weight is not None:
            losses *= row_weight
        share = row_share(row_weight, len(rows)) if reduction == "mean" else 1.0
        self.saved = keep, target, row_weight, share, reduction
        return losses if reduction == "none" else losses.sum() * share

    def backward(self, gradient: Array) -> Array:
        keep, target, row_weight, share, reduction = self.saved
        if reduction == "mean":
            gradient = gradient * share
        if row_weight is not None:
            gradient = array_module(row_weight).where(row_weight == 0, 0, gradient * row_weight)  # also where the mean is NaN
        return class_second(self.losses_backward(gradient, keep, target), self._shape)

    def losses(self, rows: Array, target: Array) -> tuple[Array, Any]:
        """Rows (M, C) and the target → losses (M,) and what backward needs."""
        raise NotImplementedError

    def losses_backward(self, gradient: Array, keep: Any, target: Array) -> Array:
        raise NotImplementedError


class CrossEntropy(RowLoss):
    def losses(self, rows: Array, target: Array) -> tuple[Array, Any]:
        losses, probabilities = kernels.cross_entropy(rows, target)
        return losses, probabilities

    def losses_backward(self, gradient: Array, keep: Any, target: Array) -> Array:
        return kernels.cross_entropy_backward(gradient, keep, target)


class SoftCrossEntropy(RowLoss):
    """Against target probabilities (M, C)."""

    def losses(self, rows: Array, target: Array) -> tuple[Array, Any]:
        losses, log_p = kernels.soft_cross_entropy(rows, target)
        return losses, log_p

    def losses_backward(self, gradient: Array, keep: Any, target: Array) -> Array:
        return kernels.soft_cross_entropy_backward(gradient, keep, target)


class NLL(RowLoss):
    def losses(self, rows: Array, target: Array) -> tuple[Array, Any]:
        return kernels.nll(rows, target), rows.shape[1]

    def losses_backward(self, gradient: Array, keep: Any, target: Array) -> Array:
        return kernels.nll_backward(gradient, target, keep)


def class_last(x: Array) -> Array:
    """(N, C, …) → (M, C)."""
    return x if x.ndim == 2 else array_module(x).moveaxis(x, 1, -1).reshape(-1, x.shape[1])


def class_second(rows: Array, shape: tuple[int, ...]) -> Array:
    """(M, C) → (N, C, …) of `shape`."""
    if len(shape) == 2:
        return rows
    return array_module(rows).moveaxis(rows.reshape(shape[0], *shape[2:], shape[1]), -1, 1)


def row_share(row_weight: Array, count: int) -> Any:
    """One over the sum of the rows' weights; NaN where nothing counts."""
    if row_weight is None:
        return 1 / count if count else float("nan")
    total = row_weight.sum()
    with quiet():
        return array_module(row_weight).where(total == 0, float("nan"), 1 / total)


def cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    *,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """−log softmax(input)[target], reduced. `input` holds scores (N, C), (N, C, d₁ …) or (C,).

    `target` holds class indices (N, d₁ …), or probabilities of the input's shape. The mean over indices divides by the sum of their
    weights. https://docs.pytorch.org/docs/stable/generated/torch.nn.CrossEntropyLoss.html

    IndexError for a class index outside [0, C) that is not `ignore_index`; ValueError for shapes that do not belong together.
    """
    x, labels = input.array, target.array
    plain = weight is None and not label_smoothing and reduction == "mean" and x.ndim == 2 and labels.dtype.kind == "i"
    plain = plain and labels.shape == x.shape[:1] and len(x) > 0 and not 0 <= ignore_index < x.shape[1]
    if plain and all_below(labels, x.shape[1]):  # the common case, on the way of every step
        return CrossEntropy.apply(input, target=labels, row_weight=None, reduction="mean")
    return _cross_entropy(input, target, weight, ignore_index, reduction, label_smoothing)


def _cross_entropy(input: Tensor, target: Tensor, weight: Tensor | None, ignore_index: int, reduction: str, smoothing: float) -> Tensor:
    check_reduction(reduction)
    if not 0 <= smoothing <= 1:
        raise ValueError(f"label_smoothing must be between 0 and 1, got {smoothing}")
    if target.array.dtype.kind == "f":
        return _soft_cross_entropy(input, target, weight, reduction, smoothing)
    input, labels, shape = _batched("cross_entropy", input, target)
    labels, kept = _labels("cross_entropy", input, labels, weight, ignore_index)
    row_weight = _row_weight(input, labels, weight, kept)
    if not smoothing:
        result = CrossEntropy.apply(input, target=labels, row_weight=row_weight, reduction=reduction)
        return _shaped(result, shape, reduction)
    targets = _smooth(input.array, labels, weight, kept, smoothing)
    if reduction == "none":
        return _shaped(SoftCrossEntropy.apply(input, target=targets, row_weight=None, reduction="none"), shape, reduction)
    total = SoftCrossEntropy.apply(input, target=targets, row_weight=None, reduction="sum")
    return total * operand(row_share(row_weight, len(labels))) if reduction == "mean" else total


def _shaped(losses: Tensor, shape: tuple[int, ...], reduction: str) -> Tensor:
    """Losses by row in the shape of the labels; what was reduced stays."""
    return Reshape.apply(losses, shape=shape) if reduction == "none" else losses


def _smooth(x: Array, labels: Array, weight: Tensor | None, kept: Array, smoothing: float) -> Array:
    """Target probabilities (M, C), times the weights of the classes, 0 for ignored rows."""
    xp, num_classes = array_module(x), x.shape[1]
    targets = (labels[:, None] == xp.arange(num_classes)).astype(x.dtype)
    targets *= 1 - smoothing
    targets += smoothing / num_classes
    if weight is not None:
        targets *= weight.array
    if kept is not None:
        targets *= kept[:, None]
    return targets


def _soft_cross_entropy(input: Tensor, target: Tensor, weight: Tensor | None, reduction: str, smoothing: float) -> Tensor:
    if target.array.shape != input.array.shape:
        raise ValueError(
            f"cross_entropy: target probabilities of shape {tuple(target.shape)} for scores of shape {tuple(input.shape)}; "
            "give both one shape, or class indices as integers"
        )
    if target.requires_grad:
        raise RuntimeError("cross_entropy has no gradient with respect to its target: use target.detach()")
    if input.array.ndim == 1:
        return _shaped(_soft_cross_entropy(input.unsqueeze(0), target.unsqueeze(0), weight, reduction, smoothing), (), "none")
    shape = input.array.shape
    targets = class_last(target.array).astype(input.array.dtype, copy=False)
    if smoothing:
        targets = targets * (1 - smoothing) + smoothing / shape[1]
    if weight is not None:
        targets = targets * weight.array
    result = SoftCrossEntropy.apply(input, target=targets, row_weight=None, reduction="none" if reduction == "none" else "sum")
    result = _shaped(result, (shape[0], *shape[2:]), reduction)
    return result * row_share(None, len(targets)) if reduction == "mean" else result


def nll_loss(input: Tensor, target: Tensor, weight: Tensor | None = None, *, ignore_index: int = -100, reduction: str = "mean") -> Tensor:
    """−input[target] for log-probabilities (N, C), (N, C, d₁ …) or (C,) and class indices, reduced.

    The mean divides by the sum of the targets' weights. IndexError for a class index outside [0, C) that is not `ignore_index`.
    """
    check_reduction(reduction)
    input, labels, shape = _batched("nll_loss", input, target)
    labels, kept = _labels("nll_loss", input, labels, weight, ignore_index)
    row_weight = _row_weight(input, labels, weight, kept)
    return _shaped(NLL.apply(input, target=labels, row_weight=row_weight, reduction=reduction), shape, reduction)


def _batched(name: str, input: Tensor, target: Tensor) -> tuple[Tensor, Array, tuple[int, ...]]:
    """Scores (N, C, …), labels (M,) and the shape of the losses."""
    x, labels = input.array, target.array
    if labels.dtype.kind not in "iu":
        raise RuntimeError(f"{name} expects class indices as integers, got {labels.dtype}: use target.long()")
    if not x.ndim or labels.shape != (x.shape[:1] + x.shape[2:] if x.ndim > 1 else ()):
        raise ValueError(
            f"{name}: class indices of shape {labels.shape} do not belong to scores of shape {x.shape}; "
            "expected (N, C) with (N,), (N, C, d1, ...) with (N, d1, ...), or (C,) with ()"
        )
    return (input if x.ndim > 1 else input.unsqueeze(0)), labels.reshape(-1), labels.shape


def _labels(name: str, input: Tensor, labels: Array, weight: Tensor | None, ignore_index: int) -> tuple[Array, Array]:
    """Labels that are safe to index with, and which rows count (None: all)."""
    num_classes = input.array.shape[1]
    if weight is not None and weight.array.shape != (num_classes,):
        raise RuntimeError(f"{name}: weight needs one value for each of {num_classes} classes, got shape {tuple(weight.shape)}")
    kept = labels != ignore_index
    wrong = kept & ((labels < 0) | (labels >= num_classes))
    if wrong.any():
        raise IndexError(f"{name}: target {labels[wrong][0]} is outside the {num_classes} classes [0, {num_classes})")
    return (labels, None) if kept.all() else (array_module(labels).where(kept, labels, 0), kept)


def _row_weight(input: Tensor, labels: Array, weight: Tensor | None, kept: Array) -> Array:
    """What each row counts (None: all the same)."""
    if weight is None:
        return None if kept is None else kept.astype(input.array.dtype)
    row_weight = weight.array[labels]
    return row_weight if kept is None else row_weight * kept
