"""Tensor: an array that remembers how it was computed.

Arithmetic, shape and reduction methods are attached by `autograd/ops`, one file per family (`@method`); this file holds what makes a
tensor: its array, its gradient, its place in the graph, and in-place change.
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from ..backend.device import CPU, Device, array_module, device_of, is_device_array, to_device, to_host
from . import engine
from .engine import Array, Node
from .grad_mode import mode

F = TypeVar("F", bound=Callable[..., Any])


class Tensor:
    """An n-dimensional array with an optional gradient. `Tensor(array)` wraps a NumPy or CuPy array without a copy.

    Raises RuntimeError where a gradient is asked for a type that has none (integers, booleans).
    """

    array: Array
    grad: Tensor | None = None
    requires_grad: bool = False
    _node: Node | None = None  # the operation that made it; None for a leaf
    _version: list[int] | None = None  # counts of changes in place and of those that were recorded; shared by views, made when needed
    _is_view: bool = False
    _recorded: int = 0  # of a view: the count of recorded changes when it was made
    _hooks: dict[int, Any] | None = None
    _accumulate_hooks: dict[int, Any] | None = None
    _grad_buffer: Tensor | None = None  # where the first gradient of a pass is stored
    _listener: engine.BackwardListener | None = None  # told of backward passes that reach this leaf
    _owner: Any = None  # what holds the memory of a parameter under dist_train.distribute

    __array_priority__ = 1000

    def __init__(self, data: Any, requires_grad: bool = False) -> None:
        if type(data) is not np.ndarray:
            data = _as_array(data)
        self.array = data
        if requires_grad:
            self.requires_grad_()

    # what it is

    @property
    def shape(self) -> Size:
        return Size(self.array.shape)

    def size(self, dim: int | None = None) -> Any:
        """The shape, or the length of one dimension."""
        return Size(self.array.shape) if dim is None else self.array.shape[dim]

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.array.dtype  # type: ignore[no-any-return]

    @property
    def device(self) -> Device:
        return device_of(self.array)

    @property
    def ndim(self) -> int:
        return int(self.array.ndim)

    def dim(self) -> int:
        return int(self.array.ndim)

    def numel(self) -> int:
        return int(self.array.size)

    nelement = numel

    def element_size(self) -> int:
        """Bytes of one element."""
        return int(self.array.itemsize)

    def is_floating_point(self) -> bool:
        return bool(self.array.dtype.kind == "f")

    def is_contiguous(self) -> bool:
        return bool(self.array.flags.c_contiguous)

    @property
    def is_cuda(self) -> bool:
        return is_device_array(self.array)

    @property
    def is_xpu(self) -> bool:
        return False

    def __len__(self) -> int:
        if not self.array.ndim:
            raise TypeError("len() of a tensor without dimensions")
        return len(self.array)

    def __iter__(self) -> Iterator[Tensor]:
        return (self[i] for i in range(len(self)))

    def __bool__(self) -> bool:
        if self.array.size != 1:
            raise RuntimeError(f"the truth value of a tensor of shape {tuple(self.shape)} is ambiguous; use .any() or .all()")
        return bool(self.array)

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __index__(self) -> int:
        if self.array.dtype.kind not in "iub":
            raise TypeError(f"only integer tensors can be an index, not {self.array.dtype}")
        return int(self.item())

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if not self.array.ndim else format(str(self), spec)

    def __repr__(self) -> str:
        values = np.array2string(to_host(self.array), separator=", ", precision=4, prefix="tensor(")
        notes = "" if self.array.dtype.name in ("float32", "int64", "bool") else f", dtype={self.array.dtype}"
        notes += f", device='{self.device}'" if self.is_cuda else ""
        if self._node is not None:
            notes += f", grad_fn={self._node!r}"
        elif self.requires_grad:
            notes += ", requires_grad=True"
        return f"tensor({values}{notes})"

    __hash__ = object.__hash__

    # its values elsewhere

    def item(self) -> Any:
        """The only element as a Python number."""
        if self.array.size != 1:
            raise RuntimeError(f"item() needs a tensor of one element; this one has {self.array.size} (shape {tuple(self.shape)})")
        return self.array.item()

    def tolist(self) -> Any:
        return self.array.tolist()

    def numpy(self, *, force: bool = False) -> np.ndarray[Any, Any]:
        """The values as a NumPy array that shares this tensor's memory."""
        if force:
            return to_host(self.array)
        if self.requires_grad:
            raise RuntimeError("numpy() of a tensor that requires grad: use tensor.detach().numpy()")
        if self.is_cuda:
            raise TypeError("numpy() of a CUDA tensor: use tensor.cpu().numpy()")
        return self.array  # type: ignore[no-any-return]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        array = self.numpy()
        return np.array(array, dtype=dtype, copy=True) if copy else np.asarray(array, dtype=dtype)

    def __dlpack__(self, **kwargs: Any) -> Any:
        return self.detach().array.__dlpack__(**kwargs)

    def __dlpack_device__(self) -> Any:
        return self.array.__dlpack_device__()

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        if self._node is not None:
            raise RuntimeError("only leaf tensors can be deep-copied: use tensor.detach().clone()")
        copy = type(self).__new__(type(self))
        copy.__dict__.update({k: v for k, v in self.__dict__.items() if k in _COPIED})
        copy.array = self.array.copy()
        copy.grad = None if self.grad is None else Tensor(self.grad.array.copy())
        memo[id(self)] = copy
        return copy

    def __reduce__(self) -> Any:
        raise TypeError("tensors are not pickled: use dist_train.save, which writes data only")

    # its place in the graph

    @property
    def is_leaf(self) -> bool:
        return self._node is None

    @property
    def grad_fn(self) -> Node | None:
        return self._node

    def _edge(self) -> Any:
        """Where a gradient of this tensor flows to."""
        if self._node is None:
            return self
        if self._is_view and self._version is not None and self._version[1] != self._recorded:
            raise RuntimeError("the tensor that this one is a view of was changed in place since: take the view again, after the change")
        return self._node

    def requires_grad_(self, requires_grad: bool = True) -> Tensor:
        """Ask for (or stop asking for) a gradient of this leaf."""
        if requires_grad and self.array.dtype.kind != "f":
            raise RuntimeError(f"only floating-point tensors can require gradients, not {self.array.dtype}")
        if not requires_grad and self._node is not None:
            raise RuntimeError("only a leaf can stop requiring its gradient: use tensor.detach()")
        self.requires_grad = requires_grad
        return self

    def detach(self) -> Tensor:
        """The same values outside the graph; memory is shared."""
        result = Tensor(self.array)
        result._version = version_cell(self)
        return result

    def detach_(self) -> Tensor:
        """Leave the graph."""
        self._node, self.requires_grad = None, False
        return self

    def detach_copy(self, array: Array) -> Tensor:
        """A tensor outside the graph with a copy of `array`."""
        return Tensor(array.copy())

    @property
    def data(self) -> Tensor:
        """The same values outside the graph; changes through it are not tracked."""
        return Tensor(self.array)

    @data.setter
    def data(self, value: Tensor) -> None:
        if value.array is self.array:
            return
        if self._owner is not None:
            raise RuntimeError(f"parameters are read-only after dist_train.distribute: {READ_ONLY_REMEDY}")
        if value.array.dtype != self.array.dtype and self.requires_grad and value.array.dtype.kind != "f":
            raise RuntimeError(f"data of type {value.array.dtype} for a tensor of type {self.array.dtype} that requires grad")
        self.array = value.array

    def backward(self, gradient: Tensor | None = None, retain_graph: bool = False, create_graph: bool = False) -> None:
        """Add the gradient of this scalar (or of this tensor weighted by `gradient`) to the `.grad` of every leaf it depends on."""
        _check_create_graph(create_graph)
        root = self._edge(), _root_gradient(self, gradient)
        engine.run([root], retain_graph=retain_graph, loss=self.array if gradient is None else None)

    def register_hook(self, hook: Callable[[Tensor], Tensor | None]) -> RemovableHandle:
        """Call `hook(gradient)` when this tensor's gradient is final; what it returns, if anything, replaces the gradient."""
        if not self.requires_grad:
            raise RuntimeError("a hook on a tensor that does not require grad would never run")
        target = self._edge()
        target._hooks = {} if target._hooks is None else target._hooks
        return RemovableHandle(target._hooks, hook)

    def register_post_accumulate_grad_hook(self, hook: Callable[[Tensor], None]) -> RemovableHandle:
        """Call `hook(tensor)` after a backward pass has written this leaf's `.grad`."""
        if self._node is not None or not self.requires_grad:
            raise RuntimeError("post-accumulate hooks are for leaves that require grad")
        self._accumulate_hooks = {} if self._accumulate_hooks is None else self._accumulate_hooks
        return RemovableHandle(self._accumulate_hooks, hook)

    def retain_grad(self) -> None:
        """Keep the gradient of this intermediate tensor in its `.grad` too."""
        if self._node is None:
            return
        reference = weakref.ref(self)

        def keep(gradient: Tensor) -> None:
            tensor = reference()
            if tensor is not None:
                tensor.grad = gradient.clone() if tensor.grad is None else tensor.grad + gradient

        self.register_hook(keep)

    # change in place

    def _assign(self, result: Tensor) -> Tensor:
        """The end of every in-place operation: take over the values and the history of `result`."""
        if mode.enabled and (self.requires_grad or result.requires_grad):
            self._check_in_place()
            if result._node is not None:
                result._node.keep_old_values(self)
            self._node, self.requires_grad = result._node, result.requires_grad
            if self._version is not None:
                self._version[1] += 1
        self._write(result.array)
        return self

    def _become_view(self, base: Tensor) -> Tensor:
        """Note that this tensor shares the memory of `base`."""
        self._version = version_cell(base)
        self._is_view, self._recorded = True, self._version[1]
        return self

    def _check_in_place(self) -> None:
        if self._node is None and self.requires_grad:
            raise RuntimeError("a leaf that requires grad cannot be changed in place: do it inside `with no_grad():`")
        if self._is_view:
            raise RuntimeError("a view of a tensor that requires grad cannot be changed in place: change the tensor itself")

    def _write(self, array: Array) -> None:
        """Overwrite the values, whatever the history."""
        with writable(self):
            if not np.can_cast(array.dtype, self.array.dtype, "same_kind"):
                raise RuntimeError(f"a result of type {array.dtype} cannot be stored in a tensor of type {self.array.dtype}")
            check_broadcast(array.shape, self.array.shape)
            try:
                self.array[...] = array
            except ValueError as error:
                raise RuntimeError(f"this tensor is read-only: {READ_ONLY_REMEDY}") from error
        if self._version is not None:
            self._version[0] += 1

    if TYPE_CHECKING:  # methods attached by autograd/ops

        def __getattr__(self, name: str) -> Any: ...
        def __lt__(self, other: Any) -> Tensor: ...
        def __gt__(self, other: Any) -> Tensor: ...
        def __le__(self, other: Any) -> Tensor: ...
        def __ge__(self, other: Any) -> Tensor: ...
        def __and__(self, other: Any) -> Tensor: ...
        def __xor__(self, other: Any) -> Tensor: ...
        def __invert__(self) -> Tensor: ...
        def __setitem__(self, index: Any, value: Any) -> None: ...
        def __getitem__(self, index: Any) -> Tensor: ...
        def __add__(self, other: Any) -> Tensor: ...
        def __radd__(self, other: Any) -> Tensor: ...
        def __sub__(self, other: Any) -> Tensor: ...
        def __rsub__(self, other: Any) -> Tensor: ...
        def __mul__(self, other: Any) -> Tensor: ...
        def __rmul__(self, other: Any) -> Tensor: ...
        def __truediv__(self, other: Any) -> Tensor: ...
        def __rtruediv__(self, other: Any) -> Tensor: ...
        def __matmul__(self, other: Any) -> Tensor: ...
        def __pow__(self, other: Any) -> Tensor: ...
        def __neg__(self) -> Tensor: ...

    # type and device

    def to(self, *args: Any, dtype: Any = None, device: Any = None, copy: bool = False, non_blocking: bool = False) -> Tensor:
        """This tensor as another type, on another device, or as `other` (`to(dtype)`, `to("cuda")`, `to(device, dtype)`, `to(other)`)."""
        for arg in args:
            if isinstance(arg, Tensor):
                device, dtype = arg.device, arg.dtype
            elif isinstance(arg, Device) or (isinstance(arg, str) and arg.partition(":")[0] in ("cpu", "cuda")):
                device = arg
            elif not isinstance(arg, bool):
                dtype = arg
        result = self if dtype is None else self._cast(np.dtype(dtype))
        result = result if device is None else result._move(Device(device))
        return result.clone() if copy and result is self else result

    def _cast(self, dtype: np.dtype[Any]) -> Tensor:
        from .ops.conversion import Cast

        return self if dtype == self.array.dtype else Cast.apply(self, dtype=dtype)

    def _move(self, device: Device) -> Tensor:
        from .ops.conversion import Move

        return self if device == self.device else Move.apply(self, device=device)

    def cpu(self) -> Tensor:
        return self._move(CPU)

    def cuda(self, device: Any = None) -> Tensor:
        return self._move(Device("cuda") if device is None else Device("cuda", device) if isinstance(device, int) else Device(device))


class Parameter(Tensor):
    """A tensor that a Module registers as one of its parameters."""

    def __init__(self, data: Tensor | Array, requires_grad: bool = True) -> None:
        super().__init__(data.array if isinstance(data, Tensor) else data, requires_grad)

    def __repr__(self) -> str:
        return "Parameter containing:\n" + super().__repr__()


class Size(tuple[int, ...]):
    """A shape."""

    def numel(self) -> int:
        return int(np.prod(self, dtype=np.int64))

    def __repr__(self) -> str:
        return f"Size({list(self)})"


class RemovableHandle:
    """Returned by the methods that register a hook: `remove()` takes it out; also a context manager."""

    _ids = itertools.count()

    def __init__(self, hooks: dict[int, Any], hook: Any) -> None:
        self._hooks, self.id = hooks, next(self._ids)
        hooks[self.id] = hook

    def remove(self) -> None:
        self._hooks.pop(self.id, None)

    def __enter__(self) -> RemovableHandle:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()


READ_ONLY_REMEDY = (
    "parameters under dist_train.distribute are shared by the ranks; change them inside `with dist_train.distributed.edit(model):`"
)
_COPIED = {"requires_grad"}


def version_cell(tensor: Tensor) -> list[int]:
    """The tensor's counters of in-place changes, made at the first call."""
    if tensor._version is None:
        tensor._version = [0, 0]
    return tensor._version


def writable(tensor: Tensor) -> AbstractContextManager[Any]:
    """Inside, the tensor's memory may be written; a parameter under `distribute` is published to the other ranks on leaving."""
    return nullcontext() if tensor._owner is None else tensor._owner.edit_one(tensor)


def check_broadcast(shape: tuple[int, ...], target: tuple[int, ...]) -> None:
    """ValueError-free check that `shape` broadcasts to `target`; RuntimeError names both."""
    padded = (1,) * (len(target) - len(shape)) + tuple(shape)
    if len(padded) != len(target) or any(have not in (1, want) for have, want in zip(padded, target)):
        raise RuntimeError(f"values of shape {tuple(shape)} do not fit into a tensor of shape {tuple(target)}")


def method(function: F) -> F:
    """Make a function whose first argument is a tensor a method of Tensor under the same name."""
    setattr(Tensor, function.__name__, function)
    return function


def backward(tensors: Tensor | list[Tensor], grad_tensors: Any = None, retain_graph: bool = False, create_graph: bool = False) -> None:
    """Add the gradients of the sum of `tensors` (each weighted by its `grad_tensors` entry) to the leaves' `.grad`."""
    _check_create_graph(create_graph)
    tensors = [tensors] if isinstance(tensors, Tensor) else list(tensors)
    roots = _roots(tensors, grad_tensors)
    implicit = grad_tensors is None and len(tensors) == 1
    engine.run(roots, retain_graph=retain_graph, loss=tensors[0].array if implicit else None)


def grad(
    outputs: Any, inputs: Any, grad_outputs: Any = None, retain_graph: bool = False, create_graph: bool = False, allow_unused: bool = False
) -> tuple[Tensor | None, ...]:
    """The gradients of the sum of `outputs` with respect to `inputs`, without touching any `.grad`."""
    _check_create_graph(create_graph)
    outputs = [outputs] if isinstance(outputs, Tensor) else list(outputs)
    inputs = [inputs] if isinstance(inputs, Tensor) else list(inputs)
    for i, tensor in enumerate(inputs):
        if not tensor.requires_grad:
            raise RuntimeError(f"input {i} does not require grad")
    captured: dict[Any, Array] = {tensor._edge(): None for tensor in inputs}
    engine.run(_roots(outputs, grad_outputs), retain_graph=retain_graph, capture=captured)
    results = [captured[tensor._edge()] for tensor in inputs]
    if not allow_unused and any(result is None for result in results):
        raise RuntimeError(
            f"input {[r is None for r in results].index(True)} was not used in the graph: pass allow_unused=True if it need not be"
        )
    return tuple([None if result is None else Tensor(result) for result in results])


def _check_create_graph(create_graph: bool) -> None:
    if create_graph:
        raise RuntimeError("create_graph=True: gradients of gradients are not supported")


def _roots(tensors: list[Tensor], gradients: Any) -> list[tuple[Any, Array]]:
    gradients = [gradients] if isinstance(gradients, Tensor) or gradients is None else list(gradients)
    gradients = gradients * len(tensors) if gradients == [None] else gradients
    return [(tensor._edge(), _root_gradient(tensor, gradient)) for tensor, gradient in zip(tensors, gradients, strict=True)]


def _root_gradient(tensor: Tensor, gradient: Tensor | None) -> Array:
    if not tensor.requires_grad:
        raise RuntimeError("this tensor does not require grad and nothing it was computed from does: no backward from here")
    if gradient is not None:
        if gradient.array.shape != tensor.array.shape:
            raise RuntimeError(f"a gradient of shape {gradient.array.shape} for a tensor of shape {tensor.array.shape}")
        return gradient.array.astype(tensor.array.dtype, copy=False)
    if tensor.array.size != 1:
        raise RuntimeError(
            f"backward() without a gradient needs a scalar; this tensor has shape {tuple(tensor.shape)}: reduce it, or pass one"
        )
    one = array_module(tensor.array).array(1, tensor.array.dtype)
    return one.reshape(tensor.array.shape) if tensor.array.ndim else one


def _as_array(data: Any) -> Array:
    if isinstance(data, (np.generic, np.ndarray)):
        return np.asarray(data)  # a full reduction gives a NumPy scalar: common, so first
    if isinstance(data, Tensor):
        return data.array
    if is_device_array(data):
        return data
    return to_device(np.asarray(data, dtype=np.float32), CPU)
