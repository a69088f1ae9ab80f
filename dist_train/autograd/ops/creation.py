"""New tensors: from data (tensor, as_tensor, from_numpy), of one value (zeros, ones, full), and regular ones (arange, linspace, eye)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ...backend.device import CPU, Device, device_of, is_device_array, module_of, on, to_device, to_host
from ..tensor import Tensor, method
from .promotion import INT64, get_default_dtype, number_type
from .shape import sizes


def finished(array: Any, requires_grad: bool) -> Tensor:
    """The tensor around a new array."""
    return Tensor(array, requires_grad) if requires_grad else Tensor(array)


def device_from(device: Any) -> Device:
    """A device from its name, its number or itself; None is the CPU."""
    if device is None:
        return CPU
    return Device("cuda", device) if isinstance(device, int) else Device(device)


def float_type(dtype: Any) -> np.dtype[Any]:
    """The given type, by default the default floating-point one."""
    return get_default_dtype() if dtype is None else np.dtype(dtype)


def tensor(data: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """A tensor with a copy of `data`: a number, nested lists, an array or a tensor.

    Python floats become the default type (float32), integers int64; arrays keep their type.
    """
    if isinstance(data, Tensor) or is_device_array(data):
        source = data.array if isinstance(data, Tensor) else data
        array = source.astype(source.dtype if dtype is None else np.dtype(dtype))
        array = array if device is None else to_device(array, device_from(device))
    else:
        array = to_device(_host_array(data, dtype), device_from(device))
    return finished(array, requires_grad)


def _host_array(data: Any, dtype: Any) -> np.ndarray[Any, Any]:
    if not isinstance(data, (np.ndarray, np.generic)):
        data = _plain(data)
        if dtype is None:
            dtype = _type_of(data)
    array = np.array(data, dtype=dtype)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"a tensor holds numbers, not {array.dtype} (made from a {type(data).__name__})")
    return array


def _plain(data: Any) -> Any:
    """Nested sequences in which tensors are replaced by NumPy arrays."""
    if isinstance(data, (list, tuple)):
        return [_plain(item) for item in data]
    return to_host(data.array) if isinstance(data, Tensor) else data


def _type_of(data: Any) -> np.dtype[Any] | None:
    """The type of a tensor made from nested sequences: that of the first element of the highest category."""
    first: dict[str, np.dtype[Any]] = {}
    pending = [data]
    while pending:
        item = pending.pop()
        if isinstance(item, (list, tuple)):
            pending.extend(reversed(item))
        elif isinstance(item, (bool, int, float, np.ndarray, np.generic)):
            dtype = item.dtype if isinstance(item, np.ndarray) else number_type(item)
            first.setdefault("i" if dtype.kind == "u" else dtype.kind, dtype)
        else:
            return None
    return next((first[kind] for kind in "fib" if kind in first), get_default_dtype())


def as_tensor(data: Any, *, dtype: Any = None, device: Any = None) -> Tensor:
    """`data` as a tensor, sharing its memory where type and device allow."""
    if isinstance(data, Tensor):
        return data.to(dtype=dtype, device=device)
    if isinstance(data, np.ndarray) or is_device_array(data):
        return Tensor(data).to(dtype=dtype, device=device)
    return tensor(data, dtype=dtype, device=device)


asarray = as_tensor


def from_numpy(array: np.ndarray[Any, Any]) -> Tensor:
    """A tensor that shares the memory of a NumPy array."""
    if not isinstance(array, np.ndarray):
        raise TypeError(f"from_numpy takes a NumPy array, not {type(array).__name__}: use tensor()")
    if array.dtype.kind not in "fiub":
        raise TypeError(f"a tensor holds numbers, not {array.dtype}")
    return Tensor(array)


def _made(name: str, device: Device, *args: Any, **params: Any) -> Any:
    """What the array library of `device` makes there by the function `name`."""
    with on(device):
        return getattr(module_of(device), name)(*args, **params)


def _constant(name: str, summary: str) -> Callable[..., Tensor]:
    def function(*size: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
        return finished(_made(name, device_from(device), sizes(size), float_type(dtype)), requires_grad)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = summary
    return function


zeros = _constant("zeros", "Zeros of a shape: `zeros(2, 3)` or `zeros((2, 3))`.")
ones = _constant("ones", "Ones of a shape: `ones(2, 3)` or `ones((2, 3))`.")
empty = _constant("empty", "A tensor of a shape with whatever its memory held.")


def full(size: Any, fill_value: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """A tensor of a shape with one value everywhere; its type is that of the value."""
    value = fill_value.item() if isinstance(fill_value, Tensor) else fill_value
    chosen = number_type(value) if dtype is None else np.dtype(dtype)
    return finished(_made("full", device_from(device), sizes((size,)), value, chosen), requires_grad)


def _like(name: str) -> Callable[..., Tensor]:
    def function(input: Tensor, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
        place = device_of(input.array) if device is None else device_from(device)
        chosen = input.array.dtype if dtype is None else np.dtype(dtype)
        return finished(_made(name, place, input.array.shape, chosen), requires_grad)

    function.__name__ = function.__qualname__ = name + "_like"
    function.__doc__ = f"`{name}` in the shape, type and device of `input`."
    return function


zeros_like, ones_like, empty_like = _like("zeros"), _like("ones"), _like("empty")


def full_like(input: Tensor, fill_value: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """One value everywhere, in the shape, type and device of `input`."""
    chosen = input.array.dtype if dtype is None else dtype
    return full(input.array.shape, fill_value, dtype=chosen, device=device or device_of(input.array), requires_grad=requires_grad)


def arange(start: Any, end: Any = None, step: Any = 1, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """start, start + step, ... below `end`; one number alone is the end. Integers give int64, floats the default type."""
    start, end = (0, start) if end is None else (start, end)
    start, end, step = (value.item() if isinstance(value, (Tensor, np.generic)) else value for value in (start, end, step))
    if step == 0 or (end - start) * step < 0:
        raise RuntimeError(f"arange from {start} to {end} with step {step} never ends")
    if dtype is None:
        dtype = INT64 if all(isinstance(value, int) for value in (start, end, step)) else get_default_dtype()
    count = int(np.ceil((end - start) / step))
    values = start + step * np.arange(count)
    return finished(to_device(values.astype(dtype), device_from(device)), requires_grad)


def linspace(start: Any, end: Any, steps: int, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """`steps` numbers at equal distances from `start` to `end`, both included."""
    return finished(to_device(np.linspace(float(start), float(end), steps).astype(float_type(dtype)), device_from(device)), requires_grad)


def logspace(
    start: Any, end: Any, steps: int, base: float = 10.0, *, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """`base` to the powers of `linspace(start, end, steps)`."""
    values = base ** np.linspace(float(start), float(end), steps)
    return finished(to_device(values.astype(float_type(dtype)), device_from(device)), requires_grad)


def eye(n: int, m: int | None = None, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """The (n, m) matrix with ones on its diagonal."""
    return finished(_made("eye", device_from(device), n, m, dtype=float_type(dtype)), requires_grad)


def _new(make: Callable[..., Tensor], name: str) -> None:
    def function(x: Tensor, *size: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
        place = device_of(x.array) if device is None else device
        return make(*size, dtype=dtype or x.array.dtype, device=place, requires_grad=requires_grad)

    function.__name__ = name
    function.__doc__ = f"`{name.removeprefix('new_')}` in the type and on the device of this tensor."
    method(function)


for _make, _name in ((zeros, "new_zeros"), (ones, "new_ones"), (empty, "new_empty"), (full, "new_full")):
    _new(_make, _name)


@method
def new_tensor(x: Tensor, data: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """`tensor(data)` in the type and on the device of `x`."""
    return tensor(data, dtype=dtype or x.array.dtype, device=device or x.device, requires_grad=requires_grad)
