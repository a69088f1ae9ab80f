"""With and without the compiled kernels: what is said, what is chosen, and that both compute the same."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from native_cases import needs_native

import dist_train as dt
from dist_train.backend import native
from dist_train.backend.kernels import REGISTRY

RANK_0 = {"PMI_RANK": "0", "PMI_SIZE": "2", "MPI_LOCALRANKID": "0", "MPI_LOCALNRANKS": "2"}


def run(code: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("DIST_TRAIN_", "PMI", "OMPI"))}
    return subprocess.run([sys.executable, "-c", code], env={**environment, **variables}, capture_output=True, text=True, timeout=60)


def test_rank_0_says_when_numpy_runs_alone() -> None:
    for rank, said in [("0", True), ("1", False)]:
        result = run("import dist_train", DIST_TRAIN_NATIVE="0", **{**RANK_0, "PMI_RANK": rank})
        assert ("NumPy alone" in result.stderr) == said, result.stderr
    assert not run("import dist_train", DIST_TRAIN_NATIVE="0").stderr


@needs_native
def test_nothing_is_said_of_compiled_kernels() -> None:
    assert not run("import dist_train", **RANK_0).stderr


@needs_native
@pytest.mark.parametrize("variables", [{"DIST_TRAIN_ISA": "mmx"}, {"DIST_TRAIN_BLAS": "cublas"}], ids=str)
def test_unknown_choices(variables: dict[str, str]) -> None:
    result = run("import dist_train", **variables)
    assert result.returncode != 0
    assert "expected" in result.stderr or "not an instruction set" in result.stderr


@needs_native
def test_another_build_can_be_loaded() -> None:
    from dist_train.backend import _native

    code = "from dist_train.backend import native; print(native.describe())"
    assert "compiled kernels for" in run(code, DIST_TRAIN_NATIVE=str(_native.__file__)).stdout
    assert "not loaded" in run(code, DIST_TRAIN_NATIVE="/absent/module.so").stdout


@needs_native
def test_denormal_numbers_stay() -> None:
    """Nothing that is linked switches the processor to flushing them to zero."""
    assert run("import dist_train, numpy as np; print(float(np.float32(1e-40) * np.float32(0.5)) > 0)").stdout.strip() == "True"


@needs_native
def test_every_override_is_of_a_compiled_function() -> None:
    overrides = [kernel.name for kernel in REGISTRY.values() if "numpy" in kernel.overrides]
    assert native.available() and len(overrides) >= 6, overrides


TRAIN = """
import numpy as np, dist_train as dt
from dist_train import nn
dt.manual_seed(0)
model = nn.Sequential(nn.Linear(20, 33), nn.GELU(approximate="tanh"), nn.LayerNorm(33), nn.Linear(33, 5))
optimizer = dt.optim.Adam(model.parameters(), lr=1e-2)
x, y = dt.tensor(np.random.default_rng(0).standard_normal((40, 20)).astype("f")), dt.tensor(np.arange(40) % 5)
for _ in range(30):
    optimizer.zero_grad()
    loss = nn.CrossEntropyLoss()(model(x), y)
    loss.backward()
    optimizer.step()
print(float(loss))
"""


@needs_native
def test_training_agrees_with_the_references() -> None:
    losses = [
        float(run(TRAIN, OMP_NUM_THREADS="1", **variables).stdout)
        for variables in ({}, {"DIST_TRAIN_NATIVE": "0"}, {"DIST_TRAIN_ISA": "base"})
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert losses[0] == pytest.approx(losses[2], rel=1e-4)


@needs_native
def test_numpy_scalars_are_arrays_without_axes() -> None:
    """Arithmetic on arrays without axes gives NumPy's scalars, and gradients are such."""
    from dist_train.backend.reference.activation import relu_backward

    result = relu_backward(np.float32(3), np.float32(2))
    assert np.shape(result) == () and float(result) == 3.0
    x = dt.ones(4, 3, requires_grad=True)
    (dt.nn.functional.cross_entropy(x, dt.tensor([0, 1, 2, 0])) * 10 / 4).backward()
    assert x.grad is not None and np.isfinite(x.grad.numpy()).all()
