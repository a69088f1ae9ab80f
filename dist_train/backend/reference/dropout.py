"""Dropout by random numbers that are a function of a key and an element's number: whoever has the key can draw them again.

The generator is Philox4x32-7 of Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3" (10.1145/2063384.2063405); seven rounds
pass every test of that paper.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

from ..device import Array
from ..kernels import kernel

WORD = 0xFFFFFFFF
PIECE = 1 << 16  # blocks drawn at a time: their arrays fit into the caches


def random_words(xp: ModuleType, size: int, key: int) -> Array:
    """`size` random 32-bit words: element e is word e mod 4 of block e div 4, a block being Philox's four words for one counter."""
    num_blocks = -(-size // 4)
    words = xp.empty((num_blocks, 4), "uint32")
    for first in range(0, num_blocks, PIECE):
        count = min(PIECE, num_blocks - first)
        for i, word in enumerate(_philox(xp, xp.arange(first, first + count, dtype="uint64"), key)):
            words[first : first + count, i] = word
    return words.reshape(-1)[:size]


def _philox(xp: ModuleType, counter: Array, key: int) -> tuple[Array, ...]:
    """The four words of the blocks with these numbers, as 64-bit integers."""
    a, b, c, d = counter & WORD, counter >> 32, xp.zeros_like(counter), xp.zeros_like(counter)
    low, high = key & WORD, key >> 32
    for _ in range(7):
        a *= 0xD2511F53
        c *= 0xCD9E8D57
        b ^= c >> 32
        b ^= low
        d ^= a >> 32
        d ^= high
        a &= WORD
        c &= WORD
        a, b, c, d = b, c, d, a
        low, high = (low + 0x9E3779B9) & WORD, (high + 0xBB67AE85) & WORD
    return a, b, c, d


def factors(xp: ModuleType, shape: tuple[int, ...], dtype: Any, key: int, p: float) -> Array:
    """What dropout multiplies elements by: 0 with probability `p`, else 1 / (1 − p)."""
    size = 1
    for length in shape:
        size *= length
    threshold = min(round(p * 2**32), WORD)
    scale = 1 / (1 - p) if p < 1 else 0.0
    return xp.where(random_words(xp, size, key) < threshold, 0, scale).astype(dtype).reshape(shape)


@kernel
def dropout(xp: ModuleType, x: Array, key: int, p: float) -> Array:
    """x times 0 with probability `p`, else times 1 / (1 − p); also its own gradient."""
    return x * factors(xp, x.shape, x.dtype, key, p)
