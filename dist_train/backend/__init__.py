"""The only place that knows which array library runs: devices, and the registry of numeric kernels."""

from . import cuda as cuda  # registers its overrides; CuPy itself is imported when first needed
from . import native as native  # registers its overrides where they are compiled
