"""Samplers against closed forms and float64 NumPy on Gaussian data, whose best epsilon is known."""

import functools

import gaussians
import numpy as np
import pytest
import tensorflow as tf
from sampler_cases import EVERY_SAMPLER, GRIDS

from ddpm_keras import noise, samplers

MEAN, DEVIATION = 0.2, 0.5
GAUSSIAN = {"mean": MEAN, "deviation": DEVIATION}
SCHEDULES = [noise.linear(1000), noise.cosine(1000)]


gaussian_predictor = functools.partial(gaussians.gaussian_predictor, **GAUSSIAN)
graph_predictor = functools.partial(gaussians.graph_predictor, **GAUSSIAN)
predictor_of = functools.partial(gaussians.predictor_of, **GAUSSIAN)


def start_noise(count=3, shape=(4, 2, 1), seed=0):
    return samplers.initial_noise(samplers.image_seeds(seed, 0, count), shape)


# The three methods ---------------------------------------------------------------------


@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
@pytest.mark.parametrize("variance", samplers.VARIANCES)
@pytest.mark.parametrize("clip", [True, False])
def test_ddpm_is_algorithm_2(schedule, variance, clip):
    """Ancestral sampling from the paper's equations, in float64, with the sampler's noise."""
    short = noise.NoiseSchedule(schedule.betas[::50])  # 20 timesteps
    seeds = samplers.image_seeds(5, 0, 3)
    x = np.float64(start_noise(seed=5))
    found = samplers.DDPM(variance, clip=clip)(gaussian_predictor(short), x, short, seed=5)
    for k, t in enumerate(range(19, -1, -1)):
        alpha, cumprod = short.alphas[t], short.alphas_cumprod[t]
        epsilon = gaussian_predictor(short)(x, [t] * 3)
        if clip:
            x_start = np.clip((x - np.sqrt(1 - cumprod) * epsilon) / np.sqrt(cumprod), -1, 1)
            x = noise.posterior_mean(short, x_start, x, [t] * 3).numpy()
        else:
            x = (x - (1 - alpha) / np.sqrt(1 - cumprod) * epsilon) / np.sqrt(alpha)
        if t > 0:
            small = (1 - short.alphas_cumprod[t - 1]) / (1 - cumprod) * (1 - alpha)
            scale = np.sqrt(1 - alpha if variance == "fixed_large" else small)
            x = x + scale * np.float64(samplers.step_noise(seeds, k + 1, (4, 2, 1)))
    np.testing.assert_allclose(found, x, atol=2e-5)


def test_ddpm_with_fewer_steps_keeps_the_noise_levels_it_visits():
    schedule = noise.linear(1000)
    sampler = samplers.DDPM("fixed_large", steps=10, clip=False, spacing="linspace")
    grid = sampler.timesteps(schedule)
    np.testing.assert_array_equal(grid, np.arange(0, 1000, 111)[::-1])
    coefficients = sampler.coefficients(schedule, grid)
    # From x_t = sqrt(a) x_start + sqrt(1-a) e the mean must have signal sqrt(a_next).
    signal = coefficients["x"] * np.sqrt(schedule.alphas_cumprod[grid]) + coefficients["x_start"]
    target = np.append(schedule.alphas_cumprod[grid[1:]], 1.0)
    np.testing.assert_allclose(signal, np.sqrt(target), rtol=1e-12)
    beta = 1 - schedule.alphas_cumprod[grid] / target
    np.testing.assert_allclose(coefficients["noise"][:-1], np.sqrt(beta[:-1]), rtol=1e-9)
    assert coefficients["noise"][-1] == 0


def test_small_variance_ddpm_keeps_the_noise_level_of_the_next_timestep():
    schedule = noise.cosine(1000)
    sampler = samplers.DDPM("fixed_small", steps=10)
    grid = sampler.timesteps(schedule)
    c = sampler.coefficients(schedule, grid)
    level = c["x"] ** 2 * (1 - schedule.alphas_cumprod[grid]) + c["noise"] ** 2
    target = 1 - np.append(schedule.alphas_cumprod[grid[1:]], 1.0)
    np.testing.assert_allclose(level, target, atol=1e-12)


def test_ddpm_samples_have_the_moments_of_its_gaussian_chain():
    """With a linear predictor each step maps a Gaussian to a known one; 40,000 samples show it."""
    schedule = noise.linear(30)
    sampler = samplers.DDPM("fixed_large", clip=False)
    draws = start_noise(40_000, (1, 1, 1))
    found = np.ravel(sampler(graph_predictor(schedule), draws, schedule, seed=3))
    predict = gaussian_predictor(schedule)
    mean, variance = 0.0, 1.0
    for t in range(29, -1, -1):
        beta = schedule.betas[t]

        def step(x, t=t, beta=beta):
            epsilon = predict(np.full((1, 1, 1, 1), x), [t]).item()
            rate = np.sqrt(1 - schedule.alphas_cumprod[t])
            return (x - beta / rate * epsilon) / np.sqrt(1 - beta)

        slope = step(1.0) - step(0.0)
        mean, variance = step(mean), slope**2 * variance + (beta if t else 0.0)
    assert abs(found.mean() - mean) < 4 * np.sqrt(variance / 40_000)
    assert abs(found.var() / variance - 1) < 4 * np.sqrt(2 / 40_000)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
@pytest.mark.parametrize("spacing", GRIDS)
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize(("steps", "recompute"), [(7, True), (20, True), (20, False)])
def test_ddim_follows_its_own_grid(schedule, spacing, eta, steps, recompute):
    sampler = samplers.DDIM(steps, eta=eta, spacing=spacing, recompute_epsilon=recompute)
    seeds = samplers.image_seeds(2, 0, 3)
    x = 2.0 * np.float64(start_noise(seed=2))  # wide, so that clipping bites
    found = sampler(gaussian_predictor(schedule), x, schedule, seed=2)
    grid = sampler.timesteps(schedule)
    for k, t in enumerate(grid):
        a = schedule.alphas_cumprod[t]
        b = schedule.alphas_cumprod[grid[k + 1]] if k + 1 < steps else 1.0
        epsilon = gaussian_predictor(schedule)(x, [t] * 3)
        x_start = np.clip((x - np.sqrt(1 - a) * epsilon) / np.sqrt(a), -1, 1)
        if recompute:
            epsilon = (x - np.sqrt(a) * x_start) / np.sqrt(1 - a)
        sigma = eta * np.sqrt((1 - b) / (1 - a) * (1 - a / b))
        fresh = np.float64(samplers.step_noise(seeds, k + 1, (4, 2, 1)))
        x = np.sqrt(b) * x_start + np.sqrt(1 - b - sigma**2) * epsilon + sigma * fresh
    np.testing.assert_allclose(found, x, atol=2e-5)


def test_ddim_with_eta_1_is_small_variance_ddpm():
    schedule = noise.linear(20)
    x = start_noise()
    ddim = samplers.DDIM(20, eta=1.0, clip=False)(graph_predictor(schedule), x, schedule, seed=1)
    ddpm = samplers.DDPM("fixed_small", clip=False)(graph_predictor(schedule), x, schedule, seed=1)
    np.testing.assert_allclose(ddim, ddpm, atol=5e-6)


@pytest.mark.parametrize("sampler", EVERY_SAMPLER, ids=repr)
def test_the_loop_is_the_table(sampler):
    """TensorFlow's loop in float32 against the rows of the table in float64."""
    schedule, x = noise.linear(60), 2.0 * np.float64(start_noise())
    seeds = samplers.image_seeds(3, 0, 3)
    found = sampler(gaussian_predictor(schedule), x, schedule, seed=3)
    timesteps = sampler.timesteps(schedule)
    columns = sampler.coefficients(schedule, timesteps)
    names = ("x_start", "previous_x_start", "x_start_2_back", "x_start_3_back")
    history = [np.zeros_like(x)] * 4
    for k, t in enumerate(timesteps):
        c = {name: column[k] for name, column in columns.items()}
        epsilon = np.float64(gaussian_predictor(schedule)(x, [t] * 3))
        signal = np.sqrt(schedule.alphas_cumprod[t])
        x_start = (x - np.sqrt(1 - signal**2) * epsilon) / signal
        if sampler.clip == "dynamic":
            limit = np.quantile(np.abs(x_start), 0.995, axis=(1, 2, 3), keepdims=True)
            limit = np.maximum(limit, 1)
            x_start = np.clip(x_start, -limit, limit) / limit
        elif sampler.clip:
            x_start = np.clip(x_start, -1, 1)
        history = [x_start, *history[:3]]
        x = c.get("x", 0) * x + c.get("epsilon", 0) * epsilon
        x += sum(c.get(name, 0) * each for name, each in zip(names, history, strict=True))
        if "noise" in c:
            x += c["noise"] * np.float64(samplers.step_noise(seeds, k + 1, (4, 2, 1)))
    np.testing.assert_allclose(found, x, atol=1e-4)


@pytest.mark.parametrize("spacing", GRIDS)
def test_first_order_solver_is_ddim_on_the_solvers_grid(spacing):
    schedule = noise.linear(1000)
    solver = samplers.DPMSolver(9, order=1, spacing=spacing)
    ddim = samplers.DDIM(9, spacing=spacing, clip=False)
    ddim.timesteps = solver.timesteps
    x = start_noise()
    predict = graph_predictor(schedule)
    np.testing.assert_allclose(solver(predict, x, schedule), ddim(predict, x, schedule), atol=2e-5)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
@pytest.mark.parametrize("clip", [True, False])
def test_second_order_solver_is_algorithm_2(schedule, clip):
    """DPM-Solver++(2M) in the paper's notation, float64."""
    sampler = samplers.DPMSolver(7, spacing="trailing", clip=clip)
    x = 2.0 * np.float64(start_noise())
    found = sampler(gaussian_predictor(schedule), x, schedule)
    grid = sampler.timesteps(schedule)
    alpha = np.sqrt(schedule.alphas_cumprod[grid])
    sigma = np.sqrt(1 - schedule.alphas_cumprod[grid])
    half_log_snr = np.log(alpha / sigma)
    images = []
    for k, t in enumerate(grid):
        x_start = (x - sigma[k] * gaussian_predictor(schedule)(x, [t] * 3)) / alpha[k]
        images.append(np.clip(x_start, -1, 1) if clip else x_start)
        if k == 6:
            x = images[k]
            continue
        h = half_log_snr[k + 1] - half_log_snr[k]
        data = images[k]
        if k > 0:
            r = (half_log_snr[k] - half_log_snr[k - 1]) / h
            data = (1 + 1 / (2 * r)) * images[k] - 1 / (2 * r) * images[k - 1]
        x = sigma[k + 1] / sigma[k] * x - alpha[k + 1] * (np.exp(-h) - 1) * data
    np.testing.assert_allclose(found, x, atol=2e-5)


# What is predicted ---------------------------------------------------------------------


NO_SIGNAL = noise.linear(60, zero_terminal_snr=True)


@pytest.mark.parametrize("prediction", ["sample", "v"])
@pytest.mark.parametrize("schedule", [noise.cosine(1000), NO_SIGNAL], ids=repr)
def test_what_is_predicted_is_not_divided_by_a_small_signal(schedule, prediction):
    """Where epsilon is predicted, rounding is magnified by 20,000 at the cosine schedule's end."""
    t = np.full(3, schedule.timesteps - 1)
    x, predict = start_noise(), predictor_of(schedule, prediction)
    expected = predictor_of(schedule, "sample")(x, t)
    chain = samplers.Chain(samplers.DDIM(6, clip=False), schedule, prediction=prediction)
    _, memory = chain.step(predict, 0, x, chain.memory(x))
    np.testing.assert_allclose(memory[:, 0], expected, atol=1e-6)


@pytest.mark.parametrize("sampler", EVERY_SAMPLER, ids=repr)
def test_the_image_does_not_depend_on_what_is_predicted(sampler):
    schedule = noise.linear(1000)
    found = [
        sampler(predictor_of(schedule, each), start_noise(), schedule, prediction=each)
        for each in noise.PREDICTIONS
    ]
    for other in found[1:]:
        np.testing.assert_allclose(found[0], other, atol=1e-4)


@pytest.mark.parametrize("sampler", EVERY_SAMPLER, ids=repr)
def test_every_sampler_begins_where_there_is_no_signal(sampler):
    """As on a schedule that leaves next to none, and to the same image for both predictions."""
    nearly = NO_SIGNAL.betas.copy()
    nearly[-1] = 1 - 1e-12
    nearly = noise.NoiseSchedule(nearly)
    found = [
        sampler(predictor_of(schedule, each), start_noise(), schedule, prediction=each)
        for schedule, each in ((NO_SIGNAL, "v"), (NO_SIGNAL, "sample"), (nearly, "v"))
    ]
    assert np.isfinite(found[0]).all()
    np.testing.assert_allclose(found[0], found[1], atol=5e-5)
    if not isinstance(sampler, (samplers.UniPC, samplers.Heun)):  # which leave something out there
        np.testing.assert_allclose(found[0], found[2], atol=1e-4)


def test_noise_cannot_be_predicted_where_there_is_no_signal():
    with pytest.raises(ValueError, match="'epsilon'.*zero terminal SNR.*'v' or 'sample'"):
        samplers.DDIM(6)(None, start_noise(), NO_SIGNAL)
    with pytest.raises(ValueError, match="Unknown prediction 'noise'"):
        samplers.DDIM(6)(None, start_noise(), NO_SIGNAL, prediction="noise")


# Noise per image -----------------------------------------------------------------------


def test_seeds_of_every_form_draw_the_same():
    schedule = noise.linear(5)
    predict, x = graph_predictor(schedule), start_noise(2, seed=7)
    seeds = (7, 2**40 + 7, tf.constant(7), samplers.image_seeds(7, 0, 2), [[7, 0], [7, 1]])
    first, *others = [samplers.DDPM()(predict, x, schedule, seed) for seed in seeds]
    for other in others:
        np.testing.assert_array_equal(first, other)


@pytest.mark.parametrize("sampler", EVERY_SAMPLER, ids=repr)
def test_an_image_does_not_depend_on_its_batch(sampler):
    schedule = noise.linear(1000)
    predict = graph_predictor(schedule)

    def sample(start, count):
        seeds = samplers.image_seeds(11, start, count)
        return sampler(predict, samplers.initial_noise(seeds, (4, 4, 1)), schedule, seeds)

    together = sample(0, 5)
    parts = tf.concat([sample(0, 1), sample(1, 3), sample(4, 1)], axis=0)
    np.testing.assert_allclose(together, parts, atol=1e-5)
    seeds = samplers.image_seeds(11, 0, 5)
    alone = sampler(predict, samplers.initial_noise(seeds, (4, 4, 1)), schedule, seed=11)
    np.testing.assert_array_equal(together, alone)


def test_the_seed_matters_where_noise_is_drawn():
    schedule = noise.linear(50)
    x, predict = start_noise(), graph_predictor(schedule)
    first, second = [samplers.DDPM()(predict, x, schedule, seed) for seed in (0, 1)]
    assert np.abs(first - second).min() > 0
    first, second = [samplers.DDIM(10)(predict, x, schedule, seed) for seed in (0, 1)]
    np.testing.assert_array_equal(first, second)


# The loop ------------------------------------------------------------------------------


@pytest.mark.parametrize("sampler", EVERY_SAMPLER, ids=repr)
def test_one_graph_serves_every_batch_size_and_holds_the_predictor_once(sampler):
    schedule = noise.linear(1000)
    predict, calls = graph_predictor(schedule), []

    def counted(x, t):
        calls.append((x.dtype, t.dtype, t.shape.rank))
        return predict(x, t)

    @tf.function(
        input_signature=[tf.TensorSpec((None, 2, 2, 1)), tf.TensorSpec((None, 2), tf.int32)]
    )
    def run(x, seeds):
        return sampler(counted, x, schedule, seeds)

    for count in (1, 4):
        seeds = samplers.image_seeds(0, 0, count)
        x = samplers.initial_noise(seeds, (2, 2, 1))
        found = run(x, seeds)
        assert found.shape == (count, 2, 2, 1) and found.dtype == tf.float32
        eager = sampler(gaussian_predictor(schedule), x.numpy(), schedule, seeds)
        np.testing.assert_allclose(found, eager, atol=1e-5)
    assert calls == [(tf.float32, tf.int32, 1)]


def test_the_loop_compiles_with_xla():
    schedule = noise.linear(100)
    sampler, predict = samplers.DDPM(steps=5), graph_predictor(schedule)
    x = start_noise()
    compiled = tf.function(lambda x: sampler(predict, x, schedule), jit_compile=True)
    np.testing.assert_allclose(compiled(x), sampler(predict, x, schedule), atol=1e-5)


def test_clipping_bounds_what_the_last_step_returns():
    schedule = noise.linear(100)

    def wrong(x, t):
        return -5.0 * x

    for kind in (samplers.DDPM, samplers.DDIM, samplers.DPMSolver):
        found = kind(steps=10, clip=True)(wrong, start_noise(), schedule)
        assert np.abs(found).max() <= 1 + 1e-6
        found = kind(steps=10, clip=False)(wrong, start_noise(), schedule)
        assert np.abs(found).max() > 2


def test_dynamic_thresholding_cuts_each_image_at_a_quantile_of_its_own():
    """Saharia et al. 2022, section 2.3: at most 1 in magnitude, and unchanged where it was."""
    schedule = noise.linear(100)
    images = 0.3 * np.float32(start_noise(4, (5, 5, 2), seed=1))
    images *= np.reshape([0.5, 1.0, 5.0, 40.0], (4, 1, 1, 1))
    images = np.float32(images)

    def found(clip):
        x, sampler = start_noise(4, (5, 5, 2)), samplers.DDIM(steps=1, clip=clip)
        return sampler(lambda x, t: images, x, schedule, prediction="sample").numpy()

    limit = np.quantile(np.abs(np.float64(images)), 0.995, axis=(1, 2, 3), keepdims=True)
    limit = np.maximum(limit, 1)
    assert list(limit.ravel() > 1) == [False, False, True, True]
    expected = np.clip(images, -limit, limit) / limit
    np.testing.assert_allclose(found("dynamic"), expected, atol=1e-6)
    np.testing.assert_allclose(found(True), np.clip(images, -1, 1), atol=1e-6)
    np.testing.assert_allclose(found(False), images, rtol=1e-6)
