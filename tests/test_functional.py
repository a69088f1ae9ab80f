"""nn.functional against PyTorch where the layers' tests do not reach, and three whole models."""

from __future__ import annotations

import numpy as np
import pytest
from parity import close, compare, draw, load_from, ours, theirs

import dist_train as dt
import dist_train.nn.functional as F
from dist_train import nn
from dist_train.autograd.gradcheck import gradcheck

# expression over F and float inputs x, y, z; their shapes
CALLS = [
    ("F.linear(x, y, z)", (2, 4, 5), (3, 5), (3,)),
    ("F.relu(x)", (4, 5)),
    ("F.relu_(x * 1)", (4, 5)),
    ("x.relu()", (4, 5)),
    ("x.softmax(-1)", (4, 5)),
    ("x.log_softmax(0)", (4, 5)),
    ("F.softmin(x, dim=1)", (4, 5)),
    ("F.softmax(x, dim=0)", ()),
    ("F.gelu(x, approximate='tanh')", (4, 5)),
    ("F.layer_norm(x, (5,), y, z)", (4, 5), (5,), (5,)),
    ("F.layer_norm(x, (5,), None, y)", (4, 5), (5,)),
    ("F.layer_norm(x, (3, 5), y)", (4, 3, 5), (3, 5)),
    ("F.group_norm(x, 2, y, z)", (3, 4, 5), (4,), (4,)),
    ("F.batch_norm(x, None, None, y, z, training=True)", (3, 4, 5), (4,), (4,)),
    ("F.conv2d(x, y, z, padding=(2, 1))", (2, 3, 7, 6), (4, 3, 3, 2), (4,)),
    ("F.conv1d(x, y, None, 2)", (2, 3, 7), (4, 3, 3)),
    ("F.avg_pool1d(x, 3, 2, 1)", (2, 3, 9)),
    ("F.max_pool1d(x, 3, 2)", (2, 3, 9)),
    ("F.max_pool2d(x, (2, 1))", (2, 3, 9, 4)),
    ("F.adaptive_avg_pool2d(x, (2, None))", (2, 3, 9, 4)),
    ("F.pad(x, (1, 2))", (2, 3)),
    ("F.pad(x, (1, 2, 0, 3), value=2.5)", (2, 3, 4)),
    ("F.pad(x, (-1, 2, 1, -1))", (2, 3, 4)),
    ("F.pad(x, (1, 2), mode='reflect')", (2, 3, 4)),
    ("F.pad(x, (2, 1, 3, 0), mode='reflect')", (2, 4, 3)),
    ("F.pad(x, (5, 1, 0, 7), mode='replicate')", (2, 3, 4, 3)),
    ("F.pad(x, (-1, 2), mode='replicate')", (2, 3, 4)),
    ("F.pad(x, (2, 3, 1, 0), mode='circular')", (2, 3, 4, 3)),
    ("F.interpolate(x, 7)", (2, 3, 4)),
    ("F.interpolate(x, (7, 2))", (2, 3, 4, 5)),
    ("F.interpolate(x, scale_factor=(1.7, 2.3))", (2, 3, 4, 5)),
    ("F.interpolate(x, scale_factor=1.7, recompute_scale_factor=True)", (2, 3, 4, 5)),
    ("F.interpolate(x, (7, 2), mode='nearest-exact')", (2, 3, 4, 5)),
    ("F.interpolate(x, (3, 2), mode='area')", (2, 3, 4, 5)),
    ("F.interpolate(x, 9, mode='linear')", (2, 3, 4)),
    ("F.interpolate(x, (9, 3), mode='bilinear')", (2, 3, 4, 5)),
    ("F.interpolate(x, (9, 1), mode='bilinear', align_corners=True)", (2, 3, 4, 5)),
    ("F.interpolate(x, scale_factor=1.7, mode='bilinear')", (2, 3, 4, 5)),
    ("F.interpolate(x, scale_factor=0.6, mode='bilinear', align_corners=True)", (2, 3, 4, 5)),
    ("F.pixel_shuffle(x, 2)", (2, 8, 3, 4)),
    ("F.pixel_unshuffle(x, 2)", (2, 6, 4)),
    ("F.instance_norm(x, weight=y, bias=z)", (3, 4, 5), (4,), (4,)),
    ("F.cosine_similarity(x, y)", (4, 5), (4, 5)),
    ("F.cosine_similarity(x, y, dim=-1, eps=0.1)", (2, 4, 5), (4, 5)),
    ("F.conv_transpose2d(x, y, z, 2, 1, 1)", (2, 3, 4, 5), (3, 4, 3, 2), (4,)),
    ("F.conv_transpose1d(x, y, None, 2)", (3, 5), (3, 4, 3)),
    ("F.normalize(x, dim=-1)", (4, 5)),
    ("F.normalize(x, p=1.0, dim=0)", (4, 5)),
    ("F.dropout(x, 0.7, training=False)", (4, 5)),
    ("F.scaled_dot_product_attention(x, y, z)", (2, 3, 4, 5), (2, 3, 6, 5), (2, 3, 6, 7)),
    ("F.scaled_dot_product_attention(x, y, z, is_causal=True)", (2, 3, 6, 5), (2, 3, 6, 5), (2, 3, 6, 7)),
    ("F.scaled_dot_product_attention(x, y, z, is_causal=True)", (4, 5), (6, 5), (6, 5)),
    ("F.scaled_dot_product_attention(x, y, z, scale=0.3)", (2, 4, 5), (2, 6, 5), (2, 6, 5)),
    ("F.scaled_dot_product_attention(x, y, z)", (2, 3, 4, 5), (1, 3, 6, 5), (2, 1, 6, 5)),
    ("F.scaled_dot_product_attention(x, x, x, attn_mask=y)", (2, 4, 5), (4, 4)),
    ("F.scaled_dot_product_attention(x, x, x, attn_mask=y > -0.5)", (2, 4, 5), (2, 4, 4)),
]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("expression", "shapes"), [(text, shapes) for text, *shapes in CALLS])
def test_is_as_in_torch(expression, shapes, dtype):
    torch = pytest.importorskip("torch")

    def call(library):
        return lambda *inputs: eval(expression, {"F": library, **dict(zip("xyz", inputs))})

    compare(call(F), call(torch.nn.functional), draw(1, *shapes), dtype)


@pytest.mark.parametrize(("expression", "shapes"), [(text, shapes) for text, *shapes in CALLS if "y >" not in text])
def test_gradients_agree_with_differences(expression, shapes):
    def call(*inputs):
        return eval(expression, {"F": F, **dict(zip("xyz", inputs))})

    assert gradcheck(call, tuple(map(ours, draw(2, *shapes))), fast_mode=True)


class TestAttention:
    def test_a_row_that_may_see_nothing_gives_zeros(self):
        torch = pytest.importorskip("torch")
        mask = np.array([[True, False], [False, False]])
        compare(
            lambda x: F.scaled_dot_product_attention(x, x, x, dt.tensor(mask)),
            lambda x: torch.nn.functional.scaled_dot_product_attention(x, x, x, torch.tensor(mask)),
            draw(0, (2, 3)),
            "float64",
        )

    def test_dropout_drops_weights_and_is_differentiable(self):
        [x] = draw(0, (2, 6, 4))

        def call(q):
            dt.manual_seed(3)
            return F.scaled_dot_product_attention(q, q, q, dropout_p=0.5, is_causal=True)

        assert gradcheck(call, (ours(x),))
        assert not np.allclose(call(ours(x)).detach().numpy(), F.scaled_dot_product_attention(ours(x), ours(x), ours(x)).detach().numpy())
        mean = np.mean([F.scaled_dot_product_attention(ours(x), ours(x), ours(x), dropout_p=0.5).detach().numpy() for _ in range(2000)], 0)
        np.testing.assert_allclose(mean, F.scaled_dot_product_attention(ours(x), ours(x), ours(x)).detach().numpy(), atol=0.15)

    @pytest.mark.parametrize(
        ("shapes", "words"),
        [
            (((4,), (4,), (4,)), "two dimensions"),
            (((3, 4), (3, 5), (3, 4)), "(3, 5)"),
            (((3, 4), (3, 4), (2, 4)), "(2, 4)"),
        ],
    )
    def test_shapes_that_do_not_fit(self, shapes, words):
        with pytest.raises(RuntimeError) as caught:
            F.scaled_dot_product_attention(*[dt.ones(*shape) for shape in shapes])
        assert words in str(caught.value)


def test_one_hot():
    torch = pytest.importorskip("torch")
    labels = np.array([[0, 2], [1, 1]])
    for classes in (-1, 5):
        expected = torch.nn.functional.one_hot(torch.tensor(labels), classes)
        close(F.one_hot(dt.tensor(labels), classes), expected, "float32", "one_hot")
    with pytest.raises(IndexError, match="2"):
        F.one_hot(dt.tensor(labels), 2)


def test_batch_norm_moves_the_running_statistics_in_place():
    torch = pytest.importorskip("torch")
    [x] = draw(0, (6, 3))
    mean, variance = dt.zeros(3, dtype=dt.float64), dt.ones(3, dtype=dt.float64)
    memory = mean.numpy()
    F.batch_norm(ours(x), mean, variance, training=True, momentum=0.2)
    his = torch.zeros(3).double(), torch.ones(3).double()
    torch.nn.functional.batch_norm(torch.tensor(x), *his, training=True, momentum=0.2)
    close(mean, his[0], "float64", "mean")
    close(variance, his[1], "float64", "variance")
    assert mean.numpy() is memory


def test_softmax_without_dim_warns():
    with pytest.warns(UserWarning, match="dim"):
        y = F.log_softmax(dt.ones(2, 4))
    np.testing.assert_allclose(y.numpy(), -np.log(4), rtol=1e-6)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda x: F.pad(x, (1, 1), mode="mirror"), ValueError, "mirror"),
        (lambda x: F.pad(x, (8, 1), mode="reflect"), RuntimeError, "((8, 1),)"),
        (lambda x: F.pad(x, (1,) * 6, mode="replicate"), RuntimeError, "(2, 3, 8)"),
        (lambda x: F.interpolate(x, mode="nearest"), ValueError, "scale_factor"),
        (lambda x: F.interpolate(x, 4, mode="bicubic"), ValueError, "bicubic"),
        (lambda x: F.interpolate(x, 4, mode="bilinear"), ValueError, "3 dimensions"),
        (lambda x: F.interpolate(x, 4, align_corners=True), ValueError, "align_corners"),
        (lambda x: F.interpolate(x, (4, 4)), ValueError, "(4, 4)"),
        (lambda x: F.interpolate(x, scale_factor=0.1), RuntimeError, "(0,)"),
        (lambda x: F.pixel_shuffle(x, 2), RuntimeError, "divisible by 2²"),
        (lambda x: F.pixel_unshuffle(x, 2), RuntimeError, "divisible by 2"),
        (lambda x: F.instance_norm(x[0]), RuntimeError, "(3, 8)"),
        (lambda x: F.cosine_embedding_loss(x, x, x), RuntimeError, "(2, 3, 8)"),
    ],
)
def test_what_does_not_fit(call, error, words):
    with pytest.raises(error) as caught:
        call(dt.ones(2, 3, 8))
    assert words in str(caught.value)


def test_embedding_gradient_has_fixed_bits():
    [x] = draw(0, ((1000,), 3))
    gradient = np.random.default_rng(0).standard_normal((1000, 8)).astype("float32")
    results = []
    for _ in range(2):
        weight = dt.zeros(3, 8, requires_grad=True)
        F.embedding(ours(x), weight).backward(dt.tensor(gradient))
        results.append(weight.grad.numpy())
    np.testing.assert_array_equal(*results)
    expected = np.stack([gradient[x == i].astype("float64").sum(0) for i in range(3)])
    np.testing.assert_allclose(results[0], expected, rtol=1e-4, atol=1e-4)


# whole models, written once for both libraries


def mlp(nn, F, lib):
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 28), nn.ReLU(), nn.Linear(28, 10))


def cnn(nn, F, lib):
    return nn.Sequential(
        nn.Conv2d(1, 32, 3),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Dropout(0.0),
        nn.Flatten(),
        nn.Linear(9216, 128),
        nn.ReLU(),
        nn.Linear(128, 10),
    )


def residual_cnn(nn, F, lib):
    class Block(nn.Module):
        def __init__(self, channels):
            super().__init__()
            self.conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
            self.norm = nn.BatchNorm2d(channels)
            self.relu = nn.ReLU(inplace=True)

        def forward(self, x):
            return self.relu(self.norm(self.conv(x)) + x)

    stem = [nn.Conv2d(1, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1)]
    return nn.Sequential(*stem, Block(8), Block(8), nn.AdaptiveAvgPool2d((1, 1)), nn.Flatten(), nn.Linear(8, 10))


def gpt(nn, F, lib, vocabulary=65, width=32, heads=4, context=16):
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
            self.c_attn, self.c_proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
            self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(approximate="tanh"), nn.Linear(4 * width, width))

        def forward(self, x):
            batch, time, _ = x.size()
            q, k, v = self.c_attn(self.ln_1(x)).split(width, dim=2)
            q, k, v = (t.view(batch, time, heads, width // heads).transpose(1, 2) for t in (q, k, v))
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + self.c_proj(y.transpose(1, 2).contiguous().view(batch, time, width))
            return x + self.mlp(self.ln_2(x))

    class GPT(nn.Module):
        def __init__(self):
            super().__init__()
            self.wte, self.wpe = nn.Embedding(vocabulary, width), nn.Embedding(context, width)
            self.h = nn.ModuleList([Block() for _ in range(2)])
            self.ln_f = nn.LayerNorm(width)
            self.lm_head = nn.Linear(width, vocabulary, bias=False)
            self.wte.weight = self.lm_head.weight

        def forward(self, tokens):
            x = self.wte(tokens) + self.wpe(lib.arange(tokens.size(1)))
            for block in self.h:
                x = block(x)
            return self.lm_head(self.ln_f(x)).flatten(0, 1)

    return GPT()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("build", "spec", "label_spec"),
    [
        (mlp, (64, 1, 28, 28), ((64,), 10)),
        (cnn, (4, 1, 28, 28), ((4,), 10)),
        (residual_cnn, (4, 1, 28, 28), ((4,), 10)),
        (gpt, ((3, 16), 65), ((48,), 65)),
    ],
)
def test_model_gradients_are_as_in_torch(build, spec, label_spec, dtype):
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    model, other = build(nn, F, dt).to(dtype), build(torch.nn, torch.nn.functional, torch).to(getattr(torch, dtype))
    load_from(model, other)
    x, labels = draw(0, spec, label_spec)
    x = x.astype(dtype) if x.dtype.kind == "f" else x
    loss = F.cross_entropy(model(ours(x, False)), ours(labels))
    loss.backward()
    expected = torch.nn.functional.cross_entropy(other(theirs(x, False)), theirs(labels))
    expected.backward()
    close(loss, expected, dtype, "loss")
    assert [name for name, _ in model.named_parameters()] == [name for name, _ in other.named_parameters()]
    for (name, mine), his in zip(model.named_parameters(), other.parameters(), strict=True):
        close(mine.grad, his.grad, dtype, name)
    for (name, mine), his in zip(model.named_buffers(), other.buffers(), strict=True):
        close(mine, his, dtype, name)
