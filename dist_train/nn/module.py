"""Module: a tree of parameters, buffers and other modules, with a forward.

Parameters, buffers and children are ordinary attributes; the module keeps their names, in the order in which they were assigned.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from ..autograd import Parameter, Tensor
from ..autograd.tensor import RemovableHandle
from ..backend.device import Device
from .state import IncompatibleKeys, load


class Module:
    """Base of all layers and models: assign parameters and modules in `__init__`, compute in `forward`.

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(4, 2)

        def forward(self, x):
            return self.fc(x)
    """

    running_statistics: ClassVar[tuple[str, ...]] = ()
    """Names of the buffers which `forward` changes; `dist_train.distribute` averages them over the micro-batches of a step."""

    training: bool

    def __init__(self) -> None:
        names: dict[str, Any] = {"_parameter_names": {}, "_buffer_names": {}, "_module_names": {}}  # buffers: whether persistent
        hooks: dict[str, Any] = {"_forward_hooks": {}, "_forward_pre_hooks": {}}
        self.__dict__.update(training=True, **names, **hooks)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError(f'Module [{type(self).__name__}] is missing the required "forward" function')

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not self._forward_hooks and not self._forward_pre_hooks:
            return self.forward(*args, **kwargs)
        for hook in list(self._forward_pre_hooks.values()):
            replaced = hook(self, args)
            if replaced is not None:
                args = replaced if isinstance(replaced, tuple) else (replaced,)
        result = self.forward(*args, **kwargs)
        for hook in list(self._forward_hooks.values()):
            replaced = hook(self, args, result)
            result = result if replaced is None else replaced
        return result

    # registration

    def __setattr__(self, name: str, value: Any) -> None:
        state = self.__dict__
        if isinstance(value, (Parameter, Module)):
            if "_parameter_names" not in state:
                kind = "parameters" if isinstance(value, Parameter) else "module"
                raise AttributeError(f"cannot assign {kind} before Module.__init__() call")
            self._register(name, value)
        elif "_parameter_names" in state and name in state:
            self._check_replacement(name, value)
            state[name] = value
        else:
            object.__setattr__(self, name, value)

    def _register(self, name: str, value: Any) -> None:
        self._forget(name, keep="_parameter_names" if isinstance(value, Parameter) else "_module_names")
        names = self._parameter_names if isinstance(value, Parameter) else self._module_names
        names[name] = None
        self.__dict__[name] = value

    def _check_replacement(self, name: str, value: Any) -> None:
        """TypeError where a registered name would get a value of another kind."""
        if value is None:
            return
        if name in self._parameter_names:
            raise TypeError(f"cannot assign '{type(value).__name__}' as parameter '{name}' (Parameter or None expected)")
        if name in self._module_names:
            raise TypeError(f"cannot assign '{type(value).__name__}' as child module '{name}' (Module or None expected)")
        if name in self._buffer_names and not isinstance(value, Tensor):
            raise TypeError(f"cannot assign '{type(value).__name__}' object to buffer '{name}' (Tensor or None required)")

    def __delattr__(self, name: str) -> None:
        self._forget(name)
        object.__delattr__(self, name)

    def _forget(self, name: str, keep: str = "") -> None:
        for names in ("_parameter_names", "_buffer_names", "_module_names"):
            if names != keep:
                self.__dict__[names].pop(name, None)

    def register_parameter(self, name: str, param: Parameter | None) -> None:
        """Add a parameter; None reserves the name for one that this instance does not have."""
        self._check_name(name, self._parameter_names)
        if param is not None and not isinstance(param, Parameter):
            raise TypeError(f"cannot assign '{type(param).__name__}' object to parameter '{name}' (Parameter or None required)")
        self._parameter_names[name] = None
        self.__dict__[name] = param

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """Add a tensor that belongs to the module's state but is not trained; only a persistent one is in `state_dict`."""
        self._check_name(name, self._buffer_names)
        if tensor is not None and not isinstance(tensor, Tensor):
            raise TypeError(f"cannot assign '{type(tensor).__name__}' object to buffer '{name}' (Tensor or None required)")
        self._buffer_names[name] = persistent
        self.__dict__[name] = tensor

    def register_module(self, name: str, module: Module | None) -> None:
        """Add a child under `name`."""
        if module is not None and not isinstance(module, Module):
            raise TypeError(f"{type(module).__name__} is not a Module subclass")
        self._check_name(name, self._module_names)
        self._module_names[name] = None
        self.__dict__[name] = module

    add_module = register_module

    def _check_name(self, name: str, names: dict[str, Any]) -> None:
        if "_parameter_names" not in self.__dict__:
            raise AttributeError(f"cannot register {name!r} before Module.__init__() call")
        if not isinstance(name, str) or not name or "." in name:
            raise KeyError(f"a name must be a string that is not empty and has no '.', got {name!r}")
        if hasattr(self, name) and name not in names:
            raise KeyError(f"attribute {name!r} already exists")

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...

    # what it holds

    @property
    def _parameters(self) -> dict[str, Parameter | None]:
        return {name: self.__dict__[name] for name in self._parameter_names}

    @property
    def _buffers(self) -> dict[str, Tensor | None]:
        return {name: self.__dict__[name] for name in self._buffer_names}

    @property
    def _modules(self) -> dict[str, Module | None]:
        return {name: self.__dict__[name] for name in self._module_names}

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """(name, module) of the direct children, each module once."""
        seen = set()
        for name, module in self._modules.items():
            if module is not None and id(module) not in seen:
                seen.add(id(module))
                yield name, module

    def children(self) -> Iterator[Module]:
        return (module for _, module in self.named_children())

    def named_modules(
        self, memo: set[Module] | None = None, prefix: str = "", remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Module]]:
        """(dotted name, module) of this module ("") and all below it, parents first."""
        memo = set() if memo is None else memo
        if self in memo:
            return
        if remove_duplicate:
            memo.add(self)
        yield prefix, self
        for name, module in self._modules.items():
            if module is not None:
                yield from module.named_modules(memo, f"{prefix}.{name}" if prefix else name, remove_duplicate)

    def modules(self) -> Iterator[Module]:
        return (module for _, module in self.named_modules())

    def named_parameters(self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True) -> Iterator[tuple[str, Parameter]]:
        """(dotted name, parameter) in definition order; a shared parameter once, under its first name."""
        return self._named("_parameter_names", prefix, recurse, remove_duplicate)

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        return (parameter for _, parameter in self.named_parameters(recurse=recurse))

    def named_buffers(self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True) -> Iterator[tuple[str, Tensor]]:
        return self._named("_buffer_names", prefix, recurse, remove_duplicate)

    def buffers(self, recurse: bool = True) -> Iterator[Tensor]:
        return (buffer for _, buffer in self.named_buffers(recurse=recurse))

    def _named(self, names: str, prefix: str, recurse: bool, remove_duplicate: bool) -> Iterator[tuple[str, Any]]:
        modules = self.named_modules(None, prefix, remove_duplicate) if recurse else iter([(prefix, self)])
        seen = set()
        for path, module in modules:
            for name in module.__dict__[names]:
                value = module.__dict__[name]
                if value is not None and id(value) not in seen:
                    if remove_duplicate:
                        seen.add(id(value))
                    yield f"{path}.{name}" if path else name, value

    def get_submodule(self, target: str) -> Module:
        """The module under a dotted name; AttributeError names the part that does not exist."""
        module = self
        for name in target.split(".") if target else []:
            if name not in module._module_names:
                raise AttributeError(f"{type(module).__name__} has no child module {name!r} (looking for {target!r})")
            module = module.__dict__[name]
        return module

    def get_parameter(self, target: str) -> Parameter:
        """The parameter under a dotted name."""
        return self._get("_parameter_names", "parameter", target)  # type: ignore[no-any-return]

    def get_buffer(self, target: str) -> Tensor:
        """The buffer under a dotted name."""
        return self._get("_buffer_names", "buffer", target)  # type: ignore[no-any-return]

    def _get(self, names: str, kind: str, target: str) -> Any:
        path, _, name = target.rpartition(".")
        module = self.get_submodule(path)
        if name not in module.__dict__[names]:
            raise AttributeError(f"{type(module).__name__} has no {kind} {name!r} (looking for {target!r})")
        return module.__dict__[name]

    # state

    def state_dict(self, destination: dict[str, Any] | None = None, prefix: str = "", keep_vars: bool = False) -> dict[str, Any]:
        """Dotted name → parameter or persistent buffer, sharing memory; detached unless `keep_vars`."""
        destination = OrderedDict() if destination is None else destination
        for name, tensor in self._own_state():
            destination[prefix + name] = tensor if keep_vars else tensor.detach()
        for name, module in self._modules.items():
            if module is not None:
                module.state_dict(destination, f"{prefix}{name}.", keep_vars)
        return destination

    def _own_state(self) -> Iterator[tuple[str, Tensor]]:
        persistent = [name for name, kept in self._buffer_names.items() if kept]
        for name in (*self._parameter_names, *persistent):
            if self.__dict__[name] is not None:
                yield name, self.__dict__[name]

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True) -> IncompatibleKeys:
        """Copy values (tensors or NumPy arrays) into the parameters and buffers of the same names.

        Nothing is changed unless all is well. RuntimeError names every tensor whose size differs and, when `strict`, every name that
        is missing or unknown.
        """
        return load(type(self).__name__, self.state_dict(keep_vars=True), state_dict, strict)

    # change

    def train(self, mode: bool = True) -> Self:
        """Set training (or evaluation) mode here and below."""
        for module in self.modules():
            module.__dict__["training"] = bool(mode)
        return self

    def eval(self) -> Self:
        return self.train(False)

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Freeze (False) or unfreeze all parameters."""
        for parameter in self.parameters():
            parameter.requires_grad_(requires_grad)
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drop the gradients of all parameters, or fill them with zeros."""
        for parameter in self.parameters():
            if set_to_none:
                parameter.grad = None
            elif parameter.grad is not None:
                parameter.grad.array[...] = 0
        for listener in {parameter._listener for parameter in self.parameters() if parameter._listener is not None}:
            listener.gradients_dropped()

    def apply(self, fn: Callable[[Module], Any]) -> Self:
        """Call `fn(module)` for every module below, children first, then for this one."""
        for module in self.children():
            module.apply(fn)
        fn(self)
        return self

    def _apply(self, fn: Callable[[Tensor], Tensor]) -> Self:
        """Replace the memory of every parameter, gradient and buffer by what `fn` makes of it."""
        for module in self.modules():
            for parameter in module._parameters.values():
                if parameter is not None:
                    parameter.data = fn(parameter.data)
                    parameter.grad = None if parameter.grad is None else fn(parameter.grad)
            for name, buffer in module._buffers.items():
                if buffer is not None:
                    module.__dict__[name] = fn(buffer)
        return self

    def to(self, *args: Any, dtype: Any = None, device: Any = None, non_blocking: bool = False) -> Self:
        """Move to a device and cast floating-point parameters and buffers: `to("cuda")`, `to(dtype)`, `to(device, dtype)`, `to(tensor)`."""
        for arg in args:
            if isinstance(arg, Tensor):
                device, dtype = arg.device, arg.dtype
            elif isinstance(arg, Device) or (isinstance(arg, str) and arg.partition(":")[0] in ("cpu", "cuda")):
                device = arg
            elif not isinstance(arg, bool):
                dtype = arg
        if dtype is not None and np.dtype(dtype).kind != "f":
            raise TypeError(f"Module.to only accepts floating-point types, got {np.dtype(dtype)}")
        return self._apply(lambda tensor: tensor.to(device=device, dtype=dtype if tensor.is_floating_point() else None))

    def cpu(self) -> Self:
        return self.to("cpu")

    def cuda(self, device: Any = None) -> Self:
        return self._apply(lambda tensor: tensor.cuda(device))

    def type(self, dst_type: Any) -> Self:
        return self.to(dtype=dst_type)

    def float(self) -> Self:
        return self.to(np.dtype(np.float32))

    def double(self) -> Self:
        return self.to(np.dtype(np.float64))

    # hooks

    def register_forward_pre_hook(self, hook: Callable[[Any, tuple[Any, ...]], Any]) -> RemovableHandle:
        """Call `hook(module, args)` before forward; what it returns, if anything, replaces the arguments."""
        return RemovableHandle(self._forward_pre_hooks, hook)

    def register_forward_hook(self, hook: Callable[[Any, tuple[Any, ...], Any], Any]) -> RemovableHandle:
        """Call `hook(module, args, result)` after forward; what it returns, if anything, replaces the result."""
        return RemovableHandle(self._forward_hooks, hook)

    # text

    def extra_repr(self) -> str:
        """The part of `repr` between the parentheses: this module's own settings."""
        return ""

    def _get_name(self) -> str:
        return type(self).__name__

    def __repr__(self) -> str:
        extra = self.extra_repr().split("\n") if self.extra_repr() else []
        children = [f"({name}): {indented(repr(module))}" for name, module in self._modules.items()]
        if not children and len(extra) <= 1:
            return f"{self._get_name()}({''.join(extra)})"
        return self._get_name() + "(\n  " + "\n  ".join(extra + children) + "\n)"


def indented(text: str) -> str:
    """All lines but the first moved two columns to the right."""
    return text.replace("\n", "\n  ")
