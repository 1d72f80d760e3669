"""The optimizer and the learning rate of a training: every name, closed forms, what is refused."""

import inspect

import keras
import numpy as np
import pytest
from refusals import assert_refused

from ddpm_keras import choices
from ddpm_keras.app import optimization
from ddpm_keras.app.options import train_options
from ddpm_keras.errors import UsageError
from ddpm_keras.learning_rate import WarmupStableDecay


def options_of(arguments):
    return train_options(arguments.split())[0]


def warmed_up(t, rate):
    """A rise of 50 steps to 0.5, then 0.5 times a factor of the 150 steps that follow."""
    return 0.5 * (t / 50 if t < 50 else rate((t - 50) / 150))


CLOSED_FORMS = {
    "--lr-schedule constant": lambda t: warmed_up(t, lambda s: 1.0),
    "--lr-schedule cosine": lambda t: warmed_up(t, lambda s: (1 + np.cos(np.pi * s)) / 2),
    "--lr-schedule linear": lambda t: warmed_up(t, lambda s: 1 - s),
    "--lr-schedule wsd": lambda t: warmed_up(t, lambda s: min(1, (200 - 50 - 150 * s) / 40)),
    "--lr-schedule wsd --lr-decay-share 0.5": lambda t: warmed_up(
        t, lambda s: min(1, 1.5 - 1.5 * s)
    ),
    "--lr-schedule wsd --lr-decay cosine": lambda t: warmed_up(
        t, lambda s: (1 + np.cos(np.pi * max(0, (150 * s - 110) / 40))) / 2
    ),
    "--lr-schedule wsd --lr-decay sqrt": lambda t: warmed_up(
        t, lambda s: 1 - max(0, (150 * s - 110) / 40) ** 0.5
    ),
    "--lr-schedule constant --warmup-steps 0": lambda t: 0.5,
    "--lr-schedule cosine --warmup-steps 0": lambda t: 0.25 * (1 + np.cos(np.pi * t / 200)),
    "--lr-schedule linear --warmup-steps 0": lambda t: 0.5 * (1 - t / 200),
    "--lr-schedule wsd --warmup-steps 0": lambda t: 0.5 * min(1, (200 - t) / 40),
}


@pytest.mark.parametrize("arguments", CLOSED_FORMS)
def test_learning_rates_are_their_closed_forms(arguments):
    warmup = "" if "--warmup-steps" in arguments else "--warmup-steps 50"
    options = options_of(f"--steps 200 --learning-rate 0.5 {warmup} {arguments}")
    optimizer = optimization.optimizer(options)
    found = []
    for step in range(201):
        optimizer.iterations.assign(step)
        found.append(float(optimizer.learning_rate))
    expected = [CLOSED_FORMS[arguments](t) for t in range(201)]
    np.testing.assert_allclose(found, expected, atol=2e-7)


def test_a_rate_is_saved_with_its_optimizer_and_zero_after_its_end():
    rate = WarmupStableDecay(0.5, 200, 50, 40, "sqrt")
    optimizer = keras.optimizers.SGD(rate)
    config = keras.saving.serialize_keras_object(optimizer)
    again = keras.saving.deserialize_keras_object(config)
    again.iterations.assign(180)
    assert float(again.learning_rate) == pytest.approx(0.5 - 0.5**1.5)
    assert float(rate(1000)) == 0.0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((0.0, 10), ["learning_rate", "positive"]),
        ((0.1, 0), ["steps", "at least 1"]),
        ((0.1, 10, -1), ["warmup_steps", "at least 0"]),
        ((0.1, 10, 0, 0), ["decay_steps", "at least 1"]),
        ((0.1, 10, 0, 1, "1-sqrt"), ["decay of the learning rate", "1-sqrt", "sqrt"]),
        ((0.1, 10, 6, 5), ["6 warmup_steps", "5 decay_steps", "10 steps"]),
    ],
    ids=str,
)
def test_wrong_rates_are_refused_by_name(arguments, words):
    assert_refused(lambda: WarmupStableDecay(*arguments), words)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("--optimizer adm", ["--optimizer", "adm", "adamw"]),
        ("--lr-schedule step", ["--lr-schedule", "step", "cosine"]),
        ("--optimizer schedulefreeadamw", ["its own average", "use adamw"]),
        ("--lr-schedule linear --lr-decay sqrt", ["--lr-decay", "wsd", "linear"]),
        ("--lr-decay-share 0.1", ["--lr-decay-share", "wsd", "constant"]),
        ("--lr-schedule wsd --lr-decay-share 1", ["--lr-decay-share", "below 1"]),
        ("--lr-schedule cosine --steps 100", ["--lr-schedule cosine", "100 of warm-up"]),
        ("--lr-schedule wsd --steps 110", ["wsd", "22 steps", "--warmup-steps"]),
    ],
)
def test_rates_that_cannot_be_are_refused(arguments, words):
    assert_refused(lambda: options_of(arguments), words, UsageError)


@pytest.mark.parametrize("name", choices.OPTIMIZERS)
def test_every_optimizer_makes_a_step_of_its_own_kind(name):
    made = optimization.optimizer(
        options_of(f"--optimizer {name} --learning-rate 0.1 --warmup-steps 0")
    )
    assert type(made).__name__.lower() == name and made.global_clipnorm == 1.0
    if "epsilon" in inspect.signature(type(made)).parameters:
        assert made.epsilon == 1e-8
    variables = [keras.Variable(np.ones((3, 3, 2, 4))), keras.Variable(np.ones(4))]
    made.build(variables)
    made.apply([np.full(v.shape, 0.3, np.float32) for v in variables], variables)
    assert all(np.isfinite(v.numpy()).all() and (v.numpy() != 1).all() for v in variables)


def test_every_optimizer_of_keras_can_be_chosen():
    """But what wraps others, and what needs to be told before weights are saved or used."""
    not_chosen = {"Optimizer", "LossScaleOptimizer", "MultiOptimizer", "OptimizerMap"}
    not_chosen |= {"ScheduleFreeAdamW"}
    there = {
        name for name, thing in vars(keras.optimizers).items()
        if inspect.isclass(thing) and issubclass(thing, keras.optimizers.Optimizer)
    }  # fmt: skip
    assert there - not_chosen == set(choices.OPTIMIZERS.values())
