"""Runs mpirun to its end: passes signals on, notices a stuck mpirun, and gives the job's exit status."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from launcher.dialect import Command, Dialect
from launcher.errors import LaunchError

FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
POLL_SECONDS = 0.5
CHILDLESS_SECONDS = 2.5


class SignalRelay:
    """Passes each signal that this process gets on to a child, and remembers the last that asks for the end."""

    def __init__(self, child: "subprocess.Popen[bytes]", dialect: Dialect, *, from_terminal: bool) -> None:
        self.child = child
        self.dialect = dialect
        self.from_terminal = from_terminal
        self.ending: int | None = None

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self.ending = number if number in ENDING else self.ending
        # Ctrl-C in a terminal goes to the whole foreground group: the child has it already, and a second one means force.
        if not (self.from_terminal and number in (signal.SIGINT, signal.SIGQUIT)):
            self.child.send_signal(self.dialect.translated(number))


def run_job(command: Command, dialect: Dialect) -> int:
    """Runs `command` and returns its exit status; 128 + signal where a signal ended the job.

    Raises LaunchError if the program cannot be started.
    """
    foreground = in_foreground()
    child = start(command, dialect, own_group=not foreground)
    relay = SignalRelay(child, dialect, from_terminal=foreground)
    for number in FORWARDED:
        signal.signal(number, relay)
    return exit_status(wait(child), relay.ending, dialect)


def in_foreground() -> bool:
    """True if a terminal's keyboard belongs to this process: mpirun then has to share the process group to read it."""
    try:
        return os.isatty(0) and os.tcgetpgrp(0) == os.getpgrp()
    except OSError:
        return False


def start(command: Command, dialect: Dialect, *, own_group: bool) -> "subprocess.Popen[bytes]":
    # A group of its own makes this process the only one that delivers signals: `timeout`, for one, signals the group too.
    environment = dict(os.environ) | dict(command.environment)
    prepare = bound_to_parent(dialect.death_signal)
    try:
        return subprocess.Popen(command.arguments, env=environment, process_group=0 if own_group else None, preexec_fn=prepare)
    except OSError as error:
        raise LaunchError(f"cannot start {command.arguments[0]}: {error}") from error


def bound_to_parent(number: int) -> Callable[[], None] | None:
    """What the child calls first so that it gets signal `number` when this process dies, even by SIGKILL (Linux)."""
    if sys.platform != "linux":
        return None
    import ctypes

    prctl = ctypes.CDLL(None).prctl
    return lambda: prctl(1, number) and None  # PR_SET_PDEATHSIG


def wait(child: "subprocess.Popen[bytes]") -> int:
    """The raw return code of `child`, which is killed if it stays on after all its own children have ended."""
    watch = ChildWatch(child.pid)
    while True:
        try:
            return child.wait(timeout=POLL_SECONDS)
        except subprocess.TimeoutExpired:
            if watch.stuck():
                print("dist-train: every rank has ended but mpirun has not; ending it", file=sys.stderr, flush=True)
                child.kill()
                child.wait()
                return 1


class ChildWatch:
    """Notices an mpirun without children: Open MPI's hangs now and then when a rank dies while another starts MPI."""

    def __init__(self, process: int) -> None:
        self.process = process
        self.had_children = False
        self.childless_since: float | None = None

    def stuck(self) -> bool:
        """True if the process had children once and has had none for CHILDLESS_SECONDS."""
        if has_children(self.process):
            self.had_children, self.childless_since = True, None
            return False
        now = time.monotonic()
        self.childless_since = self.childless_since or now
        return self.had_children and now - self.childless_since > CHILDLESS_SECONDS


def has_children(process: int) -> bool:
    """True also where the system does not tell (no Linux)."""
    try:
        threads = list(Path(f"/proc/{process}/task").iterdir())
        return any((thread / "children").read_text().strip() for thread in threads)
    except OSError:
        return True


def exit_status(code: int, ending: int | None, dialect: Dialect) -> int:
    """The exit status for mpirun's return code after the signal `ending` (None: nobody asked for the end).

    Asked to stop, Open MPI ends with 1, Hydra with the signal's bare number or with the ranks' 128 + number: all become
    128 + signal. A status that the ranks chose themselves stays.
    """
    if code < 0:
        return 128 - code
    if ending is not None and code in (1, dialect.translated(ending), 128 + dialect.translated(ending)):
        return 128 + ending
    return code
