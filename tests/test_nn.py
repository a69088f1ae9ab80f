"""Layers and losses against PyTorch: one row each gives forward and backward parity in both types, train and eval, state_dict and repr."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from parity import compare, compare_modules, draw, load_from, ours

import dist_train as dt
from dist_train import nn
from dist_train.autograd.gradcheck import gradcheck

pytestmark = [  # PyTorch's own
    pytest.mark.filterwarnings("ignore:Using padding='same':UserWarning"),
    pytest.mark.filterwarnings("ignore:reduction. 'mean' divides:UserWarning"),
]
IMAGE = (2, 4, 9, 8)

# constructor, inputs (see parity.draw)
LAYERS = [
    ("Linear(5, 3)", (4, 5)),
    ("Linear(5, 3, bias=False)", (2, 4, 5)),
    ("Linear(5, 3)", (5,)),
    ("Linear(5, 3)", (0, 5)),
    ("Identity()", (3, 2)),
    ("Conv2d(4, 6, 3)", IMAGE),
    ("Conv2d(4, 6, 3, stride=2, padding=1)", IMAGE),
    ("Conv2d(4, 6, (3, 2), stride=(2, 1), padding=(1, 0), dilation=(2, 3), bias=False)", IMAGE),
    ("Conv2d(4, 6, 3, padding='same', dilation=2)", IMAGE),
    ("Conv2d(4, 6, (2, 4), padding='same')", IMAGE),
    ("Conv2d(4, 6, 3, padding='valid')", IMAGE),
    ("Conv2d(4, 6, 3, groups=2)", IMAGE),
    ("Conv2d(4, 4, 3, groups=4, padding=1)", IMAGE),
    ("Conv2d(4, 4, 3, groups=4, stride=2, dilation=2)", IMAGE),
    ("Conv2d(4, 8, 3, groups=4)", IMAGE),
    ("Conv2d(4, 6, 1)", IMAGE),
    ("Conv2d(4, 6, 1, stride=2)", IMAGE),
    ("Conv2d(1, 1, 3)", (2, 1, 5, 5)),
    ("Conv2d(4, 6, 3)", (4, 9, 8)),
    ("Conv2d(4, 6, 3)", (0, 4, 9, 8)),
    ("Conv2d(4, 6, (9, 8))", IMAGE),
    ("Conv2d(4, 6, 2, stride=3)", (3, 4, 40, 30)),
    ("Conv1d(4, 6, 3, padding=1, stride=2)", (2, 4, 9)),
    ("Conv1d(4, 6, 3, padding='same')", (2, 4, 9)),
    ("Conv1d(4, 6, 3, dilation=2, groups=2)", (4, 9)),
    ("ConvTranspose2d(4, 6, 3)", IMAGE),
    ("ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1)", IMAGE),
    ("ConvTranspose2d(4, 6, (4, 2), (2, 3), (1, 0), bias=False)", IMAGE),
    ("ConvTranspose2d(4, 6, 3, 1, 2, (1, 0), 2, False, 2)", IMAGE),
    ("ConvTranspose2d(4, 6, 3, groups=2, stride=2)", IMAGE),
    ("ConvTranspose2d(4, 4, 3, groups=4, stride=2)", IMAGE),
    ("ConvTranspose2d(4, 8, 2, groups=4)", IMAGE),
    ("ConvTranspose2d(4, 6, 3)", (4, 9, 8)),
    ("ConvTranspose1d(4, 6, 3, stride=2, padding=1, output_padding=1)", (2, 4, 9)),
    ("ConvTranspose1d(4, 6, 3, dilation=2, groups=2)", (4, 9)),
    ("MaxPool2d(2)", IMAGE),
    ("MaxPool2d(3, stride=2, padding=1)", IMAGE),
    ("MaxPool2d(3, stride=2, ceil_mode=True)", IMAGE),
    ("MaxPool2d((2, 3), stride=1, dilation=2)", IMAGE),
    ("MaxPool2d(2)", (4, 9, 8)),
    ("MaxPool1d(3, stride=2, padding=1)", (2, 4, 9)),
    ("AvgPool2d(2)", IMAGE),
    ("AvgPool2d(3, stride=2, padding=1)", IMAGE),
    ("AvgPool2d(3, stride=2, padding=1, count_include_pad=False)", IMAGE),
    ("AvgPool2d(3, stride=2, padding=1, ceil_mode=True)", IMAGE),
    ("AvgPool2d(2, stride=3, ceil_mode=True)", (2, 3, 7, 8)),
    ("AvgPool2d(3, divisor_override=5)", IMAGE),
    ("AdaptiveAvgPool2d(1)", IMAGE),
    ("AdaptiveAvgPool2d((3, 4))", IMAGE),
    ("AdaptiveAvgPool2d((4, 5))", IMAGE),
    ("AdaptiveAvgPool2d((None, 3))", IMAGE),
    ("AdaptiveAvgPool2d(12)", IMAGE),
    ("BatchNorm1d(5)", (7, 5)),
    ("BatchNorm1d(5, momentum=None)", (7, 5, 3)),
    ("BatchNorm1d(5, affine=False)", (7, 5)),
    ("BatchNorm2d(4, momentum=0.3, eps=1e-3)", IMAGE),
    ("BatchNorm2d(4, track_running_stats=False)", IMAGE),
    ("BatchNorm2d(4, bias=False)", IMAGE),
    ("LayerNorm(5)", (7, 5)),
    ("LayerNorm(5)", (0, 5)),
    ("LayerNorm((3, 5))", (2, 4, 3, 5)),
    ("LayerNorm(5, bias=False)", (7, 5)),
    ("LayerNorm(5, elementwise_affine=False)", (7, 5)),
    ("GroupNorm(2, 4)", IMAGE),
    ("GroupNorm(4, 4, affine=False)", IMAGE),
    ("GroupNorm(1, 6)", (5, 6)),
    ("GroupNorm(1, 6, bias=False)", (5, 6)),
    ("InstanceNorm2d(4)", IMAGE),
    ("InstanceNorm2d(4)", (4, 9, 8)),
    ("InstanceNorm2d(4, affine=True, track_running_stats=True)", IMAGE),
    ("InstanceNorm2d(4, affine=True, bias=False, momentum=0.3, track_running_stats=True)", IMAGE),
    ("InstanceNorm1d(4, affine=True)", (2, 4, 5)),
    ("ZeroPad2d(2)", IMAGE),
    ("ConstantPad2d((1, 0, 2, 3), 1.5)", IMAGE),
    ("ReflectionPad1d((2, 3))", (2, 4, 5)),
    ("ReflectionPad2d(3)", IMAGE),
    ("ReflectionPad2d((1, 2, 3, 0))", (4, 9, 8)),
    ("ReplicationPad1d(2)", (4, 5)),
    ("ReplicationPad2d((1, 2, 3, 0))", IMAGE),
    ("Upsample(scale_factor=2)", IMAGE),
    ("Upsample(size=(5, 20))", IMAGE),
    ("Upsample(scale_factor=(2, 1.5), mode='bilinear')", IMAGE),
    ("Upsample(scale_factor=2, mode='bilinear', align_corners=True)", IMAGE),
    ("PixelShuffle(2)", IMAGE),
    ("PixelUnshuffle(2)", (3, 4, 6)),
    ("Embedding(7, 3)", ((4, 5), 7)),
    ("Embedding(7, 3, padding_idx=2)", ((40,), 7)),
    ("Embedding(7, 3, padding_idx=-1)", ((40,), 7)),
    ("Embedding(7, 3)", ((0,), 7)),
    ("Flatten()", IMAGE),
    ("Flatten(0, 2)", IMAGE),
    ("Unflatten(1, (2, 2))", (3, 4)),
    ("ReLU()", (5, 6)),
    ("ReLU6()", (5, 6)),
    ("LeakyReLU(0.2)", (5, 6)),
    ("ELU(0.7)", (5, 6)),
    ("SiLU()", (5, 6)),
    ("Hardswish()", (5, 6)),
    ("Hardsigmoid()", (5, 6)),
    ("Hardtanh(-0.5, 0.7)", (5, 6)),
    ("GELU()", (5, 6)),
    ("GELU(approximate='tanh')", (5, 6)),
    ("Softplus(2.0, 1.0)", (5, 6)),
    ("Tanh()", (5, 6)),
    ("Sigmoid()", (5, 6)),
    ("Softmax(dim=1)", (5, 6)),
    ("Softmax(dim=-2)", (2, 5, 6)),
    ("LogSoftmax(dim=0)", (5, 6)),
    ("Dropout(0.0)", (5, 6)),
    ("Sequential(nn.Linear(5, 3), nn.Tanh(), nn.Sequential(nn.Linear(3, 2)))", (4, 5)),
]
# constructor, input, target
SCORES, LABELS = (6, 5), ((6,), 5)
LOSSES = [
    ("MSELoss()", (4, 3), (4, 3)),
    ("L1Loss()", (4, 3), (4, 3)),
    ("SmoothL1Loss()", (4, 3), (4, 3)),
    ("SmoothL1Loss(beta=0.3)", (4, 3), (4, 3)),
    ("SmoothL1Loss(beta=0.0)", (4, 3), (4, 3)),
    ("CrossEntropyLoss()", SCORES, LABELS),
    ("CrossEntropyLoss()", (5,), ((), 5)),
    ("CrossEntropyLoss()", (2, 5, 3, 4), ((2, 3, 4), 5)),
    ("CrossEntropyLoss(ignore_index=2)", SCORES, LABELS),
    ("CrossEntropyLoss(ignore_index=2, label_smoothing=0.1)", SCORES, LABELS),
    ("CrossEntropyLoss(weight=W)", SCORES, LABELS),
    ("CrossEntropyLoss(weight=W, ignore_index=2, label_smoothing=0.3)", (2, 5, 7), ((2, 7), 5)),
    ("CrossEntropyLoss(label_smoothing=1.0)", SCORES, LABELS),
    ("CrossEntropyLoss()", SCORES, (SCORES, "unit")),
    ("CrossEntropyLoss(weight=W, label_smoothing=0.2)", (2, 5, 3), ((2, 5, 3), "unit")),
    ("CrossEntropyLoss()", (5,), ((5,), "unit")),
    ("NLLLoss()", SCORES, LABELS),
    ("NLLLoss(weight=W, ignore_index=1)", (2, 5, 3), ((2, 3), 5)),
    ("NLLLoss()", (5,), ((), 5)),
    ("BCELoss()", ((4, 3), "unit"), ((4, 3), "unit")),
    ("BCELoss(weight=V)", ((4, 3), "unit"), ((4, 3), "unit")),
    ("BCEWithLogitsLoss()", (4, 3), ((4, 3), "unit")),
    ("BCEWithLogitsLoss(weight=V, pos_weight=V)", (4, 3), ((4, 3), "unit")),
    ("KLDivLoss()", (4, 3), ((4, 3), "unit")),
    ("KLDivLoss(log_target=True)", (4, 3), (4, 3)),
]
PARITY = [
    (text, spec, dtype)
    for text, spec in LAYERS
    for dtype in ("float32", "float64")
    if (text, dtype) != ("Hardsigmoid()", "float64")  # whose gradient PyTorch multiplies by 1/6 in float32
]
WEIGHTS = {"W": [0.5, 1.0, 0.0, 2.0, 0.25], "V": [0.5, 2.0, 1.5]}


def build(text, library, dtype="float32"):
    """The module that `text` constructs in dist_train ("ours") or PyTorch ("theirs")."""
    if library == "ours":
        weights = {name: dt.tensor(values, dtype=dtype) for name, values in WEIGHTS.items()}
        return eval(f"nn.{text}", {"nn": nn, **weights}).to(dtype)
    torch = pytest.importorskip("torch")
    weights = {name: torch.tensor(values, dtype=getattr(torch, dtype)) for name, values in WEIGHTS.items()}
    return eval(f"nn.{text}", {"nn": torch.nn, **weights}).to(getattr(torch, dtype))


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize(("text", "spec", "dtype"), PARITY)
def test_layer_is_as_in_torch(text, spec, dtype, training):
    module, other = build(text, "ours", dtype).train(training), build(text, "theirs", dtype).train(training)
    for seed in range(2):  # the second call starts from moved running statistics
        compare_modules(module, other, draw(seed, spec), dtype)


@pytest.mark.parametrize(("text", "spec"), [row for row in LAYERS if "Embedding" not in row[0] and 0 not in row[1]])
def test_layer_gradients_agree_with_differences(text, spec):
    [x] = draw(3, spec)
    dt.manual_seed(1)
    assert gradcheck(build(text, "ours", "float64"), (ours(x),), fast_mode=True)


@pytest.mark.parametrize("text", sorted({text for text, _ in LAYERS} | {text for text, *_ in LOSSES}))
def test_repr_is_torchs(text):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert repr(build(text, "ours")) == repr(build(text, "theirs"))


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("text", "input_spec", "target_spec"), LOSSES)
def test_loss_is_as_in_torch(text, input_spec, target_spec, dtype, reduction):
    text = text[:-1] + f", reduction='{reduction}')" if text[-2] != "(" else text[:-1] + f"reduction='{reduction}')"
    module, other = build(text, "ours", dtype), build(text, "theirs", dtype)
    [x, target] = draw(5, input_spec, target_spec)
    target = target.astype(dtype) if target.dtype.kind == "f" else target
    compare(lambda a: module(a, ours(target, False)), lambda a: other(a, _torch(target)), [x], dtype)


@pytest.mark.parametrize(("text", "input_spec", "target_spec"), LOSSES)
def test_loss_gradients_agree_with_differences(text, input_spec, target_spec):
    [x, target] = draw(6, input_spec, target_spec)
    module = build(text, "ours", "float64")
    assert gradcheck(lambda a: module(a, ours(target, False)), (ours(x),))


@pytest.mark.parametrize("text", ["MSELoss()", "L1Loss()", "SmoothL1Loss()"])
def test_loss_gradient_of_the_target(text):
    module, other = build(text, "ours"), build(text, "theirs")
    compare(module, other, draw(8, (4, 3), (4, 3)), "float32")


def _torch(array):
    return pytest.importorskip("torch").tensor(array)


def test_batchmean_of_kl_div():
    [x, target] = draw(9, (4, 3), ((4, 3), "unit"))
    module, other = (
        build("KLDivLoss(reduction='batchmean')", "ours", "float64"),
        build("KLDivLoss(reduction='batchmean')", "theirs", "float64"),
    )
    compare(lambda a: module(a, ours(target, False)), lambda a: other(a, _torch(target)), [x], "float64")


def test_max_pool_gradient_goes_to_the_first_maximum():
    torch = pytest.importorskip("torch")
    x = np.random.default_rng(0).integers(0, 3, (2, 3, 8, 8)).astype("float32")  # many ties
    compare(nn.MaxPool2d(3, 2, 1), torch.nn.MaxPool2d(3, 2, 1), [x], "float32")


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_all_labels_ignored(reduction):
    torch = pytest.importorskip("torch")
    [x] = draw(0, (3, 4))
    labels = np.full(3, -100)
    compare(
        lambda a: nn.CrossEntropyLoss(reduction=reduction)(a, ours(labels)),
        lambda a: torch.nn.CrossEntropyLoss(reduction=reduction)(a, torch.tensor(labels)),
        [x],
        "float32",
    )


def test_extreme_scores_give_no_warning():
    x = ours(np.array([[1e4, -1e4], [-np.inf, 0.0]], "float32"))
    loss = nn.CrossEntropyLoss(reduction="none")(x, dt.tensor([0, 1]))
    np.testing.assert_array_equal(loss.detach().numpy(), [0, 0])
    assert np.isnan(nn.Softmax(1)(ours(np.full((1, 2), -np.inf, "float32"))).detach().numpy()).all()
    np.testing.assert_allclose(nn.BCELoss()(dt.tensor([0.0, 1.0]), dt.tensor([1.0, 0.0])).item(), 100)
    for layer in (nn.SiLU(), nn.GELU(), nn.GELU("tanh"), nn.Softplus(), nn.ELU(), nn.Sigmoid()):
        y = layer(ours(np.array([-1e30, -200, 200, 1e30], "float32")))
        y.sum().backward()
        assert np.isfinite(y.detach().numpy()).all(), layer


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan, 1e38])
@pytest.mark.parametrize(("text", "spec"), [(text, spec) for text, spec in LAYERS if "Embedding" not in text])
def test_a_diverged_input_gives_no_warning(text, spec, value):
    x = ours(np.full(spec, value, "float32"))
    y = build(text, "ours")(x)
    y.backward(dt.ones_like(y))


@pytest.mark.parametrize(
    ("text", "spec", "error", "words"),
    [
        ("Linear(5, 3)", (4, 6), RuntimeError, "(3, 5)"),
        ("Conv2d(4, 6, 3)", (2, 3, 9, 9), RuntimeError, "3 channels"),
        ("Conv2d(4, 6, 5)", (2, 4, 4, 9), RuntimeError, "4 x 9"),
        ("Conv2d(4, 6, 5)", (4, 9), RuntimeError, "(4, 9)"),
        ("Conv1d(4, 6, 5)", (1, 2, 4, 9), RuntimeError, "(1, 2, 1, 4, 9)"),
        ("ConvTranspose2d(4, 6, 3)", (2, 3, 9, 9), RuntimeError, "3 channels"),
        ("ConvTranspose2d(4, 6, 3, padding=5)", IMAGE, RuntimeError, "too small"),
        ("ConvTranspose2d(4, 6, 3, stride=2, output_padding=2)", IMAGE, RuntimeError, "smaller than either stride"),
        ("ConvTranspose2d(4, 6, 3)", (4, 9), RuntimeError, "(4, 9)"),
        ("MaxPool2d(5)", (2, 4, 4, 9), RuntimeError, "4 x 9"),
        ("MaxPool2d(2, padding=2)", IMAGE, RuntimeError, "padding"),
        ("BatchNorm1d(5)", (1, 5), ValueError, "more than 1 value per channel"),
        ("BatchNorm2d(5)", (4, 5), ValueError, "2D"),
        ("BatchNorm1d(5)", (4, 6), RuntimeError, "6 channels"),
        ("LayerNorm(5)", (4, 6), RuntimeError, "[4, 6]"),
        ("GroupNorm(2, 4)", (4, 6), RuntimeError, "6 channels"),
        ("InstanceNorm2d(4)", (4, 6), ValueError, "got 2D"),
        ("InstanceNorm2d(4, affine=True)", (2, 3, 6, 5), ValueError, "(2, 3, 6, 5)"),
        ("InstanceNorm1d(4)", (2, 4, 1), ValueError, "more than 1 value"),
        ("Embedding(5, 2)", ((9,), 9), IndexError, "[0, 5)"),
        ("Embedding(5, 2)", (4,), RuntimeError, "integer"),
        ("Softmax(dim=3)", (4, 6), IndexError, "(4, 6)"),
    ],
)
def test_input_that_does_not_fit(text, spec, error, words):
    [x] = draw(0, spec)
    with pytest.raises(error) as caught:
        build(text, "ours")(ours(x.astype("float32") if x.dtype.kind == "f" else np.arange(9)))
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("text", "x", "target", "error", "words"),
    [
        ("CrossEntropyLoss()", np.zeros((2, 3)), [0, 3], IndexError, "target 3 is outside the 3 classes"),
        ("CrossEntropyLoss()", np.zeros((2, 3)), [0, -1], IndexError, "target -1"),
        ("NLLLoss()", np.zeros((2, 3)), [0, 7], IndexError, "target 7"),
        ("CrossEntropyLoss()", np.zeros((2, 3)), [0, 1, 2], ValueError, "(3,)"),
        ("CrossEntropyLoss()", np.zeros((2, 3)), [[0.5], [0.5]], ValueError, "(2, 1)"),
        ("NLLLoss()", np.zeros((2, 3)), [0.0, 1.0], RuntimeError, "long()"),
        ("BCELoss()", np.full((2, 3), 0.5), np.zeros((2, 1)), ValueError, "(2, 1)"),
        ("BCELoss()", np.full(2, 1.5), np.zeros(2), RuntimeError, "1.5"),
        ("MSELoss(reduction='avg')", np.zeros(2), np.zeros(2), ValueError, "avg"),
    ],
)
def test_targets_that_do_not_fit(text, x, target, error, words):
    with pytest.raises(error) as caught:
        build(text, "ours", "float64")(ours(x), ours(np.asarray(target), False))
    assert words in str(caught.value)


def test_losses_of_different_shapes_warn_and_broadcast():
    [x, y] = draw(0, (4, 1), (4,))
    with pytest.warns(UserWarning, match=r"\(4,\)"):
        loss = nn.MSELoss()(ours(x), ours(y, False))
    np.testing.assert_allclose(loss.item(), ((x - y) ** 2).mean())


@pytest.mark.parametrize(
    "text", ["Conv2d(4, 6, 3, padding_mode='reflect')", "Embedding(4, 2, max_norm=1.0)", "MaxPool2d(2, return_indices=True)"]
)
def test_options_that_are_not_supported_say_so(text):
    with pytest.raises(ValueError, match="support"):
        build(text, "ours")


class TestDropout:
    x = dt.ones(200, 300)

    def test_keeps_the_mean_and_scales(self):
        dt.manual_seed(0)
        y = nn.Dropout(0.25)(self.x).numpy()
        assert set(np.unique(y)) == {0.0, np.float32(1 / 0.75)}
        assert abs(y.mean() - 1) < 0.01

    def test_is_a_function_of_the_seed(self):
        masks = [nn.Dropout(0.5)(self.x).numpy() for seed in (1, 1, 2) if dt.manual_seed(seed)]
        assert np.array_equal(masks[0], masks[1]) and not np.array_equal(masks[0], masks[2])

    def test_draws_nothing_when_nothing_is_dropped(self):
        dt.manual_seed(0)
        first = dt.rand(1).item()
        dt.manual_seed(0)
        assert nn.Dropout(0.5).eval()(self.x) is self.x and nn.Dropout(0.0)(self.x) is self.x
        assert dt.rand(1).item() == first

    def test_gradient_uses_the_same_mask(self):
        x = dt.ones(50, requires_grad=True)
        y = nn.Dropout(0.5)(x)
        y.sum().backward()
        np.testing.assert_array_equal(x.grad.numpy(), y.detach().numpy())

    def test_everything(self):
        np.testing.assert_array_equal(nn.Dropout(1.0)(self.x).numpy(), 0)

    def test_whole_channels(self):
        y = nn.Dropout2d(0.5)(dt.ones(8, 16, 3, 3)).numpy().reshape(128, 9)
        assert (y.min(1) == y.max(1)).all() and 0 < (y[:, 0] == 0).mean() < 1

    def test_in_place(self):
        x = dt.ones(50)
        assert nn.Dropout(0.5, inplace=True)(x) is x and (x.numpy() == 0).any()

    def test_probability_out_of_range(self):
        with pytest.raises(ValueError, match=r"1\.5"):
            nn.Dropout(1.5)


@pytest.mark.parametrize(("first", "spec"), [("Linear(5, 5)", (4, 5)), ("Conv1d(5, 5, 2)", (4, 5, 3)), ("BatchNorm1d(5)", (4, 5))])
def test_relu_in_place_is_differentiable(first, spec):
    [x] = draw(0, spec)
    layer = nn.Sequential(build(first, "ours"), nn.ReLU(inplace=True), nn.Tanh()).double()
    a, b = ours(x), ours(x)
    layer(a).sum().backward()
    layer[1].inplace = False
    layer(b).sum().backward()
    np.testing.assert_array_equal(a.grad.numpy(), b.grad.numpy())
    with pytest.raises(RuntimeError, match="in place"):
        nn.ReLU(inplace=True)(ours(x))


@pytest.mark.parametrize("text", [text for text, spec in LAYERS if spec == IMAGE])
def test_non_contiguous_input(text):
    [x] = draw(4, IMAGE)
    other = np.asfortranarray(x)
    dt.manual_seed(0)
    layer = build(text, "ours", "float64").eval()
    np.testing.assert_allclose(layer(ours(other)).detach().numpy(), layer(ours(x)).detach().numpy(), rtol=1e-12, atol=1e-12)


def test_from_pretrained():
    table = dt.tensor([[1.0, 2.0], [3.0, 4.0]])
    layer = nn.Embedding.from_pretrained(table)
    assert not layer.weight.requires_grad
    np.testing.assert_array_equal(layer(dt.tensor([1, 0])).numpy(), [[3, 4], [1, 2]])


def test_transposed_convolution_of_a_wanted_size():
    torch = pytest.importorskip("torch")
    [x] = draw(0, IMAGE)
    module, other = (build("ConvTranspose2d(4, 6, 3, stride=2, padding=1)", library, "float64") for library in ("ours", "theirs"))
    load_from(module, other)
    compare(lambda a: module(a, (18, 15)), lambda a: other(a, torch.Size((18, 15))), [x], "float64")
    with pytest.raises(ValueError, match=r"range from \[17, 15\] to \[18, 16\]"):
        module(ours(x), (19, 15))


class TestWeightNorm:
    CASES = [
        ("Linear(5, 3)", (4, 5), 0),
        ("Linear(5, 3)", (4, 5), None),
        ("Linear(5, 3)", (4, 5), 1),
        ("Conv2d(4, 6, 3)", IMAGE, 0),
        ("ConvTranspose2d(4, 6, 3)", IMAGE, 1),
    ]

    @pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated:FutureWarning")
    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    @pytest.mark.parametrize(("text", "spec", "dim"), CASES)
    def test_is_as_in_torch(self, text, spec, dim, dtype):
        torch = pytest.importorskip("torch")
        module = nn.utils.weight_norm(build(text, "ours", dtype), dim=dim)
        other = torch.nn.utils.weight_norm(build(text, "theirs", dtype), dim=dim)
        compare_modules(module, other, draw(0, spec), dtype)

    def test_keeps_the_values_when_applied_and_removed(self):
        [x] = draw(0, (4, 5))
        module = build("Linear(5, 3)", "ours", "float64")
        names, expected = list(module.state_dict()), module(ours(x)).detach().numpy()
        nn.utils.weight_norm(module)
        np.testing.assert_allclose(module(ours(x)).detach().numpy(), expected, rtol=1e-12)
        with pytest.raises(RuntimeError, match="two weight_norm"):
            nn.utils.weight_norm(module)
        nn.utils.remove_weight_norm(module)
        np.testing.assert_allclose(module(ours(x)).detach().numpy(), expected, rtol=1e-12)
        assert sorted(module.state_dict()) == sorted(names) and len(list(module.parameters())) == 2
        with pytest.raises(ValueError, match="not found"):
            nn.utils.remove_weight_norm(module)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize(("margin", "shape"), [(0.0, (6, 5)), (0.3, (6, 5)), (0.0, (5,))])
def test_cosine_embedding_loss(margin, shape, reduction, dtype):
    torch = pytest.importorskip("torch")
    target = np.array([1, -1, -1, 1, -1, 1] if len(shape) > 1 else -1)
    settings = {"margin": margin, "reduction": reduction}
    module, other = nn.CosineEmbeddingLoss(**settings), torch.nn.CosineEmbeddingLoss(**settings)
    arrays = draw(3, shape, shape)
    compare(lambda a, b: module(a, b, ours(target)), lambda a, b: other(a, b, _torch(target)), arrays, dtype)
    assert gradcheck(lambda a, b: module(a, b, ours(target)), tuple(map(ours, arrays)))
    assert repr(module) == repr(other)


def test_cosine_similarity_layer():
    torch = pytest.importorskip("torch")
    compare(nn.CosineSimilarity(dim=2), torch.nn.CosineSimilarity(dim=2), draw(3, (2, 3, 4), (2, 1, 4)), "float64")
    assert repr(nn.CosineSimilarity()) == repr(torch.nn.CosineSimilarity())
