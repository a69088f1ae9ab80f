"""The optimizers' rules, each one pass over its slice."""

from .. import _native
from ..reference import optim

for rule in (optim.sgd, optim.adagrad, optim.adadelta, optim.rmsprop, optim.adam):
    rule.override("numpy")(getattr(_native, rule.name))
