"""Samplers against closed forms and float64 NumPy on Gaussian data, whose best epsilon is known."""

import functools
import json
import re

import gaussians
import keras
import numpy as np
import pytest
import tensorflow as tf

from ddpm_keras import noise, samplers

MEAN, DEVIATION = 0.2, 0.5
GAUSSIAN = {"mean": MEAN, "deviation": DEVIATION}
SCHEDULES = [noise.linear(1000), noise.cosine(1000)]
GRIDS = ("trailing", "linspace", "leading_unchecked")
EVERY_SAMPLER = [
    samplers.DDPM(steps=7),
    samplers.DDPM("fixed_small", steps=5, clip=False, spacing="trailing"),
    samplers.DDIM(steps=6),
    samplers.DDIM(steps=6, eta=0.7, spacing="linspace"),
    samplers.DDIM(steps=5, recompute_epsilon=False),
    samplers.DPMSolver(steps=6),
    samplers.DPMSolver(steps=6, order=1, spacing="leading_unchecked", clip=True),
]


gaussian_predictor = functools.partial(gaussians.gaussian_predictor, **GAUSSIAN)
graph_predictor = functools.partial(gaussians.graph_predictor, **GAUSSIAN)


def start_noise(count=3, shape=(4, 2, 1), seed=0):
    return samplers.initial_noise(samplers.image_seeds(seed, 0, count), shape)


# Grids ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spacing", "expected"),
    [
        ("leading_unchecked", [852, 710, 568, 426, 284, 142, 0]),
        ("trailing", [999, 856, 713, 570, 428, 285, 142]),
        ("linspace", [999, 832, 666, 500, 333, 166, 0]),
    ],
)
def test_ddim_grids(spacing, expected):
    found = samplers.DDIM(steps=7, spacing=spacing).timesteps(noise.linear(1000))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("spacing", "expected"),
    [
        ("leading_unchecked", [800, 600, 400, 200]),
        ("trailing", [999, 749, 499, 249]),
        ("linspace", [999, 749, 500, 250]),
    ],
)
def test_dpm_solver_grids(spacing, expected):
    found = samplers.DPMSolver(steps=4, spacing=spacing).timesteps(noise.linear(1000))
    np.testing.assert_array_equal(found, expected)


def test_ddpm_visits_every_timestep_by_default():
    found = samplers.DDPM().timesteps(noise.linear(12))
    np.testing.assert_array_equal(found, np.arange(12)[::-1])


@pytest.mark.parametrize("kind", [samplers.DDIM, samplers.DPMSolver])
@pytest.mark.parametrize("timesteps", [1, 2, 50, 99, 100, 1000])
def test_a_leading_grid_that_begins_low_is_refused_with_the_nearest_that_does_not(kind, timesteps):
    schedule = noise.linear(timesteps)
    lowest = timesteps - max(1, timesteps // 20)
    good = [
        steps
        for steps in range(1, timesteps + 1)
        if kind(steps, spacing="leading_unchecked").timesteps(schedule)[0] >= lowest
    ]
    for steps in range(1, timesteps + 1, max(1, timesteps // 100)):
        leading = kind(steps, spacing="leading")
        if steps in good:
            assert leading.timesteps(schedule)[0] >= lowest
            continue
        with pytest.raises(ValueError, match=f"steps={steps} .*trailing.*leading_unchecked") as no:
            leading.timesteps(schedule)
        nearest = int(re.search(r"use steps=(\d+),", str(no.value))[1])
        assert nearest in good
        assert abs(nearest - steps) == min(abs(other - steps) for other in good)


@pytest.mark.parametrize("timesteps", [50, 99, 100, 1000, 4000])
def test_every_number_of_steps_begins_in_noise(timesteps):
    schedule, kinds = noise.linear(timesteps), (samplers.DDIM, samplers.DPMSolver, samplers.DDPM)
    for steps in {1, 2, 3, 49, 50, timesteps // 2 + 1, timesteps - 1, timesteps}:
        for kind in kinds:
            for spacing in ("trailing", "linspace"):
                grid = kind(steps=min(steps, timesteps), spacing=spacing).timesteps(schedule)
                assert grid[0] == timesteps - 1 and grid[-1] >= 0 and np.all(np.diff(grid) < 0)
            assert samplers.get(kind(steps=1), schedule).timesteps(schedule)[0] == timesteps - 1


@pytest.mark.parametrize("kind", [samplers.DDIM, samplers.DDPM, samplers.DPMSolver])
@pytest.mark.parametrize("spacing", ["trailing", "linspace"])
def test_one_step_gives_the_image_that_is_seen_in_noise(kind, spacing):
    schedule, x = noise.linear(1000), start_noise()
    found = kind(steps=1, spacing=spacing, clip=False)(graph_predictor(schedule), x, schedule)
    epsilon = graph_predictor(schedule)(x, [999] * 3)
    expected = noise.to_x_start(schedule, "epsilon", epsilon, x, [999] * 3)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("sampler", EVERY_SAMPLER, ids=repr)
@pytest.mark.parametrize("timesteps", [7, 9, 100])
def test_grids_descend_within_the_schedule(sampler, timesteps):
    grid = sampler.timesteps(noise.linear(timesteps))
    assert len(grid) == sampler.steps
    assert np.all(np.diff(grid) < 0) and grid[0] < timesteps and grid[-1] >= 0


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


def exact_flow(schedule, x, timestep):
    """Where the probability flow takes x for Gaussian data: to the same quantile of the data."""
    cumprod = schedule.alphas_cumprod[timestep]
    deviation = np.sqrt(cumprod * DEVIATION**2 + 1 - cumprod)
    return MEAN + DEVIATION * (x - np.sqrt(cumprod) * MEAN) / deviation


def test_solver_error_shrinks_with_its_order():
    schedule = noise.linear(1000)
    x = np.float64(start_noise(8))

    def error(sampler):
        found = sampler(gaussian_predictor(schedule), x, schedule)
        return np.abs(found - exact_flow(schedule, x, 999)).max()

    ddim = [error(samplers.DDIM(n, spacing="trailing", clip=False)) for n in (20, 80)]
    second = [error(samplers.DPMSolver(n, spacing="trailing")) for n in (20, 80)]
    assert ddim[0] / ddim[1] > 3  # first order: 4 times the steps, a quarter of the error
    assert second[0] / second[1] > 6
    assert second[0] < ddim[0] and second[1] < 0.3 * ddim[1]


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


# Noise per image -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "counter", "expected"),
    [
        ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
        ((2**32 - 1,) * 2, (2**32 - 1,) * 2, (0x1CB996FC, 0xBB002BE7)),
        ((0x13198A2E, 0x03707344), (0x243F6A88, 0x85A308D3), (0xC4923A9C, 0x483DF7A0)),
    ],
)
def test_generator_gives_the_published_known_answers(key, counter, expected):
    key, counter = [[tf.constant(word, tf.int64) for word in pair] for pair in (key, counter)]
    assert tuple(int(word) for word in samplers.threefry_2x32(key, counter)) == expected


def test_noise_is_standard_normal_and_uncorrelated():
    seeds = samplers.image_seeds(0, 0, 500)
    draws = [samplers.step_noise(seeds, k, (10, 10, 1)).numpy().ravel() for k in (0, 1, 2)]
    draws.append(
        samplers.step_noise(samplers.image_seeds(1, 0, 500), 0, (10, 10, 1)).numpy().ravel()
    )
    draws.append(np.roll(draws[0], 100))  # the neighbouring image
    draws.append(np.roll(draws[0], 50))  # the other half of each pair
    count = draws[0].size
    for z in draws:
        assert abs(z.mean()) < 4 / np.sqrt(count)
        assert abs(z.var() - 1) < 4 * np.sqrt(2 / count)
        assert abs((z**4).mean() - 3) < 4 * np.sqrt(96 / count)
    correlations = np.corrcoef(draws)[np.triu_indices(len(draws), 1)]
    assert np.abs(correlations).max() < 5 / np.sqrt(count)


def test_odd_image_sizes_and_large_seeds():
    noise_of = samplers.initial_noise(samplers.image_seeds(2**40 + 7, 0, 2), (3, 3, 1))
    assert noise_of.shape == (2, 3, 3, 1) and noise_of.dtype == tf.float32
    same = samplers.initial_noise(samplers.image_seeds(7, 0, 2), (3, 3, 1))
    np.testing.assert_array_equal(noise_of, same)
    assert samplers.image_seeds(-1, 3, 2).numpy().tolist() == [[-1, 3], [-1, 4]]
    assert samplers.image_seeds(2**31, 0, 1).numpy().tolist() == [[-(2**31), 0]]


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
    np.testing.assert_allclose(together, parts, atol=1e-6)
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


# Names, configuration, errors ----------------------------------------------------------


@pytest.mark.parametrize("sampler", EVERY_SAMPLER, ids=repr)
def test_samplers_survive_a_configuration_file(sampler):
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(sampler)))
    again = samplers.get(config)
    assert again == sampler and again is not sampler
    assert eval(repr(sampler), vars(samplers)) == sampler


def test_a_ddim_saved_before_epsilon_was_recomputed_is_what_it_was():
    """Such a configuration has no `recompute_epsilon`, and its leading grid began anywhere."""
    config = keras.saving.serialize_keras_object(samplers.DDIM(7, spacing="leading"))
    del config["config"]["recompute_epsilon"]
    expected = samplers.DDIM(7, spacing="leading_unchecked", recompute_epsilon=False)
    assert samplers.get(config) == expected
    del config["config"]["spacing"]
    assert samplers.get(config) == expected
    config["config"]["spacing"] = "trailing"
    assert samplers.get(config) == samplers.DDIM(7, recompute_epsilon=False)


DEFAULTS = {
    "ddpm": {"variance": "fixed_large", "steps": None, "clip": True, "spacing": "trailing"},
    "ddim": {
        "steps": 50,
        "eta": 0.0,
        "spacing": "trailing",
        "clip": True,
        "recompute_epsilon": True,
    },
    "dpm": {"steps": 20, "order": 2, "spacing": "linspace", "clip": False},
}


@pytest.mark.parametrize("name", DEFAULTS)
def test_what_a_sampler_is_without_arguments(name):
    assert samplers.get(name).get_config() == DEFAULTS[name]


# Steps that a sampler by name takes by default on a schedule of so many timesteps.
STEPS = [("ddim", 1000, 50), ("ddim", 50, 50), ("ddim", 49, 49), ("ddim", 1, 1)]
STEPS += [("dpm", 1000, 20), ("dpm", 21, 20), ("dpm", 19, 19), ("dpm", 1, 1), ("ddpm", 9, None)]


@pytest.mark.parametrize(("name", "timesteps", "steps"), STEPS)
def test_a_short_schedule_is_given_fewer_steps(name, timesteps, steps):
    assert samplers.get(name, noise.linear(timesteps)).steps == steps


def test_steps_that_were_asked_for_are_not_changed():
    assert samplers.get("ddim", noise.linear(30), steps=30).steps == 30
    with pytest.raises(ValueError, match="31 sampling timesteps .* of 30; use fewer steps"):
        samplers.get("ddim", noise.linear(30), steps=31)
    with pytest.raises(ValueError, match="steps cannot change DDIM.*make another sampler"):
        samplers.get(samplers.DDIM(3), steps=4)


def test_get_by_name():
    assert samplers.get("ddim", steps=20, eta=None) == samplers.DDIM(steps=20)
    assert samplers.get("ddpm").steps is None
    assert samplers.get("dpm", steps=9) == samplers.DPMSolver(9)
    sampler = samplers.DDIM(3)
    assert samplers.get(sampler) is sampler
    assert samplers.DDIM(3) != samplers.DDIM(4) and samplers.DDIM(3) != samplers.DDPM(steps=3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: samplers.DDPM(variance="learned"), "fixed_large, fixed_small"),
        (lambda: samplers.DDPM(steps=0), "at least 1"),
        (lambda: samplers.DDIM(steps=2.5), "whole number"),
        (lambda: samplers.DDIM(eta=2.0), "from 0"),
        (lambda: samplers.DDIM(spacing="even"), "trailing, linspace, leading, leading_unchecked"),
        (lambda: samplers.DPMSolver(order=3), "1 or 2"),
        (lambda: samplers.get("euler"), "ddpm, ddim, dpm"),
        (lambda: samplers.get("ddpm", eta=1.0), "takes no 'eta'"),
        (lambda: samplers.DDIM(60).timesteps(noise.linear(50)), "use fewer steps"),
        (lambda: samplers.DPMSolver(51).timesteps(noise.linear(50)), "use fewer steps"),
        (
            lambda: samplers.DDPM(steps=2)(None, np.zeros((3, 2, 2, 1)), noise.linear(5), [1, 2]),
            "image_seeds",
        ),
    ],
)
def test_bad_input_is_refused_in_one_line(call, message):
    with pytest.raises(ValueError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)
