"""Beside the model: data sets, samplers and loaders (`utils.data`), and recomputation (`utils.checkpoint`)."""

from . import checkpoint, data

__all__ = ["checkpoint", "data"]
