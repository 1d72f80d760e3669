"""Layers of the networks: group normalisation, time embedding, residual and attention blocks."""

import math

import keras
import tensorflow as tf
from keras import ops

from . import fused, masks
from .attention import attention
from .convolutions import Pointwise

_INITIALIZER = {"mode": "fan_avg", "distribution": "uniform"}
_MOST_GROUPS, _LEAST_MEMBERS = 32, 4
_ACTIVATIONS = {"linear": fused.linear, "silu": fused.silu}


def _initializer(scale=1.0):
    """The original code's default; its "zero" layers use scale 1e-10, not 0."""
    return keras.initializers.VarianceScaling(scale, **_INITIALIZER)


def conv(channels, dtype, name, kernel_size=3, strides=1, scale=1.0, kind=keras.layers.Conv2D):
    """A convolution of a kind that is Keras' or derived from it, as the original initialises it."""
    return kind(
        channels,
        kernel_size,
        strides=strides,
        padding="same",  # at stride 2 on an even size TensorFlow pads below and right only
        kernel_initializer=_initializer(scale),
        dtype=dtype,
        name=name,
    )


def dense(units, dtype, name, scale=1.0):
    """A dense layer, initialised as the original code does."""
    return keras.layers.Dense(units, kernel_initializer=_initializer(scale), dtype=dtype, name=name)


def _kept_or_computed_again(layer, function, training):
    """The function, of which training keeps nothing but its arguments if the layer says so."""
    return tf.recompute_grad(function) if layer.recompute and training else function


def silu(x):
    """x sigmoid(x). That of TensorFlow has a gradient by hand, which keeps its graph for ever."""
    return x * ops.sigmoid(x)


def usual_groups(channels):
    """Number of groups for so many channels, where none is given.

    It is min(32, channels // 4) (Karras et al. 2022, the code of EDM), or the largest number below
    that divides the channels. A group of one channel would erase the channel's mean, and with it
    what the network is told of the brightness of an image.
    """
    most = max(1, min(_MOST_GROUPS, channels // _LEAST_MEMBERS))
    return next(groups for groups in range(most, 0, -1) if channels % groups == 0)


@keras.saving.register_keras_serializable(package="ddpm_keras")
class GroupNorm(keras.layers.Layer):
    """Group normalisation (Wu & He 2018), with swish and dropout after it, computed in float32.

    Args:
        groups: number of groups, which must divide the number of channels; None: `usual_groups`.
        epsilon: added to the variance. The published network uses 1e-6 (Keras' default: 1e-3).
        activation: of what is normalised: "linear" or "silu".

    Call arguments:
        x: (batch, height, width, channels).
        added: (batch, channels), added to every place of `x` first; by default nothing.
        rate: share of the result that is dropped, in [0, 1).
        seed: integers (2,), the state of a seed generator that says what is dropped.
    """

    def __init__(self, groups=None, epsilon=1e-6, activation="linear", **kwargs):
        super().__init__(**kwargs)
        self.groups = groups
        self.epsilon = epsilon
        self.activation = activation

    def build(self, input_shape):
        channels = input_shape[-1]
        if self.groups and channels % self.groups:
            raise ValueError(
                f"{channels} channels cannot be normalised in {self.groups} groups; leave groups "
                f"out, or use a number that divides {channels}, such as "
                f"{math.gcd(channels, self.groups)}."
            )
        # Kept in float32 whatever the policy: so are the sums that they scale.
        options = {"shape": (channels,), "autocast": False}
        self.gamma = self.add_weight(name="gamma", initializer="ones", **options)
        self.beta = self.add_weight(name="beta", initializer="zeros", **options)

    def call(self, x, added=None, rate=0.0, seed=None):
        groups = self.groups or usual_groups(x.shape[-1])
        norm = fused.Norm(groups, self.epsilon, _ACTIVATIONS[self.activation], rate)
        gamma, beta = (ops.cast(weight, "float32") for weight in (self.gamma, self.beta))
        key = None if seed is None else masks.key_of(seed)
        return norm(ops.cast(x, self.compute_dtype), gamma, beta, added, key)

    def compute_output_spec(self, x, added=None, rate=0.0, seed=None):
        return keras.KerasTensor(x.shape, dtype=self.compute_dtype)

    def get_config(self):
        return super().get_config() | {
            "groups": self.groups,
            "epsilon": self.epsilon,
            "activation": self.activation,
        }


@keras.saving.register_keras_serializable(package="ddpm_keras")
class TimestepEmbedding(keras.layers.Layer):
    """Sinusoidal embedding of timesteps (Vaswani et al. 2017, as used by Ho et al. 2020).

    Args:
        width: size of the embedding, even and at least 4.

    Call arguments:
        t: integers, shape (batch,).

    Returns:
        float32 (batch, width): [sin | cos] with frequencies exp(-log(10000) i / (width/2 - 1)).
    """

    def __init__(self, width, **kwargs):
        super().__init__(**kwargs)
        if width < 4 or width % 2:
            raise ValueError(f"A timestep embedding needs an even width of 4 or more, not {width}.")
        self.width = width

    def call(self, t):
        half = self.width // 2
        exponents = ops.arange(half, dtype="float32") * (-math.log(10000.0) / (half - 1))
        angles = ops.cast(t, "float32")[:, None] * ops.exp(exponents)[None, :]
        return ops.concatenate([ops.sin(angles), ops.cos(angles)], axis=1)

    def compute_output_spec(self, t):
        return keras.KerasTensor((t.shape[0], self.width), dtype="float32")

    def get_config(self):
        return super().get_config() | {"width": self.width}


@keras.saving.register_keras_serializable(package="ddpm_keras")
class ResidualBlock(keras.layers.Layer):
    """GroupNorm, swish, conv; plus the time embedding; GroupNorm, swish, dropout, zero-init conv.

    Args:
        channels: output channels. A 1x1 convolution carries the shortcut where they differ.
        dropout: rate in [0, 1) before the second convolution.
        groups: groups of both normalisations, as in `GroupNorm`.
        epsilon: added to their variances.
        recompute: whether training computes what is inside again for the gradients, instead of
            keeping it.

    Call arguments:
        x: (batch, height, width, channels_in).
        embedding: (batch, width) time (and class) embedding.
    """

    def __init__(self, channels, dropout=0.0, groups=None, epsilon=1e-6, recompute=False, **kwargs):
        super().__init__(**kwargs)
        self.channels, self.rate, self.groups, self.epsilon = channels, dropout, groups, epsilon
        self.recompute = recompute
        dtype = self.dtype_policy
        self.norm1 = GroupNorm(groups, epsilon, "silu", dtype=dtype, name="norm1")
        self.conv1 = conv(channels, dtype, "conv1")
        self.time = dense(channels, dtype, "time")
        self.norm2 = GroupNorm(groups, epsilon, "silu", dtype=dtype, name="norm2")
        self.dropout = keras.layers.Dropout(dropout, dtype=dtype, name="dropout")
        self.conv2 = conv(channels, dtype, "conv2", scale=1e-10)
        self.shortcut = None

    def build(self, x_shape, embedding_shape):
        hidden_shape = (*x_shape[:-1], self.channels)
        for layer in (self.norm1, self.conv1):
            layer.build(x_shape)
        self.time.build(embedding_shape)
        for layer in (self.norm2, self.dropout, self.conv2):
            layer.build(hidden_shape)
        if x_shape[-1] != self.channels:
            self.shortcut = conv(self.channels, self.dtype_policy, "shortcut", 1, kind=Pointwise)
            self.shortcut.build(x_shape)

    def call(self, x, embedding, training=None):
        dropped = self._dropped(training)  # drawn once: computed again, it must be the same

        def result(x, embedding):
            # The bias waits for the normalisation, where what is added costs no pass over the map.
            kernel, bias = (ops.cast(v, x.dtype) for v in (self.conv1.kernel, self.conv1.bias))
            h = self.conv1.convolution_op(self.norm1(x), kernel)
            added = self.time(silu(embedding)) + bias
            h = self.conv2(self.norm2(h, added, **dropped))
            return h + (x if self.shortcut is None else self.shortcut(x))

        return _kept_or_computed_again(self, result, training)(x, embedding)

    def _dropped(self, training):
        """What the second normalisation has to know of the dropout after it."""
        if not training or not self.dropout.rate:
            return {}
        return {"rate": self.dropout.rate, "seed": self.dropout.seed_generator.next()}

    def compute_output_spec(self, x, embedding, training=None):
        return keras.KerasTensor((*x.shape[:-1], self.channels), dtype=self.compute_dtype)

    def get_config(self):
        return super().get_config() | {
            "channels": self.channels,
            "dropout": self.rate,
            "groups": self.groups,
            "epsilon": self.epsilon,
            "recompute": self.recompute,
        }


@keras.saving.register_keras_serializable(package="ddpm_keras")
class AttentionBlock(keras.layers.Layer):
    """Single-head self-attention over all positions, added to the un-normalised input.

    The queries are scaled by channels^-1/2 and the softmax is taken in float32.

    Args:
        groups: groups of the normalisation before the projections, as in `GroupNorm`.
        epsilon: added to its variance.
        recompute: as of `ResidualBlock`.

    Call arguments:
        x: (batch, height, width, channels).
    """

    def __init__(self, groups=None, epsilon=1e-6, recompute=False, **kwargs):
        super().__init__(**kwargs)
        self.groups, self.epsilon, self.recompute = groups, epsilon, recompute

    def build(self, input_shape):
        channels, dtype = input_shape[-1], self.dtype_policy
        self.norm = GroupNorm(self.groups, self.epsilon, dtype=dtype, name="norm")
        self.query = dense(channels, dtype, "query")
        self.key = dense(channels, dtype, "key")
        self.value = dense(channels, dtype, "value")
        self.project = dense(channels, dtype, "project", scale=1e-10)
        self.norm.build(input_shape)
        for layer in (self.query, self.key, self.value, self.project):
            layer.build((None, channels))

    def call(self, x, training=None):
        return _kept_or_computed_again(self, self._result, training)(x)

    def _result(self, x):
        height, width, channels = x.shape[1:]
        rows = ops.reshape(self.norm(x), (-1, channels))
        scaled = self.query(rows) * channels**-0.5  # there are far fewer of them than scores
        parts = (scaled, self.key(rows), self.value(rows))
        mixed = attention(*(ops.reshape(part, (-1, height * width, channels)) for part in parts))
        h = self.project(ops.reshape(mixed, (-1, channels)))
        return x + ops.reshape(h, (-1, height, width, channels))

    def compute_output_spec(self, x, training=None):
        return keras.KerasTensor(x.shape, dtype=self.compute_dtype)

    def get_config(self):
        return super().get_config() | {
            "groups": self.groups,
            "epsilon": self.epsilon,
            "recompute": self.recompute,
        }
