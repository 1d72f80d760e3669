"""Rounding to bfloat16 by whole numbers, which XLA computes many at a time on a processor.

Its own takes half of the time of an element-wise chain. The results are the same.
"""

import tensorflow as tf

from .compiled import is_compiled

_BITS, _HALF_OF_LAST = 16, 0x7FFF  # that float32 has more, and just below a half of the last kept
_NOT_A_NUMBER = 0x7FC00000  # all that are could round to a number


def narrowed(y, dtype):
    """float32 as floats of this dtype, rounded to the nearest and from half-way to even."""
    by_bits = dtype == tf.bfloat16 and is_compiled()
    return _narrowed(y) if by_bits else tf.cast(y, dtype)


@tf.custom_gradient
def _narrowed(y):
    words = tf.bitcast(y, tf.uint32)
    is_odd = tf.bitwise.bitwise_and(_first_half(words), _word(1))
    words = tf.where(tf.math.is_nan(y), _word(_NOT_A_NUMBER), words + is_odd + _word(_HALF_OF_LAST))
    result = tf.bitcast(tf.cast(_first_half(words), tf.uint16), tf.bfloat16)
    return result, lambda up: tf.cast(up, tf.float32)


def _first_half(words):
    return tf.bitwise.right_shift(words, _word(_BITS))


def _word(number):
    return tf.constant(number, tf.uint32)
