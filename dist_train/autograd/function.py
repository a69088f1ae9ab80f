"""Recorded operations: `Op`, the form of the built-in ones, and `Function`, torch's form for users' own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..backend.device import array_module
from ..backend.floating import IGNORE, quiet, reset_error_state, set_error_state
from .engine import Array, Node
from .grad_mode import mode, no_grad
from .tensor import Tensor, version_cell

# Which inputs the backward of a product reads (see `Op.saves`), by which of its two inputs want a gradient.
PRODUCT_SAVES: dict[tuple[bool, ...], tuple[int, ...]] = {
    (True, True): (0, 1),
    (True, False): (1,),
    (False, True): (0,),
    (False, False): (),
}


class Op(Node):
    """A differentiable operation on raw arrays. The instance is the node of the graph and holds what backward needs.

        class Mul(Op):
            saves = (0, 1)

            def forward(self, x, y):
                self.saved = x, y
                return x * y

            def backward(self, gradient):
                x, y = self.saved
                return gradient * y, gradient * x

    `Mul.apply(a, b)` takes Tensors and Python scalars by position and everything else by keyword.
    """

    # A class says these once; forward may narrow them for one call (`self.saves = ()`).
    saves: tuple[int, ...] = ()  # positions of the inputs that backward reads: changing them in place is an error
    saves_output: bool = False  # whether backward reads the output
    view: bool = False  # whether the output shares memory with input 0
    needs: tuple[bool, ...] = ()  # which inputs want a gradient

    def forward(self, *inputs: Any, **params: Any) -> Array:
        """Arrays and scalars → array; what backward needs goes into the one tuple `self.saved`."""
        raise NotImplementedError(f"{type(self).__name__} has no forward")

    @classmethod
    def apply(cls, *inputs: Any, **params: Any) -> Tensor:
        op = cls()
        arrays = op._connect(inputs)
        token = set_error_state(IGNORE)
        try:
            array = op.forward(*arrays, **params)
        finally:
            reset_error_state(token)
        output = Tensor(array)
        if True in op.needs and output.array.dtype.kind == "f":
            op._record(inputs, output)
        if op.view:
            output._become_view(inputs[0])
        return output

    def _connect(self, inputs: tuple[Any, ...]) -> list[Any]:
        """The inputs as arrays and scalars; notes which want a gradient, and where it flows to."""
        arrays, needs, edges = [], [], []
        enabled = mode.enabled
        for value in inputs:
            edge = None
            if isinstance(value, Tensor):
                arrays.append(value.array)
                if enabled and value.requires_grad:
                    edge = value._node if value._node is not None and not value._is_view else value._edge()
            else:
                arrays.append(value)
            needs.append(edge is not None)
            edges.append(edge)
        self.needs, self.edges = tuple(needs), edges
        return arrays

    def _record(self, inputs: tuple[Any, ...], output: Tensor) -> None:
        """Make `output` the result of this node, and note which versions of tensors backward reads."""
        output._node = self
        output.requires_grad = True
        if self.saves:
            checks = []
            for i in self.saves:
                value = inputs[i]
                if isinstance(value, Tensor):
                    cell = value._version
                    if cell is None:
                        cell = version_cell(value)
                    checks.append((cell, cell[0]))
            self.checks = checks
        if self.saves_output:
            cell = version_cell(output)
            self.checks = (*self.checks, (cell, cell[0]))


class Function:
    """Base of users' own operations, as in torch: static `forward(ctx, ...)` and `backward(ctx, *gradients)`.

    See https://docs.pytorch.org/docs/stable/autograd.html#function
    """

    @staticmethod
    def forward(ctx: FunctionNode, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError("a Function needs a static method forward(ctx, ...)")

    @staticmethod
    def backward(ctx: FunctionNode, *gradients: Any) -> Any:
        raise NotImplementedError("a Function needs a static method backward(ctx, ...) to be differentiated")

    @classmethod
    def apply(cls, *args: Any, **kwargs: Any) -> Any:
        node = FunctionNode(cls, args)
        with no_grad():
            result = cls._forward(node, *args, **kwargs)
        if not (mode.enabled and True in node.needs_input_grad):
            return result
        outputs = result if isinstance(result, tuple) else (result,)
        outputs = tuple([_own(output, args) for output in outputs])
        node.record(args, outputs)
        return outputs if isinstance(result, tuple) else outputs[0]

    @classmethod
    def _forward(cls, node: FunctionNode, *args: Any, **kwargs: Any) -> Any:
        """Torch's two forms: forward(ctx, ...), or forward(...) beside setup_context(ctx, inputs, output)."""
        setup = getattr(cls, "setup_context", None)
        if setup is None:
            return cls.forward(node, *args, **kwargs)
        output = cls.forward(*args, **kwargs)
        setup(node, args, output)
        return output


def _own(output: Any, args: tuple[Any, ...]) -> Any:
    """An output of its own where forward returned one of its inputs, whose place in the graph must stay."""
    return output.detach() if isinstance(output, Tensor) and any(output is value for value in args) else output


class FunctionNode(Node):
    """The `ctx` of a `Function`, and its node in the graph."""

    def __init__(self, function: type[Function], args: tuple[Any, ...]) -> None:
        self.function = function
        self.needs_input_grad = tuple([isinstance(value, Tensor) and value.requires_grad for value in args])
        self._non_differentiable: tuple[Any, ...] = ()
        self._materialize = True

    def save_for_backward(self, *tensors: Tensor | None) -> None:
        """Keep tensors for backward; changing one in place afterwards is an error there."""
        self.saved = tensors
        cells = [version_cell(tensor) for tensor in tensors if tensor is not None]
        self.checks = tuple([(cell, cell[0]) for cell in cells])

    @property
    def saved_tensors(self) -> tuple[Any, ...]:
        if self.saved is None:
            raise RuntimeError(f"the tensors saved by {self.name()} were freed by an earlier backward")
        return tuple(self.saved)

    def mark_non_differentiable(self, *tensors: Tensor) -> None:
        """Say that these outputs have no gradient."""
        self._non_differentiable = tensors

    def set_materialize_grads(self, value: bool) -> None:
        """Whether backward gets zeros (the default) or None for outputs that received no gradient."""
        self._materialize = value

    def name(self) -> str:
        return self.function.__name__ + "Backward"

    def record(self, args: tuple[Any, ...], outputs: tuple[Any, ...]) -> None:
        self.edges = tuple([value._edge() if needed else None for value, needed in zip(args, self.needs_input_grad)])
        self._inputs = [(value.array.shape, value.array.dtype) if isinstance(value, Tensor) else None for value in args]
        self._outputs = [(value.array.shape, value.array.dtype) if isinstance(value, Tensor) else None for value in outputs]
        for index, output in enumerate(outputs):
            skipped = any(output is tensor for tensor in self._non_differentiable)
            if isinstance(output, Tensor) and output.array.dtype.kind == "f" and not skipped:
                output._node = self if len(outputs) == 1 else Output(self, index)
                output.requires_grad = True

    def backward(self, gradient: Array) -> Any:
        parts: dict[int, Array] = gradient.arrays if isinstance(gradient, Part) else {0: gradient}
        results = self.function.backward(self, *[self._gradient(parts, index) for index in range(len(self._outputs))])
        results = results if isinstance(results, tuple) else (results,)
        if len(results) < len(self.edges) or any(extra is not None for extra in results[len(self.edges) :]):
            raise RuntimeError(
                f"{self.name()} returned {len(results)} gradient(s) for {len(self.edges)} input(s) of {self.function.__name__}.forward"
            )
        return tuple(map(self._checked, results, self.edges, self._inputs, range(len(self.edges))))

    def _gradient(self, parts: dict[int, Array], index: int) -> Tensor | None:
        form = self._outputs[index]
        if index in parts:
            return Tensor(parts[index])
        if form is None or not self._materialize:
            return None
        return Tensor(array_module(next(iter(parts.values()))).zeros(*form))

    def _checked(self, result: Any, edge: Any, form: Any, index: int) -> Array:
        if edge is None or result is None:
            return None
        shape, dtype = form
        array = result.array
        if array.shape != shape:
            raise RuntimeError(f"{self.name()} returned a gradient of shape {array.shape} for input {index} of shape {shape}")
        return array.astype(dtype, copy=False)


class Output(Node):
    """One of several outputs of a node: it labels the gradient with the output's number."""

    def __init__(self, node: Node, index: int) -> None:
        self.edges = (node,)
        self.index = index
        self._name = node.name()

    def name(self) -> str:
        return self._name

    def backward(self, gradient: Array) -> Any:
        return Part({self.index: gradient})


class Part:
    """Gradients of some outputs of a node; adding two joins them."""

    def __init__(self, arrays: dict[int, Array]) -> None:
        self.arrays = arrays

    def __add__(self, other: Part) -> Part:
        return Part({**self.arrays, **other.arrays})


class TupleOp(Op):
    """An Op whose forward returns a tuple of arrays, and whose backward gets a `Part` with the gradients of some of them."""

    @classmethod
    def apply(cls, *inputs: Any, **params: Any) -> Any:
        op = cls()
        arrays = op._connect(inputs)
        with quiet():
            outputs = tuple(map(Tensor, op.forward(*arrays, **params)))
        if True in op.needs:
            op._record(inputs, outputs[0])
            for index, output in enumerate(outputs):
                output._node, output.requires_grad = Output(op, index), True
        return outputs


def once_differentiable(function: Callable[..., Any]) -> Callable[..., Any]:
    """Marks a backward as not differentiable itself; every backward is that here, so it returns `function`."""
    return function
