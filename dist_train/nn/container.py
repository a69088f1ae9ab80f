"""Containers: modules and parameters in sequence or by name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Self, overload

from ..autograd import Parameter, Tensor
from .module import Module, indented


class _Sequence(Module):
    """A list of modules, which are the attributes "0", "1", … (or have the names they were given)."""

    def _all(self) -> list[Any]:
        return list(self._modules.values())

    def _name_at(self, index: int) -> str:
        names: list[str] = list(self._module_names)
        length = len(names)
        if not -length <= index < length:
            raise IndexError(f"index {index} is out of range for {length} modules")
        return names[index]

    def __len__(self) -> int:
        return len(self._module_names)

    def __iter__(self) -> Iterator[Module]:
        return iter(self._all())

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> Self: ...
    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return self._slice(list(self._modules.items())[index])
        return self.__dict__[self._name_at(index)]

    def _slice(self, items: list[tuple[str, Any]]) -> Self:
        return type(self)(*[module for _, module in items])

    def __setitem__(self, index: int, module: Module) -> None:
        setattr(self, self._name_at(index), module)

    def __delitem__(self, index: int | slice) -> None:
        names = list(self._module_names)[index] if isinstance(index, slice) else [self._name_at(index)]
        for name in names:
            delattr(self, name)
        self._renumber(self._all())

    def _renumber(self, modules: list[Any]) -> None:
        for name in list(self._module_names):
            delattr(self, name)
        for position, module in enumerate(modules):
            self.add_module(str(position), module)

    def append(self, module: Module) -> Self:
        """Add a module at the end."""
        self.add_module(str(len(self)), module)
        return self

    def extend(self, modules: Iterable[Module]) -> Self:
        """Add several modules at the end."""
        for module in list(modules):
            self.append(module)
        return self

    def insert(self, index: int, module: Module) -> Any:
        """Add a module before position `index`."""
        if not -len(self) <= index <= len(self):
            raise IndexError(f"index {index} is out of range for {len(self)} modules")
        modules = self._all()
        modules.insert(index, module)
        self._renumber(modules)
        return self

    def pop(self, index: int = -1) -> Any:
        """Take out the module at `index` and return it."""
        module = self[index]
        del self[index]
        return module


class Sequential(_Sequence):
    """Modules applied one after the other: `Sequential(a, b)`, or with names `Sequential(OrderedDict(first=a, second=b))`."""

    @overload
    def __init__(self, *args: Module) -> None: ...
    @overload
    def __init__(self, arg: Mapping[str, Module], /) -> None: ...
    def __init__(self, *args: Any) -> None:
        super().__init__()
        named = args[0].items() if len(args) == 1 and isinstance(args[0], Mapping) else enumerate(args)
        for name, module in named:
            self.add_module(str(name), module)

    def _slice(self, items: list[tuple[str, Any]]) -> Self:
        return type(self)(dict(items))

    def forward(self, input: Any) -> Any:
        state = self.__dict__
        for name in self._module_names:
            input = state[name](input)
        return input


class ModuleList(_Sequence):
    """A list of modules that registers them; it has no forward."""

    def __init__(self, modules: Iterable[Module] | None = None) -> None:
        super().__init__()
        self.extend(modules or ())

    def _slice(self, items: list[tuple[str, Any]]) -> Self:
        return type(self)([module for _, module in items])

    def insert(self, index: int, module: Module) -> None:
        """Add a module before position `index`."""
        super().insert(index, module)

    def __add__(self, other: Iterable[Module]) -> ModuleList:
        return ModuleList([*self, *other])

    def __iadd__(self, modules: Iterable[Module]) -> Self:
        return self.extend(modules)

    def __repr__(self) -> str:
        return _folded(self._get_name(), self._all())


def _folded(name: str, modules: list[Any]) -> str:
    """As torch prints a list: equal neighbours as one line with their number."""
    texts = [repr(module) for module in modules]
    groups: list[list[int]] = []
    for i, text in enumerate(texts):
        if groups and texts[groups[-1][0]] == text:
            groups[-1][1] = i
        else:
            groups.append([i, i])
    if not groups:
        return name + "()"
    lines = [
        f"({first}): {indented(texts[first])}" if first == last else f"({first}-{last}): {last - first + 1} x {indented(texts[first])}"
        for first, last in groups
    ]
    return name + "(\n  " + "\n  ".join(lines) + "\n)"


class ModuleDict(Module):
    """A dictionary of modules that registers them; it has no forward."""

    def __init__(self, modules: Mapping[str, Module] | None = None) -> None:
        super().__init__()
        self.update(modules or {})

    def __getitem__(self, key: str) -> Any:
        return self._modules[key]

    def __setitem__(self, key: str, module: Module) -> None:
        self.add_module(key, module)

    def __delitem__(self, key: str) -> None:
        delattr(self, key)

    def __len__(self) -> int:
        return len(self._module_names)

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._module_names))

    def __contains__(self, key: str) -> bool:
        return key in self._module_names

    def keys(self) -> Any:
        return self._modules.keys()

    def items(self) -> Any:
        return self._modules.items()

    def values(self) -> Any:
        return self._modules.values()

    def update(self, modules: Mapping[str, Module] | Iterable[tuple[str, Module]]) -> None:
        """Add modules, or replace those of the same names."""
        for key, module in dict(modules).items():
            self[key] = module

    def pop(self, key: str) -> Any:
        """Take out the module under `key` and return it."""
        module = self[key]
        del self[key]
        return module

    def clear(self) -> None:
        for key in self:
            del self[key]


class ParameterList(Module):
    """A list of parameters, which are the attributes "0", "1", …; tensors become parameters."""

    def __init__(self, values: Iterable[Any] | None = None) -> None:
        super().__init__()
        self.extend(values or ())

    def __len__(self) -> int:
        return len(self._parameter_names)

    def __iter__(self) -> Iterator[Parameter]:
        return iter([self.__dict__[name] for name in self._parameter_names])

    def __getitem__(self, index: int) -> Parameter:
        if not -len(self) <= index < len(self):
            raise IndexError(f"index {index} is out of range for {len(self)} parameters")
        return self.__dict__[str(index % len(self))]  # type: ignore[no-any-return]

    def append(self, value: Tensor) -> Self:
        """Add a parameter at the end."""
        self.register_parameter(str(len(self)), value if isinstance(value, Parameter) else Parameter(value))
        return self

    def extend(self, values: Iterable[Tensor]) -> Self:
        """Add several parameters at the end."""
        for value in values:
            self.append(value)
        return self
