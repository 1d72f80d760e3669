"""Adam's move of a weight as one operation of TensorFlow, where Keras makes forty, and clipping.

With 150 weights those are thousands, which each `fit` traces and TensorFlow optimises before the
first step is made.
"""

import contextlib
import dataclasses
from typing import Any

import keras
import tensorflow as tf

from ..keras_internals import CLIP_GRADIENTS, SUM_GRADIENTS, moments_of_adam
from .groups import tf_variable


@contextlib.contextmanager
def fused(optimizers):
    """While it lasts, those optimizers that are Keras' Adam move a weight in one operation.

    All else of `apply` is that of Keras: clipping, decay of the weights, accumulation, constraints.
    So are the variables, and the numbers to rounding.

    Args:
        optimizers: built Keras optimizers. Others than Adam and AdamW, and those whose class has an
            `update_step` of its own, stay as they are.
    """
    changed = [optimizer for optimizer in optimizers if _is_adam(optimizer)]
    for optimizer in changed:
        vars(optimizer)["update_step"] = _AdamStep(optimizer)
        if tf.distribute.get_strategy().num_replicas_in_sync == 1:
            vars(optimizer)[SUM_GRADIENTS] = list  # there are no others to add
    try:
        yield
    finally:
        for optimizer in changed:
            vars(optimizer).pop("update_step", None)
            vars(optimizer).pop(SUM_GRADIENTS, None)


@contextlib.contextmanager
def clipping_by(norm, optimizer):
    """While it lasts, a Keras optimizer that clips all gradients together takes this norm of them.

    It would compute it again, from a square of each.

    Args:
        norm: of the gradients as they will be clipped, finite, a float32 scalar.
        optimizer: one that moves weights itself.
    """
    if optimizer.global_clipnorm:
        vars(optimizer)[CLIP_GRADIENTS] = _Clipping(norm, optimizer.global_clipnorm)
    try:
        yield
    finally:
        vars(optimizer).pop(CLIP_GRADIENTS, None)


def _is_adam(optimizer):
    return (
        type(optimizer).update_step is keras.optimizers.Adam.update_step
        and not optimizer.amsgrad
        and "update_step" not in vars(optimizer)  # of another replica, which has begun it
    )


@dataclasses.dataclass(frozen=True)
class _Clipping:
    """Clips gradients together to a norm of at most `most`, given the norm that they have."""

    norm: Any
    most: float

    def __call__(self, gradients):
        scale = self.most * tf.minimum(1.0 / self.norm, 1.0 / self.most)
        return [None if g is None else g * tf.cast(scale, g.dtype) for g in gradients]


class _AdamStep:
    """`update_step` of an Adam, for one call of `apply`.

    The rule is that of Kingma & Ba 2015, section 2, with epsilon as in the line before section 2.1,
    which is Keras' too.
    """

    def __init__(self, optimizer):
        self.optimizer = optimizer
        self.rates = {}  # of the graph they are in: a condition has one of its own

    def __call__(self, gradient, variable, learning_rate):
        if isinstance(gradient, tf.IndexedSlices):
            return type(self.optimizer).update_step(
                self.optimizer, gradient, variable, learning_rate
            )
        dtype = variable.dtype
        place = id(tf.compat.v1.get_default_graph()), dtype
        if place not in self.rates:
            self.rates[place] = self._rates(learning_rate, dtype)
        moments = moments_of_adam(self.optimizer, variable)
        first, second = (tf_variable(moment).handle for moment in moments)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=first,
            v=second,
            grad=tf.cast(gradient, dtype),
            **self.rates[place],
        )

    def _rates(self, learning_rate, dtype):
        """What is the same for all weights."""
        adam = self.optimizer
        names = ("lr", "beta1", "beta2", "epsilon")
        values = (learning_rate, adam.beta_1, adam.beta_2, adam.epsilon)
        rates = {n: tf.cast(value, dtype) for n, value in zip(names, values, strict=True)}
        step = tf.cast(adam.iterations + 1, dtype)
        return rates | {f"{beta}_power": rates[beta] ** step for beta in ("beta1", "beta2")}
