"""Dropout in one pass that draws the random numbers as it goes."""

from .. import _native
from ..reference.dropout import dropout

dropout.override("numpy")(_native.dropout)
