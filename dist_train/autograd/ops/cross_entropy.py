"""Losses of classification: cross-entropy and negative log-likelihood, over scores (N, C, …) and class indices (N, …)."""

from __future__ import annotations

from typing import Any

from ...backend.device import array_module
from ...backend.floating import quiet
from ...backend.reference import loss as kernels
from ..engine import Array
from ..function import Op
from ..tensor import Tensor
from .loss import check_reduction
from .promotion import operand
from .shape import Reshape


class CrossEntropy(Op):
    """Scores (N, C, …) become rows (M, C) by moving the classes last."""

    def forward(self, x: Array, *, labels: Array, weight: Array, ignore_index: int, reduction: str) -> Array:
        self._shape = x.shape
        loss, *self.saved = kernels.cross_entropy(class_last(x), labels, weight, ignore_index, reduction)
        return loss

    def backward(self, gradient: Array) -> Array:
        probabilities, labels, share = self.saved
        return class_second(kernels.cross_entropy_backward(probabilities, gradient, labels, share), self._shape)


class SoftCrossEntropy(Op):
    """Against target probabilities (M, C), with the losses by row or their sum."""

    def forward(self, x: Array, *, target: Array, reduction: str) -> Array:
        self._shape = x.shape
        losses, log_p = kernels.soft_cross_entropy(class_last(x), target)
        self.saved = log_p, target
        return losses if reduction == "none" else losses.sum()

    def backward(self, gradient: Array) -> Array:
        return class_second(kernels.soft_cross_entropy_backward(gradient, *self.saved), self._shape)


class NLL(Op):
    """Log-probabilities (N, C, …), weighted by row, reduced; the mean divides by the sum of the rows' weights."""

    def forward(self, x: Array, *, labels: Array, row_weight: Array, reduction: str) -> Array:
        losses = kernels.nll(class_last(x), labels)
        if row_weight is not None:
            losses *= row_weight
        share = kernels.share_of_row(array_module(x), row_weight, len(losses)) if reduction == "mean" else 1.0
        self.saved = x.shape, labels, row_weight, share
        return losses if reduction == "none" else losses.sum() * share

    def backward(self, gradient: Array) -> Array:
        shape, labels, row_weight, share = self.saved
        gradient = gradient * share
        if row_weight is not None:
            gradient = array_module(row_weight).where(row_weight == 0, 0, gradient * row_weight)  # also where the mean is NaN
        return class_second(kernels.nll_backward(gradient, labels, shape[1]), shape)


def class_last(x: Array) -> Array:
    """(N, C, …) → (M, C)."""
    return x if x.ndim == 2 else array_module(x).moveaxis(x, 1, -1).reshape(-1, x.shape[1])


def class_second(rows: Array, shape: tuple[int, ...]) -> Array:
    """(M, C) → (N, C, …) of `shape`."""
    if len(shape) == 2:
        return rows
    return array_module(rows).moveaxis(rows.reshape(shape[0], *shape[2:], shape[1]), -1, 1)


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
    check_reduction(reduction)
    if label_smoothing or target.array.dtype.kind == "f":
        return _soft(input, target, weight, ignore_index, reduction, label_smoothing)
    input, labels, shape = _batched("cross_entropy", input, target)
    of_classes = None if weight is None else _checked_weight("cross_entropy", input, weight)
    loss = CrossEntropy.apply(input, labels=labels, weight=of_classes, ignore_index=ignore_index, reduction=reduction)
    return _shaped(loss, shape, reduction)


def _soft(input: Tensor, target: Tensor, weight: Tensor | None, ignore_index: int, reduction: str, smoothing: float) -> Tensor:
    """Against probabilities, or labels smoothed to probabilities."""
    if not 0 <= smoothing <= 1:
        raise ValueError(f"label_smoothing must be between 0 and 1, got {smoothing}")
    if target.array.dtype.kind == "f":
        return _soft_cross_entropy(input, target, weight, reduction, smoothing)
    input, labels, shape = _batched("cross_entropy", input, target)
    labels, kept, row_weight = _weighed("cross_entropy", input, labels, weight, ignore_index)
    targets = _smooth(input.array, labels, weight, kept, smoothing)
    if reduction == "none":
        return _shaped(SoftCrossEntropy.apply(input, target=targets, reduction="none"), shape, reduction)
    total = SoftCrossEntropy.apply(input, target=targets, reduction="sum")
    return total * operand(_share(row_weight, labels)) if reduction == "mean" else total


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
    result = SoftCrossEntropy.apply(input, target=targets, reduction="none" if reduction == "none" else "sum")
    result = _shaped(result, (shape[0], *shape[2:]), reduction)
    return result * _share(None, targets) if reduction == "mean" else result


def nll_loss(input: Tensor, target: Tensor, weight: Tensor | None = None, *, ignore_index: int = -100, reduction: str = "mean") -> Tensor:
    """−input[target] for log-probabilities (N, C), (N, C, d₁ …) or (C,) and class indices, reduced.

    The mean divides by the sum of the targets' weights. IndexError for a class index outside [0, C) that is not `ignore_index`.
    """
    check_reduction(reduction)
    input, labels, shape = _batched("nll_loss", input, target)
    labels, _, row_weight = _weighed("nll_loss", input, labels, weight, ignore_index)
    return _shaped(NLL.apply(input, labels=labels, row_weight=row_weight, reduction=reduction), shape, reduction)


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
    return (input if x.ndim > 1 else input.unsqueeze(0)), (labels if labels.ndim == 1 else labels.reshape(-1)), labels.shape


def _checked_weight(name: str, input: Tensor, weight: Tensor) -> Array:
    num_classes = input.array.shape[1]
    if weight.array.shape != (num_classes,):
        raise RuntimeError(f"{name}: weight needs one value for each of {num_classes} classes, got shape {tuple(weight.shape)}")
    return weight.array


def _weighed(name: str, input: Tensor, labels: Array, weight: Tensor | None, ignore_index: int) -> tuple[Array, Array, Array]:
    """Labels that are safe to index with, which rows count (None: all), and what each counts (None: all the same)."""
    of_classes = None if weight is None else _checked_weight(name, input, weight)
    x = input.array
    labels, kept = kernels.checked_labels(array_module(x), name, labels, x.shape[1], ignore_index)
    return labels, kept, kernels.weights_of_rows(labels, kept, of_classes, x.dtype)


def _share(row_weight: Array, rows: Array) -> Any:
    with quiet():
        return kernels.share_of_row(array_module(rows), row_weight, len(rows))
