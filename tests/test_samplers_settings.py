"""Samplers by name, from a configuration, and what is refused."""

import json

import keras
import numpy as np
import pytest
from sampler_cases import EVERY_SAMPLER

from ddpm_keras import noise, samplers


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
    "dpm": {"steps": 20, "order": 2, "spacing": "linspace", "clip": False, "eta": 0.0},
    "dpm_3m": {"steps": 20, "order": 3, "spacing": "linspace", "clip": False, "eta": 0.0},
    "dpm_sde": {"steps": 20, "order": 2, "spacing": "linspace", "clip": False, "eta": 1.0},
    "unipc": {"steps": 20, "order": 2, "variant": "bh2", "spacing": "trailing", "clip": False},
    "heun": {"steps": 18, "churn": 0.0, "spacing": "karras", "clip": False},
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
        (lambda: samplers.DDIM(clip="Dynamic"), 'clip is True, False or "dynamic"; got .Dynamic'),
        (lambda: samplers.DDIM(spacing="even"), "trailing, linspace, leading, leading_unchecked"),
        (lambda: samplers.DPMSolver(order=4), "1, 2 or 3"),
        (lambda: samplers.DPMSolver(eta=-0.5), "eta is -0.5"),
        (lambda: samplers.UniPC(order=4), "1, 2 or 3"),
        (lambda: samplers.UniPC(variant="bh3"), "variant 'bh3'.*bh1, bh2"),
        (lambda: samplers.Heun(churn=-1), "churn is -1"),
        (lambda: samplers.Heun(spacing="rho"), "karras, trailing, linspace"),
        (lambda: samplers.Heun(51).timesteps(noise.linear(50)), "use fewer steps"),
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
