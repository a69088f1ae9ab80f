"""Multi-head attention and transformer layers against PyTorch: same weights, same outputs, weights and gradients."""

from __future__ import annotations

import numpy as np
import pytest
from parity import compare_modules, draw, load_from, ours, theirs

import dist_train as dt
from dist_train import nn
from dist_train.autograd.gradcheck import gradcheck

pytestmark = [  # PyTorch's own
    pytest.mark.filterwarnings("ignore:Support for mismatched:UserWarning"),
    pytest.mark.filterwarnings("ignore:enable_nested_tensor is True:UserWarning"),
]
SELF, CROSS = [(5, 3, 8)], [(5, 3, 8), (4, 3, 8), (4, 3, 8)]
FUTURE = np.triu(np.ones((5, 5), bool), 1)
SCORES = np.random.default_rng(0).standard_normal((5, 4))
PADDING = np.array([[False, False, True, True], [False] * 4, [False, True, False, True]])
# constructor, inputs (one: self-attention), options of forward
ROWS = [
    ("MultiheadAttention(8, 2)", SELF, {}),
    ("MultiheadAttention(8, 4, bias=False)", SELF, {"need_weights": False}),
    ("MultiheadAttention(8, 4, batch_first=True)", SELF, {"average_attn_weights": False}),
    ("MultiheadAttention(8, 4, batch_first=True)", SELF, {"need_weights": False}),
    ("MultiheadAttention(8, 2)", [(5, 8)], {}),
    ("MultiheadAttention(8, 2)", [(5, 8)], {"need_weights": False, "attn_mask": FUTURE}),
    ("MultiheadAttention(8, 2, batch_first=True)", [(5, 8), (4, 8), (4, 8)], {"key_padding_mask": PADDING[0]}),
    ("MultiheadAttention(8, 2)", CROSS, {}),
    ("MultiheadAttention(8, 2)", CROSS, {"need_weights": False}),
    ("MultiheadAttention(8, 2, kdim=6, vdim=7)", [(5, 3, 8), (4, 3, 6), (4, 3, 7)], {}),
    ("MultiheadAttention(8, 2, kdim=6)", [(5, 3, 8), (4, 3, 6), (4, 3, 8)], {"need_weights": False}),
    ("MultiheadAttention(8, 2)", CROSS, {"attn_mask": SCORES}),
    ("MultiheadAttention(8, 2)", CROSS, {"attn_mask": SCORES > 0.9, "need_weights": False}),
    ("MultiheadAttention(8, 2)", CROSS, {"key_padding_mask": PADDING}),
    ("MultiheadAttention(8, 2)", CROSS, {"key_padding_mask": PADDING, "attn_mask": SCORES, "need_weights": False}),
    ("MultiheadAttention(8, 2)", CROSS, {"attn_mask": np.random.default_rng(1).standard_normal((6, 5, 4))}),
    ("MultiheadAttention(8, 2)", SELF, {"attn_mask": FUTURE, "is_causal": True}),
    ("MultiheadAttention(8, 2)", SELF, {"attn_mask": FUTURE, "is_causal": True, "need_weights": False}),
]


def build(text, library, dtype="float32"):
    if library == "ours":
        return eval(f"nn.{text}", {"nn": nn}).to(dtype)
    torch = pytest.importorskip("torch")
    torch.manual_seed(1)
    return eval(f"nn.{text}", {"nn": torch.nn}).to(getattr(torch, dtype))


class Attention:
    """Attention whose only output is the output and the weights together; one input is query, key and value."""

    def __init__(self, module, library, options, dtype="float64"):
        self.module, self.library = module, library
        tensor = ours if library is dt else theirs
        self.options = {
            name: tensor(value.astype(dtype) if value.dtype.kind == "f" else value, False) if isinstance(value, np.ndarray) else value
            for name, value in options.items()
        }

    def __getattr__(self, name):
        return getattr(self.module, name)

    def __call__(self, *inputs):
        output, weights = self.module(*(inputs * 3)[:3] if len(inputs) == 1 else inputs, **self.options)
        assert (weights is None) == (not self.options.get("need_weights", True))
        return output if weights is None else self.library.cat([output.reshape(-1), weights.reshape(-1)])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("text", "shapes", "options"), ROWS)
def test_is_as_in_torch(text, shapes, options, dtype):
    torch = pytest.importorskip("torch")
    module = Attention(build(text, "ours", dtype), dt, options, dtype)
    other = Attention(build(text, "theirs", dtype), torch, options, dtype)
    compare_modules(module, other, draw(0, *shapes), dtype)


@pytest.mark.parametrize(("text", "shapes", "options"), ROWS)
def test_shapes_are_torchs(text, shapes, options):
    torch = pytest.importorskip("torch")
    arrays = [x.astype("float32") for x in draw(0, *shapes)]
    module, other = Attention(build(text, "ours"), dt, options, "float32"), Attention(build(text, "theirs"), torch, options, "float32")
    for place, (mine, his) in enumerate(
        zip(
            module.module(*(list(map(ours, arrays)) * 3)[:3], **module.options),
            other.module(*(list(map(theirs, arrays)) * 3)[:3], **other.options),
            strict=True,
        )
    ):
        assert (mine is None and his is None) or tuple(mine.shape) == tuple(his.shape), place


@pytest.mark.parametrize(("text", "shapes", "options"), ROWS)
def test_gradients_agree_with_differences(text, shapes, options):
    dt.manual_seed(1)
    module = build(text, "ours", "float64")
    call, names = Attention(module, dt, options), [name for name, _ in module.named_parameters() if "out_proj" not in name]

    def replaced(*values):
        module.__dict__.update(zip(names, values[len(shapes) :], strict=True))
        return call(*values[: len(shapes)])

    weights = [module.get_parameter(name) for name in names]
    assert gradcheck(replaced, (*map(ours, draw(2, *shapes)), *weights), fast_mode=True)


def test_gradient_of_a_mask():
    torch = pytest.importorskip("torch")
    module, other = build("MultiheadAttention(8, 2)", "ours", "float64"), build("MultiheadAttention(8, 2)", "theirs", "float64")
    load_from(module, other)
    [x] = draw(0, SELF[0])
    a, b = ours(np.zeros((5, 5))), torch.zeros(5, 5, dtype=torch.float64, requires_grad=True)
    for library, layer, mask, tensor in ((dt, module, a, ours), (torch, other, b, theirs)):
        (layer(*[tensor(x)] * 3, attn_mask=mask)[0] * library.arange(8)).sum().backward()
    np.testing.assert_allclose(a.grad.numpy(), b.grad.numpy(), atol=1e-12)


def test_dropout_is_of_the_weights_and_in_training_only():
    dt.manual_seed(0)
    module, x = nn.MultiheadAttention(8, 2, dropout=0.5), dt.randn(50, 2, 8)
    weights = module(x, x, x, average_attn_weights=False)[1].detach().numpy()
    assert 0.4 < (weights == 0).mean() < 0.6
    assert not np.array_equal(*[module(x, x, x, need_weights=False)[0].detach().numpy() for _ in range(2)])
    module.eval()
    np.testing.assert_allclose(module(x, x, x)[0].detach().numpy(), module(x, x, x, need_weights=False)[0].detach().numpy(), atol=1e-6)


def test_start_values():
    dt.manual_seed(0)
    module = nn.MultiheadAttention(64, 2)
    weight = module.in_proj_weight.detach().numpy()
    assert 0.98 * np.sqrt(6 / 256) < np.abs(weight).max() <= np.sqrt(6 / 256) * 1.0001
    assert not module.in_proj_bias.detach().numpy().any() and not module.out_proj.bias.detach().numpy().any()


LAYER = "nn.TransformerEncoderLayer(8, 2, 16, 0.0)"
# constructor, inputs, options of forward
TRANSFORMERS = [
    ("TransformerEncoderLayer(8, 2, 16, 0.0)", SELF, {}),
    ("TransformerEncoderLayer(8, 2, 16, 0.0, activation='gelu', norm_first=True)", SELF, {"src_mask": FUTURE}),
    ("TransformerEncoderLayer(8, 2, 16, 0.0, bias=False, batch_first=True)", [(3, 4, 8)], {"src_key_padding_mask": PADDING}),
    ("TransformerEncoderLayer(8, 2, 16, 0.0, activation=nn.Tanh(), layer_norm_eps=0.1)", SELF, {"src_mask": FUTURE, "is_causal": True}),
    (f"TransformerEncoder({LAYER}, 2)", SELF, {"mask": FUTURE, "is_causal": True}),
    (f"TransformerEncoder({LAYER}, 2, nn.LayerNorm(8))", SELF, {}),
    ("TransformerDecoderLayer(8, 2, 16, 0.0)", CROSS[:2], {"tgt_mask": FUTURE}),
    ("TransformerDecoderLayer(8, 2, 16, 0.0, norm_first=True)", CROSS[:2], {"memory_mask": SCORES, "memory_key_padding_mask": PADDING}),
    ("TransformerDecoder(nn.TransformerDecoderLayer(8, 2, 16, 0.0), 2)", CROSS[:2], {}),
    ("Transformer(8, 2, 1, 2, 16, 0.0)", [(4, 3, 8), (5, 3, 8)], {"tgt_mask": FUTURE, "src_key_padding_mask": PADDING}),
    ("Transformer(8, 2, 1, 1, 16, 0.0, batch_first=True, norm_first=True)", [(3, 4, 8), (3, 5, 8)], {"tgt_mask": FUTURE}),
]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("text", "shapes", "options"), TRANSFORMERS)
def test_transformer_is_as_in_torch(text, shapes, options, dtype):
    torch = pytest.importorskip("torch")
    module, other = build(text, "ours", dtype), build(text, "theirs", dtype)
    mine, his = Attention(module, dt, options, dtype), Attention(other, torch, options, dtype)

    class Called:
        def __init__(self, wrapped):
            self.wrapped = wrapped

        def __getattr__(self, name):
            return getattr(self.wrapped.module, name)

        def __call__(self, *inputs):
            return self.wrapped.module(*inputs, **self.wrapped.options)

    compare_modules(Called(mine), Called(his), draw(0, *shapes), dtype)


@pytest.mark.parametrize(("text", "shapes", "options"), TRANSFORMERS[:8])
def test_transformer_gradients_agree_with_differences(text, shapes, options):
    dt.manual_seed(1)
    wrapped = Attention(build(text, "ours", "float64"), dt, options)
    assert gradcheck(lambda *inputs: wrapped.module(*inputs, **wrapped.options), tuple(map(ours, draw(2, *shapes))), fast_mode=True)


def test_square_mask():
    torch = pytest.importorskip("torch")
    expected = torch.nn.Transformer.generate_square_subsequent_mask(4).numpy()
    np.testing.assert_array_equal(nn.Transformer.generate_square_subsequent_mask(4).numpy(), expected)


x = dt.ones(5, 3, 8)
mask = dt.zeros(5, 5, dtype=dt.bool)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: nn.MultiheadAttention(8, 3), ValueError, "num_heads=3"),
        (lambda: nn.MultiheadAttention(8, 2, add_bias_kv=True), ValueError, "support"),
        (lambda: nn.MultiheadAttention(8, 2)(x, x, x[0]), RuntimeError, "(3, 8)"),
        (lambda: nn.MultiheadAttention(6, 2)(x, x, x), RuntimeError, "(6, 6, 6)"),
        (lambda: nn.MultiheadAttention(8, 2)(x, x[:4], x), RuntimeError, "(4, 3, 8)"),
        (lambda: nn.MultiheadAttention(8, 2)(x, x[:, :2], x[:, :2]), RuntimeError, "batch size"),
        (lambda: nn.MultiheadAttention(8, 2)(x, x, x, is_causal=True), RuntimeError, "attn_mask"),
        (lambda: nn.MultiheadAttention(8, 2)(x, x, x, attn_mask=mask[:4]), RuntimeError, "(5, 5) or (6, 5, 5)"),
        (lambda: nn.MultiheadAttention(8, 2)(x, x, x, attn_mask=mask.long()), RuntimeError, "int64"),
        (lambda: nn.MultiheadAttention(8, 2)(x, x, x, key_padding_mask=mask), RuntimeError, "(3, 5)"),
        (lambda: nn.TransformerEncoderLayer(8, 2, activation="sin"), RuntimeError, "sin"),
        (lambda: nn.Transformer(6, 2)(x, x), RuntimeError, "d_model=6"),
    ],
)
def test_what_does_not_fit(call, error, words):
    with pytest.raises(error) as caught:
        call()
    assert words in str(caught.value)
