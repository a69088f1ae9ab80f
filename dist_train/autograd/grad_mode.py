"""Whether operations are recorded for backward: `no_grad`, `enable_grad`, `set_grad_enabled`, `inference_mode`."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])


class _Mode(threading.local):
    enabled = True


mode = _Mode()


def is_grad_enabled() -> bool:
    """Whether operations are being recorded in this thread."""
    return mode.enabled


class set_grad_enabled:
    """Switch recording at once; as a context manager, back again on leaving."""

    def __init__(self, enabled: bool) -> None:
        self._previous = [mode.enabled]
        mode.enabled = self._enabled = bool(enabled)

    def __enter__(self) -> None:
        mode.enabled = self._enabled

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        mode.enabled = self._previous[-1]


class _Switch:
    """A context manager and decorator (with or without parentheses) that sets the mode inside; it may be nested."""

    _enabled: bool
    _stack: list[bool]

    def __new__(cls, function: Callable[..., Any] | None = None) -> Any:
        self = super().__new__(cls)
        self._stack = []
        return self if function is None else self(function)

    def __enter__(self) -> None:
        self._stack.append(mode.enabled)
        mode.enabled = self._enabled

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        mode.enabled = self._stack.pop()

    def __call__(self, function: F) -> F:
        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            with type(self)():
                return function(*args, **kwargs)

        return wrapper  # type: ignore[return-value]


class no_grad(_Switch):
    """Inside, nothing is recorded: results do not require gradients."""

    _enabled = False


class enable_grad(_Switch):
    """Inside, operations are recorded, also within `no_grad`."""

    _enabled = True


class inference_mode(no_grad):
    """The same as `no_grad` here."""
