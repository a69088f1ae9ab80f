"""Where an optimizer's state lives and how a step reaches it: `LocalDriver` for one process, with one segment per
parameter.

`dist_train.distribute` puts another driver in its place; the optimizer object, and all that refers to it, stays the
same.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ..autograd.tensor import Tensor
from ..backend.device import Array, array_module, device_of, to_device, to_host
from .parts import Read, check_tables, dense_table, load_extra, read_parameter
from .parts import extra as extra_values

if TYPE_CHECKING:
    from .optimizer import Optimizer

Group = dict[str, Any]


@dataclass
class ParameterState:
    """One parameter's state: the number of its last update and its state vectors, laid out as the flat parameter."""

    step: int = 0
    vectors: dict[str, Array] = field(default_factory=dict)


class Driver(Protocol):
    """What an Optimizer asks of the place that holds its state."""

    step_complete: bool  # whether the last step() call ended a step; always so in one process
    loss: float | None  # mean loss of the last step, where it is known

    def step(self) -> bool:
        """Apply the optimizer's rule where there are gradients; whether any parameter was updated."""

    def zero_grad(self, set_to_none: bool) -> None:
        """Forget the gradients, or set them to zero."""

    def group_added(self, group: Group) -> None:
        """A parameter group has been added to the optimizer."""

    def state(self) -> dict[int, ParameterState]:
        """Parameter's index → its whole state, for the parameters that have one."""

    def load_state(self, states: dict[int, ParameterState]) -> None:
        """Replace all state by `states`, whole vectors by parameter index (of any array library or type)."""

    def shard(self) -> dict[str, Any]:
        """This process' part of the state, for a checkpoint (see parts.py)."""

    def load_shard(self, parts: list[dict[str, Any]], extra: dict[str, Any], read: Read) -> None:
        """Take back what `shard` gave, from any number of processes."""


class LocalDriver:
    """State per parameter, made when its first gradient comes. Parameters without a gradient are skipped."""

    step_complete = True
    loss: float | None = None

    def __init__(self, optimizer: Optimizer) -> None:
        self.optimizer = optimizer
        self._states: dict[Tensor, ParameterState] = {}

    def step(self) -> bool:
        updated = False
        for group in self.optimizer.param_groups:
            names = self.optimizer.state_vectors(group)
            for param in group["params"]:
                if param.grad is not None:
                    self._update(group, names, param, param.grad.array)
                    updated = True
        return updated

    def _update(self, group: Group, names: tuple[str, ...], param: Tensor, grad: Array) -> None:
        array = param.array
        state = self._ready_state(group, names, param)
        if grad.shape != array.shape or grad.dtype != array.dtype:
            grad = _fitting(grad, array)
        step = self.optimizer.next_step(group, state.step)
        flat = array.reshape(-1)  # a view, or a copy where the parameter is not contiguous
        self.optimizer.update(group, step, flat, grad.reshape(-1), state.vectors)
        if not array.flags.c_contiguous:
            array[...] = flat.reshape(array.shape)
        state.step = step
        if param._version is not None:
            param._version[0] += 1

    def _ready_state(self, group: Group, names: tuple[str, ...], param: Tensor) -> ParameterState:
        """The parameter's state with all vectors that its group needs now."""
        state = self._states.get(param)
        if state is None:
            state = self._states[param] = ParameterState()
        for name in names:
            if name not in state.vectors:
                state.vectors[name] = initial_vector(self.optimizer, group, name, param.array, param.array.size)
        return state

    def zero_grad(self, set_to_none: bool) -> None:
        for group in self.optimizer.param_groups:
            for param in group["params"]:
                if set_to_none:
                    param.grad = None
                elif param.grad is not None:
                    param.grad.array[...] = 0

    def group_added(self, group: Group) -> None:
        pass  # state is made when it is needed

    def state(self) -> dict[int, ParameterState]:
        params = [param for _, param in self.optimizer.indexed_params()]
        return {index: self._states[param] for index, param in enumerate(params) if param in self._states}

    def load_state(self, states: dict[int, ParameterState]) -> None:
        params = [param for _, param in self.optimizer.indexed_params()]
        self._states = {params[index]: _like(params[index].array, state) for index, state in states.items()}

    def shard(self) -> dict[str, Any]:
        """One part per type, the parameters one after another without gaps."""
        indices: dict[str, list[int]] = {}
        for index, (_, param) in enumerate(self.optimizer.indexed_params()):
            indices.setdefault(param.dtype.name, []).append(index)
        counts = [self._states.get(param, ParameterState()).step for _, param in self.optimizer.indexed_params()]
        return {
            "parts": [self._part(dtype, chosen) for dtype, chosen in indices.items()],
            "extra": extra_values(self.optimizer, counts),
        }

    def _part(self, dtype: str, indices: list[int]) -> dict[str, Any]:
        table, length = dense_table(self.optimizer, indices)
        names = {name: None for state in self.state().values() for name in state.vectors}
        vectors = {name: np.concatenate([self._flat(index, name) for index in indices]) for name in names}
        return {"dtype": dtype, "length": length, "start": 0, "stop": length, "table": table, "vectors": vectors}

    def _flat(self, index: int, name: str) -> np.ndarray[Any, Any]:
        group, param = self.optimizer.indexed_params()[index]
        vectors = self._states[param].vectors if param in self._states else {}
        if name not in vectors:
            return to_host(initial_vector(self.optimizer, group, name, param.array, param.array.size))
        return to_host(vectors[name])

    def load_shard(self, parts: list[dict[str, Any]], extra: dict[str, Any], read: Read) -> None:
        check_tables(self.optimizer, parts)
        names = {name for part in parts for name in part["names"]}
        states = {}
        for index, step in enumerate(extra["step_counts"]):
            if step:
                found = {name: read_parameter(parts, read, index, name) for name in names}
                states[index] = ParameterState(int(step), {k: v for k, v in found.items() if v is not None})
        load_extra(self.optimizer, extra)
        self.load_state(states)


def initial_vector(optimizer: Optimizer, group: Group, name: str, like: Array, size: int) -> Array:
    """What the state vector `name` starts from: `size` elements of the type of `like`, on its device."""
    value = optimizer.initial_state(group, name)
    xp = array_module(like)
    return xp.full(size, value, like.dtype) if value else xp.zeros(size, like.dtype)


def _fitting(grad: Array, array: Array) -> Array:
    if grad.shape != array.shape:
        raise RuntimeError(f"a gradient of shape {grad.shape} for a parameter of shape {array.shape}")
    return grad.astype(array.dtype)


def _like(array: Array, state: ParameterState) -> ParameterState:
    """A copy of `state` with the type and on the device of `array`."""
    vectors = {k: to_device(v.astype(array.dtype), device_of(array)) for k, v in state.vectors.items()}
    return ParameterState(state.step, vectors)
