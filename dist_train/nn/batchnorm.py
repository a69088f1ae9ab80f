"""Batch normalisation."""

from __future__ import annotations

from typing import Any

from ..autograd import Tensor
from ..autograd.ops import norm
from . import init
from .module import Module
from .parameter import Parameter, new_parameter, new_tensor


class _BatchNorm(Module):
    """Normalise each channel over batch and positions: with the batch's own statistics in training, with the running ones otherwise.

    In training the running mean and (unbiased) variance move towards the batch's by `momentum`, in place; with momentum None they are
    plain averages over all batches. Without `track_running_stats` the batch's own statistics are always used.
    """

    running_statistics = ("running_mean", "running_var", "num_batches_tracked")
    dims: tuple[int, ...]
    weight: Parameter | None
    bias: Parameter | None
    running_mean: Tensor | None
    running_var: Tensor | None
    num_batches_tracked: Tensor | None

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        *,
        device: Any = None,
        dtype: Any = None,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        self.affine, self.track_running_stats = affine, track_running_stats
        place = {"device": device, "dtype": dtype}
        self.register_parameter("weight", new_parameter((num_features,), 1.0, **place) if affine else None)
        self.register_parameter("bias", new_parameter((num_features,), 0.0, **place) if affine and bias else None)
        for name, value in (("running_mean", 0.0), ("running_var", 1.0)):
            self.register_buffer(name, new_tensor((num_features,), value, **place) if track_running_stats else None)
        count = new_tensor((), 0, device=device, dtype="int64") if track_running_stats else None
        self.register_buffer("num_batches_tracked", count)

    def reset_running_stats(self) -> None:
        """Forget the running statistics."""
        for name, value in zip(self.running_statistics, (0.0, 1.0, 0)):
            if self.__dict__[name] is not None:
                init.constant_(self.__dict__[name], value)

    def reset_parameters(self) -> None:
        """Forget the running statistics, weight and bias."""
        self.reset_running_stats()
        if self.weight is not None:
            init.ones_(self.weight)
        if self.bias is not None:
            init.zeros_(self.bias)

    def forward(self, input: Tensor) -> Tensor:
        if input.array.ndim not in self.dims:
            raise ValueError(
                f"expected {' or '.join(map(str, self.dims))} dimensions for {type(self).__name__} (got {input.array.ndim}D input)"
            )
        tracked = self.running_mean is not None
        use_batch = self.training or not tracked
        momentum = self._count() if self.training and tracked else 0.0
        return norm.batch_norm(input, self.running_mean, self.running_var, self.weight, self.bias, use_batch, momentum, self.eps)

    def _count(self) -> float:
        """One more batch; the share of it in the running statistics."""
        assert self.num_batches_tracked is not None
        self.num_batches_tracked._write(self.num_batches_tracked.array + 1)
        return 1.0 / self.num_batches_tracked.item() if self.momentum is None else self.momentum

    def extra_repr(self) -> str:
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
            f"bias={self.bias is not None}, track_running_stats={self.track_running_stats}"
        )


class BatchNorm1d(_BatchNorm):
    """Batch normalisation of (N, C) or (N, C, L)."""

    dims = (2, 3)


class BatchNorm2d(_BatchNorm):
    """Batch normalisation of (N, C, H, W)."""

    dims = (4,)
