"""One rank fails: the job ends within seconds, with that rank's traceback, however it was started."""

import os
import re
import signal
import subprocess
import sys
import time

import pytest
from mpi import FLAVOURS, PROGRAMS, ROOT, command, environment, run

LIMIT = 5  # seconds from the failure to the end of the job


def fail(argv, **extra):
    """Run a program that fails; returns its result and the seconds from the failure to the end of the job."""
    result = subprocess.run(argv, env=environment(**extra), capture_output=True, text=True, timeout=60, cwd=ROOT)
    end = time.time()
    (begin,) = [float(line.split()[2]) for line in result.stderr.splitlines() if line.startswith("failing at")]
    return result, end - begin


@pytest.mark.parametrize("python", FLAVOURS)
def test_the_program_runs_when_nothing_fails(python):
    assert run(python, 3, PROGRAMS / "fail.py", "nowhere").stdout.count("done") == 3


@pytest.mark.parametrize("where", ["before", "dataset", "forward", "between", "atexit", "thread"])
@pytest.mark.parametrize("python", FLAVOURS)
def test_an_exception_ends_the_job(python, where):
    result, seconds = fail(command(python, 3, PROGRAMS / "fail.py", where))
    assert result.returncode not in (0, None)
    assert seconds < LIMIT
    assert f"ValueError: failed as asked: {where}" in result.stderr
    assert "rank 1 of 3" in next(line for line in result.stderr.splitlines() if "rank" in line or "Traceback" in line)


@pytest.mark.parametrize("where", ["kill", "exit"])
@pytest.mark.parametrize("python", FLAVOURS)
def test_a_rank_that_dies_or_leaves_with_an_error_ends_the_job(python, where):
    result, seconds = fail(command(python, 3, PROGRAMS / "fail.py", where))
    assert result.returncode != 0 and "done" not in result.stdout
    assert seconds < LIMIT


def test_no_status_of_a_failure_is_taken_for_success(tmp_path):
    """256 is 0 in the 8 bits that a process returns."""
    program = tmp_path / "status.py"
    program.write_text("import sys\nimport dist_train as dt\ndt.distributed.barrier()\nsys.exit(256)\n")
    assert run(sys.executable, 2, program, check=False).returncode not in (0, None)


@pytest.mark.parametrize("node", [3, 1], ids="ranks of a node: {}".format)
@pytest.mark.parametrize("python", FLAVOURS)
def test_a_rank_that_leaves_early_ends_the_job(python, node):
    """Nothing failed on rank 1; the others wait for it in a step that it does not take part in."""
    result, seconds = fail(command(python, 3, PROGRAMS / "fail.py", "leave"), DIST_TRAIN_NODE_SIZE=node)
    assert result.returncode != 0 and "done" not in result.stdout
    assert "[rank 2 of 3] waits for rank 1, whose program has ended" in result.stderr
    assert "optimizer.step()" in result.stderr
    assert seconds < 3 * LIMIT


@pytest.mark.parametrize("node", [3, 1], ids="ranks of a node: {}".format)
@pytest.mark.parametrize("python", FLAVOURS)
def test_a_collective_call_that_only_one_rank_makes_ends_the_job(python, node):
    """`if rank == 1: optimizer.state_dict()`: all ranks wait, in different calls."""
    result, seconds = fail(command(python, 3, PROGRAMS / "fail.py", "alone"), DIST_TRAIN_NODE_SIZE=node)
    assert result.returncode != 0 and "done" not in result.stdout
    assert re.search(r"\[rank (\d) of 3\] makes the collective call .* where rank \d makes ", result.stderr)
    assert "all_gather_object" in result.stderr and "state_dict()" in result.stderr and "waits here:" in result.stderr
    assert seconds < 3 * LIMIT


@pytest.mark.parametrize("where", ["forward", "before", "import"])
@pytest.mark.parametrize("python", FLAVOURS)
def test_under_the_launcher(python, where):
    result, seconds = fail([python, "-m", "launcher", "run", "-n", "3", str(PROGRAMS / "fail.py"), where])
    assert result.returncode not in (0, None)
    assert f"ValueError: failed as asked: {where}" in result.stderr
    assert seconds < LIMIT


@pytest.mark.parametrize("python", FLAVOURS)
def test_as_a_module(python):
    result, seconds = fail(command(python, 3, "-m", "tests.programs.fail", "forward"))
    assert result.returncode not in (0, None)
    assert "ValueError: failed as asked: forward" in result.stderr
    assert seconds < LIMIT


@pytest.mark.parametrize("python", FLAVOURS)
def test_ctrl_c_ends_all_ranks(python, tmp_path):
    program = tmp_path / "wait.py"
    program.write_text(
        "import time, os\nimport dist_train as dt\ndt.distributed.barrier()\n"
        f"open(r'{tmp_path}/' + str(os.getpid()), 'w').close()\ntime.sleep(60)\n"
    )
    job = subprocess.Popen(command(python, 2, program), env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        while len(list(tmp_path.iterdir())) < 3:
            assert job.poll() is None
            time.sleep(0.05)
        job.send_signal(signal.SIGINT)
        assert job.wait(15) != 0
        pids = [int(path.name) for path in tmp_path.iterdir() if path.name.isdigit()]
        deadline = time.monotonic() + 5
        while any(os.path.exists(f"/proc/{pid}") for pid in pids) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not any(os.path.exists(f"/proc/{pid}") for pid in pids)
    finally:
        job.kill()
        job.communicate()


def test_a_foreign_mpirun_is_recognised(tmp_path):
    """Every rank would believe it is alone: what Open MPI's mpirun sets, with an MPI that does not know of it."""
    program = tmp_path / "alone.py"
    program.write_text("import dist_train as dt\ndt.distributed.init_process_group()\n")
    foreign = {"OMPI_COMM_WORLD_RANK": "0", "OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_LOCAL_RANK": "0"}
    result = run(sys.executable, 1, program, check=False, **foreign)
    assert result.returncode != 0
    assert "Open MPI started 2 ranks" in result.stderr and "dist-train doctor" in result.stderr


def test_mpi_missing(tmp_path):
    program = tmp_path / "missing.py"
    program.write_text("import sys\nsys.modules['mpi4py'] = None\nimport dist_train as dt\ndt.distributed.init_process_group()\n")
    result = run(sys.executable, 1, program, check=False, PMI_RANK=0, PMI_SIZE=2)
    assert result.returncode != 0
    assert 'pip install "dist-train[mpi]"' in result.stderr
