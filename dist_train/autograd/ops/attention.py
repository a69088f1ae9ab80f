"""Scaled dot-product attention."""

from __future__ import annotations

import math
from typing import Any

from ...backend.reference import attention as kernels
from ..engine import Array
from ..function import Op
from ..tensor import Tensor
from .broadcasting import unbroadcast
from .dropout import check_probability, draw_key


class Attention(Op):
    saves = (0, 1, 2, 3)
    saves_output = True

    def forward(self, query: Array, key: Array, value: Array, mask: Array, *, causal: bool, scale: float, dropout: float) -> Array:
        rules = (causal, scale, (draw_key(), dropout) if dropout else None)
        y, *rows = kernels.attention(query, key, value, mask, *rules)
        self.saved = query, key, value, mask, y, *rows, *rules
        return y

    def backward(self, gradient: Array) -> Any:
        gradients = kernels.attention_backward(gradient, *self.saved, self.needs[3])
        return tuple([unbroadcast(part, x.shape) if need else None for part, x, need in zip(gradients, self.saved, self.needs)])


def scaled_dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
) -> Tensor:
    """softmax(query·keyᵀ·scale + mask)·value (Vaswani et al. 2017): (…, L, E), (…, S, E), (…, S, V) → (…, L, V).

    `scale` is 1/√E by default. A boolean mask says who may be seen, any other is added; with `is_causal` position i sees 0…i.
    Attention weights are dropped with probability `dropout_p`, in evaluation too: pass 0 there.

    RuntimeError for shapes that do not fit, or a mask together with `is_causal`.
    """
    check_probability(dropout_p)
    _check(query.array, key.array, value.array)
    if attn_mask is not None and is_causal:
        raise RuntimeError("scaled_dot_product_attention takes attn_mask or is_causal, not both")
    factor = 1 / math.sqrt(query.array.shape[-1]) if scale is None else scale
    return Attention.apply(query, key, value, attn_mask, causal=is_causal, scale=factor, dropout=dropout_p)


def _check(query: Array, key: Array, value: Array) -> None:
    shapes = f"query {query.shape}, key {key.shape}, value {value.shape}"
    if min(query.ndim, key.ndim, value.ndim) < 2:
        raise RuntimeError(f"attention expects at least two dimensions: {shapes}")
    if query.shape[-1] != key.shape[-1]:
        raise RuntimeError(f"attention: the last lengths of query and key must be equal: {shapes}")
    if key.shape[-2] != value.shape[-2]:
        raise RuntimeError(f"attention: key and value must hold equally many positions: {shapes}")
    if len({query.dtype, key.dtype, value.dtype}) != 1:
        raise RuntimeError(f"attention: query, key and value must have one type, got {query.dtype}, {key.dtype}, {value.dtype}")
