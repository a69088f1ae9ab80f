"""The optimizers with the combinations of their options that are compared with PyTorch."""

import itertools


def combinations(name, **options):
    """One row (name, options) per combination of the options' values."""
    return [(name, dict(zip(options, values))) for values in itertools.product(*options.values())]


def is_valid(row):
    _, options = row
    return not options.get("nesterov") or (options["momentum"] > 0 and options["dampening"] == 0)


CASES = [
    *filter(
        is_valid,
        combinations(
            "SGD",
            lr=[0.05],
            momentum=[0, 0.9],
            dampening=[0, 0.1],
            weight_decay=[0, 0.01],
            nesterov=[False, True],
            maximize=[False, True],
        ),
    ),
    *combinations(
        "Adagrad", lr=[0.05], lr_decay=[0, 0.1], weight_decay=[0, 0.01], initial_accumulator_value=[0, 0.1], maximize=[False, True]
    ),
    *combinations("Adadelta", lr=[1.0, 0.1], rho=[0.9, 0.5], weight_decay=[0, 0.01], maximize=[False, True]),
    *combinations("RMSprop", alpha=[0.99, 0.8], weight_decay=[0, 0.01], momentum=[0, 0.9], centered=[False, True], maximize=[False, True]),
    *combinations(
        "Adam",
        lr=[0.01],
        betas=[(0.9, 0.999), (0.5, 0.6)],
        weight_decay=[0, 0.1],
        amsgrad=[False, True],
        maximize=[False, True],
        decoupled_weight_decay=[False, True],
    ),
    *combinations("AdamW", eps=[1e-8, 1e-3], weight_decay=[1e-2, 0], amsgrad=[False, True], maximize=[False, True]),
]
ALL_STATE = [  # each optimizer with all its state vectors
    ("SGD", {"lr": 0.05}),
    ("SGD", {"lr": 0.05, "momentum": 0.9, "nesterov": True}),
    ("Adagrad", {"lr": 0.05, "initial_accumulator_value": 0.1, "lr_decay": 0.1}),
    ("Adadelta", {}),
    ("RMSprop", {"momentum": 0.9, "centered": True}),
    ("Adam", {"lr": 0.01, "amsgrad": True}),
    ("AdamW", {}),
]
