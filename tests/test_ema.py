"""Decays against closed forms, averages against float64, and every way of training a model."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from ddpm_keras.ema import (
    EMA,
    ConstantDecay,
    LinearRampDecay,
    PowerFunctionDecay,
    PowerWarmupDecay,
    StepDecay,
    WarmupDecay,
)

DECAYS = {
    "constant": ConstantDecay(0.999),
    "slow": ConstantDecay(0.9999),
    "warmup": WarmupDecay(0.999),
    "power_warmup": PowerWarmupDecay(0.9999),
    "power_warmup_34": PowerWarmupDecay(0.9999, inv_gamma=2.0, power=0.75),
    "ramp": LinearRampDecay(0.9, 0.999, steps=500),
    "step": StepDecay(),
    "narrow": PowerFunctionDecay(0.05),
    "wide": PowerFunctionDecay(0.10),
}


def closed_form(name, n):
    """beta_n as the literature writes it, in float64."""
    n = np.asarray(n, np.float64)
    gammas = {"narrow": 16.9722, "wide": 6.9372}
    return {
        "constant": lambda: np.full_like(n, 0.999),
        "slow": lambda: np.full_like(n, 0.9999),
        "warmup": lambda: np.minimum(0.999, (1 + n) / (10 + n)),
        "power_warmup": lambda: np.minimum(0.9999, 1 - (1 + n) ** (-2 / 3)),
        "power_warmup_34": lambda: np.minimum(0.9999, 1 - (1 + n / 2) ** -0.75),
        "ramp": lambda: 0.9 + 0.099 * np.minimum(n / 500, 1),
        "step": lambda: 1 - 1 / (n + 1),
        "narrow": lambda: (1 - 1 / (n + 1)) ** (gammas["narrow"] + 1),
        "wide": lambda: (1 - 1 / (n + 1)) ** (gammas["wide"] + 1),
    }[name]()


@pytest.mark.parametrize("name", DECAYS)
def test_decay_is_its_closed_form(name):
    n = np.array([0, 1, 2, 10, 499, 500, 501, 5000, 100_000])
    tolerance = 2e-5 if name in ("narrow", "wide") else 1e-12  # their goldens have 6 digits
    np.testing.assert_allclose(DECAYS[name](n), closed_form(name, n), rtol=0, atol=tolerance)


@pytest.mark.parametrize("name", DECAYS)
def test_decay_in_the_graph_is_the_decay_in_numpy(name):
    n = np.arange(0, 2000, 7)
    decay = DECAYS[name]
    in_graph = tf.function(decay.rate)(tf.constant(n, tf.int64))
    assert in_graph.dtype == tf.float64
    np.testing.assert_allclose(in_graph, decay.rate(n), rtol=1e-13)
    assert decay.rate(3).dtype == np.float64
    assert float(decay(3)) == decay(n)[0] or decay(3) == pytest.approx(decay(np.array([3]))[0])


def test_warmups_reach_their_decay_where_published():
    first = lambda decay, n: decay(n) >= decay.beta - 1e-15  # noqa: E731
    assert not first(WarmupDecay(0.999), 8988) and first(WarmupDecay(0.999), 8990)
    assert not first(WarmupDecay(0.9999), 89_900) and first(WarmupDecay(0.9999), 89_990)
    assert first(PowerWarmupDecay(0.999), 31_623) and not first(PowerWarmupDecay(0.999), 31_000)
    assert first(PowerWarmupDecay(0.999, power=0.75), 10_000)
    assert not first(PowerWarmupDecay(0.9999, power=0.75), 215_000)


@pytest.mark.parametrize("name", DECAYS)
def test_decay_serialises(name):
    decay = DECAYS[name]
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(decay))
    assert again == decay and hash(again) == hash(decay) and again.name == decay.name
    assert decay != ConstantDecay(0.5)


@pytest.mark.parametrize("name", DECAYS)
def test_initial_share_is_the_product_of_betas(name):
    decay = DECAYS[name]
    expected = np.prod(decay(np.arange(700)))
    assert decay.initial_share(700) == pytest.approx(expected, rel=1e-9, abs=1e-300)


@pytest.mark.parametrize("name", DECAYS)
def test_average_follows_its_closed_form_over_1000_steps(name):
    decay = DECAYS[name]
    random = np.random.default_rng(1)
    weights = random.normal(size=(1001, 200))
    variable = keras.Variable(weights[0], dtype="float32")
    ema = EMA({"average": decay})
    ema.build([variable])

    @tf.function
    def step(value):
        variable.assign(value)
        ema.update([variable])

    expected = weights[0].astype(np.float32).astype(np.float64)
    for n in range(1000):
        value = weights[n + 1].astype(np.float32)
        step(tf.constant(value))
        beta = decay(n)
        expected = beta * expected + (1 - beta) * value
    error = np.abs(ema.variables("average")[0].numpy() - expected).max()
    assert error < 1e-6 * np.abs(weights).max()
    assert ema.num_updates == 1000
