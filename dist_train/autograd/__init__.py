"""Reverse-mode automatic differentiation over NumPy and CuPy arrays: an eager tape and its engine."""

from .tensor import Parameter, Tensor, backward, grad  # isort: skip
from .function import Function, once_differentiable
from .grad_mode import enable_grad, inference_mode, is_grad_enabled, no_grad, set_grad_enabled
from .gradcheck import gradcheck

from . import ops  # isort: skip  # attaches the operations to Tensor

Variable = Tensor

__all__ = [
    "Function",
    "Parameter",
    "Tensor",
    "Variable",
    "backward",
    "enable_grad",
    "grad",
    "gradcheck",
    "inference_mode",
    "is_grad_enabled",
    "no_grad",
    "once_differentiable",
    "ops",
    "set_grad_enabled",
]
