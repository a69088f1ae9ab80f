"""The distributed side of an optimizer: fold the micro-batches' gradients, update one slice, publish it.

A step in three phases: `_end_micro_batch` (the local fold), `_reduce` (partial sums to the slices' owners, and one small message with what
every rank must know), `_apply` (mean, clipping, the optimizer's rule on this rank's slice, gather of the slices).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from .. import random
from ..autograd.tensor import Parameter, Tensor
from ..backend.device import array_module, is_device_array
from ..comm.base import Communicator
from ..comm.worker import Worker
from ..optim import parts as parts_
from ..optim.driver import ParameterState
from ..optim.optimizer import Optimizer
from .accumulation import StepAccumulation
from .buckets import bucket_bytes, buffer_bytes, cut
from .drift import check_parameters, check_settings
from .editing import ParameterEditor
from .flat import FlatVector, Named, by_type, node_layout
from .overlap import Overlap
from .record import RecordExchange
from .reduced import ReducedGradient
from .reduction import SliceReduction
from .schedule import FreeRunning, MicroBatch, Schedule
from .slice_state import Clock, Segment, SliceState
from .statistics import RunningStatistics

Array = Any
_NOTHING = np.zeros(0)
DRIFT_INTERVAL = 1000  # steps between two comparisons of the ranks' parameters


class ShardedDriver(ParameterEditor):
    """What an optimizer's driver is after `distribute`: see `optim.driver.Driver` for the interface.

    `loss` is the exact mean (or sum) of the step's losses; it is the same on every rank, as is all that decides what a step does.
    """

    def __init__(
        self,
        number: int,
        optimizer: Optimizer,
        named: Sequence[tuple[int, str, Parameter]],
        comm: Communicator,
        schedule: Schedule,
        *,
        reduction: str,
        nonfinite: str,
        statistics: RunningStatistics | None = None,
    ) -> None:
        self.number, self.optimizer, self.comm, self.schedule = number, optimizer, comm, schedule
        self.mean, self.nonfinite, self.statistics = reduction == "mean", nonfinite, statistics
        self.free_running: FreeRunning | None = None
        self.followers: list[ShardedDriver] = []  # earlier optimizers of the loop, which publish with this one
        self.deferred = False  # whether another one publishes this one's update
        micro_batches, groups = schedule.micro_batches, by_type(named)
        self._layout = node_layout(groups, comm, micro_batches)
        self._worker = self._make_worker(groups)
        self.overlaps = self._worker.concurrent
        buckets = cut(groups, bucket_bytes(comm.link(self._layout))) if self.overlaps else groups
        self.flats = [FlatVector(bucket, comm, micro_batches, self._layout) for bucket in buckets]
        self.states = [SliceState(flat, optimizer) for flat in self.flats]
        self.entries = sorted((entry for flat in self.flats for entry in flat.entries), key=lambda entry: entry.index)
        self._step_counts = np.zeros(len(self.entries), np.int64)  # of before the clocks were made
        self.step_complete = False
        self.skipped = 0
        self.loss: float | None = None
        self._records = RecordExchange(comm, micro_batches, self.flats, 2 + (0 if statistics is None else statistics.size))
        lane = self._worker.layout.lane
        self._reductions = [
            SliceReduction(flat, comm, micro_batches, lane, buffer_bytes(), squares)
            for flat, squares in zip(self.flats, self._records.squares)
        ]
        self._overlap = Overlap(self.flats, self._launch)
        self._sum = StepAccumulation(self.flats, len(self.entries), schedule.share, micro_batches, self._records.partials)
        self._reduced: ReducedGradient | None = None  # after the rank's last backward of the step
        self._present = bytearray(b"\1" * len(self.entries))  # parameters that some rank had a gradient of in the last step
        self._clocks: list[Clock] = []
        self._plans: list[list[Segment]] | None = None
        self._ended: MicroBatch | None = None  # the last micro-batch that ended
        self._slices = [flat.own_gradient() for flat in self.flats]
        self._own = [flat.own() for flat in self.flats]  # where updates are made: this rank's slices, or copies of them
        self._updated = False  # whether there are updates to be published
        for entry in self.entries:
            entry.parameter._owner = entry.parameter._listener = self

    def _make_worker(self, groups: Sequence[Named]) -> Worker:
        on_host = not is_device_array(groups[0][0][2].array)
        return self.comm.worker(self._layout) if on_host else Worker(self._layout)

    def _begin_step(self) -> None:
        self._sum.reset()
        self._overlap.reset()
        self._reduced = None

    def defer(self) -> None:
        """Leave it to another driver to publish the updates."""
        self.deferred = True
        self._own = [flat.own().copy() for flat in self.flats]

    # the interface of the optimizer

    def step(self) -> bool:
        """End the micro-batch; after the rank's last one, complete the step together with all ranks."""
        stepped = self.step_complete = False
        micro_batch = self._current()
        if self._reduced is None:
            self._end_micro_batch(micro_batch)
        if micro_batch.last:
            try:
                stepped = self._apply(self._reduced or self._reduce())
            finally:
                self._begin_step()
            self.step_complete = True
            if not self.deferred:
                self.publish()
            self._layout.node.barrier()
        if self.free_running is not None:
            self.free_running.advance()
        return stepped

    def zero_grad(self, set_to_none: bool) -> None:
        """Drop the gradients of the current micro-batch; those of earlier ones are in the fold already."""
        self.gradients_dropped()
        counts = None if set_to_none else self.step_counts
        for entry in self.entries:
            parameter = entry.parameter
            had_gradient = counts is not None and (parameter.grad is not None or counts[entry.index] > 0)
            parameter.grad = None
            if had_gradient:
                parameter._grad_buffer.array[...] = 0
                parameter.grad = parameter._grad_buffer

    def backward_done(self, loss: Array | None) -> None:
        """The engine's notice that a backward pass wrote gradients here."""
        if self._reduced is not None:
            raise RuntimeError("backward() between clip_grad_norm_() and optimizer.step(): the step's gradient is reduced already")
        if self.schedule.current is not self._ended:
            self._overlap.backward_done()
        if loss is not None:
            self._sum.losses.append(loss)

    def gradient_final(self, leaf: Any) -> None:
        """The engine's notice that a gradient is what it will be after this backward pass."""
        if self._reduced is None:
            now = self.schedule.current
            last = now is not None and now is not self._ended and now.index == self.schedule.share[1] - 1 and not now.ghost
            self._overlap.gradient_final(leaf, last)

    def gradients_dropped(self) -> None:
        """The current micro-batch's gradients have been set to None or zero: its losses so far do not count."""
        if self._reduced is None:
            self._overlap.refuse("zero_grad()")
            self._sum.losses.clear()

    def group_added(self, group: dict[str, Any]) -> None:
        raise RuntimeError("add parameter groups before dist_train.distribute, which lays all parameters out in memory")

    def _current(self) -> MicroBatch:
        micro_batch = self.schedule.current
        if micro_batch is None:
            raise RuntimeError("optimizer.step() outside the loop over the loader that dist_train.distribute returned")
        if micro_batch is self._ended and self._reduced is None and self.schedule.micro_batches > 1:
            raise RuntimeError(
                f"a second optimizer.step() in micro-batch {micro_batch.index} of {self.schedule.micro_batches}: under "
                "dist_train.distribute a micro-batch ends with its step()"
            )
        return micro_batch

    # a micro-batch ends

    def _end_micro_batch(self, micro_batch: MicroBatch) -> None:
        """Move the current gradients, times the micro-batch's weight, into the fold; those of a ghost are dropped."""
        self._check_none_left_out(micro_batch)
        self._check_gradients_under_way()
        self._overlap.micro_batch_done()
        self._ended = micro_batch
        changes = _NOTHING if self.statistics is None else self.statistics.changes()
        if micro_batch.ghost:
            self._sum.settle()
        else:
            self._sum.add(micro_batch.index, micro_batch.weight, micro_batch.weight if self.mean else 1.0, changes)
        if micro_batch.last:
            self._sum.finish()

    def _check_none_left_out(self, micro_batch: MicroBatch) -> None:
        left_out = self.schedule.begun - 1 - self._sum.added
        if left_out:
            raise RuntimeError(
                f"{left_out} of the {self.schedule.begun - 1} micro-batches of this step before number {micro_batch.index} had no "
                "optimizer.step(): under dist_train.distribute every micro-batch ends with its step(). To leave one out give it the "
                'weight 0 (weight=...); nonfinite="skip" leaves out steps that are not finite'
            )

    def _check_gradients_under_way(self) -> None:
        if self._overlap.under_way and any(flat.has_gradients() for flat in self.flats[self._overlap.waiting :]):
            self._overlap.refuse("a gradient set by hand")

    def begin(self, first: bool) -> None:
        """A micro-batch begins. A step that was clipped and then not made is dropped; one that lacks micro-batches is an error."""
        if first and self._sum.added and self._reduced is None:
            raise RuntimeError(
                f"the step's last micro-batch on this rank, after {self._sum.added} others, had no optimizer.step(): under "
                "dist_train.distribute every micro-batch ends with its step(). To leave one out give it the weight 0 (weight=...)"
            )
        if first:
            self.leave()
        self._overlap.begin()

    def leave(self) -> None:
        """Drop what has been added up of a step."""
        if self._overlap.under_way and self._reduced is None:
            self._overlap.launch_rest()  # other ranks wait for all of it
            self._worker.submit(self._worker.layout.node.barrier)  # and may still write to this one's vectors
            self._worker.wait()
        if self._sum.added or self._overlap.under_way or self._reduced is not None:
            self._begin_step()

    # all ranks together

    def _reduce(self) -> ReducedGradient:
        """Bring each slice's gradient to its owner, and what all must know to all."""
        self._overlap.launch_rest()
        self._worker.wait()
        news = self._sum.written != self._present
        record = self._records.gather((self.number, self.optimizer.steps + self.skipped, self.schedule.steps, news))
        if record.news:
            self._present[:] = self.comm.all_gather(np.frombuffer(self._sum.written, bool)).any(axis=0).tobytes()
            self._plans = None
        self._reduced = ReducedGradient(self.flats, self.comm, self._slices, record, record.weight if self.mean else 1.0)
        return self._reduced

    def _launch(self, number: int) -> None:
        """Reduce flat vector `number`, in its turn. While backward still runs, that of the rank's last micro-batch is complete there."""
        micro_batch = self.schedule.current
        if micro_batch is not None and micro_batch is not self._ended:
            self._sum.close(number, micro_batch.index, micro_batch.weight)
        self._worker.submit(partial(self._reduce_one, number))

    def _reduce_one(self, number: int) -> None:
        node = self._worker.layout.node
        node.barrier()
        self._reductions[number].reduce(self._records.weights() if self.mean else [1.0] * node.size)

    def _apply(self, gradient: ReducedGradient) -> bool:
        """Update this rank's slice; False when the step is left out."""
        record = gradient.record
        if record.weight <= 0:
            raise RuntimeError(
                f"the weights of the step's {self.schedule.micro_batches} micro-batches add up to {record.weight}: at least one needs "
                "a positive weight (weight=... of dist_train.distribute)"
            )
        if self.optimizer.steps % DRIFT_INTERVAL == DRIFT_INTERVAL - 1:
            self.check_drift()  # of what the steps before published
        self.loss = record.weighted_loss / (record.weight if self.mean else 1.0)
        stepped = self._is_finite(gradient)
        if stepped:
            self._update(gradient.divisor)
        if self.statistics is not None:
            self.statistics.apply(record.changes / record.weight if stepped else np.zeros(self.statistics.size))
        return stepped

    def _is_finite(self, gradient: ReducedGradient) -> bool:
        """Where it is not, the step is left out, or all ranks raise, as the user chose."""
        names = gradient.nonfinite_parameters()
        if not names:
            return True
        if self.nonfinite == "skip":
            self.skipped += 1
            return False
        listed = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
        raise RuntimeError(
            f"the gradient of step {self.optimizer.steps + 1} is not finite (nan or inf) in {listed}; nothing was updated. Lower the "
            'learning rate, clip the gradient, or pass nonfinite="skip" to dist_train.distribute to leave such steps out'
        )

    def _update(self, divisor: float) -> None:
        """New values of this rank's slices, from the gradient divided by `divisor`; where publishing is deferred, in a copy."""
        if self._plans is None:
            self._clocks = self._make_clocks()
            self._plans = [state.plan(self._clocks, *vectors) for state, *vectors in zip(self.states, self._own, self._slices)]
        for number, (state, plan) in enumerate(zip(self.states, self._plans)):
            if self.deferred:
                self._own[number][...] = self.flats[number].own()
            state.update(plan, divisor)
            if not self.deferred:
                self._publish_one(number)
        for clock in self._clocks:
            clock.step = self.optimizer.next_step(clock.group, clock.step)
        self._updated = True

    def _make_clocks(self) -> list[Clock]:
        """Which parameters are updated together, until another set of them has gradients."""
        self._step_counts = counts = self.step_counts
        alike: dict[tuple[int, int], list[int]] = {}
        groups = self.states[0].groups
        for index, present in enumerate(self._present):
            if present:
                alike.setdefault((id(groups[index]), int(counts[index])), []).append(index)
        return [Clock(groups[indices[0]], np.array(indices), step) for (_, step), indices in alike.items()]

    @property
    def step_counts(self) -> np.ndarray[Any, Any]:
        """By index, how many updates each parameter has had."""
        counts = self._step_counts.copy()
        for clock in self._clocks:
            counts[clock.indices] = clock.step
        return counts

    def publish(self) -> None:
        """Make the updates of this optimizer, and of those that wait for it, everyone's parameters."""
        for driver in self.followers:
            driver.publish()
        if not self._updated:
            return
        if self.deferred:
            for number, flat in enumerate(self.flats):
                flat.own()[...] = self._own[number]
                self._publish_one(number)
        self._worker.wait()
        for flat in self.flats:
            flat.changed()
        self._updated = False

    def _publish_one(self, number: int) -> None:
        """Send this rank's slice of the new parameters to the other nodes, while the next one is updated."""
        self._worker.submit(partial(self._reductions[number].gather, self.flats[number].parameters))

    def complete(self) -> None:
        """Publish what waits for a step of this optimizer that did not come: before the next step, and when the loop ends."""
        if self.followers and any(driver._updated for driver in self.followers):
            self._layout.node.barrier()  # no rank of the node still computes with the old values
            self.publish()
            self._layout.node.barrier()

    # clipping, between backward and step

    def clip_grad_norm(self, parameters: Sequence[Tensor], max_norm: float, norm_type: float, error_if_nonfinite: bool) -> Tensor:
        """The norm of the step's mean gradient, on every rank; the gradient is scaled down to `max_norm` where it is larger.

        Before the rank's last micro-batch of the step the norm is not known: the result is nan and nothing happens.
        """
        first = self.flats[0]
        as_array = array_module(first.gradient).asarray  # on the gradient's device
        gradient = self._reduced_for_clipping(parameters)
        if gradient is None:
            return Tensor(as_array(math.nan, first.dtype))
        norm = gradient.norm(float(norm_type))
        if error_if_nonfinite and not math.isfinite(norm):
            raise RuntimeError(f"the total norm of order {norm_type} of the gradients is {norm}: it cannot be used for clipping")
        gradient.scale_down(norm, max_norm)
        return Tensor(as_array(norm, first.dtype))

    def clip_grad_value(self, parameters: Sequence[Tensor], clip_value: float) -> None:
        """Clamp the elements of the step's mean gradient; nothing before the rank's last micro-batch."""
        gradient = self._reduced_for_clipping(parameters)
        if gradient is not None:
            gradient.clamp(clip_value)

    def _reduced_for_clipping(self, parameters: Sequence[Tensor]) -> ReducedGradient | None:
        """The step's gradient, reduced after the rank's last backward; None before that."""
        given = {id(parameter) for parameter in parameters}
        left_out = [entry.name for entry in self.entries if entry.parameter.requires_grad and id(entry.parameter) not in given]
        if left_out:
            raise ValueError(
                f"clipping without {left_out[0]!r} ({len(left_out)} of the optimizer's {len(self.entries)} parameters left out): under "
                "dist_train.distribute the gradient is clipped as a whole; pass all parameters of the optimizer"
            )
        micro_batch = self._current()
        if micro_batch.last and self._reduced is None:
            self._end_micro_batch(micro_batch)
            self._reduce()
        return self._reduced

    # state, whole and in slices

    def state(self) -> dict[int, ParameterState]:
        """Per parameter index, the whole state. Collective: every rank gets all of it."""
        result: dict[int, ParameterState] = {}
        counts = self.step_counts.tolist()
        for flat, state in zip(self.flats, self.states):
            whole = state.gathered(self.comm)
            for entry in flat.entries:
                if counts[entry.index]:
                    vectors = {name: vector[entry.offset : entry.stop].copy() for name, vector in whole.items()}
                    result[entry.index] = ParameterState(counts[entry.index], vectors)
        return result

    def load_state(self, states: dict[int, ParameterState]) -> None:
        """Take this rank's slice out of a whole state."""
        counts = [states[i].step if i in states else 0 for i in range(len(self.entries))]
        self._load(counts, lambda index, name: states[index].vectors.get(name) if index in states else None)

    def _load(self, step_counts: list[int], values: Callable[[int, str], Any]) -> None:
        self._step_counts[:] = step_counts
        self._clocks, self._plans = [], None
        for state in self.states:
            state.fill(values)
        self._begin_step()

    def shard(self) -> dict[str, Any]:
        """What this rank contributes to a checkpoint; compares the ranks' parameters first."""
        self.publish()
        self._layout.node.barrier()
        self.check_drift()
        extra = {
            **parts_.extra(self.optimizer, self.step_counts.tolist()),
            "skipped": self.skipped,
            "micro_batches": self.schedule.micro_batches,
            "seed": random.initial_seed(),
            "random": random.get_rng_state(),
        }
        return {"parts": [state.shard() for state in self.states], "extra": extra}

    def load_shard(self, parts: list[dict[str, Any]], extra: dict[str, Any], read: parts_.Read) -> None:
        """Continue from a checkpoint written by any number of ranks, or by one process."""
        saved = extra.get("micro_batches", self.schedule.micro_batches)
        if saved != self.schedule.micro_batches:
            raise ValueError(
                f"the checkpoint was trained with micro_batches={saved}, this job has {self.schedule.micro_batches}: "
                f"pass micro_batches={saved} to dist_train.distribute for the same results"
            )
        parts_.check_tables(self.optimizer, parts)
        parts_.load_extra(self.optimizer, extra)
        self._load([int(n) for n in extra["step_counts"]], lambda index, name: parts_.read_parameter(parts, read, index, name))
        self.skipped = int(extra.get("skipped", 0))
        if "random" in extra:
            random.set_rng_state(extra["random"])
        if self.free_running is not None:
            self.free_running.restart(self.optimizer.steps + self.skipped)

    def check_drift(self) -> None:
        """RuntimeError when the ranks' parameters, hyper-parameters or running statistics are no longer the same."""
        check_settings(self.comm, self.optimizer, self.optimizer.steps)
        if self.statistics is not None:
            self.statistics.check_drift(self.comm)
        check_parameters(self.comm, [(flat.parameters, flat.entries) for flat in self.flats], self.optimizer.steps)
