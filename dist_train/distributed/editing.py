"""Changing parameters by hand after `distribute`: each rank edits a private copy, and equal copies are published."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np

from .. import random
from ..autograd.tensor import Parameter
from ..comm.base import Communicator
from ..nn.module import Module
from .drift import checksum
from .flat import Entry, FlatVector


class ParameterEditor:
    """The part of a parameters' owner that lets them be changed from outside."""

    comm: Communicator
    flats: list[FlatVector]
    _editing: bool = False
    _edits: int = 0  # edits made, the same number on all ranks

    @contextmanager
    def edit_all(self) -> Iterator[None]:
        """Inside, all parameters are private copies."""
        with self._edit([(flat, entry) for flat in self.flats for entry in flat.entries]):
            yield

    @contextmanager
    def edit_one(self, parameter: Parameter) -> Iterator[None]:
        """Inside, one parameter is a private copy."""
        if self._editing:
            yield
            return
        found = [(flat, entry) for flat in self.flats for entry in flat.entries if entry.parameter is parameter]
        with self._edit(found):
            yield

    @contextmanager
    def _edit(self, entries: Sequence[tuple[FlatVector, Entry]]) -> Iterator[None]:
        self._editing = True
        self._edits += 1
        generator = random.Generator().manual_seed(random.initial_seed()).rekey("edit", self._edits)
        for _, entry in entries:
            entry.parameter.array = entry.parameter.array.copy()
        try:
            with random.drawing_from(generator):
                yield
            self._check_equal(entries)
            for flat, entry in entries:
                flat.region(flat.parameters, entry)[...] = entry.parameter.array  # every rank of the node writes the same
            for flat in dict.fromkeys(flat for flat, _ in entries):
                flat.layout.node.barrier()
        finally:
            self._editing = False
            for flat, entry in entries:
                flat.home(entry)
        for flat in dict.fromkeys(flat for flat, _ in entries):
            flat.changed()

    def _check_equal(self, entries: Sequence[tuple[FlatVector, Entry]]) -> None:
        sums = self.comm.all_gather(np.array([checksum(entry.parameter.array) for _, entry in entries], np.int64))
        different = np.flatnonzero((sums != sums[0]).any(axis=0))
        if len(different):
            entry = entries[different[0]][1]
            ranks = np.flatnonzero(sums[:, different[0]] != sums[0, different[0]]).tolist()
            raise RuntimeError(
                f"the edits of {entry.name!r} differ: rank(s) {ranks} made another change than rank 0; nothing was changed. "
                "Every rank must make the same edit (draw random numbers from dist_train, seeded alike)"
            )


@contextmanager
def edit(model: Module) -> Iterator[None]:
    """Inside, the parameters of `model` may be changed in place, by the same edit on every rank.

        with dist_train.distributed.edit(model):
            model.fc.weight.data.mul_(0.5)

    Random numbers drawn inside are the same on every rank. On leaving, the edits are compared over the ranks and published; RuntimeError
    when they differ, and nothing is changed.
    """
    owners: dict[Any, None] = dict.fromkeys(p._owner for p in model.parameters() if p._owner is not None)
    with ExitStack() as stack:
        for owner in owners:
            stack.enter_context(owner.edit_all())
        yield
