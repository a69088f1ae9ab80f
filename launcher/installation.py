"""Finds the MPI library that mpi4py loads and the mpirun that belongs to it."""

import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from launcher.dialect import Dialect, dialect_of_library, dialect_of_mpirun
from launcher.errors import LaunchError
from launcher.probe import Answer, ask, ask_python

NOISE = ("Version:", "Version", "Library", "build", "details:", "mpirun")
INSTALL = 'pip install "dist-train[mpi]"'

# Without MPI_Init this takes under 0.1 s; with it, Open MPI takes a second. The second line is the library's file.
ASK_LIBRARY = """
import mpi4py
mpi4py.rc.initialize = False
from mpi4py import MPI
print(" ".join(MPI.Get_library_version().split()))
try:
    print(next(line.split()[-1] for line in open("/proc/self/maps") if "/libmpi" in line))
except (OSError, StopIteration):
    print("")
"""


@dataclass(frozen=True)
class Library:
    """The MPI library that mpi4py loads: what it calls itself, its file (or ""), its dialect of mpirun."""

    version: str
    file: str
    dialect: Dialect | None


@dataclass(frozen=True)
class Mpirun:
    """A program that starts ranks."""

    path: str
    version: str
    dialect: Dialect | None


def find_library() -> Library:
    """The library that mpi4py loads. Raises LaunchError, with the remedy, where mpi4py or a library is missing."""
    answer = ask_library()
    if not answer.good:
        raise LaunchError(f"several ranks need MPI, which cannot be loaded ({answer.error}); install it: {INSTALL}")
    version, _, file = answer.output.partition("\n")
    return Library(version, file, dialect_of_library(version))


@cache
def ask_library() -> Answer:
    return ask_python(ASK_LIBRARY)


def find_mpirun(library: Library) -> Mpirun:
    """The first mpirun of the library's dialect. Raises LaunchError naming those found where none fits."""
    found = list(all_mpiruns(library))
    for mpirun in found:
        if mpirun.dialect is not None and mpirun.dialect is library.dialect:
            return mpirun
    seen = ", ".join(f"{mpirun.path} ({mpirun.dialect.name if mpirun.dialect else 'unknown'})" for mpirun in found)
    raise LaunchError(
        f"no mpirun fits the MPI library that mpi4py loads ({short(library.version)}); found: {seen or 'none'}. "
        f"Install the matching one into this environment ({INSTALL}) or name it with --mpirun PATH"
    )


def all_mpiruns(library: Library | None) -> Iterator[Mpirun]:
    """Every mpirun that may belong to this environment, the likeliest first."""
    return (inspect(path) for path in candidates(library))


def candidates(library: Library | None) -> list[str]:
    """Paths of mpirun: beside the interpreter, in the environment, beside the loaded library, then on PATH."""
    folders = [Path(sys.executable).parent, Path(sys.prefix) / "bin"]
    if library is not None and library.file:
        folders += [parent / "bin" for parent in Path(library.file).resolve().parents[1:4]]
    paths = [str(folder / "mpirun") for folder in folders]
    paths = [path for path in paths if os.access(path, os.X_OK)]
    return list(dict.fromkeys([*paths, *filter(None, [shutil.which("mpirun")])]))


def inspect(path: str) -> Mpirun:
    """The mpirun at `path`, with what its `--version` tells."""
    answer = ask([path, "--version"], seconds=10.0)
    return Mpirun(path, " ".join(answer.output.split())[:200] or answer.error, dialect_of_mpirun(answer.output))


def short(version: str) -> str:
    """`Open MPI v5.0.11, package: …` and `MPICH Version: 5.0.2 MPICH Release date: …` as name and number."""
    words = [word for word in version.split() if word not in NOISE]
    number = next((place for place, word in enumerate(words) if any(letter.isdigit() for letter in word)), 3)
    return " ".join(words[: number + 1]).rstrip(",")
