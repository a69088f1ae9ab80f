"""Reading and writing parts of a tensor: `x[...]`, gather, scatter, masked_fill, masked_select, narrow, index_select, ..."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...backend.device import array_module
from ...backend.floating import quiet
from ...backend.reference.indexing import scatter_add as scatter_add_kernel
from ..engine import Array
from ..function import Op
from ..grad_mode import mode
from ..tensor import Tensor, method, writable
from .broadcasting import unbroadcast
from .promotion import BOOL
from .shape import axis_of, expand, flatten, reshape

_BASIC = (int, slice, type(None), type(Ellipsis))


class Index(Op):
    """Basic indexing: integers, slices, None and Ellipsis. The result is a view."""

    view = True

    def forward(self, x: Array, *, index: Any) -> Array:
        self.saved = x.shape, index
        return x[index]

    def backward(self, gradient: Array) -> Array:
        shape, index = self.saved
        result = array_module(gradient).zeros(shape, gradient.dtype)
        result[index] = gradient
        return result


class AdvancedIndex(Op):
    """Indexing by integer arrays and masks. The result is a copy; an element taken several times gets the sum of the gradients."""

    def forward(self, x: Array, *, index: Any) -> Array:
        self.saved = x.shape, index
        return x[index]

    def backward(self, gradient: Array) -> Array:
        shape, index = self.saved
        return scatter_add_kernel(array_module(gradient).zeros(shape, gradient.dtype), index, gradient)


class SetItem(Op):
    """A copy of x in which the indexed part is `value`."""

    def forward(self, x: Array, value: Any, *, index: Any) -> Array:
        self.saved = index, value.shape if self.needs[1] else None
        result = x.copy()
        result[index] = value
        return result

    def backward(self, gradient: Array) -> tuple[Array | None, Array | None]:
        index, shape = self.saved
        kept = None
        if self.needs[0]:
            kept = gradient.copy()
            kept[index] = 0
        return kept, None if shape is None else unbroadcast(array_module(gradient).asarray(gradient[index]), shape)


class Gather(Op):
    def forward(self, x: Array, *, grid: tuple[Array, ...]) -> Array:
        self.saved = x.shape, grid
        return x[grid]

    def backward(self, gradient: Array) -> Array:
        shape, grid = self.saved
        return scatter_add_kernel(array_module(gradient).zeros(shape, gradient.dtype), grid, gradient)


class Scatter(Op):
    """A copy of x in which the places of `grid` are those of `source` (a tensor or a number)."""

    def forward(self, x: Array, source: Any, *, grid: tuple[Array, ...]) -> Array:
        self.saved = grid, source.shape if self.needs[1] else None
        result = x.copy()
        result[grid] = source if isinstance(source, (int, float)) else _corner(source, grid)
        return result

    def backward(self, gradient: Array) -> tuple[Array | None, Array | None]:
        grid, shape = self.saved
        kept = None
        if self.needs[0]:
            kept = gradient.copy()
            kept[grid] = 0
        return kept, None if shape is None else _padded(gradient[grid], shape)


class ScatterAdd(Op):
    """A copy of x in which `source` is added at the places of `grid`, once for each time a place is named."""

    def forward(self, x: Array, source: Array, *, grid: tuple[Array, ...]) -> Array:
        self.saved = grid, source.shape
        return scatter_add_kernel(x.copy(), grid, _corner(source, grid))

    def backward(self, gradient: Array) -> tuple[Array | None, Array | None]:
        grid, shape = self.saved
        return gradient if self.needs[0] else None, _padded(gradient[grid], shape) if self.needs[1] else None


class MaskedFill(Op):
    def forward(self, x: Array, value: Any, *, mask: Array) -> Array:
        self.saved = mask, x.shape
        return array_module(x).where(mask, value, x)

    def backward(self, gradient: Array) -> tuple[Array | None, Array | None]:
        mask, shape = self.saved
        xp = array_module(gradient)
        return (
            unbroadcast(xp.where(mask, 0, gradient), shape) if self.needs[0] else None,
            xp.asarray(xp.add.reduce(xp.where(mask, gradient, 0), axis=None)) if self.needs[1] else None,
        )


def _corner(source: Array, grid: tuple[Array, ...]) -> Array:
    """The part of `source` that the indices reach: they may be fewer along each axis."""
    shape = np.broadcast_shapes(*[axis.shape for axis in grid])
    return source[tuple([slice(size) for size in shape])]


def _padded(gradient: Array, shape: tuple[int, ...]) -> Array:
    """The opposite of `_corner`: zeros where the indices did not reach."""
    if gradient.shape == shape:
        return gradient
    result = array_module(gradient).zeros(shape, gradient.dtype)
    result[tuple([slice(size) for size in gradient.shape])] = gradient
    return result


def _raw_index(input: Tensor, index: Any) -> tuple[Any, bool]:
    """An index for the array, and whether it is a basic one."""
    if isinstance(index, tuple):
        parts = [_raw_part(input, part) for part in index]
        return tuple([part for part, _ in parts]), all(basic for _, basic in parts)
    return _raw_part(input, index)


def _raw_part(input: Tensor, part: Any) -> tuple[Any, bool]:
    if isinstance(part, _BASIC) and not isinstance(part, bool):
        return part, True
    if isinstance(part, Tensor):
        return _index_array(input, part.array)
    if isinstance(part, np.integer):
        return int(part), True
    if isinstance(part, (bool, np.bool_, list, tuple, range, np.ndarray)):
        values = [int(x) if isinstance(x, Tensor) else x for x in part] if isinstance(part, (list, tuple)) else part
        return _index_array(input, np.asarray(values, np.int64 if not np.size(values) else None))  # an empty list has no type
    raise TypeError(f"a tensor is indexed by integers, slices, None, ..., tensors and lists, not {type(part).__name__}")


def _index_array(input: Tensor, array: Array) -> tuple[Any, bool]:
    if array.dtype.kind not in "ib":
        raise IndexError(f"tensors used as an index must be signed integers or booleans, not {array.dtype}")
    if not array.ndim and array.dtype.kind != "b":
        return int(array), True
    return array_module(input.array).asarray(array), False


@method
def __getitem__(input: Tensor, index: Any) -> Tensor:
    raw, basic = _raw_index(input, index)
    return (Index if basic else AdvancedIndex).apply(input, index=raw)


@method
def __setitem__(input: Tensor, index: Any, value: Any) -> None:
    raw, _ = _raw_index(input, index)
    if isinstance(value, np.ndarray):
        value = Tensor(value)
    if mode.enabled and (input.requires_grad or (isinstance(value, Tensor) and value.requires_grad)):
        value = value._cast(input.array.dtype) if isinstance(value, Tensor) else value
        input._assign(SetItem.apply(input, value, index=raw))
        return
    source = value.array if isinstance(value, Tensor) else value
    with quiet(), writable(input):
        input.array[raw] = source
    if input._version is not None:
        input._version[0] += 1


def _grid(input: Tensor, dim: int, index: Tensor) -> tuple[Array, ...]:
    """For each axis the positions that gather and scatter visit: `index` along `dim`, every position along the others."""
    x, positions = input.array, index.array
    if positions.ndim != x.ndim:
        raise RuntimeError(f"the index has {positions.ndim} dimension(s) and the tensor {x.ndim}: they must be the same number")
    axis = axis_of(dim, x.ndim)
    if positions.dtype.kind != "i":
        raise RuntimeError(f"the index must be of type int64, not {positions.dtype}")
    if positions.size and (int(positions.min()) < 0 or int(positions.max()) >= x.shape[axis]):
        raise IndexError(f"an index from {int(positions.min())} to {int(positions.max())} along a dimension of {x.shape[axis]}")
    xp = array_module(x)
    return tuple([positions if i == axis else _axis_positions(xp, i, positions.shape) for i in range(x.ndim)])


def _axis_positions(xp: Any, axis: int, shape: tuple[int, ...]) -> Array:
    return xp.arange(shape[axis]).reshape([-1 if i == axis else 1 for i in range(len(shape))])


@method
def gather(input: Tensor, dim: int, index: Tensor) -> Tensor:
    """result[i][j] = input[index[i][j]][j] for dim 0, and so on."""
    if not input.array.ndim:
        return reshape(gather(reshape(input, 1), 0, reshape(index, -1)), index.array.shape)
    return Gather.apply(input, grid=_grid(input, dim, index))


@method
def scatter(input: Tensor, dim: int, index: Tensor, src: Any = None, *, value: Any = None, reduce: str | None = None) -> Tensor:
    """A copy of `input` with result[index[i][j]][j] = src[i][j] for dim 0, and so on; `src` may be a number. `reduce`: None or "add"."""
    source = value if src is None else src
    source = source._cast(input.array.dtype) if isinstance(source, Tensor) else source
    if reduce == "add":
        return scatter_add(input, dim, index, _filled(index, source, input))
    if reduce is not None:
        raise ValueError(f"reduce must be None or 'add', not {reduce!r}")
    return Scatter.apply(input, source, grid=_grid(input, dim, index))


def _filled(index: Tensor, source: Any, like: Tensor) -> Tensor:
    if isinstance(source, Tensor):
        return source
    return Tensor(array_module(like.array).full(index.array.shape, source, like.array.dtype))


@method
def scatter_add(input: Tensor, dim: int, index: Tensor, src: Tensor) -> Tensor:
    """A copy of `input` with src[i][j] added to result[index[i][j]][j] for dim 0, and so on."""
    return ScatterAdd.apply(input, src, grid=_grid(input, dim, index))


@method
def index_select(input: Tensor, dim: int, index: Tensor) -> Tensor:
    """The slices along `dim` that `index` names."""
    return __getitem__(input, (*[slice(None)] * axis_of(dim, input.array.ndim), index))


@method
def index_add(input: Tensor, dim: int, index: Tensor, source: Tensor, *, alpha: float = 1) -> Tensor:
    """A copy of `input` with alpha · source added to the slices along `dim` that `index` names."""
    shape = source.array.shape
    axis = axis_of(dim, input.array.ndim)
    spread = index.reshape([-1 if i == axis else 1 for i in range(len(shape))]).expand(shape)
    return scatter_add(input, dim, spread, source if alpha == 1 else source * alpha)


def _check_mask(mask: Tensor) -> Array:
    if mask.array.dtype != BOOL:
        raise RuntimeError(f"a mask must be of booleans, not {mask.array.dtype}: convert it, mask.bool()")
    return mask.array


@method
def masked_fill(input: Tensor, mask: Tensor, value: Any) -> Tensor:
    """`value` (a number or a tensor without dimensions) where `mask` holds, else `input`."""
    if isinstance(value, Tensor):
        if value.array.ndim:
            raise RuntimeError(f"masked_fill takes a value without dimensions, not one of shape {tuple(value.shape)}")
        value = value._cast(input.array.dtype)
    elif input.array.dtype.kind != "f":
        value = input.array.dtype.type(value)
    return MaskedFill.apply(input, value, mask=_check_mask(mask))


@method
def masked_select(input: Tensor, mask: Tensor) -> Tensor:
    """The elements where `mask` holds, in one dimension."""
    shape = np.broadcast_shapes(input.array.shape, _check_mask(mask).shape)
    return __getitem__(input.expand(shape), mask.expand(shape))


@method
def masked_scatter(input: Tensor, mask: Tensor, source: Tensor) -> Tensor:
    """A copy of `input` whose elements where `mask` holds are the first ones of `source`, in order."""
    chosen = expand(mask, input.array.shape).array
    return SetItem.apply(input, flatten(source)[: int(chosen.sum())], index=chosen)


@method
def narrow(input: Tensor, dim: int, start: int, length: int) -> Tensor:
    """`length` slices along `dim`, from `start` on: a view."""
    axis = axis_of(dim, input.array.ndim)
    size = input.array.shape[axis]
    start = start + size if start < 0 else start
    if not (0 <= start <= size and 0 <= length <= size - start):
        raise RuntimeError(f"narrow: {length} from {start} along a dimension of {size}")
    return Index.apply(input, index=(slice(None),) * axis + (slice(start, start + length),))


@method
def select(input: Tensor, dim: int, index: int) -> Tensor:
    """The slice number `index` along `dim`, without that dimension: a view."""
    return Index.apply(input, index=(slice(None),) * axis_of(dim, input.array.ndim) + (int(index),))


@method
def nonzero(input: Tensor, *, as_tuple: bool = False) -> Any:
    """The indices of nonzero elements, one row each; as_tuple: one tensor per dimension."""
    indices = input.array.nonzero() if input.array.ndim else input.array.reshape(1).nonzero()[:0]
    if as_tuple:
        return tuple([Tensor(index) for index in indices])
    xp = array_module(input.array)
    if not input.array.ndim:
        return Tensor(xp.zeros((int(bool(input.array)), 0), np.int64))
    return Tensor(xp.stack(indices, axis=1))


@method
def take(input: Tensor, index: Tensor) -> Tensor:
    """Elements by their position in the flattened tensor."""
    return __getitem__(input.flatten(), index)
