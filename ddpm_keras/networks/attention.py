"""Attention whose derivative is written by hand, with one pass over the scores besides products."""

import functools

import tensorflow as tf

from .bfloat16 import narrowed
from .compiled import compiled
from .gradients import custom_gradient


@custom_gradient
def attention(queries, keys, values):
    """Mixes values by softmax(queries keys^T), over all places of an image.

    With w the weights, o = w values and d = dL/do values^T, the derivative by the scores is
    w (d - sum(w d)), and the sum, over the places that are looked at, is that of o dL/do over the
    channels: of far fewer numbers.

    Args:
        queries: (batch, places, channels), scaled already.
        keys, values: the same for the places that are looked at.

    Returns:
        (batch, places, channels).

    Reference:
        Dao et al. 2022, "FlashAttention", appendix B.2.
    """
    weights = _softmax(tf.matmul(queries, keys, transpose_b=True))
    result = tf.matmul(weights, values)

    def derivative(up):
        along = tf.matmul(up, values, transpose_b=True)
        scores = _of_scores(None, weights, along, _total(None, result, up))
        return (
            tf.matmul(scores, keys),
            tf.matmul(scores, queries, transpose_a=True),
            tf.matmul(weights, up, transpose_a=True),
        )

    return result, derivative


@compiled
def _total(_, result, up):
    return tf.reduce_sum(tf.cast(result, tf.float32) * tf.cast(up, tf.float32), -1, keepdims=True)


@compiled
def _of_scores(_, weights, along, total):
    along = tf.cast(along, tf.float32) - total
    return narrowed(tf.cast(weights, tf.float32) * along, weights.dtype)


def _softmax(scores):
    """Computed in float32, in the dtype of the scores."""
    if scores.dtype == tf.float32 or _softmax_is_exact(scores.dtype):
        return tf.nn.softmax(scores)
    return tf.cast(tf.nn.softmax(tf.cast(scores, tf.float32)), scores.dtype)


@functools.cache
def _softmax_is_exact(dtype):
    """Whether the softmax of half precision is computed in float32 here: by oneDNN it is."""
    with tf.init_scope():
        scores = tf.cast(tf.reshape(tf.sin(tf.range(2048.0)), (2, 1024)), dtype)
        softmax = tf.function(tf.nn.softmax, autograph=False)
        exact = tf.cast(softmax(tf.cast(scores, tf.float32)), dtype)
        return bool(tf.reduce_all(softmax(scores) == exact))
