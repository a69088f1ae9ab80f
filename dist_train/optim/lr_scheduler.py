"""Learning-rate schedules under torch's names. `scheduler.step()` after each epoch (or step) sets the learning rates of
all groups.

Most schedules compute the new rate from the present one, so that several on one optimizer multiply. Under
`dist_train.distribute` a call between the micro-batches of a step does nothing, as `optimizer.step()` does. A
schedule's state is JSON values only.
"""

from __future__ import annotations

import math
import warnings
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from .optimizer import Optimizer

__all__ = [
    "ChainedScheduler",
    "ConstantLR",
    "CosineAnnealingLR",
    "CosineAnnealingWarmRestarts",
    "ExponentialLR",
    "LRScheduler",
    "LambdaLR",
    "LinearLR",
    "MultiStepLR",
    "MultiplicativeLR",
    "OneCycleLR",
    "PolynomialLR",
    "ReduceLROnPlateau",
    "SequentialLR",
    "StepLR",
]

Rates = list[float]
Factor = Callable[[int], float]


class LRScheduler:
    """Base of the schedules. A subclass gives `get_lr()`, the rates of all groups at `self.last_epoch`.

    Arguments: the optimizer and `last_epoch`, the number of the epoch to go on from (−1: from the start; else the
    groups must hold "initial_lr", as after load_state_dict). Raises TypeError for another object than an optimizer,
    KeyError without "initial_lr".
    """

    unsaved: tuple[str, ...] = ("optimizer", "unsaved")  # attributes that are not part of the state

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1) -> None:
        self.optimizer = _checked(optimizer)
        for number, group in enumerate(optimizer.param_groups):
            if last_epoch == -1:
                group.setdefault("initial_lr", group["lr"])
            elif "initial_lr" not in group:
                raise KeyError(f"parameter group {number} has no 'initial_lr' for last_epoch={last_epoch}: load its state first")
        self.base_lrs: Rates = [group["initial_lr"] for group in optimizer.param_groups]
        self.last_epoch = last_epoch
        self._begin()

    def get_lr(self) -> Rates:
        """The rates of all groups at epoch `last_epoch`, from the present ones (or from `base_lrs`)."""
        raise NotImplementedError(f"{type(self).__name__} has no get_lr")

    def get_last_lr(self) -> Rates:
        """The rates last set."""
        return self._last_lr

    def step(self) -> None:
        """Go to the next epoch and set its rates."""
        if not self.optimizer.step_complete:
            return
        if self._step_count == 1 and not self.optimizer._step_called:
            warnings.warn(
                "lr_scheduler.step() before optimizer.step() skips the schedule's first value: call them the other way",
                stacklevel=2,
            )
        self._step_count += 1
        self._advance()

    def state_dict(self) -> dict[str, Any]:
        """Everything but the optimizer and functions, as JSON values."""
        return {key: value for key, value in self.__dict__.items() if key not in self.unsaved}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where `state_dict` was called. The rates themselves come back with the optimizer's state.

        ValueError for the state of another kind of schedule.
        """
        missing = [key for key in self.__dict__ if key not in state_dict and key not in self.unsaved]
        if missing:
            raise ValueError(f"the state of a {type(self).__name__} lacks {missing[0]!r}: it has {sorted(state_dict)}")
        self.__dict__.update({key: value for key, value in state_dict.items() if key not in self.unsaved})

    def _begin(self) -> None:
        """The constructor's step, to epoch `last_epoch` + 1, where many schedules keep the present rates."""
        self._step_count = 1
        self._initial = True
        self._advance()
        self._initial = False

    def _advance(self) -> None:
        self.last_epoch += 1
        self._set(self.get_lr())

    def _rewind(self) -> None:
        """Begin again at epoch 0, from the present rates."""
        self.last_epoch = -1
        self._begin()

    def _restart(self) -> None:
        """Begin at epoch 0 from the initial rates: a SequentialLR has reached this schedule."""
        self._set(self.base_lrs)
        self._rewind()

    def _set(self, rates: Rates) -> None:
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
        self._last_lr = list(rates)

    def _present(self, factor: float = 1.0) -> Rates:
        """The present rates times `factor`."""
        return [group["lr"] * factor for group in self.optimizer.param_groups]


class _FunctionLR(LRScheduler):
    """A schedule by functions of the epoch, one or one per group. Only callable objects' attributes are saved."""

    unsaved = (*LRScheduler.unsaved, "lr_lambdas")

    def __init__(self, optimizer: Optimizer, lr_lambda: Factor | Sequence[Factor], last_epoch: int = -1) -> None:
        self.lr_lambdas: list[Factor] = _per_group("lr_lambda", _checked(optimizer), lr_lambda)
        for function in self.lr_lambdas:
            if not callable(function):
                raise TypeError(f"lr_lambda should be a function of the epoch, not a {type(function).__name__}")
        super().__init__(optimizer, last_epoch)

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"lr_lambdas": [dict(getattr(f, "__dict__", {})) or None for f in self.lr_lambdas]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        for function, attributes in zip(self.lr_lambdas, state_dict["lr_lambdas"], strict=True):
            if attributes:
                function.__dict__.update(attributes)


class LambdaLR(_FunctionLR):
    """initial rate · lr_lambda(epoch)."""

    def get_lr(self) -> Rates:
        return [rate * function(self.last_epoch) for rate, function in zip(self.base_lrs, self.lr_lambdas, strict=True)]


class MultiplicativeLR(_FunctionLR):
    """Each epoch, rate ← rate · lr_lambda(epoch)."""

    def get_lr(self) -> Rates:
        if self._initial:
            return self._present()
        return [rate * function(self.last_epoch) for rate, function in zip(self._present(), self.lr_lambdas, strict=True)]


class StepLR(LRScheduler):
    """rate ← rate · gamma every `step_size` epochs."""

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1, last_epoch: int = -1) -> None:
        self.step_size, self.gamma = step_size, gamma
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> Rates:
        due = self.last_epoch != 0 and self.last_epoch % self.step_size == 0
        return self._present(self.gamma) if due else self._present()


class MultiStepLR(LRScheduler):
    """rate ← rate · gamma at each of the epochs `milestones` (twice at one that is listed twice)."""

    def __init__(self, optimizer: Optimizer, milestones: Iterable[int], gamma: float = 0.1, last_epoch: int = -1) -> None:
        self.milestones, self.gamma = sorted(milestones), gamma
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> Rates:
        return self._present(self.gamma ** self.milestones.count(self.last_epoch))


class ConstantLR(LRScheduler):
    """The rate is multiplied by `factor` until epoch `total_iters`."""

    def __init__(self, optimizer: Optimizer, factor: float = 1.0 / 3, total_iters: int = 5, last_epoch: int = -1) -> None:
        if not 0 <= factor <= 1:
            raise ValueError(f"factor is expected to be between 0 and 1, not {factor}")
        self.factor, self.total_iters = factor, total_iters
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> Rates:
        if self.last_epoch == 0:
            return self._present(self.factor)
        return self._present(1 / self.factor) if self.last_epoch == self.total_iters else self._present()


class LinearLR(LRScheduler):
    """The rate's factor goes linearly from `start_factor` to `end_factor` in `total_iters` epochs."""

    def __init__(
        self,
        optimizer: Optimizer,
        start_factor: float = 1.0 / 3,
        end_factor: float = 1.0,
        total_iters: int = 5,
        last_epoch: int = -1,
    ) -> None:
        if not 0 < start_factor <= 1:
            raise ValueError(f"start_factor is expected to be above 0 and at most 1, not {start_factor}")
        if not 0 <= end_factor <= 1:
            raise ValueError(f"end_factor is expected to be between 0 and 1, not {end_factor}")
        self.start_factor, self.end_factor, self.total_iters = start_factor, end_factor, total_iters
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> Rates:
        if self.last_epoch == 0:
            return self._present(self.start_factor)
        if self._initial or self.last_epoch > self.total_iters:
            return self._present()
        rise = self.end_factor - self.start_factor
        return self._present(1 + rise / (self.total_iters * self.start_factor + (self.last_epoch - 1) * rise))


class ExponentialLR(LRScheduler):
    """rate ← rate · gamma every epoch."""

    def __init__(self, optimizer: Optimizer, gamma: float, last_epoch: int = -1) -> None:
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> Rates:
        return self._present() if self._initial else self._present(self.gamma)


class PolynomialLR(LRScheduler):
    """initial rate · (1 − epoch/total_iters)^power, 0 from epoch `total_iters` on."""

    def __init__(self, optimizer: Optimizer, total_iters: int = 5, power: float = 1.0, last_epoch: int = -1) -> None:
        self.total_iters, self.power = total_iters, power
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> Rates:
        if self._initial or self.last_epoch > self.total_iters:
            return self._present()
        left = self.total_iters - self.last_epoch
        return self._present((left / (left + 1)) ** self.power)


class CosineAnnealingLR(LRScheduler):
    """eta_min + (initial rate − eta_min)·(1 + cos(π·epoch/T_max))/2, from the present rate."""

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0, last_epoch: int = -1) -> None:
        self.T_max, self.eta_min = T_max, eta_min
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> Rates:
        if self._initial:
            return self._present()
        before, now = self._height(self.last_epoch - 1), self._height(self.last_epoch)
        if (self.last_epoch - 1 - self.T_max) % (2 * self.T_max) == 0:  # up from the lowest point, where a ratio says nothing
            return [rate + (base - self.eta_min) * now / 2 for rate, base in zip(self._present(), self.base_lrs, strict=True)]
        return [self.eta_min + (rate - self.eta_min) * now / before for rate in self._present()]

    def _height(self, epoch: int) -> float:
        return 1 + math.cos(math.pi * epoch / self.T_max)


class CosineAnnealingWarmRestarts(LRScheduler):
    """Cosine annealing from the initial rate to `eta_min` in T_0 epochs, and again in T_mult times as many."""

    def __init__(self, optimizer: Optimizer, T_0: int, T_mult: int = 1, eta_min: float = 0.0, last_epoch: int = -1) -> None:
        for name, value in (("T_0", T_0), ("T_mult", T_mult)):
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} is expected to be a positive integer, not {value!r}")
        self.T_0, self.T_i, self.T_mult, self.eta_min = T_0, T_0, T_mult, eta_min
        self.T_cur: float = last_epoch
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> Rates:
        height = (1 + math.cos(math.pi * self.T_cur / self.T_i)) / 2
        return [self.eta_min + (rate - self.eta_min) * height for rate in self.base_lrs]

    def step(self, epoch: float | None = None) -> None:
        """Go to the next epoch, or to `epoch`, which may be a fraction (epoch + batch/batches)."""
        if epoch is None:
            super().step()
        elif epoch < 0:
            raise ValueError(f"epoch is expected to be at least 0, not {epoch}")
        elif self.optimizer.step_complete:
            self._go(epoch)
            self.last_epoch = math.floor(epoch)
            self._set(self.get_lr())

    def _advance(self) -> None:
        if self.last_epoch < 0:
            self._go(0)
        else:
            self.T_cur += 1
            if self.T_cur >= self.T_i:
                self.T_cur, self.T_i = self.T_cur % self.T_i, self.T_i * self.T_mult
        super()._advance()

    def _go(self, epoch: float) -> None:
        """Find the period that `epoch` lies in, and its place there."""
        self.T_cur, self.T_i = epoch, self.T_0
        while self.T_cur >= self.T_i:
            self.T_cur, self.T_i = self.T_cur - self.T_i, self.T_i * self.T_mult


class OneCycleLR(LRScheduler):
    """One cycle over `total_steps` steps (Smith, Topin 2017): up from max_lr/div_factor to max_lr in the first
    `pct_start` of them, then down to 1/final_div_factor of the start; the momentum (or beta1) goes the other way
    between `max_momentum` and `base_momentum`.

    `total_steps`, or `epochs` and `steps_per_epoch`, must be given. With `three_phase` the way down first mirrors the
    way up. `max_lr`, `base_momentum` and `max_momentum` may be lists, one value per group. Stepped after every batch,
    not epoch.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        max_lr: float | Sequence[float],
        total_steps: int | None = None,
        epochs: int | None = None,
        steps_per_epoch: int | None = None,
        pct_start: float = 0.3,
        anneal_strategy: str = "cos",
        cycle_momentum: bool = True,
        base_momentum: float | Sequence[float] = 0.85,
        max_momentum: float | Sequence[float] = 0.95,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        three_phase: bool = False,
        last_epoch: int = -1,
    ) -> None:
        if not 0 <= pct_start <= 1:
            raise ValueError(f"pct_start is expected to be between 0 and 1, not {pct_start}")
        if anneal_strategy not in ("cos", "linear"):
            raise ValueError(f"anneal_strategy must be 'cos' or 'linear', not {anneal_strategy!r}")
        self.total_steps = _total_steps(total_steps, epochs, steps_per_epoch)
        self.anneal_strategy, self.cycle_momentum = anneal_strategy, cycle_momentum
        self.phases = _phases(pct_start * self.total_steps, self.total_steps, three_phase)
        groups = _checked(optimizer).param_groups
        if last_epoch == -1:
            for group, rate in zip(groups, _per_group("max_lr", optimizer, max_lr)):
                group["initial_lr"], group["max_lr"] = rate / div_factor, rate
                group["min_lr"] = group["initial_lr"] / final_div_factor
        if cycle_momentum:
            if "momentum" not in optimizer.defaults and "betas" not in optimizer.defaults:
                raise ValueError(f"{type(optimizer).__name__} has neither momentum nor betas to cycle: pass cycle_momentum=False")
            highs, lows = (
                _per_group("max_momentum", optimizer, max_momentum),
                _per_group("base_momentum", optimizer, base_momentum),
            )
            if last_epoch == -1:
                for group, high, low in zip(groups, highs, lows):
                    group["max_momentum"], group["base_momentum"] = high, low
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> Rates:
        if self.last_epoch > self.total_steps:
            raise ValueError(f"step {self.last_epoch} of a schedule of {self.total_steps} steps (total_steps)")
        phase, part = self._place()
        if self.cycle_momentum:
            for group in self.optimizer.param_groups:
                _set_momentum(group, self._between(group[phase["start_momentum"]], group[phase["end_momentum"]], part))
        return [self._between(group[phase["start_lr"]], group[phase["end_lr"]], part) for group in self.optimizer.param_groups]

    def _place(self) -> tuple[dict[str, Any], float]:
        """The phase that the present step lies in, and how far it has got."""
        start = 0.0
        for phase in self.phases[:-1]:
            if self.last_epoch <= phase["end_step"]:
                break
            start = phase["end_step"]
        else:
            phase = self.phases[-1]
        return phase, (self.last_epoch - start) / (phase["end_step"] - start)

    def _between(self, start: float, end: float, part: float) -> float:
        if self.anneal_strategy == "cos":
            return end + (start - end) / 2 * (1 + math.cos(math.pi * part))
        return (end - start) * part + start


class SequentialLR(LRScheduler):
    """One schedule after the other; schedule i begins at epoch milestones[i − 1], from its own epoch 0."""

    unsaved = (*LRScheduler.unsaved, "schedulers")

    def __init__(self, optimizer: Optimizer, schedulers: Sequence[LRScheduler], milestones: Sequence[int], last_epoch: int = -1) -> None:
        _check_schedulers(schedulers, optimizer)
        if len(milestones) != len(schedulers) - 1:
            raise ValueError(f"{len(schedulers)} schedulers need {len(schedulers) - 1} milestones, not {len(milestones)}")
        self.optimizer, self.schedulers, self.milestones = optimizer, list(schedulers), list(milestones)
        self.base_lrs = schedulers[0].base_lrs
        self.last_epoch = last_epoch
        self._begin()

    def step(self) -> None:
        """Go to the next epoch of the schedule whose turn it is."""
        if not self.optimizer.step_complete:
            return
        self.last_epoch += 1
        turn = bisect_right(self.milestones, self.last_epoch)
        scheduler = self.schedulers[turn]
        if turn > 0 and self.milestones[turn - 1] == self.last_epoch:
            scheduler._restart()
        else:
            scheduler.step()
        self._last_lr = scheduler.get_last_lr()

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"schedulers": [scheduler.state_dict() for scheduler in self.schedulers]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        for scheduler, state in zip(self.schedulers, state_dict["schedulers"], strict=True):
            scheduler.load_state_dict(state)

    def _begin(self) -> None:
        self.last_epoch += 1
        turn = self.schedulers[bisect_right(self.milestones, self.last_epoch)]
        if self.last_epoch == 0:
            turn._restart()
        self._last_lr = turn.get_last_lr()


class ChainedScheduler(LRScheduler):
    """Several schedules stepped together, each multiplying the rate."""

    unsaved = (*LRScheduler.unsaved, "schedulers")

    def __init__(self, schedulers: Sequence[LRScheduler], optimizer: Optimizer | None = None) -> None:
        _check_schedulers(schedulers, optimizer)
        self.optimizer, self.schedulers = schedulers[0].optimizer, list(schedulers)
        self.base_lrs = schedulers[0].base_lrs
        self._last_lr = self._present()

    def step(self) -> None:
        """Step each schedule."""
        if self.optimizer.step_complete:
            for scheduler in self.schedulers:
                scheduler.step()
            self._last_lr = self._present()

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"schedulers": [scheduler.state_dict() for scheduler in self.schedulers]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        for scheduler, state in zip(self.schedulers, state_dict["schedulers"], strict=True):
            scheduler.load_state_dict(state)

    def _rewind(self) -> None:
        for scheduler in self.schedulers:
            scheduler._rewind()
        self._last_lr = self._present()


class ReduceLROnPlateau(LRScheduler):
    """rate ← max(rate · factor, min_lr) when the metric has not improved for more than `patience` epochs; then
    `cooldown` epochs of rest.

    `mode` "min" or "max" says which metric is better; better means by `threshold`, relative ("rel") or absolute
    ("abs"). A change smaller than `eps` is not made. `min_lr` may be a list, one value per group.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        mode: str = "min",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: str = "rel",
        cooldown: int = 0,
        min_lr: float | Sequence[float] = 0,
        eps: float = 1e-8,
    ) -> None:
        if factor >= 1.0:
            raise ValueError(f"factor should be < 1.0, not {factor}")
        if mode not in ("min", "max") or threshold_mode not in ("rel", "abs"):
            raise ValueError(f"mode {mode!r}, threshold_mode {threshold_mode!r}: expected 'min' or 'max', 'rel' or 'abs'")
        self.optimizer = _checked(optimizer)
        self.mode, self.threshold, self.threshold_mode = mode, threshold, threshold_mode
        self.factor, self.patience, self.cooldown, self.eps = factor, patience, cooldown, eps
        self.min_lrs = _per_group("min_lr", optimizer, min_lr)
        self.last_epoch = self.cooldown_counter = self.num_bad_epochs = 0
        self.best: float | None = None
        self._last_lr = self._present()

    def step(self, metrics: Any) -> None:  # type: ignore[override]
        """Go to the next epoch, given the metric of the last (a number or a tensor of one element)."""
        if not self.optimizer.step_complete:
            return
        self.last_epoch += 1
        self._count(float(metrics))
        if self.num_bad_epochs > self.patience:
            self._reduce()
            self.cooldown_counter, self.num_bad_epochs = self.cooldown, 0
        self._last_lr = self._present()

    def _count(self, metric: float) -> None:
        if self._is_better(metric):
            self.best, self.num_bad_epochs = metric, 0
        else:
            self.num_bad_epochs += 1
        if self.cooldown_counter > 0:
            self.cooldown_counter -= 1
            self.num_bad_epochs = 0

    def _is_better(self, metric: float) -> bool:
        sign = 1 if self.mode == "min" else -1
        if self.best is None:
            return sign * metric < math.inf
        bar = self.best * (1 - sign * self.threshold) if self.threshold_mode == "rel" else self.best - sign * self.threshold
        return sign * metric < sign * bar

    def _reduce(self) -> None:
        for group, low in zip(self.optimizer.param_groups, self.min_lrs, strict=True):
            rate = max(group["lr"] * self.factor, low)
            if group["lr"] - rate > self.eps:
                group["lr"] = rate


def _checked(optimizer: Optimizer) -> Optimizer:
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"{type(optimizer).__name__} is not an Optimizer")
    return optimizer


def _per_group(name: str, optimizer: Optimizer, value: Any) -> list[Any]:
    """`value` as a list with one entry per parameter group. ValueError if a list has another length."""
    num_groups = len(optimizer.param_groups)
    values = list(value) if isinstance(value, (list, tuple)) else [value] * num_groups
    if len(values) != num_groups:
        raise ValueError(f"{name} has {len(values)} values for {num_groups} parameter groups")
    return values


def _check_schedulers(schedulers: Sequence[LRScheduler], optimizer: Optimizer | None) -> None:
    if not schedulers:
        raise ValueError("expected at least one scheduler")
    optimizer = optimizer or schedulers[0].optimizer
    for number, scheduler in enumerate(schedulers):
        if isinstance(scheduler, ReduceLROnPlateau):
            raise ValueError(f"scheduler {number} is a ReduceLROnPlateau, which needs a metric in each step: step it on its own")
        if scheduler.optimizer is not optimizer:
            raise ValueError(f"scheduler {number} ({type(scheduler).__name__}) belongs to another optimizer than the others")


def _total_steps(total_steps: int | None, epochs: int | None, steps_per_epoch: int | None) -> int:
    if total_steps is None:
        if epochs is None or steps_per_epoch is None:
            raise ValueError("OneCycleLR needs total_steps, or epochs and steps_per_epoch")
        total_steps = epochs * steps_per_epoch
    if not isinstance(total_steps, int) or total_steps <= 0:
        raise ValueError(f"the number of steps is expected to be a positive integer, not {total_steps!r}")
    return total_steps


def _phases(rise: float, total_steps: int, three_phase: bool) -> list[dict[str, Any]]:
    """What a cycle goes through: the last step of each phase, and the group's keys of the values at its ends."""
    up = _phase(rise - 1, ("initial_lr", "max_lr"), ("max_momentum", "base_momentum"))
    if not three_phase:
        return [up, _phase(total_steps - 1, ("max_lr", "min_lr"), ("base_momentum", "max_momentum"))]
    down = _phase(2 * rise - 2, ("max_lr", "initial_lr"), ("base_momentum", "max_momentum"))
    return [up, down, _phase(total_steps - 1, ("initial_lr", "min_lr"), ("max_momentum", "max_momentum"))]


def _phase(end_step: float, rates: tuple[str, str], momenta: tuple[str, str]) -> dict[str, Any]:
    return {
        "end_step": end_step,
        "start_lr": rates[0],
        "end_lr": rates[1],
        "start_momentum": momenta[0],
        "end_momentum": momenta[1],
    }


def _set_momentum(group: dict[str, Any], momentum: float) -> None:
    if "betas" in group:
        group["betas"] = (momentum, *group["betas"][1:])
    else:
        group["momentum"] = momentum
