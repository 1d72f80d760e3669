"""What dropout keeps: a hash of the key and of an element's place, cheap within a chain.

Each 32-bit word decides one element, so that the share kept is exact to 2^-32, and nothing has to
be stored for the derivative: the same mask is computed again.
"""

import tensorflow as tf

_MULTIPLIERS = 0x7FEB352D, 0x846CA68B  # of "lowbias32" (Wellons 2018, hash-prospector)
_SHIFTS = 16, 15, 16


def key_of(state):
    """The key of a state of a seed generator: integers (2,) as uint32 (2,), all bits used."""
    state = tf.cast(state, tf.uint64)
    return tf.cast(state ^ tf.bitwise.right_shift(state, tf.constant(32, tf.uint64)), tf.uint32)


def scaled_mask(shape, key, rate):
    """float32 of this shape: 1 / (1 - rate) with a probability of 1 - rate, and 0 elsewhere.

    Args:
        shape: int32 (rank,), the batch first.
        key: uint32 (2,).
        rate: a number in (0, 1).
    """
    places = tf.reshape(tf.cast(tf.range(tf.reduce_prod(shape)), tf.uint32), shape)
    first = mixed(key[0])
    second = mixed(first + key[1])
    words = mixed(mixed(places ^ first) + second)
    threshold = tf.constant(round(rate * 2**32), tf.uint32)
    return tf.where(words >= threshold, tf.constant(1.0 / (1.0 - rate)), 0.0)


def mixed(words):
    """A bijection of uint32 in which each bit of the result depends on all bits."""
    words = _folded(words, _SHIFTS[0])
    for multiplier, shift in zip(_MULTIPLIERS, _SHIFTS[1:], strict=True):
        words = _folded(words * tf.constant(multiplier, tf.uint32), shift)
    return words


def _folded(words, shift):
    return words ^ tf.bitwise.right_shift(words, tf.constant(shift, tf.uint32))
