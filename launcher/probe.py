"""Asks other programs for facts, always with a time limit."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Answer:
    """What a program said: exit status (None: it did not start or took too long), stdout, and the error's last line."""

    status: int | None
    output: str
    error: str

    @property
    def good(self) -> bool:
        return self.status == 0


def ask(arguments: Sequence[str], *, seconds: float = 20.0, environment: Mapping[str, str] | None = None) -> Answer:
    """Runs a program without input and returns its answer; all that it started is killed after `seconds`."""
    try:
        process = subprocess.Popen(
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            env=None if environment is None else dict(environment),
            start_new_session=True,
        )
    except OSError as error:
        return Answer(None, "", str(error))
    return collect(process, seconds)


def collect(process: "subprocess.Popen[str]", seconds: float) -> Answer:
    try:
        output, error = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        end_group(process)
        return Answer(None, "", f"no answer within {seconds:g} s")
    return Answer(process.returncode, output.strip(), last_line(error))


def end_group(process: "subprocess.Popen[str]") -> None:
    """Ends a process that is late: politely, so that an mpirun stops its ranks, then by force."""
    for number, patience in ((signal.SIGTERM, 2.0), (signal.SIGKILL, 2.0)):
        try:
            os.killpg(process.pid, number)
            process.communicate(timeout=patience)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            continue


def ask_python(code: str, *, seconds: float = 20.0) -> Answer:
    """Runs Python code in a fresh interpreter of this environment."""
    return ask([sys.executable, "-c", code], seconds=seconds)


def last_line(text: str) -> str:
    """The last line with a letter or digit in it: mpirun frames its messages with dashes."""
    lines = [line for line in text.splitlines() if any(map(str.isalnum, line))]
    return lines[-1].strip() if lines else ""
