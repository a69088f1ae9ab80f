"""The BLAS library for matrix products where our own kernels do not run, or where the user wants another one.

DIST_TRAIN_BLAS=mkl takes MKL (extra `mkl`), DIST_TRAIN_BLAS=numpy the library that NumPy brought. Unset, the compiled kernels multiply
themselves, and NumPy's library does what they do not do. Without compiled kernels it is always NumPy's.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

# name of the single-precision product → whether its integers have 64 bits; the double-precision one has a d for the s
_NAMES = {"scipy_cblas_sgemm64_": True, "cblas_sgemm64_": True, "scipy_cblas_sgemm": False, "cblas_sgemm": False}
_GNU_THREADS = 3  # of mkl_set_threading_layer: the OpenMP runtime that our own kernels use


class Blas(NamedTuple):
    """A library and the addresses of its products."""

    name: str
    path: str
    sgemm: int
    dgemm: int
    wide_integers: bool


def wanted() -> str | None:
    """The user's choice: "numpy", "mkl" or None."""
    name = os.environ.get("DIST_TRAIN_BLAS") or None
    if name not in (None, "numpy", "mkl"):
        raise ValueError(f"DIST_TRAIN_BLAS={name!r}: expected 'numpy' or 'mkl'")
    return name


def library() -> Blas | None:
    """The chosen library, by default NumPy's; None where none with a C interface is found. ValueError for an absent choice."""
    if wanted() != "mkl":
        return _numpys()
    mkl = _load_mkl()
    if mkl is None:
        raise ValueError('DIST_TRAIN_BLAS=mkl, but MKL is not installed: pip install "dist-train[mkl]"')
    return mkl


def _load_mkl() -> Blas | None:
    from glob import glob

    for path in sorted(glob(os.path.join(sys.prefix, "lib", "libmkl_rt.so*"))):
        library = _open(path)
        if library is not None:
            library.MKL_Set_Threading_Layer(_GNU_THREADS)
            return _functions("mkl", path, library)
    return None


def _numpys() -> Blas | None:
    """NumPy's own: among the libraries that its import has loaded."""
    for path in _loaded_libraries():
        library = _open(path)
        found = None if library is None else _functions("numpy", path, library)
        if found is not None:
            return found
    return None


def _loaded_libraries() -> Iterator[str]:
    try:
        with open("/proc/self/maps") as maps:
            paths = dict.fromkeys(line.rstrip("\n").split(maxsplit=5)[-1] for line in maps if "/" in line)
    except OSError:  # not Linux
        return iter(())
    return (path for path in paths if any(part in os.path.basename(path) for part in ("blas", "mkl_rt")))


def _open(path: str) -> Any:
    try:
        return ctypes.CDLL(path)
    except OSError:
        return None


def _functions(name: str, path: str, library: Any) -> Blas | None:
    for symbol, wide in _NAMES.items():
        if hasattr(library, symbol):
            return Blas(name, path, _address(library, symbol), _address(library, symbol.replace("sgemm", "dgemm")), wide)
    return None


def _address(library: Any, symbol: str) -> int:
    return ctypes.cast(getattr(library, symbol), ctypes.c_void_p).value or 0
