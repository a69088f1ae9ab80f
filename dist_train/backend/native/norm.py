"""Normalisation of rows and of channels."""

from .. import _native
from ..reference import norm

for kernel in (
    norm.layer_norm,
    norm.layer_norm_backward,
    norm.batch_norm,
    norm.normalize_channels,
    norm.batch_norm_backward,
    norm.scale_channels,
    norm.channel_sum,
    norm.channel_sums,
):
    kernel.override("numpy")(getattr(_native, kernel.name))
