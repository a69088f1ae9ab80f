"""Who may import whom, and what a bare `import dist_train` brings with it."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "dist_train"

ALLOWED = {
    "backend": set(),
    "random": set(),
    "autograd": {"backend", "random"},
    "nn": {"autograd", "backend", "random"},
    "comm": {"backend"},
    "optim": {"backend", "autograd"},
    "utils": {"random", "autograd", "backend"},
    "vision": {"utils", "autograd", "backend"},
    "distributed": {"backend", "autograd", "nn", "optim", "utils", "comm", "random"},
    "checkpoint": {"comm"},
    "cuda": {"backend", "random"},
    "accelerator": {"backend", "cuda"},
}
EXCEPTIONS = {"nn/parallel/__init__.py": {"distributed"}}  # torch's path to DistributedDataParallel
ONE_FILE_ONLY = {"cupy": {"backend/device.py"}, "mpi4py": {"comm/mpi.py"}}
NEVER = {"torch", "scipy", "examples", "launcher", "sklearn", "matplotlib"}
FILES = sorted(PACKAGE.rglob("*.py"))


def imports(path: Path) -> Iterator[str]:
    """Absolute names of the modules that a file imports."""
    package = path.relative_to(ROOT).parent.parts
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def family(name: str) -> str:
    """The part of the package that a module belongs to."""
    parts = name.split(".")
    return parts[1] if parts[0] == "dist_train" and len(parts) > 1 else ""


@pytest.mark.parametrize("path", FILES, ids=[str(path.relative_to(PACKAGE)) for path in FILES])
def test_rules(path: Path) -> None:
    place = path.relative_to(PACKAGE)
    own = place.parts[0].removesuffix(".py")
    names = set(imports(path))
    for library, homes in ONE_FILE_ONLY.items():
        assert place.as_posix() in homes or not any(name.split(".")[0] == library for name in names), library
    assert not NEVER & {name.split(".")[0] for name in names}
    if own == "__init__":
        return  # the top level gathers everything
    others = {family(name) for name in names if (PACKAGE / family(name)).exists() or (PACKAGE / f"{family(name)}.py").exists()}
    assert others - {own, "", "__init__"} <= ALLOWED[own] | EXCEPTIONS.get(place.as_posix(), set())


@pytest.mark.parametrize("path", sorted((ROOT / "launcher").rglob("*.py")), ids=lambda path: path.name)
def test_the_launcher_uses_the_standard_library_alone(path: Path) -> None:
    names = {name.split(".")[0] for name in imports(path)} - {"launcher", "", "__future__"}
    assert names <= sys.stdlib_module_names


HEAVY = ["mpi4py", "cupy", "matplotlib", "torch", "safetensors", "scipy", "sklearn", "tqdm", "threadpoolctl", "numpy.random", "pickle5"]
HEAVY += ["dataclasses", "pathlib", "queue", "string", "traceback", "urllib.parse"]  # of the standard library: a millisecond or more


def run(program: str) -> str:
    result = subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_the_bare_import_is_light() -> None:
    program = "import sys, numpy; before = set(sys.modules); import dist_train; print(*sorted(set(sys.modules) - before))"
    loaded = set(run(program).split())
    assert not loaded & set(HEAVY)
    families = {family(name) for name in loaded} - {""}
    assert families <= {"autograd", "backend", "random", "comm"}
    assert {name for name in loaded if family(name) == "comm"} == {"dist_train.comm", "dist_train.comm.launch"}


def test_everything_else_is_there_when_asked_for() -> None:
    program = (
        "import dist_train as dt\n"
        "print(dt.nn.Linear, dt.optim.SGD, dt.utils.data.DataLoader, dt.cuda.is_available(), dt.accelerator.current_accelerator())\n"
        "dt.distribute, dt.memory_report, dt.Checkpoint, dt.save, dt.load, dt.distributed, dt.vision, dt.functional\n"
        "assert {'nn', 'distribute', 'zeros'} <= set(dir(dt))\n"
        "try: dt.nonsense\n"
        "except AttributeError as error: print(error)"
    )
    assert run(program).strip().endswith("has no attribute 'nonsense'")
