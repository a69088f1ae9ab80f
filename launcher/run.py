"""`dist-train run`: from the command line to a running job."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

from launcher import rank
from launcher.command_line import Options
from launcher.cores import available_cores, local_ranks
from launcher.dialect import Command, Dialect, Job
from launcher.environment import forwarded_names, most_threads, thread_settings, torch_variables
from launcher.errors import LaunchError, UsageError
from launcher.hosts import Host, check_slots, parse_hosts, ranks_per_host
from launcher.installation import Mpirun, find_library, find_mpirun, inspect, short
from launcher.job import run_job


def run(options: Options) -> int:
    """Starts the job and returns its exit status; with --dry-run prints its command and returns 0.

    Raises LaunchError (UsageError: exit status 2) where the job cannot start.
    """
    hosts = parse_hosts(options.hosts) if options.hosts else ()
    check_slots(hosts, options.ranks)
    check_script(options)
    if options.ranks == 1 and not hosts:
        return run_alone(options)
    mpirun, dialect = choose_mpirun(options)
    job = describe(options, hosts, os.environ, cores=available_cores())
    command = dialect.command(mpirun.path, job)
    return show(command) if options.dry_run else run_job(command, dialect)


def check_script(options: Options) -> None:
    script = Path(options.program[0])
    if not options.module and not script.exists():
        raise UsageError(f"there is no script {str(script)!r} in {os.getcwd()}")


def show(command: Command) -> int:
    print(command)
    return 0


def run_alone(options: Options) -> int:
    """One rank needs no mpirun, and no MPI installed."""
    threads = thread_settings(os.environ, threads=options.threads, cores=available_cores(), local_ranks=1)
    command = Command((sys.executable, *python_arguments(options)), threads | torch_variables(0, 1, 0, 1))
    if options.dry_run:
        return show(command)
    return become(command)


def become(command: Command) -> NoReturn:
    """Replaces this process by the command: signals and the exit status need no passing on."""
    sys.stdout.flush()
    os.execve(command.arguments[0], command.arguments, dict(os.environ) | dict(command.environment))


def python_arguments(options: Options) -> tuple[str, ...]:
    return ("-m", *options.program) if options.module else options.program


def choose_mpirun(options: Options) -> tuple[Mpirun, Dialect]:
    """The mpirun to take and its dialect."""
    library = find_library()
    mpirun = inspect(options.mpirun) if options.mpirun else find_mpirun(library)
    if mpirun.dialect is None:
        raise LaunchError(f"{mpirun.path} is no mpirun of Open MPI, MPICH or Intel MPI; it says: {mpirun.version!r}")
    if mpirun.dialect is not library.dialect:
        print(
            f"dist-train: warning: {mpirun.path} is {mpirun.dialect.name}, mpi4py loads {short(library.version)}: "
            "every rank may believe it is alone",
            file=sys.stderr,
        )
    return mpirun, mpirun.dialect


def describe(options: Options, hosts: tuple[Host, ...], exported: Mapping[str, str], *, cores: int) -> Job:
    """The job that `options` ask for, in an environment `exported`, on nodes of `cores` cores like this one."""
    per_node = max(ranks_per_host(hosts, options.ranks)) if hosts else local_ranks(options.ranks, exported)
    settings = thread_settings(exported, threads=options.threads, cores=cores, local_ranks=per_node)
    return Job(
        ranks=options.ranks,
        program=rank_program(options),
        hosts=hosts,
        environment=settings,
        forwarded=forwarded_names(exported),
        threads=most_threads(settings),
        oversubscribed=per_node > cores,
        tag_output=options.tag_output,
        as_root=os.getuid() == 0,
    )


def rank_program(options: Options) -> tuple[str, ...]:
    """What mpirun starts as each rank (launcher/rank.py says why so)."""
    return (sys.executable, "-I", "-S", str(Path(rank.__file__).resolve()), *python_arguments(options))
