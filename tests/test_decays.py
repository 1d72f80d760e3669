"""Decays against closed forms, and the averages that follow them against float64."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from refusals import assert_refused
from small_trainings import small_network

from ddpm_keras.ema import (
    EMA,
    ConstantDecay,
    Decay,
    EMAModel,
    LinearRampDecay,
    PowerFunctionDecay,
    PowerWarmupDecay,
    StepDecay,
    WarmupDecay,
    by_rules,
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
    config = keras.saving.serialize_keras_object(decay)
    for again in (keras.saving.deserialize_keras_object(config), EMA({"a": config}).decays["a"]):
        assert again == decay and hash(again) == hash(decay) and again.name == decay.name
    assert decay != ConstantDecay(0.5)


@pytest.mark.parametrize("name", DECAYS)
def test_initial_share_is_the_product_of_betas(name):
    decay = DECAYS[name]
    expected = np.prod(decay(np.arange(700)))
    assert decay.initial_share(700) == pytest.approx(expected, rel=1e-9, abs=1e-300)


RULES = [
    (("constant",), (0.9, 0.99), {"0.9": ConstantDecay(0.9), "0.99": ConstantDecay(0.99)}),
    (("ramp",), (0.9,), {"0.9": LinearRampDecay(0.0, 0.9, 50)}),
    (("step",), (0.9,), {"step": StepDecay()}),
    (
        ("warmup", "step", "constant"),
        (0.5,),
        {"warmup_0.5": WarmupDecay(0.5), "step": StepDecay(), "constant_0.5": ConstantDecay(0.5)},
    ),
]


@pytest.mark.parametrize(("rules", "betas", "expected"), RULES)
def test_rules_by_name_make_decays_for_a_run(rules, betas, expected):
    found = by_rules(rules, betas, 100)
    assert found == expected and list(found) == list(expected)
    assert by_rules(("ramp",), (0.9,), 1) == {"0.9": LinearRampDecay(0.0, 0.9, 1)}


def test_rules_and_betas_given_twice_are_refused():
    for rules, betas, name in ((("step", "step"), (), "step"), (("warmup",), (0.5, 0.5), "0.5")):
        words = ["Two averages", repr(name), "once"]
        assert_refused(lambda rules=rules, betas=betas: by_rules(rules, betas, 9), words)
    assert_refused(lambda: by_rules(("cosine",), (0.5,), 9), ["rule of an average", "'cosine'"])


NAMES = {
    ConstantDecay(0.999): "0.999",
    WarmupDecay(0.999): "warmup_0.999",
    PowerWarmupDecay(0.9): "power_warmup_0.9",
    LinearRampDecay(0.5, 0.9, 10): "ramp_0.9",
    StepDecay(): "step",
    PowerFunctionDecay(0.05): "power_0.05",
}


def test_decays_are_called_by_their_rule_and_shown_with_their_arguments():
    assert {decay: decay.name for decay in NAMES} == NAMES
    assert repr(PowerWarmupDecay(0.9)) == (
        f"PowerWarmupDecay(beta=0.9, inv_gamma=1.0, power={2 / 3!r})"
    )


class Frozen(Decay):
    """An average that never moves."""

    def rate(self, n):
        return np.zeros(np.shape(n))


def test_the_window_of_an_average_that_never_moves_is_infinite():
    assert Frozen().effective_window(3) == np.inf and Frozen().initial_share(100) == 1.0


def test_windows_and_ages_of_averages():
    variable = keras.Variable([1.0])
    ema = EMA({"constant": 0.9, "warm": WarmupDecay(0.9), "step": StepDecay()})
    assert ema.age("warm") == 0 and ema.beta("warm") == pytest.approx(0.1)
    ema.build([variable])
    for _ in range(5):
        ema.update([variable])
    assert [ema.age(name) for name in ema.names] == [5, 5, 5]
    assert ema.beta("warm") == pytest.approx(6 / 15) and ema.beta("step") == pytest.approx(5 / 6)
    windows = [ema.effective_window(name) for name in ema.names]
    assert windows == pytest.approx([10, 14 / 9, 5])


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


def test_names_and_forms_of_decays():
    assert EMA(0.999).names == ("0.999",)
    assert EMA((0.99, 0.999)).names == ("0.99", "0.999")
    assert EMA({"fast": 0.5, "slow": WarmupDecay(0.9)}).decays["fast"] == ConstantDecay(0.5)
    assert EMA((WarmupDecay(0.9), StepDecay())).names == ("warmup_0.9", "step")
    assert EMA(()).names == ()


@pytest.mark.parametrize(
    ("decays", "message"),
    [
        (1.0, "below 1"),
        (-0.1, "at least 0"),
        ("0.9", "float or a decay"),
        ((0.9, 0.9), "dict name -> decay"),
        ({"raw": 0.9}, "cannot name"),
        ({"a/b": 0.9}, "cannot name"),
    ],
)
def test_decays_are_refused_in_one_line(decays, message):
    with pytest.raises(ValueError, match=message) as error:
        EMA(decays)
    assert "\n" not in str(error.value)


WRONG = [
    (lambda: ConstantDecay(1.0), ["beta", "below 1", "got 1"]),
    (lambda: WarmupDecay(-0.1), ["beta", "at least 0", "got -0.1"]),
    (lambda: PowerWarmupDecay(1.5), ["beta", "below 1", "got 1.5"]),
    (lambda: PowerWarmupDecay(0.9, power=0), ["power must be positive", "got 0"]),
    (lambda: PowerWarmupDecay(0.9, inv_gamma=-1), ["inv_gamma must be positive", "got -1"]),
    (lambda: LinearRampDecay(0.9, 0.99, steps=0), ["steps must be", "at least 1", "got 0"]),
    (lambda: LinearRampDecay(1.0, 0.99, steps=5), ["start must be", "below 1"]),
    (lambda: LinearRampDecay(0.9, -1.0, steps=5), ["end must be at least 0"]),
    (lambda: PowerFunctionDecay(0.3), ["sigma_rel", "below 0.2887", "got 0.3"]),
    (lambda: PowerFunctionDecay(0.0), ["sigma_rel", "above 0", "got 0"]),
    (lambda: EMA(0.9, update_every=0), ["update_every must be", "at least 1", "got 0"]),
    (lambda: EMAModel(small_network(), accumulation_steps=0), ["accumulation_steps", "got 0"]),
]


NO_NUMBERS = [
    ("beta", lambda value: ConstantDecay(value)),
    ("inv_gamma", lambda value: PowerWarmupDecay(0.9, inv_gamma=value)),
    ("power", lambda value: PowerWarmupDecay(0.9, power=value)),
    ("start", lambda value: LinearRampDecay(value, 0.9, 10)),
    ("end", lambda value: LinearRampDecay(0.9, value, 10)),
    ("sigma_rel", lambda value: PowerFunctionDecay(value)),
]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), True, "0.9", None])
@pytest.mark.parametrize(("name", "make"), NO_NUMBERS)
def test_what_is_no_number_is_refused_by_the_name_of_its_argument(name, make, value):
    text = f"^{name} must be a finite number; got {value!r}.$"
    with pytest.raises(ValueError, match=text):
        make(value)


@pytest.mark.parametrize(("make", "words"), WRONG)
def test_impossible_arguments_are_refused(make, words):
    assert_refused(make, words)
