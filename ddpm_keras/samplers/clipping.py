"""Keeping the predicted image within the range of images, [-1, 1]."""

import tensorflow as tf

from ..kinds import DYNAMIC

_QUANTILE = 0.995  # of the absolute values of an image


def clipped(x_start, clip):
    """Images as `clip` says: cut off at -1 and 1, thresholded dynamically, or as they are.

    Dynamic thresholding cuts each image off at the quantile .995 of its absolute values, where that
    is above 1, and divides by it (Saharia et al. 2022, section 2.3).

    Args:
        x_start: predicted images, float32 (batch, ...).
        clip: True, False or "dynamic".
    """
    if clip == DYNAMIC:
        limit = tf.maximum(1.0, _quantile(tf.abs(x_start)))
        return tf.clip_by_value(x_start, -limit, limit) / limit
    return tf.clip_by_value(x_start, -1.0, 1.0) if clip else x_start


def _quantile(values):
    """Of each row, interpolated between the two values it lies between; (batch, 1, ...)."""
    rows = tf.sort(tf.reshape(values, [tf.shape(values)[0], -1]), axis=1)
    place = _QUANTILE * tf.cast(tf.shape(rows)[1] - 1, tf.float32)
    below = tf.cast(place, tf.int32)
    above = tf.minimum(below + 1, tf.shape(rows)[1] - 1)
    part = place - tf.cast(below, tf.float32)
    quantile = rows[:, below] + part * (rows[:, above] - rows[:, below])
    return tf.reshape(quantile, [-1] + [1] * (values.shape.rank - 1))
