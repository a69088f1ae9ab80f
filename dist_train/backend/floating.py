"""Floating-point warnings: an infinity or a NaN is a value here, as in PyTorch, and no reason for a RuntimeWarning.

NumPy keeps its error state in a context variable, so `quiet` silences our operations alone and leaves the user's own NumPy as it is.
Setting the variable takes a tenth of the time of `np.errstate`, which matters because every operation does it.
"""

from __future__ import annotations

import contextvars
from types import TracebackType
from typing import Any

import numpy as np


def _error_state() -> tuple[contextvars.ContextVar[Any], Any]:
    """NumPy's context variable and the value of it that ignores everything, found by its public effect.

    A NumPy that keeps its state elsewhere leaves one of our own, which has no effect: warnings are then shown.
    """
    context = contextvars.Context()
    context.run(np.seterr, all="ignore")
    return next(iter(context.items()), (contextvars.ContextVar("unused"), None))


_variable, IGNORE = _error_state()
set_error_state, reset_error_state = _variable.set, _variable.reset  # bound once: every operation calls them


class quiet:
    """Inside, NumPy gives inf and nan without a warning."""

    __slots__ = ("_token",)

    def __enter__(self) -> None:
        self._token = set_error_state(IGNORE)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        reset_error_state(self._token)
