"""Transposed convolutions."""

from __future__ import annotations

from typing import Any

from ..autograd import Tensor
from ..autograd.ops import conv_transpose as ops
from .conv import _Conv


class _ConvTranspose(_Conv):
    """What ConvTranspose1d and ConvTranspose2d share; forward takes the output's size too, where the stride leaves a choice."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        output_padding: Any = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Any = 1,
        padding_mode: str = "zeros",
        *,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        if isinstance(padding, str):
            raise ValueError(f"{type(self).__name__} takes numbers as padding, not {padding!r}")
        settings = (kernel_size, stride, padding, dilation, groups, bias, padding_mode)
        super().__init__(in_channels, out_channels, *settings, device=device, dtype=dtype)
        self.output_padding = self._each(output_padding)

    def _weight_shape(self) -> tuple[int, ...]:
        return (self.in_channels, self.out_channels // self.groups, *self.kernel_size)

    def _settings(self, input: Tensor, output_size: Any) -> tuple[Any, ...]:
        extra = self.output_padding if output_size is None else self._extra(input, tuple(output_size)[-self.dims :])
        return self.stride, self.padding, extra, self.groups, self.dilation

    def _extra(self, input: Tensor, wanted: tuple[int, ...]) -> tuple[int, ...]:
        """The output padding which gives an output of the size `wanted`."""
        lengths = input.array.shape[-self.dims :]
        spans = [d * (k - 1) + 1 for d, k in zip(self.dilation, self.kernel_size)]
        least = [(n - 1) * s - 2 * p + span for n, s, p, span in zip(lengths, self.stride, self._each(self.padding), spans)]
        if any(not low <= want < low + s for want, low, s in zip(wanted, least, self.stride, strict=True)):
            most = [low + s - 1 for low, s in zip(least, self.stride)]
            raise ValueError(
                f"requested an output size of {wanted}, but valid sizes range from {least} to {most} (for an input of {lengths})"
            )
        return tuple(want - low for want, low in zip(wanted, least))

    def extra_repr(self) -> str:
        text = super().extra_repr()
        if self.output_padding == (0,) * self.dims:
            return text
        place = min([i for i in (text.find(", groups="), text.find(", bias=")) if i >= 0], default=len(text))
        return text[:place] + f", output_padding={self.output_padding}" + text[place:]


class ConvTranspose2d(_ConvTranspose):
    """The gradient of Conv2d as a layer: (N, C, H, W) → (N, out_channels, height, width); weight is (C, O / groups, kh, kw)."""

    dims = 2

    def forward(self, input: Tensor, output_size: Any = None) -> Tensor:
        return ops.conv_transpose2d(input, self.weight, self.bias, *self._settings(input, output_size))


class ConvTranspose1d(_ConvTranspose):
    """The gradient of Conv1d as a layer: (N, C, L) → (N, out_channels, length); weight is (C, O / groups, k)."""

    dims = 1

    def forward(self, input: Tensor, output_size: Any = None) -> Tensor:
        return ops.conv_transpose1d(input, self.weight, self.bias, *self._settings(input, output_size))
