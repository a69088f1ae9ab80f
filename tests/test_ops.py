"""Every operation against PyTorch: one row of `ROWS` each. A row is run on both (`m` is dist_train or torch), forward and backward, in
float32 and float64, with contiguous and other memory layouts, and by finite differences."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

import dist_train as dt

torch = pytest.importorskip("torch")


class Input(NamedTuple):
    """How the values of one input are drawn."""

    draw: Callable[[np.random.Generator], np.ndarray]

    @property
    def differentiable(self) -> bool:
        return self.draw(np.random.default_rng(0)).dtype.kind == "f"


def real(*shape: int) -> Input:
    return Input(lambda rng: np.asarray(rng.normal(size=shape)))


def positive(*shape: int) -> Input:
    return Input(lambda rng: np.asarray(rng.uniform(0.5, 2, shape)))


def unit(*shape: int) -> Input:
    return Input(lambda rng: np.asarray(rng.uniform(-0.9, 0.9, shape)))


def distinct(*shape: int) -> Input:
    """No two elements closer than finite differences reach."""
    return Input(lambda rng: rng.permutation(math.prod(shape)).reshape(shape) / 7.0 - 1.3)


def integers(high: int, *shape: int) -> Input:
    return Input(lambda rng: np.asarray(rng.integers(0, high, shape)))


def mask(*shape: int) -> Input:
    return Input(lambda rng: np.asarray(rng.random(shape) < 0.5))


def chosen(high: int, count: int) -> Input:
    """Different indices."""
    return Input(lambda rng: rng.permutation(high)[:count])


class Row(NamedTuple):
    name: str
    call: Callable[..., Any]
    inputs: tuple[Input, ...]


ROWS: list[Row] = []


def row(name: str, call: Callable[..., Any], *inputs: Input) -> None:
    ROWS.append(Row(name, call, inputs))


# arithmetic
SHAPES = {
    "same": ((3, 4), (3, 4)),
    "row": ((3, 4), (4,)),
    "column": ((2, 3, 4), (3, 1)),
    "both": ((3, 1), (1, 4)),
    "0d": ((3,), ()),
    "0d0d": ((), ()),
    "empty": ((0, 3), (3,)),
}
for kind, (a, b) in SHAPES.items():
    row(f"add-{kind}", lambda m, x, y: x + y, real(*a), real(*b))
    row(f"sub-{kind}", lambda m, x, y: x - y, real(*a), real(*b))
    row(f"mul-{kind}", lambda m, x, y: x * y, real(*a), real(*b))
    row(f"div-{kind}", lambda m, x, y: x / y, real(*a), positive(*b))
    row(f"pow-{kind}", lambda m, x, y: x**y, positive(*a), real(*b))
    row(f"maximum-{kind}", lambda m, x, y: m.maximum(x, y), real(*a), real(*b))
    row(f"where-{kind}", lambda m, x, y: m.where(x > 0, x, y), real(*a), real(*b))
row("minimum", lambda m, x, y: m.minimum(x, y), real(3, 4), real(4))
row("remainder", lambda m, x, y: x % y, positive(3, 4), positive(4))
row("add-alpha", lambda m, x, y: m.add(x, y, alpha=2.5) - m.sub(x, y, alpha=3), real(3), real(3))
row("add-number", lambda m, x: 1 + x + 2.5, real(3, 4))
row("sub-number", lambda m, x: (x - 1) + (2.5 - x), real(3, 4))
row("mul-number", lambda m, x: 3 * x * 0.5, real(3, 4))
row("div-number", lambda m, x: x / 3 + 2 / x, positive(3, 4))
for exponent in (0, 1, 2, 3, 4, 0.5, -1, -1.5):
    row(f"pow{exponent}", lambda m, x, e=exponent: x**e, positive(3, 4))
row("pow-negative-base", lambda m, x: x**3 + x**2 + x**1 + x**0, real(5))
row("rpow", lambda m, x: 2**x + m.pow(0.5, x), real(3, 4))
row("same-operand", lambda m, x: x * x + x / x - x, positive(3))
row("where-number", lambda m, x: m.where(x > 0, x, 0.5) + m.where(x > 0, 2, x), real(3, 4))
row("where-method", lambda m, x, c: x.where(c, x * 2), real(3, 4), mask(3, 4))
row("addcmul_", lambda m, x, y: (x * 1).addcmul_(x, y, value=0.5).addcdiv_(x, y, value=2), real(3), positive(3))
row("lerp_", lambda m, x, y: (x * 1).lerp_(y, 0.3), real(3), real(3))

# functions of one operand
for name in [
    "exp",
    "expm1",
    "exp2",
    "tanh",
    "sigmoid",
    "sin",
    "cos",
    "sinh",
    "cosh",
    "atan",
    "erf",
    "square",
    "abs",
    "neg",
    "sign",
    "floor",
    "ceil",
    "trunc",
    "round",
    "relu",
]:
    row(name, lambda m, x, f=name: getattr(m, f)(x), real(3, 4))
    row(f"{name}-method", lambda m, x, f=name: getattr(x, f)(), real(5))
for name in ["sqrt", "rsqrt", "reciprocal", "log", "log2", "log10", "log1p"]:
    row(name, lambda m, x, f=name: getattr(m, f)(x), positive(3, 4))
for name in ["tan", "asin", "acos"]:
    row(name, lambda m, x, f=name: getattr(m, f)(x), unit(3, 4))
row("exp-0d", lambda m, x: m.exp(x), real())
row("exp-empty", lambda m, x: m.exp(x), real(2, 0))
row("round-decimals", lambda m, x: m.round(x, decimals=2), real(3))
row("clamp", lambda m, x: x.clamp(-0.5, 0.5) + x.clamp(min=0.1) + x.clamp(max=0.3) + m.clip(x, 0, 1), real(3, 4))
row("clamp-border", lambda m, x: x.clamp(1 / 7 - 1.3, 2 / 7 - 1.3), Input(lambda rng: np.array([0.0, 3, 4]) / 7 - 1.3))
row("clamp-tensor", lambda m, x, a: x.clamp(min=a) + x.clamp(max=a), real(3, 4), real(4))
row("softmax", lambda m, x: m.softmax(x, 1) + m.log_softmax(x, 0), real(3, 4))

# reductions
for dim in (None, 0, -1, (0, 2)):
    for keepdim in (False, True):
        arguments: dict[str, Any] = {} if dim is None else {"dim": dim, "keepdim": keepdim}
        if dim is None and keepdim:
            continue
        for name in ("sum", "mean", "var", "std", "norm", "amax", "amin"):
            row(f"{name}-{dim}-{keepdim}", lambda m, x, f=name, a=arguments: getattr(m, f)(x, **a), distinct(2, 3, 4))
        if not isinstance(dim, tuple):
            for name in ("max", "min", "prod"):
                row(f"{name}-{dim}-{keepdim}", lambda m, x, f=name, a=arguments: getattr(x, f)(**a), distinct(2, 3, 4))
row("sum-0d", lambda m, x: x.sum() + x.mean() + x.max(), real())
row("sum-empty", lambda m, x: x.sum() + x.sum(0).sum(), real(0, 3))
row("sum-dtype", lambda m, x: x.sum(dtype=m.float64), real(3, 4))
row("sum-list", lambda m, x: x.sum([0, 1]), real(3, 4))
row("var-options", lambda m, x: x.var(1, unbiased=False) + x.var(dim=1, correction=2) + x.std(unbiased=False), real(3, 4))
row("std_mean", lambda m, x: [*m.std_mean(x, 1), *m.var_mean(x, 1)], real(3, 4))
row("std-constant", lambda m, x: (x * 0).std() + (x * 0).norm(), real(4))
for p in (1, 2, 3, 0.5, math.inf, -math.inf, "fro"):
    row(f"norm{p}", lambda m, x, p=p: x.norm(p) if p == "fro" else x.norm(p, dim=1), distinct(3, 4))
row("norm-zero-order", lambda m, x: (x.detach() * m.tensor([0.0, 1, 1], dtype=x.dtype)).norm(0), real(3))
row("prod-zeros", lambda m, x: (x * m.tensor([0.0, 1, 1], dtype=x.dtype)).prod() + (x * 0).prod(), real(3))
row("cumsum", lambda m, x: x.cumsum(1) + m.cumsum(x, 0), real(3, 4))
row("logsumexp", lambda m, x: m.logsumexp(x, 1) + x.logsumexp(dim=1, keepdim=True).sum(), real(3, 4))
row("logsumexp-all", lambda m, x: x.logsumexp((0, 1)), real(3, 4))
row("amax-ties", lambda m, x: (x * 0).amax(1) + (x * 0).max(), real(3, 4))
row("maximum-ties", lambda m, x: m.maximum(x * 0, x * 0) + m.minimum(x * 0, x * 0), real(3))
row("abs-zero", lambda m, x: (x * 0).abs(), real(3))
row("argmax", lambda m, x: [x.argmax(), x.argmax(1), m.argmax(x, 0, keepdim=True), m.argmin(x, -1), x.argmin()], distinct(3, 4))
row("all-any", lambda m, x: [(x > 0).all(), (x > 0).any(1), (x > 0).all(0, keepdim=True), m.any(x > 9)], real(3, 4))
row("count_nonzero", lambda m, x: [m.count_nonzero(x > 0), (x > 0).count_nonzero(1)], real(3, 4))

# shape
row("reshape-view", lambda m, x: [x.reshape(4, 6), x.reshape((-1, 3)), x.view(-1), m.reshape(x, (2, 12))], real(2, 3, 4))
row("view-0d", lambda m, x: x.reshape(()).reshape(1, 1), real(1))
row("view-empty", lambda m, x: [x.view(3, 0), x.reshape(0, 5), x.flatten()], real(0, 3))
row("view_as", lambda m, x, y: [x.view_as(y), x.reshape_as(y)], real(12), real(3, 4))
row("flatten", lambda m, x: [x.flatten(), x.flatten(1), m.flatten(x, 0, 1), x.ravel()], real(2, 3, 4))
row("flatten-0d", lambda m, x: x.flatten(), real())
row("unflatten", lambda m, x: [x.unflatten(1, (2, -1)), m.unflatten(x, 0, (3, 1))], real(3, 4))
row("transpose", lambda m, x: [x.transpose(0, -1), m.transpose(x, 1, 2), x.swapaxes(0, 1), x.mT, x.permute(2, 0, 1)], real(2, 3, 4))
row("permute", lambda m, x: [m.permute(x, (1, -1, 0)), x.permute((0, 2, 1)), x.movedim(0, 2), m.movedim(x, (0, 1), (1, 2))], real(2, 3, 4))
row("t", lambda m, x, v: [x.t(), x.T, m.t(v)], real(2, 3), real(3))
row("squeeze", lambda m, x: [x.squeeze(), x.squeeze(0), x.squeeze(1), x.squeeze((0, 2)), m.squeeze(x, -1)], real(1, 3, 1))
row("unsqueeze", lambda m, x: [x.unsqueeze(0), x.unsqueeze(-1), m.unsqueeze(x, 1)], real(2, 3))
row("expand", lambda m, x: [x.expand(2, 3, 4), x.expand(-1, 4), x.expand((3, 4)), x.expand(0, 3, 1)], real(3, 1))
row("expand_as", lambda m, x, y: [x.expand_as(y), m.broadcast_to(x, (3, 4)), *m.broadcast_tensors(x, y)], real(3, 1), real(3, 4))
row("expand-0d", lambda m, x: x.expand(3), real())
row("contiguous", lambda m, x: x.t().contiguous() + x.t().clone(), real(2, 3))
row("unfold", lambda m, x: [x.unfold(0, 2, 1), x.unfold(1, 3, 2), x.unfold(1, 5, 1)], real(4, 5))
row("cast", lambda m, x: x.double() * 2 + x.float() + x.half().to(x.dtype), Input(lambda rng: rng.integers(-9, 9, (3, 4)) / 4))
row("type_as", lambda m, x: x.long().type_as(x) + x.to(x), real(3))

# joining and arrangement
row("cat", lambda m, x, y: [m.cat([x, y]), m.cat((x, x), 1), m.cat([x, y, x], dim=-2), m.concat([x])], real(2, 3), real(4, 3))
row("cat-empty", lambda m, x: m.cat([m.zeros(0, dtype=x.dtype), x]), real(2, 3))
row("stack", lambda m, x, y: [m.stack([x, y]), m.stack((x, y), 1), m.stack([x, y], dim=-1)], real(2, 3), real(2, 3))
row("vstack", lambda m, x, y: [m.vstack([x, y]), m.hstack([x, y])], real(3), real(3))
row("split", lambda m, x: [*x.split(2), *m.split(x, [1, 3, 1]), *x.split(3, dim=1)], real(5, 4))
row("split-part", lambda m, x: x.split(2, 1)[0] * x.split(2, 1)[1], real(3, 4))
row("chunk", lambda m, x: [*x.chunk(3), *m.chunk(x, 2, dim=1), *x.chunk(9)], real(5, 4))
row("unbind", lambda m, x: [*x.unbind(), *m.unbind(x, 1), *x], real(2, 3))
row("repeat", lambda m, x: [x.repeat(2, 3), x.repeat(2, 1, 2), m.tile(x, (2,))], real(2, 3))
row(
    "repeat_interleave",
    lambda m, x, n: [x.repeat_interleave(2), x.repeat_interleave(2, dim=1), m.repeat_interleave(x, n, dim=0)],
    real(2, 3),
    integers(3, 2),
)
row("meshgrid", lambda m, x, y: [*m.meshgrid(x, y, indexing="ij"), *m.meshgrid([x, y], indexing="xy")], real(2), real(3))
row("flip", lambda m, x: [x.flip(0), x.flip(0, 1), m.flip(x, (1,)), m.flip(x, [-1])], real(2, 3))
row("roll", lambda m, x: [x.roll(1), m.roll(x, 1, 0), x.roll((1, -2), (0, 1)), x.roll(shifts=2, dims=1)], real(2, 3))
row("tril", lambda m, x: [x.tril(), m.tril(x, 1), x.triu(), m.triu(x, diagonal=-1)], real(2, 3, 4))
row("diag", lambda m, x, v: [x.diag(), m.diag(x, 1), m.diag(v), v.diag(-1), m.trace(x[:3])], real(4, 3), real(3))
row("diagonal", lambda m, x: [x.diagonal(0, 1, 2), m.diagonal(x, 1, 0, 2), x.diagonal(-1)], real(3, 4, 3))
row("diff", lambda m, x: [m.diff(x), x.diff(dim=0), m.diff(x, n=2), m.diff(x, prepend=x[:, :1])], real(3, 4))

# indexing
INDICES: dict[str, Any] = {
    "int": 1, "negative": -1, "slice": slice(1, 3), "step": slice(None, None, 2), "none": None, "ellipsis": ..., "pair": (1, 2),
    "mixed": (slice(None), 1, ..., None), "list": [0, 2, 0], "two-lists": ([0, 1, 0], [1, 1, 1]), "list-slice": (slice(1, None), [0, 2, 2]),
    "separated": ([0, 2], slice(None), [1, 1]), "column": (slice(None), slice(0, 1)), "empty": slice(2, 2), "true": True,
}  # fmt: skip
for name, index in INDICES.items():
    row(f"index-{name}", lambda m, x, i=index: x[i], real(4, 3, 4))
row("index-tensor", lambda m, x, i: [x[i], x[i, i], x[:, i], x[i.reshape(2, 2)], x[i[0]], x[i[:, None], i]], real(3, 3), integers(3, 4))
row("index-mask", lambda m, x, c: [x[c], x[:, c[0]], x[x > 9]], real(3, 4), mask(3, 4))
row("setitem", lambda m, x, y: _set(x, 1, y), real(3, 4), real(4))
row("setitem-number", lambda m, x: _set(x, (slice(None), 0), 2.0), real(3, 4))
row("setitem-broadcast", lambda m, x, y: _set(x, slice(0, 2), y), real(3, 4), real(1))
row("setitem-list", lambda m, x, y, i: _set(x, (slice(None), i), y), real(3, 4), real(3, 2), chosen(4, 2))
row("setitem-mask", lambda m, x, c: _set(x, c, -1.0), real(3, 4), mask(3, 4))
row("setitem-constant-target", lambda m, y: _set(m.zeros(3, 4, dtype=y.dtype), 1, y), real(4))
row("gather", lambda m, x, i: [x.gather(1, i), m.gather(x, 0, i % 3)], real(3, 4), integers(4, 2, 3))
row("gather-0d", lambda m, x: m.gather(x, 0, m.tensor(0)), real())
row("scatter", lambda m, x, y, i: x.scatter(1, i[None], y), real(3, 4), real(1, 3), chosen(4, 3))
row("scatter-number", lambda m, x, i: [x.scatter(1, i, 2.5), x.scatter(0, i % 3, value=1)], real(3, 4), integers(4, 2, 3))
row("scatter_add", lambda m, x, y, i: x.scatter_add(1, i, y), real(3, 4), real(2, 3), integers(4, 2, 3))
row("scatter_", lambda m, i: m.zeros(3, 4).scatter_(1, i, 1.0), integers(4, 3, 1))
row("index_select", lambda m, x, i: [x.index_select(0, i), m.index_select(x, 1, i)], real(3, 4), integers(3, 5))
row("index_add", lambda m, x, y, i: x.index_add(0, i, y, alpha=2), real(3, 4), real(5, 4), integers(3, 5))
row("masked_fill", lambda m, x, c: [x.masked_fill(c, -1e9), m.masked_fill(x, c[0], 0)], real(3, 4), mask(3, 4))
row("masked_fill-tensor", lambda m, x, v, c: x.masked_fill(c, v), real(3, 4), real(), mask(3, 4))
row(
    "masked_fill-broadcast",
    lambda m, x, c: (x * m.ones(2, 3, 4, dtype=x.dtype)).masked_fill(c == 0, float("-inf")).exp(),
    real(3, 4),
    mask(3, 4),
)
row("masked_select", lambda m, x, c: [x.masked_select(c), m.masked_select(x, c[0])], real(3, 4), mask(3, 4))
row("masked_scatter", lambda m, x, y, c: x.masked_scatter(c, y), real(3, 4), real(12), mask(3, 4))
row("narrow", lambda m, x: [x.narrow(0, 1, 2), m.narrow(x, 1, -2, 1), x.select(1, 2)], real(3, 4))
row("nonzero", lambda m, c: [m.nonzero(c), c.nonzero(), *m.nonzero(c, as_tuple=True), *m.where(c)], mask(3, 4))
row("take", lambda m, x, i: m.take(x, i), real(3, 4), integers(12, 5))
row("sort", lambda m, x: [*x.sort(), *m.sort(x, 0, descending=True), x.argsort(1), m.argsort(x, descending=True)], distinct(3, 4))
row("sort-stable", lambda m, i: [*m.sort(i, stable=True), *m.sort(i, stable=True, descending=True)], integers(3, 20))
row("topk", lambda m, x: [*x.topk(2), *m.topk(x, 1, 0), *x.topk(3, largest=False)], distinct(3, 4))
row("unique", lambda m, i: [m.unique(i), *m.unique(i, return_inverse=True, return_counts=True)], integers(4, 3, 4))
row("unique-dim", lambda m, i: m.unique(i, dim=0), integers(2, 9, 2))
row("bincount", lambda m, i: [m.bincount(i), i.bincount(minlength=9)], integers(5, 20))
row(
    "searchsorted",
    lambda m, x: [m.searchsorted(m.arange(5.0), x.float()), m.searchsorted(m.arange(5), m.arange(9) - 2, right=True)],
    positive(4),
)

# products
row("matmul", lambda m, x, y: x @ y, real(3, 4), real(4, 2))
row("matmul-vectors", lambda m, x, v, w: [x @ v, w @ x, v @ v, m.dot(v, v), m.mv(x, v)], real(3, 4), real(4), real(3))
row("matmul-batch", lambda m, x, y: [x @ y, m.bmm(x, y), m.matmul(x[0], y)], real(2, 3, 4), real(2, 4, 5))
row("matmul-broadcast", lambda m, x, y: x @ y, real(2, 1, 3, 4), real(5, 4, 2))
row("matmul-fold", lambda m, x, y: x @ y, real(2, 5, 3, 4), real(4, 2))
row("matmul-vector-batch", lambda m, v, y: [v @ y, y.transpose(1, 2) @ v], real(4), real(2, 4, 3))
row("matmul-transposed", lambda m, x, y: x.t() @ y.t(), real(4, 3), real(2, 4))
row("matmul-empty", lambda m, x, y: x @ y, real(3, 0), real(0, 2))
row("mm", lambda m, x, y: [m.mm(x, y), x.mm(y)], real(3, 4), real(4, 2))
row("outer", lambda m, x, y: m.outer(x, y), real(3), real(4))
row("addmm", lambda m, c, x, y: m.addmm(c, x, y, beta=0.5, alpha=2), real(2), real(3, 4), real(4, 2))
row("baddbmm", lambda m, c, x, y: m.baddbmm(c, x, y, alpha=0.5), real(2, 3, 5), real(2, 3, 4), real(2, 4, 5))
for equation, shapes in {
    "ij,jk->ik": ((3, 4), (4, 2)),
    "bij,bjk": ((2, 3, 4), (2, 4, 5)),
    "ij->ji": ((3, 4),),
    "ij->": ((3, 4),),
    "ij->i": ((3, 4),),
    "ii->i": ((3, 3),),
    "ii": ((3, 3),),
    "i,j->ij": ((3,), (4,)),
    "bhqd,bhkd->bhqk": ((2, 2, 3, 4), (2, 2, 5, 4)),
    "...ij,...jk->...ik": ((2, 3, 4), (4, 5)),
    "i,ij,j->": ((3,), (3, 4), (4,)),
    "ij,ij->ij": ((3, 4), (3, 4)),
    "iji->j": ((3, 4, 3),),
    "ij,k->i": ((3, 4), (2,)),
    "...,...": ((2, 1), (2, 3)),
}.items():
    row(f"einsum-{equation}", lambda m, *x, e=equation: m.einsum(e, *x), *[real(*shape) for shape in shapes])


def _set(x: Any, index: Any, value: Any) -> Any:
    x = x.clone()
    x[index] = value
    return x


def listed(result: Any) -> list[Any]:
    return list(result) if isinstance(result, (list, tuple)) else [result]


def host(tensor: Any) -> np.ndarray:
    return tensor.detach().numpy()


def arrays_of(row: Row, dtype: str) -> list[np.ndarray]:
    rng = np.random.default_rng(7)
    arrays = [source.draw(rng) for source in row.inputs]
    return [array.astype(dtype) if array.dtype.kind == "f" else array for array in arrays]


def strided(array: np.ndarray) -> np.ndarray:
    """The same values with other strides."""
    if not array.ndim:
        return array.copy()
    wide = np.zeros([2 * size for size in array.shape[::-1]], array.dtype).T[(slice(None, None, 2),) * array.ndim]
    wide[...] = array
    return wide


def run(module: Any, row: Row, arrays: list[np.ndarray]) -> tuple[list[Any], list[np.ndarray | None]]:
    """Outputs, and the gradients of a weighted sum of the differentiable ones."""
    inputs = [module.from_numpy(array) for array in arrays]
    for tensor in inputs:
        tensor.requires_grad_(tensor.is_floating_point())
    outputs = listed(row.call(module, *inputs))
    weights = np.random.default_rng(11)
    loss = 0
    for output in outputs:
        weight = weights.normal(size=tuple(output.shape))
        if output.requires_grad:
            loss = loss + (output * module.from_numpy(np.asarray(weight)).to(output.dtype)).sum()
    if isinstance(loss, int):
        return outputs, []
    loss.backward()
    return outputs, [None if tensor.grad is None else host(tensor.grad) for tensor in inputs]


TOLERANCE = {"float32": {"rtol": 2e-5, "atol": 2e-6}, "float64": {"rtol": 1e-10, "atol": 1e-12}}
table = pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])


def compare(ours: tuple[list[Any], list[Any]], theirs: tuple[list[Any], list[Any]], dtype: str) -> None:
    assert len(ours[0]) == len(theirs[0])
    for mine, other in zip(ours[0], theirs[0]):
        assert mine.requires_grad == other.requires_grad
        assert mine.dtype.name == str(other.dtype).removeprefix("torch.")
        np.testing.assert_allclose(host(mine), host(other), **TOLERANCE[dtype], strict=True)
    assert len(ours[1]) == len(theirs[1])
    for mine, other in zip(ours[1], theirs[1]):
        assert (mine is None) == (other is None)
        if mine is not None:
            np.testing.assert_allclose(mine, other, **TOLERANCE[dtype], strict=True)


@table
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_parity(row: Row, dtype: str) -> None:
    arrays = arrays_of(row, dtype)
    copies = [array.copy() for array in arrays]
    theirs = run(torch, row, arrays)
    compare(run(dt, row, copies), theirs, dtype)
    for copy, array in zip(copies, arrays):
        np.testing.assert_array_equal(copy, array)  # inputs are left alone


STRIDED = [row for row in ROWS if "view" not in row.name]  # of a strided input there is no view in another shape


@pytest.mark.parametrize("row", STRIDED, ids=[row.name for row in STRIDED])
def test_other_layouts(row: Row) -> None:
    """Strided and read-only inputs give the same as contiguous ones."""
    arrays = arrays_of(row, "float32")
    views = [strided(array) for array in arrays]
    for view in views:
        view.flags.writeable = False
    (outputs, gradients), expected = run(dt, row, views), run(dt, row, arrays)
    for mine, other in zip([*map(host, outputs), *gradients], [*map(host, expected[0]), *expected[1]]):
        if mine is not None:
            np.testing.assert_allclose(mine, other, **TOLERANCE["float32"], strict=True)


CONTINUOUS = [
    row
    for row in ROWS
    if any(source.differentiable for source in row.inputs)
    and row.name not in ("std-constant", "norm-zero-order", "amax-ties", "maximum-ties", "abs-zero", "clamp-border", "prod-zeros", "cast")
]


@pytest.mark.parametrize("row", CONTINUOUS, ids=[row.name for row in CONTINUOUS])
def test_gradient(row: Row) -> None:
    inputs = [dt.from_numpy(array) for array in arrays_of(row, "float64")]
    for tensor in inputs:
        tensor.requires_grad_(tensor.is_floating_point())
    assert dt.autograd.gradcheck(lambda *x: row.call(dt, *x), inputs, fast_mode=True)


# type promotion

OPERATIONS: dict[str, Callable[[Any, Any], Any]] = {
    "add": lambda x, y: x + y,
    "mul": lambda x, y: x * y,
    "div": lambda x, y: x / y,
    "pow": lambda x, y: x**y,
    "eq": lambda x, y: x == y,
    "lt": lambda x, y: x < y,
    "ge": lambda x, y: x >= y,
}
TYPES = ("bool", "int64", "float32", "float64", "uint8", "int32", "float16")
OPERANDS = [(name, rank) for name in TYPES for rank in ("dimensioned", "0d")] + [(name, "number") for name in ("bool", "int", "float")]


def operand(module: Any, name: str, rank: str) -> Any:
    if rank == "number":
        return {"bool": True, "int": 2, "float": 1.5}[name]
    values = np.array([1, 0, 1] if name == "bool" else [3, 1, 2]).astype(name)
    return module.from_numpy(values if rank == "dimensioned" else values[:1].reshape(()).copy())


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("left", OPERANDS, ids="-".join)
def test_promotion(operation: str, left: tuple[str, str]) -> None:
    for right in OPERANDS:
        if left[1] == "number" and right[1] == "number":
            continue
        apply = OPERATIONS[operation]
        try:
            with np.errstate(all="ignore"):
                expected = apply(operand(torch, *left), operand(torch, *right))
        except (RuntimeError, NotImplementedError):
            continue  # torch has no power of booleans
        if operation == "pow" and "bool" in (left[0], right[0]):
            continue
        result = apply(operand(dt, *left), operand(dt, *right))
        assert result.dtype.name == str(expected.dtype).removeprefix("torch."), (left, right)
        np.testing.assert_allclose(
            host(result), host(expected), rtol=2e-3 if expected.dtype == torch.float16 else 1e-6, err_msg=str((left, right))
        )


@pytest.mark.parametrize("left", TYPES)
@pytest.mark.parametrize("right", TYPES)
def test_gradients_keep_the_type_of_their_input(left: str, right: str) -> None:
    x, y = dt.ones(3).to(left), dt.ones(2, 3).to(right)
    inputs = [tensor.requires_grad_() for tensor in (x, y) if tensor.is_floating_point()]
    if inputs:
        (x * y + x / y + dt.where(y > 0, x, y)).sum().backward()
    for tensor in inputs:
        assert tensor.grad is not None
        assert (tensor.grad.dtype, tensor.grad.shape) == (tensor.dtype, tensor.shape)


SUMS = {
    "sum": lambda x: x.sum(),
    "prod": lambda x: x.prod(),
    "cumsum": lambda x: x.cumsum(0),
    "max": lambda x: x.max(),
    "abs": lambda x: abs(x + 0),
    "exp": lambda x: x.exp(),
    "sqrt": lambda x: x.sqrt(),
    "floor": lambda x: (x + 0).floor(),
    "neg": lambda x: -(x + 0),
    "clamp": lambda x: (x + 0).clamp(0, 1),
    "clamp-float": lambda x: (x + 0).clamp(0.5),
    "cat": lambda x: x,
    "square": lambda x: (x + 0).square(),
    "sigmoid": lambda x: x.sigmoid(),
}


NOT_FOR_BOOLEANS = ("neg", "abs", "floor", "clamp", "clamp-float", "square")
PAIRS = [(name, op) for name in ("uint8", "int32", "int64", "bool") for op in SUMS if name != "bool" or op not in NOT_FOR_BOOLEANS]


@pytest.mark.parametrize(("name", "operation"), PAIRS)
def test_integers(name: str, operation: str) -> None:
    values = np.array([3, 0, 2]).astype(name)
    result, expected = SUMS[operation](dt.from_numpy(values)), SUMS[operation](torch.from_numpy(values))
    assert result.dtype.name == str(expected.dtype).removeprefix("torch.")
    np.testing.assert_allclose(host(result), host(expected), rtol=1e-6)


def test_numpy_operands() -> None:
    x = dt.ones(3)
    assert (x * np.float64(2)).dtype == dt.float32  # a NumPy scalar counts as a number
    assert (np.float64(2) * x).dtype == dt.float32
    assert isinstance(np.ones(3) + x, dt.Tensor)
    assert (x + np.ones(3)).dtype == dt.float64
    assert (np.ones(3, np.float32) @ x).item() == 3


def test_infinities_are_values() -> None:
    """No warning, as in torch (warnings are errors here)."""
    x = dt.tensor([0.0, -1.0, 1e38], requires_grad=True)
    y = dt.stack([x.log(), x / 0, 0 / x, x.sqrt(), x.exp(), x * 1e38, x**-1])
    y.sum().backward()
    assert not dt.isfinite(y).all()
    assert dt.isnan(x.grad).any()
    dt.tensor([float("nan")]).long()


def test_values_at_the_edge_match() -> None:
    values = np.array([0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan], np.float32)
    x, y = dt.from_numpy(values), torch.from_numpy(values)
    for name in ("exp", "log", "sqrt", "abs", "tanh", "sigmoid", "erf", "floor", "isnan", "isinf", "isfinite", "rsqrt", "relu"):
        np.testing.assert_allclose(getattr(x, name)().numpy(), getattr(y, name)().numpy(), rtol=1e-6, err_msg=name)
    for name in ("max", "min", "argmax", "argmin", "sum"):
        np.testing.assert_array_equal(getattr(x, name)().numpy(), getattr(y, name)().numpy(), err_msg=name)
    np.testing.assert_array_equal(dt.maximum(x, x.flip(0)).numpy(), torch.maximum(y, y.flip(0)).numpy())
    np.testing.assert_array_equal(dt.sort(x).values.numpy(), torch.sort(y).values.numpy())


@pytest.mark.parametrize(("dtype", "rtol"), [("float64", 3e-16 * 4), ("float32", 3e-7)])
def test_erf_is_exact_to_rounding(dtype: str, rtol: float) -> None:
    values = np.concatenate([np.linspace(-7, 7, 5001), np.logspace(-30, 0, 100)]).astype(dtype)
    exact = np.array([math.erf(x) for x in values.astype(float)])
    np.testing.assert_allclose(dt.from_numpy(values).erf().numpy(), exact, rtol=rtol)


# creation

CREATIONS: dict[str, Callable[[Any], Any]] = {
    "zeros": lambda m: m.zeros(2, 3),
    "zeros-tuple": lambda m: m.zeros((2, 3), dtype=m.int64),
    "zeros-0d": lambda m: m.zeros(()),
    "ones": lambda m: m.ones(2, dtype=m.bool),
    "full": lambda m: m.full((2, 2), 7),
    "full-float": lambda m: m.full((2,), 0.5),
    "full-bool": lambda m: m.full([2], True),
    "full_like": lambda m: m.full_like(m.zeros(2, 3), 4),
    "arange": lambda m: m.arange(5),
    "arange-float": lambda m: m.arange(0, 1, 0.1),
    "arange-negative": lambda m: m.arange(5, 1, -2),
    "arange-dtype": lambda m: m.arange(3, dtype=m.float32),
    "linspace": lambda m: m.linspace(0, 3, 7),
    "linspace-1": lambda m: m.linspace(2, 3, 1),
    "logspace": lambda m: m.logspace(0, 2, 3),
    "eye": lambda m: m.eye(3, 4),
    "tensor-int": lambda m: m.tensor([[1, 2], [3, 4]]),
    "tensor-float": lambda m: m.tensor([1, 2.5]),
    "tensor-bool": lambda m: m.tensor([True, False]),
    "tensor-mixed": lambda m: m.tensor([True, 2]),
    "tensor-number": lambda m: m.tensor(3.5),
    "tensor-empty": lambda m: m.tensor([]),
    "tensor-numpy": lambda m: m.tensor(np.ones(2)),
    "tensor-numpy-number": lambda m: m.tensor([np.float64(1)]),
    "tensor-of-tensors": lambda m: m.tensor([m.tensor(1), m.tensor(2)]),
    "tensor-dtype": lambda m: m.tensor([1, 2], dtype=m.float64),
    "as_tensor": lambda m: m.as_tensor([1.0, 2.0]),
    "float-constructor": lambda m: m.FloatTensor([1, 2, 3]),
    "long-constructor": lambda m: m.LongTensor([[1, 2]]),
    "new_zeros": lambda m: m.ones(2, dtype=m.float64).new_zeros(3, 2),
    "new_tensor": lambda m: m.ones(2, dtype=m.float64).new_tensor([1, 2]),
    "new_full": lambda m: m.ones(2).new_full((2, 2), 3),
    "zeros_like": lambda m: m.zeros_like(m.ones(2, 3, dtype=m.int32)),
    "ones_like": lambda m: m.ones_like(m.zeros(2, 3), dtype=m.float64),
    "tril_indices": lambda m: m.tril_indices(3, 4),
    "triu_indices": lambda m: m.triu_indices(3, 3, 1),
    "Tensor-list": lambda m: m.Tensor([1, 2]),
    "meshgrid": lambda m: m.meshgrid(m.arange(2), m.arange(3), indexing="ij")[0],
    "one-minus": lambda m: 1 - m.tensor([True, False]).float(),
    "floor_divide": lambda m: m.tensor([7, -7]) // 2,
    "floor_divide-float": lambda m: m.tensor([7.5, -7.5]) // 2,
    "rfloordiv": lambda m: 7 // m.tensor([2, 3]),
    "mod": lambda m: m.tensor([7, -7]) % 3,
    "rmod": lambda m: 7 % m.tensor([4, 3]),
    "div-trunc": lambda m: m.div(m.tensor([7, -7]), 2, rounding_mode="trunc"),
    "div-floor": lambda m: m.div(m.tensor([7.0, -7.0]), 2, rounding_mode="floor"),
    "logic": lambda m: (m.tensor([1, 0, 3]) & 1) | m.tensor([4, 4, 4]) ^ 1,
    "not": lambda m: ~m.tensor([True, False]),
    "bitwise-not": lambda m: ~m.tensor([1, 2]),
    "logical": lambda m: m.logical_and(m.tensor([1.0, 0.0]), m.tensor([2, 2])),
    "setitem-cast": lambda m: _set(m.zeros(3, dtype=m.int64), 1, 2.7),
}


@pytest.mark.parametrize("name", CREATIONS)
def test_creation(name: str) -> None:
    ours, theirs = CREATIONS[name](dt), CREATIONS[name](torch)
    assert ours.dtype.name == str(theirs.dtype).removeprefix("torch.")
    np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=1e-6, strict=True)


def test_memory() -> None:
    """from_numpy and as_tensor share, tensor and LongTensor copy."""
    array = np.zeros(3, np.float32)
    shared, copied, constructed = dt.from_numpy(array), dt.tensor(array), dt.FloatTensor(array)
    array[0] = 1
    assert shared[0].item() == 1
    assert dt.as_tensor(array).numpy() is array
    assert copied.sum().item() == constructed.sum().item() == 0


def test_default_dtype() -> None:
    try:
        dt.set_default_dtype(dt.float64)
        assert dt.tensor(1.0).dtype == dt.zeros(2).dtype == (dt.tensor([1]) / 2).dtype == dt.float64
    finally:
        dt.set_default_dtype(dt.float32)
    with pytest.raises(TypeError, match="int64"):
        dt.set_default_dtype(dt.int64)


def test_types_by_name() -> None:
    x = dt.zeros(2)
    assert x.type() == "dist_train.FloatTensor"
    assert x.type(dt.LongTensor).dtype == x.type("torch.LongTensor").dtype == x.type(dt.int64).dtype == dt.long
    assert isinstance(x, dt.FloatTensor)
    assert not isinstance(x, dt.LongTensor)
    assert dt.LongTensor(2, 3).shape == (2, 3)
    with pytest.raises(TypeError, match="bfloat16"):
        x.to(dt.bfloat16)


def test_properties() -> None:
    x = dt.zeros(2, 3)
    assert (x.ndim, x.dim(), x.numel(), dt.numel(x), x.nelement(), x.size(0), x.size(), len(x)) == (2, 2, 6, 6, 6, 2, (2, 3), 2)
    assert x.device == dt.device("cpu")
    assert not (x.is_cuda or x.is_xpu)
    assert x.cpu() is x
    assert x.to("cpu", dt.float32) is x
    assert x.pin_memory() is x
    assert dt.is_tensor(x)
    assert x.tolist() == [[0.0] * 3] * 2
    assert repr(dt.tensor([1.0, 2.0])) == "tensor([1., 2.])"
    assert x is not None
    assert (x == None) is False  # noqa: E711


# random numbers

DRAWS: dict[str, Callable[[Any], Any]] = {
    "rand": lambda g: dt.rand(1000, generator=g),
    "randn": lambda g: dt.randn(1000, generator=g),
    "randint": lambda g: dt.randint(0, 10, (1000,), generator=g),
    "randperm": lambda g: dt.randperm(1000, generator=g),
    "bernoulli": lambda g: dt.bernoulli(dt.full((1000,), 0.3), generator=g),
    "multinomial": lambda g: dt.multinomial(dt.ones(1000), 500, generator=g),
    "multinomial-replacement": lambda g: dt.multinomial(dt.ones(3, 10), 500, replacement=True, generator=g),
    "normal": lambda g: dt.normal(dt.zeros(10), dt.ones(10), generator=g),
    "normal_": lambda g: dt.empty(1000).normal_(1, 2, generator=g),
    "uniform_": lambda g: dt.empty(1000).uniform_(-1, 1, generator=g),
    "bernoulli_": lambda g: dt.empty(1000).bernoulli_(0.3, generator=g),
    "exponential_": lambda g: dt.empty(1000).exponential_(2, generator=g),
    "random_": lambda g: dt.zeros(1000, dtype=dt.int64).random_(7, generator=g),
}


@pytest.mark.parametrize("name", DRAWS)
def test_random_numbers_follow_their_seed(name: str) -> None:
    draw = DRAWS[name]
    first, again, other = (draw(dt.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert dt.equal(first, again)
    assert not dt.equal(first, other)
    dt.manual_seed(1)
    assert dt.equal(draw(None), first)


def test_distributions() -> None:
    dt.manual_seed(3)
    x = dt.randn(20000)
    assert abs(x.mean().item()) < 0.03
    assert abs(x.std().item() - 1) < 0.03
    assert x.dtype == dt.float32
    u = dt.empty(20000).uniform_(2, 4)
    assert 2 <= u.min().item() < 2.01
    assert 3.99 < u.max().item() < 4
    assert sorted(dt.randperm(50).tolist()) == list(range(50))
    integers = dt.randint(3, 6, (1000,))
    assert integers.dtype == dt.int64
    assert set(integers.tolist()) == {3, 4, 5}
    assert dt.randint(4, (2, 3)).shape == dt.rand_like(dt.zeros(2, 3)).shape == dt.randn_like(dt.zeros(2, 3)).shape == (2, 3)
    assert abs(dt.bernoulli(dt.full((20000,), 0.3)).mean().item() - 0.3) < 0.02


def test_multinomial_weights() -> None:
    dt.manual_seed(0)
    weights = dt.tensor([1.0, 0.0, 3.0])
    counts = dt.multinomial(weights, 20000, replacement=True).bincount(minlength=3)
    assert counts[1].item() == 0
    assert abs(counts[2].item() / 20000 - 0.75) < 0.02
    first = dt.cat([dt.multinomial(weights, 1) for _ in range(2000)])
    assert abs((first == 2).float().mean().item() - 0.75) < 0.05
    assert sorted(dt.multinomial(weights, 2).tolist()) == [0, 2]
    with pytest.raises(RuntimeError, match="2 positive"):
        dt.multinomial(weights, 3)


# in-place changes

IN_PLACE: dict[str, Callable[[Any, Any], Any]] = {
    "add_": lambda m, x: x.add_(2, alpha=3),
    "iadd": lambda m, x: x.__iadd__(m.ones(4, dtype=x.dtype)),
    "sub_": lambda m, x: x.sub_(x.clone()),
    "mul_": lambda m, x: x.mul_(2.5),
    "div_": lambda m, x: x.div_(4),
    "pow_": lambda m, x: x.pow_(2),
    "clamp_": lambda m, x: x.clamp_(0, 1),
    "clamp-min": lambda m, x: x.clamp_(min=0),
    "fill_": lambda m, x: x.fill_(3),
    "fill-tensor": lambda m, x: x.fill_(m.tensor(2.0)),
    "zero_": lambda m, x: x.zero_(),
    "copy_": lambda m, x: x.copy_(m.arange(4)),
    "masked_fill_": lambda m, x: x.masked_fill_(x > 0, -1),
    "scatter_": lambda m, x: x.scatter_(1, m.tensor([[0], [1], [2]]), 9.0),
    "scatter_add_": lambda m, x: x.scatter_add_(1, m.tensor([[0, 0]]), m.ones(1, 2, dtype=x.dtype)),
    "exp_": lambda m, x: x.exp_(),
    "sqrt_": lambda m, x: x.abs_().sqrt_(),
    "sin_": lambda m, x: x.sin_(),
    "neg_": lambda m, x: x.neg_(),
    "tril_": lambda m, x: x.tril_(),
    "unsqueeze_": lambda m, x: x.unsqueeze_(0),
    "squeeze_": lambda m, x: x.unsqueeze_(0).squeeze_(0),
    "relu_": lambda m, x: x.relu_(),
    "fill_diagonal_": lambda m, x: x.fill_diagonal_(5),
    "setitem": lambda m, x: x.__setitem__((slice(None), 1), 5) or x,
    "row": lambda m, x: x[1].mul_(3) is None or x,
    "chain": lambda m, x: x.mul_(0.9).add_(x, alpha=0.1),
}


@pytest.mark.parametrize("name", IN_PLACE)
def test_in_place(name: str) -> None:
    values = np.random.default_rng(5).normal(size=(3, 4)).astype(np.float32)
    ours, theirs = dt.tensor(values), torch.tensor(values)
    memory = ours.array
    result, expected = IN_PLACE[name](dt, ours), IN_PLACE[name](torch, theirs)
    assert result is ours
    assert np.shares_memory(memory, ours.array)
    np.testing.assert_allclose(ours.numpy(), expected.numpy(), rtol=1e-6, strict=True)


DIFFERENTIATED = [name for name in IN_PLACE if name not in ("unsqueeze_", "squeeze_", "row", "fill_diagonal_")]


@pytest.mark.parametrize("name", DIFFERENTIATED)
def test_gradient_through_in_place(name: str) -> None:
    values = np.random.default_rng(5).normal(size=(3, 4)) + 0.1
    gradients = []
    for module in (dt, torch):
        x = module.tensor(values, requires_grad=True)
        y = IN_PLACE[name](module, x * 1.5)
        ((y * y).sum() + y.sum()).backward()
        gradients.append(x.grad.numpy())
    np.testing.assert_allclose(*gradients, rtol=1e-10, atol=1e-12)


# errors

x23, i3 = dt.zeros(2, 3), dt.zeros(3, dtype=dt.int64)
ERRORS: dict[str, tuple[Callable[[], Any], str]] = {
    "matmul": (lambda: x23 @ x23, r"\(2, 3\) and \(2, 3\)"),
    "matmul-types": (lambda: dt.ones(3) @ dt.ones(3).double(), "float32, float64"),
    "reshape": (lambda: x23.reshape(4), r"\(4,\).*6 elements.*\(2, 3\)"),
    "reshape-unknown": (lambda: x23.reshape(-1, 4), "6 elements"),
    "view": (lambda: dt.zeros(2, 3).t().view(6), "reshape"),
    "dimension": (lambda: x23.sum(2), "dimension 2.*2 dimension"),
    "mean-int": (lambda: i3.mean(), "int64"),
    "cat": (lambda: dt.cat([x23, dt.zeros(2, 4)]), r"\(2, 3\), \(2, 4\)"),
    "stack": (lambda: dt.stack([x23, i3]), r"\(2, 3\)"),
    "expand": (lambda: x23.expand(4, 3), r"\(2, 3\).*\(4, 3\)"),
    "index-float": (lambda: x23[dt.zeros(2)], "float32"),
    "index-range": (lambda: x23[5], "5"),
    "gather": (lambda: x23.gather(1, dt.full((2, 1), 7)), "7.*3"),
    "max-empty": (lambda: dt.zeros(0).max(), "no elements"),
    "split": (lambda: x23.split([1, 2], 0), "add up to 3.*2"),
    "permute": (lambda: x23.permute(0, 0), r"\(0, 0\)"),
    "add-str": (lambda: x23 + "a", "str"),
    "in-place-type": (lambda: i3.clone().add_(1.5), "float32.*int64"),
    "in-place-shape": (lambda: dt.zeros(3).add_(dt.zeros(2, 3)), r"\(2, 3\).*\(3,\)"),
    "item": (lambda: x23.item(), r"6 .*\(2, 3\)"),
    "bool": (lambda: bool(x23), r"\(2, 3\)"),
    "masked_fill": (lambda: x23.masked_fill(i3, 1), "bool"),
    "where": (lambda: dt.where(i3, 1.0, 2.0), "int64"),
    "int-zero-division": (lambda: i3 // 0, "zero"),
    "einsum": (lambda: dt.einsum("ij,jk", x23, x23), "'j'.*3.*2"),
    "topk": (lambda: x23.topk(4), "4 of 3"),
    "device": (lambda: dt.device("tpu"), "tpu"),
    "from_numpy": (lambda: dt.from_numpy([1]), "list"),
    "tensor-text": (lambda: dt.tensor("abc"), "str"),
    "arange": (lambda: dt.arange(0, 5, -1), "-1"),
    "linear": (lambda: dt.autograd.ops.linalg.linear(x23, x23[:, :2]), r"\(2, 3\).*\(2, 2\)"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors_name_the_numbers(name: str) -> None:
    call, message = ERRORS[name]
    with pytest.raises((RuntimeError, ValueError, TypeError, IndexError), match=message):
        call()


# the fused linear layer


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(5, 3), (2, 4, 3), (3,), (0, 3), (2, 0, 3)])
@pytest.mark.parametrize("bias", [True, False])
def test_linear(shape: tuple[int, ...], bias: bool, dtype: str) -> None:
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=size).astype(dtype) for size in (shape, (6, 3), (6,))][: 3 if bias else 2]
    calls = {dt: dt.autograd.ops.linalg.linear, torch: torch.nn.functional.linear}
    row = Row("linear", lambda m, *inputs: calls[m](*inputs), ())
    compare(run(dt, row, arrays), run(torch, row, arrays), dtype)


def test_linear_skips_what_needs_no_gradient() -> None:
    x, weight = dt.randn(4, 3), dt.randn(2, 3, requires_grad=True)
    output = dt.autograd.ops.linalg.linear(x, weight)
    assert output.grad_fn.saved[1] is None  # the weight is needed for the input's gradient only
    x.zero_()
    with pytest.raises(RuntimeError, match="in place"):
        output.sum().backward()
