"""Random numbers: counter-keyed streams, and the default generator behind `manual_seed`, `rand`, dropout and shuffling.

A stream is a pure function of (seed, purpose, counters), so a draw can be repeated on any rank, in any order, after any restart.
The default generator is such a stream too; `dist_train.distribute` re-keys it by (step, micro-batch), never by rank.
"""

from __future__ import annotations

import threading
import zlib
from typing import Any

import numpy as np

_DEFAULT_SEED = 0


def stream(seed: int, purpose: str, *counters: int) -> np.random.Generator:
    """A generator that depends on nothing but `seed`, `purpose` and `counters` (all counters ≥ 0)."""
    entropy = [seed % 2**64, zlib.crc32(purpose.encode()), *counters]
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(entropy)))


class Generator:
    """A seeded source of random numbers with torch's interface; `numpy()` is the NumPy generator that does the work."""

    def __init__(self, device: object = "cpu") -> None:
        self.device = device
        self.manual_seed(_DEFAULT_SEED)

    def manual_seed(self, seed: int) -> Generator:
        """Start the stream of `seed`, an integer; returns self."""
        self._seed = int(seed)
        return self.rekey("default")

    def seed(self) -> int:
        """Start the stream of a seed taken from the operating system, and return that seed."""
        seed = int(np.random.SeedSequence().entropy % 2**63)  # type: ignore[operator]
        self.manual_seed(seed)
        return seed

    def initial_seed(self) -> int:
        return self._seed

    def rekey(self, *key: Any) -> Generator:
        """Continue with the stream of (this seed, *key), a purpose and counters; it is made at the first draw."""
        self._key = key
        self._stream: np.random.Generator | None = None
        return self

    def numpy(self) -> np.random.Generator:
        if self._stream is None:
            self._stream = stream(self._seed, *self._key)
        return self._stream

    def get_state(self) -> dict[str, Any]:
        """Everything needed to go on with the same numbers, as JSON values (NumPy's arrays as lists)."""
        return {"seed": self._seed, "key": list(self._key), "stream": _to_json(self.numpy().bit_generator.state)}

    def set_state(self, state: dict[str, Any]) -> Generator:
        """Go on where `get_state` was called."""
        self._seed = int(state["seed"])
        purpose, *counters = state["key"]
        self.rekey(purpose, *counters)
        self.numpy().bit_generator.state = _from_json(state["stream"])
        return self


def _to_json(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _to_json(item) for key, item in value.items()}
    return value.tolist() if isinstance(value, np.ndarray) else value


def _from_json(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _from_json(item) for key, item in value.items()}
    return np.array(value, dtype=np.uint64) if isinstance(value, list) else value


class _Thread(threading.local):
    generator: Generator | None = None  # what this thread draws from instead of the default generator


of_thread = _Thread()


class _DefaultGenerator(Generator):
    def manual_seed(self, seed: int) -> Generator:
        return super().manual_seed(seed) if of_thread.generator is None else of_thread.generator.manual_seed(seed)

    def numpy(self) -> np.random.Generator:
        return super().numpy() if of_thread.generator is None else of_thread.generator.numpy()


default_generator = _DefaultGenerator()


class drawing_from:
    """Inside, what this thread draws from the default generator comes from `generator`: others' draws neither move it nor are moved."""

    __slots__ = ("_generator", "_previous")

    def __init__(self, generator: Generator) -> None:
        self._generator = generator

    def __enter__(self) -> None:
        self._previous, of_thread.generator = of_thread.generator, self._generator

    def __exit__(self, *_: object) -> None:
        of_thread.generator = self._previous


def manual_seed(seed: int) -> Generator:
    """Seed the default generator: initialisation, dropout, random tensors and the order of data follow from it."""
    return default_generator.manual_seed(seed)


def seed() -> int:
    """Seed the default generator from the operating system, and return the seed."""
    return default_generator.seed()


def initial_seed() -> int:
    """The seed of the default generator."""
    return default_generator.initial_seed()


def get_rng_state() -> dict[str, Any]:
    """State of the default generator, as JSON values."""
    return default_generator.get_state()


def set_rng_state(state: dict[str, Any]) -> None:
    """Continue the default generator where `get_rng_state` was called."""
    default_generator.set_state(state)
