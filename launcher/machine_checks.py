"""Cores, shared memory and GPUs of this machine."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from launcher.cores import available_cores
from launcher.findings import OK, WARN, Finding
from launcher.probe import Answer, ask, ask_python

MIB = 1 << 20
SMALL_SHARED_MEMORY = 512 * MIB
ASK_CUPY = """
import json, cupy
print(json.dumps([cupy.__version__, cupy.cuda.runtime.getDeviceCount(), float(cupy.arange(4).sum())]))
"""


def machine_findings() -> Iterator[Finding]:
    yield check_cores()
    yield check_shared_memory(Path("/dev/shm"))
    yield check_gpu()


def check_cores() -> Finding:
    return Finding(OK, "cores", f"{available_cores()} usable, {os.cpu_count()} logical processors in the machine")


def check_shared_memory(folder: Path) -> Finding:
    try:
        usage = shutil.disk_usage(folder)
    except OSError as error:
        return Finding(WARN, "shared memory", str(error), "ranks of a node share memory through /dev/shm; mount a tmpfs there")
    return judge_shared_memory(usage.total, usage.free)


def judge_shared_memory(total: int, free: int) -> Finding:
    """Too small is what cannot hold a small model's parameters and gradients; Docker's default is 64 MiB."""
    detail = f"/dev/shm has {free // MIB} of {total // MIB} MiB free"
    if total < SMALL_SHARED_MEMORY:
        remedy = "start the container with `docker run --shm-size=8g` (Kubernetes: an emptyDir with medium: Memory)"
        return Finding(WARN, "shared memory", detail, remedy)
    if free < SMALL_SHARED_MEMORY:
        return Finding(WARN, "shared memory", detail, "remove files that ended jobs left in /dev/shm")
    return Finding(OK, "shared memory", detail)


def check_gpu() -> Finding:
    return judge_gpu(ask_gpus(), ask_python(ASK_CUPY, seconds=60.0))


def ask_gpus() -> list[str]:
    """Names of the NVIDIA GPUs that the driver shows."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    answer = ask([program, "--query-gpu=name", "--format=csv,noheader"])
    return answer.output.splitlines() if answer.good else []


def judge_gpu(gpus: list[str], cupy: Answer) -> Finding:
    found = f"{len(gpus)} × {gpus[0]}" if gpus else "no GPU"
    if cupy.good:
        version, devices, _ = json.loads(cupy.output)
        return Finding(OK, "GPU", f"{found}, CuPy {version} sees {devices}")
    if not gpus:
        return Finding(OK, "GPU", f"{found}: training runs on CPUs")
    return Finding(WARN, "GPU", f"{found}, but CuPy does not work: {cupy.error}", 'pip install "dist-train[cuda]"')
