"""Einstein summation: `einsum("bij,bjk->bik", x, y)`."""

from __future__ import annotations

from typing import Any

from ...backend.device import array_module
from ..engine import Array
from ..function import Op
from ..tensor import Tensor
from .joining import promoted

_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"  # importing `string` would compile a regular expression


class Einsum(Op):
    """`terms` name the axes of each operand (no letter twice in one), `result` those of the output."""

    def forward(self, *operands: Array, terms: tuple[str, ...], result: str) -> Array:
        self.saves = tuple(range(len(operands)))
        self.saved = operands, terms, result
        return array_module(operands[0]).einsum(f"{','.join(terms)}->{result}", *operands, optimize=len(operands) > 1)

    def backward(self, gradient: Array) -> tuple[Array | None, ...]:
        return tuple([self._gradient(i, gradient) if needed else None for i, needed in enumerate(self.needs)])

    def _gradient(self, i: int, gradient: Array) -> Array:
        """The product of the gradient and the other operands, repeated along the axes that only operand i has."""
        operands, terms, result = self.saved
        xp = array_module(gradient)
        others = [j for j in range(len(operands)) if j != i]
        sources = "".join([result, *[terms[j] for j in others]])
        kept = "".join([letter for letter in terms[i] if letter in sources])
        formula = ",".join([result, *[terms[j] for j in others]]) + "->" + kept
        part = xp.einsum(formula, gradient, *[operands[j] for j in others], optimize=bool(others))
        sizes = operands[i].shape
        part = part.reshape([size if letter in kept else 1 for letter, size in zip(terms[i], sizes)])
        return xp.broadcast_to(part, sizes)


def einsum(equation: str, *operands: Any) -> Tensor:
    """Products of the operands' elements, summed over the axes that the part after "->" does not name.

    Letters name axes, "..." stands for leading axes that broadcast; a letter twice in one operand takes its diagonal.
    """
    tensors = list(operands[0]) if len(operands) == 1 and isinstance(operands[0], (list, tuple)) else list(operands)
    left, arrow, right = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    if len(terms) != len(tensors):
        raise RuntimeError(f"einsum: {len(terms)} term(s) in {equation!r} for {len(tensors)} operand(s)")
    result = right if arrow else _implicit(left)
    tensors, terms, result = _without_ellipsis(equation, promoted("einsum", tensors), terms, result)
    pairs = [_without_repeats(tensor, term) for tensor, term in zip(tensors, terms)]
    _check_sizes(equation, pairs)
    return Einsum.apply(*[tensor for tensor, _ in pairs], terms=tuple([term for _, term in pairs]), result=result)


def _implicit(left: str) -> str:
    """Without "->": the letters that occur once, in alphabetical order, after the broadcast axes."""
    letters = left.replace(".", "").replace(",", "")
    return ("..." if "..." in left else "") + "".join(sorted([x for x in set(letters) if letters.count(x) == 1]))


def _without_ellipsis(equation: str, tensors: list[Tensor], terms: list[str], result: str) -> tuple[list[Tensor], list[str], str]:
    """Every "..." spelled out with unused letters; axes of size 1 that broadcast are dropped."""
    named = [len(term.replace("...", "")) for term in terms]
    extra = [tensor.array.ndim - count for tensor, count in zip(tensors, named)]
    if any(count < 0 or (count and "..." not in term) for count, term in zip(extra, terms)):
        raise RuntimeError(f"einsum: {equation!r} does not fit dimensions {[tensor.array.ndim for tensor in tensors]}")
    free = "".join([letter for letter in _LETTERS if letter not in equation])[: max(extra, default=0)]
    spelled = [term.replace("...", free[len(free) - count :]) for term, count in zip(terms, extra)]
    squeezed = [_without_ones(tensor, term, free) for tensor, term in zip(tensors, spelled)]
    return [tensor for tensor, _ in squeezed], [term for _, term in squeezed], result.replace("...", free)


def _without_ones(tensor: Tensor, term: str, free: str) -> tuple[Tensor, str]:
    dropped = [axis for axis, letter in enumerate(term) if letter in free and tensor.array.shape[axis] == 1]
    if not dropped:
        return tensor, term
    return tensor.squeeze(tuple(dropped)), "".join([x for axis, x in enumerate(term) if axis not in dropped])


def _without_repeats(tensor: Tensor, term: str) -> tuple[Tensor, str]:
    """The diagonal over the axes of a letter that occurs twice."""
    for letter in dict.fromkeys(term):
        while term.count(letter) > 1:
            first = term.index(letter)
            second = term.index(letter, first + 1)
            tensor = tensor.diagonal(0, first, second)
            term = term[:first] + term[first + 1 : second] + term[second + 1 :] + letter
    return tensor, term


def _check_sizes(equation: str, pairs: list[tuple[Tensor, str]]) -> None:
    seen: dict[str, int] = {}
    for tensor, term in pairs:
        for letter, size in zip(term, tensor.array.shape):
            if seen.setdefault(letter, size) != size:
                raise RuntimeError(f"einsum {equation!r}: axis {letter!r} has sizes {seen[letter]} and {size}")
