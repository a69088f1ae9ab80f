"""Instance normalisation: batch normalisation of each sample by itself."""

from __future__ import annotations

from ..tensor import Tensor
from .norm import ChannelAffine, batch_norm


def instance_norm(
    input: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """(input − mean) / √(variance + eps)·weight + bias per channel and sample of (N, C, …) (Ulyanov et al. 2016).

    With `use_input_stats` mean and variance are those of each sample, and the running statistics, where given, move towards their
    mean over the batch; otherwise the running statistics are used.

    ValueError for a single position, RuntimeError for shapes that do not fit.
    """
    shape = input.array.shape
    if len(shape) < 3:
        raise RuntimeError(f"instance_norm expects (N, C, ...) with at least one axis of positions, got shape {shape}")
    mean, variance = (None if x is None else x.detach().repeat(shape[0]) for x in (running_mean, running_var))
    rows = input.reshape(1, shape[0] * shape[1], -1)
    y = batch_norm(rows, mean, variance, training=use_input_stats, momentum=momentum, eps=eps).reshape(shape)
    for running, moved in ((running_mean, mean), (running_var, variance)):
        if use_input_stats and running is not None and moved is not None:
            running._write(moved.array.reshape(shape[:2]).mean(0))
    return y if weight is None else ChannelAffine.apply(y, weight, bias)
