"""The dialects of mpirun: how Open MPI, MPICH (Hydra) and Intel MPI want to be told the same job.

Everything here is a pure function of a `Job`, so each dialect is tested without its MPI.
"""

import shlex
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from launcher.errors import UsageError
from launcher.hosts import Host, ranks_per_host


@dataclass(frozen=True)
class Job:
    """What to start: `program` on `ranks` ranks, with `environment` set in each and `forwarded` names carried along."""

    ranks: int
    program: tuple[str, ...]
    hosts: tuple[Host, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    forwarded: tuple[str, ...] = ()
    threads: int = 1
    oversubscribed: bool = False
    tag_output: bool = False
    as_root: bool = False


@dataclass(frozen=True)
class Command:
    """A command line and the environment variables to set for it."""

    arguments: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        """The command as a line for a POSIX shell."""
        settings = [f"{name}={shlex.quote(value)}" for name, value in self.environment.items()]
        return " ".join([*settings, shlex.join(self.arguments)])


@dataclass(frozen=True)
class Dialect:
    """One family of mpirun. `marks` are what its `--version` says, `libraries` what its MPI library calls itself."""

    name: str
    marks: tuple[str, ...]
    libraries: tuple[str, ...]
    options: Callable[[Job], list[str]]
    environment: Callable[[Job], dict[str, str]] = lambda job: {}
    # Hydra dies of SIGHUP without telling the ranks: they get SIGTERM instead.
    translated_signals: Mapping[int, int] = field(default_factory=dict)
    # What ends the job if the launcher itself is killed: Hydra's proxies clean up after a dead mpirun, Open MPI's do not.
    death_signal: int = signal.SIGTERM

    def translated(self, number: int) -> int:
        """The signal to send to mpirun for the signal `number`."""
        return self.translated_signals.get(number, number)

    def command(self, mpirun: str, job: Job) -> Command:
        """The command that starts `job` with the program `mpirun`."""
        count = ["-n", str(job.ranks)]
        return Command((mpirun, *count, *self.options(job), *job.program), self.environment(job))


def open_mpi_options(job: Job) -> list[str]:
    options = [] if not job.hosts else ["--host", slots_list(job.hosts)]
    if job.oversubscribed:
        options += ["--map-by", ":OVERSUBSCRIBE"]
    # Open MPI pins up to two ranks to one core each, where several threads would share it, and refuses to pin
    # more ranks than there are cores.
    if job.threads > 1 or job.oversubscribed:
        options += ["--bind-to", "none"]
    if job.tag_output:
        options += ["--tag-output"]
    for name, value in job.environment.items():
        options += ["-x", f"{name}={value}"]
    for name in remote_names(job):
        options += ["-x", name]
    return options


def open_mpi_environment(job: Job) -> dict[str, str]:
    names = ("OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM")
    return dict.fromkeys(names, "1") if job.as_root else {}


def remote_names(job: Job) -> list[str]:
    """Variables that Open MPI would not carry to another host (on this machine ranks inherit everything)."""
    return [name for name in job.forwarded if name not in job.environment] if job.hosts else []


def hydra_options(job: Job) -> list[str]:
    return [*(["-hosts", slots_list(job.hosts)] if job.hosts else []), *hydra_common(job)]


def intel_options(job: Job) -> list[str]:
    if not job.hosts:
        return hydra_common(job)
    counts = ranks_per_host(job.hosts, job.ranks)
    names = ",".join(host.name for host in job.hosts[: len(counts)])
    return ["-hosts", names, "-ppn", str(equal_share(counts)), *hydra_common(job)]


def equal_share(counts: list[int]) -> int:
    """Ranks per host, which Intel MPI wants equal on all hosts but the last; raises UsageError where they are not."""
    if any(count != counts[0] for count in counts[:-1]) or counts[-1] > counts[0]:
        raise UsageError(
            f"Intel MPI puts the same number of ranks on every host but the last, --hosts asks for {counts}: "
            "give all hosts the same number of slots"
        )
    return counts[0]


def hydra_common(job: Job) -> list[str]:
    options = ["-prepend-rank"] if job.tag_output else []
    for name, value in job.environment.items():
        options += ["-genv", name, value]
    return options


def slots_list(hosts: tuple[Host, ...]) -> str:
    return ",".join(f"{host.name}:{host.slots}" for host in hosts)


HANGUP_AS_TERMINATE: Mapping[int, int] = {signal.SIGHUP: signal.SIGTERM}
OPEN_MPI = Dialect("Open MPI", ("Open MPI", "OpenRTE"), ("Open MPI",), open_mpi_options, open_mpi_environment)
INTEL = Dialect(
    "Intel MPI",
    ("Intel(R) MPI",),
    ("Intel(R) MPI",),
    intel_options,
    translated_signals=HANGUP_AS_TERMINATE,
    death_signal=signal.SIGKILL,
)
HYDRA = Dialect(
    "MPICH",
    ("HYDRA",),
    ("MPICH", "MVAPICH"),
    hydra_options,
    translated_signals=HANGUP_AS_TERMINATE,
    death_signal=signal.SIGKILL,
)
DIALECTS = (OPEN_MPI, INTEL, HYDRA)  # Intel MPI's texts may mention Hydra and MPICH: it is asked first


def dialect_of_mpirun(version: str) -> Dialect | None:
    """The dialect that the output of `mpirun --version` belongs to."""
    return next((dialect for dialect in DIALECTS if any(mark in version for mark in dialect.marks)), None)


def dialect_of_library(version: str) -> Dialect | None:
    """The dialect that belongs to the MPI library which describes itself as `version`."""
    return next((dialect for dialect in DIALECTS if any(name in version for name in dialect.libraries)), None)
