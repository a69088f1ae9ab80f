"""The examples run as their users run them: each in processes of its own, alone or on several ranks, and a wrong result ends one with an
error.

MNIST's files are looked for in the folder that DIST_TRAIN_DATA names; without it these tests are skipped.
"""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
DATA = os.environ.get("DIST_TRAIN_DATA")
TIME_LIMIT = 240  # seconds; a machine may be busy

needs_mnist = pytest.mark.skipif(DATA is None, reason="DIST_TRAIN_DATA names no folder with mnist/")


class Examples:
    """Runs examples in a folder of its own."""

    def __init__(self, folder: Path, cache: Path) -> None:
        self.folder = folder
        self.env = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",  # the same sums on any number of ranks
            "MPLCONFIGDIR": str(cache),
            "PYTHONIOENCODING": "utf-8",
        }

    def start(self, name: str, *arguments: object, ranks: int = 1) -> subprocess.CompletedProcess[str]:
        launcher = [] if ranks == 1 else ["-m", "launcher", "run", "-n", str(ranks), "--threads", "1"]
        command = [sys.executable, *launcher, str(EXAMPLES / f"{name}.py"), *map(str, arguments)]
        return subprocess.run(command, cwd=self.folder, env=self.env, capture_output=True, encoding="utf-8", timeout=TIME_LIMIT)

    def run(self, name: str, *arguments: object, ranks: int = 1) -> str:
        """What the example printed; it must have ended with status 0."""
        result = self.start(name, *arguments, ranks=ranks)
        assert result.returncode == 0, f"status {result.returncode}\n{result.stdout}\n{result.stderr}"
        return result.stdout

    def fail(self, name: str, *arguments: object, ranks: int = 1) -> str:
        """What the example said when it ended with an error, as it must have."""
        result = self.start(name, *arguments, ranks=ranks)
        assert result.returncode != 0, result.stdout
        return result.stderr


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("matplotlib")


@pytest.fixture
def examples(tmp_path: Path, cache: Path) -> Examples:
    return Examples(tmp_path, cache)


def load(name: str) -> ModuleType:
    """An example as a module, to call its functions."""
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def lines(output: str, *beginnings: str) -> list[str]:
    """The lines of the output that begin with one of these."""
    return [line for line in output.splitlines() if line.startswith(beginnings)]


ALL = sorted(path.stem for path in EXAMPLES.glob("*.py"))


def test_all_are_there() -> None:
    expected = "linear_by_hand autograd_basics linear_regression polynomial optimizers mnist accumulate gpt digits"
    assert sorted(expected.split()) == ALL


@pytest.mark.parametrize("name", ALL)
def test_docstring_names_the_command(name: str) -> None:
    docstring = ast.get_docstring(ast.parse((EXAMPLES / f"{name}.py").read_text(encoding="utf-8"))) or ""
    assert f"    python examples/{name}.py" in docstring


# what each prints


def test_linear_by_hand(examples: Examples) -> None:
    output = examples.run("linear_by_hand")
    assert output.count("  weight [[2.000001], [2.9999993]]") == 2
    assert output.count("step 200: loss 3.865e-12") == 2


def test_autograd_basics(examples: Examples) -> None:
    output = examples.run("autograd_basics").splitlines()
    assert {"dc/da = 2.5", "gradient of b = None", "dc/da2 = 5.0"} <= set(output)


def test_linear_regression(examples: Examples) -> None:
    output = examples.run("linear_regression")
    assert output.count("y = 3.0000x + 0.8000") == 2
    assert (examples.folder / "runs" / "linear_regression.png").read_bytes().startswith(b"\x89PNG")


def test_optimizers(examples: Examples) -> None:
    output = examples.run("optimizers", "--plot", "curves.png")
    for name in ("batch", "stochastic", "mini-batch", "momentum", "AdaGrad", "RMSProp", "Adam"):
        assert lines(output, f"{name} "), name
    assert (examples.folder / "curves.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("name", ["linear_regression", "optimizers"])
def test_no_plot_without_matplotlib(examples: Examples, name: str) -> None:
    (examples.folder / "matplotlib.py").write_text("raise ModuleNotFoundError('no matplotlib')")
    examples.env["PYTHONPATH"] = os.pathsep.join([str(examples.folder), str(ROOT)])
    output = examples.run(name)
    assert 'pip install "dist-train[examples]"' in output
    assert not (examples.folder / "runs").exists()


def test_polynomial_is_the_same_on_any_number_of_ranks(examples: Examples) -> None:
    alone = examples.run("polynomial")
    weight = ast.literal_eval(lines(alone, "w = ")[0].removeprefix("w = "))
    assert weight == pytest.approx([5, 0, 3], abs=1e-3)
    assert examples.run("polynomial", ranks=3) == alone


@pytest.mark.parametrize("ranks", [1, 4])
def test_accumulate(examples: Examples, ranks: int) -> None:
    output = examples.run("accumulate", ranks=ranks)
    assert re.search(r"^gradient, .*: largest difference \d\.\de-\d\d$", output, re.MULTILINE)
    assert re.search(r"^weights, .*: largest difference \d\.\de-\d\d$", output, re.MULTILINE)


def test_digits_stopped_and_resumed_on_other_numbers_of_ranks(examples: Examples) -> None:
    pytest.importorskip("sklearn")
    whole = examples.run("digits", "--run-dir", "whole")
    accuracy, weights = lines(whole, "Accuracy:", "weights sha256 ")
    correct = int(re.fullmatch(r"Accuracy:(\d+)/360\(\d+\.\d\d%\)", accuracy)[1])
    assert correct >= 0.96 * 360

    examples.run("digits", "--epochs", 3, "--min-accuracy", 0, ranks=2)
    resumed = examples.run("digits", ranks=4)
    assert "resumed at step 69, after 3 epochs" in resumed
    assert lines(resumed, "Accuracy:", "weights sha256 ") == [accuracy, weights]


GPT = ["--width", 32, "--context", 32, "--length", 40]


def test_gpt_learns_and_writes(examples: Examples) -> None:
    text = examples.folder / "text.txt"
    text.write_text("import this\nimport that\n" * 150)
    arguments = [*GPT, "--files", text, "--steps", 60, "--max-loss", 1.5]
    output = examples.run("gpt", *arguments)
    assert "\n--- sample ---\nimport " in output
    assert examples.run("gpt", *arguments, ranks=2) == output


def test_gpt_resumes_on_the_standard_library(examples: Examples) -> None:
    arguments = [*GPT, "--layers", 1, "--batch-size", 6]
    whole = examples.run("gpt", *arguments, "--steps", 12)
    examples.run("gpt", *arguments, "--steps", 5, "--run-dir", "run")
    resumed = examples.run("gpt", *arguments, "--steps", 12, "--run-dir", "run", ranks=2)
    assert resumed == "resumed at step 5 from run\n" + whole


@needs_mnist
def test_mnist_is_the_same_on_any_number_of_ranks_and_resumes(examples: Examples) -> None:
    whole = lines(examples.run("mnist", "--steps", 90, "--run-dir", "whole"), "after ", "weights ")
    loss, correct = re.match(r"after step 90: average loss (\S+), Accuracy:(\d+)/10000\(\d\d\.\d\d%\)$", whole[0]).groups()
    assert float(loss) < 0.6
    assert int(correct) > 8000
    assert lines(examples.run("mnist", "--steps", 90, "--run-dir", "two", ranks=2), "after ", "weights ") == whole

    examples.run("mnist", "--steps", 40)
    resumed = examples.run("mnist", "--steps", 90, ranks=4)
    assert "resumed at step 40 from runs/mnist-mlp" in resumed
    assert lines(resumed, "after ", "weights ") == whole


@needs_mnist
@pytest.mark.parametrize("model", ["wide", "cnn"])
def test_mnist_models(examples: Examples, model: str) -> None:
    output = examples.run("mnist", "--steps", 2, "--model", model)
    assert "after step 2: " in output
    assert (examples.folder / "runs" / f"mnist-{model}" / "step-00000002").is_dir()


# wrong results


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("linear_regression", ["--steps", 3], "expected y = 3.0x + 0.8"),
        ("polynomial", ["--steps", 10], "expected [5.0, 0.0, 3.0]"),
        ("optimizers", ["--epochs", 1], "the best line has"),
        ("digits", ["--epochs", 1, "--min-accuracy", 100.5], "less than 100.5%"),
        ("gpt", [*GPT, "--layers", 1, "--batch-size", 4, "--steps", 2, "--max-loss", 0.1], "more than 0.1"),
        pytest.param("mnist", ["--steps", 1, "--min-accuracy", 100.5], "less than 100.5%", marks=needs_mnist),
        ("mnist", ["--data-dir", "nowhere"], "download=True"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_wrong_result_is_an_error(examples: Examples, name: str, arguments: list[object], message: str) -> None:
    assert message in examples.fail(name, *arguments)


def test_wrong_result_on_two_ranks_is_an_error(examples: Examples) -> None:
    assert "expected [5.0, 0.0, 3.0]" in examples.fail("polynomial", "--steps", 10, ranks=2)


def test_wrong_result_of_the_examples_without_options(capsys: pytest.CaptureFixture[str]) -> None:
    import numpy as np

    by_hand, basics, accumulate = load("linear_by_hand"), load("autograd_basics"), load("accumulate")
    with pytest.raises(SystemExit, match="loss of step 100 is 2e-06, expected"):
        by_hand.check("test", [0.00345, 2e-6, *by_hand.EXPECTED_LOSSES[2:]], np.array([[2.000001], [2.9999993]]))
    with pytest.raises(SystemExit, match=r"the weight is \[2.0, 3.0\]"):
        by_hand.check("test", by_hand.EXPECTED_LOSSES, np.array([[2.0], [3.0]]))
    with pytest.raises(SystemExit, match=r"dc/da is 2.4, expected 2.5"):
        basics.check("dc/da", 2.4, 2.5)
    with pytest.raises(SystemExit, match=r"largest difference is 0\.001"):
        accumulate.compare("test", [np.zeros(2)], [np.array([0, 1e-3])])
