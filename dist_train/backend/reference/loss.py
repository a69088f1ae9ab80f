"""Losses before reduction, and their gradients.

Classification losses work on rows: scores of shape (M, C) and labels of shape (M,). Losses of pairs work element by element
on two arrays of one shape.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

from ..device import Array
from ..kernels import kernel
from .rows import axis_max, axis_sum


@kernel
def cross_entropy(
    xp: ModuleType, x: Array, labels: Array, weight: Array, ignore_index: int, reduction: str
) -> tuple[Array, Array, Array, Array]:
    """Scores (M, C), labels (M,) → the loss, and what backward needs: probabilities (M, C), labels, what a row's loss counts.

    The loss is −log softmax(x)[label], times the label's `weight` (C,) unless that is None, reduced: "none", "sum", or "mean", which
    divides by the sum of the weights. Rows with the label `ignore_index` count 0. IndexError for another label outside [0, C).
    """
    labels, kept = checked_labels(xp, "cross_entropy", labels, x.shape[1], ignore_index)
    row_weight = weights_of_rows(labels, kept, weight, x.dtype)
    z = x - axis_max(xp, x)
    picked = z[xp.arange(len(x)), labels]
    probabilities = xp.exp(z, out=z)
    total = axis_sum(xp, probabilities)
    probabilities /= total
    losses = xp.log(total[:, 0])
    losses -= picked
    share = share_of_row(xp, row_weight, len(x)) if reduction == "mean" else 1.0
    if row_weight is not None:
        losses *= row_weight
        row_share = xp.where(row_weight == 0, 0, row_weight * share)  # also where the mean is NaN
    loss = losses if reduction == "none" else losses.sum() * share
    return loss, probabilities, labels, share if row_weight is None else row_share


@kernel
def cross_entropy_backward(xp: ModuleType, probabilities: Array, gradient: Array, labels: Array, share: Array) -> Array:
    """`gradient` and `share` are one number each, or one per row."""
    gradient = gradient * share
    result = probabilities * (gradient[:, None] if gradient.ndim else gradient)
    result[xp.arange(len(result)), labels] -= gradient
    return result


def checked_labels(xp: ModuleType, name: str, labels: Array, num_classes: int, ignore_index: int) -> tuple[Array, Array]:
    """Labels that are safe to index with, and which rows count (None: all); IndexError for one outside [0, num_classes)."""
    unsigned = labels.view(f"u{labels.itemsize}") if labels.dtype.kind == "i" else labels  # a negative number reads as a huge one
    if not 0 <= ignore_index < num_classes and (not labels.size or unsigned.max() < num_classes):
        return labels, None
    kept = labels != ignore_index
    wrong = kept & (unsigned >= num_classes)
    if wrong.any():
        raise IndexError(f"{name}: target {labels[wrong][0]} is outside the {num_classes} classes [0, {num_classes})")
    return (labels, None) if kept.all() else (xp.where(kept, labels, 0), kept)


def weights_of_rows(labels: Array, kept: Array, weight: Array, dtype: Any) -> Array:
    """What each row counts (None: all the same)."""
    if weight is None:
        return None if kept is None else kept.astype(dtype)
    row_weight = weight[labels]
    return row_weight if kept is None else row_weight * kept


def share_of_row(xp: ModuleType, row_weight: Array, count: int) -> Any:
    """One over the sum of the rows' weights; NaN where nothing counts."""
    if row_weight is None:
        return 1 / count if count else float("nan")
    total = row_weight.sum()
    return xp.where(total == 0, float("nan"), 1 / total)


@kernel
def soft_cross_entropy(xp: ModuleType, x: Array, targets: Array) -> tuple[Array, Array]:
    """Scores and target probabilities (M, C) → losses −Σ targets·log softmax(x) (M,) and log softmax(x)."""
    log_p = x - axis_max(xp, x)
    log_p -= xp.log(axis_sum(xp, xp.exp(log_p)))
    return -(targets * log_p).sum(1), log_p


@kernel
def soft_cross_entropy_backward(xp: ModuleType, gradient: Array, log_p: Array, targets: Array) -> Array:
    result = xp.exp(log_p)
    result *= axis_sum(xp, targets)
    result -= targets
    result *= gradient[:, None] if gradient.ndim else gradient
    return result


@kernel
def nll(xp: ModuleType, x: Array, labels: Array) -> Array:
    """Log-probabilities (M, C), labels (M,) → −x[label] (M,)."""
    return -x[xp.arange(len(x)), labels]


@kernel
def nll_backward(xp: ModuleType, gradient: Array, labels: Array, num_classes: int) -> Array:
    result = xp.zeros((len(labels), num_classes), gradient.dtype)
    result[xp.arange(len(labels)), labels] = -gradient
    return result


@kernel
def mse(xp: ModuleType, x: Array, target: Array) -> Array:
    """(x − target)²."""
    difference = x - target
    difference *= difference
    return difference


@kernel
def mse_backward(xp: ModuleType, gradient: Array, x: Array, target: Array) -> Array:
    difference = x - target
    difference *= gradient * 2
    return difference


@kernel
def l1(xp: ModuleType, x: Array, target: Array) -> Array:
    """|x − target|."""
    return xp.abs(x - target)


@kernel
def l1_backward(xp: ModuleType, gradient: Array, x: Array, target: Array) -> Array:
    return xp.sign(x - target) * gradient


@kernel
def smooth_l1(xp: ModuleType, x: Array, target: Array, beta: float) -> Array:
    """½·(x − target)² / beta where |x − target| < beta, else |x − target| − ½·beta."""
    distance = xp.abs(x - target)
    return xp.where(distance < beta, distance * distance * (0.5 / beta if beta else 0), distance - 0.5 * beta)


@kernel
def smooth_l1_backward(xp: ModuleType, gradient: Array, x: Array, target: Array, beta: float) -> Array:
    difference = x - target
    return xp.where(xp.abs(difference) < beta, difference / (beta or 1), xp.sign(difference)) * gradient


@kernel
def bce(xp: ModuleType, x: Array, target: Array) -> Array:
    """−target·log x − (1 − target)·log(1 − x), with logarithms of at least −100 as in torch."""
    yes, no = xp.maximum(xp.log(x), -100), xp.maximum(xp.log1p(-x), -100)
    return (target - 1) * no - target * yes


@kernel
def bce_backward(xp: ModuleType, gradient: Array, x: Array, target: Array) -> Array:
    return gradient * (x - target) / xp.maximum((1 - x) * x, 1e-12)


@kernel
def bce_with_logits(xp: ModuleType, x: Array, target: Array, positive_weight: Array) -> Array:
    """bce(sigmoid(x), target) without overflow; the term of target 1 is multiplied by `positive_weight` (or None)."""
    log_of_no = xp.log1p(xp.exp(-xp.abs(x))) + xp.maximum(-x, 0)  # −log sigmoid(x)
    factor = 1 if positive_weight is None else 1 + (positive_weight - 1) * target
    return (1 - target) * x + factor * log_of_no


@kernel
def bce_with_logits_backward(xp: ModuleType, gradient: Array, x: Array, target: Array, positive_weight: Array) -> Array:
    decayed = xp.exp(-xp.abs(x))
    p = xp.where(x >= 0, 1, decayed) / (1 + decayed)
    if positive_weight is None:
        return (p - target) * gradient
    return ((1 - target) - (1 + (positive_weight - 1) * target) * (1 - p)) * gradient


@kernel
def kl_div(xp: ModuleType, x: Array, target: Array, log_target: bool) -> Array:
    """target·(log target − x) for log-probabilities x; 0 where target is 0."""
    if log_target:
        return xp.exp(target) * (target - x)
    return target * (xp.log(xp.where(target > 0, target, 1)) - x)


@kernel
def kl_div_backward(xp: ModuleType, gradient: Array, x: Array, target: Array, log_target: bool) -> Array:
    return -(xp.exp(target) if log_target else target) * gradient
