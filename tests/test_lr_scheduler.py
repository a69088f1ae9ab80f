"""Learning-rate schedules: PyTorch's values over 50 epochs, alone and combined, resumed from JSON, and inside distributed steps."""

import inspect
import json
import math
import warnings

import numpy as np
import pytest

from dist_train import optim
from dist_train.autograd import Parameter, Tensor
from dist_train.optim import lr_scheduler

EPOCHS = 50


def alone(name, **options):
    return f"{name}({', '.join(f'{k}={v}' for k, v in options.items())})", lambda m, o: getattr(m, name)(o, **options)


def halved(epoch):
    return 0.5 ** (epoch // 7)


def shaken(epoch):
    return 1 + 0.1 * math.sin(epoch)


def warm_up_then_cosine(m, o):
    parts = [m.LinearLR(o, start_factor=0.1, total_iters=5), m.CosineAnnealingLR(o, T_max=20), m.ConstantLR(o, 0.5, 3)]
    return m.SequentialLR(o, parts, milestones=[5, 30])


def all_that_can_begin_later(m, o):
    parts = [
        m.ExponentialLR(o, 0.9),
        m.StepLR(o, 2, 0.5),
        m.MultiStepLR(o, [0, 3]),
        m.LambdaLR(o, shaken),
        m.PolynomialLR(o, 10, 2.0),
        m.CosineAnnealingWarmRestarts(o, 4),
        m.LinearLR(o),
        m.MultiplicativeLR(o, shaken),
    ]
    return m.SequentialLR(o, parts, milestones=[6, 12, 18, 24, 30, 36, 42])


def chained(m, o):
    return m.ChainedScheduler([m.ConstantLR(o, 0.1, 6), m.ExponentialLR(o, 0.95), m.StepLR(o, 15)], optimizer=o)


SCHEDULES = [
    alone("LambdaLR", lr_lambda=halved),
    ("LambdaLR per group", lambda m, o: m.LambdaLR(o, [halved, shaken])),
    alone("MultiplicativeLR", lr_lambda=shaken),
    alone("StepLR", step_size=7),
    alone("StepLR", step_size=1, gamma=0.9),
    alone("MultiStepLR", milestones=[20, 5, 5, 0], gamma=0.3),
    alone("ConstantLR"),
    alone("ConstantLR", factor=0.25, total_iters=10),
    alone("LinearLR"),
    alone("LinearLR", start_factor=0.01, end_factor=0.5, total_iters=30),
    alone("ExponentialLR", gamma=0.9),
    alone("PolynomialLR", total_iters=30, power=2.0),
    alone("CosineAnnealingLR", T_max=13, eta_min=1e-3),
    alone("CosineAnnealingLR", T_max=50),
    alone("CosineAnnealingWarmRestarts", T_0=5, T_mult=2, eta_min=1e-4),
    alone("CosineAnnealingWarmRestarts", T_0=7),
    alone("OneCycleLR", max_lr=0.5, total_steps=EPOCHS + 1),
    alone("OneCycleLR", max_lr=[0.5, 0.1], epochs=10, steps_per_epoch=6, anneal_strategy="linear", three_phase=True),
    alone("OneCycleLR", max_lr=0.1, total_steps=60, pct_start=0.5, cycle_momentum=False, div_factor=5.0, final_div_factor=10.0),
    alone("OneCycleLR", max_lr=0.1, total_steps=60, base_momentum=[0.8, 0.7], max_momentum=0.9),
    ("SequentialLR", warm_up_then_cosine),
    ("SequentialLR of all", all_that_can_begin_later),
    ("ChainedScheduler", chained),
]
every_schedule = pytest.mark.parametrize("build", [build for _, build in SCHEDULES], ids=[name for name, _ in SCHEDULES])


def make(name="SGD"):
    params = [Parameter(np.zeros(1)), Parameter(np.zeros(1))]
    return _optimizer(optim, name, params)


def make_torch(name="SGD"):
    torch = pytest.importorskip("torch")
    return _optimizer(torch.optim, name, [torch.nn.Parameter(torch.zeros(1)) for _ in range(2)])


def _optimizer(module, name, params):
    options = {"momentum": 0.9} if name == "SGD" else {}
    return getattr(module, name)([{"params": params[:1]}, {"params": params[1:], "lr": 0.02}], lr=0.1, **options)


def run(optimizer, scheduler, epochs):
    """Per epoch and group: the rates, and the momentum."""
    history = []
    for _ in range(epochs):
        optimizer.step()
        scheduler.step()
        history.append(values(optimizer))
        assert scheduler.get_last_lr() == [group["lr"] for group in optimizer.param_groups]
    return history


def values(optimizer):
    return [(group["lr"], group["betas"][0] if "betas" in group else group["momentum"]) for group in optimizer.param_groups]


def torchs(build, epochs, name="SGD"):
    torch = pytest.importorskip("torch")
    optimizer = make_torch(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scheduler = build(torch.optim.lr_scheduler, optimizer)
        return [values(optimizer), *run(optimizer, scheduler, epochs)], optimizer, scheduler


def assert_close(ours, theirs):
    np.testing.assert_allclose(np.array(ours, float), np.array(theirs, float), rtol=1e-11, atol=1e-17)


@every_schedule
@pytest.mark.parametrize("name", ["SGD", "Adam"])
def test_fifty_epochs_are_torchs(build, name):
    optimizer = make(name)
    scheduler = build(lr_scheduler, optimizer)
    assert_close([values(optimizer), *run(optimizer, scheduler, EPOCHS)], torchs(build, EPOCHS, name)[0])


@every_schedule
def test_resuming_goes_on(build):
    optimizer = make()
    scheduler = build(lr_scheduler, optimizer)
    whole = run(optimizer, scheduler, EPOCHS)
    optimizer = make()
    scheduler = build(lr_scheduler, optimizer)
    run(optimizer, scheduler, 21)
    saved = json.dumps([optimizer.shard()["extra"], scheduler.state_dict()], allow_nan=False)
    extra, state = json.loads(saved)
    again = make()
    scheduler = build(lr_scheduler, again)
    again.load_shard([{**part, "names": []} for part in optimizer.shard()["parts"]], extra, None)
    scheduler.load_state_dict(state)
    assert run(again, scheduler, EPOCHS - 21) == whole[21:]


@pytest.mark.parametrize("build", [build for name, build in SCHEDULES if "Sequential" not in name and "Chained" not in name])
@pytest.mark.parametrize("last_epoch", [0, 6, 13])
def test_last_epoch_is_torchs(build, last_epoch):
    def resumed(module, optimizer):
        for group in optimizer.param_groups:
            group.update(initial_lr=group["lr"] * 2, max_lr=0.5, min_lr=1e-4, max_momentum=0.95, base_momentum=0.85)
        return build(_WithLastEpoch(module, last_epoch), optimizer)

    optimizer = make()
    scheduler = resumed(lr_scheduler, optimizer)
    assert scheduler.last_epoch == last_epoch + 1
    assert_close([values(optimizer), *run(optimizer, scheduler, 20)], torchs(resumed, 20)[0])


class _WithLastEpoch:
    """A scheduler module whose classes are built with `last_epoch`."""

    def __init__(self, module, last_epoch):
        self.module, self.last_epoch = module, last_epoch

    def __getattr__(self, name):
        return lambda *args, **options: getattr(self.module, name)(*args, **options, last_epoch=self.last_epoch)


@pytest.mark.parametrize("names", [("ExponentialLR", "StepLR"), ("LinearLR", "CosineAnnealingLR"), ("StepLR", "MultiStepLR")])
def test_two_schedules_on_one_optimizer(names):
    options = {
        "ExponentialLR": {"gamma": 0.95},
        "StepLR": {"step_size": 5},
        "LinearLR": {},
        "CosineAnnealingLR": {"T_max": 60},
        "MultiStepLR": {"milestones": [3, 9]},
    }

    class Both:
        def __init__(self, module, optimizer):
            self.parts = [getattr(module, name)(optimizer, **options[name]) for name in names]

        def step(self):
            for part in self.parts:
                part.step()

        def get_last_lr(self):
            return self.parts[-1].get_last_lr()

    optimizer = make()
    scheduler = Both(lr_scheduler, optimizer)
    assert_close([values(optimizer), *run(optimizer, scheduler, EPOCHS)], torchs(Both, EPOCHS)[0])


def test_schedules_inside_schedules_keep_their_milestones():
    optimizer = make()
    first = lr_scheduler.SequentialLR(
        optimizer, [lr_scheduler.ConstantLR(optimizer, 0.5, 2), lr_scheduler.ExponentialLR(optimizer, 0.5)], milestones=[3]
    )
    then = lr_scheduler.ChainedScheduler([lr_scheduler.ConstantLR(optimizer, 0.1, 2), lr_scheduler.ExponentialLR(optimizer, 0.5)])
    scheduler = lr_scheduler.SequentialLR(optimizer, [first, then], milestones=[6])
    rates = [values(optimizer)[0][0], *(rates[0][0] for rates in run(optimizer, scheduler, 9))]
    assert rates == pytest.approx([0.05, 0.05, 0.1, 0.1, 0.05, 0.025, 0.01, 0.005, 0.025, 0.0125])


def test_warm_restarts_at_any_epoch():
    def build(module, optimizer):
        return module.CosineAnnealingWarmRestarts(optimizer, T_0=3, T_mult=2, eta_min=0.01)

    torch = pytest.importorskip("torch")
    ours, theirs = make(), make_torch()
    mine, other = build(lr_scheduler, ours), build(torch.optim.lr_scheduler, theirs)
    for epoch in [0, 0.5, 1.25, 2.75, 3.0, 8.5, 9.0, 20.9, 4.0]:
        mine.step(epoch)
        other.step(epoch)
        assert_close(values(ours), values(theirs))
        assert mine.last_epoch == other.last_epoch
    with pytest.raises(ValueError, match="at least 0, not -1"):
        mine.step(-1)


METRICS = [1.0, 0.9, 0.95, 0.9001, 0.91, 0.92, 0.5, 0.5, 0.49999, 0.6, 0.6, 0.6, 0.6, 0.1, 0.2, 0.2, 0.2, 0.2, math.nan, 0.3, 0.3] * 2


@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize("threshold_mode", ["rel", "abs"])
@pytest.mark.parametrize("options", [{}, {"cooldown": 2}, {"min_lr": [0.05, 0.001]}, {"threshold": 0.1, "factor": 0.5, "eps": 0.002}])
def test_reduce_on_plateau_is_torchs(mode, threshold_mode, options):
    torch = pytest.importorskip("torch")
    ours, theirs = make(), make_torch()
    options = {"patience": 1, **options, "mode": mode, "threshold_mode": threshold_mode}
    mine = lr_scheduler.ReduceLROnPlateau(ours, **options)
    other = torch.optim.lr_scheduler.ReduceLROnPlateau(theirs, **options)
    for metric in METRICS:
        mine.step(Tensor(np.array(metric)))
        other.step(metric)
        state = json.loads(json.dumps(mine.state_dict(), allow_nan=False))
        mine = lr_scheduler.ReduceLROnPlateau(ours, **options)
        mine.load_state_dict(state)
        assert_close(values(ours), values(theirs))
        assert mine.get_last_lr() == other.get_last_lr()
        assert (mine.last_epoch, mine.num_bad_epochs) == (other.last_epoch, other.num_bad_epochs)


@pytest.mark.parametrize("name", [name for name in lr_scheduler.__all__ if name != "LRScheduler"])
def test_arguments_and_defaults_are_torchs(name):
    torch = pytest.importorskip("torch")
    modules = (lr_scheduler, torch.optim.lr_scheduler)
    ours, theirs = (inspect.signature(getattr(module, name)).parameters for module in modules)
    assert [(p.name, p.default) for p in ours.values()] == [(p.name, p.default) for p in theirs.values()]


def test_a_users_own_schedule_gives_get_lr():
    class Harmonic(lr_scheduler.LRScheduler):
        def get_lr(self):
            return [rate / (1 + self.last_epoch) for rate in self.base_lrs]

    optimizer = make()
    assert [rates[0][0] for rates in run(optimizer, Harmonic(optimizer), 3)] == [0.05, 0.1 / 3, 0.025]


def test_an_attribute_of_a_callable_object_is_saved_and_a_function_is_not():
    class Decay:
        def __init__(self, rate):
            self.rate = rate

        def __call__(self, epoch):
            return self.rate**epoch

    scheduler = lr_scheduler.LambdaLR(make(), [Decay(0.5), halved])
    assert scheduler.state_dict()["lr_lambdas"] == [{"rate": 0.5}, None]
    other = lr_scheduler.LambdaLR(make(), [Decay(0.9), halved])
    other.load_state_dict(scheduler.state_dict())
    assert other.lr_lambdas[0].rate == 0.5


# inside a distributed step


class MicroBatches:
    """Stands for a driver whose steps take several step() calls: the last one of each three completes it."""

    loss = None

    def __init__(self):
        self.calls = 0

    @property
    def step_complete(self):
        return self.calls % 3 == 0

    def step(self):
        self.calls += 1
        return self.step_complete


@every_schedule
def test_nothing_happens_between_micro_batches(build):
    expected = make()
    history = run(expected, build(lr_scheduler, expected), 9)
    optimizer = make()
    scheduler = build(lr_scheduler, optimizer)
    optimizer._driver = MicroBatches()
    assert run(optimizer, scheduler, 27)[2::3] == history
    assert optimizer.steps == 9


def test_plateau_and_warm_restarts_wait_for_the_step_too():
    optimizer = make()
    plateau = lr_scheduler.ReduceLROnPlateau(optimizer, patience=0)
    restarts = lr_scheduler.CosineAnnealingWarmRestarts(optimizer, 3)
    optimizer._driver = MicroBatches()
    optimizer.step()
    plateau.step(1.0)
    restarts.step(1.5)
    assert (plateau.last_epoch, restarts.last_epoch) == (0, 0)


# errors and warnings


def test_the_other_order_warns():
    scheduler = lr_scheduler.ExponentialLR(make(), 0.9)
    with pytest.warns(UserWarning, match=r"before optimizer.step\(\)"):
        scheduler.step()


def plateau_inside(optimizer):
    lr_scheduler.SequentialLR(optimizer, [lr_scheduler.ReduceLROnPlateau(optimizer)], [])


def of_another_optimizer(optimizer):
    lr_scheduler.ChainedScheduler([lr_scheduler.ExponentialLR(optimizer, 0.9), lr_scheduler.ExponentialLR(make(), 0.9)])


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda o: lr_scheduler.StepLR("adam", 3), TypeError, "str is not an Optimizer"),
        (lambda o: lr_scheduler.StepLR(o, 3, last_epoch=4), KeyError, "parameter group 0 has no 'initial_lr'"),
        (lambda o: lr_scheduler.LambdaLR(o, [halved]), ValueError, "lr_lambda has 1 values for 2 parameter groups"),
        (lambda o: lr_scheduler.LambdaLR(o, 0.5), TypeError, "not a float"),
        (lambda o: lr_scheduler.ConstantLR(o, 1.5), ValueError, "not 1.5"),
        (lambda o: lr_scheduler.LinearLR(o, 0), ValueError, "start_factor .* not 0"),
        (lambda o: lr_scheduler.LinearLR(o, 1, -1), ValueError, "end_factor .* not -1"),
        (lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 0), ValueError, "T_0 .* not 0"),
        (lambda o: lr_scheduler.OneCycleLR(o, 0.1), ValueError, "total_steps"),
        (lambda o: lr_scheduler.OneCycleLR(o, 0.1, total_steps=-2), ValueError, "positive integer, not -2"),
        (lambda o: lr_scheduler.OneCycleLR(o, 0.1, total_steps=9, pct_start=2.0), ValueError, "pct_start .* not 2.0"),
        (lambda o: lr_scheduler.OneCycleLR(o, 0.1, total_steps=9, anneal_strategy="x"), ValueError, "'x'"),
        (lambda o: lr_scheduler.SequentialLR(o, [], []), ValueError, "at least one"),
        (lambda o: lr_scheduler.SequentialLR(o, [lr_scheduler.StepLR(o, 1)], [3]), ValueError, "0 milestones, not 1"),
        (plateau_inside, ValueError, "ReduceLROnPlateau"),
        (of_another_optimizer, ValueError, "scheduler 1 .* another optimizer"),
        (lambda o: lr_scheduler.ReduceLROnPlateau(o, factor=1.0), ValueError, "not 1.0"),
        (lambda o: lr_scheduler.ReduceLROnPlateau(o, mode="best"), ValueError, "'best'"),
        (lambda o: lr_scheduler.ReduceLROnPlateau(o, min_lr=[0.1]), ValueError, "min_lr has 1 values for 2"),
    ],
)
def test_bad_arguments(build, error, message):
    with pytest.raises(error, match=message):
        build(make())


def test_the_state_of_another_schedule():
    state = lr_scheduler.ExponentialLR(make(), 0.9).state_dict()
    with pytest.raises(ValueError, match="the state of a StepLR lacks 'step_size'"):
        lr_scheduler.StepLR(make(), 3).load_state_dict(state)


def test_one_cycle_needs_a_momentum_to_cycle():
    optimizer = optim.Adagrad([Parameter(np.zeros(1))])
    with pytest.raises(ValueError, match="Adagrad has neither momentum nor betas"):
        lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=5)


def test_one_cycle_ends():
    optimizer = make()
    scheduler = lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=3)
    with pytest.raises(ValueError, match="step 4 of a schedule of 3 steps"):
        run(optimizer, scheduler, 4)
