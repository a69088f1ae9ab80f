"""Optimizer: torch's interface around a rule. A subclass says which state vectors its rule needs and what the rule does
to a slice.

    class SignDescent(Optimizer):
        def __init__(self, params, lr=1e-3):
            super().__init__(params, {"lr": lr})

        def update(self, group, step, param, grad, state):
            param -= group["lr"] * np.sign(grad)

Because a rule sees 1-D arrays and treats every element alike, `dist_train.distribute` can hand it any slice of the
parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import numpy as np

from ..autograd.grad_mode import enable_grad
from ..autograd.tensor import RemovableHandle, Tensor
from ..backend.device import Array, is_device_array
from .driver import Driver, Group, LocalDriver, ParameterState, initial_vector
from .parts import Read, merged_groups

Params = Iterable[Tensor] | Iterable[dict[str, Any]] | Iterable[tuple[str, Tensor]]
Update = TypeVar("Update", bound=Callable[..., None])


def takes_sums(update: Update) -> Update:
    """Marks an `update` whose gradient is grad / self.grad_divisor: a sum of gradients becomes their mean on the way, without a pass of
    its own. Any other `update` is given the quotient."""
    update.takes_sums = True  # type: ignore[attr-defined]
    return update


class Optimizer:
    """Base of all optimizers.

    `params`: tensors, (name, tensor) pairs, or dicts with "params" and a group's own hyper-parameters; `defaults`: the
    hyper-parameters of groups that do not give their own. Raises TypeError for what is no tensor and ValueError for an
    empty list, a tensor that is not a leaf, one that appears twice, or a hyper-parameter out of its range.

    After `step()`: `stepped` says whether that call changed the parameters, `steps` how many calls have, `loss` is the
    mean loss of the step where the optimizer knows it (under `dist_train.distribute`), else None.
    """

    grad_divisor = 1.0  # for an `update` that takes sums
    eager_state = False  # whether state_dict holds the state of parameters that have not had a gradient yet (as torch's Adagrad)

    def __init__(self, params: Params, defaults: dict[str, Any]) -> None:
        self.defaults = defaults
        self.check(defaults)
        self.param_groups: list[Group] = []
        self.stepped = False
        self.steps = 0
        self._step_called = False
        self._pre_hooks: dict[int, Any] = {}
        self._post_hooks: dict[int, Any] = {}
        self._driver: Driver = LocalDriver(self)
        for group in _groups(params):
            self.add_param_group(group)

    # the rule

    def state_vectors(self, group: Group) -> tuple[str, ...]:
        """Names of the vectors that the rule keeps per element for parameters of `group`."""
        return ()

    def initial_state(self, group: Group, name: str) -> float:
        """The value that every element of state vector `name` starts from."""
        return 0.0

    def next_step(self, group: Group, step: int) -> int:
        """The number of the update that follows number `step` (0: none yet)."""
        return step + 1

    def update(self, group: Group, step: int, param: Array, grad: Array, state: dict[str, Array]) -> None:
        """The rule, for 1-D arrays of one length: changes `param` and the vectors of `state` in place, and never
        `grad`.

        `step` is the number of this update, from 1. Elements must not depend on each other, nor on where the slice
        begins.
        """
        raise NotImplementedError(f"{type(self).__name__} has no update rule")

    def check(self, group: Group) -> None:
        """ValueError if a hyper-parameter of `group` is out of its range."""

    # state in torch's layout

    def pack_state(self, group: Group, step: int, vectors: dict[str, Array]) -> dict[str, Any]:
        """torch's state entry of one parameter, from its number of updates and its state vectors in its shape."""
        packed: dict[str, Any] = {"step": Tensor(np.array(step, np.float32))}
        return packed | {name: Tensor(vectors[name]) for name in self.state_vectors(group)}

    def unpack_state(self, group: Group, entry: dict[str, Any]) -> tuple[int, dict[str, Array]]:
        """The number of updates and the state vectors of a state entry, from this library or from torch.

        ValueError if the entry lacks a vector that the rule needs.
        """
        missing = [name for name in ("step", *self.state_vectors(group)) if name not in entry]
        if missing:
            raise ValueError(f"state for {type(self).__name__} lacks {missing[0]!r}: it has {sorted(entry)}")
        return int(as_array(entry["step"])), {name: as_array(entry[name]) for name in self.state_vectors(group)}

    # torch's interface

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update the parameters from their gradients, which `closure`, if given, computes first; returns its result."""
        for hook in list(self._pre_hooks.values()):
            hook(self, (closure,), {})
        loss = None
        if closure is not None:
            with enable_grad():
                loss = closure()
        self._step_called = True
        self.stepped = self._driver.step()  # rules work on arrays: nothing is recorded
        self.steps += self.stepped
        for hook in list(self._post_hooks.values()):
            hook(self, (closure,), {})
        return loss

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients, or, with `set_to_none=False`, fill them with zeros."""
        self._driver.zero_grad(set_to_none)

    @property
    def step_complete(self) -> bool:
        """Whether the last `step()` call ended a step. False only between the micro-batches of a distributed step."""
        return self._driver.step_complete

    @property
    def loss(self) -> float | None:
        """The mean loss over the last step, where the optimizer knows it."""
        return self._driver.loss

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters with their own hyper-parameters: {"params": ..., "lr": ...}. Errors as for the constructor."""
        if not isinstance(param_group, dict):
            raise TypeError(f"a parameter group is a dict, not {type(param_group).__name__}")
        group = {**param_group, **_named_params(param_group["params"])}
        for name, default in self.defaults.items():
            group.setdefault(name, default)
        _check_params(group, self.param_groups)
        self.check(group)
        self.param_groups.append(group)
        self._driver.group_added(group)

    def indexed_params(self) -> list[tuple[Group, Tensor]]:
        """(group, parameter) in order of the groups: by the parameter's index in state_dict and checkpoints."""
        return [(group, param) for group in self.param_groups for param in group["params"]]

    def state_dict(self) -> dict[str, Any]:
        """The state in torch's layout; its tensors share memory with the optimizer.

        {"state": {index: {...}}, "param_groups": [{..., "params": [index, ...]}, ...]}
        """
        states = self._driver.state()
        packed = {index: self._entry(index, states.get(index)) for index in range(len(self.indexed_params()))}
        return {
            "state": {index: entry for index, entry in packed.items() if entry},
            "param_groups": self._numbered_groups(),
        }

    def _entry(self, index: int, state: ParameterState | None) -> dict[str, Any]:
        group, param = self.indexed_params()[index]
        if state is None and not self.eager_state:
            return {}
        state = state or ParameterState()
        vectors = {}
        for name in self.state_vectors(group):
            vector = state.vectors.get(name)
            vector = initial_vector(self, group, name, param.array, param.array.size) if vector is None else vector
            vectors[name] = vector.reshape(param.array.shape)
        return self.pack_state(group, state.step, vectors)

    def _numbered_groups(self) -> list[dict[str, Any]]:
        groups, start = [], 0
        for group in self.param_groups:
            indices = list(range(start, start + len(group["params"])))
            groups.append({**{k: v for k, v in group.items() if k != "params"}, "params": indices})
            start += len(indices)
        return groups

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take a copy of what `state_dict` gave, here or in torch. ValueError, and no change, where it does not fit."""
        groups, entries = state_dict["param_groups"], state_dict["state"]
        _check_sizes(self.param_groups, groups)
        indices = {number: index for index, number in enumerate(number for group in groups for number in group["params"])}
        unknown = [number for number in entries if number not in indices]
        if unknown:
            raise ValueError(f"state for parameter {unknown[0]!r}, which no group of the state_dict holds")
        merged = merged_groups(self, groups)
        states = {indices[number]: self._unpacked(merged, indices[number], entry) for number, entry in entries.items()}
        for group, new in zip(self.param_groups, merged):
            group.update(new)
        self._driver.load_state(states)

    def _unpacked(self, groups: list[Group], index: int, entry: dict[str, Any]) -> ParameterState:
        group, param = [(group, param) for group in groups for param in group["params"]][index]
        step, vectors = self.unpack_state(group, entry)
        for name, vector in vectors.items():
            if vector.shape != param.array.shape:
                raise ValueError(f"{name!r} of parameter {index} has shape {vector.shape}, the parameter {tuple(param.array.shape)}")
        return ParameterState(step, {name: vector.reshape(-1) for name, vector in vectors.items()})

    def register_step_pre_hook(self, hook: Callable[[Optimizer, Any, Any], None]) -> RemovableHandle:
        """Call `hook(optimizer, args, kwargs)` before each step."""
        return RemovableHandle(self._pre_hooks, hook)

    def register_step_post_hook(self, hook: Callable[[Optimizer, Any, Any], None]) -> RemovableHandle:
        """Call `hook(optimizer, args, kwargs)` after each step."""
        return RemovableHandle(self._post_hooks, hook)

    # checkpoints

    def shard(self) -> dict[str, Any]:
        """This process' part of the state, as `dist_train.Checkpoint` stores it (parts.py describes it)."""
        return self._driver.shard()

    def load_shard(self, parts: list[dict[str, Any]], extra: dict[str, Any], read: Read) -> None:
        """Take what `shard` gave on any number of processes. ValueError names the first parameter that does not fit."""
        self._driver.load_shard(parts, extra, read)

    def __repr__(self) -> str:
        lines = [f"{type(self).__name__} ("]
        for number, group in enumerate(self.param_groups):
            lines.append(f"Parameter Group {number}")
            lines += [f"    {key}: {group[key]}" for key in sorted(group) if key != "params"]
        return "\n".join([*lines, ")"])


def as_array(value: Any) -> Array:
    """The array of a Tensor, or of what NumPy takes (torch's tensors, numbers)."""
    if isinstance(value, Tensor):
        return value.array
    return value if is_device_array(value) else np.asarray(value)


def _groups(params: Any) -> list[dict[str, Any]]:
    """What the constructor takes, as a list of groups."""
    if isinstance(params, Tensor):
        raise TypeError("an optimizer takes an iterable of tensors or dicts, not a single tensor: use [tensor]")
    if isinstance(params, dict):
        raise TypeError("an optimizer takes an iterable of tensors or dicts, not a single dict: use [group]")
    if isinstance(params, (set, frozenset)):
        raise TypeError("an optimizer's parameters need an order, which a set has not: use a list")
    items = list(params)
    if not items:
        raise ValueError("the optimizer got an empty parameter list")
    return items if isinstance(items[0], dict) else [{"params": items}]


def _named_params(params: Any) -> dict[str, Any]:
    """{"params": list} of a group's parameters, with "param_names" where they are (name, tensor) pairs."""
    if isinstance(params, (set, frozenset)):
        raise TypeError("an optimizer's parameters need an order, which a set has not: use a list")
    items = [params] if isinstance(params, Tensor) else list(params)
    pairs = [item for item in items if isinstance(item, tuple)]
    if not pairs:
        return {"params": items}
    if len(pairs) != len(items):
        raise ValueError(f"{len(pairs)} of {len(items)} parameters have names: give all of them names, or none")
    return {"params": [param for _, param in pairs], "param_names": [name for name, _ in pairs]}


def _check_params(group: Group, others: list[Group]) -> None:
    seen = {id(param) for other in others for param in other["params"]}
    for index, param in enumerate(group["params"]):
        if not isinstance(param, Tensor):
            raise TypeError(f"an optimizer takes tensors; parameter {index} of the group is a {type(param).__name__}")
        if not param.is_leaf:
            raise ValueError(f"parameter {index} of the group (shape {tuple(param.shape)}) was computed from others: not a leaf")
        if id(param) in seen:
            raise ValueError(f"parameter {index} of the group (shape {tuple(param.shape)}) appears more than once in the optimizer")
        seen.add(id(param))
    if any(("param_names" in other) != ("param_names" in group) for other in others):
        raise ValueError("give the parameters of all groups names, or those of none")


def _check_sizes(groups: list[Group], saved: list[dict[str, Any]]) -> None:
    if len(saved) != len(groups):
        raise ValueError(f"the state_dict has {len(saved)} parameter groups, this optimizer {len(groups)}")
    for number, (group, other) in enumerate(zip(groups, saved)):
        if len(other["params"]) != len(group["params"]):
            raise ValueError(
                f"group {number} of the state_dict has {len(other['params'])} parameters, this optimizer's {len(group['params'])}"
            )
