"""Convolution over images and sequences, and padding with a constant."""

from __future__ import annotations

from typing import Any

from ...backend.reference import conv as kernels
from ...backend.reference import pad as pad_kernels
from ...backend.reference.norm import channel_sum
from ...backend.reference.pad import Widths
from ..engine import Array
from ..function import PRODUCT_SAVES, Op
from ..tensor import Tensor
from .geometry import Pair, only, pair
from .norm import by_channel
from .pad_edges import pad_with_edges

Shape = tuple[int, ...]


class Conv2d(Op):
    def forward(self, x: Array, weight: Array, bias: Array, *, stride: Pair, padding: Widths, dilation: Pair, groups: int) -> Array:
        needs_x, needs_weight, _ = self.needs
        self.saves = PRODUCT_SAVES[needs_x, needs_weight]
        geometry = stride, padding, dilation, groups
        self.saved = x if needs_weight else None, weight if needs_x else None, x.shape, weight.shape, geometry
        return kernels.conv2d(x, weight, bias, *geometry)

    def backward(self, gradient: Array) -> Any:
        x, weight, shape, weight_shape, geometry = self.saved
        of_x = of_weight = of_bias = None
        if self.needs[0]:
            of_x = kernels.conv2d_backward_input(gradient, weight, shape, *geometry)
        if self.needs[1]:
            of_weight, of_bias = kernels.conv2d_backward_weight(gradient, x, weight_shape, *geometry, self.needs[2])
        elif self.needs[2]:
            of_bias = channel_sum(by_channel(gradient))
        return of_x, of_weight, of_bias


class Conv1d(Conv2d):
    """Conv2d over images of height 1."""

    def forward(self, x: Array, weight: Array, bias: Array, **geometry: Any) -> Array:
        return super().forward(x[:, :, None], weight[:, :, None], bias, **geometry)[:, :, 0]

    def backward(self, gradient: Array) -> Any:
        of_x, of_weight, of_bias = super().backward(gradient[:, :, None])
        return None if of_x is None else of_x[:, :, 0], None if of_weight is None else of_weight[:, :, 0], of_bias


class Pad(Op):
    def forward(self, x: Array, *, widths: Widths, value: float) -> Array:
        self.saved = (tuple((-before, -after) for before, after in widths),)
        return pad_kernels.pad(x, widths, value)

    def backward(self, gradient: Array) -> Array:
        return pad_kernels.pad(gradient, self.saved[0], 0)


def conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Pair = 1,
    padding: int | Pair | str = 0,
    dilation: int | Pair = 1,
    groups: int = 1,
) -> Tensor:
    """Cross-correlation: (N, C, H, W) and weight (O, C / groups, kh, kw) → (N, O, height, width); (C, H, W) goes without N.

    `padding` is a number of zeros per side, "valid" (none) or "same" (the output has the input's size; stride 1 only).
    https://docs.pytorch.org/docs/stable/generated/torch.nn.Conv2d.html

    RuntimeError for channels, groups, bias or an image size that do not fit; ValueError for other arguments out of range.
    """
    if input.array.ndim == 3:
        return conv2d(input.unsqueeze(0), weight, bias, stride, padding, dilation, groups).squeeze(0)  # type: ignore[no-any-return]
    geometry = _geometry("conv2d", input.array.shape, weight.array.shape, bias, stride, padding, dilation, groups)
    return Conv2d.apply(input, weight, bias, **geometry)


def conv1d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    """conv2d over one axis: (N, C, L) and weight (O, C / groups, k) → (N, O, length); (C, L) goes without N."""
    if input.array.ndim == 2:
        return conv1d(input.unsqueeze(0), weight, bias, stride, padding, dilation, groups).squeeze(0)  # type: ignore[no-any-return]
    shape, filters = ((*x.shape[:2], 1, *x.shape[2:]) for x in (input.array, weight.array))
    sides = padding if isinstance(padding, str) else (0, only(padding))
    geometry = _geometry("conv1d", shape, filters, bias, (1, only(stride)), sides, (1, only(dilation)), groups)
    return Conv1d.apply(input, weight, bias, **geometry)


def _geometry(
    name: str, shape: Shape, weight: Shape, bias: Tensor | None, stride: Any, padding: Any, dilation: Any, groups: int
) -> dict[str, Any]:
    """The arguments, checked, as the operation takes them."""
    if len(shape) != 4 or len(weight) != 4:
        form = "(N, C, H, W) or (C, H, W)" if name == "conv2d" else "(N, C, 1, L) or (C, 1, L) (the 1 is added)"
        raise RuntimeError(f"{name} expects an input {form} and a weight of as many dimensions, got {shape} and {weight}")
    steps, spread = pair(stride, "stride"), pair(dilation, "dilation")
    widths = padding_widths(padding, weight[2:], steps, spread)
    _check(name, shape, weight, bias, groups)
    have = [shape[2 + i] + sum(widths[i]) for i in (0, 1)]
    need = [spread[i] * (weight[2 + i] - 1) + 1 for i in (0, 1)]
    if have[0] < need[0] or have[1] < need[1]:
        raise RuntimeError(f"{name}: the padded input is {have[0]} x {have[1]}, smaller than the kernel's {need[0]} x {need[1]}")
    return {"stride": steps, "padding": widths, "dilation": spread, "groups": groups}


def padding_widths(padding: int | Pair | str, window: tuple[int, ...], stride: Pair, dilation: Pair) -> Widths:
    """(before, after) for height and width."""
    if not isinstance(padding, str):
        return tuple((n, n) for n in pair(padding, "padding", 0))
    if padding == "valid":
        return ((0, 0), (0, 0))
    if padding != "same":
        raise ValueError(f"padding must be numbers, 'same' or 'valid', not {padding!r}")
    if stride != (1, 1):
        raise ValueError(f"padding='same' needs stride 1, got {stride}")
    totals = [dilation[i] * (window[i] - 1) for i in (0, 1)]
    return tuple((total // 2, total - total // 2) for total in totals)


def _check(name: str, shape: Shape, weight: Shape, bias: Tensor | None, groups: int) -> None:
    channels, num_out = shape[1], weight[0]
    if groups < 1 or num_out % groups or weight[1] * groups != channels:
        raise RuntimeError(
            f"{name}: the input has {channels} channels, but {num_out} filters over {weight[1]} channels each with groups={groups} "
            f"take {weight[1] * groups}, and groups must divide the number of filters"
        )
    if bias is not None and bias.array.shape != (num_out,):
        raise RuntimeError(f"{name}: bias of shape {tuple(bias.shape)} for {num_out} output channels")


def pad(input: Tensor, pad: tuple[int, ...] | list[int], mode: str = "constant", value: float | None = None) -> Tensor:
    """Add `value` (0) around: `pad` holds (before, after) of the last axis, then of the one before it, …; negative numbers cut off.

    The other modes take the input's own elements: mirrored ("reflect"), the outermost ("replicate") or from the other end ("circular").

    ValueError for another mode, or numbers that do not come in pairs or name more axes than `input` has.
    """
    if len(pad) % 2 or len(pad) > 2 * input.array.ndim:
        raise ValueError(f"pad needs a (before, after) pair for at most {input.array.ndim} axes, got {tuple(pad)}")
    widths = tuple((int(pad[i]), int(pad[i + 1])) for i in range(len(pad) - 2, -1, -2))
    if mode != "constant":
        return pad_with_edges(input, widths, mode)
    short = [n + a + b for n, (a, b) in zip(input.array.shape[input.array.ndim - len(widths) :], widths)]
    if any(n < 0 for n in short):
        raise RuntimeError(f"pad {tuple(pad)} cuts off more than an input of shape {tuple(input.shape)} has")
    return Pad.apply(input, widths=widths, value=value or 0.0)
