"""Samplers end at the images of diffusers' schedulers, on a noise model known in closed form."""

import numpy as np
import pytest
from gaussians import gaussian_predictor

from ddpm_keras import noise, samplers

SCHEDULES = {"linear": "linear", "cosine": "squaredcos_cap_v2"}  # and their names in diffusers
SPACINGS = {"trailing": "trailing", "linspace": "linspace", "leading_unchecked": "leading"}
STEPS = (7, 20, 50)
BATCH, SIZE = 4, 6


@pytest.fixture(scope="module")
def diffusers(torch):
    return pytest.importorskip("diffusers", reason="diffusers is not installed (conformance extra)")


def common(name):
    return {
        "num_train_timesteps": 1000,
        "beta_start": 1e-4,
        "beta_end": 0.02,
        "beta_schedule": SCHEDULES[name],
        "prediction_type": "epsilon",
    }


def predictor(schedule):
    """The best epsilon for pixels drawn from N(m, .4^2), m differing by pixel."""
    mean = np.linspace(-0.6, 0.6, SIZE * SIZE).reshape(SIZE, SIZE, 1)
    return gaussian_predictor(schedule, mean, 0.4)


def start():
    return samplers.initial_noise(samplers.image_seeds(0, 0, BATCH), (SIZE, SIZE, 1)).numpy()


def run_peer(torch, scheduler, predict, x, steps, sigmas=None, draws=None, **options):
    """The loop every diffusers pipeline holds, perhaps with its sigmas or noise replaced."""
    scheduler.set_timesteps(steps)
    if sigmas is not None:
        np.testing.assert_allclose(scheduler.sigmas, sigmas, rtol=1e-4, atol=1e-9)
        scheduler.sigmas = sigmas
    x = torch.from_numpy(x)
    for k, t in enumerate(scheduler.timesteps):
        if draws is not None:
            options["variance_noise"] = draws[k]
        epsilon = torch.from_numpy(predict(x.numpy(), np.full(BATCH, int(t))))
        x = scheduler.step(epsilon.to(x.dtype), t, x, **options).prev_sample
    return x.numpy()


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_are_the_peers(diffusers, name):
    peer = diffusers.DDPMScheduler(**common(name))
    schedule = noise.get(name, 1000)
    np.testing.assert_allclose(schedule.betas, peer.betas, rtol=1e-5)
    np.testing.assert_allclose(schedule.alphas_cumprod, peer.alphas_cumprod, rtol=2e-5)


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("steps", STEPS)
def test_grids_are_the_peers(diffusers, name, spacing, steps):
    schedule = noise.get(name, 1000)
    for kind, peer in (
        (samplers.DDIM, diffusers.DDIMScheduler),
        (samplers.DPMSolver, diffusers.DPMSolverMultistepScheduler),
    ):
        peer = peer(**common(name), timestep_spacing=SPACINGS[spacing])
        peer.set_timesteps(steps)
        found = kind(steps, spacing=spacing).timesteps(schedule)
        np.testing.assert_array_equal(found, peer.timesteps)


def cases_on_the_peers_stride():
    """diffusers' DDIM always steps by 1000 // steps: the cases where that follows the grid.

    Elsewhere it goes to noise levels it never visits; tests/test_samplers.py has those in float64.
    """
    for spacing in SPACINGS:
        for steps in STEPS:
            grid = samplers.sampling_timesteps(1000, steps, spacing)
            stride = 1000 // steps
            if np.all(np.diff(grid) == -stride) and grid[-1] < stride:
                yield spacing, steps


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize(("spacing", "steps"), list(cases_on_the_peers_stride()))
@pytest.mark.parametrize(("clip", "recompute"), [(True, True), (True, False), (False, True)])
def test_ddim(torch, diffusers, name, spacing, steps, clip, recompute):
    schedule = noise.get(name, 1000)
    sampler = samplers.DDIM(steps, spacing=spacing, clip=clip, recompute_epsilon=recompute)
    peer = diffusers.DDIMScheduler(
        **common(name), clip_sample=clip, set_alpha_to_one=True, timestep_spacing=SPACINGS[spacing]
    )
    predict, x = predictor(schedule), start()
    expected = run_peer(torch, peer, predict, x, steps, use_clipped_model_output=recompute)
    np.testing.assert_allclose(sampler(predict, x, schedule), expected, atol=1e-4)


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("order", [1, 2, 3])
def test_dpm_solver(torch, diffusers, name, spacing, steps, order):
    schedule = noise.get(name, 1000)
    peer = diffusers.DPMSolverMultistepScheduler(
        **common(name),
        algorithm_type="dpmsolver++",
        solver_order=order,
        final_sigmas_type="zero",
        timestep_spacing=SPACINGS[spacing],
    )
    predict, x = predictor(schedule), start()
    sampler = samplers.DPMSolver(steps, order=order, spacing=spacing)
    found = sampler(predict, x, schedule)
    # The cosine schedule's T-1 has sqrt(a) = 5e-5, which magnifies the rounding of the peer's
    # float32 sigmas to 3e-4 in the image of few steps; with the same sigmas in float64 it agrees.
    if name == "linear" or spacing == "leading_unchecked" or steps == 50:
        np.testing.assert_allclose(found, run_peer(torch, peer, predict, x, steps), atol=1e-4)
    sigmas = exact_sigmas(torch, sampler, schedule)
    expected = run_peer(torch, peer, predict, np.float64(x), steps, sigmas=sigmas)
    np.testing.assert_allclose(found, expected, atol=2e-5)


def exact_sigmas(torch, sampler, schedule):
    """A peer's sigmas in float64, for where its own in float32 are magnified."""
    cumprod = schedule.alphas_cumprod[sampler.timesteps(schedule)]
    return torch.from_numpy(np.append(np.sqrt((1 - cumprod) / cumprod), 0.0))


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("order", [1, 2])
def test_stochastic_dpm_solver_with_the_same_noise(torch, diffusers, name, spacing, steps, order):
    """Of third order the peer has another weight of the second difference, of the wrong sign;
    test_samplers_kdiffusion.py has that one.
    """
    schedule = noise.get(name, 1000)
    peer = diffusers.DPMSolverMultistepScheduler(
        **common(name),
        algorithm_type="sde-dpmsolver++",
        solver_order=order,
        final_sigmas_type="zero",
        timestep_spacing=SPACINGS[spacing],
    )
    predict, x = predictor(schedule), start()
    sampler = samplers.DPMSolver(steps, order=order, spacing=spacing, eta=1.0)
    seeds = samplers.image_seeds(0, 0, BATCH)
    draws = [
        torch.from_numpy(samplers.step_noise(seeds, k + 1, (SIZE, SIZE, 1)).numpy())
        for k in range(steps)
    ]
    sigmas = exact_sigmas(torch, sampler, schedule)
    expected = run_peer(torch, peer, predict, np.float64(x), steps, sigmas=sigmas, draws=draws)
    np.testing.assert_allclose(sampler(predict, x, schedule, seed=0), expected, atol=1e-4)


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize(
    ("order", "variant"), [(1, "bh2"), (2, "bh2"), (2, "bh1"), (3, "bh2"), (3, "bh1")]
)
def test_unipc(torch, diffusers, name, spacing, steps, order, variant):
    schedule = noise.get(name, 1000)
    peer = diffusers.UniPCMultistepScheduler(
        **common(name),
        solver_order=order,
        solver_type=variant,
        final_sigmas_type="zero",
        timestep_spacing=SPACINGS[spacing],
    )
    predict, x = predictor(schedule), start()
    sampler = samplers.UniPC(steps, order=order, variant=variant, spacing=spacing)
    sigmas = exact_sigmas(torch, sampler, schedule)
    sigmas[-1] = 1e-12 if variant == "bh1" else 0.0  # of which the peer's bh1 makes NaN
    expected = run_peer(torch, peer, predict, np.float64(x), steps, sigmas=sigmas)
    np.testing.assert_allclose(sampler(predict, x, schedule), expected, atol=1e-4)


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("steps", [20, 50])
def test_heun(torch, diffusers, name, steps):
    """The peer steps images divided by their signal, and is asked for its scaling."""
    schedule = noise.get(name, 1000)
    peer = diffusers.HeunDiscreteScheduler(**common(name), timestep_spacing="leading")
    sampler = samplers.Heun(steps, spacing="leading")
    predict, x = predictor(schedule), start()
    peer.set_timesteps(steps)
    np.testing.assert_array_equal(peer.timesteps, sampler.timesteps(schedule))
    t = int(peer.timesteps[0])
    y = torch.from_numpy(np.float64(x) / np.sqrt(schedule.alphas_cumprod[t]))
    for t in peer.timesteps:
        scaled = peer.scale_model_input(y, t).numpy()
        epsilon = torch.from_numpy(predict(scaled, np.full(BATCH, int(t))))
        y = peer.step(epsilon.to(y.dtype), t, y).prev_sample
    np.testing.assert_allclose(sampler(predict, x, schedule), y.numpy(), atol=1e-4)


@pytest.mark.parametrize("name", SCHEDULES)
def test_dynamic_thresholding(torch, diffusers, name):
    schedule = noise.get(name, 1000)
    peer = diffusers.DDIMScheduler(
        **common(name),
        thresholding=True,
        sample_max_value=1000.0,
        set_alpha_to_one=True,
        timestep_spacing="trailing",
    )
    wide, x = gaussian_predictor(schedule, 0.5, 2.0), start()
    expected = run_peer(torch, peer, wide, x, 20, use_clipped_model_output=True)
    found = samplers.DDIM(20, clip="dynamic")(wide, x, schedule)
    assert np.abs(expected).max() > 0.9
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("steps", [1000, 50, 20])
@pytest.mark.parametrize("clip", [True, False])
def test_ddpm_means_and_variances(torch, diffusers, name, steps, clip):
    """One step from the same image at every timestep: without noise the mean, and the variance."""
    schedule = noise.get(name, 1000)
    for variance in samplers.VARIANCES:
        peer = diffusers.DDPMScheduler(
            **common(name), variance_type=variance, clip_sample=clip, timestep_spacing="leading"
        )
        peer.set_timesteps(steps)
        sampler = samplers.DDPM(variance, steps=steps, clip=clip, spacing="leading_unchecked")
        grid = sampler.timesteps(schedule)
        np.testing.assert_array_equal(grid, peer.timesteps)
        c = sampler.coefficients(schedule, grid)
        predict, x = predictor(schedule), start()
        for k in range(0, steps - 1, max(1, steps // 20)):
            t = int(grid[k])
            expected = float(peer._get_variance(t))
            # The peer subtracts its float32 alphas_cumprod from 1: they are spaced 6e-8 there.
            assert c["noise"][k] ** 2 == pytest.approx(expected, rel=1e-4, abs=1.2e-7)
            epsilon = predict(x, np.full(BATCH, t))
            mean = peer_mean(torch, peer, epsilon, t, x)
            signal = np.sqrt(schedule.alphas_cumprod[t])
            x_start = (x - np.sqrt(1 - signal**2) * np.float64(epsilon)) / signal
            x_start = np.clip(x_start, -1, 1) if clip else x_start
            found = c["x"][k] * x + c["x_start"][k] * x_start
            np.testing.assert_allclose(found, mean, atol=1e-4)
        assert c["noise"][-1] == 0


def peer_mean(torch, scheduler, epsilon, t, x):
    """A step of diffusers' DDPMScheduler with its noise taken out: the average of +z and -z."""
    module = __import__("diffusers.schedulers.scheduling_ddpm", fromlist=["randn_tensor"])
    original, drawn = module.randn_tensor, np.float32(np.random.default_rng(t).normal(size=x.shape))
    ends = []
    try:
        for sign in (1.0, -1.0):
            module.randn_tensor = lambda *_, sign=sign, **__: torch.from_numpy(sign * drawn)
            step = scheduler.step(torch.from_numpy(epsilon), t, torch.from_numpy(x))
            ends.append(step.prev_sample.numpy())
    finally:
        module.randn_tensor = original
    return np.mean(ends, axis=0)
