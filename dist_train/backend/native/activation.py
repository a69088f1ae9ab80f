"""Activation functions, their gradients, and that of a bias, each one pass over its arrays."""

from .. import _native
from ..reference import activation as of
from ..reference import special

for kernel in (
    of.relu, of.relu_backward, of.clip, of.clip_backward, of.leaky_relu, of.leaky_relu_backward, of.elu, of.elu_backward,
    of.softplus, of.softplus_backward, of.hardswish, of.hardswish_backward, of.silu, of.silu_backward, of.gelu, of.gelu_backward,
    of.gelu_tanh, of.gelu_tanh_backward, of.sigmoid, of.sigmoid_backward, of.tanh_backward, special.erf, special.erf_gradient,
    of.bias_gradient,
):  # fmt: skip
    kernel.override("numpy")(getattr(_native, kernel.name))
