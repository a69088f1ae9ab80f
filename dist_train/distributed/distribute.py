"""`distribute`: the one line that makes a training loop run on any number of ranks."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .. import comm as comm_
from .. import random
from ..autograd.tensor import Parameter
from ..backend import native
from ..comm.base import Communicator
from ..nn.module import Module
from ..optim.optimizer import Optimizer
from ..utils.data.loader import DataLoader
from .drift import settings
from .loader import StepLoader
from .schedule import FreeRunning, Schedule
from .sharded import ShardedDriver
from .statistics import RunningStatistics


def distribute(
    model: Any,
    optimizer: Any,
    loader: DataLoader | None = None,
    *,
    micro_batches: int | None = None,
    reduction: str = "mean",
    weight: Callable[[Any], float] | None = None,
    nonfinite: str = "error",
) -> tuple[Any, Any, Any]:
    """Spread training over the ranks of this job (one rank when there is no launcher): returns (model, optimizer, loader).

    model, optimizer: a Module and its Optimizer, or lists of them that share the loader. They stay the same objects: parameters become
        read-only views of one flat vector (see `distributed.edit`), and each rank keeps optimizer state for its slice only. List several
        optimizers in the order in which the loop steps them. With V > 1 their updates take effect together, when the last one of the
        list steps: every micro-batch of a step must see the same parameters, whichever rank runs it.
    loader: a DataLoader whose batch_size is the *global* batch. The returned loader yields this rank's micro-batches. Without one, every
        rank calls backward and step once per micro-batch of its share.
    micro_batches: V, the number of pieces a step is cut into and the largest number of ranks; default: the number of ranks. Results are
        bit-identical for any number of ranks up to V, so choose it once and keep it.
    reduction: "mean" (Σ wᵢ·gᵢ / Σ wᵢ) or "sum" (Σ gᵢ).
    weight: a function of a micro-batch, e.g. its number of tokens; default: its number of samples.
    nonfinite: what a step does with a gradient that is not finite: "error", or "skip" (`optimizer.stepped` is then False).

    Errors: ValueError for V below the number of ranks, for an optimizer over parameters of no given model, and for models, optimizers,
    loaders or options that are not the same on all ranks (naming the first difference).
    """
    models, optimizers = _as_list(model, Module), _as_list(optimizer, Optimizer)
    _check_loader(loader)
    comm = comm_.world()
    count = comm.size if micro_batches is None else micro_batches
    _check_options(count, comm, reduction, nonfinite)
    names = _parameter_names(models)
    _check_optimizers(optimizers, names)
    check_same_models(models, comm)
    _check_same_set_up(_set_up(count, reduction, nonfinite, optimizers, names, loader), comm)
    for item in models:
        broadcast_model(item, comm)
    schedule = Schedule(count, comm.rank, comm.size)
    statistics = RunningStatistics(models, count)
    options: dict[str, Any] = {"reduction": reduction, "nonfinite": nonfinite}
    drivers = [_shard(number, item, names, comm, schedule, **options) for number, item in enumerate(optimizers[:-1])]
    options["statistics"] = statistics if statistics.watches else None
    drivers.append(_shard(len(drivers), optimizers[-1], names, comm, schedule, **options))
    drivers[-1].followers = drivers[:-1]
    if count > 1:
        for driver in drivers[:-1]:
            driver.defer()
    schedule.complete = drivers[-1].complete
    schedule.on_begin += [driver.begin for driver in drivers]
    schedule.on_leave += [driver.leave for driver in drivers]
    if statistics.watches:
        schedule.on_begin.append(statistics.begin)
        schedule.on_leave.append(statistics.leave)
    gc.collect()
    native.free_kept_memory()  # that of the parameters as they were before
    if loader is None:
        drivers[-1].free_running = FreeRunning(schedule, drivers[-1].optimizer.steps)
    else:
        loader.seed = comm.broadcast_object(loader.seed)
    return model, optimizer, None if loader is None else StepLoader(loader, schedule, comm.rank, comm.size, weight)


def _as_list(value: Any, kind: type[Any]) -> list[Any]:
    items = list(value) if isinstance(value, (list, tuple)) else [value]
    for item in items:
        if not isinstance(item, kind):
            raise TypeError(f"distribute() needs a {kind.__name__} or a list of them, not a {type(item).__name__}")
    if not items:
        raise ValueError(f"distribute() needs a {kind.__name__}, or a list of at least one")
    return items


def _check_loader(loader: Any) -> None:
    if isinstance(loader, StepLoader):
        raise TypeError("the loader has been distributed before: pass the DataLoader itself, and all models and optimizers in one call")
    if loader is not None and not isinstance(loader, DataLoader):
        raise TypeError(f"distribute() needs a DataLoader of dist_train.utils.data, not a {type(loader).__name__}")


def _check_options(micro_batches: int, comm: Communicator, reduction: str, nonfinite: str) -> None:
    if not isinstance(micro_batches, int):
        raise TypeError(f"micro_batches={micro_batches!r}: expected an int, the number of pieces a step is cut into")
    if micro_batches < comm.size:
        raise ValueError(
            f"micro_batches={micro_batches} for {comm.size} ranks: each rank needs at least one micro-batch a step. "
            f"Pass micro_batches={comm.size} or more, or start at most {micro_batches} ranks"
        )
    if reduction not in ("mean", "sum"):
        raise ValueError(f"reduction={reduction!r}: expected 'mean' or 'sum'")
    if nonfinite not in ("error", "skip"):
        raise ValueError(f"nonfinite={nonfinite!r}: expected 'error' or 'skip'")


def _parameter_names(models: Sequence[Module]) -> dict[Parameter, str]:
    """Every parameter of the models with its name; several models' names are told apart by the model's number."""
    names: dict[Parameter, str] = {}
    for number, model in enumerate(models):
        prefix = f"{number}." if len(models) > 1 else ""
        for name, parameter in model.named_parameters():
            names.setdefault(parameter, prefix + name)
    return names


def _check_optimizers(optimizers: Sequence[Optimizer], names: dict[Parameter, str]) -> None:
    taken: dict[Any, int] = {}
    for number, optimizer in enumerate(optimizers):
        for index, (_, parameter) in enumerate(optimizer.indexed_params()):
            if parameter not in names:
                raise ValueError(
                    f"parameter {index} of optimizer {number} (shape {tuple(parameter.shape)}) belongs to no model given to distribute(): "
                    "pass the model whose parameters() the optimizer was made with"
                )
            if taken.setdefault(parameter, number) != number:
                raise ValueError(f"parameter {names[parameter]!r} is in optimizers {taken[parameter]} and {number}: it can be in one only")
            if parameter._owner is not None:
                raise ValueError(f"parameter {names[parameter]!r} has been distributed before: call distribute() once")
            if parameter._listener is not None:
                raise ValueError(
                    f"parameter {names[parameter]!r} is in a DistributedDataParallel, which distribute() replaces: pass the module inside"
                )


def check_same_models(models: Sequence[Module], comm: Communicator) -> None:
    """ValueError, on every rank, that names the first tensor by which a rank's models differ from rank 0's."""
    own = [
        f"{number}.{name} {tuple(tensor.shape)} {tensor.dtype.name}"
        for number, model in enumerate(models)
        for name, tensor in model.state_dict().items()
    ]
    everyone = comm.all_gather_object(own)
    for rank, other in enumerate(everyone):
        if other != everyone[0]:
            position = next(i for i, pair in enumerate(zip([*everyone[0], "nothing"], [*other, "nothing"])) if pair[0] != pair[1])
            first, second = ([*rows, "nothing"][position].partition(".")[2] or "nothing" for rows in (everyone[0], other))
            raise ValueError(
                f"the models differ between ranks: tensor {position} is {first} on rank 0 and {second} on rank {rank}; "
                "every rank must build the same model"
            )


def _set_up(
    micro_batches: int,
    reduction: str,
    nonfinite: str,
    optimizers: Sequence[Optimizer],
    names: dict[Any, str],
    loader: DataLoader | None,
) -> list[tuple[str, Any]]:
    """What must be the same on all ranks besides the models, as (what it is, value)."""
    rows: list[tuple[str, Any]] = [("micro_batches", micro_batches), ("reduction", reduction), ("nonfinite", nonfinite)]
    for number, optimizer in enumerate(optimizers):
        rows.append((f"the class of optimizer {number}", type(optimizer).__name__))
        rows.append((f"the parameters of optimizer {number}", [names[parameter] for _, parameter in optimizer.indexed_params()]))
        rows += [(f"optimizer {number}, {what}", value) for what, value in settings(optimizer).items()]
    rows.append(("the loader", None if loader is None else type(loader).__name__))
    state = {} if loader is None else loader.state_dict()
    return rows + [(f"the loader's {what}", value) for what, value in state.items() if what != "seed"]


def _check_same_set_up(own: list[tuple[str, Any]], comm: Communicator) -> None:
    everyone = comm.all_gather_object([(what, repr(value)) for what, value in own])
    for rank, other in enumerate(everyone):
        for (what, first), (_, second) in zip(everyone[0], other):
            if first != second:
                raise ValueError(
                    f"distribute() was given different things on different ranks: {what} is {first} on rank 0 and {second} on rank {rank}; "
                    "every rank must pass the same"
                )


def broadcast_model(model: Module, comm: Communicator) -> None:
    """Rank 0's seed, parameters and buffers become everyone's."""
    seed = np.array([random.initial_seed() % 2**63], np.int64)
    comm.broadcast(seed)
    if int(seed[0]) != random.initial_seed() % 2**63:
        random.manual_seed(int(seed[0]))
    for tensor in [*model.parameters(), *model.buffers()]:
        comm.broadcast(tensor.array)


def _shard(
    number: int,
    optimizer: Optimizer,
    names: dict[Parameter, str],
    comm: Communicator,
    schedule: Schedule,
    **options: Any,
) -> ShardedDriver:
    """Give the optimizer a sharded driver; the state it has so far goes along."""
    index = {parameter: i for i, (_, parameter) in enumerate(optimizer.indexed_params())}
    named = [(index[parameter], name, parameter) for parameter, name in names.items() if parameter in index]
    states = optimizer._driver.state()
    driver = ShardedDriver(number, optimizer, named, comm, schedule, **options)
    if states:
        driver.load_state(states)
    optimizer._driver = driver
    return driver
