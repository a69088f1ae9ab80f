"""Images: gathered, converted and normalised in one pass."""

from .. import _native
from ..reference import image

image.normalized_samples.override("numpy")(_native.normalized_samples)
