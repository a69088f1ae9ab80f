"""Instance normalisation."""

from __future__ import annotations

from typing import Any

from ..autograd import Tensor
from ..autograd.ops.instance_norm import instance_norm
from .batchnorm import _BatchNorm


class _InstanceNorm(_BatchNorm):
    """Normalise each channel of each sample by its own mean and variance over the positions, in training and evaluation.

    With `track_running_stats` running ones are kept as in batch normalisation, and used in evaluation. The batch axis may be missing.
    """

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = False,
        track_running_stats: bool = False,
        *,
        device: Any = None,
        dtype: Any = None,
        bias: bool = True,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device=device, dtype=dtype, bias=bias)

    def forward(self, input: Tensor) -> Tensor:
        if input.array.ndim not in self.dims:
            raise ValueError(f"expected {self.dims[0]}D or {self.dims[1]}D input (got {input.array.ndim}D input)")
        if input.array.ndim == self.dims[0]:
            return self.forward(input.unsqueeze(0)).squeeze(0)  # type: ignore[no-any-return]
        if input.array.shape[1] != self.num_features and self.affine:
            raise ValueError(f"expected {self.num_features} channels (num_features), but got an input of shape {tuple(input.shape)}")
        own = self.training or not self.track_running_stats
        return instance_norm(input, self.running_mean, self.running_var, self.weight, self.bias, own, self.momentum or 0.0, self.eps)


class InstanceNorm1d(_InstanceNorm):
    """Instance normalisation of (N, C, L) or (C, L)."""

    dims = (2, 3)


class InstanceNorm2d(_InstanceNorm):
    """Instance normalisation of (N, C, H, W) or (C, H, W)."""

    dims = (3, 4)
