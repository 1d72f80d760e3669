"""A series is drawn in any parts, on any number of replicas, in memory for one batch."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from gaussians import graph_predictor

from ddpm_keras import noise, samplers
from ddpm_keras.samplers import Chain

SCHEDULE = noise.cosine(100)
PREDICT = graph_predictor(SCHEDULE, 0.2, 0.5)
SAMPLERS = [samplers.DDIM(6), samplers.DDPM(steps=5), samplers.DPMSolver(6), samplers.UniPC(6, 3)]


def start_noise(count=3):
    return samplers.initial_noise(samplers.image_seeds(0, 0, count), (4, 2, 1))


@pytest.mark.parametrize("sampler", SAMPLERS, ids=repr)
def test_steps_one_by_one_are_the_sampler(sampler):
    x = start_noise()
    expected = sampler(PREDICT, x, SCHEDULE, seed=3)
    chain, seeds = Chain(sampler, SCHEDULE), samplers.image_seeds(3, 0, 3)
    memory = chain.memory(x)
    for k in range(chain.steps):
        x, memory = chain.step(PREDICT, k, x, memory, seeds)
    np.testing.assert_allclose(x, expected, atol=1e-6)


@pytest.mark.parametrize(
    "sampler", [samplers.DDIM(6), samplers.DDPM(steps=5, variance="fixed_small")]
)
def test_a_chain_begun_late_is_the_rest_of_the_whole(sampler):
    x, seeds = start_noise(), samplers.image_seeds(3, 0, 3)
    whole, rest = Chain(sampler, SCHEDULE), Chain(sampler, SCHEDULE, 2)
    assert list(rest.timesteps) == list(whole.timesteps[2:])
    expected, _ = whole.step(PREDICT, 3, x, whole.memory(x), seeds)
    found, _ = rest.step(PREDICT, 1, x, rest.memory(x), seeds, draw=4)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


def test_a_solver_begun_late_takes_its_first_step_at_first_order():
    x = start_noise()
    chain = Chain(samplers.DPMSolver(6), SCHEDULE, 3)
    assert chain.remembers and chain.steps == 3
    first = Chain(samplers.DPMSolver(6, order=1), SCHEDULE, 3)
    one, other = (each.step(PREDICT, 0, x, chain.memory(x))[0] for each in (chain, first))
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("first", [-1, 6, 0.5])
def test_a_step_that_there_is_not_is_refused(first):
    with pytest.raises(ValueError, match="first"):
        samplers.DDIM(6)(PREDICT, start_noise(), SCHEDULE, first=first)


def test_two_replicas_draw_what_one_device_draws(tmp_path):
    script = Path(__file__).with_name("sampling_replicas.py")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(script)], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert all(case["apart"] < 1e-4 < case["spread"] for case in found["cases"]), found
    assert len(found["devices"]) == 2, found["devices"]
