"""Decays against closed forms, averages against float64, and every way of training a model."""

import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from refusals import assert_refused

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
    WeightSet,
    by_rules,
    optimizer_average,
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
    assert windows == pytest.approx([10, 15 / 9, 6])


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


# The averages of any list of variables.


def numbers(variables):
    return [np.asarray(variable) for variable in variables]


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
    (lambda: PowerWarmupDecay(0.9, power=0), ["power must be positive", "and 0."]),
    (lambda: PowerWarmupDecay(0.9, inv_gamma=-1), ["inv_gamma and", "positive", "got -1"]),
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


def test_update_needs_known_variables():
    known, unknown = keras.Variable([1.0]), keras.Variable([2.0])
    ema = EMA(0.9)
    with pytest.raises(ValueError, match="build"):
        ema.update([known])
    ema.build([known])
    with pytest.raises(ValueError, match=f"No average was built for {unknown.path}: call"):
        ema.update([unknown])
    with pytest.raises(ValueError, match="No average was built for .*, .*, .* and others"):
        ema.update([keras.Variable([2.0]) for _ in range(4)])
    with pytest.raises(ValueError, match="No average is called"):
        ema.variables("0.99")


def test_only_trainable_floats_are_averaged():
    weight = keras.Variable([1.0, 2.0])
    statistic = keras.Variable([3.0], trainable=False)
    counter = keras.Variable(4, dtype="int32", trainable=False)
    copied, averaged = EMA(0.5), EMA(0.5, average_statistics=True)
    for ema in (copied, averaged):
        ema.build([weight, statistic, counter])
    weight.assign([3.0, 4.0])
    statistic.assign([5.0])
    counter.assign(9)
    for ema in (copied, averaged):
        ema.update([weight])
    for actual, expected in zip(copied.variables("0.5"), ([2.0, 3.0], [5.0], 9), strict=True):
        np.testing.assert_array_equal(actual, expected)
    for actual, expected in zip(averaged.variables("0.5"), ([2.0, 3.0], [4.0], 9), strict=True):
        np.testing.assert_array_equal(actual, expected)


def test_a_step_that_was_not_made_changes_nothing():
    variable = keras.Variable([1.0])
    ema = EMA(0.5)
    ema.build([variable])
    update = tf.function(lambda stepped: ema.update([variable], stepped))
    variable.assign([float("nan")])
    update(tf.constant(False))
    ema.update([variable], stepped=False)
    assert ema.num_updates == 0
    variable.assign([3.0])
    update(tf.constant(True))
    variable.assign([float("nan")])
    update(tf.constant(False))
    assert ema.num_updates == 1
    np.testing.assert_array_equal(ema.variables("0.5")[0], [2.0])


@pytest.mark.parametrize("name", ["constant", "warmup", "narrow", "step"])
def test_update_every_compensates_exactly_for_weights_that_stand_still(name):
    """beta^k (the product of the k betas) at every k-th step: exact for constant weights."""
    decay, start, value = DECAYS[name], 1.0, 3.0
    variable = keras.Variable([start])
    each, third = EMA({"a": decay}), EMA({"a": decay}, update_every=3)
    for ema in (each, third):
        ema.build([variable])
    variable.assign([value])
    for step in range(1, 10):
        each.update([variable])
        third.update([variable])
        if step % 3 == 0:
            np.testing.assert_allclose(each.variables("a")[0], third.variables("a")[0], rtol=1e-6)
    assert third.num_updates == 9
    before = numbers(third.variables("a"))
    third.update([variable])
    np.testing.assert_array_equal(before, numbers(third.variables("a")))


def test_large_networks_are_cut_into_groups(monkeypatch):
    variables = [keras.Variable(np.full((3,), i, np.float32)) for i in range(7)]
    one, many = EMA(0.5), EMA(0.5)
    one.build(variables)
    monkeypatch.setattr("ddpm_keras.ema.groups.GROUP_SIZE", 6)
    many.build(variables)
    assert len(one._groups) == 1 and len(many._groups) == 4
    for variable in variables:
        variable.assign(variable * 2)
    one.update(variables)
    many.update(variables)
    np.testing.assert_array_equal(numbers(one.variables("0.5")), numbers(many.variables("0.5")))


def test_assign_to_writes_elsewhere_only():
    variables = [keras.Variable([1.0]), keras.Variable([[2.0]])]
    ema = EMA(0.5)
    ema.build(variables)
    variables[0].assign([3.0])
    ema.update(variables)
    others = [keras.Variable([0.0], dtype="bfloat16"), keras.Variable([[0.0]])]
    ema.assign_to("0.5", others)
    np.testing.assert_array_equal(np.asarray(others[0], np.float32), [2.0])
    np.testing.assert_array_equal(others[1], [[2.0]])
    with pytest.raises(ValueError, match="never overwrites"):
        ema.assign_to("0.5", variables)
    with pytest.raises(ValueError, match="do not fit"):
        ema.assign_to("0.5", others[:1])


def test_describe_states_windows_and_what_is_left_of_the_start():
    ema = EMA({"0.999": 0.999, "w": WarmupDecay(0.9)})
    first, second = ema.describe(2000, steps_per_epoch=500)
    assert "1,000 steps (2.0 epochs)" in first and "13.52%" in first
    assert "10 steps" in second and "0.00%" in second
    assert len(ema.warnings(2000)) == 1 and "14%" in ema.warnings(2000)[0]
    assert ema.warnings(10_000) == []


def test_reset_starts_anew_from_the_present_weights():
    variable = keras.Variable([1.0])
    ema = EMA(0.5)
    ema.build([variable])
    variable.assign([3.0])
    ema.update([variable])
    ema.reset()
    assert ema.num_updates == 0
    np.testing.assert_array_equal(ema.variables("0.5")[0], [3.0])


def test_until_the_first_update_an_average_is_a_copy_of_the_weights():
    network = small_network()
    model = EMAModel(network, ema=0.999)
    network.set_weights([w + 1 for w in network.get_weights()])
    for value, weight in zip(model.weight_values("ema"), network.weights, strict=True):
        np.testing.assert_array_equal(value, weight)


# The model: one move per true step, however it is trained.

SAMPLES = 48


def task():
    random = np.random.default_rng(0)
    x = random.normal(size=(SAMPLES, 4)).astype(np.float32)
    return x, random.integers(0, 3, SAMPLES)


def small_network(normalised=False):
    layers = [keras.layers.Dense(8, activation="tanh"), keras.layers.Dense(3)]
    if normalised:
        layers.insert(1, keras.layers.BatchNormalization())
    return keras.Sequential([keras.Input((4,)), *layers])


def compiled(model, optimizer=None, **arguments):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer or keras.optimizers.Adam(1e-2), loss, metrics=["accuracy"], **arguments)
    return model


def trained(optimizer=None, epochs=3, batch_size=16, compile_arguments=None, **arguments):
    keras.utils.set_random_seed(0)
    arguments.setdefault("ema", EMA((0.9, 0.99)))
    model = compiled(EMAModel(small_network(), **arguments), optimizer, **compile_arguments or {})
    model.fit(*task(), batch_size=batch_size, epochs=epochs, shuffle=False, verbose=0)
    return model


def followed(decay, optimizer=None, batch_size=16, epochs=3, every=1):
    """The same training by hand, with the average in float64."""
    keras.utils.set_random_seed(0)
    model = compiled(EMAModel(small_network()), optimizer)
    x, y = task()
    average = [v.astype(np.float64) for v in model.network.get_weights()]
    for call in range(epochs * SAMPLES // batch_size):
        part = np.arange(call * batch_size, (call + 1) * batch_size) % SAMPLES
        model.train_on_batch(x[part], y[part])
        if (call + 1) % every == 0:
            weights = model.network.get_weights()
            average = [decay * a + (1 - decay) * w for a, w in zip(average, weights, strict=True)]
    return model.network.get_weights(), average


def assert_close(actual, expected, tolerance=1e-6):
    for a, e in zip(actual, expected, strict=True):
        np.testing.assert_allclose(np.asarray(a), e, rtol=0, atol=tolerance)


@pytest.mark.parametrize(
    "compile_arguments",
    [
        {},
        {"run_eagerly": True},
        {"jit_compile": True},
        {"steps_per_execution": 4},
        {"steps_per_execution": 4, "jit_compile": True},
    ],
    ids=str,
)
def test_average_of_a_training_is_that_of_its_weights(compile_arguments):
    model = trained(compile_arguments=compile_arguments)
    weights, average = followed(0.9)
    assert model.ema.num_updates == int(model.train_counter) == 9
    assert_close(model.weight_values("raw"), weights)
    assert_close(model.weight_values("ema_0.9"), average)


def test_micro_batches_make_the_step_of_the_big_batch():
    for arguments in ({}, {"jit_compile": True}):
        model = trained(accumulation_steps=3, compile_arguments=arguments)
        weights, average = followed(0.9)
        assert model.ema.num_updates == 9
        assert_close(model.weight_values("raw"), weights, 2e-6)
        assert_close(model.weight_values("ema_0.9"), average, 2e-6)


def test_more_micro_batches_than_rows_in_the_last_batch():
    whole = trained(batch_size=23, epochs=2)  # 23, 23 and 2 rows
    split = trained(batch_size=23, epochs=2, accumulation_steps=4)
    assert split.ema.num_updates == 6
    assert_close(split.weight_values("raw"), numbers(whole.weight_values("raw")), 2e-6)
    x, y = task()
    history = []
    for model in (whole, split):
        model.reset_metrics()
        history.append(model.train_on_batch(x[:2], y[:2], return_dict=True))
    assert history[0]["accuracy"] == history[1]["accuracy"]
    assert history[0]["loss"] == pytest.approx(history[1]["loss"], abs=1e-5)


def test_accumulation_in_the_optimizer_moves_once_per_true_step():
    def optimizer():
        return keras.optimizers.Adam(1e-2, gradient_accumulation_steps=3)

    model = trained(optimizer())
    weights, average = followed(0.9, optimizer(), every=3)
    assert model.ema.num_updates == 3 and int(model.train_counter) == 9
    assert_close(model.weight_values("raw"), weights)
    assert_close(model.weight_values("ema_0.9"), average)
    same = trained(batch_size=48)  # three micro-batches of 16 are one batch of 48
    assert_close(model.weight_values("ema_0.9"), numbers(same.weight_values("ema_0.9")), 2e-6)


@pytest.mark.parametrize("arguments", [{}, {"jit_compile": True}, {"steps_per_execution": 2}])
def test_a_step_skipped_by_the_loss_scale_does_not_count(arguments):
    def optimizer():
        inner = keras.optimizers.Adam(1e-2)
        return keras.optimizers.LossScaleOptimizer(inner, initial_scale=8.0)

    x, y = task()
    x[20] = np.inf  # in the second batch of each epoch
    keras.utils.set_random_seed(0)
    model = compiled(EMAModel(small_network(), ema=0.9), optimizer(), **arguments)
    model.fit(x, y, batch_size=16, epochs=2, shuffle=False, verbose=0)
    assert model.ema.num_updates == 4 and int(model.train_counter) == 6
    good = np.r_[0:16, 32:48]
    keras.utils.set_random_seed(0)
    other = compiled(EMAModel(small_network(), ema=0.9), optimizer())
    other.fit(x[good], y[good], batch_size=16, epochs=2, shuffle=False, verbose=0)
    assert_close(model.weight_values("ema"), numbers(other.weight_values("ema")))


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16", "bfloat16"])
def test_averages_are_float32_under_every_policy_and_move(policy):
    keras.config.set_dtype_policy(policy)
    model = trained(keras.optimizers.SGD(0.1), ema=EMA((0.9, 0.9999)))
    start = numbers(followed_start())
    assert {value.dtype for value in model.weight_values("ema")} == {tf.float32}
    weights = [np.asarray(tf.cast(v.value, tf.float32)) for v in model.network.weights]
    slow, fast = model.weight_values("ema_0.9999"), model.weight_values("ema_0.9")
    moved = [np.abs(np.asarray(s) - a).max() for s, a in zip(slow, start, strict=True)]
    assert min(moved) > 0 and max(moved) < 1e-3
    assert all(np.abs(np.asarray(f) - w).max() > 0 for f, w in zip(fast, weights, strict=True))


def followed_start():
    keras.utils.set_random_seed(0)
    return [tf.cast(v.value, tf.float32) for v in EMAModel(small_network()).network.weights]


def test_a_training_is_a_function_of_its_seed():
    first, second = trained(), trained()
    for a, b in zip(first.weight_values("ema"), second.weight_values("ema"), strict=True):
        np.testing.assert_array_equal(a, b)


def test_two_replicas_equal_one(tmp_path):
    """In a process of its own: the number of devices is fixed when TensorFlow starts."""
    script = pathlib.Path(__file__).with_name("ema_replicas.py")
    done = subprocess.run(
        [sys.executable, script, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    results = {name: np.load(tmp_path / f"{name}.npz") for name in ("one", "two")}
    assert int(results["two"]["num_updates"]) == int(results["one"]["num_updates"]) == 6
    for key in results["one"].files:
        np.testing.assert_allclose(results["two"][key], results["one"][key], rtol=0, atol=2e-6)


class OwnLoop(keras.Model):
    """A subclassed model with its own train_step and the bare EMA, built from its first batch."""

    def __init__(self):
        super().__init__()
        self.first = keras.layers.Dense(8, activation="tanh")
        self.last = keras.layers.Dense(3)
        self.ema = EMA(0.9)

    def call(self, x):
        return self.last(self.first(x))

    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            loss = self.compute_loss(x, y, self(x))
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply(gradients, self.trainable_variables)
        self.ema.update(self.trainable_variables)
        return {"loss": loss}


def test_bare_ema_in_a_subclassed_model_with_its_own_train_step(tmp_path):
    x, y = task()
    model = OwnLoop()
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model(x)
    start = model.get_weights()
    model.ema.build(model.weights)
    model.fit(x, y, batch_size=SAMPLES, epochs=1, verbose=0)
    expected = [0.9 * a + 0.1 * w for a, w in zip(start, model.get_weights(), strict=True)]
    assert_close(model.ema.variables("0.9"), expected)
    assert len(model.trainable_variables) == 4  # the averages are no weights of the model
    model.save_weights(tmp_path / "model.weights.h5")
    again = OwnLoop()
    again.compile("adam", model.loss)
    again(x)
    again.optimizer.build(again.trainable_variables)
    again.ema.build(again.weights)
    again.load_weights(tmp_path / "model.weights.h5")
    assert again.ema.num_updates == 1
    np.testing.assert_array_equal(again.ema.variables("0.9")[0], model.ema.variables("0.9")[0])


class Unbuilt(keras.Model):
    """A subclassed network without an input shape."""

    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(3)

    def call(self, x):
        return self.dense(x)


@pytest.mark.parametrize(
    "make", [Unbuilt, lambda: keras.Sequential([keras.layers.Dense(3)])], ids=["class", "list"]
)
def test_networks_built_by_their_first_batch(make):
    x, y = task()
    keras.utils.set_random_seed(0)
    model = compiled(EMAModel(make(), ema=0.9))
    model.fit(x, y, batch_size=16, epochs=1, verbose=0, shuffle=False)
    assert model.ema.num_updates == 3
    keras.utils.set_random_seed(0)
    built = EMAModel(make(), ema=0.9)
    built(x[:1])
    compiled(built).fit(x, y, batch_size=16, epochs=1, verbose=0, shuffle=False)
    assert_close(model.weight_values("ema"), numbers(built.weight_values("ema")))


def test_shared_layers_are_averaged_once():
    shared = keras.layers.Dense(4)
    inputs = keras.Input((4,))
    network = keras.Model(inputs, keras.layers.Dense(3)(shared(shared(inputs))))
    model = compiled(EMAModel(network, ema=0.9))
    model.fit(*task(), epochs=1, verbose=0)
    assert len(model.weight_values("ema")) == len(network.weights) == 4


# Layers frozen, thawed, added.


def test_a_frozen_layer_keeps_its_average():
    model = trained(epochs=1)
    frozen = model.network.layers[0]
    frozen.trainable = False
    compiled(model)
    before = np.asarray(model.weight_values("ema_0.9")[0])
    model.fit(*task(), batch_size=16, epochs=1, shuffle=False, verbose=0)
    kernel = np.asarray(frozen.kernel)
    # It stood still for 3 steps, and its average went on towards it.
    expected = kernel + 0.9**3 * (before - kernel)
    np.testing.assert_allclose(model.weight_values("ema_0.9")[0], expected, atol=1e-6)


def test_a_thawed_layer_gets_the_average_it_would_have_had():
    def run(ema_from_the_start):
        keras.utils.set_random_seed(0)
        network = small_network()
        model = EMAModel(network, ema=0.9) if ema_from_the_start else None
        network.layers[0].trainable = False
        model = compiled(model or EMAModel(network, ema=0.9))
        model.fit(*task(), batch_size=16, epochs=1, shuffle=False, verbose=0)
        network.layers[0].trainable = True
        compiled(model).fit(*task(), batch_size=16, epochs=1, shuffle=False, verbose=0)
        return model

    always, later = run(True), run(False)
    assert always.ema.num_updates == later.ema.num_updates == 6
    assert len(later.ema._groups) == 2
    assert_close(later.weight_values("ema"), numbers(always.weight_values("ema")))


def test_weights_added_after_training_are_refused():
    model = trained(epochs=1)
    model.network.add(keras.layers.Dense(3))
    with pytest.raises(ValueError, match="other weights than the averages were built for"):
        compiled(model).fit(*task(), verbose=0)


def test_weights_added_before_training_are_taken_in():
    model = EMAModel(small_network(), ema=0.9)
    model.network.add(keras.layers.Dense(3))
    compiled(model).fit(*task(), batch_size=16, epochs=1, verbose=0)
    assert len(model.weight_values("ema")) == 6 and model.ema.num_updates == 3


# Weight sets, evaluation, export.


def test_weight_sets_and_their_names():
    model = EMAModel(small_network(), ema=(0.99, 0.999))
    assert model.weight_sets == ("raw", "ema_0.99", "ema_0.999")
    assert model.resolve("ema") == "ema_0.999" and model.resolve("raw") == "raw"
    assert EMAModel(small_network()).resolve("ema") == "raw"
    with pytest.raises(ValueError, match="raw, ema_0.99, ema_0.999"):
        model.resolve("ema_0.9")
    with pytest.raises(ValueError, match="another network"):
        model.weight_values(WeightSet("other", [np.zeros(3)]))


@pytest.mark.parametrize("arguments", [{}, {"jit_compile": True}, {"steps_per_execution": 3}])
def test_evaluate_and_predict_use_the_average_and_touch_nothing(arguments):
    x, y = task()
    model = trained(ema=0.9, compile_arguments=arguments)
    exported = compiled(EMAModel(model.export_network("ema")))
    raw = compiled(EMAModel(model.export_network("raw")))
    state = numbers(model.variables + model.optimizer.variables + list(model.weight_values("ema")))
    results = model.evaluate(x, y, batch_size=16, verbose=0)
    prediction = model.predict(x, batch_size=16, verbose=0)
    after = numbers(model.variables + model.optimizer.variables + list(model.weight_values("ema")))
    for a, b in zip(state, after, strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_allclose(results, exported.evaluate(x, y, batch_size=16, verbose=0), 1e-6)
    np.testing.assert_allclose(prediction, exported.predict(x, verbose=0), atol=1e-6)
    model.evaluation_weights = "raw"
    expected = raw.evaluate(x, y, batch_size=16, verbose=0)
    np.testing.assert_allclose(model.evaluate(x, y, batch_size=16, verbose=0), expected, 1e-6)
    assert abs(expected[0] - results[0]) > 1e-4


def test_regularised_loss_is_evaluated_on_the_average():
    x, y = task()
    network = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, kernel_regularizer="l2")])
    model = compiled(EMAModel(network, ema=0.5), keras.optimizers.SGD(1.0))
    model.fit(x, y, epochs=2, verbose=0)
    exported = compiled(EMAModel(model.export_network()))
    expected = exported.evaluate(x, y, verbose=0)
    np.testing.assert_allclose(model.evaluate(x, y, verbose=0), expected, rtol=1e-6)


def test_export_network_is_a_network_of_its_own(tmp_path):
    model = trained()
    path = tmp_path / "network.keras"
    network = model.export_network("ema_0.9", path)
    loaded = keras.saving.load_model(path)
    for values in (network.weights, loaded.weights):
        for value, expected in zip(values, model.weight_values("ema_0.9"), strict=True):
            np.testing.assert_array_equal(value, expected)
    assert not set(map(id, network.weights)) & set(map(id, model.network.weights))
    assert [file.name for file in tmp_path.iterdir()] == ["network.keras"]
    with pytest.raises(ValueError, match=".keras file"):
        model.export_network(path=tmp_path / "network.h5")


def test_batch_normalization_statistics_are_copied_or_averaged():
    for average in (False, True):
        keras.utils.set_random_seed(0)
        ema = EMA(0.5, average_statistics=average)
        model = compiled(EMAModel(small_network(normalised=True), ema=ema))
        model.fit(*task(), batch_size=SAMPLES, epochs=1, verbose=0)
        place = [w.path.endswith("moving_mean") for w in model.network.weights].index(True)
        raw = np.asarray(model.network.weights[place])
        expected = 0.5 * raw if average else raw  # it started at 0
        np.testing.assert_allclose(model.weight_values("ema")[place], expected, rtol=1e-6)
        assert np.abs(raw).max() > 0


# Saving and loading.


def assert_same_training_state(model, other):
    assert other.ema.num_updates == model.ema.num_updates
    for name in model.weight_sets:
        pairs = zip(model.weight_values(name), other.weight_values(name), strict=True)
        for a, b in pairs:
            np.testing.assert_array_equal(a, b)


def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path):
    decays = {"w": WarmupDecay(0.99), "c": 0.9, "p": PowerFunctionDecay(0.1)}
    whole = trained(ema=EMA(decays), epochs=4)
    half = trained(ema=EMA(decays), epochs=2)
    half.save(tmp_path / "model.keras")
    half.save_weights(tmp_path / "model.weights.h5")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    fresh = compiled(EMAModel(small_network(), ema=EMA(decays)))
    fresh.optimizer.build(fresh.trainable_variables)
    fresh.load_weights(tmp_path / "model.weights.h5")
    for model in (loaded, fresh):
        assert_same_training_state(half, model)
        model.fit(*task(), batch_size=16, epochs=2, shuffle=False, verbose=0)
        assert_same_training_state(whole, model)
        assert int(model.train_counter) == 12


def test_config_round_trip():
    ema = EMA({"w": WarmupDecay(0.9)}, 2, average_statistics=True, snapshot_widths=(0.05,))
    model = EMAModel(small_network(), ema=ema, accumulation_steps=2)
    again = EMAModel.from_config(model.get_config())
    assert again.ema.get_config() == ema.get_config()
    assert again.accumulation_steps == 2 and again.weight_sets == ("raw", "ema_w")


def test_loading_into_other_decays_says_what_became_of_each(tmp_path):
    trained(ema=EMA({"a": 0.9, "b": 0.99, "d": 0.5})).save_weights(tmp_path / "m.weights.h5")
    other = EMAModel(small_network(), ema=EMA({"a": 0.9, "b": WarmupDecay(0.99), "c": 0.999}))
    with pytest.warns(UserWarning) as caught:
        other.load_weights(tmp_path / "m.weights.h5")
    (text,) = [str(w.message) for w in caught if "Averages after 9 steps" in str(w.message)]
    assert "kept a;" in text
    assert "b starts anew from the loaded weights, since it is ConstantDecay(beta=0.99)" in text
    assert "c starts anew from the loaded weights, since it is not in the file" in text
    assert "left in the file: b, d" in text
    original = trained(ema=EMA({"a": 0.9, "b": 0.99, "d": 0.5}))
    np.testing.assert_array_equal(
        other.weight_values("ema_a")[0], original.weight_values("ema_a")[0]
    )
    np.testing.assert_array_equal(other.weight_values("ema_c")[0], other.network.weights[0])
    assert other.ema.age("a") == 9 and other.ema.age("c") == 0
    compiled(other).fit(*task(), batch_size=16, epochs=1, verbose=0)
    assert other.ema.age("a") == 12 and other.ema.age("b") == 3
    assert other.ema.beta("b") == pytest.approx(4 / 13)


def test_an_average_is_found_again_under_another_name(tmp_path):
    model = trained(ema=EMA({"a": 0.9}))
    model.save_weights(tmp_path / "m.weights.h5")
    other = EMAModel(small_network(), ema=EMA({"renamed": 0.9}))
    other.load_weights(tmp_path / "m.weights.h5")
    np.testing.assert_array_equal(
        other.weight_values("ema_renamed")[0], model.weight_values("ema_a")[0]
    )


def test_loading_a_file_without_averages_into_a_trained_model_says_so(tmp_path):
    trained(ema=None).save_weights(tmp_path / "m.weights.h5")
    model = trained()
    with pytest.warns(UserWarning, match="holds no averages"):
        model.load_weights(tmp_path / "m.weights.h5")
    assert model.ema.num_updates == 0
    np.testing.assert_array_equal(model.weight_values("ema")[0], model.network.weights[0])


def test_averages_of_another_network_are_refused(tmp_path):
    store = {}
    model = trained()
    model.ema.save_own_variables(store)
    other = EMAModel(keras.Sequential([keras.Input((5,)), keras.layers.Dense(3)]), ema=(0.9, 0.99))
    assert_refused(
        lambda: other.ema.load_own_variables(store),
        ["averages of 4 weights", "has 2", "built the same way"],
    )
    wider = keras.Sequential([keras.Input((4,)), keras.layers.Dense(9), keras.layers.Dense(3)])
    assert_refused(
        lambda: EMAModel(wider, ema=(0.9, 0.99)).ema.load_own_variables(store),
        ["has shape (4, 8)", "the weight (4, 9)", "built the same way"],
    )


def test_a_layer_thawed_after_saving_keeps_what_the_file_has(tmp_path):
    model = EMAModel(small_network(), ema=0.9)
    model.network.layers[0].trainable = False
    half = EMAModel(model.network, ema=0.9)
    compiled(half).fit(*task(), batch_size=16, epochs=1, verbose=0)
    half.save_weights(tmp_path / "m.weights.h5")
    other = EMAModel(small_network(), ema=0.9)  # nothing frozen
    other.load_weights(tmp_path / "m.weights.h5")
    for a, b in zip(half.weight_values("ema"), other.weight_values("ema"), strict=True):
        np.testing.assert_array_equal(a, b)
    # and the other way round: what the file averages stays an average
    compiled(other).optimizer.build(half.trainable_variables)
    other.save_weights(tmp_path / "n.weights.h5")
    half.load_weights(tmp_path / "n.weights.h5")
    assert len(half.ema.averaged_positions) == 4


def test_tensorflow_checkpoints_hold_the_averages(tmp_path):
    model = trained()
    path = tf.train.Checkpoint(model).write(str(tmp_path / "checkpoint"))
    other = compiled(EMAModel(small_network(), ema=EMA((0.9, 0.99))))
    tf.train.Checkpoint(other).read(path).expect_partial()
    assert_same_training_state(model, other)


def test_fit_warns_of_a_run_too_short_for_an_average(caplog):
    trained(ema=EMA({"short": 0.5, "long": 0.999}))
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 1 and "ema_long" in lines[0] and "99%" in lines[0]


# A Keras optimizer's own average.


def test_optimizer_average_is_matched_by_variable():
    network = small_network()
    network.layers[0].trainable = False
    optimizer = keras.optimizers.SGD(0.1, use_ema=True, ema_momentum=0.5)
    with pytest.raises(ValueError, match="no average yet"):
        optimizer_average(optimizer, network.weights)
    optimizer.build(network.trainable_weights)
    kernel, bias = network.trainable_weights
    seen = []
    for _ in range(3):
        optimizer.apply([tf.ones_like(kernel), tf.ones_like(bias)])
        seen.append(kernel.numpy())
    network.layers[0].trainable = True
    average = optimizer_average(optimizer, network.weights)
    expected = 0.5 * (0.5 * seen[0] + 0.5 * seen[1]) + 0.5 * seen[2]  # it starts at the first step
    np.testing.assert_allclose(average.values[2], expected, atol=1e-6)
    np.testing.assert_array_equal(average.values[0], network.weights[0])
    np.testing.assert_array_equal(kernel, seen[2])
    with pytest.raises(ValueError, match="without use_ema"):
        optimizer_average(keras.optimizers.SGD(), network.weights)


def test_optimizer_average_warns_of_micro_batches():
    network = small_network()
    optimizer = keras.optimizers.SGD(0.1, use_ema=True, gradient_accumulation_steps=2)
    optimizer.build(network.trainable_weights)
    with pytest.warns(UserWarning, match="once per micro-batch"):
        optimizer_average(optimizer, network.weights)


def test_an_optimizer_that_would_overwrite_the_weights_is_refused():
    model = compiled(EMAModel(small_network(), ema=0.9), keras.optimizers.SGD(0.1, use_ema=True))
    with pytest.raises(ValueError, match="use_ema=True overwrites"):
        model.fit(*task(), verbose=0)
