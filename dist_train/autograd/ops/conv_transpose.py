"""Transposed convolution: the gradient of a convolution with respect to its input, as an operation of its own."""

from __future__ import annotations

from typing import Any

from ...backend.reference import conv as kernels
from ...backend.reference.norm import channel_sum
from ...backend.reference.pad import Widths
from ..engine import Array
from ..function import PRODUCT_SAVES, Op
from ..tensor import Tensor
from .geometry import Pair, only, pair
from .norm import by_channel


class ConvTranspose2d(Op):
    """`padding` is that of the convolution whose input gradient this is; where it is negative, rows of zeros are added."""

    def forward(self, x: Array, weight: Array, bias: Array, *, stride: Pair, padding: Widths, dilation: Pair, groups: int) -> Array:
        needs_x, needs_weight, _ = self.needs
        self.saves = PRODUCT_SAVES[needs_x, needs_weight]
        geometry = stride, padding, dilation, groups
        self.saved = x if needs_weight else None, weight if needs_x else None, weight.shape, geometry
        size = _size(x.shape, weight.shape, stride, padding, dilation)
        y = kernels.conv2d_backward_input(x, weight, (x.shape[0], weight.shape[1] * groups, *size), *geometry)
        if bias is not None:
            y += bias[:, None, None]
        return y

    def backward(self, gradient: Array) -> Any:
        x, weight, shape, geometry = self.saved
        return (
            kernels.conv2d(gradient, weight, None, *geometry) if self.needs[0] else None,
            kernels.conv2d_backward_weight(x, gradient, shape, *geometry, False)[0] if self.needs[1] else None,
            channel_sum(by_channel(gradient)) if self.needs[2] else None,
        )


class ConvTranspose1d(ConvTranspose2d):
    """ConvTranspose2d over images of height 1."""

    def forward(self, x: Array, weight: Array, bias: Array, **geometry: Any) -> Array:
        return super().forward(x[:, :, None], weight[:, :, None], bias, **geometry)[:, :, 0]

    def backward(self, gradient: Array) -> Any:
        of_x, of_weight, of_bias = super().backward(gradient[:, :, None])
        return None if of_x is None else of_x[:, :, 0], None if of_weight is None else of_weight[:, :, 0], of_bias


def conv_transpose2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Pair = 1,
    padding: int | Pair = 0,
    output_padding: int | Pair = 0,
    groups: int = 1,
    dilation: int | Pair = 1,
) -> Tensor:
    """(N, C, H, W) and weight (C, O / groups, kh, kw) → (N, O, height, width); (C, H, W) goes without N.

    A side is (length − 1)·stride − 2·padding + dilation·(k − 1) + output_padding + 1.
    https://docs.pytorch.org/docs/stable/generated/torch.nn.ConvTranspose2d.html

    RuntimeError for channels, groups, bias or sizes that do not fit; ValueError for other arguments out of range.
    """
    if input.array.ndim == 3:
        settings = (stride, padding, output_padding, groups, dilation)
        return conv_transpose2d(input.unsqueeze(0), weight, bias, *settings).squeeze(0)  # type: ignore[no-any-return]
    steps, spread = pair(stride, "stride"), pair(dilation, "dilation")
    sides, extra = pair(padding, "padding", 0), pair(output_padding, "output_padding", 0)
    _check("conv_transpose2d", input.array.shape, weight.array.shape, bias, groups)
    widths = _padding(input.array.shape, weight.array.shape, steps, spread, sides, extra)
    return ConvTranspose2d.apply(input, weight, bias, stride=steps, padding=widths, dilation=spread, groups=groups)


def conv_transpose1d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Tensor:
    """conv_transpose2d over one axis: (N, C, L) and weight (C, O / groups, k) → (N, O, length); (C, L) goes without N."""
    if input.array.ndim == 2:
        settings = (stride, padding, output_padding, groups, dilation)
        return conv_transpose1d(input.unsqueeze(0), weight, bias, *settings).squeeze(0)  # type: ignore[no-any-return]
    steps, spread = pair((1, only(stride)), "stride"), pair((1, only(dilation)), "dilation")
    sides, extra = pair((0, only(padding)), "padding", 0), pair((0, only(output_padding)), "output_padding", 0)
    shape, filters = ((*x.shape[:2], 1, *x.shape[2:]) for x in (input.array, weight.array))
    _check("conv_transpose1d", shape, filters, bias, groups)
    widths = _padding(shape, filters, steps, spread, sides, extra)
    return ConvTranspose1d.apply(input, weight, bias, stride=steps, padding=widths, dilation=spread, groups=groups)


def _size(shape: tuple[int, ...], weight: tuple[int, ...], stride: Pair, padding: Widths, dilation: Pair) -> Pair:
    """Height and width of the output."""
    height, width = ((shape[i] - 1) * stride[i - 2] + dilation[i - 2] * (weight[i] - 1) + 1 - sum(padding[i - 2]) for i in (2, 3))
    return height, width


def _padding(shape: tuple[int, ...], weight: tuple[int, ...], stride: Pair, dilation: Pair, sides: Pair, extra: Pair) -> Widths:
    for i in (0, 1):
        if extra[i] >= max(stride[i], dilation[i]):
            raise RuntimeError(f"output padding must be smaller than either stride or dilation, got {extra}, {stride} and {dilation}")
    widths = tuple((n, n - more) for n, more in zip(sides, extra))
    size = _size(shape, weight, stride, widths, dilation)
    if min(size) < 1:
        raise RuntimeError(f"an image of {shape[2]} x {shape[3]} gives an output of {size[0]} x {size[1]}: too small, padding is {sides}")
    return widths


def _check(name: str, shape: tuple[int, ...], weight: tuple[int, ...], bias: Tensor | None, groups: int) -> None:
    if len(shape) != 4 or len(weight) != 4:
        form = "(N, C, H, W) or (C, H, W)" if name == "conv_transpose2d" else "(N, C, 1, L) or (C, 1, L) (the 1 is added)"
        raise RuntimeError(f"{name} expects an input {form} and a weight of as many dimensions, got {shape} and {weight}")
    if groups < 1 or weight[0] % groups or weight[0] != shape[1]:
        raise RuntimeError(f"{name}: the input has {shape[1]} channels, the weight takes {weight[0]}, and groups={groups} must divide them")
    if bias is not None and bias.array.shape != (weight[1] * groups,):
        raise RuntimeError(f"{name}: bias of shape {tuple(bias.shape)} for {weight[1] * groups} output channels")
