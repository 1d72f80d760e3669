"""Samplers end at the images of k-diffusion's on the same noise levels, in float64."""

import importlib
import importlib.machinery
import sys
import types

import numpy as np
import pytest
from gaussians import predictor_of

from ddpm_keras import noise, samplers

BATCH, SHAPE = 3, (4, 4, 1)
GRIDS = ("trailing", "linspace")


@pytest.fixture(scope="module")
def peer(torch):
    """k_diffusion with its `sampling` and `external`, without the rest that its import asks for."""
    for name in ("torchdiffeq", "torchsde"):
        pytest.importorskip(name, reason=f"{name} is not installed (conformance requirements)")
    found = importlib.machinery.PathFinder.find_spec("k_diffusion")
    if found is None:
        pytest.skip("k-diffusion is not installed (conformance requirements)")
    package = types.ModuleType("k_diffusion")
    package.__path__ = found.submodule_search_locations
    sys.modules["k_diffusion"] = package
    yield types.SimpleNamespace(
        sampling=importlib.import_module("k_diffusion.sampling"),
        external=importlib.import_module("k_diffusion.external"),
    )
    for name in [name for name in sys.modules if name.partition(".")[0] == "k_diffusion"]:
        del sys.modules[name]


def predictor(schedule):
    """Of the image, which no small signal magnifies the rounding of."""
    return predictor_of(schedule, "sample", np.linspace(-0.6, 0.6, 16).reshape(SHAPE), 0.4)


def drawn(sampler, schedule):
    return sampler(predictor(schedule), start(), schedule, seed=0, prediction="sample")


def start():
    return samplers.initial_noise(samplers.image_seeds(0, 0, BATCH), SHAPE).numpy()


def run(peer, torch, name, schedule, grid, **options):
    """The peer's sampler on the levels of a grid and then 0, from the noise of `start`.

    It steps images divided by their signal, and asks its own wrapper of discrete levels.
    """
    predict = predictor(schedule)

    def network(x, t):
        cumprod = schedule.alphas_cumprod[t.numpy()].reshape(-1, 1, 1, 1)
        image = np.float64(predict(x.numpy(), t.numpy()))
        return torch.from_numpy((x.numpy() - np.sqrt(cumprod) * image) / np.sqrt(1 - cumprod))

    cumprod = torch.tensor(schedule.alphas_cumprod)
    model = peer.external.DiscreteEpsDDPMDenoiser(network, cumprod, quantize=True)
    levels = torch.cat([model.sigmas[torch.from_numpy(grid.copy())], torch.zeros(1)])
    x = torch.from_numpy(np.float64(start()) / np.sqrt(schedule.alphas_cumprod[grid[0]]))
    sample = getattr(peer.sampling, f"sample_{name}")
    with torch.no_grad():
        return sample(model, x, levels.double(), disable=True, **options).numpy()


@pytest.mark.parametrize("name", ["linear", "cosine", "sigmoid"])
@pytest.mark.parametrize("steps", [8, 30])
@pytest.mark.parametrize("spacing", ["karras", *GRIDS])
def test_heun(peer, torch, name, steps, spacing):
    schedule, sampler = noise.get(name, 1000), samplers.Heun(steps, spacing=spacing)
    visited = sampler.timesteps(schedule)
    grid = np.append(visited[0], visited[1::2])
    expected = run(peer, torch, "heun", schedule, grid)
    np.testing.assert_allclose(drawn(sampler, schedule), expected, atol=1e-4)


def test_levels_of_karras(peer, torch):
    """Each is the level that the model knows nearest to the peer's, unless that is taken."""
    schedule = noise.linear(4000)
    grid = samplers.karras_timesteps(schedule, 18)
    known = np.sqrt(1 / schedule.alphas_cumprod - 1)
    ends = known[grid[-1]], known[grid[0]]
    wanted = peer.sampling.get_sigmas_karras(18, *map(torch.tensor, ends)).numpy()[:-1]
    spaces = np.gradient(known)[grid]
    assert np.all(np.abs(known[grid] - wanted) < 1.01 * spaces)


@pytest.mark.parametrize("name", ["linear", "cosine", "sigmoid"])
@pytest.mark.parametrize("steps", [8, 30])
@pytest.mark.parametrize("spacing", GRIDS)
def test_dpm_solver(peer, torch, name, steps, spacing):
    schedule = noise.get(name, 1000)
    sampler = samplers.DPMSolver(steps, order=2, spacing=spacing)
    expected = run(peer, torch, "dpmpp_2m", schedule, sampler.timesteps(schedule))
    np.testing.assert_allclose(drawn(sampler, schedule), expected, atol=1e-4)


@pytest.mark.parametrize("name", ["linear", "cosine", "sigmoid"])
@pytest.mark.parametrize("order", [2, 3])
def test_stochastic_dpm_solver_with_the_same_noise(peer, torch, name, order):
    """Of third order, too, where diffusers' second difference has the wrong sign."""
    schedule = noise.get(name, 1000)
    sampler = samplers.DPMSolver(20, order=order, eta=1.0)
    seeds, numbers = samplers.image_seeds(0, 0, BATCH), iter(range(1, 21))

    def draw(sigma, after):
        return torch.from_numpy(samplers.step_noise(seeds, next(numbers), SHAPE).numpy()).double()

    grid, peers = sampler.timesteps(schedule), f"dpmpp_{order}m_sde"
    expected = run(peer, torch, peers, schedule, grid, noise_sampler=draw)
    np.testing.assert_allclose(drawn(sampler, schedule), expected, atol=1e-4)
