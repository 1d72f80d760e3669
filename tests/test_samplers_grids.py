"""The timesteps that samplers visit, and where they begin."""

import re

import numpy as np
import pytest
from gaussians import graph_predictor
from sampler_cases import EVERY_SAMPLER

from ddpm_keras import noise, samplers


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
    schedule, kinds = noise.linear(timesteps), (samplers.DDIM, samplers.UniPC, samplers.DDPM)
    for steps in {1, 2, 3, 49, 50, timesteps // 2 + 1, timesteps - 1, timesteps}:
        for kind in kinds:
            for spacing in ("trailing", "linspace"):
                grid = kind(steps=min(steps, timesteps), spacing=spacing).timesteps(schedule)
                assert grid[0] == timesteps - 1 and grid[-1] >= 0 and np.all(np.diff(grid) < 0)
            assert samplers.get(kind(steps=1), schedule).timesteps(schedule)[0] == timesteps - 1


@pytest.mark.parametrize("kind", [samplers.DDIM, samplers.DDPM, samplers.DPMSolver])
@pytest.mark.parametrize("spacing", ["trailing", "linspace"])
def test_one_step_gives_the_image_that_is_seen_in_noise(kind, spacing):
    schedule = noise.linear(1000)
    x = samplers.initial_noise(samplers.image_seeds(0, 0, 3), (4, 2, 1))
    found = kind(steps=1, spacing=spacing, clip=False)(graph_predictor(schedule), x, schedule)
    epsilon = graph_predictor(schedule)(x, [999] * 3)
    expected = noise.to_x_start(schedule, "epsilon", epsilon, x, [999] * 3)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("sampler", EVERY_SAMPLER, ids=repr)
@pytest.mark.parametrize("timesteps", [7, 9, 100])
def test_grids_descend_within_the_schedule(sampler, timesteps):
    grid = sampler.timesteps(noise.linear(timesteps))
    if isinstance(sampler, samplers.Heun):
        assert len(grid) == 2 * sampler.steps - 1
        grid = grid[[0, *range(1, len(grid), 2)]]  # of the first evaluation at each level
    assert len(grid) == sampler.steps
    assert np.all(np.diff(grid) < 0) and grid[0] < timesteps and grid[-1] >= 0
    if sampler.spacing != "leading_unchecked":
        assert grid[0] >= timesteps - max(1, timesteps // 20)


@pytest.mark.parametrize("steps", [1, 2, 18, 99, 100])
@pytest.mark.parametrize("zero_terminal_snr", [False, True])
def test_karras_levels_are_the_nearest_that_are_free(steps, zero_terminal_snr):
    for schedule in (noise.linear(100, zero_terminal_snr), noise.cosine(100, zero_terminal_snr)):
        grid = samplers.karras_timesteps(schedule, steps)
        assert len(grid) == steps and np.all(np.diff(grid) < 0) and grid[-1] >= 0
        assert grid[0] == 99 if zero_terminal_snr else grid[0] >= 95
        if steps == 18 and schedule.name == "linear":
            rest = grid[int(zero_terminal_snr) :]
            cumprod = schedule.alphas_cumprod
            sigma = np.sqrt((1 - cumprod[: rest[0] + 1]) / cumprod[: rest[0] + 1])
            wanted = np.linspace(sigma[-1] ** (1 / 7), sigma[0] ** (1 / 7), len(rest)) ** 7
            for k in range(8):  # where no two fall on one
                assert rest[k] == np.argmin(np.abs(sigma - wanted[k]))
        elif steps == 100:
            np.testing.assert_array_equal(grid, np.arange(100)[::-1])
