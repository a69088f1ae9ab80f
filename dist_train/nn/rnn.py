"""Recurrent layers: RNN, LSTM and GRU over padded or packed sequences, and the cells that compute one step."""

from __future__ import annotations

import math
import warnings
from typing import Any, ClassVar

from ..autograd import Tensor
from ..autograd.ops import rnn as ops
from ..autograd.ops.dropout import dropout
from ..autograd.ops.joining import cat, stack
from . import init
from .module import Module
from .parameter import Parameter, new_parameter
from .utils.rnn import PackedSequence

States = tuple[Tensor, ...]


class _Recurrent(Module):
    """Names and sizes of the weights, and what the arguments of a layer or cell have in common."""

    op: ClassVar[type[ops.Recurrence]]
    num_gates: ClassVar[int]
    input_size: int
    hidden_size: int

    def _add_weights(self, input_size: int, suffix: str, bias: bool, place: dict[str, Any]) -> list[str]:
        """Register one layer's parameters; their names."""
        height = self.num_gates * self.hidden_size
        shapes = {"weight_ih": (height, input_size), "weight_hh": (height, self.hidden_size), "bias_ih": (height,), "bias_hh": (height,)}
        for name, shape in shapes.items():
            self.register_parameter(name + suffix, new_parameter(shape, **place) if bias or len(shape) > 1 else None)
        return [name + suffix for name in shapes]

    def reset_parameters(self) -> None:
        """Draw all parameters again, uniform within ±1/√hidden_size."""
        bound = 1 / math.sqrt(self.hidden_size)
        for parameter in self.parameters():
            init.uniform_(parameter, -bound, bound)

    def _options(self) -> dict[str, Any]:
        """What the operation needs beside tensors."""
        return {}

    def _check_width(self, input: Tensor) -> None:
        if input.array.shape[-1] != self.input_size:
            raise RuntimeError(f"input.size(-1) must be equal to input_size. Expected {self.input_size}, got {input.array.shape[-1]}")

    def _check_states(self, states: States, shape: tuple[int, ...]) -> None:
        for number, state in enumerate(states):
            if state.array.shape != shape:
                name = "hidden" if len(states) == 1 else f"hidden[{number}]"
                raise RuntimeError(f"Expected {name} size {shape}, got {list(state.shape)}")

    def _as_states(self, hx: Any) -> States | None:
        """None, one tensor or a pair → a tuple."""
        if hx is None or self.op.num_states == 1:
            return None if hx is None else (hx,)
        if not isinstance(hx, (tuple, list)) or len(hx) != 2:
            raise TypeError(f"{type(self).__name__} takes its states as a pair (h_0, c_0), not {type(hx).__name__}")
        return tuple(hx)


class _RecurrentLayer(_Recurrent):
    """`num_layers` layers on top of each other, each in one direction or in both.

    input is (T, B, input_size), with `batch_first` (B, T, …), without a batch (T, …), or a PackedSequence. The output has the states of
    the last layer, those of both directions side by side; the other result holds the last states of all, (layers · directions, B, H).
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        *,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        _check_settings(input_size, hidden_size, num_layers, dropout, proj_size)
        self.input_size, self.hidden_size, self.num_layers = input_size, hidden_size, num_layers
        self.bias, self.batch_first, self.dropout, self.bidirectional = bias, batch_first, float(dropout), bidirectional
        self.proj_size = proj_size
        self._weight_names = []
        for layer in range(num_layers):
            for suffix in ("", "_reverse")[: self._num_directions]:
                width = hidden_size * self._num_directions if layer else input_size
                self._weight_names.append(self._add_weights(width, f"_l{layer}{suffix}", bias, {"device": device, "dtype": dtype}))
        self.reset_parameters()

    @property
    def _num_directions(self) -> int:
        return 2 if self.bidirectional else 1

    @property
    def all_weights(self) -> list[list[Parameter]]:
        """The parameters of each layer and direction."""
        return [[self.__dict__[name] for name in names if self.__dict__[name] is not None] for names in self._weight_names]

    def flatten_parameters(self) -> None:
        """Nothing: the weights need no particular place in memory."""

    def forward(self, input: Any, hx: Any = None) -> tuple[Any, Any]:
        states = self._as_states(hx)
        output, last = self._packed(input, states) if isinstance(input, PackedSequence) else self._padded(input, states)
        return output, last[0] if len(last) == 1 else last

    def _padded(self, input: Tensor, states: States | None) -> tuple[Tensor, States]:
        """(T, B, …), (B, T, …) or (T, …)."""
        _check_dimensions(type(self).__name__, input, states)
        if input.array.ndim == 2:
            output, last = self._layers(input.unsqueeze(1), None if states is None else tuple([h.unsqueeze(1) for h in states]))
            return output.squeeze(1), tuple([h.squeeze(1) for h in last])
        if not self.batch_first:
            return self._layers(input, states)
        output, last = self._layers(input.transpose(0, 1), states)
        return output.transpose(0, 1), last

    def _packed(self, input: PackedSequence, states: States | None) -> tuple[PackedSequence, States]:
        """The states come and go in the order before packing."""
        data, batch_sizes, order, back = input
        if states is not None and order is not None:
            states = tuple([h.index_select(1, order) for h in states])
        output, last = self._layers(data, states, batch_sizes.tolist())
        if back is not None:
            last = tuple([h.index_select(1, back) for h in last])
        return PackedSequence(output, batch_sizes, order, back), last

    def _layers(self, x: Tensor, states: States | None, batch_sizes: list[int] | None = None) -> tuple[Tensor, States]:
        """x is (T, B, …), or rows of packed sequences with `batch_sizes`."""
        self._check_width(x)
        if not len(x):
            raise RuntimeError(f"{type(self).__name__} needs at least one time step, got an input of shape {tuple(x.shape)}")
        sizes = [x.array.shape[1]] * len(x) if batch_sizes is None else batch_sizes
        if states is not None:
            self._check_states(states, (len(self._weight_names), sizes[0], self.hidden_size))
        ends = []
        for first in range(0, len(self._weight_names), self._num_directions):
            x = dropout(x, self.dropout, self.training) if first else x
            results = [self._one(x, states, index, sizes) for index in range(first, first + self._num_directions)]
            x = results[0][0] if len(results) == 1 else cat([y for y, *_ in results], -1)
            ends += [last for _, *last in results]
        return x, tuple([stack(last) for last in zip(*ends)])

    def _one(self, x: Tensor, states: States | None, index: int, batch_sizes: list[int]) -> States:
        """One layer in one direction."""
        weights = [self.__dict__[name] for name in self._weight_names[index]]
        own = None if states is None else tuple([h[index] for h in states])
        return ops.recurrence(self.op, x, own, weights, batch_sizes, bool(index % self._num_directions), **self._options())

    def extra_repr(self) -> str:
        text = f"{self.input_size}, {self.hidden_size}"
        text += f", num_layers={self.num_layers}" if self.num_layers != 1 else ""
        text += "" if self.bias else ", bias=False"
        text += ", batch_first=True" if self.batch_first else ""
        text += f", dropout={self.dropout}" if self.dropout else ""
        return text + (", bidirectional=True" if self.bidirectional else "")


class RNN(_RecurrentLayer):
    """h = tanh(W_ih·x + b_ih + W_hh·h + b_hh), or relu with nonlinearity="relu" (Elman 1990). forward(input, h_0) → output, h_n."""

    op, num_gates = ops.RNN, 1

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        *,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        _check_nonlinearity(nonlinearity)
        settings = (num_layers, bias, batch_first, dropout, bidirectional, proj_size)
        super().__init__(input_size, hidden_size, *settings, device=device, dtype=dtype)
        self.nonlinearity = nonlinearity

    def _options(self) -> dict[str, Any]:
        return {"relu": self.nonlinearity == "relu"}


class LSTM(_RecurrentLayer):
    """c = f·c + i·g, h = o·tanh(c) (Hochreiter and Schmidhuber 1997). forward(input, (h_0, c_0)) → output, (h_n, c_n)."""

    op, num_gates = ops.LSTM, 4


class GRU(_RecurrentLayer):
    """h = (1 − z)·n + z·h (Cho et al. 2014). forward(input, h_0) → output, h_n."""

    op, num_gates = ops.GRU, 3


class _Cell(_Recurrent):
    """One step: input (B, input_size) or (input_size,), and the states in the same form, zeros where none are given."""

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, *, device: Any = None, dtype: Any = None) -> None:
        super().__init__()
        self.input_size, self.hidden_size, self.bias = input_size, hidden_size, bias
        self._weight_names = self._add_weights(input_size, "", bias, {"device": device, "dtype": dtype})
        self.reset_parameters()

    def forward(self, input: Tensor, hx: Any = None) -> Any:
        if input.array.ndim not in (1, 2):
            raise ValueError(f"{type(self).__name__}: Expected input to be 1D or 2D, got {input.array.ndim}D instead")
        states = self._as_states(hx)
        if input.array.ndim == 2:
            last = self._step(input, states)
        else:
            alone = self._step(input.unsqueeze(0), None if states is None else tuple([h.unsqueeze(0) for h in states]))
            last = tuple([h.squeeze(0) for h in alone])
        return last[0] if len(last) == 1 else last

    def _step(self, input: Tensor, states: States | None) -> States:
        self._check_width(input)
        if states is not None:
            self._check_states(states, (len(input), self.hidden_size))
        weights = [self.__dict__[name] for name in self._weight_names]
        return ops.recurrence(self.op, input, states, weights, [len(input)], **self._options())[1:]

    def extra_repr(self) -> str:
        return f"{self.input_size}, {self.hidden_size}" + ("" if self.bias else ", bias=False")


class RNNCell(_Cell):
    """One step of RNN: (input, h) → h."""

    op, num_gates = ops.RNN, 1

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str = "tanh",
        *,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        _check_nonlinearity(nonlinearity)
        super().__init__(input_size, hidden_size, bias, device=device, dtype=dtype)
        self.nonlinearity = nonlinearity

    def _options(self) -> dict[str, Any]:
        return {"relu": self.nonlinearity == "relu"}

    def extra_repr(self) -> str:
        return super().extra_repr() + (f", nonlinearity={self.nonlinearity}" if self.nonlinearity != "tanh" else "")


class LSTMCell(_Cell):
    """One step of LSTM: (input, (h, c)) → (h, c)."""

    op, num_gates = ops.LSTM, 4


class GRUCell(_Cell):
    """One step of GRU: (input, h) → h."""

    op, num_gates = ops.GRU, 3


def _check_nonlinearity(nonlinearity: str) -> None:
    if nonlinearity not in ("tanh", "relu"):
        raise ValueError(f"Unknown nonlinearity '{nonlinearity}'. Select from 'tanh' or 'relu'.")


def _check_settings(input_size: int, hidden_size: int, num_layers: int, dropout: float, proj_size: int) -> None:
    for name, value in (("input_size", input_size), ("hidden_size", hidden_size), ("num_layers", num_layers)):
        if value <= 0:
            raise ValueError(f"{name} must be greater than zero, got {value}")
    if proj_size:
        raise ValueError(f"proj_size={proj_size}: projections are not supported, apply an nn.Linear to the output")
    if not 0 <= dropout <= 1:
        raise ValueError(f"dropout should be a number in range [0, 1], got {dropout}")
    if dropout and num_layers == 1:
        warnings.warn(
            f"dropout adds dropout after all but the last recurrent layer, so dropout={dropout} has no effect with num_layers=1",
            stacklevel=4,
        )


def _check_dimensions(name: str, input: Tensor, states: States | None) -> None:
    ndim = input.array.ndim
    if ndim not in (2, 3):
        raise ValueError(f"{name}: Expected input to be 2D or 3D, got {ndim}D instead")
    if states is not None and any(h.array.ndim != ndim for h in states):
        form = "unbatched 2-D" if ndim == 2 else "batched 3-D"
        have = ", ".join(f"{h.array.ndim}-D" for h in states)
        raise RuntimeError(f"For {form} input, hx should also be {ndim}-D but got {have}")
