"""Samplers: from noise to images with any noise predictor. One file each; `get` takes names."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import keras

from ..choices import SAMPLERS, SPACINGS, VARIANCES
from ..random import image_seeds, initial_noise, step_noise, threefry_2x32
from .base import Chain, Sampler
from .ddim import DDIM
from .ddpm import DDPM
from .dpm_solver import DPMSolver
from .grids import karras_timesteps, sampling_timesteps, solver_timesteps
from .heun import Heun
from .inversion import DDIMInversion
from .unipc import UniPC

if TYPE_CHECKING:  # names in annotations alone
    from ..noise import NoiseSchedule

__all__ = [
    "Chain",
    "DDIM",
    "DDIMInversion",
    "DDPM",
    "DPMSolver",
    "Heun",
    "SAMPLERS",
    "SPACINGS",
    "Sampler",
    "UniPC",
    "VARIANCES",
    "get",
    "image_seeds",
    "initial_noise",
    "karras_timesteps",
    "sampling_timesteps",
    "solver_timesteps",
    "step_noise",
    "threefry_2x32",
]


def get(sampler: Any = None, schedule: NoiseSchedule | None = None, **arguments: Any) -> Sampler:
    """A sampler from its name and arguments, or the given one unchanged.

    Args:
        sampler: a name in `choices.SAMPLERS` ("ddim", say), a sampler, the
            configuration Keras made of one, or None for "ddim".
        schedule: the `NoiseSchedule` it is for: a sampler by name then takes no more steps by
            default than it can, and too many are refused.
        **arguments: the sampler's own, such as `steps`; None takes its default.

    Raises:
        ValueError: an unknown name, an argument that the sampler does not take, or too many steps.
    """
    if isinstance(sampler, dict):
        sampler = keras.saving.deserialize_keras_object(sampler)
    arguments = {name: value for name, value in arguments.items() if value is not None}
    if not isinstance(sampler, Sampler):
        sampler = _named("ddim" if sampler is None else sampler, schedule, arguments)
    elif arguments:
        raise ValueError(f"{', '.join(arguments)} cannot change {sampler!r}; make another sampler.")
    if schedule is not None:
        sampler.timesteps(schedule)
    return sampler


def _named(name, schedule, arguments):
    """The sampler of a name; by default with as many of its steps as the schedule has."""
    make = SAMPLERS.find(name)
    accepted = inspect.signature(make).parameters
    for argument in arguments:
        if argument not in accepted:
            raise ValueError(
                f"The sampler {name!r} takes no {argument!r}; it takes {', '.join(accepted)}."
            )
    default = accepted["steps"].default if "steps" in accepted else None
    if schedule is not None and isinstance(default, int) and "steps" not in arguments:
        arguments = arguments | {"steps": _most_steps(make, default, schedule)}
    return make(**arguments)


def _most_steps(make, steps, schedule):
    """`steps`, or the largest number below it that a sampler can take on a schedule."""
    while steps > 1:
        try:
            make(steps=steps).timesteps(schedule)
            return steps
        except ValueError:
            steps = min(steps - 1, schedule.timesteps)
    return steps
