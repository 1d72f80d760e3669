"""A network small enough to be traced in a second."""

import keras

from ddpm_keras.networks.layers import TimestepEmbedding


def small_network():
    """`network([x, t])` for images (8, 8, 1), with a dropout layer."""
    x, t = keras.Input((8, 8, 1)), keras.Input((), dtype="int32")
    time = keras.layers.Dense(4)(TimestepEmbedding(4)(t))
    h = keras.layers.Conv2D(4, 3, padding="same")(x) + time[:, None, None, :]
    h = keras.layers.Dropout(0.2)(keras.ops.silu(h))
    return keras.Model([x, t], keras.layers.Conv2D(1, 3, padding="same")(h))
