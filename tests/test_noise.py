"""Noise schedules against published constants, and their arithmetic against float64 NumPy."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from refusals import assert_refused

from ddpm_keras import noise

SCHEDULES = list(noise.SCHEDULES)
NO_SIGNAL = noise.linear(10, zero_terminal_snr=True)


def random_batch(schedule, count=6, seed=0):
    """(x_start, noise, t, x_t, broadcast alphas_cumprod) in float64, x_t by the definition."""
    rng = np.random.default_rng(seed)
    x_start, epsilon = rng.normal(size=(2, count, 4, 2, 3))
    t = np.linspace(0, schedule.timesteps - 1, count).astype(np.int32)
    cumprod = schedule.alphas_cumprod[t].reshape(-1, 1, 1, 1)
    return x_start, epsilon, t, np.sqrt(cumprod) * x_start + np.sqrt(1 - cumprod) * epsilon, cumprod


def test_linear_schedule_is_the_published_one():
    schedule = noise.linear(1000)
    assert schedule.betas.dtype == np.float64
    assert schedule.betas[0] == 1e-4 and schedule.betas[-1] == pytest.approx(0.02, abs=1e-15)
    # Ho et al.'s small variance; the last signal level is that of every DDPM with this schedule.
    assert schedule.posterior_variance[487] == pytest.approx(0.00979, abs=5e-6)
    assert schedule.alphas_cumprod[-1] == pytest.approx(4.035830e-05, rel=1e-6)


@pytest.mark.parametrize("timesteps", [10, 100, 250, 4000])
def test_linear_schedule_of_any_length_ends_in_noise(timesteps):
    schedule = noise.linear(timesteps)
    assert schedule.timesteps == timesteps
    assert schedule.alphas_cumprod[-1] < 1e-4
    assert schedule.betas.max() <= 0.999
    if timesteps > 20:
        assert schedule.betas[0] == pytest.approx(0.1 / timesteps)


def test_cosine_schedule_follows_its_curve():
    schedule = noise.cosine(1000)
    s = (np.arange(1, 1000) / 1000 + 0.008) / 1.008 * np.pi / 2
    curve = np.cos(s) ** 2 / np.cos(0.008 / 1.008 * np.pi / 2) ** 2
    np.testing.assert_allclose(schedule.alphas_cumprod[:-1], curve, rtol=1e-9)
    assert schedule.betas[-1] == 0.999


def test_sigmoid_schedule_follows_its_curve():
    schedule = noise.sigmoid(1000)

    def logistic(s):
        return 1 / (1 + np.exp(-(3 - 6 * s)))

    s = np.arange(1, 1000) / 1000
    curve = (logistic(s) - logistic(1)) / (logistic(0) - logistic(1))
    np.testing.assert_allclose(schedule.alphas_cumprod[:-1], curve, rtol=1e-9)
    assert schedule.alphas_cumprod[499] == pytest.approx(0.5)
    assert schedule.betas[-1] == 0.999


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("timesteps", [1, 2, 50, 1000])
def test_tables_are_consistent(name, timesteps):
    schedule = noise.get(name, timesteps)
    assert len(schedule.betas) == len(schedule.posterior_log_variance_clipped) == timesteps
    assert np.all((schedule.betas > 0) & (schedule.betas < 1))
    np.testing.assert_allclose(
        np.log(schedule.alphas_cumprod), np.cumsum(np.log1p(-schedule.betas))
    )
    assert schedule.alphas_cumprod_prev[0] == 1
    assert schedule.posterior_variance[0] == 0
    assert np.all(np.isfinite(schedule.posterior_log_variance_clipped))
    if timesteps > 1:
        expected = np.log(schedule.posterior_variance[[1, *range(1, timesteps)]])
        np.testing.assert_allclose(schedule.posterior_log_variance_clipped, expected)


ENDING_IN_NOISE = [
    lambda timesteps: noise.linear(timesteps, zero_terminal_snr=True),
    lambda timesteps: noise.cosine(timesteps, zero_terminal_snr=True),
    lambda timesteps: noise.sigmoid(timesteps, zero_terminal_snr=True),
]


@pytest.mark.parametrize("make", ENDING_IN_NOISE)
@pytest.mark.parametrize("timesteps", [2, 50, 1000])
def test_zero_terminal_snr_leaves_noise_alone_at_the_end(make, timesteps):
    """Lin et al. 2024, algorithm 1: sqrt(alphas_cumprod) is an affine map of what it was."""
    schedule = make(timesteps)
    usual = noise.get(schedule.name, timesteps)
    assert schedule.zero_terminal_snr and not usual.zero_terminal_snr
    assert schedule.betas[-1] == 1 and schedule.alphas_cumprod[-1] == schedule.snr[-1] == 0
    signal, before = np.sqrt(schedule.alphas_cumprod), np.sqrt(usual.alphas_cumprod)
    assert signal[0] == pytest.approx(before[0], rel=1e-12)
    slope = before[0] / (before[0] - before[-1])
    np.testing.assert_allclose(signal, slope * (before - before[-1]), atol=1e-12)
    tables = (schedule.posterior_variance, schedule.posterior_log_variance_clipped)
    assert all(np.isfinite(table).all() for table in tables)
    assert schedule.posterior_mean_coef_x_t[-1] == 0
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(schedule)))
    again = noise.get(config)
    np.testing.assert_array_equal(again.betas, schedule.betas)
    assert (
        repr(again)
        == repr(schedule)
        == (f"NoiseSchedule({schedule.name}, timesteps={timesteps}, zero_terminal_snr=True)")
    )


@pytest.mark.parametrize("prediction", ["sample", "v"])
def test_predictions_invert_each_other_where_there_is_no_signal(prediction):
    schedule = noise.linear(10, zero_terminal_snr=True)
    x_start, epsilon, t, x, _ = random_batch(schedule)
    assert t[-1] == 9
    np.testing.assert_allclose(x[-1], epsilon[-1])
    output = noise.training_target(schedule, prediction, x_start, epsilon, t)
    found = noise.to_x_start(schedule, prediction, output, x, t)
    np.testing.assert_allclose(found, x_start, atol=1e-9)
    found = noise.to_epsilon(schedule, prediction, output, x, t)
    np.testing.assert_allclose(found, epsilon, atol=1e-9)
    np.testing.assert_array_equal(noise.loss_weights(schedule, prediction, "simple", t), 1)


@pytest.mark.parametrize("name", SCHEDULES)
def test_posterior_is_bayes_rule(name):
    """q(x_{t-1}|x_t,x_0) by multiplying the two Gaussians it comes from."""
    schedule = noise.get(name, 100)
    x_start, _, t, x, _ = random_batch(schedule)
    x_start, t, x = x_start[1:], t[1:], x[1:]  # at t = 0 the posterior is a point
    beta = schedule.betas[t].reshape(-1, 1, 1, 1)
    before = schedule.alphas_cumprod[t - 1].reshape(-1, 1, 1, 1)
    precision = 1 / (1 - before) + (1 - beta) / beta
    mean = (np.sqrt(before) * x_start / (1 - before) + np.sqrt(1 - beta) * x / beta) / precision
    np.testing.assert_allclose(noise.posterior_mean(schedule, x_start, x, t), mean, rtol=1e-9)
    np.testing.assert_allclose(
        noise.posterior_variance(schedule, t, x), 1 / precision, rtol=1e-9, atol=0
    )


def test_posterior_at_the_first_timestep_is_the_image():
    schedule = noise.linear(10)
    x_start, x = np.ones((1, 2, 2, 1)), np.full((1, 2, 2, 1), 5.0)
    np.testing.assert_allclose(noise.posterior_mean(schedule, x_start, x, [0]), x_start)


@pytest.mark.parametrize(
    ("t", "got"), [([-1, 5], "-1 to 5"), ([1, 10], "1 to 10"), ([0.5, 5.0], "float32")]
)
def test_what_is_no_timestep_is_refused(t, got):
    """As paper and code count from 1 and from 0; of a place out of a table, a GPU gives 0."""
    schedule, x = noise.linear(10), np.ones((2, 4, 4, 1), np.float32)
    words = ["t must be timesteps", "from 0 to 9", got]
    assert_refused(lambda: noise.q_sample(schedule, x, t, x), words)
    assert_refused(lambda: noise.to_x_start(schedule, "v", x, x, tf.constant(t)), words)
    assert_refused(lambda: noise.loss_weights(schedule, "v", "min_snr", t), words)


@pytest.mark.parametrize("dtype", ["uint8", "int64"])
def test_timesteps_are_whole_numbers_of_any_width(dtype):
    schedule, x = noise.linear(10), np.ones((2, 4, 4, 1), np.float32)
    found = noise.q_sample(schedule, x, np.array([0, 9], dtype), x)
    np.testing.assert_array_equal(found, noise.q_sample(schedule, x, [0, 9], x))


@pytest.mark.parametrize("name", SCHEDULES)
def test_q_sample_and_predictions_invert_each_other(name):
    schedule = noise.get(name, 1000)
    x_start, epsilon, t, x, _ = random_batch(schedule)
    np.testing.assert_allclose(noise.q_sample(schedule, x_start, t, epsilon), x, rtol=1e-12)
    for prediction in noise.PREDICTIONS:
        output = noise.training_target(schedule, prediction, x_start, epsilon, t)
        found = noise.to_x_start(schedule, prediction, output, x, t)
        np.testing.assert_allclose(found, x_start, atol=1e-9)
        found = noise.to_epsilon(schedule, prediction, output, x, t)
        np.testing.assert_allclose(found, epsilon, atol=1e-9)


def test_training_targets():
    schedule = noise.cosine(40)
    x_start, epsilon, t, _, cumprod = random_batch(schedule)
    v = np.sqrt(cumprod) * epsilon - np.sqrt(1 - cumprod) * x_start
    for prediction, expected in {"epsilon": epsilon, "sample": x_start, "v": v}.items():
        found = noise.training_target(schedule, prediction, x_start, epsilon, t)
        np.testing.assert_allclose(found, expected, atol=1e-12)


def test_min_snr_bounds_the_weight_of_the_error_on_the_image():
    """An output error d is an error c d on x_start, which must be weighed by min(snr, gamma)."""
    schedule = noise.linear(1000)
    t = np.arange(1000)
    signal, rate = np.sqrt(schedule.alphas_cumprod), np.sqrt(1 - schedule.alphas_cumprod)
    x_start_error = {"epsilon": rate / signal, "sample": np.ones(1000), "v": rate}
    for prediction, scale in x_start_error.items():
        found = noise.loss_weights(schedule, prediction, "min_snr", t, gamma=5.0)
        assert found.dtype == tf.float32
        expected = np.minimum((signal / rate) ** 2, 5.0) * scale**2
        np.testing.assert_allclose(found, expected, rtol=1e-5)
        np.testing.assert_array_equal(noise.loss_weights(schedule, prediction, "simple", t), 1)


@pytest.mark.parametrize("prediction", noise.PREDICTIONS)
@pytest.mark.parametrize("weighting", noise.WEIGHTINGS)
def test_losses_in_a_graph_agree_with_float64(prediction, weighting):
    schedule = noise.cosine(1000)
    x_start, epsilon, t, _, cumprod = random_batch(schedule, count=9)
    output = np.random.default_rng(1).normal(size=x_start.shape)

    @tf.function
    def loss(output, x_start, epsilon, t):
        target = noise.training_target(schedule, prediction, x_start, epsilon, t)
        error = tf.reduce_mean(tf.square(output - target), axis=[1, 2, 3])
        return tf.reduce_mean(noise.loss_weights(schedule, prediction, weighting, t) * error)

    v = np.sqrt(cumprod) * epsilon - np.sqrt(1 - cumprod) * x_start
    target = {"epsilon": epsilon, "sample": x_start, "v": v}[prediction]
    snr = (cumprod / (1 - cumprod)).ravel()
    denominator = {"epsilon": snr, "sample": 1.0, "v": snr + 1.0}[prediction]
    weights = np.minimum(snr, 5) / denominator if weighting == "min_snr" else np.ones(9)
    expected = np.mean(weights * np.mean((output - target) ** 2, axis=(1, 2, 3)))
    arguments = [tf.constant(array, tf.float32) for array in (output, x_start, epsilon)]
    assert float(loss(*arguments, tf.constant(t))) == pytest.approx(expected, rel=2e-6)


@pytest.mark.parametrize("schedule", [noise.cosine(30), noise.NoiseSchedule([0.1, 0.25], "mine")])
def test_schedules_survive_a_configuration_file(schedule):
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(schedule)))
    again = keras.saving.deserialize_keras_object(config)
    assert again.name == schedule.name
    np.testing.assert_array_equal(again.betas, schedule.betas)
    np.testing.assert_array_equal(noise.get(config).betas, schedule.betas)


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_of_the_package_have_1000_timesteps_and_are_saved_by_name(name):
    for schedule in (getattr(noise, name)(), noise.get(name)):
        assert schedule.name == name
        assert schedule.get_config() == {"name": name, "timesteps": 1000}


def test_a_known_name_does_not_hide_other_betas():
    schedule = noise.NoiseSchedule([0.1, 0.2], "linear")
    again = noise.NoiseSchedule.from_config(schedule.get_config())
    np.testing.assert_array_equal(again.betas, [0.1, 0.2])


def test_a_schedule_of_ones_own_is_called_custom_and_shown_with_its_length():
    assert noise.NoiseSchedule([0.1, 0.2]).name == "custom"
    assert repr(noise.NoiseSchedule([0.1, 0.2])) == "NoiseSchedule(custom, timesteps=2)"


def test_the_bound_of_min_snr_is_5_unless_given():
    schedule, t = noise.linear(1000), np.arange(0, 1000, 50)
    weights = [noise.loss_weights(schedule, "sample", "min_snr", t, *g) for g in ((), (5.0,), (2,))]
    np.testing.assert_array_equal(weights[0], weights[1])
    assert weights[0][0] == 5.0 and weights[2][0] == 2.0


def test_get_returns_a_schedule_unchanged():
    schedule = noise.linear(10)
    assert noise.get(schedule, 1000) is schedule
    assert noise.get("cosine", 20).timesteps == 20


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: noise.linear(0), "from 1 to"),
        (lambda: noise.cosine(-3), "from 1 to"),
        (lambda: noise.sigmoid(2.5), "whole number"),
        (lambda: noise.NoiseSchedule([1.0, 0.1]), r"betas\[0\] is 1.0"),
        (lambda: noise.NoiseSchedule([1.0]), "leave a signal of 0"),
        (lambda: noise.linear(1, zero_terminal_snr=True), "at least 2 timesteps"),
        (lambda: noise.linear(10, zero_terminal_snr="no"), "zero_terminal_snr.*'no'"),
        (lambda: noise.check_prediction("epsilon", NO_SIGNAL), "'epsilon'.*'v' or 'sample'"),
        (
            lambda: noise.to_x_start(NO_SIGNAL, "epsilon", np.ones((1, 2)), np.ones((1, 2)), [1]),
            "'epsilon'.*'v' or 'sample'",
        ),
        (
            lambda: noise.loss_weights(NO_SIGNAL, "v", "min_snr", [0]),
            "'min_snr'.*weighting='simple'",
        ),
        (lambda: noise.NoiseSchedule([0.0, 0.5]), r"betas\[0\] is 0.0"),
        (lambda: noise.NoiseSchedule([0.1, 0.0]), r"betas\[1\] is 0.0"),
        (lambda: noise.NoiseSchedule([0.1, float("nan")]), r"betas\[1\] is nan"),
        (lambda: noise.NoiseSchedule([]), "one beta per timestep"),
        (lambda: noise.NoiseSchedule([[0.1]]), "one beta per timestep"),
        (lambda: noise.get("quadratic", 10), "linear, cosine, sigmoid"),
        (
            lambda: noise.check_prediction("noise"),
            "Unknown prediction 'noise'; .* epsilon, sample, v",
        ),
        (
            lambda: noise.loss_weights(noise.linear(9), "v", "snr", [0]),
            "Unknown weighting 'snr'; use one of simple, min_snr",
        ),
    ],
)
def test_bad_input_is_refused_in_one_line(call, message):
    with pytest.raises(ValueError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_tables_follow_from_the_betas_for_good():
    tables = [each for each in vars(noise.linear(20)).values() if isinstance(each, np.ndarray)]
    assert len(tables) > 8
    for table in tables:
        with pytest.raises(ValueError, match="read-only"):
            table[0] = 0.5
