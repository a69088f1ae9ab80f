"""Multi-head attention (Vaswani et al. 2017)."""

from __future__ import annotations

import math
from typing import Any

from ..autograd import Tensor
from ..autograd.ops.attention import scaled_dot_product_attention
from ..autograd.ops.creation import zeros
from ..autograd.ops.dropout import dropout
from ..autograd.ops.linalg import linear
from ..autograd.ops.softmax import softmax
from . import init
from .linear import Linear
from .module import Module
from .parameter import Parameter, new_parameter


class MultiheadAttention(Module):
    """Attention of queries to keys and values in `num_heads` subspaces at once, between linear maps.

    forward(query (L, N, E), key (S, N, kdim), value (S, N, vdim)) → output (L, N, E) and attention weights; with `batch_first` N comes
    first, and it may be missing. The weights (N, L, S) are averaged over the heads unless `average_attn_weights` is False (N, heads, L, S),
    and None with need_weights=False, which is faster. `attn_mask` (L, S) or (N·heads, L, S) and `key_padding_mask` (N, S) say with
    True what may not be seen, or are added to the scores. `is_causal` says that `attn_mask` is the causal one.
    """

    in_proj_weight: Parameter | None
    q_proj_weight: Parameter | None
    k_proj_weight: Parameter | None
    v_proj_weight: Parameter | None
    in_proj_bias: Parameter | None

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        add_bias_kv: bool = False,
        add_zero_attn: bool = False,
        kdim: int | None = None,
        vdim: int | None = None,
        batch_first: bool = False,
        *,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        if embed_dim <= 0 or num_heads <= 0 or embed_dim % num_heads:
            raise ValueError(f"embed_dim must be divisible by num_heads, got embed_dim={embed_dim} and num_heads={num_heads}")
        if add_bias_kv or add_zero_attn:
            raise ValueError("MultiheadAttention: add_bias_kv and add_zero_attn are not supported")
        self.embed_dim, self.num_heads, self.head_dim = embed_dim, num_heads, embed_dim // num_heads
        self.kdim, self.vdim = embed_dim if kdim is None else kdim, embed_dim if vdim is None else vdim
        self.dropout, self.batch_first = dropout, batch_first
        place = {"device": device, "dtype": dtype}
        self._add_projections(place)
        self.register_parameter("in_proj_bias", new_parameter((3 * embed_dim,), **place) if bias else None)
        self.out_proj = Linear(embed_dim, embed_dim, bias=bias, **place)
        self._reset_parameters()

    def _add_projections(self, place: dict[str, Any]) -> None:
        """One weight for query, key and value where all have `embed_dim` features, else one for each."""
        width, together = self.embed_dim, self.kdim == self.vdim == self.embed_dim
        self.register_parameter("in_proj_weight", new_parameter((3 * width, width), **place) if together else None)
        for name, length in (("q", width), ("k", self.kdim), ("v", self.vdim)):
            self.register_parameter(f"{name}_proj_weight", None if together else new_parameter((width, length), **place))

    def _reset_parameters(self) -> None:
        for weight in (self.in_proj_weight, self.q_proj_weight, self.k_proj_weight, self.v_proj_weight):
            if weight is not None:
                init.xavier_uniform_(weight)
        for bias in (self.in_proj_bias, self.out_proj.bias):
            if bias is not None:
                init.zeros_(bias)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        self._check(query, key, value, key_padding_mask, attn_mask)
        if is_causal and attn_mask is None:
            raise RuntimeError("Need attn_mask if specifying the is_causal hint.")
        q, k, v = map(self._heads, self._projected(query, key, value))
        causal = is_causal and key_padding_mask is None and not need_weights
        mask = None if causal else self._mask(q, k, attn_mask, key_padding_mask)
        weights = None
        if need_weights:
            y, weights = self._attend_with_weights(q, k, v, mask)
            weights = weights.mean(1) if average_attn_weights else weights
            weights = weights if query.array.ndim == 3 else weights.squeeze(0)
        else:
            y = scaled_dot_product_attention(q, k, v, mask, self.dropout if self.training else 0.0, causal)
        return self.out_proj(self._merged(y, query)), weights

    def _projected(self, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, ...]:
        """Queries, keys and values in the model's width; in self-attention by one product."""
        width, bias = self.embed_dim, self.in_proj_bias
        if self.in_proj_weight is not None and query is key and key is value:
            return linear(query, self.in_proj_weight, bias).split(width, -1)  # type: ignore[no-any-return]
        weights: Any = (self.q_proj_weight, self.k_proj_weight, self.v_proj_weight)
        weights = weights if self.in_proj_weight is None else self.in_proj_weight.split(width)
        biases = (None,) * 3 if bias is None else bias.split(width)
        return tuple(map(linear, (query, key, value), weights, biases))

    def _heads(self, x: Tensor) -> Tensor:
        """(L, N, E), (N, L, E) or (L, E) → (N, heads, L, E / heads)."""
        x = x.unflatten(-1, (self.num_heads, self.head_dim))
        if x.array.ndim == 3:
            return x.transpose(0, 1).unsqueeze(0)  # type: ignore[no-any-return]
        return x.transpose(1, 2) if self.batch_first else x.permute(1, 2, 0, 3)  # type: ignore[no-any-return]

    def _merged(self, y: Tensor, query: Tensor) -> Tensor:
        """The opposite: (N, heads, L, E / heads) → the query's shape."""
        y = y.transpose(1, 2) if self.batch_first or query.array.ndim == 2 else y.permute(2, 0, 1, 3)
        return y.reshape(*query.shape[:-1], self.embed_dim)  # type: ignore[no-any-return]

    def _mask(self, q: Tensor, k: Tensor, attn_mask: Tensor | None, key_padding_mask: Tensor | None) -> Tensor | None:
        """Both masks as numbers to be added to the scores (N, heads, L, S)."""
        if attn_mask is not None:
            attn_mask = _added(attn_mask, q)
            attn_mask = attn_mask.unflatten(0, (-1, self.num_heads)) if attn_mask.array.ndim == 3 else attn_mask
        if key_padding_mask is None:
            return attn_mask
        padding = _added(key_padding_mask, q).reshape(len(q), 1, 1, k.array.shape[-2])
        return padding if attn_mask is None else attn_mask + padding  # type: ignore[no-any-return]

    def _attend_with_weights(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        scores = (q * (1 / math.sqrt(self.head_dim))) @ k.transpose(-1, -2)
        weights = dropout(softmax(scores if mask is None else scores + mask, -1), self.dropout, self.training)
        return weights @ v, weights

    def _check(self, query: Tensor, key: Tensor, value: Tensor, key_padding_mask: Tensor | None, attn_mask: Tensor | None) -> None:
        shapes = f"query {tuple(query.shape)}, key {tuple(key.shape)}, value {tuple(value.shape)}"
        if query.array.ndim not in (2, 3) or key.array.ndim != query.array.ndim or value.array.ndim != query.array.ndim:
            raise RuntimeError(f"attention expects three unbatched (2-D) or three batched (3-D) tensors, got {shapes}")
        widths = (self.embed_dim, self.kdim, self.vdim)
        if tuple(x.array.shape[-1] for x in (query, key, value)) != widths:
            raise RuntimeError(f"attention: query, key and value must have {widths} features, got {shapes}")
        if key.array.shape[:-1] != value.array.shape[:-1]:
            raise RuntimeError(f"attention: key and value must have one length and batch, got {shapes}")
        length, size, batch = self._sizes(query, key)
        if self._sizes(key, key)[2] != batch:
            raise RuntimeError(f"attention: query and key must have one batch size, got {shapes}")
        _check_mask("attn_mask", attn_mask, [(length, size), (batch * self.num_heads, length, size)])
        _check_mask("key_padding_mask", key_padding_mask, [(batch, size) if query.array.ndim == 3 else (size,)])

    def _sizes(self, query: Tensor, key: Tensor) -> tuple[int, int, int]:
        """L, S and N."""
        if query.array.ndim == 2:
            return len(query), len(key), 1
        time = int(self.batch_first)
        return query.array.shape[time], key.array.shape[time], query.array.shape[1 - time]


def _check_mask(name: str, mask: Tensor | None, shapes: list[tuple[int, ...]]) -> None:
    if mask is None:
        return
    if mask.array.dtype.kind not in "fb":
        raise RuntimeError(f"only bool and floating types of {name} are supported, not {mask.array.dtype}")
    if mask.array.shape not in shapes:
        raise RuntimeError(f"{name} of shape {tuple(mask.shape)}: expected {' or '.join(map(str, shapes))}")


def _added(mask: Tensor, like: Tensor) -> Tensor:
    """A boolean mask as 0 where False and −inf where True; others as they are, in the type of `like`."""
    if mask.array.dtype.kind == "f":
        return mask.to(like.dtype)
    return zeros(mask.shape, dtype=like.dtype, device=mask.device).masked_fill(mask, -math.inf)  # type: ignore[no-any-return]
