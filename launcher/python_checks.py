"""Python, the package, its compiled kernels and BLAS, each asked in a fresh interpreter."""

import json
import platform
import sys
from collections.abc import Iterator

from launcher.cores import available_cores
from launcher.findings import FAIL, OK, WARN, Finding
from launcher.probe import ask_python

OLDEST = (3, 11)
ASK_PACKAGE = "import dist_train; print(getattr(dist_train, '__version__', 'unknown version'), dist_train.__file__)"
ASK_KERNELS = """
from dist_train.backend import native
print(native.available(), native.describe(), sep="|")
"""
ASK_BLAS = """
import json, numpy, threadpoolctl
pools = threadpoolctl.threadpool_info()
print(json.dumps([pool for pool in pools if pool.get("user_api") == "blas"]))
"""


def python_findings() -> Iterator[Finding]:
    yield check_python(sys.version_info[:2])
    package = check_package()
    yield package
    if package.status == OK:
        yield check_kernels()
    yield check_blas()


def check_python(version: tuple[int, ...]) -> Finding:
    detail = f"{platform.python_version()} at {sys.executable}"
    if version < OLDEST:
        return Finding(FAIL, "Python", detail, "dist_train needs Python 3.11 or newer")
    return Finding(OK, "Python", detail)


def check_package() -> Finding:
    answer = ask_python(ASK_PACKAGE)
    if not answer.good:
        return Finding(FAIL, "dist_train", f"cannot be imported: {answer.error}", "pip install dist-train")
    version, _, file = answer.output.partition(" ")
    return Finding(OK, "dist_train", f"{version} at {file}")


def check_kernels() -> Finding:
    answer = ask_python(ASK_KERNELS)
    compiled, _, detail = answer.output.partition("|")
    if compiled == "True":
        return Finding(OK, "kernels", detail)
    remedy = "install a C++ compiler (and its Python headers), then reinstall dist-train: steps take half to a quarter of the time"
    return Finding(WARN, "kernels", detail if answer.good else answer.error, remedy)


def check_blas() -> Finding:
    answer = ask_python(ASK_BLAS)
    if not answer.good:
        return Finding(WARN, "BLAS", f"unknown: {answer.error}", "pip install threadpoolctl numpy")
    pools = json.loads(answer.output)
    if not pools:
        return Finding(WARN, "BLAS", "none that threadpoolctl knows", "install NumPy's wheel from PyPI")
    return judge_blas(pools[0], available_cores())


def judge_blas(pool: dict[str, object], cores: int) -> Finding:
    threads = int(str(pool["num_threads"]))
    detail = f"{pool.get('internal_api')} {pool.get('version')}, {threads} threads on {cores} cores"
    if threads > cores:
        remedy = "unset OMP_NUM_THREADS and OPENBLAS_NUM_THREADS, or set them to the cores of one rank"
        return Finding(WARN, "BLAS", detail, remedy)
    return Finding(OK, "BLAS", detail)
