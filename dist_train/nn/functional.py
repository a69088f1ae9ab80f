"""The functional forms of the layers, under torch's names; each is defined beside its operation in `autograd.ops`."""

from ..autograd.ops.activation import (
    elu,
    gelu,
    hardsigmoid,
    hardswish,
    hardtanh,
    leaky_relu,
    relu,
    relu6,
    relu_,
    silu,
    softplus,
)
from ..autograd.ops.attention import scaled_dot_product_attention
from ..autograd.ops.conv import conv1d, conv2d, pad
from ..autograd.ops.conv_transpose import conv_transpose1d, conv_transpose2d
from ..autograd.ops.cross_entropy import cross_entropy, nll_loss
from ..autograd.ops.dropout import dropout, dropout2d
from ..autograd.ops.embedding import embedding, one_hot
from ..autograd.ops.instance_norm import instance_norm
from ..autograd.ops.linalg import linear
from ..autograd.ops.loss import (
    binary_cross_entropy,
    binary_cross_entropy_with_logits,
    kl_div,
    l1_loss,
    mse_loss,
    smooth_l1_loss,
)
from ..autograd.ops.norm import batch_norm, group_norm, layer_norm, normalize
from ..autograd.ops.pointwise import sigmoid, tanh
from ..autograd.ops.pool import adaptive_avg_pool2d, avg_pool1d, avg_pool2d, max_pool1d, max_pool2d
from ..autograd.ops.resize import interpolate, pixel_shuffle, pixel_unshuffle
from ..autograd.ops.similarity import cosine_embedding_loss, cosine_similarity
from ..autograd.ops.softmax import log_softmax, softmax, softmin

__all__ = [
    "adaptive_avg_pool2d",
    "avg_pool1d",
    "avg_pool2d",
    "batch_norm",
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "conv1d",
    "conv2d",
    "conv_transpose1d",
    "conv_transpose2d",
    "cosine_embedding_loss",
    "cosine_similarity",
    "cross_entropy",
    "dropout",
    "dropout2d",
    "elu",
    "embedding",
    "gelu",
    "group_norm",
    "hardsigmoid",
    "hardswish",
    "hardtanh",
    "instance_norm",
    "interpolate",
    "kl_div",
    "l1_loss",
    "layer_norm",
    "leaky_relu",
    "linear",
    "log_softmax",
    "max_pool1d",
    "max_pool2d",
    "mse_loss",
    "nll_loss",
    "normalize",
    "one_hot",
    "pad",
    "pixel_shuffle",
    "pixel_unshuffle",
    "relu",
    "relu6",
    "relu_",
    "scaled_dot_product_attention",
    "sigmoid",
    "silu",
    "smooth_l1_loss",
    "softmax",
    "softmin",
    "softplus",
    "tanh",
]
