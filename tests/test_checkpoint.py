"""Checkpoints: saved whole or not at all, restored at any number of ranks, damaged ones skipped, foreign ones refused."""

from __future__ import annotations

import errno
import hashlib
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoint_program import SHAPES, Loader, Module, Optimizer, Run, ThreadCommunicator, ThreadGroup

from dist_train.checkpoint import Checkpoint, CheckpointWarning, DamagedFileError, saving, tensor_file
from dist_train.checkpoint.directory import find_steps
from dist_train.checkpoint.files import write_new
from dist_train.checkpoint.manifest import Part, Shards, Slice, parse
from dist_train.checkpoint.slices import SavedVectors

PROGRAM = Path(__file__).with_name("checkpoint_program.py")


def on_ranks(size: int, work: Callable[[Any], Any]) -> list[Any]:
    """`work(communicator)` on `size` ranks that are threads; the results or exceptions, by rank."""

    def guarded(comm: Any) -> Any:
        try:
            return work(comm)
        except Exception as error:
            return error

    group = ThreadGroup(size)
    with ThreadPoolExecutor(size) as pool:
        return list(pool.map(guarded, [ThreadCommunicator(group, rank) for rank in range(size)]))


def save_steps(directory: Path, *steps: int, size: int = 1, **options: Any) -> None:
    def work(comm: Any) -> None:
        run = Run(directory, comm, **options)
        for step in steps:
            run.train(step - run.optimizer.steps).checkpoint.save()

    assert on_ranks(size, work) == [None] * size


def run_program(*arguments: Any, **options: Any) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "OPENBLAS_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, str(PROGRAM), *map(str, arguments)],
        env=environment, capture_output=True, text=True, timeout=100, **options,
    )  # fmt: skip


def reseal(directory: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change a manifest as an attacker would, who knows how to seal it."""
    path = directory / "manifest.json"
    content = json.loads(path.read_text())
    content.pop("sha256")
    change(content)
    body = json.dumps(content, indent=1).removesuffix("\n}")
    digest = hashlib.sha256(body.encode()).hexdigest()
    path.write_text(f'{body},\n "sha256": "{digest}"\n}}\n')


# --- what is written, and reading it at any number of ranks


@pytest.mark.parametrize("readers", [1, 2, 3, 5, 40])
@pytest.mark.parametrize("writers", [1, 2, 4, 40])
def test_restores_at_any_number_of_ranks(tmp_path: Path, writers: int, readers: int) -> None:
    save_steps(tmp_path, 7, size=writers)

    def work(comm: Any) -> bool:
        run = Run(tmp_path, comm)
        return run.checkpoint.restore() == 7 and run.is_at(7)

    assert on_ranks(readers, work) == [True] * readers


def test_files_are_as_documented(tmp_path: Path) -> None:
    save_steps(tmp_path, 120, size=2)
    directory = tmp_path / "step-00000120"
    files = ["model.safetensors", "optimizer-0000-of-0002.safetensors", "optimizer-0001-of-0002.safetensors"]
    assert sorted(os.listdir(directory)) == ["manifest.json", *files]
    content = json.loads((directory / "manifest.json").read_text())
    expected = {"format": "dist_train checkpoint", "version": 1, "step": 120, "ranks": 2}
    assert expected | {"micro_batches": 12, "seed": 3} == {key: content[key] for key in [*expected, "micro_batches", "seed"]}
    assert sorted(content["files"]) == files
    for name, record in content["files"].items():
        data = (directory / name).read_bytes()
        assert record == {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    assert content["objects"]["loader"]["state"] == {"position": 1200, "best": {"$float": "inf"}}
    assert content["objects"]["model"]["state"]["scale"] == {"$tensor": "scale", "dtype": "float32", "shape": []}
    assert [piece["ranges"] for piece in content["objects"]["optimizer"]["slices"]] == [
        [[0, 18], [0, 5]],
        [[18, 37], [5, 11]],
    ]


def test_the_safetensors_library_reads_the_files(tmp_path: Path) -> None:
    library = pytest.importorskip("safetensors.numpy")
    save_steps(tmp_path, 2, size=2)
    model = library.load_file(tmp_path / "step-00000002/model.safetensors")
    assert {name: array.shape for name, array in model.items()} == SHAPES
    optimizer = library.load_file(tmp_path / "step-00000002/optimizer-0001-of-0002.safetensors")
    assert np.array_equal(optimizer["0.exp_avg_sq"], Optimizer(1, 2).expected("float32", "exp_avg_sq", 2))


def test_model_file_does_not_depend_on_the_number_of_ranks(tmp_path: Path) -> None:
    for size in (1, 3):
        save_steps(tmp_path / str(size), 4, size=size)
    one, three = (tmp_path / name / "step-00000004/model.safetensors" for name in "13")
    assert one.read_bytes() == three.read_bytes()


def test_no_directory_and_empty_directory_are_none(tmp_path: Path) -> None:
    assert Run(tmp_path / "missing").checkpoint.restore() is None
    assert Run(tmp_path).checkpoint.restore() is None
    assert Run(tmp_path).checkpoint.steps() == []


def test_plain_values_come_back_as_they_were(tmp_path: Path) -> None:
    values = {"a": [1, 2.0, True, None, "ü"], 3: (1, (2,)), "b": {"$x": float("nan")}, "c": np.float64(0.1)}
    live: dict[Any, Any] = {}
    Checkpoint(tmp_path, values=values, items=[1]).save()
    items = [5, 6]
    Checkpoint(tmp_path, values=live, items=items).restore()
    assert repr(live) == repr({**values, "c": 0.1})
    assert items == [1]


def test_numbers_saves_itself_without_an_optimizer(tmp_path: Path) -> None:
    for _ in range(2):
        checkpoint = Checkpoint(tmp_path, model=Module())
        checkpoint.save()
        checkpoint.save()
    assert checkpoint.steps() == [2, 3, 4]


def test_nested_state_with_tensors(tmp_path: Path) -> None:
    class Nested:
        state: Any = {"state": {0: {"exp_avg": np.arange(3.0)}}, "param_groups": [{"lr": 0.1}]}

        def state_dict(self) -> Any:
            return self.state

        def load_state_dict(self, state: Any) -> None:
            self.state = state

    fresh = Nested()
    fresh.state = {"state": {}, "param_groups": [{"lr": 0.5}]}
    Checkpoint(tmp_path, optimizer=Nested()).save()
    Checkpoint(tmp_path, optimizer=fresh).restore()
    assert fresh.state["state"][0]["exp_avg"].tolist() == [0, 1, 2]
    assert fresh.state["param_groups"] == [{"lr": 0.1}]


def test_an_optimizer_that_every_rank_has_whole_is_written_once(tmp_path: Path) -> None:
    def work(comm: Any) -> bool:
        optimizer = Optimizer()
        optimizer.step(5)
        checkpoint = Checkpoint(tmp_path, optimizer=optimizer)
        checkpoint._comm = comm
        checkpoint.save()
        restored = Optimizer(comm.rank, comm.size)
        checkpoint = Checkpoint(tmp_path, optimizer=restored)
        checkpoint._comm = comm
        return checkpoint.restore() == 5 and restored.is_at(5)

    assert on_ranks(3, work) == [True] * 3
    sizes = [path.stat().st_size for path in sorted((tmp_path / "step-00000005").glob("optimizer-*"))]
    assert sizes[0] > 4 * sizes[1] == 4 * sizes[2]


def test_slices_that_do_not_join_are_not_saved(tmp_path: Path) -> None:
    def work(comm: Any) -> None:
        checkpoint = Checkpoint(tmp_path, optimizer=Optimizer(2 * comm.rank, 3))
        checkpoint._comm = comm
        checkpoint.save()

    errors = on_ranks(2, work)
    assert all("slices of optimizer part 0 do not join at 12" in str(error) for error in errors), errors


def test_parameters_without_names_match_any_name(tmp_path: Path) -> None:
    class Unnamed(Optimizer):
        def shard(self) -> dict[str, Any]:
            shard = super().shard()
            for part in shard["parts"]:
                part["table"] = [{**row, "name": str(row["index"])} for row in part["table"]]
            return shard

    Unnamed.__name__ = "Optimizer"
    for source, target in ((Unnamed(), Optimizer()), (Optimizer(), Unnamed())):
        source.step(3)
        Checkpoint(tmp_path, optimizer=source).save()
        Checkpoint(tmp_path, optimizer=target).restore()
        assert target.is_at(3)


# --- damaged checkpoints


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def flip_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[random.Random(path.name).randrange(len(data))] ^= 1
    path.write_bytes(data)


def flip_digit(path: Path) -> None:
    data = path.read_bytes()
    place = next(i for i, byte in enumerate(data) if chr(byte) in "02468")
    path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])


def link(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def make_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def make_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGES = [truncate, empty, flip_bit, flip_digit, Path.unlink, link, make_pipe, make_directory]


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", ["manifest.json", "model.safetensors", "optimizer-0001-of-0002.safetensors"])
def test_a_damaged_checkpoint_is_skipped(tmp_path: Path, name: str, damage: Callable[[Path], None]) -> None:
    save_steps(tmp_path, 1, 2, size=2)
    damage(tmp_path / "step-00000002" / name)
    run = Run(tmp_path)
    with pytest.warns(CheckpointWarning, match=rf"step-00000002: .*{name}"):
        assert run.checkpoint.restore() == 1
    assert run.is_at(1)


def test_every_bit_of_a_file_counts(tmp_path: Path) -> None:
    save_steps(tmp_path, 1)
    directory = tmp_path / "step-00000001"
    whole = {path: path.read_bytes() for path in directory.iterdir()}
    chance = random.Random(0)
    for path, data in whole.items():
        for _ in range(60):
            flipped = bytearray(data)
            flipped[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
            path.write_bytes(flipped)
            with pytest.raises(RuntimeError, match=path.name):
                Run(tmp_path).checkpoint.restore()
            path.write_bytes(data)


def test_the_ranks_agree_on_what_is_damaged(tmp_path: Path) -> None:
    save_steps(tmp_path, 1, 2, size=3)
    truncate(tmp_path / "step-00000002/optimizer-0002-of-0003.safetensors")
    with pytest.warns(CheckpointWarning, match="optimizer-0002-of-0003.safetensors has"):
        assert on_ranks(4, lambda comm: Run(tmp_path, comm).checkpoint.restore()) == [1, 1, 1, 1]


def test_a_linked_checkpoint_is_skipped(tmp_path: Path) -> None:
    save_steps(tmp_path / "a", 1)
    save_steps(tmp_path / "b", 2)
    (tmp_path / "a/step-00000002").symlink_to(tmp_path / "b/step-00000002")
    with pytest.warns(CheckpointWarning, match="not a directory of its own"):
        assert Run(tmp_path / "a").checkpoint.restore() == 1


def test_a_renamed_checkpoint_is_skipped(tmp_path: Path) -> None:
    save_steps(tmp_path, 1)
    shutil.copytree(tmp_path / "step-00000001", tmp_path / "step-00000005")
    with pytest.warns(CheckpointWarning, match="that of step 1"):
        assert Run(tmp_path).checkpoint.restore() == 1


def test_a_future_format_is_skipped_and_never_deleted(tmp_path: Path) -> None:
    save_steps(tmp_path, 1, 2)
    reseal(tmp_path / "step-00000002", lambda content: content.update(version=2))
    run = Run(tmp_path)
    with pytest.warns(CheckpointWarning, match="format version 2, newer than 1; update"):
        assert run.checkpoint.restore() == 1
    run.optimizer.steps = 1
    with pytest.raises(ValueError, match="holds step 2, later than the step 1"):
        run.checkpoint.save()


def test_no_whole_checkpoint_is_an_error(tmp_path: Path) -> None:
    save_steps(tmp_path, 1, 2)
    (tmp_path / "step-00000001/manifest.json").unlink()
    truncate(tmp_path / "step-00000002/model.safetensors")
    with pytest.raises(RuntimeError, match=r"(?s)begin anew.*step-00000002: model.*step-00000001: manifest"):
        Run(tmp_path).checkpoint.restore()


def test_training_goes_on_over_a_damaged_checkpoint(tmp_path: Path) -> None:
    save_steps(tmp_path, 1, 2, 5)
    for step in (2, 5):
        truncate(tmp_path / f"step-{step:08d}/model.safetensors")
    run = Run(tmp_path)
    with pytest.warns(CheckpointWarning):
        run.checkpoint.restore()
    run.train(1).checkpoint.save()
    assert run.checkpoint.steps() == [1, 2]
    again = Run(tmp_path)
    assert again.checkpoint.restore() == 2
    assert again.is_at(2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["files"].update({"../x": {"size": 0, "sha256": ""}}), "'../x', which cannot be"),
        (lambda c: c["files"].update({"/etc/passwd": {"size": 0, "sha256": ""}}), "'/etc/passwd', which cannot be"),
        (lambda c: c["files"].update({"..": {"size": 0, "sha256": ""}}), "which cannot be"),
        (lambda c: c["files"].update({"a\0": {"size": 0, "sha256": ""}}), "which cannot be"),
        (lambda c: c["objects"]["model"].update(file="../../x"), "not in the table of files"),
        (lambda c: c["objects"]["optimizer"]["slices"][0].update(file="/x"), "not in the table of files"),
        (lambda c: c.update(files=[]), "'files' of the top level is \\[\\] instead of a dict"),
        (lambda c: c.update(objects={"model": 3}), "model is a int instead of an object"),
        (lambda c: c.update(step="1"), "'step' of the top level is '1' instead of a int"),
        (lambda c: c.update(threads=True), "'threads'"),
        (lambda c: c.update(step=-1), "'step'"),
        (lambda c: c.update(version="1"), "'version'"),
        (lambda c: c.update(version=0), "unknown format version 0"),
        (lambda c: c.update(format="other"), "not that of a dist_train checkpoint"),
        (lambda c: c["objects"]["model"].update(kind="pickle"), "unknown kind 'pickle'"),
        (lambda c: c["objects"]["loader"].update(state={"$tensor": 1}), "unreadable \\$tensor"),
        (lambda c: c["objects"]["loader"].update(state={"$evil": 1}), "unreadable \\$evil"),
        (lambda c: c["objects"]["loader"].update(state={"$dict": [[[], 1]]}), "unreadable \\$dict"),
        (lambda c: c["objects"]["loader"].update(state=c["objects"]["model"]["state"]), "no file with them"),
        (lambda c: c["objects"]["model"]["state"]["scale"].update(shape=[2**50]), "lacks 'scale'"),
        (lambda c: c["objects"]["model"]["state"]["scale"].update(dtype="O"), "lacks 'scale'"),
        (lambda c: c["objects"]["optimizer"]["parts"][0].update(length=2**60), "end at 37 instead of"),
        (lambda c: c["objects"]["optimizer"]["parts"][0].update(dtype="object"), "unknown type 'object'"),
        (lambda c: c["objects"]["optimizer"]["parts"][0].update(vectors=[3]), "'vectors'"),
        (lambda c: c["objects"]["optimizer"]["parts"][0].update(vectors=["x"]), "lacks '0.x'"),
        (lambda c: c["objects"]["optimizer"]["slices"][0].update(ranges=[[0, 37]]), "one range for each of 2 parts"),
        (lambda c: c["objects"]["optimizer"]["slices"][0].update(ranges=[[1, 37], [0, 11]]), "do not join at 0"),
        (lambda c: c["objects"]["optimizer"]["slices"][0].update(ranges=[[37, 0], [0, 11]]), "do not join"),
        (lambda c: c["objects"]["optimizer"].update(slices=[]), "end at 0 instead of 37"),
    ],
)  # fmt: skip
def test_hostile_manifests_are_refused(tmp_path: Path, change: Callable[[dict[str, Any]], None], message: str) -> None:
    save_steps(tmp_path, 1)
    reseal(tmp_path / "step-00000001", change)
    with pytest.raises(RuntimeError, match=message):
        Run(tmp_path).checkpoint.restore()


@pytest.mark.parametrize("text", ["", "[", "[]", "3", "[" * 100000, "9" * 5000, '{"a":NaN}', "\ud800"])
def test_manifests_that_are_none(text: str) -> None:
    with pytest.raises(DamagedFileError):
        parse(text, 1)


def test_deep_nesting_is_refused(tmp_path: Path) -> None:
    save_steps(tmp_path, 1)
    nested: Any = []
    for _ in range(500):
        nested = [nested]
    reseal(tmp_path / "step-00000001", lambda content: content["objects"]["loader"].update(state=nested))
    with pytest.raises(RuntimeError, match="nested deeper than 100 levels"):
        Run(tmp_path).checkpoint.restore()


# --- checkpoints of something else


def other(**changes: Any) -> dict[str, Any]:
    objects = {"model": Module(), "optimizer": Optimizer(), "loader": Loader(), "notes": {"seen": []}, **changes}
    return {name: target for name, target in objects.items() if target is not None}


class OtherOptimizer(Optimizer):
    pass


class Refusing(Optimizer):
    def load_shard(self, parts: list[dict[str, Any]], extra: dict[str, Any], read: Any) -> None:
        raise ValueError(f"trained with micro_batches={extra['micro_batches']}")


Refusing.__name__ = "Optimizer"


@pytest.mark.parametrize(
    ("objects", "message"),
    [
        (other(model=Module({**SHAPES, "0.bias": (6,)})),
         r"model: '0.bias' is float32 of shape \(5,\) in the checkpoint and float32 of shape \(6,\) here"),
        (other(model=Module(dtype="float64")), "model: '0.weight' is float32 .* and float64 of"),
        (other(model=Module({**SHAPES, "3.bias": (6,)})), "'3.bias' is missing in the checkpoint"),
        (other(model=Module({"0.weight": (3, 5)})), r"'0.bias' is float32 of shape \(5,\) .* and missing here"),
        (other(model=Module({})), "'0.weight' is float32 .* and missing here"),
        (other(optimizer=Optimizer(prefix="module.")),
             "optimizer: parameter 0 is 'float32', float32 of shape .* and 'module.float32', float32"),
        (other(optimizer=Optimizer(names=("momentum",))), r"state vectors \['exp_avg', 'exp_avg_sq'\] .* \['momentum'\] here"),
        (other(optimizer=OtherOptimizer()), "optimizer is of class Optimizer in the checkpoint and of class OtherOptimizer"),
        (other(loader=None), "it holds 'loader', which was not given to Checkpoint"),
        (other(scheduler=Loader()), "it does not hold 'scheduler', only model, optimizer, loader, notes"),
        (other(optimizer=Module()), "'optimizer' was saved as another kind of object than Module"),
        (other(model=Optimizer()), "'model' was saved as another kind of object than Optimizer"),
        (other(optimizer=Refusing()), "could not be loaded: rank 0: trained with micro_batches=12"),
        (other(notes=[1]), "notes is a dict in the checkpoint and a list here"),
        (other(loader=Loader(1, refuse=True)), "could not be loaded: rank 0: the data set has another length"),
    ],
)  # fmt: skip
def test_a_foreign_checkpoint_changes_nothing(tmp_path: Path, objects: dict[str, Any], message: str) -> None:
    save_steps(tmp_path, 3)
    with pytest.raises(ValueError, match=message):
        Checkpoint(tmp_path, **objects).restore()
    for target in objects.values():
        if isinstance(target, Module):
            assert all(np.all(array == 0) for array in target.tensors.values())
        if isinstance(target, Optimizer):
            assert target.steps == 0
        if isinstance(target, Loader):
            assert target.position in (0, 1)
    assert objects["notes"] in ({"seen": []}, [1])


def test_a_foreign_checkpoint_is_refused_on_every_rank(tmp_path: Path) -> None:
    save_steps(tmp_path, 3, size=2)

    def work(comm: Any) -> int | None:
        checkpoint = Checkpoint(tmp_path, **other(optimizer=Optimizer(comm.rank, comm.size), model=Module({"x": ()})))
        checkpoint._comm = comm
        return checkpoint.restore()

    errors = on_ranks(3, work)
    assert [type(error) for error in errors] == [ValueError] * 3
    assert len({str(error) for error in errors}) == 1


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({}, ValueError, "nothing to save"),
        ({"model": Module(), "keep": 0}, ValueError, "keep=0"),
        ({"../x": Module()}, ValueError, "'../x' cannot be the name of a file"),
        ({"model": None}, TypeError, "model is a NoneType, which Checkpoint cannot save"),
        ({"model": np.zeros(3)}, TypeError, "model is a ndarray"),
    ],
)
def test_wrong_arguments(tmp_path: Path, arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Checkpoint(tmp_path, **arguments)


def test_values_that_are_no_data(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"rank 0: notes\['f'\]\[1\] is a function; .*code is never stored"):
        Checkpoint(tmp_path, notes={"f": [1, lambda: 0]}).save()
    assert os.listdir(tmp_path) == []


def test_too_many_plain_values(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("dist_train.checkpoint.manifest.MAX_BYTES", 2000)
    with pytest.raises(ValueError, match=r"rank 0: the plain values take .* store large lists of numbers as arrays"):
        Checkpoint(tmp_path, notes={"losses": [0.5] * 1000}).save()
    Checkpoint(tmp_path, notes={"losses": np.full(1000, 0.5)}).save()


def test_another_number_of_blas_threads_warns(tmp_path: Path) -> None:
    save_steps(tmp_path, 3)

    def work(comm: Any) -> int | None:
        comm.threads += 1
        return Run(tmp_path, comm).checkpoint.restore()

    with pytest.warns(CheckpointWarning, match="BLAS threads per rank, this run has"):
        assert on_ranks(2, work) == [3, 3]


# --- the directory


def test_keeps_the_newest(tmp_path: Path) -> None:
    save_steps(tmp_path, 1, 2, 3, 4, 5, keep=2)
    assert sorted(os.listdir(tmp_path)) == ["step-00000004", "step-00000005"]
    save_steps(tmp_path / "all", 1, 2, 3, 4, 5, keep=None)
    assert len(os.listdir(tmp_path / "all")) == 5


def test_an_equal_step_is_replaced(tmp_path: Path) -> None:
    save_steps(tmp_path, 4)
    run = Run(tmp_path)
    run.checkpoint.restore()
    run.notes["seen"].append("again")
    run.checkpoint.save()
    again = Run(tmp_path)
    assert again.checkpoint.restore() == 4
    assert again.notes == {"seen": [4, "again"]}
    assert os.listdir(tmp_path) == ["step-00000004"]


def test_a_crash_while_an_equal_step_is_replaced(tmp_path: Path) -> None:
    save_steps(tmp_path, 3, 4)
    (tmp_path / "step-00000004").rename(tmp_path / "step-00000004.replaced")
    run = Run(tmp_path)
    assert run.checkpoint.restore() == 4
    run.checkpoint.save()
    assert sorted(os.listdir(tmp_path)) == ["step-00000003", "step-00000004"]


def test_a_later_step_of_another_run_is_an_error(tmp_path: Path) -> None:
    save_steps(tmp_path, 5)
    with pytest.raises(ValueError, match=r"holds step 5, later than the step 2 .* call restore\(\)"):
        Run(tmp_path).train(2).checkpoint.save()
    assert Run(tmp_path).checkpoint.steps() == [5]


def test_other_names_in_the_directory_are_left_alone(tmp_path: Path) -> None:
    others = ["step-1", "step-00000001.bak", "step-000000002", ".step-00000001.tmp", "notes.txt"]
    for name in others:
        (tmp_path / name).mkdir(parents=True)
    save_steps(tmp_path, 1, 2, keep=1)
    assert sorted(os.listdir(tmp_path)) == sorted([*others, "step-00000002"])


def test_what_dead_saves_left_is_removed_and_what_others_write_is_not(tmp_path: Path) -> None:
    dead = tmp_path / ".step-00000009.0123abcd.tmp"
    dead.mkdir()
    (dead / "model.safetensors").write_bytes(b"half")
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    command = [sys.executable, str(PROGRAM), "slow_save", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as other_job:
        try:
            assert other_job.stdout is not None
            other_job.stdout.readline()
            save_steps(tmp_path, 1)
            names = os.listdir(tmp_path)
        finally:
            other_job.kill()
    assert dead.name not in names
    assert len([name for name in names if name.startswith(".step-00000009.")]) == 1
    save_steps(tmp_path, 1)
    assert os.listdir(tmp_path) == ["step-00000001"]


def test_ranks_at_different_steps(tmp_path: Path) -> None:
    errors = on_ranks(2, lambda comm: Run(tmp_path, comm).train(4 + comm.rank).checkpoint.save())
    assert all("4 steps on rank 0 and 5 on rank 1" in str(error) for error in errors), errors


# --- saves that fail


@pytest.mark.parametrize("wait", [True, False])
@pytest.mark.parametrize(("name", "rank"), [("model.safetensors", 0), ("optimizer-0002-of-0003.safetensors", 2), ("manifest.json", 0)])
def test_a_failure_on_one_rank_is_everyones(tmp_path: Path, monkeypatch: Any, name: str, rank: int, wait: bool) -> None:
    def full(path: Path, *arguments: Any) -> Any:
        if path.name == name:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        return write_new(path, *arguments)

    def work(comm: Any) -> None:
        run = Run(tmp_path, comm).train(2)
        run.checkpoint.save(wait)
        run.checkpoint.wait()

    save_steps(tmp_path, 1, size=3)
    monkeypatch.setattr(saving, "write_new", full)
    errors = on_ranks(3, work)
    message = f"[Errno 28] the checkpoint of step 2 was not saved (those before are untouched): rank {rank}: No space"
    assert all(type(error) is OSError and str(error).startswith(message) for error in errors), errors
    assert all(name in str(error) for error in errors)
    assert os.listdir(tmp_path) == ["step-00000001"]


def test_a_failure_to_delete_is_a_warning(tmp_path: Path, monkeypatch: Any) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    save_steps(tmp_path, 1)
    monkeypatch.setattr("dist_train.checkpoint.directory.remove", refuse)
    run = Run(tmp_path, keep=1)
    with pytest.warns(CheckpointWarning, match="step 2 is saved, but an older one could not be deleted"):
        run.train(2).checkpoint.save()
    assert run.checkpoint.steps() == [2]


def test_a_file_in_the_place_of_the_directory(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("")
    with pytest.raises(NotADirectoryError, match="cannot be read: rank 0: Not a directory"):
        Run(path).checkpoint.restore()
    with pytest.raises(OSError, match="no checkpoint was saved: rank 0: "):
        Run(path).train(1).checkpoint.save()


def test_no_permission(tmp_path: Path) -> None:
    save_steps(tmp_path, 1)
    tmp_path.chmod(0o000)
    try:
        result = run_program("no_permission", tmp_path)
    finally:
        tmp_path.chmod(0o700)
    assert "the checkpoints in " in result.stdout, result.stderr
    assert "cannot be read: rank 0: Permission denied" in result.stdout
    assert "no checkpoint was saved: rank 0: Permission denied" in result.stdout


# --- in the background


def test_the_background_writes_the_state_of_the_call(tmp_path: Path) -> None:
    def work(comm: Any) -> None:
        run = Run(tmp_path, comm)
        for _ in range(4):
            run.train(1).checkpoint.save(wait=False)
            run.train(0).model.fill(-5)
        run.checkpoint.wait()
        run.checkpoint.wait()

    assert on_ranks(2, work) == [None, None]
    run = Run(tmp_path)
    assert run.checkpoint.restore() == 4
    assert run.is_at(4)
    assert run.checkpoint.steps() == [2, 3, 4]


def test_restore_waits_for_the_background(tmp_path: Path) -> None:
    run = Run(tmp_path).train(3)
    run.checkpoint.save(wait=False)
    run.model.fill(0)
    assert run.checkpoint.restore() == 3
    assert run.is_at(3)


@pytest.mark.parametrize("action", ["save", "restore", "wait"])
def test_an_error_in_the_background_is_raised_once(tmp_path: Path, monkeypatch: Any, action: str) -> None:
    def full(path: Path, chunks: Any) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    run = Run(tmp_path).train(1)
    monkeypatch.setattr(saving, "write_new", full)
    run.checkpoint.save(wait=False)
    with pytest.raises(OSError, match="step 1 was not saved"):
        getattr(run.checkpoint, action)()
    run.checkpoint.wait()


def test_the_end_of_the_program_waits_for_the_background(tmp_path: Path) -> None:
    result = run_program("save_twice", tmp_path, "background")
    assert result.returncode == 0, result.stderr
    result = run_program("expect_step", tmp_path, 2)
    assert result.returncode == 0, result.stderr


def test_an_error_at_the_end_of_the_program_is_not_lost(tmp_path: Path) -> None:
    result = run_program("fail_at_exit", tmp_path)
    assert result.returncode == 1
    assert "OSError: [Errno 27] the checkpoint of step 1 was not saved" in result.stderr
    assert os.listdir(tmp_path) == []


# --- real processes: kills, a full disk, MPI


def test_kills_at_any_moment_leave_a_whole_checkpoint(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    command = [sys.executable, str(PROGRAM), "save_for_ever", str(tmp_path)]
    chance, last = random.Random(1), -1
    for _ in range(24):
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as process:
            assert process.stdout is not None and process.stderr is not None
            line = process.stdout.readline().split()
            time.sleep(chance.uniform(0, 0.05))
            process.send_signal(signal.SIGKILL)
            errors = process.stderr.read().decode()
        assert line[:1] == [b"restored"], errors
        assert int(line[1]) >= last
        last = int(line[1])
    assert last > 0
    result = run_program("expect_step", tmp_path, max(find_steps(tmp_path)))
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("wait", ["wait", "background"])
def test_a_full_disk_leaves_the_checkpoint_before(tmp_path: Path, wait: str) -> None:
    result = run_program("full_disk", tmp_path, wait)
    assert result.returncode == 0, result.stderr
    assert "[Errno 27] the checkpoint of step 2 was not saved" in result.stdout
    result = run_program("expect_step", tmp_path, 1)
    assert result.returncode == 0, result.stderr


def mpi_command(size: int, *arguments: Any) -> dict[str, Any]:
    """Arguments of subprocess.run for a program on `size` ranks, under MPICH or Open MPI."""
    pytest.importorskip("mpi4py")
    launcher = Path(sys.executable).with_name("mpiexec")
    command = str(launcher) if launcher.exists() else shutil.which("mpiexec")
    if command is None:
        pytest.skip("no mpiexec")
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(__file__).parents[1]),
        "OPENBLAS_NUM_THREADS": "1",
        "OMPI_ALLOW_RUN_AS_ROOT": "1",
        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
        "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
    }
    args = [command, "-n", str(size), sys.executable, str(PROGRAM), *map(str, arguments)]
    return {"args": args, "env": environment, "text": True}


def mpiexec(size: int, *arguments: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(**mpi_command(size, *arguments), capture_output=True, timeout=100)


def test_kills_of_a_rank_leave_a_whole_checkpoint_for_other_numbers_of_ranks(tmp_path: Path) -> None:
    chance = random.Random(2)
    for size in (2, 3, 1, 3, 2):
        with subprocess.Popen(**mpi_command(size, "save_for_ever", tmp_path), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as job:
            assert job.stdout is not None and job.stderr is not None
            lines = [job.stdout.readline().split() for _ in range(size)]
            if all(line[:1] == ["restored"] for line in lines):
                time.sleep(chance.uniform(0, 0.1))
                os.kill(int(chance.choice(lines)[3]), signal.SIGKILL)
            errors = job.communicate(timeout=60)[1]
        assert all(line[:1] == ["restored"] for line in lines), errors
    result = run_program("expect_step", tmp_path, max(find_steps(tmp_path)))
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(("wait", "writers", "readers"), [("wait", 3, 2), ("background", 2, 3), ("wait", 1, 4)])
def test_over_mpi(tmp_path: Path, wait: str, writers: int, readers: int) -> None:
    result = mpiexec(writers, "save_twice", tmp_path, wait)
    assert result.returncode == 0, result.stderr
    result = mpiexec(readers, "expect_step", tmp_path, 2)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("wait", ["wait", "background"])
def test_a_full_disk_on_one_rank_over_mpi(tmp_path: Path, wait: str) -> None:
    result = mpiexec(3, "full_disk", tmp_path, wait)
    assert result.returncode == 0, result.stderr
    for rank in range(3):
        assert f"rank {rank} got [Errno 27] the checkpoint of step 2 was not saved" in result.stdout
    assert result.stdout.count("rank 2: File too large") == 3


def test_an_error_at_the_end_over_mpi(tmp_path: Path) -> None:
    result = mpiexec(2, "fail_at_exit", tmp_path)
    assert result.returncode != 0
    assert "the checkpoint of step 1 was not saved" in result.stderr


# --- re-slicing


def test_any_range_of_any_cut(tmp_path: Path) -> None:
    whole = np.arange(20, dtype=np.float32)
    cuts = [0, 0, 3, 3, 11, 20]
    ranges = list(itertools.pairwise(cuts))
    for number, (start, stop) in enumerate(ranges):
        write(tmp_path / f"{number}", {"0.m": whole[start:stop]})
    part = Part("float32", 20, [], ["m"])
    vectors = SavedVectors(tmp_path, Shards("Adam", {}, [part], [Slice(f"{n}", [list(r)]) for n, r in enumerate(ranges)]))
    for start in range(21):
        for stop in range(start, 21):
            piece = vectors.read(0, "m", start, stop)
            assert piece.dtype == np.float32
            assert np.array_equal(piece, whole[start:stop])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((1, "m", 0, 1), "part 1 of 1"), ((0, "x", 0, 1), "no saved vector 'x'"), ((0, "m", 2, 5), "range 2 … 5 of the 4")],
)
def test_ranges_that_were_not_saved(tmp_path: Path, arguments: tuple[Any, ...], message: str) -> None:
    entry = Shards("Adam", {}, [Part("float32", 4, [], ["m"])], [Slice("f", [[0, 4]])])
    with pytest.raises(ValueError, match=message):
        SavedVectors(tmp_path, entry).read(*arguments)


def test_only_the_bytes_of_the_range_are_read(tmp_path: Path, monkeypatch: Any) -> None:
    write(tmp_path / "f", {"0.m": np.zeros(1_000_000, np.float32)})
    sizes: list[int] = []
    original = tensor_file._read_exactly

    def counted(file: Any, buffer: Any, name: str) -> Any:
        sizes.append(len(memoryview(buffer)))
        return original(file, buffer, name)

    monkeypatch.setattr(tensor_file, "_read_exactly", counted)
    entry = Shards("Adam", {}, [Part("float32", 1_000_000, [], ["m"])], [Slice("f", [[0, 1_000_000]])])
    SavedVectors(tmp_path, entry).read(0, "m", 500, 600)
    assert sum(sizes) < 1000


def write(path: Path, arrays: dict[str, Any]) -> None:
    write_new(path, tensor_file.stream(arrays, {}))
