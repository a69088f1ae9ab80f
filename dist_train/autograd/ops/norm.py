"""Batch, layer and group normalisation, and division by a norm."""

from __future__ import annotations

import math
from typing import Any

from ...backend.reference import norm as kernels
from ..engine import Array
from ..function import Op
from ..tensor import Tensor


class LayerNorm(Op):
    saves = (0, 1)

    def forward(self, x: Array, weight: Array, bias: Array, *, width: int, eps: float) -> Array:
        rows = x.reshape(-1, width)
        flat = None if weight is None else weight.reshape(-1)
        y, mean, scale = kernels.layer_norm(rows, flat, None if bias is None else bias.reshape(-1), eps)
        self.saved = rows, flat, mean, scale, x.shape, None if weight is None else weight.shape
        return y.reshape(x.shape)

    def backward(self, gradient: Array) -> Any:
        rows, flat, mean, scale, shape, weight_shape = self.saved
        of_x, of_weight, of_bias = kernels.layer_norm_backward(gradient.reshape(rows.shape), rows, flat, mean, scale)
        return (
            of_x.reshape(shape),
            of_weight.reshape(weight_shape) if self.needs[1] else None,
            of_bias.reshape(weight_shape) if self.needs[2] else None,
        )


class BatchNorm(Op):
    saves = (0, 1)

    def forward(
        self,
        x: Array,
        weight: Array,
        bias: Array,
        *,
        mean: Tensor | None,
        variance: Tensor | None,
        training: bool,
        momentum: float,
        eps: float,
    ) -> Array:
        if training:
            y, new_mean, new_variance, scale = kernels.batch_norm(by_channel(x), weight, bias, eps)
            count = x.size // x.shape[1]
            _move(mean, new_mean, momentum)
            _move(variance, new_variance * (count / (count - 1)), momentum)
        else:
            assert mean is not None and variance is not None
            new_mean = mean.array
            y, scale = kernels.normalize_channels(by_channel(x), new_mean, variance.array, weight, bias, eps)
        self.saved = x, weight, new_mean, scale, training
        return y.reshape(x.shape)

    def backward(self, gradient: Array) -> Any:
        x, weight, mean, scale, training = self.saved
        of_x, of_weight, of_bias = kernels.batch_norm_backward(by_channel(gradient), by_channel(x), weight, mean, scale, training)
        return of_x.reshape(x.shape), of_weight if self.needs[1] else None, of_bias if self.needs[2] else None


class ChannelAffine(Op):
    """x·weight + bias with one weight and one bias per channel."""

    saves = (0, 1)

    def forward(self, x: Array, weight: Array, bias: Array) -> Array:
        self.saved = x, weight
        return kernels.scale_channels(by_channel(x), weight, bias).reshape(x.shape)

    def backward(self, gradient: Array) -> Any:
        x, weight = self.saved
        of_bias, of_weight = kernels.channel_sums(by_channel(gradient), by_channel(x))
        return kernels.scale_channels(by_channel(gradient), weight, None).reshape(x.shape), of_weight, of_bias


def by_channel(x: Array) -> Array:
    """(N, C, …) → (N, C, L)."""
    return x.reshape(*x.shape[:2], math.prod(x.shape[2:]))


def layer_norm(
    input: Tensor,
    normalized_shape: int | tuple[int, ...] | list[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """(input − mean) / √(variance + eps)·weight + bias over the last axes, of lengths `normalized_shape` (Ba et al. 2016).

    RuntimeError where these are not the input's last lengths or the shape of weight and bias.
    """
    shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
    if not shape or input.array.shape[-len(shape) :] != shape:
        raise RuntimeError(f"layer_norm over {list(shape)} expects an input of shape [*, {str(list(shape))[1:]}, got {list(input.shape)}")
    for tensor, name in ((weight, "weight"), (bias, "bias")):
        if tensor is not None and tensor.array.shape != shape:
            raise RuntimeError(f"layer_norm over {list(shape)}: {name} has shape {list(tensor.shape)}")
    width = 1
    for length in shape:
        width *= length
    if weight is None and bias is not None:
        return LayerNorm.apply(input, None, None, width=width, eps=eps) + bias
    return LayerNorm.apply(input, weight, bias, width=width, eps=eps)


def batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """(input − mean) / √(variance + eps)·weight + bias per channel of (N, C, …) (Ioffe and Szegedy 2015).

    In training mean and variance are those of `input`, and the running statistics, where given, move towards them in place by
    `momentum`, the variance without bias; otherwise the running statistics are used.

    ValueError in training with a single value per channel; RuntimeError for statistics that are missing or do not fit.
    """
    x = input.array
    _check_channels(x, running_mean, running_var, weight, bias)
    if not training and (running_mean is None or running_var is None):
        raise RuntimeError("batch_norm outside training needs running_mean and running_var")
    if training and x.size // max(1, x.shape[1]) <= 1:
        raise ValueError(f"Expected more than 1 value per channel when training, got input size {list(x.shape)}")
    return BatchNorm.apply(input, weight, bias, mean=running_mean, variance=running_var, training=training, momentum=momentum, eps=eps)


def _move(running: Tensor | None, new: Array, momentum: float) -> None:
    if running is not None:
        running._write(running.array * (1 - momentum) + new * momentum)


def _check_channels(x: Array, *tensors: Tensor | None) -> None:
    if x.ndim < 2:
        raise RuntimeError(f"normalisation by channel expects (N, C, ...), got shape {x.shape}")
    for tensor in tensors:
        if tensor is not None and tensor.array.shape != (x.shape[1],):
            raise RuntimeError(
                f"an input of shape {x.shape} has {x.shape[1]} channels, but a parameter or statistic has shape {tuple(tensor.shape)}"
            )


def group_norm(input: Tensor, num_groups: int, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5) -> Tensor:
    """Normalise each of `num_groups` groups of channels of each sample of (N, C, …) (Wu and He 2018), then weight and bias by channel.

    RuntimeError where the number of groups does not divide the channels.
    """
    x = input.array
    _check_channels(x, weight, bias)
    if num_groups < 1 or x.shape[1] % num_groups:
        raise RuntimeError(f"group_norm: num_groups={num_groups} does not divide the {x.shape[1]} channels of shape {tuple(x.shape)}")
    width = x.size // max(1, x.shape[0] * num_groups)
    if width * x.shape[0] == 1:
        raise ValueError(f"Expected more than 1 value per channel when training, got input size {list(x.shape)}")
    y = LayerNorm.apply(input, None, None, width=width, eps=eps)
    return y if weight is None else ChannelAffine.apply(y, weight, bias)


def normalize(input: Tensor, p: float = 2.0, dim: int = 1, eps: float = 1e-12) -> Tensor:
    """input / max(‖input‖ₚ, eps) along `dim`."""
    length: Tensor = input.norm(p, dim, keepdim=True).clamp(min=eps)
    return input / length
