"""Beside the model: data sets, samplers and loaders (`utils.data`)."""

from . import data

__all__ = ["data"]
