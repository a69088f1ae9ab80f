"""Scaled dot-product attention (Vaswani et al. 2017). Backward makes the weights again, from two numbers per row.

`mask` is None or broadcasts against the scores: where a boolean one is False, no attention is paid; others are added. `causal`
lets position i see 0…i only. `dropout` is None, or the key and the probability with which weights are dropped after the softmax.
"""

from __future__ import annotations

from types import ModuleType

from ..device import Array
from ..kernels import kernel
from .dropout import factors
from .rows import axis_max, axis_product, axis_sum


def _scores(xp: ModuleType, query: Array, key: Array, mask: Array, causal: bool, scale: float) -> Array:
    scores = (query * scale) @ key.swapaxes(-1, -2)
    if mask is not None:
        scores = xp.where(mask, scores, -xp.inf) if mask.dtype == bool else scores + mask
        scores = scores.astype(query.dtype, copy=False)
    if causal:
        scores = xp.where(xp.tri(*scores.shape[-2:], dtype=bool), scores, scores.dtype.type(-xp.inf))
    return scores


@kernel
def attention(
    xp: ModuleType,
    query: Array,
    key: Array,
    value: Array,
    mask: Array,
    causal: bool,
    scale: float,
    dropout: tuple[int, float] | None,
) -> tuple[Array, Array, Array]:
    """softmax(query·keyᵀ·scale + mask)·value: (…, L, E), (…, S, E), (…, S, V) → (…, L, V), and what backward needs of each row.

    That is the largest score and the total of exp(score − largest), each (…, L), both nan where one is. A row that sees nothing
    gives 0.
    """
    weights = _scores(xp, query, key, mask, causal, scale)
    largest = xp.maximum(axis_max(xp, weights), xp.finfo(weights.dtype).min)
    weights -= largest
    xp.exp(weights, out=weights)
    total = axis_sum(xp, weights)
    weights /= xp.where(total == 0, 1, total)
    if dropout is not None:
        weights *= factors(xp, weights.shape, weights.dtype, *dropout)
    return weights @ value, xp.where(total == total, largest, total)[..., 0], total[..., 0]


@kernel
def attention_backward(
    xp: ModuleType,
    gradient: Array,
    query: Array,
    key: Array,
    value: Array,
    mask: Array,
    output: Array,
    largest: Array,
    total: Array,
    causal: bool,
    scale: float,
    dropout: tuple[int, float] | None,
    of_mask: bool,
) -> tuple[Array, Array, Array, Array]:
    """Gradients of query, key, value and, if `of_mask`, mask; before broadcasting is undone."""
    weights = _scores(xp, query, key, mask, causal, scale)
    weights -= largest[..., None]
    xp.exp(weights, out=weights)
    weights /= xp.where(total == 0, 1, total)[..., None]
    slopes = gradient @ value.swapaxes(-1, -2)
    dropped = weights
    if dropout is not None:
        kept = factors(xp, weights.shape, weights.dtype, *dropout)
        dropped = weights * kept
        slopes *= kept
    slopes -= axis_product(xp, gradient, output)
    slopes *= weights
    of_value = dropped.swapaxes(-1, -2) @ gradient
    return (slopes @ key) * scale, (slopes.swapaxes(-1, -2) @ query) * scale, of_value, slopes if of_mask else None
