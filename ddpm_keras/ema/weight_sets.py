"""Values for all weights of a network under a name: what is sampled from and evaluated."""

from __future__ import annotations

import dataclasses
import tempfile
import warnings
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ..files import atomic_path
from ..keras_internals import averages_of_optimizer, in_stateless_scope, layers_of
from .groups import is_float, label, like, tf_variable


@dataclasses.dataclass
class WeightSet:
    """Values for all weights of a network, under a name.

    Attributes:
        name: What reports and samples call it.
        values: One array or tensor per entry of `network.weights`, in that order.
    """

    name: str
    values: list


def check_finite(name: str, variables: Sequence[Any], values: Sequence[Any]) -> None:
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


def with_values(model, pairs, step):
    """Runs a step that sees values in place of variables; of all it assigns, only metrics are kept.

    Losses that layers add are part of the model's, as outside.

    Args:
        model: the `keras.Model` whose metrics they are.
        pairs: (variable, value) for each variable to replace.
        step: a function without arguments.

    Returns:
        What `step` returned.
    """
    values = {id(v): (v, v) for v in model.trainable_variables}  # Keras asks for what it penalises
    values |= {id(v): (v, like(v, value)) for v, value in pairs}
    with keras.StatelessScope([*values.values()], collect_losses=True) as scope:
        result = step()
    for variable in model.metrics_variables:
        value = scope.get_current_value(variable)
        if value is not None:
            variable.assign(value)
    return result


def fresh_network(network, weights, path=None, add=lambda path: None):
    """A network built like another one, with the values of a weight set.

    Args:
        network: a built `keras.Model`, which stays as it is.
        weights: a `WeightSet` for it.
        path: also save the network here (a name ending in ".keras").
        add: function of the path of that file that adds to it.

    Returns:
        The network, not compiled.

    Raises:
        ValueError: the weight set holds a number that is not finite, the path is no .keras file,
            the network tells no configuration, or one of other weights, or this is in a
            `weight_scope`.
    """
    if path is not None and not str(path).endswith(".keras"):
        raise ValueError(f"A network is saved as a .keras file; got {str(path)!r}.")
    if in_stateless_scope():
        raise ValueError(
            "No network can be made inside of a weight_scope, where nothing is assigned: leave it "
            "first."
        )
    check_finite(weights.name, network.weights, weights.values)
    fresh = _made_again(network)
    if not fresh.built:
        fresh.build_from_config(network.get_build_config())
    _check_alike(network, fresh)
    for layer, other in zip(layers_of(network), layers_of(fresh), strict=True):
        _take_over_state(layer, other)
    for variable, value in zip(fresh.weights, weights.values, strict=True):
        variable.assign(tf.cast(tf_variable(value), variable.dtype))
    if path is not None:
        with atomic_path(path) as temporary:
            fresh.save(temporary)
            add(temporary)
    return fresh


def _made_again(network):
    try:
        return type(network).from_config(network.get_config())
    except NotImplementedError:
        raise ValueError(
            f"{type(network).__name__} has no get_config(), without which Keras cannot make it "
            "again: write one; or make a second network yourself, and write the values into it."
        ) from None


def _check_alike(network, fresh):
    """Refuses a network whose configuration does not make one of the same weights."""
    own, made = ([tuple(v.shape) for v in each.weights] for each in (network, fresh))
    if own != made:
        raise ValueError(
            f"The configuration of this {type(network).__name__} makes {len(made)} weights, and it "
            f"has {len(own)}, or they differ in shape: what was added to it since it was made, as "
            "by enable_lora or quantize, must be part of its get_config()."
        )


def _take_over_state(layer, other):
    """Gives a fresh layer, as a file would, what another has learnt besides its weights.

    That is a vocabulary, or what `Normalization` computes of its weights when they are loaded.
    """
    if type(layer).load_own_variables is not keras.layers.Layer.load_own_variables:
        store = {}
        layer.save_own_variables(store)
        other.load_own_variables({name: np.asarray(value) for name, value in store.items()})
    if hasattr(layer, "save_assets"):
        with tempfile.TemporaryDirectory() as folder:
            layer.save_assets(folder)
            other.load_assets(folder)


def optimizer_average(optimizer: Any, variables: Sequence[Any]) -> WeightSet:
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

    Raises:
        ValueError: The optimizer keeps no average yet, or of none of these weights.
    """
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    if not optimizer.use_ema:
        raise ValueError("The optimizer keeps no average: it was made without use_ema=True.")
    if not optimizer.built:
        raise ValueError("The optimizer has no average yet: train or call optimizer.build() first.")
    by_variable = {id(variable): average for variable, average in averages_of_optimizer(optimizer)}
    if not any(id(v) in by_variable for v in variables):
        raise ValueError(
            "The optimizer averages none of these variables: give those of the network that it "
            "trains."
        )
    if optimizer.gradient_accumulation_steps:
        warnings.warn(
            "use_ema with gradient_accumulation_steps moves the average once per micro-batch: its "
            f"window is {optimizer.gradient_accumulation_steps} times shorter than it should be.",
            stacklevel=2,
        )
    values = [np.asarray(by_variable.get(id(v), v), v.dtype) for v in variables]
    return WeightSet("optimizer", values)
