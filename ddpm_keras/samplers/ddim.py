"""Denoising diffusion implicit models."""

import keras
import numpy as np

from ..scalars import count, number
from .base import Sampler, checked_spacing, sampling_timesteps


@keras.saving.register_keras_serializable(package="ddpm_keras", name="DDIMSampler")
class DDIM(Sampler):
    """Denoising diffusion implicit models (Song et al. 2021a, eq. 12).

    Each step goes to the next timestep of the grid, and the last one to x_start itself.

    Args:
        steps: Number of steps, at most the schedule's timesteps.
        eta: 0 is deterministic; 1 adds as much noise as ancestral sampling with the posterior's
            variance.
        spacing: "leading", "trailing" (visits T-1) or "linspace" (visits T-1 and 0).
        clip: Whether x_start is clipped to [-1, 1]; epsilon is not recomputed from it.

    Example:

    >>> sampler = DDIM(steps=50)
    """

    def __init__(self, steps=50, eta=0.0, spacing="leading", clip=True):
        super().__init__(clip)
        self.eta = number(eta, "eta")
        if not 0.0 <= self.eta <= 1.0:
            raise ValueError(f"eta is {eta}; use a number from 0 (deterministic) to 1.")
        self.steps = count(steps, "steps")
        self.spacing = checked_spacing(spacing)

    def timesteps(self, schedule):
        return sampling_timesteps(schedule.timesteps, self.steps, self.spacing)

    def coefficients(self, schedule, timesteps):
        cumprod = schedule.alphas_cumprod[timesteps]
        target = np.append(cumprod[1:], 1.0)
        variance = (
            self.eta**2 * (1.0 - target) / (1.0 - cumprod) * (1.0 - cumprod / target)
        )  # eq. 16
        return {
            "x_start": np.sqrt(target),
            "epsilon": np.sqrt(np.maximum(1.0 - target - variance, 0.0)),
            "noise": np.sqrt(variance),
        }
