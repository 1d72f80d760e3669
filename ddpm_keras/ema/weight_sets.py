"""Values for all weights of a network under a name: what is sampled from and evaluated."""

import dataclasses
import warnings

import numpy as np
import tensorflow as tf

from ..keras_internals import averages_of_optimizer
from .groups import is_float, label, tf_variable


@dataclasses.dataclass
class WeightSet:
    """Values for all weights of a network, under a name.

    Attributes:
        name: What reports and samples call it.
        values: One array or tensor per entry of `network.weights`, in that order.
    """

    name: str
    values: list


def check_finite(name, variables, values):
    """Refuses a weight set that holds a number that is not finite.

    Args:
        name: what it is called.
        variables: the weights of the network.
        values: one array, tensor or variable for each.

    Raises:
        ValueError: it does; the message names the weight set and the first such weight.
    """
    wrong = [
        label(variable)
        for variable, value in zip(variables, values, strict=True)
        if is_float(variable) and not np.all(tf.math.is_finite(tf_variable(value)))
    ]
    if wrong:
        others = f" and {len(wrong) - 1} others" if len(wrong) > 1 else ""
        raise ValueError(
            f"The weight set {name!r} holds numbers that are not finite ({wrong[0]}{others}): use "
            "another one, or go back to weights saved before."
        )


def optimizer_average(optimizer, variables):
    """The average that a Keras optimizer with `use_ema=True` keeps, as a weight set.

    It is matched to the variables one by one, so frozen layers do not shift it, and nothing is
    overwritten. Keras itself copies it over the raw weights when `fit` ends.

    Args:
        optimizer: A built `keras.optimizers.Optimizer(use_ema=True)`, or a `LossScaleOptimizer`
            around one.
        variables: The weights to give values for, normally `network.weights`. Weights the optimizer
            does not train are given as they are.

    Returns:
        A `WeightSet` named "optimizer".
    """
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    if not optimizer.use_ema:
        raise ValueError("The optimizer keeps no average: it was made without use_ema=True.")
    if not optimizer.built:
        raise ValueError("The optimizer has no average yet: train or call optimizer.build() first.")
    if optimizer.gradient_accumulation_steps:
        warnings.warn(
            "use_ema with gradient_accumulation_steps moves the average once per micro-batch: its "
            f"window is {optimizer.gradient_accumulation_steps} times shorter than it should be.",
            stacklevel=2,
        )
    by_variable = {id(variable): average for variable, average in averages_of_optimizer(optimizer)}
    values = [np.asarray(by_variable.get(id(v), v), v.dtype) for v in variables]
    return WeightSet("optimizer", values)
