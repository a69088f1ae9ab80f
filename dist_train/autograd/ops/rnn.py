"""Recurrent layers: one operation per layer and direction, over all time steps, with the gradient through time written by hand.

x is (T, B, I), or the rows of sequences of different lengths one time step after another, (R, I). `batch_sizes` says how many rows each
time step has; with `reverse` the last step comes first. Weights are torch's: (gates·H, I), (gates·H, H) and two biases, or None.
"""

from __future__ import annotations

from itertools import accumulate
from typing import Any

from ...backend.device import array_module
from ...backend.reference import rnn as kernels
from ...backend.reference.activation import sum_leading
from ...backend.reference.product import rows
from ...backend.reference.rnn import Steps
from ..engine import Array
from ..function import Part, TupleOp
from ..tensor import Tensor


class Recurrence(TupleOp):
    """(x, first states, weight_ih, weight_hh, bias_ih, bias_hh) → (states of all rows, last states)."""

    saves_output = True
    num_states = 1

    def _forward(self, x: Array, states: tuple[Array, ...], weights: tuple[Array, ...], batch_sizes: list[int], reverse: bool) -> Any:
        """The inputs' products with their weights and biases, the first states, and the steps."""
        steps = steps_of(batch_sizes, reverse)
        zeros = array_module(x).zeros
        states = tuple([zeros((max(batch_sizes), weights[1].shape[1]), x.dtype) if h is None else h for h in states])
        inputs = rows(x).dot(weights[0].T)
        if weights[2] is not None:
            inputs += self._input_bias(*weights[2:])
        return inputs, states, steps

    def _input_bias(self, of_input: Array, of_hidden: Array) -> Array:
        return of_input + of_hidden

    def _gradients(self, gradient: Part, y: Array, states: tuple[Array, ...]) -> list[Array]:
        """Of all rows (R, H) and of the last states (B, H); zeros where nothing came back."""
        zeros_like = array_module(y).zeros_like
        return [zeros_like(x) if (part := gradient.arrays.get(i)) is None else part.reshape(x.shape) for i, x in enumerate((y, *states))]

    def _finished(self, x: Array, before: Array, weight: Array, of_inputs: Array, of_recurrent: Array, of_states: tuple[Array, ...]) -> Any:
        """From the gradients of the products to those of everything that went into them."""
        needs_x, *_, needs_input, needs_hidden, needs_bias, needs_other = self.needs
        of_bias = sum_leading(of_inputs, 1) if needs_bias or needs_other else None
        return (
            of_inputs.dot(weight).reshape(x.shape) if needs_x else None,
            *of_states,
            of_inputs.T.dot(rows(x)) if needs_input else None,
            of_recurrent.T.dot(before) if needs_hidden else None,
            of_bias,
            of_bias if of_recurrent is of_inputs else sum_leading(of_recurrent, 1) if needs_other else None,
        )


class RNN(Recurrence):
    saves = (0, 1, 2, 3)

    def forward(self, x: Array, hidden: Array, *weights: Array, batch_sizes: list[int], reverse: bool, relu: bool) -> Any:
        inputs, (hidden,), steps = self._forward(x, (hidden,), weights, batch_sizes, reverse)
        y, final = kernels.rnn(inputs, weights[1], hidden, steps, relu)
        self.saved = x, hidden, *weights[:2], y, steps, relu
        return y.reshape(*x.shape[:-1], y.shape[-1]), final

    def backward(self, gradient: Part) -> Any:
        x, hidden, weight, recurrent, y, steps, relu = self.saved
        of_y, of_final = self._gradients(gradient, y, (hidden,))
        of_inputs, of_hidden = kernels.rnn_backward(of_y, of_final, y, recurrent, steps, relu)
        before = kernels.states_before(y, hidden, steps)
        return self._finished(x, before, weight, of_inputs, of_inputs, (of_hidden,))


class LSTM(Recurrence):
    saves = (0, 1, 2, 3, 4)
    num_states = 2

    def forward(self, x: Array, hidden: Array, cell: Array, *weights: Array, batch_sizes: list[int], reverse: bool) -> Any:
        inputs, (hidden, cell), steps = self._forward(x, (hidden, cell), weights, batch_sizes, reverse)
        y, *final, gates, cells = kernels.lstm(inputs, weights[1], hidden, cell, steps)
        self.saved = x, hidden, cell, *weights[:2], y, gates, cells, steps
        return y.reshape(*x.shape[:-1], y.shape[-1]), *final

    def backward(self, gradient: Part) -> Any:
        x, hidden, cell, weight, recurrent, y, gates, cells, steps = self.saved
        of_y, *of_final = self._gradients(gradient, y, (hidden, cell))
        cells_before = kernels.states_before(cells, cell, steps)
        of_inputs, *of_states = kernels.lstm_backward(of_y, *of_final, gates, cells, cells_before, recurrent, steps)
        before = kernels.states_before(y, hidden, steps)
        return self._finished(x, before, weight, of_inputs, of_inputs, tuple(of_states))


class GRU(Recurrence):
    saves = (0, 1, 2, 3)

    def forward(self, x: Array, hidden: Array, *weights: Array, batch_sizes: list[int], reverse: bool) -> Any:
        inputs, (hidden,), steps = self._forward(x, (hidden,), weights, batch_sizes, reverse)
        y, final, gates, candidates = kernels.gru(inputs, weights[1], weights[3], hidden, steps)
        self.saved = x, hidden, *weights[:2], y, gates, candidates, steps
        return y.reshape(*x.shape[:-1], y.shape[-1]), final

    def _input_bias(self, of_input: Array, of_hidden: Array) -> Array:
        return of_input  # the other one belongs inside the reset gate's product

    def backward(self, gradient: Part) -> Any:
        x, hidden, weight, recurrent, y, gates, candidates, steps = self.saved
        of_y, of_final = self._gradients(gradient, y, (hidden,))
        before = kernels.states_before(y, hidden, steps)
        of_inputs, of_recurrent, of_hidden = kernels.gru_backward(of_y, of_final, gates, candidates, before, recurrent, steps)
        return self._finished(x, before, weight, of_inputs, of_recurrent, (of_hidden,))


def steps_of(batch_sizes: list[int], reverse: bool) -> Steps:
    """(first, last) row of each time step in the order in which they are computed."""
    last = list(accumulate(batch_sizes))
    steps = list(zip([0, *last], last))
    return steps[::-1] if reverse else steps


def recurrence(
    op: type[Recurrence],
    x: Tensor,
    states: tuple[Tensor, ...] | None,
    weights: list[Tensor | None],
    batch_sizes: list[int],
    reverse: bool = False,
    **params: Any,
) -> tuple[Tensor, ...]:
    """One layer in one direction: the states of all rows, and the last ones. Without `states` it starts from zeros.

    ValueError for tensors of different types.
    """
    start: Any = (None,) * op.num_states if states is None else states
    types = {str(t.array.dtype) for t in (x, *start, *weights) if t is not None}
    if len(types) > 1:
        raise ValueError(f"{op.__name__}: input, states and weights must have one type, not {', '.join(sorted(types))}: use .to(dtype)")
    return op.apply(x, *start, *weights, batch_sizes=batch_sizes, reverse=reverse, **params)  # type: ignore[no-any-return]
