"""Cosine similarity, and the loss on it."""

from __future__ import annotations

from ..tensor import Tensor
from .elementwise import where
from .loss import check_reduction


def cosine_similarity(x1: Tensor, x2: Tensor, dim: int = 1, eps: float = 1e-8) -> Tensor:
    """x1·x2 / (max(‖x1‖, eps)·max(‖x2‖, eps)) along `dim`; the other axes broadcast."""
    lengths: Tensor = x1.norm(2, dim).clamp(min=eps) * x2.norm(2, dim).clamp(min=eps)
    return (x1 * x2).sum(dim) / lengths  # type: ignore[no-any-return]


def cosine_embedding_loss(input1: Tensor, input2: Tensor, target: Tensor, margin: float = 0, *, reduction: str = "mean") -> Tensor:
    """1 − cos where the target is 1, max(0, cos − margin) where it is −1: (N, D), (N, D), (N,); or without N.

    RuntimeError for other shapes.
    """
    check_reduction(reduction)
    x, y = input1.array, input2.array
    if x.shape != y.shape or x.ndim != target.array.ndim + 1 or x.shape[:-1] != target.array.shape:
        raise RuntimeError(f"cosine_embedding_loss: inputs (N, D) or (D,) and target (N,) or (), got {x.shape}, {y.shape}, {target.shape}")
    squares = ((input1 * input1).sum(-1) + 1e-12) * ((input2 * input2).sum(-1) + 1e-12)
    cosine: Tensor = (input1 * input2).sum(-1) / squares.sqrt()
    losses = where(target.eq(1), 1 - cosine, where(target.eq(-1), (cosine - margin).clamp(min=0), cosine * 0))
    return losses if reduction == "none" else losses.mean() if reduction == "mean" else losses.sum()  # type: ignore[no-any-return]
