"""What `EMA`, its decays and `EMAModel` are given: taken as it is, or refused in one line."""

import keras
import numpy as np
import pytest
from refusals import assert_refused

from ddpm_keras import EMA
from ddpm_keras.ema import (
    WSM,
    ConstantDecay,
    EMAModel,
    LinearRampDecay,
    PowerFunctionDecay,
    PowerWarmupDecay,
    StepDecay,
    WarmupDecay,
)


def network():
    return keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])


def overriding(method):
    """A network with a method of its own, from its class or put on it."""
    return type("Own", (keras.Sequential,), {method: lambda self, *args, **kwargs: None})(
        [keras.Input((2,)), keras.layers.Dense(1)]
    )


def patched():
    model = network()
    model.train_step = lambda data: {}
    return model


def weight():
    return keras.Variable([1.0, 2.0])


def built():
    ema = EMA(0.9)
    ema.build([weight()])
    return ema


WRONG = {
    "one": (lambda: EMA(1.0), ["beta", "below 1"]),
    "a percentage": (lambda: EMA(99.9), ["beta", "below 1", "99.9"]),
    "negative": (lambda: EMA(-0.1), ["beta", "at least 0"]),
    "NaN": (lambda: EMA(float("nan")), ["beta", "finite"]),
    "infinite": (lambda: ConstantDecay(np.inf), ["beta", "finite"]),
    "text": (lambda: EMA("0.9"), ["a float or a decay", "'0.9'"]),
    "text in a decay": (lambda: WarmupDecay("0.9"), ["beta", "'0.9'"]),
    "a bool": (lambda: EMA(True), ["a float or a decay", "True"]),
    "nothing": (lambda: EMA(None), ["a float or a decay", "None"]),
    "nothing in a list": (lambda: EMA([0.9, None]), ["a float or a decay", "None"]),
    "a nested list": (lambda: EMA([[0.9, 0.99]]), ["a float or a decay"]),
    "twice": (lambda: EMA((0.9, 0.9)), ["'0.9'", "dict name -> decay"]),
    "two rules of one name": (
        lambda: EMA((PowerWarmupDecay(0.9), PowerWarmupDecay(0.9, power=0.75))),
        ["power_warmup_0.9", "dict name -> decay"],
    ),
    "a number and its text": (lambda: EMA({0.9: 0.9, "0.9": 0.99}), ["'0.9'", "dict"]),
    "names that differ in case": (lambda: EMA({"a": 0.9, "A": 0.99}), ["'A'", "dict"]),
    "the name of the raw weights": (lambda: EMA({"raw": 0.9}), ["'raw'", "cannot name"]),
    "the name of a snapshot": (lambda: EMA({"snapshot_0.05": 0.9}), ["cannot name"]),
    "an empty name": (lambda: EMA({"": 0.9}), ["''", "cannot name"]),
    "a path": (lambda: EMA({"a/b": 0.9}), ["'a/b'", "cannot name"]),
    "a comma": (lambda: EMA({"a,b": 0.9}), ["'a,b'", "cannot name"]),
    "a line": (lambda: EMA({"a\n": 0.9}), ["cannot name"]),
    "a name too long for a file": (lambda: EMA({"a" * 300: 0.9}), ["cannot name"]),
    "update_every 0": (lambda: EMA(0.9, update_every=0), ["update_every", "at least 1"]),
    "update_every 2.5": (lambda: EMA(0.9, update_every=2.5), ["update_every", "2.5"]),
    "update_every text": (lambda: EMA(0.9, update_every="2"), ["update_every", "'2'"]),
    "update_every True": (lambda: EMA(0.9, update_every=True), ["update_every", "True"]),
    "average_statistics": (
        lambda: EMA(0.9, average_statistics="no"),
        ["average_statistics", "'no'"],
    ),
    "one width": (lambda: EMA(0.9, snapshot_widths=0.05), ["snapshot_widths", "0.05"]),
    "a width twice": (lambda: EMA(0.9, snapshot_widths=(0.05, 0.05)), ["snapshot_widths"]),
    "a width in a list": (lambda: EMA(0.9, snapshot_widths=([0.05],)), ["sigma_rel", "[0.05]"]),
    "a wide width": (lambda: EMA(0.9, snapshot_widths=(0.3,)), ["sigma_rel", "0.2887", "0.3"]),
    "a share of text": (lambda: WSM("half", 10), ["share", "'half'"]),
    "sigma_rel NaN": (lambda: PowerFunctionDecay(float("nan")), ["sigma_rel", "finite"]),
    "inv_gamma NaN": (lambda: PowerWarmupDecay(0.9, inv_gamma=float("nan")), ["inv_gamma"]),
    "inv_gamma 0": (lambda: PowerWarmupDecay(0.9, inv_gamma=0), ["inv_gamma", "positive"]),
    "power 0": (lambda: PowerWarmupDecay(0.9, power=0), ["power", "positive"]),
    "a ramp of no length": (lambda: LinearRampDecay(0.0, 0.9, 0), ["steps", "at least 1"]),
    "a ramp of half steps": (lambda: LinearRampDecay(0.0, 0.9, 2.5), ["steps", "2.5"]),
    "a ramp from 1": (lambda: LinearRampDecay(1, 0.9, 2), ["start", "below 1"]),
    "accumulation 0": (lambda: EMAModel(network(), 0.9, 0), ["accumulation_steps", "at least 1"]),
    "accumulation 1.5": (lambda: EMAModel(network(), 0.9, 1.5), ["accumulation_steps", "1.5"]),
    "no network": (lambda: EMAModel(keras.layers.Dense(1)), ["network", "keras.Model"]),
    "an unknown weight set": (
        lambda: EMAModel(network(), 0.9, evaluation_weights="ema_0.99"),
        ["ema_0.99", "raw, ema_0.9"],
    ),
    "arrays as weight set": (
        lambda: EMAModel(network(), 0.9).export_network(np.zeros((2, 1))),
        ["weights", "ndarray", "WeightSet", "raw, ema_0.9"],
    ),
    "no weight set": (lambda: EMAModel(network(), evaluation_weights=None), ["evaluation_weights"]),
    "a model of models": (lambda: EMAModel(EMAModel(network())), ["train_step", "EMAModel"]),
    "a patched train_step": (lambda: EMAModel(patched()), ["train_step", "EMAOptimizer"]),
    "an own train_step": (lambda: EMAModel(overriding("train_step")), ["Own", "train_step"]),
    "an own test_step": (lambda: EMAModel(overriding("test_step")), ["Own", "test_step"]),
    "an own predict_step": (lambda: EMAModel(overriding("predict_step")), ["predict_step"]),
    "an own compute_loss": (lambda: EMAModel(overriding("compute_loss")), ["compute_loss"]),
    "a model for its weights": (lambda: EMA(0.9).build(network()), ["model.weights", "Sequential"]),
    "one weight": (lambda: built().build(weight()), ["a list of variables", "Variable"]),
    "arrays for weights": (lambda: built().build([np.ones(2)]), ["a list of variables"]),
    "an update by a model": (lambda: built().update(network()), ["model.weights", "Sequential"]),
    "averages written to a model": (
        lambda: built().assign_to("0.9", network()),
        ["network.weights", "Sequential"],
    ),
    "averages exported to a weight": (lambda: built().export(weight(), "0.9"), ["Keras model"]),
    "an unknown average": (lambda: built().beta("0.99"), ["'0.99'", "there are 0.9."]),
    "an average of none": (lambda: EMA(()).beta("0.99"), ["'0.99'", "there are none."]),
    **{
        f"stepped {stepped!r}": (
            lambda stepped=stepped: built().update([], stepped),
            ["stepped", "boolean", "got"],
        )
        for stepped in (1, None, "no", [True])
    },
    **{
        f"{method} of {steps!r} steps": (
            lambda method=method, steps=steps: getattr(built(), method)(steps),
            ["steps must be a whole number", "at least 0", repr(steps)],
        )
        for method in ("describe", "warnings")
        for steps in (-1, 2.5, "2", float("nan"), True, None)
    },
    **{
        f"epochs of {steps!r} steps": (
            lambda steps=steps: built().describe(10, steps),
            ["steps_per_epoch", repr(steps)],
        )
        for steps in (0, -1, "2", True)
    },
    "a fit before compile": (
        lambda: EMAModel(network(), 0.9).fit(np.ones((2, 2)), np.ones((2, 1))),
        ["EMAModel", "call compile first"],
    ),
    "own metrics": (lambda: EMAModel(overriding("compute_metrics")), ["compute_metrics"]),
}


@pytest.mark.parametrize("name", WRONG)
def test_refused_in_one_line(name):
    call, words = WRONG[name]
    assert_refused(call, words)


RIGHT = {
    "digits that print alike": ((0.9999999, 0.99999991), ("0.9999999", "0.99999991")),
    "NumPy numbers": (np.array([0.5, 0.25]), ("0.5", "0.25")),
    "zero": (0, ("0.0",)),
    "a generator": ((0.9 for _ in range(1)), ("0.9",)),
    "none at all": ((), ()),
    "one rule under two names": ({"a": 0.9, "b": 0.9}, ("a", "b")),
    "a name that is a number": ({0.9: 0.9}, ("0.9",)),
    "names that end alike": ({"a": 0.9, "b_ema_a": 0.99}, ("a", "b_ema_a")),
    "a name in a name": ({"draw": 0.9, "x_raw": 0.99}, ("draw", "x_raw")),
    "several rules": ((WarmupDecay(0.9), StepDecay(), 0.9), ("warmup_0.9", "step", "0.9")),
}


@pytest.mark.parametrize("name", RIGHT)
def test_taken_and_named(name):
    decays, names = RIGHT[name]
    assert EMA(decays).names == names


def test_widths_that_print_alike_are_told_apart():
    ema = EMA((), snapshot_widths=(0.05, 0.0500000001))
    weight = keras.Variable([1.0])
    ema.build([weight])
    assert len({id(v) for group in ema._groups for v in group.averages}) == 2
    for width in ema.snapshot_widths:
        np.testing.assert_array_equal(ema.snapshot_variables(width)[0], [1.0])
