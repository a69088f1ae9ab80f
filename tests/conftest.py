"""For all tests: one BLAS thread, an interpreter for MPI programs, and, in CI, no skipped test that should have run."""

import os
import sys

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")

MAY_BE_SKIPPED = ("needs a GPU", "root may", "needs namespaces")  # what a machine without a GPU, the root user, and other users cannot test


@pytest.fixture
def python_here():
    """This environment's interpreter, for programs that are run under its MPI."""
    return sys.executable


def pytest_sessionfinish(session, exitstatus):
    """With DIST_TRAIN_TEST_REQUIRE set, a test skipped for want of PyTorch, Open MPI or data fails the run."""
    if os.environ.get("DIST_TRAIN_TEST_REQUIRE"):
        reporter = session.config.pluginmanager.get_plugin("terminalreporter")
        reasons = [str(report.longrepr[2]) for report in reporter.stats.get("skipped", []) if isinstance(report.longrepr, tuple)]
        missing = sorted({reason for reason in reasons if not any(allowed in reason for allowed in MAY_BE_SKIPPED)})
        if missing:
            reporter.write_line("\nskipped, but required here: " + "; ".join(missing), red=True)
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
