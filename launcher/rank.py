"""What mpirun starts as each rank: gives torch's names to the rank's place, then becomes (or guards) the program.

Started by its path, `python -I -S …/launcher/rank.py script.py args…`, so that it needs nothing installed and a
user's own module called `launcher` cannot be taken for it; `-I -S` keeps its start under 10 ms. The program runs in
a Python of its own, so that tracebacks, sys.path and `__main__` are exactly those of `python script.py`.

Open MPI ends a job whose rank exits with another status than 0. Hydra does not when that rank has not called
MPI_Init: the others then wait for ever. Under Hydra this process therefore stays as the rank's parent and asks for the
end of the job itself, in PMI, the protocol that Hydra speaks with ranks.
"""

import os
import signal
import sys
from collections.abc import Mapping

# rank, size, local rank, local size in the words of each launcher; the innermost first: a batch job's variables are
# also there under an mpirun started inside the job.
LAUNCHERS = (
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_SIZE"),
    ("MV2_COMM_WORLD_RANK", "MV2_COMM_WORLD_SIZE", "MV2_COMM_WORLD_LOCAL_RANK", "MV2_COMM_WORLD_LOCAL_SIZE"),
    ("PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", "MPI_LOCALNRANKS"),
    ("PALS_RANKID", "PMI_SIZE", "PALS_LOCAL_RANKID", "PALS_LOCAL_SIZE"),
    ("PMI_RANK", "PMI_SIZE", "PMI_LOCAL_RANK", "PMI_LOCAL_SIZE"),
    ("JSM_NAMESPACE_RANK", "JSM_NAMESPACE_SIZE", "JSM_NAMESPACE_LOCAL_RANK", "JSM_NAMESPACE_LOCAL_SIZE"),
    ("FLUX_TASK_RANK", "FLUX_JOB_SIZE", "FLUX_TASK_LOCAL_ID", "FLUX_TASKS_PER_NODE"),
    ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID", "SLURM_STEP_TASKS_PER_NODE"),
)
TORCH = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
OUTLIVED = (*ENDING, signal.SIGUSR1, signal.SIGUSR2)


def torch_names(environment: Mapping[str, str]) -> dict[str, str]:
    """RANK, WORLD_SIZE, LOCAL_RANK and LOCAL_WORLD_SIZE from the launcher's variables; empty where none is known."""
    for names in LAUNCHERS:
        if all(name in environment for name in names[:3]):
            values = [leading_number(environment.get(name, "")) for name in names]
            return {torch: value for torch, value in zip(TORCH, values, strict=True) if value}
    return {}


def leading_number(text: str) -> str:
    """`4(x2),3` (Slurm: 4 tasks on each of two nodes, 3 on another) as `4`."""
    digits = len(text) - len(text.lstrip("0123456789"))
    return text[:digits]


def main(program: list[str]) -> int:
    """Runs `python program…` in this rank; returns its exit status where this process stayed as its guard."""
    os.environ.update(torch_names(os.environ))
    if os.environ.get("RANK", "0") != "0":
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)  # Hydra gives input to rank 0, and the others a pipe that never ends
    if "PMI_FD" not in os.environ:
        os.execv(sys.executable, [sys.executable, *program])
    return guard(program)


def guard(program: list[str]) -> int:
    """Runs the program as a child and ends the whole job if it fails; 128 + signal is the status of a killed one."""
    signals: list[int] = []
    for number in OUTLIVED:  # Hydra signals the whole process group: the program gets each one itself
        signal.signal(number, lambda received, frame: signals.append(received))
    child = start(program)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    status = code if code >= 0 else 128 - code
    # Told to end, all ranks do so in their own time: one that is quick must not cut short one that saves a checkpoint.
    if status and not set(ENDING).intersection(signals):
        report(child, code)
        abort_job(status)
    return status


def start(program: list[str]) -> int:
    """Starts `python program…` as a child, which dies with this process; returns its process id."""
    child = os.fork()
    if child == 0:
        die_with_parent()
        os.execv(sys.executable, [sys.executable, *program])  # caught signals are back to their default there
    return child


def die_with_parent() -> None:
    """Linux only (prctl PR_SET_PDEATHSIG); elsewhere a rank whose guard is killed by force stays behind."""
    import ctypes

    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def report(child: int, code: int) -> None:
    place = f"rank {os.environ.get('RANK', '?')} (process {child} on {os.uname().nodename})"
    hint = " (out of memory?)" if code == -signal.SIGKILL else ""
    end = f"was killed by {signal.Signals(-code).name}{hint}" if code < 0 else f"exited with status {code}"
    print(f"dist-train: {place} {end}; ending the job", file=sys.stderr, flush=True)


def abort_job(status: int) -> None:
    try:
        os.write(int(os.environ["PMI_FD"]), f"cmd=abort exitcode={status}\n".encode())
    except (OSError, ValueError):
        return  # Hydra is gone, and the job with it


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
