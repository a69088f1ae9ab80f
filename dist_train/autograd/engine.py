"""Backward: walk the recorded graph from the roots to the leaves, each node once, when its gradient is final.

An edge leads from a node to what made its input: another node, or the leaf tensor itself. Nodes are counted by use first, so a node
runs when the last of its consumers has delivered; nothing recurses, so the length of a chain does not matter.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from ..backend.floating import IGNORE, reset_error_state, set_error_state
from .grad_mode import mode

if TYPE_CHECKING:
    from .tensor import Tensor

Array = Any


class BackwardListener(Protocol):
    """What wants to know when backward passes have written gradients of its leaves: the distributed optimizer."""

    overlaps: bool  # whether it wants to know of each leaf, too

    def gradient_final(self, leaf: Tensor) -> None:
        """The current backward pass adds no more to the leaf's gradient, and the leaf's hooks have run."""

    def backward_done(self, loss: Array | None) -> None:
        """A backward pass from the scalar `loss` (None: from something else) is done and wrote gradients of this listener's leaves."""

    def gradients_dropped(self) -> None:
        """The gradients of the leaves have been set to None."""


class Node:
    """One recorded operation: `backward` maps the gradient of its output to those of its inputs."""

    edges: Sequence[Any] = ()  # per input: the Node or leaf Tensor that the gradient flows to, or None
    saved: Any = ()  # what backward needs; None once freed
    checks: Sequence[tuple[list[int], int]] = ()  # (version cell, version when saved) of saved tensors
    _hooks: dict[int, Any] | None = None
    writes: int | None = None  # the input, if any, whose gradient backward can write into a given array:
    into: Array = None  # this one, or None for a new one

    def backward(self, gradient: Array) -> Any:
        """Gradient of the output → gradient of the only input, or a tuple with one entry (or None) per input."""
        raise NotImplementedError(f"{type(self).__name__} has no backward")

    def keep_old_values(self, tensor: Tensor) -> None:
        """Before `tensor` takes over this operation's result: what backward needs of its old values is copied."""
        if type(self.saved) is tuple and any(part is tensor.array for part in self.saved):
            copy = tensor.array.copy()
            self.saved = tuple([copy if part is tensor.array else part for part in self.saved])
            self.checks = [check for check in self.checks if check[0] is not tensor._version]

    def name(self) -> str:
        return type(self).__name__ + "Backward"

    @property
    def next_functions(self) -> tuple[tuple[Any, int], ...]:
        return tuple((edge, 0) for edge in self.edges)

    def __repr__(self) -> str:
        return f"<{self.name()}>"


def run(
    roots: Sequence[tuple[Any, Array]], *, retain_graph: bool = False, capture: dict[Any, Array] | None = None, loss: Array = None
) -> None:
    """Send each root's gradient back through the graph.

    Gradients are added up in the `.grad` of leaves, or, with `capture`, stored in it for the targets that are its keys and nowhere else.
    """
    pending: dict[Any, Array] = {}  # gradients that are not whole yet
    for target, gradient in roots:
        pending[target] = gradient if target not in pending else pending[target] + gradient
    uses = _count_uses(pending)
    ready = [(target, pending.pop(target)) for target in list(pending) if not uses[target]]
    recording, mode.enabled = mode.enabled, False
    token = set_error_state(IGNORE)
    try:
        listeners = _walk(ready, pending, uses, retain_graph, capture)
    finally:
        reset_error_state(token)
        mode.enabled = recording
    for listener in listeners:
        listener.backward_done(loss)


def _walk(
    ready: list[tuple[Any, Array]], pending: dict[Any, Array], uses: dict[Any, int], retain_graph: bool, capture: dict[Any, Array] | None
) -> dict[BackwardListener, None]:
    """Run what is ready, nodes and leaves with their whole gradients, until nothing is left; the listeners of the leaves reached."""
    listeners: dict[BackwardListener, None] = {}
    while ready:
        target, gradient = ready.pop()
        if target._hooks and gradient is not None:
            gradient = _run_hooks(target, gradient)
        if capture is not None and target in capture:
            capture[target] = gradient
        if not isinstance(target, Node):
            if gradient is not None and capture is None:
                _accumulate(target, gradient, listeners)
            continue
        if target.writes is not None and capture is None:
            target.into = _own_buffer(target.edges[target.writes], pending, uses) if target.edges else None
        edges = target.edges
        for edge, part in zip(edges, _gradients(target, gradient)):
            if edge is None:
                continue
            left = uses[edge] = uses[edge] - 1
            if edge in pending:
                other = pending.pop(edge)
                part = other if part is None else other + part
            if not left:
                ready.append((edge, part))
            elif part is not None:
                pending[edge] = part
        if not retain_graph:
            target.saved = None
            target.edges = ()
    return listeners


def _gradients(node: Node, gradient: Array) -> tuple[Array, ...]:
    """Run one node."""
    if node.saved is None:
        raise RuntimeError(
            f"backward through {node.name()} a second time: the graph was freed by the first backward; "
            "call backward(retain_graph=True) there, or run the forward pass again"
        )
    if gradient is None:
        return (None,) * len(node.edges)
    for cell, version in node.checks:
        if cell[0] != version:
            raise RuntimeError(
                f"a value that {node.name()} needs for backward was changed in place {cell[0] - version} time(s) after it was used; "
                "compute a new tensor instead (x = x + 1, not x += 1), or clone() it first"
            )
    gradients = node.backward(gradient)
    return gradients if type(gradients) is tuple else (gradients,)


def _own_buffer(edge: Any, pending: dict[Any, Array], uses: dict[Any, int]) -> Array:
    """The gradient buffer of a leaf that gets its gradient from one node alone; None for anything else."""
    if edge is None or isinstance(edge, Node) or edge._grad_buffer is None or edge.grad is not None or edge._hooks:
        return None
    return edge._grad_buffer.array if uses[edge] == 1 and edge not in pending else None


def _count_uses(targets: Iterable[Any]) -> dict[Any, int]:
    """How often each reachable node or leaf will receive a gradient."""
    uses = dict.fromkeys(targets, 0)
    stack = [target for target in uses if isinstance(target, Node)]
    while stack:
        for edge in stack.pop().edges:
            if edge is None:
                continue
            count = uses.get(edge)
            if count is not None:
                uses[edge] = count + 1
            else:
                uses[edge] = 1
                if isinstance(edge, Node):
                    stack.append(edge)
    return uses


def _run_hooks(target: Any, gradient: Array) -> Array:
    from .tensor import Tensor

    for hook in list(target._hooks.values()):
        result = hook(Tensor(gradient))
        if result is not None:
            gradient = result.array
    return gradient


def _accumulate(leaf: Tensor, gradient: Array, listeners: dict[BackwardListener, None]) -> None:
    """Add to the leaf's gradient: the first write of a pass stores (into the leaf's own buffer where it has one)."""
    if gradient.shape != leaf.array.shape:
        raise RuntimeError(f"a gradient of shape {gradient.shape} reached a tensor of shape {leaf.array.shape}")
    if leaf.grad is not None:
        leaf.grad.array[...] += gradient
    elif leaf._grad_buffer is not None:
        if gradient is not leaf._grad_buffer.array:
            leaf._grad_buffer.array[...] = gradient
        leaf.grad = leaf._grad_buffer
    else:
        leaf.grad = leaf.detach_copy(gradient)
    if leaf._listener is not None:
        listeners[leaf._listener] = None
    if leaf._accumulate_hooks:
        for hook in list(leaf._accumulate_hooks.values()):
            hook(leaf)
    if leaf._listener is not None and leaf._listener.overlaps:
        leaf._listener.gradient_final(leaf)
