"""Scaled dot-product attention (Vaswani et al. 2017), with the whole matrix of weights in memory."""

from __future__ import annotations

from types import ModuleType

from ..device import Array
from ..kernels import kernel
from .rows import axis_max, axis_sum


@kernel
def attention(
    xp: ModuleType, query: Array, key: Array, value: Array, mask: Array, causal: bool, scale: float, kept: Array, keep_scale: float
) -> tuple[Array, Array]:
    """softmax(query·keyᵀ·scale + mask)·value: (…, L, E), (…, S, E), (…, S, V) → (…, L, V), and the weights (…, L, S).

    `mask` is None or broadcasts against the weights: where a boolean one is False, no attention is paid; others are added. `causal`
    lets position i see 0…i only. `kept` (boolean, or None) drops weights after the softmax. A row that may see nothing gives 0.
    """
    weights = (query * scale) @ key.swapaxes(-1, -2)
    if causal:
        weights += xp.triu(xp.full(weights.shape[-2:], -xp.inf, weights.dtype), 1)
    if mask is not None:
        weights = xp.where(mask, weights, -xp.inf) if mask.dtype == bool else weights + mask
        weights = weights.astype(query.dtype, copy=False)
    weights -= xp.maximum(axis_max(xp, weights), xp.finfo(weights.dtype).min)
    xp.exp(weights, out=weights)
    total = axis_sum(xp, weights)
    weights /= xp.where(total == 0, 1, total)
    return (weights if kept is None else weights * kept * keep_scale) @ value, weights


@kernel
def attention_backward(
    xp: ModuleType,
    gradient: Array,
    query: Array,
    key: Array,
    value: Array,
    weights: Array,
    scale: float,
    kept: Array,
    keep_scale: float,
) -> tuple[Array, Array, Array, Array]:
    """Gradients of query, key, value and mask."""
    dropped = weights if kept is None else weights * kept * keep_scale
    of_value = dropped.swapaxes(-1, -2) @ gradient
    scores = gradient @ value.swapaxes(-1, -2)
    scores *= dropped
    total = axis_sum(xp, scores)
    scores -= weights * total
    return (scores @ key) * scale, (scores.swapaxes(-1, -2) @ query) * scale, of_value, scores
