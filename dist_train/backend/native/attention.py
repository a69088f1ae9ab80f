"""Attention in blocks: the weights of a few rows at a time, in the caches."""

from .. import _native
from ..reference import attention

for kernel in (attention.attention, attention.attention_backward):
    kernel.override("numpy")(getattr(_native, kernel.name))
