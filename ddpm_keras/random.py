"""Noise that belongs to an image: a function of its seed and the step alone.

The bits are the same on every device, in every TensorFlow and for every batch size.
"""

from typing import Any

import numpy as np
import tensorflow as tf

from .aliases import Tensor
from .scalars import whole


def image_seeds(seed: Any, start: Any, count: Any) -> Tensor:
    """The seeds of images `start`, ..., `start + count - 1` of the series `seed`.

    Args:
        seed: An integer; two that agree modulo 2**32 give the same series.
        start: Index of the first image.
        count: Number of images.

    Returns:
        int32 of shape (count, 2), to pass as the `seed` of a sampler and to `initial_noise`.
    """
    if not tf.is_tensor(seed):
        seed = tf.constant((whole(seed, "seed") + 2**31) % 2**32 - 2**31, tf.int32)
    index = tf.cast(start, tf.int32) + tf.range(tf.cast(count, tf.int32))
    return tf.stack([tf.repeat(tf.cast(seed, tf.int32), count), index], axis=1)


def initial_noise(seeds: Tensor, image_shape: Any) -> Tensor:
    """x_T for each image: standard normal, float32 of shape (batch, *image_shape).

    Args:
        seeds: Per-image seeds, int32 of shape (batch, 2), from `image_seeds`.
        image_shape: (height, width, channels).
    """
    return step_noise(seeds, 0, image_shape)


def step_noise(seeds: Tensor, k: Any, image_shape: Any) -> Tensor:
    """Standard normal noise for step `k` of each image, a function of (its seed, k) alone.

    One counter-based generator runs over the whole batch: the image's seed is the key, (pixel, k)
    the counter. The bits are the same on every device, in every TensorFlow, and for every batch
    size.

    Args:
        seeds: int32 of shape (batch, 2).
        k: 0 for x_T, then 1, 2, ... for the steps.
        image_shape: Shape of an image, static or a tensor.

    Returns:
        float32 of shape (batch, *image_shape).
    """
    image_shape = tf.convert_to_tensor(image_shape, tf.int32)
    size = tf.reduce_prod(image_shape)
    pairs = tf.range(tf.cast((size + 1) // 2, tf.int64))[tf.newaxis]
    keys = tf.bitwise.bitwise_and(tf.cast(seeds, tf.int64), _WORD)
    first, second = threefry_2x32(
        (keys[:, :1], keys[:, 1:]), (pairs, tf.fill([1, 1], tf.cast(k, tf.int64)))
    )
    # Box-Muller; the half keeps the logarithm finite.
    radius = tf.sqrt(-2.0 * tf.math.log((tf.cast(first, tf.float32) + 0.5) * 2.0**-32))
    angle = tf.cast(second, tf.float32) * (2.0 * np.pi * 2.0**-32)
    normal = tf.concat([radius * tf.cos(angle), radius * tf.sin(angle)], axis=1)[:, :size]
    return tf.reshape(normal, tf.concat([[tf.shape(seeds)[0]], image_shape], axis=0))


_WORD = 0xFFFFFFFF
_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))


def threefry_2x32(key: Any, counter: Any) -> Any:
    """Threefry-2x32 with 20 rounds (Salmon et al. 2011): two random 32-bit words per counter.

    Words travel in int64, masked to 32 bits: uint32 arithmetic is not available on every device.

    Args:
        key: Two int64 tensors of words, broadcast against the counter.
        counter: Two int64 tensors of words.

    Returns:
        Two int64 tensors of words.
    """

    def add(a, b):
        return tf.bitwise.bitwise_and(a + b, _WORD)

    parity = tf.bitwise.bitwise_xor(tf.bitwise.bitwise_xor(key[0], key[1]), 0x1BD11BDA)
    keys = (key[0], key[1], parity)
    x, y = add(counter[0], keys[0]), add(counter[1], keys[1])
    for injection in range(1, 6):
        for rotation in _ROTATIONS[(injection - 1) % 2]:
            x = add(x, y)
            high = tf.bitwise.left_shift(y, tf.constant(rotation, tf.int64))
            low = tf.bitwise.right_shift(y, tf.constant(32 - rotation, tf.int64))
            rotated = tf.bitwise.bitwise_and(tf.bitwise.bitwise_or(high, low), _WORD)
            y = tf.bitwise.bitwise_xor(rotated, x)
        x = add(x, keys[injection % 3])
        y = add(y, keys[(injection + 1) % 3] + injection)
    return x, y


def as_image_seeds(seed: Any, batch: Any) -> Any:
    """Per-image seeds from an integer, or as given."""
    if not tf.is_tensor(seed) and np.ndim(seed):
        seed = tf.convert_to_tensor(seed, tf.int32)
    if not tf.is_tensor(seed) or seed.shape.rank == 0:
        return image_seeds(seed, 0, batch)
    if seed.shape.rank != 2 or seed.shape[1] != 2:
        shape = tuple(seed.shape)
        raise ValueError(f"seed has shape {shape}; give an integer or image_seeds(seed, 0, count).")
    return seed
