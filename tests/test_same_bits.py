"""The promise: losses, weights and optimizer state are the same bits on any number of ranks, through kills and resumes."""

import json
import random
from functools import cache
from pathlib import Path

import pytest
from mpi import FLAVOURS, PROGRAMS, run

MODELS = ["mlp", "cnn", "gpt"]
STEPS = 50


def train(python, ranks, model, directory, **options):
    extra = options.pop("extra", {})
    flags = [part for name, value in options.items() for part in (f"--{name.replace('_', '-')}", value)]
    result = run(python, ranks, PROGRAMS / "same_bits.py", "--model", model, "--steps", STEPS, "--directory", directory, *flags, **extra)
    return json.loads(result.stdout.splitlines()[-1])


@pytest.fixture(scope="session")
def alone(tmp_path_factory):
    """Each model's result in one process, without MPI."""
    import sys

    @cache
    def result(model):
        return train(sys.executable, 1, model, tmp_path_factory.mktemp(model))

    return result


@pytest.mark.parametrize("ranks", [2, 3, 4, 5, 6, 12])
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("python", FLAVOURS)
def test_any_number_of_ranks(python, model, ranks, alone, tmp_path):
    result = train(python, ranks, model, tmp_path)
    assert len(result["losses"]) == STEPS
    assert result == alone(model)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(("ranks", "node"), [(2, 1), (4, 2), (4, 1), (6, 3), (6, 2), (5, 2)])
def test_any_cut_into_nodes(ranks, node, model, alone, tmp_path, python_here):
    """With 5 ranks, 2 a node, the nodes are unequal: then every rank is one."""
    assert train(python_here, ranks, model, tmp_path, extra={"DIST_TRAIN_NODE_SIZE": node}) == alone(model)


@pytest.mark.parametrize("size", [4096, 20_000])
@pytest.mark.parametrize("node", [1, 3])
def test_any_bucket_size(size, node, alone, tmp_path, python_here):
    extra = {"DIST_TRAIN_BUCKET_BYTES": size, "DIST_TRAIN_NODE_SIZE": node}
    assert train(python_here, 6, "cnn", tmp_path, extra=extra) == alone("cnn")


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("python", FLAVOURS)
def test_killed_and_resumed_on_other_numbers_of_ranks(python, model, alone, tmp_path):
    """SIGKILL at a random step, three times in a row, each resume with another number of ranks."""
    generator = random.Random(f"{model}{python}")
    directory, step = tmp_path / "run", 0
    for ranks in generator.sample([2, 3, 4, 5], 3):
        step = generator.randint(step + 2, min(step + 18, STEPS - 2))
        program = [PROGRAMS / "same_bits.py", "--model", model, "--steps", STEPS, "--directory", directory]
        killed = run(python, ranks, *program, "--kill-at", step, check=False)
        assert killed.returncode != 0 and "losses" not in killed.stdout
    assert train(python, 1, model, directory) == alone(model)
    assert not list(Path("/dev/shm").glob("dist_train-*"))


def test_the_program_can_fail(alone, tmp_path, python_here):
    """Another V is another grouping of the sum: if this were equal too, the tests above would prove nothing."""
    other = train(python_here, 2, "mlp", tmp_path, micro_batches=8)
    assert other["weights"] != alone("mlp")["weights"]
