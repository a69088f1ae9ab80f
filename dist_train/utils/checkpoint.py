"""Recomputation: keep no activations of a part of the model, and compute them again when backward needs them.

See Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from .. import random
from ..autograd import Function, Tensor, enable_grad, grad, is_grad_enabled


def checkpoint(
    function: Callable[..., Any], *args: Any, use_reentrant: bool | None = None, preserve_rng_state: bool = True, **kwargs: Any
) -> Any:
    """function(*args, **kwargs), whose activations are computed again in backward instead of being kept.

    The random numbers are the same the second time, unless `preserve_rng_state` is False; so are the gradients then. What `function`
    uses beside its arguments may be leaves (parameters). Running statistics move twice, as in torch. Results are a tensor or a tuple.
    `use_reentrant` is accepted for torch's sake: there is one way here, and it needs no input that requires grad.
    """
    if not is_grad_enabled():
        return function(*args, **kwargs)
    call = _Call(function, args, kwargs, preserve_rng_state)
    result, inputs = call.run()
    outputs = result if isinstance(result, tuple) else (result,)
    leaves = _leaves(outputs, inputs)
    given = [tensor for tensor in call.tensors if tensor.requires_grad]
    results = _Recomputed.apply(call, leaves, outputs, *given, *leaves)
    return results if isinstance(result, tuple) else results[0]


def checkpoint_sequential(
    functions: Any, segments: int, input: Any, use_reentrant: bool | None = None, preserve_rng_state: bool = True
) -> Any:
    """Run the modules one after another; the activations inside each but the last of `segments` equal parts are computed again.

    ValueError unless there are between 1 and as many segments as modules.
    """
    modules = list(functions.children()) if hasattr(functions, "children") else list(functions)
    if not 1 <= segments <= len(modules):
        raise ValueError(f"{segments} segments for {len(modules)} modules")
    size = len(modules) // segments
    for start in range(0, size * (segments - 1), size):
        input = checkpoint(_Chain(modules[start : start + size]), input, preserve_rng_state=preserve_rng_state)
    return _Chain(modules[size * (segments - 1) :])(input)


class _Chain:
    def __init__(self, modules: Sequence[Callable[[Any], Any]]) -> None:
        self.modules = modules

    def __call__(self, x: Any) -> Any:
        for module in self.modules:
            x = module(x)
        return x


class _Call:
    """A function, its arguments, and the state of the random numbers when it was called."""

    def __init__(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], keep_random: bool) -> None:
        self.function, self.args, self.kwargs = function, args, kwargs
        self.tensors = list({id(value): value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)}.values())
        self.state = random.get_rng_state() if keep_random else None

    def run(self) -> tuple[Any, list[Tensor]]:
        """The result, recorded, and the leaves that stand for the arguments which require grad."""
        copies = {id(tensor): tensor.detach().requires_grad_(tensor.requires_grad) for tensor in self.tensors}
        args = [copies.get(id(value), value) for value in self.args]
        kwargs = {name: copies.get(id(value), value) for name, value in self.kwargs.items()}
        with enable_grad():
            result = self.function(*args, **kwargs)
        return result, [copies[id(tensor)] for tensor in self.tensors if tensor.requires_grad]

    def run_again(self) -> tuple[Any, list[Tensor]]:
        """The same with the random numbers of the first time."""
        if self.state is None:
            return self.run()
        present = random.get_rng_state()
        random.set_rng_state(self.state)
        try:
            return self.run()
        finally:
            random.set_rng_state(present)


class _Recomputed(Function):
    """From the arguments and the leaves to the results, which are there already; backward runs the call again."""

    @staticmethod
    def forward(ctx: Any, call: _Call, leaves: list[Tensor], outputs: tuple[Any, ...], *tensors: Tensor) -> Any:
        ctx.call, ctx.leaves = call, leaves
        ctx.save_for_backward(*tensors[: len(tensors) - len(leaves)])  # a change in place is an error in backward
        ctx.set_materialize_grads(False)
        results = tuple([output.detach() if isinstance(output, Tensor) else output for output in outputs])
        constants = [result for result, output in zip(results, outputs) if isinstance(output, Tensor) and not output.requires_grad]
        ctx.mark_non_differentiable(*constants)
        return results

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        result, inputs = ctx.call.run_again()
        outputs = result if isinstance(result, tuple) else (result,)
        wanted = [(output, gradient) for output, gradient in zip(outputs, gradients) if gradient is not None]
        outputs, gradients = zip(*wanted)
        return None, None, None, *grad(outputs, [*inputs, *ctx.leaves], gradients, allow_unused=True)


def _leaves(outputs: tuple[Any, ...], inputs: list[Tensor]) -> list[Tensor]:
    """What the outputs depend on beside the inputs, in the order in which it is found."""
    known = {id(tensor) for tensor in inputs}
    stack = [edge for output in outputs if isinstance(output, Tensor) and output.requires_grad for edge in [output._edge()]]
    leaves = []
    while stack:
        edge = stack.pop()
        if edge is None or id(edge) in known:
            continue
        known.add(id(edge))
        if isinstance(edge, Tensor):
            leaves.append(edge)
        else:
            stack.extend(edge.edges)
    return leaves
