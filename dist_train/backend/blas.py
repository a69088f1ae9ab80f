"""The BLAS library for matrix products where our own kernels do not run, or where the user wants another one.

DIST_TRAIN_BLAS=mkl takes MKL (extra `mkl`), DIST_TRAIN_BLAS=numpy the library that NumPy brought. Unset, the compiled kernels multiply
themselves, and NumPy's library does what they do not do. Without compiled kernels it is always NumPy's.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# name of the single-precision product → whether its integers have 64 bits; the double-precision one has a d for the s
_NAMES = {"scipy_cblas_sgemm64_": True, "cblas_sgemm64_": True, "scipy_cblas_sgemm": False, "cblas_sgemm": False}
_GNU_THREADS = 3  # of mkl_set_threading_layer: the OpenMP runtime that our own kernels use


@dataclass(frozen=True)
class Blas:
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
    for path in sorted(Path(sys.prefix, "lib").glob("libmkl_rt.so*")):
        library = _open(str(path))
        if library is not None:
            library.MKL_Set_Threading_Layer(_GNU_THREADS)
            return _functions("mkl", str(path), library)
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
        lines = Path("/proc/self/maps").read_text().splitlines()
    except OSError:  # not Linux
        lines = []
    paths = dict.fromkeys(line.split(maxsplit=5)[-1] for line in lines if line.count("/"))
    return (path for path in paths if any(part in Path(path).name for part in ("blas", "mkl_rt")))


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
