"""Gradient clipping, weight normalisation, and batches of sequences (`rnn`)."""

from . import rnn
from .clip_grad import clip_grad_norm_, clip_grad_value_, get_total_norm
from .weight_norm import remove_weight_norm, weight_norm

__all__ = ["clip_grad_norm_", "clip_grad_value_", "get_total_norm", "remove_weight_norm", "rnn", "weight_norm"]
