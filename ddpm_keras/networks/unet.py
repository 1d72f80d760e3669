"""The UNet of Ho et al. 2020 ("Denoising Diffusion Probabilistic Models", appendix B).

In the CIFAR-10 configuration (the defaults, at 32x32x3) it has exactly 35,746,307 parameters.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from ..scalars import count, flag, number, positive
from .compiled import plainly
from .convolutions import Conv2D
from .layers import AttentionBlock, GroupNorm, ResidualBlock, TimestepEmbedding, conv, dense, silu


@keras.saving.register_keras_serializable(package="ddpm_keras")
class UNet(keras.Model):
    """The noise prediction network of DDPM, as a functional Keras model.

    Called as `network([x, t])`, or `network([x, t, labels])` with `num_classes`:
    `x` float (batch, height, width, channels) in about [-1, 1], `t` int32 (batch,) in 0..T-1 and
    `labels` int32 (batch,) in 0..num_classes, where `num_classes` itself stands for "no label".
    The result is float32 (batch, height, width, out_channels) whatever the dtype policy.

    Args:
        image_shape: (height, width, channels); both sides must halve evenly at every level.
        base_channels: width of the first level.
        channel_multipliers: width of each level relative to `base_channels`; one entry a level.
        num_res_blocks: residual blocks a level on the way down; one more on the way up.
        attention_resolutions: sides of the feature maps (the larger, where they are not square)
            after whose blocks self-attention follows. The middle of the network always has one.
        dropout: rate in [0, 1).
        num_classes: number of classes for conditional models, or None.
        groups: groups of every normalisation, which must divide the width of every level. By
            default each normalisation of c channels has min(32, c // 4), or the largest number
            below that divides c: 32 throughout where the first level is 128 wide, as published.
        norm_epsilon: added to the variance in every normalisation, positive.
        out_channels: channels of the result; by default those of the image.
        recompute: whether training computes what is inside a block again for the gradients instead
            of keeping it: less memory for more time, and the same result.

    Raises:
        ValueError: if the sizes do not fit, naming the nearest that do, or Keras is set to
            channels_first.

    Reference:
        Ho et al. 2020, "Denoising Diffusion Probabilistic Models", appendix B.
    """

    def __init__(
        self,
        image_shape: Sequence[int],
        base_channels: int = 128,
        channel_multipliers: Sequence[int] = (1, 2, 2, 2),
        num_res_blocks: int = 2,
        attention_resolutions: Sequence[int] = (16,),
        dropout: float = 0.1,
        num_classes: int | None = None,
        groups: int | None = None,
        norm_epsilon: float = 1e-6,
        out_channels: int | None = None,
        recompute: bool = False,
        name: str = "unet",
        dtype: Any = None,
        trainable: bool = True,
    ):
        check_channels_last()
        image_shape = _checked_shape(image_shape)
        channel_multipliers = _entries(channel_multipliers, "channel_multipliers")
        attention_resolutions = _entries(attention_resolutions, "attention_resolutions")
        _check_levels(image_shape, channel_multipliers, attention_resolutions)
        num_classes = None if num_classes is None else count(num_classes, "num_classes")
        config = {
            "image_shape": image_shape,
            "base_channels": count(base_channels, "base_channels"),
            "channel_multipliers": channel_multipliers,
            "num_res_blocks": count(num_res_blocks, "num_res_blocks"),
            "attention_resolutions": attention_resolutions,
            "dropout": _checked_rate(dropout),
            "num_classes": num_classes,
            "groups": None if groups is None else count(groups, "groups"),
            "norm_epsilon": positive(norm_epsilon, "norm_epsilon"),
            "out_channels": None if out_channels is None else count(out_channels, "out_channels"),
            "recompute": flag(recompute, "recompute"),
        }
        policy = keras.dtype_policies.get(dtype or keras.config.dtype_policy())
        inputs, outputs = _build_graph(policy=policy, **config)
        trainable = flag(trainable, "trainable")
        super().__init__(inputs=inputs, outputs=outputs, name=name, trainable=trainable)
        self.image_shape = image_shape
        self.num_classes = num_classes
        self._config = config
        self._policy = policy

    def get_config(self) -> dict[str, Any]:
        policy = keras.dtype_policies.serialize(self._policy)
        return self._config | {"name": self.name, "trainable": self.trainable, "dtype": policy}

    def export(self, *args: Any, **kwargs: Any) -> Any:
        """Keras' own export, of a graph in which nothing is compiled: others may lack XLA."""
        with plainly():
            return super().export(*args, **kwargs)

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> UNet:
        return cls(**config)


def check_channels_last():
    """Refuses Keras' setting of channels_first, under which layers take images for something else.

    Raises:
        ValueError: naming the setting and how to change it.
    """
    if keras.config.image_data_format() != "channels_last":
        raise ValueError(
            "Keras is set to channels_first, but images are (height, width, channels) here: call "
            "keras.config.set_image_data_format('channels_last')."
        )


def _checked_shape(image_shape):
    """(height, width, channels) as ints."""
    sizes = image_shape if isinstance(image_shape, (tuple, list)) else ()
    try:
        height, width, channels = (count(size, "a size") for size in sizes)
    except ValueError:
        raise ValueError(
            f"image_shape must be (height, width, channels), all positive, not {image_shape!r}."
        ) from None
    return height, width, channels


def _entries(values, name):
    """A tuple of positive numbers."""
    if isinstance(values, str) or not hasattr(values, "__iter__"):
        raise ValueError(f"{name} must be a sequence such as (1, 2); got {values!r}.")
    values = tuple(values)
    if any(number(value, name) <= 0 for value in values):
        raise ValueError(f"{name} must be positive; got {values!r}.")
    return values


def _checked_rate(dropout):
    dropout = number(dropout, "dropout")
    if not 0.0 <= dropout < 1.0:
        raise ValueError(f"dropout must be at least 0 and below 1; got {dropout:g}.")
    return dropout


def _check_levels(image_shape, channel_multipliers, attention_resolutions):
    """Refuses sizes that do not fit together, naming the nearest that do."""
    if not channel_multipliers:
        raise ValueError("channel_multipliers is empty: give one entry a level, such as (1, 2).")
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
    embedding = dense(4 * width, policy, "time_dense1")(embedding)
    embedding = dense(4 * width, policy, "time_dense2")(silu(embedding))
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
    recompute,
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
    again = {"recompute": recompute}

    def block(x, channels, name):
        """A residual block, and attention where the feature map has one of the given sides."""
        x = ResidualBlock(channels, dropout, **norm, **again, name=name)(x, embedding)
        if max(x.shape[1:3]) in attention_resolutions and not name.startswith("middle"):
            x = AttentionBlock(**norm, **again, name=f"{name}_attention")(x)
        return x

    x = conv(base_channels, policy, "conv_in")(image)
    skips = [x]  # of the first convolution, every block and every downsampling
    for level, channels in enumerate(widths):
        for index in range(num_res_blocks):
            x = block(x, channels, f"down{level}_block{index}")
            skips.append(x)
        if level < last:
            x = conv(channels, policy, f"down{level}_downsample", strides=2)(x)
            skips.append(x)

    x = block(x, widths[-1], "middle_block0")
    x = AttentionBlock(**norm, **again, name="middle_attention")(x)
    x = block(x, widths[-1], "middle_block1")

    for level, channels in reversed(list(enumerate(widths))):
        for index in range(num_res_blocks + 1):
            x = ops.concatenate([x, skips.pop()], axis=-1)
            x = block(x, channels, f"up{level}_block{index}")
        if level > 0:
            x = conv(channels, policy, f"up{level}_upsample", kind=Conv2D)(x)

    x = GroupNorm(**norm, activation="silu", name="norm_out")(x)
    outputs = conv(out_channels or image_shape[-1], policy, "conv_out", scale=1e-10)(x)
    inputs = [image, timestep] if label is None else [image, timestep, label]
    return inputs, ops.cast(outputs, "float32")
