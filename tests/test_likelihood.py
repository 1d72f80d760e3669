"""The variational bound against closed forms on Gaussian data, and its parts against quadrature."""

import keras
import numpy as np
import pytest
import scipy.integrate
import scipy.stats
import tensorflow as tf
from gaussians import graph_predictor

from ddpm_keras import DDPM, UNet, likelihood, noise, samplers


def closed_form(schedule, deviation, variance):
    """(prior, vlb[1:], its part from chance) in bits, expected over data of a root mean square.

    The true reverse step is Gaussian, with variance c = V beta / (alpha V + beta), where V is that
    of x_{t-1}. The posterior's mean scatters about the true one with variance c - v_q, hence
    KL = (log(v_p / v_q) + v_q / v_p - 1 + (c - v_q) / v_p) / 2.
    """
    beta, before = schedule.betas[1:], schedule.alphas_cumprod_prev[1:]
    marginal = before * deviation**2 + 1 - before
    reverse = marginal * beta / ((1 - beta) * marginal + beta)
    v_q = beta * (1 - before) / (1 - schedule.alphas_cumprod[1:])
    v_p = {"fixed_large": beta, "fixed_small": v_q}[variance]
    scatter = 0.5 * (reverse - v_q) / v_p
    vlb = 0.5 * (np.log(v_p / v_q) + v_q / v_p - 1) + scatter
    end = schedule.alphas_cumprod[-1]
    prior = 0.5 * (end * deviation**2 + 1 - end - 1 - np.log(1 - end))
    return prior / np.log(2), vlb / np.log(2), scatter / np.log(2)


@pytest.mark.parametrize("variance", samplers.VARIANCES)
@pytest.mark.parametrize("levels", [(0, 255), (89, 166)])
@pytest.mark.parametrize("make", [noise.linear, noise.cosine])
def test_the_bound_of_a_gaussian_model_is_its_closed_form(variance, levels, make):
    """80,000 values: every term within its Monte Carlo error, and so is their sum.

    The predictor is linear, so of the data the mean square alone matters: two values, plus and
    minus the deviation, leave only the noise to chance.
    """
    schedule = make(25)
    images = np.random.default_rng(0).choice(np.array(levels, np.uint8), (5, 128, 125, 1))
    deviation = levels[1] / 127.5 - 1
    found = likelihood.bits_per_dim(
        graph_predictor(schedule, 0.0, deviation), images, schedule, variance, clip=False
    )
    prior, vlb, scatter = closed_form(schedule, deviation, variance)
    assert found["prior"] == pytest.approx(prior, rel=1e-9)
    assert found["vlb"].shape == (25,)
    # A mean of squares of 80,000 Gaussians has a relative error of sqrt(2 / 80,000) = .005.
    assert np.all(np.abs(found["vlb"][1:] - vlb) < 4 * 0.005 * scatter + 1e-7)
    total = prior + vlb.sum() + found["vlb"][0]
    assert abs(found["total"] - total) < 4 * 0.005 * np.linalg.norm(scatter) + 1e-6


def test_unit_gaussian_terms_are_half_the_log_ratio_of_the_variances():
    """Data N(0, 1) reversed with variance beta is exact: each term is log(beta / posterior) / 2."""
    schedule = noise.linear(50)
    _, vlb, _ = closed_form(schedule, 1.0, "fixed_large")
    ratio = schedule.betas[1:] / schedule.posterior_variance[1:]
    np.testing.assert_allclose(vlb, 0.5 * np.log2(ratio), rtol=1e-9)


@pytest.mark.parametrize("clip", [True, False])
@pytest.mark.parametrize("variance", samplers.VARIANCES)
def test_every_term_with_the_same_noise_in_float64(variance, clip):
    schedule = noise.NoiseSchedule(np.linspace(1e-3, 0.3, 12))
    images = np.random.default_rng(0).integers(0, 256, (3, 4, 2, 3), dtype=np.uint8)
    predict = graph_predictor(schedule, 0.1, 0.4)
    found = likelihood.bits_per_dim(predict, images, schedule, variance, clip=clip, seed=4)
    x_start = images / 127.5 - 1
    seeds = samplers.image_seeds(4, 0, 3)
    bits = np.zeros((3, 12))
    for t in range(12):
        drawn = np.float64(samplers.step_noise(seeds, t, (4, 2, 3)))
        cumprod = schedule.alphas_cumprod[t]
        x = np.sqrt(cumprod) * x_start + np.sqrt(1 - cumprod) * drawn
        epsilon = predict(tf.constant(x), np.full(3, t)).numpy()
        predicted = (x - np.sqrt(1 - cumprod) * epsilon) / np.sqrt(cumprod)
        predicted = np.clip(predicted, -1, 1) if clip else predicted
        small = schedule.posterior_variance[max(t, 1)]
        large = schedule.betas[t] if t else small
        v_p = large if variance == "fixed_large" else small
        if t == 0:
            upper = scipy.stats.norm.cdf(x_start + 1 / 255, predicted, np.sqrt(v_p))
            lower = scipy.stats.norm.cdf(x_start - 1 / 255, predicted, np.sqrt(v_p))
            upper[images == 255], lower[images == 0] = 1, 0
            bits[:, 0] = -np.log2(upper - lower).mean(axis=(1, 2, 3))
            continue
        mean_q = noise.posterior_mean(schedule, x_start, x, np.full(3, t)).numpy()
        mean_p = noise.posterior_mean(schedule, predicted, x, np.full(3, t)).numpy()
        for i in range(3):
            kl = np.log(v_p / small) + (small + (mean_q[i] - mean_p[i]) ** 2) / v_p - 1
            bits[i, t] = kl.mean() / 2 / np.log(2)
    assert np.isfinite(bits).all()
    np.testing.assert_allclose(found["vlb"], bits.mean(axis=0), rtol=2e-5)
    end = schedule.alphas_cumprod[-1]
    prior = end * np.mean(x_start**2, axis=(1, 2, 3)) - end - np.log(1 - end)
    per_image = bits.sum(axis=1) + prior / 2 / np.log(2)
    np.testing.assert_allclose(found["per_image"], per_image, rtol=2e-5)
    assert found["total"] == pytest.approx(found["prior"] + found["vlb"].sum())
    assert found["total"] == pytest.approx(found["per_image"].mean())
    spread = np.std(found["per_image"], ddof=1) / np.sqrt(3)
    assert found["standard_error"] == pytest.approx(spread)


@pytest.mark.parametrize("prediction", ["sample", "v"])
def test_other_predictions_and_an_end_that_is_noise_alone(prediction):
    schedule = noise.linear(10, zero_terminal_snr=True)
    images = np.random.default_rng(0).integers(0, 256, (3, 4, 2, 3), dtype=np.uint8)

    def predict(x, t):
        """The image is always seen as grey, which is right at the last timestep."""
        epsilon = noise.to_epsilon(schedule, "sample", tf.zeros_like(x), x, t)
        return noise.training_target(schedule, prediction, tf.zeros_like(x), epsilon, t)

    found = likelihood.bits_per_dim(predict, images, schedule, clip=False, prediction=prediction)
    assert found["prior"] == 0 and np.isfinite(found["total"])
    error = np.mean((images / 127.5 - 1) ** 2)
    t = np.arange(1, 10)
    small, large = schedule.posterior_variance[t], schedule.betas[t]
    distance = schedule.posterior_mean_coef_x_start[t] ** 2 * error
    terms = np.log(large / small) + (small + distance) / large - 1
    np.testing.assert_allclose(found["vlb"][1:], terms / 2 / np.log(2), rtol=1e-4, atol=1e-12)


def test_gaussian_kl_by_quadrature():
    mean_q, mean_p, v_q, v_p = 0.3, -0.2, 0.5, 1.7
    q, p = scipy.stats.norm(mean_q, np.sqrt(v_q)), scipy.stats.norm(mean_p, np.sqrt(v_p))
    expected, _ = scipy.integrate.quad(
        lambda x: q.pdf(x) * (q.logpdf(x) - p.logpdf(x)), mean_q - 9, mean_q + 9
    )
    found = likelihood.gaussian_kl((mean_q - mean_p) ** 2, np.log(v_q), np.log(v_p))
    assert found == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize("deviation", [1e-4, 0.005, 0.1, 3.0])
@pytest.mark.parametrize("mean", [-1.2, -0.3, 0.0, 0.999])
def test_decoder_is_a_distribution_over_256_levels(deviation, mean):
    levels = np.arange(256) / 127.5 - 1
    log_mass = likelihood.discretized_log_likelihood(levels, mean, 2 * np.log(deviation))
    assert np.exp(log_mass).sum() == pytest.approx(1.0, rel=1e-9)
    assert np.isfinite(log_mass).all()  # also 20,000 deviations away
    nearest = np.argmin(np.abs(levels - mean))
    if deviation < 0.1:
        assert log_mass.argmax() == nearest


def test_the_bound_does_not_depend_on_the_batches():
    schedule = noise.cosine(5)
    images = np.random.default_rng(0).integers(0, 256, (7, 4, 4, 1), dtype=np.uint8)
    predict = graph_predictor(schedule, 0.0, 0.5)
    whole = likelihood.bits_per_dim(predict, images, schedule)["per_image"]
    parts = likelihood.bits_per_dim(predict, images, schedule, batch_size=3)["per_image"]
    np.testing.assert_allclose(whole, parts, rtol=1e-6)
    other = likelihood.bits_per_dim(predict, images, schedule, seed=1)["per_image"]
    assert np.abs(whole - other).min() > 0


def test_floats_and_bytes_are_the_same_images():
    schedule = noise.linear(5)
    images = np.random.default_rng(0).integers(0, 256, (2, 4, 4, 1), dtype=np.uint8)
    predict = graph_predictor(schedule, 0.0, 0.5)
    from_bytes = likelihood.bits_per_dim(predict, images, schedule)["total"]
    floats = np.float32(images / 127.5 - 1)
    from_floats = likelihood.bits_per_dim(predict, floats, schedule)["total"]
    assert from_bytes == pytest.approx(from_floats, rel=1e-6)


def test_bad_input_is_refused_in_one_line():
    schedule = noise.linear(5)
    with pytest.raises(ValueError, match="at least one"):
        likelihood.bits_per_dim(None, np.zeros((0, 2, 2, 1), np.uint8), schedule)
    with pytest.raises(ValueError, match="fixed_large, fixed_small"):
        likelihood.bits_per_dim(None, np.zeros((1, 2, 2, 1), np.uint8), schedule, "learned")


@pytest.mark.parametrize("num_classes", [None, 3])
def test_the_bound_of_a_weight_set(num_classes):
    model = DDPM(tiny_unet(num_classes), timesteps=4, ema=(0.5,))
    images = np.random.default_rng(0).integers(0, 256, (5, 4, 4, 1), dtype=np.uint8)
    model.compile(keras.optimizers.Adam(0.1))
    model.fit(images, None if num_classes is None else np.arange(5) % 3, epochs=2, verbose=0)
    before = model.network.get_weights()
    bits = {}
    for name in model.weight_sets:
        bits[name] = likelihood.model_bits_per_dim(model, images, name, batch_size=3)
        network = model.export_network(name)

        def predict(x, t, network=network):
            return network([x, t] if num_classes is None else [x, t, tf.fill(tf.shape(t), 3)])

        alone = likelihood.bits_per_dim(predict, images, model.schedule)
        np.testing.assert_allclose(bits[name]["per_image"], alone["per_image"], rtol=1e-4)
    assert bits["raw"]["total"] != bits["ema_0.5"]["total"]
    for a, b in zip(before, model.network.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def tiny_unet(num_classes):
    return UNet((4, 4, 1), 4, (1,), 1, (), 0.0, num_classes=num_classes, groups=2)
