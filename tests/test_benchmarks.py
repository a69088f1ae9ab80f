"""The benchmarks run, in settings that take seconds, and write reports that say where and how they were made."""

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from mpi import ROOT, run

BENCHMARKS = ROOT / "benchmarks"
HEADER = {"command", "ranks", "threads", "kernels", "machine", "versions", "rows"}

# benchmark, ranks it is started on, options, and what needs PyTorch
RUNS = [
    pytest.param("compare", 2, "--smallest --rounds 2 --seconds 0.001", "torch", id="compare"),
    pytest.param("memory", 1, "--models smallest --ranks 1 2 --variants ours", None, id="memory-ours"),
    pytest.param("memory", 1, "--models smallest --ranks 2 --variants ddp ddp_zero", "torch", id="memory-torch"),
    pytest.param("startup", 1, "--rounds 1 --ranks 2", "torch", id="startup"),
]


@pytest.fixture
def benchmark(monkeypatch):
    """Imports a module of the benchmarks."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module


@pytest.mark.parametrize(("name", "ranks", "options", "library"), RUNS)
def test_it_writes_a_report(name, ranks, options, library, tmp_path, python_here):
    if library:
        pytest.importorskip(library)
    path = tmp_path / "report.json"
    result = run(python_here, ranks, BENCHMARKS / f"{name}.py", *options.split(), "--json", path)
    text = path.read_text()
    report = json.loads(text)
    assert set(report) >= HEADER and report["rows"] and report["ranks"] == ranks
    assert report["command"].endswith(f"python benchmarks/{name}.py {options}")
    assert str(ROOT) not in text and str(tmp_path) not in text and sys.prefix not in text
    assert result.stdout.strip()


def test_every_workload_is_compared(tmp_path, python_here):
    pytest.importorskip("torch")
    path = tmp_path / "report.json"
    run(python_here, 1, BENCHMARKS / "compare.py", "--smallest", "--rounds", 1, "--seconds", 0.001, "--json", path)
    rows = {row["workload"]: row for row in json.loads(path.read_text())["rows"]}
    assert set(rows) == {"mlp_seed", "mlp_wide", "mlp_20m", "cnn_mnist", "gpt_3m"}
    for row in rows.values():
        assert {"torch", "torch_fused", "ours"} <= set(row["milliseconds"]) and row["ratio"] > 0
        assert set(row["split"]) == {"forward", "backward", "reduce", "update", "data", "python"}
        assert row["floor"]["floor"] == pytest.approx(row["floor"]["products"] + row["floor"]["bytes"])


def test_another_computation_is_refused(benchmark):
    compare, training, workloads = (benchmark(name) for name in ("compare", "training", "workloads"))
    workload = workloads.SMALLEST["mlp_seed"]
    batches = [workload.batch(np.random.default_rng(0))]
    compare.check_same({name: training.ours(workload, batches, compare.initial_weights(None, workload)) for name in ("other", "ours")})
    weights = compare.initial_weights(None, workload)
    weights["2.bias"][0] += 0.1
    trainers = {"other": training.ours(workload, batches, weights)}
    trainers["ours"] = training.ours(workload, batches, compare.initial_weights(None, workload))
    with pytest.raises(RuntimeError, match="other computes something else"):
        compare.check_same(trainers)


@pytest.mark.parametrize("name", ["mlp_seed", "mlp_wide", "mlp_20m", "cnn_mnist", "gpt_3m"])
def test_products_are_those_of_the_model(name, benchmark):
    """The multiplications of the forward pass, counted by hand from the parameters' shapes."""
    workload = benchmark("workloads").WORKLOADS[name]
    forward = sum(product.flops for product in workload.products if product.kind == "nt")
    assert (
        forward
        == {
            "mlp_seed": 2 * 64 * (784 * 28 + 28 * 10),
            "mlp_wide": 2 * 64 * (784 * 1024 + 1024 * 1024 + 1024 * 10),
            "mlp_20m": 2 * 32 * (784 * 4096 + 4096 * 4096 + 4096 * 10),
            "cnn_mnist": 2 * 32 * (26 * 26 * 9 * 32 + 24 * 24 * 288 * 64 + 9216 * 128 + 128 * 10),
            "gpt_3m": 2 * 8 * 128 * (4 * 12 * 256 * 256 + 256 * 256) + 2 * 4 * 8 * 8 * 128 * 128 * 32,
        }[name]
    )


def test_the_ratio_is_against_the_fastest(benchmark):
    times = {"slow": [4.0, 4.0, 4.0], "fast": [2.0, 1.0, 2.0], "ours": [1.0, 1.0, 1.0]}
    result = benchmark("report").ratios(times, "ours", ["slow", "fast"])
    assert result == {"against": "fast", "ratio": 0.5, "ratio_of_least": 1.0, "quartiles": [0.5, 0.5, 0.75]}


def test_a_table_has_aligned_columns(benchmark):
    assert benchmark("report").table([["name", "ms"], ["a", 0.0123], ["bcd", 1234.5], ["e", None]]) == (
        "name      ms\na     0.0123\nbcd     1234\ne          -"
    )


@pytest.mark.parametrize("words", [["--json", "/somewhere/x.json", "--rounds", "3"], ["--rounds", "3", "--json=/somewhere/x.json"]])
def test_the_command_names_no_place(words, benchmark, monkeypatch):
    monkeypatch.setattr(sys, "argv", [str(Path("/home/someone/benchmarks/compare.py")), *words])
    assert benchmark("report").command() == "python benchmarks/compare.py --rounds 3"
