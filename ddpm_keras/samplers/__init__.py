"""Samplers: from noise to images with any noise predictor. One file each; `get` takes names."""

import keras

from ..random import image_seeds, initial_noise, step_noise, threefry_2x32
from .base import SPACINGS, Sampler, sampling_timesteps
from .ddim import DDIM
from .ddpm import DDPM, VARIANCES
from .dpm_solver import DPMSolver

__all__ = [
    "DDIM",
    "DDPM",
    "DPMSolver",
    "SAMPLERS",
    "SPACINGS",
    "Sampler",
    "VARIANCES",
    "get",
    "image_seeds",
    "initial_noise",
    "sampling_timesteps",
    "step_noise",
    "threefry_2x32",
]

SAMPLERS = {"ddpm": DDPM, "ddim": DDIM, "dpm": DPMSolver}


def get(sampler, **arguments):
    """A sampler from its name and arguments, or the given one unchanged.

    Args:
        sampler: "ddpm", "ddim" or "dpm", a sampler, or the configuration Keras made of one.
        **arguments: The sampler's own, such as `steps`; None takes its default.

    Raises:
        ValueError: An unknown name, or an argument that the sampler does not take.
    """
    if isinstance(sampler, Sampler):
        return sampler
    if isinstance(sampler, dict):
        return keras.saving.deserialize_keras_object(sampler)
    if sampler not in SAMPLERS:
        raise ValueError(f"Unknown sampler {sampler!r}; use one of {', '.join(SAMPLERS)}.")
    arguments = {name: value for name, value in arguments.items() if value is not None}
    accepted = SAMPLERS[sampler]().get_config()
    for name in arguments:
        if name not in accepted:
            raise ValueError(
                f"The sampler {sampler!r} takes no {name!r}; it takes {', '.join(accepted)}."
            )
    return SAMPLERS[sampler](**arguments)
