"""The UNet of Ho et al. 2020 ("Denoising Diffusion Probabilistic Models", appendix B).

In the CIFAR-10 configuration (the defaults, at 32x32x3) it has exactly 35,746,307 parameters.
"""

import math

import keras
from keras import ops

_INITIALIZER = {"mode": "fan_avg", "distribution": "uniform"}


def _initializer(scale=1.0):
    """The original code's default; its "zero" layers use scale 1e-10, not 0."""
    return keras.initializers.VarianceScaling(scale, **_INITIALIZER)


def _conv(channels, dtype, name, kernel_size=3, strides=1, scale=1.0):
    return keras.layers.Conv2D(
        channels,
        kernel_size,
        strides=strides,
        padding="same",  # at stride 2 on an even size TensorFlow pads below and right only
        kernel_initializer=_initializer(scale),
        dtype=dtype,
        name=name,
    )


def _dense(units, dtype, name, scale=1.0):
    return keras.layers.Dense(units, kernel_initializer=_initializer(scale), dtype=dtype, name=name)


@keras.saving.register_keras_serializable(package="ddpm_keras")
class GroupNorm(keras.layers.Layer):
    """Group normalisation (Wu & He 2018) from the moments of each channel, in float32.

    Reducing over height and width first and over the channels of a group afterwards leaves the
    image in its own layout; only the (batch, channels) moments are ever regrouped.

    Args:
        groups: number of groups; must divide the number of channels.
        epsilon: added to the variance. The published network uses 1e-6 (Keras' default: 1e-3).

    Call arguments:
        x: (batch, height, width, channels).
    """

    def __init__(self, groups=32, epsilon=1e-6, **kwargs):
        super().__init__(**kwargs)
        self.groups = groups
        self.epsilon = epsilon

    def build(self, input_shape):
        channels = input_shape[-1]
        if channels % self.groups:
            raise ValueError(
                f"{channels} channels cannot be normalised in {self.groups} groups; use a number "
                f"of groups that divides {channels}, such as {math.gcd(channels, self.groups)}."
            )
        self.gamma = self.add_weight(name="gamma", shape=(channels,), initializer="ones")
        self.beta = self.add_weight(name="beta", shape=(channels,), initializer="zeros")

    def call(self, x):
        channels = x.shape[-1]
        members = channels // self.groups
        values = ops.cast(x, "float32")
        mean, variance = ops.moments(values, axes=(1, 2))  # (batch, channels)
        grouped = ops.reshape(mean, (-1, self.groups, members))
        group_mean = ops.mean(grouped, axis=2, keepdims=True)
        # Law of total variance: within the channels plus between their means.
        group_variance = ops.mean(
            ops.reshape(variance, (-1, self.groups, members)) + ops.square(grouped - group_mean),
            axis=2,
            keepdims=True,
        )
        gamma = ops.reshape(ops.cast(self.gamma, "float32"), (1, self.groups, members))
        beta = ops.reshape(ops.cast(self.beta, "float32"), (1, self.groups, members))
        scale = gamma * ops.rsqrt(group_variance + self.epsilon)
        shift = beta - group_mean * scale
        scale = ops.reshape(scale, (-1, 1, 1, channels))
        shift = ops.reshape(shift, (-1, 1, 1, channels))
        return ops.cast(values * scale + shift, self.compute_dtype)

    def get_config(self):
        return super().get_config() | {"groups": self.groups, "epsilon": self.epsilon}


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
        groups: groups of both normalisations.
        epsilon: added to their variances.

    Call arguments:
        x: (batch, height, width, channels_in).
        embedding: (batch, width) time (and class) embedding.
    """

    def __init__(self, channels, dropout=0.0, groups=32, epsilon=1e-6, **kwargs):
        super().__init__(**kwargs)
        self.channels, self.rate, self.groups, self.epsilon = channels, dropout, groups, epsilon
        dtype = self.dtype_policy
        self.norm1 = GroupNorm(groups, epsilon, dtype=dtype, name="norm1")
        self.conv1 = _conv(channels, dtype, "conv1")
        self.time = _dense(channels, dtype, "time")
        self.norm2 = GroupNorm(groups, epsilon, dtype=dtype, name="norm2")
        self.dropout = keras.layers.Dropout(dropout, dtype=dtype, name="dropout")
        self.conv2 = _conv(channels, dtype, "conv2", scale=1e-10)
        self.shortcut = None

    def build(self, x_shape, embedding_shape):
        hidden_shape = (*x_shape[:-1], self.channels)
        for layer in (self.norm1, self.conv1):
            layer.build(x_shape)
        self.time.build(embedding_shape)
        for layer in (self.norm2, self.dropout, self.conv2):
            layer.build(hidden_shape)
        if x_shape[-1] != self.channels:
            self.shortcut = _conv(self.channels, self.dtype_policy, "shortcut", kernel_size=1)
            self.shortcut.build(x_shape)

    def call(self, x, embedding, training=None):
        h = self.conv1(ops.silu(self.norm1(x)))
        h = h + self.time(ops.silu(embedding))[:, None, None, :]
        h = self.dropout(ops.silu(self.norm2(h)), training=training)
        h = self.conv2(h)
        return h + (x if self.shortcut is None else self.shortcut(x))

    def compute_output_spec(self, x, embedding, training=None):
        return keras.KerasTensor((*x.shape[:-1], self.channels), dtype=self.compute_dtype)

    def get_config(self):
        return super().get_config() | {
            "channels": self.channels,
            "dropout": self.rate,
            "groups": self.groups,
            "epsilon": self.epsilon,
        }


@keras.saving.register_keras_serializable(package="ddpm_keras")
class AttentionBlock(keras.layers.Layer):
    """Single-head self-attention over all positions, added to the un-normalised input.

    The scores are scaled by channels^-1/2 and the softmax is taken in float32.

    Args:
        groups: groups of the normalisation before the projections.
        epsilon: added to its variance.

    Call arguments:
        x: (batch, height, width, channels).
    """

    def __init__(self, groups=32, epsilon=1e-6, **kwargs):
        super().__init__(**kwargs)
        self.groups, self.epsilon = groups, epsilon

    def build(self, input_shape):
        channels, dtype = input_shape[-1], self.dtype_policy
        self.norm = GroupNorm(self.groups, self.epsilon, dtype=dtype, name="norm")
        self.query = _dense(channels, dtype, "query")
        self.key = _dense(channels, dtype, "key")
        self.value = _dense(channels, dtype, "value")
        self.project = _dense(channels, dtype, "project", scale=1e-10)
        for layer in (self.norm, self.query, self.key, self.value, self.project):
            layer.build(input_shape)

    def call(self, x):
        height, width, channels = x.shape[1:]
        h = ops.reshape(self.norm(x), (-1, height * width, channels))
        scores = ops.matmul(self.query(h), ops.transpose(self.key(h), (0, 2, 1)))
        scores = ops.cast(scores, "float32") * channels**-0.5
        weights = ops.cast(ops.softmax(scores, axis=-1), self.compute_dtype)
        h = self.project(ops.matmul(weights, self.value(h)))
        return x + ops.reshape(h, (-1, height, width, channels))

    def compute_output_spec(self, x):
        return keras.KerasTensor(x.shape, dtype=self.compute_dtype)

    def get_config(self):
        return super().get_config() | {"groups": self.groups, "epsilon": self.epsilon}


@keras.saving.register_keras_serializable(package="ddpm_keras")
class UNet(keras.Model):
    """The noise prediction network of DDPM, as a functional Keras model.

    Called as `network([x, t])`, or `network([x, t, labels])` with `num_classes`:
    `x` float (batch, height, width, channels) in about [-1, 1], `t` int32 (batch,) in 0..T-1 and
    `labels` int32 (batch,) in 0..num_classes, where `num_classes` itself stands for "no label".
    The result is float32 (batch, height, width, out_channels) whatever the dtype policy.

    Args:
        image_shape: (height, width, channels); both sides must halve evenly at every level.
        base_channels: width of the first level; every level's width is a multiple of `groups`.
        channel_multipliers: width of each level relative to `base_channels`; one entry a level.
        num_res_blocks: residual blocks a level on the way down; one more on the way up.
        attention_resolutions: sides of the feature maps (the larger, where they are not square)
            after whose blocks self-attention follows. The middle of the network always has one.
        dropout: rate in [0, 1).
        num_classes: number of classes for conditional models, or None.
        groups: groups of every normalisation.
        norm_epsilon: added to the variance in every normalisation.
        out_channels: channels of the result; by default those of the image.

    Raises:
        ValueError: if the sizes do not fit, naming the nearest that do.

    Reference:
        Ho et al. 2020, "Denoising Diffusion Probabilistic Models", appendix B.
    """

    def __init__(
        self,
        image_shape,
        base_channels=128,
        channel_multipliers=(1, 2, 2, 2),
        num_res_blocks=2,
        attention_resolutions=(16,),
        dropout=0.1,
        num_classes=None,
        groups=32,
        norm_epsilon=1e-6,
        out_channels=None,
        name="unet",
        dtype=None,
        **kwargs,
    ):
        image_shape = tuple(int(size) for size in image_shape)
        attention_resolutions = tuple(attention_resolutions)
        _check_shape(image_shape, channel_multipliers, attention_resolutions)
        config = {
            "image_shape": image_shape,
            "base_channels": base_channels,
            "channel_multipliers": tuple(channel_multipliers),
            "num_res_blocks": num_res_blocks,
            "attention_resolutions": attention_resolutions,
            "dropout": dropout,
            "num_classes": num_classes,
            "groups": groups,
            "norm_epsilon": norm_epsilon,
            "out_channels": out_channels,
        }
        policy = keras.dtype_policies.get(dtype or keras.config.dtype_policy())
        inputs, outputs = _build_graph(policy=policy, **config)
        super().__init__(inputs=inputs, outputs=outputs, name=name, **kwargs)
        self.image_shape = image_shape
        self.num_classes = num_classes
        self._config = config
        self._policy = policy

    def get_config(self):
        policy = keras.dtype_policies.serialize(self._policy)
        return self._config | {"name": self.name, "trainable": self.trainable, "dtype": policy}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        return cls(**config)


def _check_shape(image_shape, channel_multipliers, attention_resolutions):
    """Refuses sizes that do not fit together, naming the nearest that do."""
    if len(image_shape) != 3 or min(image_shape) < 1:
        raise ValueError(
            f"image_shape must be (height, width, channels), all positive, not {image_shape}."
        )
    factor = 2 ** (len(channel_multipliers) - 1)
    for size in image_shape[:2]:
        if size % factor:
            below, above = size // factor * factor, -(-size // factor) * factor
            nearest = f"{below} or {above}" if below else f"{above}"
            raise ValueError(
                f"Images of {image_shape[0]}x{image_shape[1]} cannot be halved at each of "
                f"{len(channel_multipliers)} levels: {size} is not a multiple of {factor}; "
                f"use {nearest}, or fewer channel_multipliers."
            )
    sides = [max(image_shape[:2]) // 2**level for level in range(len(channel_multipliers))]
    for resolution in attention_resolutions:
        if resolution not in sides:
            nearest = min(sides, key=lambda side: abs(side - resolution))
            raise ValueError(
                f"attention_resolutions names {resolution}, but the levels are {sides} wide; "
                f"the nearest is {nearest}."
            )


def _embedding(timestep, label, width, num_classes, policy):
    """Time, and class where there is one, as (batch, 4 * width)."""
    embedding = TimestepEmbedding(width, dtype="float32", name="timestep_embedding")(timestep)
    embedding = _dense(4 * width, policy, "time_dense1")(embedding)
    embedding = _dense(4 * width, policy, "time_dense2")(ops.silu(embedding))
    if label is None:
        return embedding
    table = keras.layers.Embedding(
        num_classes + 1,
        4 * width,
        embeddings_initializer=keras.initializers.RandomNormal(stddev=1.0),  # as improved-diffusion
        dtype=policy,
        name="class_embedding",
    )
    return embedding + table(label)


def _build_graph(
    image_shape,
    base_channels,
    channel_multipliers,
    num_res_blocks,
    attention_resolutions,
    dropout,
    num_classes,
    groups,
    norm_epsilon,
    out_channels,
    policy,
):
    """Connects the layers; returns the inputs (a list) and the output of the functional model."""
    image = keras.Input(image_shape, name="image", dtype="float32")
    timestep = keras.Input((), name="timestep", dtype="int32")
    label = None if num_classes is None else keras.Input((), name="label", dtype="int32")
    embedding = _embedding(timestep, label, base_channels, num_classes, policy)
    widths = [round(base_channels * multiplier) for multiplier in channel_multipliers]
    last = len(widths) - 1
    norm = {"groups": groups, "epsilon": norm_epsilon, "dtype": policy}

    def block(x, channels, name):
        """A residual block, and attention where the feature map has one of the given sides."""
        x = ResidualBlock(channels, dropout, **norm, name=name)(x, embedding)
        if max(x.shape[1:3]) in attention_resolutions and not name.startswith("middle"):
            x = AttentionBlock(**norm, name=f"{name}_attention")(x)
        return x

    x = _conv(base_channels, policy, "conv_in")(image)
    skips = [x]  # of the first convolution, every block and every downsampling
    for level, channels in enumerate(widths):
        for index in range(num_res_blocks):
            x = block(x, channels, f"down{level}_block{index}")
            skips.append(x)
        if level < last:
            x = _conv(channels, policy, f"down{level}_downsample", strides=2)(x)
            skips.append(x)

    x = block(x, widths[-1], "middle_block0")
    x = AttentionBlock(**norm, name="middle_attention")(x)
    x = block(x, widths[-1], "middle_block1")

    for level, channels in reversed(list(enumerate(widths))):
        for index in range(num_res_blocks + 1):
            x = ops.concatenate([x, skips.pop()], axis=-1)
            x = block(x, channels, f"up{level}_block{index}")
        if level > 0:
            x = keras.layers.UpSampling2D(2, dtype=policy, name=f"up{level}_nearest")(x)
            x = _conv(channels, policy, f"up{level}_upsample")(x)

    x = ops.silu(GroupNorm(**norm, name="norm_out")(x))
    outputs = _conv(out_channels or image_shape[-1], policy, "conv_out", scale=1e-10)(x)
    inputs = [image, timestep] if label is None else [image, timestep, label]
    return inputs, ops.cast(outputs, "float32")
