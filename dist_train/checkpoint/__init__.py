"""Checkpoints of training runs (`Checkpoint`) and files of single objects (`save`, `load`): data, never code."""

from .checkpoint import Checkpoint, CheckpointWarning
from .files import DamagedFileError
from .serialization import load, save

__all__ = ["Checkpoint", "CheckpointWarning", "DamagedFileError", "load", "save"]
