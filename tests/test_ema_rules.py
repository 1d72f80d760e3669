"""Rules of a part of a run, half-lives and scaled decays against their definitions in float64."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from refusals import assert_refused
from small_trainings import assert_close, compiled, small_network, task, trained

from ddpm_keras.ema import (
    EMA,
    LAWA,
    SWA,
    WSM,
    ConstantDecay,
    EMAModel,
    HalfLife,
    LinearRampDecay,
    PowerFunctionDecay,
    PowerWarmupDecay,
    ScaledDecay,
    StepDecay,
    WarmupDecay,
    groups,
)

STEPS = 60

# The definitions: the share of each of the weights 0 (initial) to n in the average after n steps.


def equal(counted, n):
    """The mean of the weights after these steps, or a copy of the last weights."""
    shares = np.zeros(n + 1)
    shares[counted if len(counted) else [n]] = 1.0 / max(len(counted), 1)
    return shares


def swa(start, every, n):
    return equal([t for t in range(start + 1, n + 1) if (t - start) % every == 0], n)


def lawa(k, every, n):
    return equal([t for t in range(1, n + 1) if t % every == 0][-k:], n)


def wsm(first, last, rate_of_learning, n):
    """Weight j of the window, 1 to its length, is w_j - w_(j+1), w_j the rate of learning there."""
    end, length = min(n, last), last - first
    shares = np.zeros(n + 1)
    if end <= first:
        shares[n] = 1.0
        return shares
    w = [rate_of_learning(j / length) for j in range(end - first + 1)]
    shares[first + 1 : end + 1] = -np.diff(w)
    return shares / shares.sum()


def half_life(images, batch_size, ratio, n):
    shares = np.ones(1)
    for step in range(n):
        longest = np.inf if ratio is None else step * batch_size * ratio
        h = min(images, longest)
        beta = 0.5 ** (batch_size / h) if h else 0.0
        shares = np.append(beta * shares, 1 - beta)
    return shares


def by_betas(beta, n):
    shares = np.ones(1)
    for step in range(n):
        shares = np.append(beta(step) * shares, 1 - beta(step))
    return shares


def cosine(s):
    return (1 + np.cos(np.pi * s)) / 2


RULES = {
    SWA(0): lambda n: swa(0, 1, n),
    SWA(17): lambda n: swa(17, 1, n),
    SWA(11, every_steps=5): lambda n: swa(11, 5, n),
    LAWA(1, 7): lambda n: lawa(1, 7, n),
    LAWA(3, 1): lambda n: lawa(3, 1, n),
    LAWA(4, 6): lambda n: lawa(4, 6, n),
    WSM(0.3, 50): lambda n: wsm(35, 50, lambda s: 1 - s, n),
    WSM(1.0, 60): lambda n: wsm(0, 60, lambda s: 1 - s, n),
    WSM(0.5, 60, "cosine"): lambda n: wsm(30, 60, cosine, n),
    WSM(0.25, 60, "sqrt"): lambda n: wsm(45, 60, lambda s: 1 - s**0.5, n),
    HalfLife(640, 64): lambda n: half_life(640, 64, 0.05, n),
    HalfLife(320, 32, rampup_ratio=0.3): lambda n: half_life(320, 32, 0.3, n),
    HalfLife(500, 64, rampup_ratio=None): lambda n: half_life(500, 64, None, n),
    ScaledDecay(WarmupDecay(0.9), 4): lambda n: by_betas(
        lambda m: min(0.9, (1 + 4 * m) / (10 + 4 * m)) ** 4, n
    ),
}
each_rule = pytest.mark.parametrize("rule", RULES, ids=repr)


@pytest.fixture(scope="module")
def followed():
    """(weights, averages): those of every step, and of every rule after every step, float32."""
    weights = np.random.default_rng(0).normal(size=(STEPS + 1, 3)).astype(np.float32)
    variable = keras.Variable(weights[0])
    ema = EMA({rule.name: rule for rule in RULES})
    ema.build([variable])

    @tf.function(autograph=False)
    def step(value):
        variable.assign(value)
        ema.update([variable])

    averages = {rule: [weights[0]] for rule in RULES}
    for value in weights[1:]:
        step(tf.constant(value))
        for rule in RULES:
            averages[rule].append(ema.variables(rule.name)[0].numpy())
    return weights.astype(np.float64), averages


@each_rule
def test_every_average_is_what_its_definition_says(rule, followed):
    weights, averages = followed
    expected = [RULES[rule](n) @ weights[: n + 1] for n in range(STEPS + 1)]
    np.testing.assert_allclose(averages[rule], expected, atol=3e-6)


@each_rule
def test_shares_are_those_of_the_definition(rule):
    for n in (1, 2, 5, 30, 47, STEPS):
        shares = RULES[rule](n)
        assert rule.initial_share(n) == pytest.approx(shares[0], abs=1e-15)
        np.testing.assert_allclose(rule.later_share(n), 1 - np.cumsum(shares), atol=1e-12)
    assert rule.initial_share(0) == 1.0


@each_rule
def test_the_window_reaches_as_far_back_as_the_definition(rule):
    """Of a mean the steps it counts, each for those since the one before; else 1 / (1 - beta)."""
    for n in (0, 8, 20, 49, STEPS - 1):
        shares = RULES[rule](n + 1)
        if isinstance(rule, (SWA, LAWA)):
            after = range(rule.start + rule.every_steps, n + 2, rule.every_steps)
            expected = max(min(len(after), rule.most) * rule.every_steps, 1)
        elif isinstance(rule, WSM):
            expected = (shares > 0).sum()
        else:
            expected = 1 / shares[-1]
        assert rule.effective_window(n) == pytest.approx(expected, rel=1e-9), n


def test_windows_of_the_table():
    assert [SWA(10, 5).effective_window(n) for n in (0, 13, 14, 19, 20)] == [1, 1, 5, 10, 10]
    assert [LAWA(2, 5).effective_window(n) for n in (0, 3, 4, 9, 14)] == [1, 1, 5, 10, 10]
    assert [WSM(0.2, 50).effective_window(n) for n in (0, 39, 40, 49, 70)] == [1, 1, 1, 10, 10]
    assert HalfLife(640, 64, None).effective_window(9) == pytest.approx(1 / (1 - 0.5**0.1))


@each_rule
def test_in_the_graph_as_in_numpy_and_as_saved(rule):
    n = np.arange(0, 90)
    in_graph = tf.function(rule.rate, autograph=False)(tf.constant(n, tf.int64))
    assert in_graph.dtype == tf.float64 and rule.rate(3).dtype == np.float64
    np.testing.assert_allclose(in_graph, rule.rate(n), rtol=1e-12, atol=1e-15)
    config = keras.saving.serialize_keras_object(rule)
    again = keras.saving.deserialize_keras_object(config)
    assert again == rule and again.name == rule.name and repr(again) == repr(rule)
    assert EMA([again]).names == (rule.name,)


def test_rules_are_called_by_what_tells_them_apart():
    assert [rule.name for rule in RULES] == [
        *("swa_0", "swa_17", "swa_11_5", "lawa_1_7", "lawa_3_1", "lawa_4_6"),
        *("wsm_0.3", "wsm_1.0", "wsm_0.5_cosine", "wsm_0.25_sqrt"),
        *("halflife_640", "halflife_320_0.3", "halflife_500_none", "warmup_0.9_scaled_4"),
    ]
    assert (
        repr(HalfLife(5e5, 512)) == "HalfLife(images=500000.0, batch_size=512, rampup_ratio=0.05)"
    )
    assert SWA(0).rate(7) == StepDecay().rate(7)


WRONG = [
    (lambda: SWA(-1), ["start", "at least 0", "-1"]),
    (lambda: SWA(5, 0), ["every_steps", "at least 1"]),
    (lambda: LAWA(0, 5), ["k", "at least 1"]),
    (lambda: LAWA(2, 2.5), ["every_steps", "whole number", "2.5"]),
    (lambda: WSM(0.0, 10), ["share", "above 0 and at most 1", "0.0"]),
    (lambda: WSM(1.1, 10), ["share", "1.1"]),
    (lambda: WSM(0.5, 0), ["steps", "at least 1"]),
    (lambda: WSM(0.5, 9, "wsd"), ["decay of the learning rate", "'wsd'", "linear, cosine, sqrt"]),
    (lambda: HalfLife(0, 64), ["images", "positive"]),
    (lambda: HalfLife(10, 0.5), ["batch_size", "whole number"]),
    (lambda: HalfLife(10, 64, 0), ["rampup_ratio", "positive"]),
    (lambda: ConstantDecay(0.9).scaled(0), ["kappa", "positive"]),
    (lambda: HalfLife(10, 64).scaled(0.3), ["batch_size", "whole number"]),
    (lambda: SWA(3).scaled(4), ["SWA(start=3, every_steps=1)", "beta^kappa", "4 times"]),
    (lambda: LAWA(3, 1).scaled(4), ["LAWA(k=3, every_steps=1)", "beta^kappa"]),
    (lambda: WSM(0.5, 9).scaled(4), ["WSM(", "beta^kappa"]),
    *(
        (lambda rule=rule: ScaledDecay(rule, 2), [repr(rule), "2 times"])
        for rule in (SWA(3), LAWA(3, 1), WSM(0.5, 9))
    ),
    (lambda: EMA(LAWA(3, 2), update_every=3), ["LAWA(k=3, every_steps=2)", "update_every=3"]),
]


@pytest.mark.parametrize(("call", "words"), WRONG, ids=range(len(WRONG)))
def test_what_cannot_be_is_refused_by_name(call, words):
    assert_refused(call, words)


# The scaling rule of batch sizes.


@pytest.mark.parametrize(
    ("decay", "expected"),
    [
        (ConstantDecay(0.9999), ConstantDecay(0.9999**8)),
        (StepDecay(), StepDecay()),
        (PowerFunctionDecay(0.1), PowerFunctionDecay(0.1)),
        (HalfLife(500_000, 64), HalfLife(500_000, 512)),
        (WarmupDecay(0.999), ScaledDecay(WarmupDecay(0.999), 8)),
        (ScaledDecay(WarmupDecay(0.999), 2), ScaledDecay(WarmupDecay(0.999), 16)),
    ],
    ids=repr,
)
def test_scaled_is_said_and_what_the_rule_makes(decay, expected, caplog):
    with caplog.at_level("INFO", "ddpm_keras"):
        scaled = decay.scaled(8)
    assert scaled == expected
    assert HalfLife(500, 90).scaled(0.7) == HalfLife(500, 63)  # 90 * 0.7 is 62.99999999999999
    assert "8 times as large" in caplog.text and repr(scaled) in caplog.text


@pytest.mark.parametrize(
    "decay",
    [
        ConstantDecay(0.99),
        StepDecay(),
        PowerFunctionDecay(0.1),
        HalfLife(640, 64, None),
        LinearRampDecay(0.5, 0.9, 40),
        PowerWarmupDecay(0.9),
    ],
    ids=repr,
)
def test_one_scaled_step_forgets_what_kappa_steps_did(decay):
    """Exactly where the decay is constant, or a power of n; for ramps in between its ends."""
    n = np.arange(20, 60)
    one = decay.scaled(4)(n)
    four = np.prod([decay(4 * n + i) for i in range(4)], axis=0)
    ramp = isinstance(decay, (LinearRampDecay, PowerWarmupDecay))
    np.testing.assert_allclose(one, four, rtol=0.05 if ramp else 1e-12)
    np.testing.assert_allclose(one, decay(4 * n) ** 4 if ramp else one, rtol=1e-12)


# What is said of them.


def test_what_a_run_is_too_short_or_too_long_for_is_said():
    ema = EMA({"swa": SWA(100), "lawa": LAWA(3, 80), "wsm": WSM(0.2, 50), "half": HalfLife(64, 8)})
    said = {line.split(":")[0]: line for line in ema.warnings(30)}
    assert list(said) == ["ema_swa", "ema_lawa", "ema_wsm"]
    assert "step 101" in said["ema_swa"] and "copy of the raw weights" in said["ema_swa"]
    assert "step 80" in said["ema_lawa"] and "step 41" in said["ema_wsm"]
    assert "stands still after the 50 steps" in ema.warnings(101)[0] and len(ema.warnings(101)) == 1
    assert EMA(WSM(0.2, 50)).warnings(50) == []
    lines = EMA({"a": LAWA(3, 80), "b": HalfLife(8000, 8, None)}).describe(1000, 100)
    assert "LAWA(k=3, every_steps=80), effective window 240 steps (2.4 epochs)" in lines[0]
    assert "the initial weights count 0.00%" in lines[0]
    assert f"the initial weights count {0.5:.2%}" in lines[1]
    assert len(EMA(HalfLife(8000, 8, None)).warnings(1000)) == 1


# Past weights through training, saving and loading.

WINDOWS = {"lawa": LAWA(3, 2), "swa": SWA(4, 2), "0.9": 0.9}


def arrays(values):
    return [np.asarray(value, np.float64) for value in values]


@pytest.fixture(scope="module")
def weights_of_steps():
    """The raw weights after each of the nine steps of `trained()`, the initial ones first."""
    keras.utils.set_random_seed(0)
    model = compiled(EMAModel(small_network()))
    (x, y), after = task(), [arrays(model.network.weights)]
    for step in range(9):
        part = np.arange(step * 16, (step + 1) * 16) % len(x)
        model.train_on_batch(x[part], y[part])
        after.append(arrays(model.network.weights))
    return after


def mean_after(weights_of_steps, steps):
    chosen = [weights_of_steps[step] for step in steps]
    return [np.mean(values, axis=0) for values in zip(*chosen, strict=True)]


@pytest.mark.parametrize("arguments", [{}, {"jit_compile": True}], ids=str)
def test_means_of_weights_of_a_training(arguments, weights_of_steps):
    model = trained(ema=EMA(WINDOWS), compile_arguments=arguments)
    assert_close(model.weight_values("ema_lawa"), mean_after(weights_of_steps, (4, 6, 8)))
    assert_close(model.weight_values("ema_swa"), mean_after(weights_of_steps, (6, 8)))
    ema = model.ema
    assert (ema.effective_window("lawa"), ema.effective_window("swa")) == (6, 4)
    shares = [ema.initial_share(name) for name in WINDOWS]
    assert shares == pytest.approx([0.0, 0.0, 0.9**9])
    assert (ema.beta("lawa"), ema.beta("swa")) == pytest.approx((2 / 3, 2 / 3))


def test_past_weights_are_saved_whatever_the_groups_are(tmp_path, monkeypatch):
    decays = {"lawa": LAWA(3, 4), "swa": SWA(4)}
    whole = trained(ema=EMA(decays), epochs=4)
    monkeypatch.setattr(groups, "GROUP_SIZE", 9)  # a weight or two each
    half = trained(ema=EMA(decays), epochs=2)
    half.save(tmp_path / "model.keras")
    monkeypatch.undo()
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    loaded.fit(*task(), batch_size=16, epochs=2, shuffle=False, verbose=0)
    for name in whole.weight_sets:
        assert_close(loaded.weight_values(name), arrays(whole.weight_values(name)), 0)


def moved(ema, variable, values):
    """Gives the variable each value and moves the averages; returns the last of the average."""
    for value in values:
        variable.assign([value])
        ema.update(ema.sources)
    return float(ema.variables(ema.names[0])[ema.sources.index(variable)][0])


def test_weights_that_are_thawed_stood_still_before():
    first, second = keras.Variable([0.0]), keras.Variable([1.0], trainable=False)
    ema = EMA(LAWA(3, 2))
    ema.build([first, second])
    moved(ema, first, (1, 2, 3, 4, 5))
    second.trainable = True
    ema.build([first, second])
    assert moved(ema, second, (7,)) == 3.0  # of 1, 1 and 7
    assert moved(ema, second, (8, 9)) == pytest.approx(17 / 3)


def test_an_average_that_starts_anew_has_no_past():
    store, variable = {}, keras.Variable([0.0])
    old = EMA({"old": 0.5})
    old.build([variable])
    moved(old, variable, (1, 2, 3))
    old.save_own_variables(store)
    ema = EMA(LAWA(2, 2))
    ema.build([variable])
    moved(ema, variable, (5, 5, 5, 5))
    with pytest.warns(UserWarning, match="starts anew"):
        ema.load_own_variables(store)
    assert ema.age("lawa_2_2") == 0 and moved(ema, variable, (4,)) == 4.0  # follows
    assert moved(ema, variable, (6, 1)) == 6.0 and moved(ema, variable, (8,)) == 7.0
    ema.reset()
    assert moved(ema, variable, (1, 2, 9)) == 2.0


def test_only_true_steps_at_which_averages_move_are_taken():
    variable, ema = keras.Variable([0.0]), EMA(LAWA(2, 4), update_every=3)
    ema.build([variable])

    @tf.function(autograph=False, jit_compile=True)
    def step(value, stepped):
        variable.assign(value)
        ema.update([variable], stepped)

    for value in range(1, 13):
        for given, stepped in ((-100.0, False), (np.nan, True), (value, True)):
            step(tf.constant([given], tf.float32), tf.constant(stepped))
    assert ema.num_updates == 12  # moved after 3, 6, 9 and 12; the fourth step was last seen by 6
    assert float(ema.variables("lawa_2_4")[0][0]) == pytest.approx((9 + 12) / 2)
