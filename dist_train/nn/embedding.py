"""Embedding: a trained vector per integer."""

from __future__ import annotations

from typing import Any, Self

from ..autograd import Tensor
from ..autograd.ops.embedding import embedding
from . import init
from .module import Module
from .parameter import Parameter, new_parameter


class Embedding(Module):
    """A table of `num_embeddings` vectors, drawn from N(0, 1): integers of any shape → (*shape, embedding_dim).

    The row `padding_idx` starts at 0 and gets no gradient. ValueError for the options max_norm and sparse, which are not supported.
    """

    weight: Parameter

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        max_norm: float | None = None,
        sparse: bool = False,
        *,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        if max_norm is not None or sparse:
            raise ValueError("Embedding: max_norm and sparse are not supported")
        if padding_idx is not None and not -num_embeddings <= padding_idx < num_embeddings:
            raise ValueError(f"padding_idx must be within num_embeddings = {num_embeddings}, got {padding_idx}")
        self.num_embeddings, self.embedding_dim = num_embeddings, embedding_dim
        self.padding_idx = padding_idx if padding_idx is None else padding_idx % num_embeddings
        self.weight = new_parameter((num_embeddings, embedding_dim), device=device, dtype=dtype)
        self.reset_parameters()

    @classmethod
    def from_pretrained(cls, embeddings: Tensor, freeze: bool = True, padding_idx: int | None = None) -> Self:
        """A layer whose table is `embeddings` (rows, width), not trained if `freeze`."""
        if embeddings.ndim != 2:
            raise ValueError(f"from_pretrained expects (rows, width), got shape {tuple(embeddings.shape)}")
        num_embeddings, embedding_dim = embeddings.shape
        layer = cls(num_embeddings, embedding_dim, padding_idx)
        layer.weight = Parameter(embeddings.detach(), requires_grad=not freeze)
        return layer

    def reset_parameters(self) -> None:
        """Draw the table again."""
        init.normal_(self.weight)
        if self.padding_idx is not None:
            rows = self.weight.array.copy()
            rows[self.padding_idx] = 0
            self.weight._write(rows)

    def forward(self, input: Tensor) -> Tensor:
        return embedding(input, self.weight, self.padding_idx)

    def extra_repr(self) -> str:
        padding = "" if self.padding_idx is None else f", padding_idx={self.padding_idx}"
        return f"{self.num_embeddings}, {self.embedding_dim}{padding}"
