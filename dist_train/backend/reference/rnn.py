"""Recurrent layers over whole sequences, and their gradients through time.

The rows of all time steps lie one after another: `steps` holds (first, last) row of each step in the order in which they are computed.
A step of n rows is of the first n sequences of the batch, so sequences of different lengths, longest first, need no padding. `inputs` is
the product of all rows with the input weights; `state` holds a row per sequence: where a sequence has no row in a step, its state stays.
"""

from __future__ import annotations

from types import ModuleType

from ..device import Array
from ..kernels import kernel
from .special import logistic_of_minus

Steps = list[tuple[int, int]]


@kernel
def rnn(xp: ModuleType, inputs: Array, weight: Array, state: Array, steps: Steps, relu: bool) -> tuple[Array, Array]:
    """h = tanh(input + weight·h), or max(…, 0): the states of all rows (R, H), written over `inputs`, and the last ones (B, H)."""
    state, across = state.copy(), _across(xp, weight)
    for first, last in steps:
        now, hidden = inputs[first:last], state[: last - first]
        now += hidden.dot(across)
        if relu:
            xp.maximum(now, 0, out=now)
        else:
            xp.tanh(now, out=now)
        hidden[...] = now
    return inputs, state


@kernel
def rnn_backward(
    xp: ModuleType, gradient: Array, of_final: Array, y: Array, weight: Array, steps: Steps, relu: bool
) -> tuple[Array, Array]:
    """Gradients of inputs (R, H) and of the first state (B, H) for those of the states y and of the last ones."""
    result = (y > 0).astype(y.dtype) if relu else 1 - y * y
    state = of_final.copy()
    for first, last in reversed(steps):
        now, hidden = result[first:last], state[: last - first]
        hidden += gradient[first:last]
        now *= hidden
        hidden[...] = now.dot(weight)
    return result, state


@kernel
def lstm(
    xp: ModuleType, inputs: Array, weight: Array, hidden: Array, cell: Array, steps: Steps
) -> tuple[Array, Array, Array, Array, Array]:
    """c = f·c + i·g, h = o·tanh(c) with gates i, f, g, o (Hochreiter and Schmidhuber 1997).

    h of all rows (R, H), the last h and c (B, H), the gates (R, 4·H), written over `inputs`, and c of all rows (R, H).
    """
    width = hidden.shape[1]
    hidden, cell, across = hidden.copy(), cell.copy(), _across(xp, weight)
    y, cells = (xp.empty((len(inputs), width), inputs.dtype) for _ in range(2))
    for first, last in steps:
        gates, h, c = inputs[first:last], hidden[: last - first], cell[: last - first]
        gates += h.dot(across)
        i, f, g, o = _parts(gates, width)
        _sigmoid(xp, gates[:, : 2 * width])
        _sigmoid(xp, o)
        xp.tanh(g, out=g)
        c *= f
        c += i * g
        xp.multiply(xp.tanh(c), o, out=h)
        y[first:last], cells[first:last] = h, c
    return y, hidden, cell, inputs, cells


@kernel
def lstm_backward(
    xp: ModuleType,
    gradient: Array,
    of_hidden: Array,
    of_cell: Array,
    gates: Array,
    cells: Array,
    cells_before: Array,
    weight: Array,
    steps: Steps,
) -> tuple[Array, Array, Array]:
    """Gradients of inputs (R, 4·H) and of the first h and c (B, H)."""
    width = weight.shape[1]
    hidden, cell = of_hidden.copy(), of_cell.copy()
    result, of_tanh = _lstm_slopes(xp, gates, cells, cells_before)
    for first, last in reversed(steps):
        now, h, c = result[first:last], hidden[: last - first], cell[: last - first]
        h += gradient[first:last]
        c += h * of_tanh[first:last]
        for part in _parts(now, width)[:3]:
            part *= c
        now[:, 3 * width :] *= h
        c *= gates[first:last, width : 2 * width]
        h[...] = now.dot(weight)
    return result, hidden, cell


def _lstm_slopes(xp: ModuleType, gates: Array, cells: Array, cells_before: Array) -> tuple[Array, Array]:
    """What the gradients of c (first three gates) and h (last gate) are multiplied by; and ∂h/∂c."""
    width = cells.shape[1]
    i, _, g, o = _parts(gates, width)
    squashed = xp.tanh(cells)
    result = gates * (1 - gates)
    of_i, of_f, of_g, of_o = _parts(result, width)
    of_i *= g
    of_f *= cells_before
    of_g[...] = i * (1 - g * g)
    of_o *= squashed
    return result, o * (1 - squashed * squashed)


@kernel
def gru(xp: ModuleType, inputs: Array, weight: Array, bias: Array, state: Array, steps: Steps) -> tuple[Array, Array, Array, Array]:
    """h = (1 − z)·n + z·h, n = tanh(input + r·(weight·h + bias)) with gates r, z, n (Cho et al. 2014; torch's form).

    h of all rows (R, H), the last ones (B, H), the gates (R, 3·H), written over `inputs`, and what r multiplies (R, H). `bias` may be None.
    """
    width = state.shape[1]
    state, across = state.copy(), _across(xp, weight)
    y, candidates = (xp.empty((len(inputs), width), inputs.dtype) for _ in range(2))
    for first, last in steps:
        gates, h = inputs[first:last], state[: last - first]
        recurrent = h.dot(across)
        if bias is not None:
            recurrent += bias
        r, z, n = _parts(gates, width)
        candidate = candidates[first:last]
        candidate[...] = recurrent[:, 2 * width :]
        gates[:, : 2 * width] += recurrent[:, : 2 * width]
        _sigmoid(xp, gates[:, : 2 * width])
        n += r * candidate
        xp.tanh(n, out=n)
        h -= n
        h *= z
        h += n
        y[first:last] = h
    return y, state, inputs, candidates


@kernel
def gru_backward(
    xp: ModuleType, gradient: Array, of_final: Array, gates: Array, candidates: Array, before: Array, weight: Array, steps: Steps
) -> tuple[Array, Array, Array]:
    """Gradients of inputs and of the recurrent products, (R, 3·H) each, and of the first state (B, H)."""
    width = weight.shape[1]
    z = gates[:, width : 2 * width]
    state = of_final.copy()
    of_recurrent, of_n = _gru_slopes(gates, candidates, before)
    for first, last in reversed(steps):
        now, h = of_recurrent[first:last], state[: last - first]
        h += gradient[first:last]
        of_n[first:last] *= h
        for part in _parts(now, width):
            part *= h
        h *= z[first:last]
        h += now.dot(weight)
    of_inputs = of_recurrent.copy()
    of_inputs[:, 2 * width :] = of_n
    return of_inputs, of_recurrent, state


def _gru_slopes(gates: Array, candidates: Array, before: Array) -> tuple[Array, Array]:
    """What the gradient of h is multiplied by: for the recurrent products, and for the input of n."""
    width = before.shape[1]
    r, z, n = _parts(gates, width)
    of_n = (1 - z) * (1 - n * n)
    result = gates * (1 - gates)
    of_r, of_z, of_candidate = _parts(result, width)
    of_r *= of_n * candidates
    of_z *= before - n
    of_candidate[...] = of_n * r
    return result, of_n


@kernel
def states_before(xp: ModuleType, states: Array, first_state: Array, steps: Steps) -> Array:
    """For each row the state (R, H) from which its step started."""
    result, state = xp.empty_like(states), first_state.copy()
    for first, last in steps:
        result[first:last] = state[: last - first]
        state[: last - first] = states[first:last]
    return result


def _across(xp: ModuleType, weight: Array) -> Array:
    """weightᵀ, copied: the product of a few rows with a transposed view takes OpenBLAS up to four times as long."""
    return xp.ascontiguousarray(weight.T)


def _parts(gates: Array, width: int) -> list[Array]:
    """(n, k·width) → k views (n, width)."""
    return [gates[:, start : start + width] for start in range(0, gates.shape[1], width)]


def _sigmoid(xp: ModuleType, x: Array) -> None:
    """In place."""
    xp.negative(x, out=x)
    logistic_of_minus(xp, x)
