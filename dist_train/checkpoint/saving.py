"""Writing one checkpoint, on all ranks together: each rank its files, rank 0 the manifest and the final name, last."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..comm.base import Communicator
from . import directory, manifest
from .agreement import on_all, on_root
from .files import FileRecord, write_new
from .manifest import Manifest, Shards, Slice, State
from .objects import Capture, Saved
from .tensor_file import stream


@dataclass
class Snapshot:
    """Everything this rank needs to write its share of a checkpoint, without looking at the live objects again."""

    captures: dict[str, Capture[Any]] = field(default_factory=dict)
    threads: int = 1

    def detach(self) -> None:
        """Copy the arrays, so that training may go on while they are written."""
        for capture in self.captures.values():
            capture.arrays = {name: np.array(array) for name, array in capture.arrays.items()}

    def optimizer_extra(self) -> dict[str, Any]:
        """The plain values of the first optimizer; empty if there is none."""
        extras = [capture.entry.extra for capture in self.captures.values() if isinstance(capture.entry, Shards)]
        return extras[0] if extras else {}

    def report(self) -> dict[str, Any]:
        """What the other ranks have to know: the steps of the first optimizer (None: there is none), and who holds what."""
        return {
            "steps": self.optimizer_extra().get("steps"),
            "ranges": {name: capture.ranges for name, capture in self.captures.items()},
        }

    def drop_what_others_write(self, reports: Sequence[dict[str, Any]], rank: int) -> None:
        """Leave the ranges to a lower rank that holds them too: all ranks have all of an optimizer that is not sharded."""
        for name, capture in self.captures.items():
            for number, (start, stop) in enumerate(capture.ranges):
                others = [report["ranges"][name][number] for report in reports[:rank]]
                if any(first <= start < stop <= last for first, last in others):
                    capture.drop(number)


def take_snapshot(snapshot: Snapshot, objects: Mapping[str, Saved[Any]], comm: Communicator) -> None:
    """Put the present state of the objects into `snapshot`; what all ranks have alike is given to the ranks in turn."""
    snapshot.threads = comm.threads
    writers = {name: number % comm.size for number, name in enumerate(objects)}
    # Optimizers first: they compare the ranks' parameters, which must not wait for a rank that has failed at something else.
    order = sorted(objects.values(), key=lambda saved: saved.entry_type is not Shards)
    captures = {saved.name: saved.capture(comm.rank, comm.size, writers[saved.name]) for saved in order}
    snapshot.captures = {name: captures[name] for name in objects}


def write(comm: Communicator, root: Path, step: int, snapshot: Snapshot, keep: int | None) -> list[str]:
    """Write and commit the checkpoint of `step`, then prune; returns warnings (on rank 0).

    Collective. If any rank fails, every rank raises the same error, and the checkpoints before stay as they were.
    """
    context = f"the checkpoint of step {step} was not saved (those before are untouched)"
    try:
        _write(comm, root, step, snapshot, context)
    except Exception:
        comm.barrier()  # until rank 0 has cleaned up
        raise
    return on_root(comm, lambda: _prune(root, step, keep), context)


def _write(comm: Communicator, root: Path, step: int, snapshot: Snapshot, context: str) -> None:
    with contextlib.ExitStack() as stack:
        make = directory.temporary_directory(root, step)
        temporary = Path(on_root(comm, lambda: str(stack.enter_context(make)), context))
        reports = on_all(comm, lambda: _write_files(temporary, snapshot), context)
        on_root(comm, lambda: _write_manifest(temporary, step, snapshot, reports), context)
        on_root(comm, lambda: directory.commit(temporary, step), context)


def _write_files(temporary: Path, snapshot: Snapshot) -> dict[str, Any]:
    files, slices = {}, {}
    for name, capture in snapshot.captures.items():
        if capture.file is not None:
            record = write_new(temporary / capture.file, stream(capture.arrays, {"format": "pt"}))
            files[capture.file] = asdict(record)
        if isinstance(capture.entry, Shards):
            vectors = [part.vectors for part in capture.entry.parts]
            slices[name] = {"file": capture.file, "ranges": capture.ranges, "vectors": vectors}
    return {"files": files, "slices": slices}


def _write_manifest(temporary: Path, step: int, snapshot: Snapshot, reports: list[dict[str, Any]]) -> None:
    extra = snapshot.optimizer_extra()
    content = Manifest(
        step=step,
        ranks=len(reports),
        threads=snapshot.threads,
        micro_batches=extra.get("micro_batches"),
        seed=extra.get("seed"),
        objects={name: _entry(name, capture.entry, reports) for name, capture in snapshot.captures.items()},
        files={name: FileRecord(**record) for report in reports for name, record in report["files"].items()},
    )
    text = content.to_text()
    manifest.parse(text, step)  # what we could not read again must not take the place of an older checkpoint
    write_new(temporary / manifest.NAME, [text.encode()])


def _entry(name: str, entry: State | Shards, reports: list[dict[str, Any]]) -> State | Shards:
    if isinstance(entry, State):
        return entry
    slices = [report["slices"][name] for report in reports]
    parts = [replace(part, vectors=_common_vectors(name, number, slices)) for number, part in enumerate(entry.parts)]
    return Shards(entry.class_name, entry.extra, parts, [Slice(piece["file"], piece["ranges"]) for piece in slices])


def _common_vectors(name: str, number: int, slices: list[dict[str, Any]]) -> list[str]:
    """The state vectors of a part: those of every rank which holds a piece of it."""
    found = [piece["vectors"][number] for piece in slices if piece["ranges"][number][0] < piece["ranges"][number][1]]
    if any(sorted(vectors) != sorted(found[0]) for vectors in found):
        raise ValueError(f"{name}: the ranks hold different state vectors of part {number}: {found}")
    return list(found[0]) if found else []


def _prune(root: Path, step: int, keep: int | None) -> list[str]:
    try:
        directory.prune(root, step, keep)
    except OSError as error:
        return [f"the checkpoint of step {step} is saved, but an older one could not be deleted: {error}"]
    return []
