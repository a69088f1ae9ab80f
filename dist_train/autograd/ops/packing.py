"""Rows out of a padded batch and back: the places are named once each, so neither direction adds anything up."""

from __future__ import annotations

from typing import Any

from ...backend.device import array_module
from ..engine import Array
from ..function import Op

Places = tuple[Array, ...]  # one index array per axis


class TakePlaces(Op):
    def forward(self, x: Array, *, places: Places) -> Array:
        self.saved = x.shape, places
        return x[places]

    def backward(self, gradient: Array) -> Array:
        shape, places = self.saved
        result = array_module(gradient).zeros(shape, gradient.dtype)
        result[places] = gradient
        return result


class PutPlaces(Op):
    """An array of `shape` filled with `value`, with the rows of x at `places`."""

    def forward(self, x: Array, *, places: Places, shape: tuple[int, ...], value: Any) -> Array:
        self.saved = (places,)
        result = array_module(x).full(shape, value, x.dtype)
        result[places] = x
        return result

    def backward(self, gradient: Array) -> Array:
        return gradient[self.saved[0]]
