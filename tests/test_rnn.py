"""Recurrent layers and packed sequences against PyTorch: same weights, same outputs, states and gradients."""

from __future__ import annotations

import numpy as np
import pytest
from parity import close, compare_modules, draw, load_from, ours, theirs

import dist_train as dt
from dist_train import nn
from dist_train.autograd.gradcheck import gradcheck
from dist_train.nn.utils import rnn

BATCH = (5, 3, 4)  # (T, B, I)
# constructor, input, states (None: zeros)
LAYERS = [
    ("RNN(4, 6)", BATCH, None),
    ("RNN(4, 6)", BATCH, (1, 3, 6)),
    ("RNN(4, 6, nonlinearity='relu')", BATCH, (1, 3, 6)),
    ("RNN(4, 6, 2, 'relu', False, True)", BATCH, (2, 5, 6)),
    ("RNN(4, 6, num_layers=2, bidirectional=True)", BATCH, (4, 3, 6)),
    ("LSTM(4, 6)", BATCH, None),
    ("LSTM(4, 6)", BATCH, (1, 3, 6)),
    ("LSTM(4, 6)", (1, 3, 4), None),
    ("LSTM(4, 6)", (5, 1, 4), (1, 1, 6)),
    ("LSTM(4, 6, bias=False)", BATCH, None),
    ("LSTM(4, 6, batch_first=True)", BATCH, (1, 5, 6)),
    ("LSTM(4, 6, 3)", BATCH, (3, 3, 6)),
    ("LSTM(4, 6, 2, bidirectional=True, batch_first=True)", BATCH, (4, 5, 6)),
    ("LSTM(4, 6, bidirectional=True)", (5, 4), (2, 6)),
    ("GRU(4, 6)", BATCH, None),
    ("GRU(4, 6)", BATCH, (1, 3, 6)),
    ("GRU(4, 6, bias=False)", BATCH, (1, 3, 6)),
    ("GRU(4, 6, 2, batch_first=True, bidirectional=True)", BATCH, (4, 5, 6)),
    ("GRU(4, 6)", (5, 4), None),
]
CELLS = [
    ("RNNCell(4, 6)", (3, 4), None),
    ("RNNCell(4, 6, nonlinearity='relu')", (3, 4), (3, 6)),
    ("RNNCell(4, 6, bias=False)", (4,), (6,)),
    ("LSTMCell(4, 6)", (3, 4), None),
    ("LSTMCell(4, 6)", (3, 4), (3, 6)),
    ("LSTMCell(4, 6, bias=False)", (4,), (6,)),
    ("GRUCell(4, 6)", (3, 4), None),
    ("GRUCell(4, 6, bias=False)", (3, 4), (3, 6)),
    ("GRUCell(4, 6)", (4,), None),
]
ROWS = LAYERS + CELLS
LENGTHS = [([5, 3, 3, 1], True), ([2, 5, 1, 5], False), ([5, 5, 5, 5], True), ([3, 1, 2, 1], False)]


def build(text, library, dtype="float32"):
    if library == "ours":
        return eval(f"nn.{text}", {"nn": nn}).to(dtype)
    torch = pytest.importorskip("torch")
    torch.manual_seed(1)
    return eval(f"nn.{text}", {"nn": torch.nn}).to(getattr(torch, dtype))


def leaves(result):
    """All tensors of nested tuples."""
    return [tensor for part in result for tensor in leaves(part)] if isinstance(result, tuple) else [result]


def flat(library, result):
    """Everything that a layer returned as one vector."""
    return library.cat([tensor.reshape(-1) for tensor in leaves(result)])


class Flat:
    """A layer whose only output is all its outputs; input x, and the states that it takes."""

    def __init__(self, module, library):
        self.module, self.library = module, library

    def __getattr__(self, name):
        return getattr(self.module, name)

    def __call__(self, x, *states):
        states = states if "LSTM" in type(self.module).__name__ and states else next(iter(states), None)
        return flat(self.library, self.module(x, states))


def inputs(text, shape, state_shape, seed=0):
    return draw(seed, shape, *([] if state_shape is None else [state_shape] * (2 if "LSTM" in text else 1)))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("text", "shape", "state_shape"), ROWS)
def test_is_as_in_torch(text, shape, state_shape, dtype):
    torch = pytest.importorskip("torch")
    module, other = Flat(build(text, "ours", dtype), dt), Flat(build(text, "theirs", dtype), torch)
    compare_modules(module, other, inputs(text, shape, state_shape), dtype)


@pytest.mark.parametrize(("text", "shape", "state_shape"), ROWS)
def test_shapes_and_the_way_of_returning_are_torchs(text, shape, state_shape):
    module, other = build(text, "ours"), build(text, "theirs")
    [x, *_] = inputs(text, shape, state_shape)
    mine, his = module(ours(x.astype("float32"))), other(theirs(x.astype("float32")))

    def form(result):
        return tuple(map(form, result)) if isinstance(result, tuple) else tuple(result.shape)

    assert form(mine) == form(his)
    assert repr(module) == repr(other)


def assert_gradients(module, call, *tensors):
    """gradcheck of a call that uses `module`, for its weights too."""
    names = [name for name, _ in module.named_parameters()]

    def replaced(*values):
        module.__dict__.update(zip(names, values[len(tensors) :], strict=True))
        return call(*values[: len(tensors)])

    assert gradcheck(replaced, (*tensors, *module.parameters()), fast_mode=True)


@pytest.mark.parametrize(("text", "shape", "state_shape"), ROWS)
def test_gradients_agree_with_differences(text, shape, state_shape):
    dt.manual_seed(1)
    module = build(text, "ours", "float64")
    assert_gradients(module, Flat(module, dt), *map(ours, inputs(text, shape, state_shape)))


@pytest.mark.parametrize("part", [0, 1, 2])
def test_gradient_of_one_result_alone(part):
    torch = pytest.importorskip("torch")
    module, other = build("LSTM(4, 6)", "ours", "float64"), build("LSTM(4, 6)", "theirs", "float64")
    load_from(module, other)
    [x] = draw(0, BATCH)
    a, b = ours(x), theirs(x)
    (leaves(module(a))[part] ** 2).sum().backward()
    (leaves(other(b))[part] ** 2).sum().backward()
    close(a.grad, b.grad, "float64", "input")
    for mine, his in zip(module.parameters(), other.parameters(), strict=True):
        close(mine.grad, torch.zeros_like(his) if his.grad is None else his.grad, "float64", "weight")


def packed(library, x, lengths, enforce_sorted, batch_first=False):
    utils = rnn if library is dt else library.nn.utils.rnn
    return utils.pack_padded_sequence(x, lengths, batch_first=batch_first, enforce_sorted=enforce_sorted)


@pytest.mark.parametrize(("lengths", "enforce_sorted"), LENGTHS)
@pytest.mark.parametrize("batch_first", [False, True])
def test_packing_and_padding(lengths, enforce_sorted, batch_first):
    torch = pytest.importorskip("torch")
    [x] = draw(0, (4, 6, 2) if batch_first else (6, 4, 2))
    a, b = ours(x), theirs(x)
    mine, his = packed(dt, a, lengths, enforce_sorted, batch_first), packed(torch, b, torch.tensor(lengths), enforce_sorted, batch_first)
    for ours_, theirs_, name in zip(mine, his, his._fields):
        if theirs_ is None or "sorted" in name:  # PyTorch's order of equal lengths is its own
            assert (ours_ is None) == (theirs_ is None)
        elif name == "batch_sizes" or len(set(lengths)) == len(lengths):
            close(ours_, theirs_, "float64", name)
    for total in (None, 9):
        back, sizes = rnn.pad_packed_sequence(mine, batch_first, padding_value=-7.0, total_length=total)
        expected, his_sizes = torch.nn.utils.rnn.pad_packed_sequence(his, batch_first, padding_value=-7.0, total_length=total)
        close(back, expected, "float64", "padded")
        assert sizes.tolist() == his_sizes.tolist() == lengths
    (back * back).sum().backward()
    (expected * expected).sum().backward()
    close(a.grad, b.grad, "float64", "gradient")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("lengths", "enforce_sorted"), LENGTHS)
@pytest.mark.parametrize("text", ["RNN(4, 6)", "LSTM(4, 6, 2, bidirectional=True)", "GRU(4, 6, 2, bidirectional=True, batch_first=True)"])
def test_packed_sequences_are_as_in_torch(text, lengths, enforce_sorted, dtype):
    torch = pytest.importorskip("torch")
    first = "batch_first" in text

    class Packing:
        def __init__(self, module, library):
            self.module, self.library = module, library

        def __getattr__(self, name):
            return getattr(self.module, name)

        def __call__(self, x, *states):
            utils = rnn if self.library is dt else torch.nn.utils.rnn
            states = states if "LSTM" in text else states[0]
            output, last = self.module(packed(self.library, x, lengths, enforce_sorted, first), states)
            return flat(self.library, (utils.pad_packed_sequence(output, first)[0], last))

    module, other = build(text, "ours", dtype), build(text, "theirs", dtype)
    arrays = inputs(text, (4, 5, 4) if first else (5, 4, 4), (len(module.all_weights), 4, 6))
    compare_modules(Packing(module, dt), Packing(other, torch), arrays, dtype)


def test_gradients_of_packed_sequences_agree_with_differences():
    dt.manual_seed(1)
    [x] = draw(0, (5, 4, 3))
    for text in ("RNN(3, 2, bidirectional=True)", "LSTM(3, 2, bidirectional=True)", "GRU(3, 2, bidirectional=True)"):
        module = build(text, "ours", "float64")

        def call(x, module=module):
            output, last = module(rnn.pack_padded_sequence(x, [2, 5, 1, 3], enforce_sorted=False))
            return flat(dt, (output.data, last))

        assert_gradients(module, call, ours(x))


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("side", ["right", "left"])
def test_pad_sequence(batch_first, side):
    torch = pytest.importorskip("torch")
    arrays = draw(0, (3, 2), (5, 2), (1, 2))
    mine = rnn.pad_sequence([ours(x) for x in arrays], batch_first, 1.5, side)
    close(mine, torch.nn.utils.rnn.pad_sequence([theirs(x) for x in arrays], batch_first, 1.5, side), "float64", "padded")
    if side == "right":
        for row, x in zip(rnn.unpad_sequence(mine, [3, 5, 1], batch_first), arrays, strict=True):
            np.testing.assert_array_equal(row.detach().numpy(), x)
    tokens = rnn.pad_sequence([dt.tensor([1, 2]), dt.tensor([3])], True, padding_value=9)
    assert tokens.tolist() == [[1, 2], [3, 9]] and tokens.dtype == dt.int64


def test_pack_sequence_and_back():
    arrays = draw(0, (3, 2), (5, 2), (1, 2))
    sequences = rnn.unpack_sequence(rnn.pack_sequence([ours(x) for x in arrays], enforce_sorted=False))
    for sequence, x in zip(sequences, arrays, strict=True):
        np.testing.assert_array_equal(sequence.detach().numpy(), x)


def test_packed_sequence_changes_type():
    sequence = rnn.pack_sequence([dt.ones(3), dt.ones(2)])
    assert sequence.double().data.dtype == dt.float64 and sequence.cpu().float().data.dtype == dt.float32
    assert sequence.batch_sizes.tolist() == [2, 2, 1] and sequence.sorted_indices is None and not sequence.is_cuda


def test_dropout_is_between_the_layers_and_in_training_only():
    dt.manual_seed(0)
    module = nn.LSTM(4, 6, 2, dropout=0.5)
    x = dt.ones(*BATCH)
    results = [module(x)[0].detach().numpy() for seed in (1, 1, 2) if dt.manual_seed(seed)]
    assert np.array_equal(*results[:2]) and not np.array_equal(*results[1:])
    everything = nn.LSTM(4, 6, 2, dropout=1.0)
    blind = everything(x)[0].detach().numpy()
    assert np.ptp(blind, axis=1).max() == 0  # the second layer saw zeros
    module.eval()
    assert np.array_equal(module(x)[0].detach().numpy(), module(x)[0].detach().numpy())
    with pytest.warns(UserWarning, match="num_layers"):
        nn.GRU(4, 6, dropout=0.5)


def test_weights_start_within_their_bound():
    dt.manual_seed(0)
    for module in (nn.LSTM(40, 100), nn.GRUCell(40, 100)):
        for parameter in module.parameters():
            assert 0.095 < np.abs(parameter.detach().numpy()).max() <= 0.1


def test_extreme_inputs_give_no_warning():
    for layer in (nn.RNN(2, 3), nn.LSTM(2, 3), nn.GRU(2, 3)):
        for value in (1e30, -1e30, np.inf, np.nan):
            y, _ = layer(dt.full((2, 1, 2), value))
            y.sum().backward()


def test_a_changed_output_is_noticed():
    x = dt.ones(*BATCH)
    y, _ = nn.LSTM(4, 6)(x)
    y.mul_(2)
    with pytest.raises(RuntimeError, match="in place"):
        y.sum().backward()


def test_a_sequence_is_learned():
    """The sign of the first of eight numbers, remembered to the end."""
    dt.manual_seed(0)
    module, head = nn.GRU(1, 8, batch_first=True), nn.Linear(8, 1)
    optimizer = dt.optim.Adam([*module.parameters(), *head.parameters()], lr=0.02)
    for _ in range(80):
        x = dt.randn(32, 8, 1)
        _, last = module(x)
        loss = nn.BCEWithLogitsLoss()(head(last[0])[:, 0], (x[:, 0, 0] > 0).float())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.3


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: nn.LSTM(4, 6)(dt.ones(5, 3, 3)), RuntimeError, "Expected 4, got 3"),
        (lambda: nn.LSTM(4, 6)(dt.ones(4)), ValueError, "got 1D"),
        (lambda: nn.LSTM(4, 6)(dt.ones(0, 3, 4)), RuntimeError, "time step"),
        (lambda: nn.GRU(4, 6)(dt.ones(5, 3, 4), dt.ones(1, 2, 6)), RuntimeError, "Expected hidden size (1, 3, 6), got [1, 2, 6]"),
        (lambda: nn.GRU(4, 6)(dt.ones(5, 3, 4), dt.ones(3, 6)), RuntimeError, "3-D"),
        (lambda: nn.LSTM(4, 6)(dt.ones(5, 3, 4), (dt.ones(1, 3, 6), dt.ones(1, 3, 5))), RuntimeError, "hidden[1]"),
        (lambda: nn.LSTM(4, 6)(dt.ones(5, 3, 4), dt.ones(1, 3, 6)), TypeError, "pair"),
        (lambda: nn.LSTM(4, 6)(dt.ones(5, 3, 4).double()), ValueError, "float32, float64"),
        (lambda: nn.LSTM(4, 6, proj_size=2), ValueError, "proj_size=2"),
        (lambda: nn.LSTM(4, 0), ValueError, "hidden_size"),
        (lambda: nn.LSTM(4, 6, 2, dropout=1.5), ValueError, "1.5"),
        (lambda: nn.RNN(4, 6, nonlinearity="gelu"), ValueError, "gelu"),
        (lambda: nn.LSTMCell(4, 6)(dt.ones(2, 3, 4)), ValueError, "3D"),
        (lambda: nn.GRUCell(4, 6)(dt.ones(3, 4), dt.ones(2, 6)), RuntimeError, "(3, 6)"),
        (lambda: rnn.pack_padded_sequence(dt.ones(5, 2, 3), [3, 5]), RuntimeError, "enforce_sorted=False"),
        (lambda: rnn.pack_padded_sequence(dt.ones(5, 2, 3), [3, 0]), RuntimeError, "greater than 0"),
        (lambda: rnn.pack_padded_sequence(dt.ones(5, 2, 3), [6, 3]), RuntimeError, "5 time steps"),
        (lambda: rnn.pack_padded_sequence(dt.ones(5, 2, 3), [3]), RuntimeError, "batch_size=2"),
        (lambda: rnn.pad_packed_sequence(rnn.pack_sequence([dt.ones(3)]), total_length=2), ValueError, "total_length=2"),
        (lambda: rnn.pad_sequence([]), RuntimeError, "non-empty"),
    ],
)
def test_what_does_not_fit(call, error, words):
    with pytest.raises(error) as caught:
        call()
    assert words in str(caught.value)
