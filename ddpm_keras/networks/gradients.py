"""Gradients written by hand, which end with the graph that they are part of."""

import functools

import tensorflow as tf

from ..keras_internals import kept_with_graph


def custom_gradient(function):
    """`tf.custom_gradient` for a function of tensors that gives one.

    TensorFlow keeps what it registers in a graph for ever, with all tensors of that graph: 190 MB
    for each model that trained a step.
    """
    with_gradient = tf.custom_gradient(function)

    @functools.wraps(function)
    def call(*tensors):
        result = with_gradient(*tensors)
        return result if tf.executing_eagerly() else kept_with_graph(result)

    return call
