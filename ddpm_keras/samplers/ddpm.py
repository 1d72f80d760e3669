"""Ancestral sampling, as published."""

import keras
import numpy as np

from .. import kinds
from ..choices import VARIANCES, check
from ..noise import NoiseSchedule
from ..scalars import count
from .base import Sampler
from .grids import sampling_timesteps


@keras.saving.register_keras_serializable(package="ddpm_keras", name="DDPMSampler")
class DDPM(Sampler):
    """Ancestral sampling (Ho et al. 2020, algorithm 2), with x_start clipped before the posterior
    mean.

    With fewer steps than the schedule has, the betas between the visited timesteps are merged so
    that alphas_cumprod is the same there (Nichol & Dhariwal 2021, eq. 19).

    Args:
        variance: "fixed_large", beta_t (best on CIFAR-10 with many steps), or "fixed_small", the
            posterior's.
        steps: number of steps, at most the schedule's timesteps; None visits every timestep.
        clip: whether x_start is clipped to [-1, 1].
        spacing: which timesteps fewer steps visit: "trailing", "linspace", "leading" or
            "leading_unchecked"; see `sampling_timesteps`.

    Example:

    >>> sampler = DDPM("fixed_small", steps=100)
    """

    def __init__(
        self,
        variance: str = "fixed_large",
        steps: int | None = None,
        clip: bool | str = True,
        spacing: str = "trailing",
    ):
        super().__init__(clip)
        check("variance", variance, VARIANCES)
        self.variance = variance
        self.steps = None if steps is None else count(steps, "steps")
        self.spacing = kinds.spacing(spacing)

    def timesteps(self, schedule: NoiseSchedule) -> np.ndarray:
        steps = schedule.timesteps if self.steps is None else self.steps
        return sampling_timesteps(schedule.timesteps, steps, self.spacing)

    def coefficients(self, schedule: NoiseSchedule, timesteps: np.ndarray) -> dict[str, np.ndarray]:
        cumprod = schedule.alphas_cumprod[timesteps]
        spaced = NoiseSchedule(1.0 - cumprod[::-1] / np.append(1.0, cumprod[:0:-1]), "respaced")
        variances = {"fixed_large": spaced.betas, "fixed_small": spaced.posterior_variance}
        deviation = np.sqrt(variances[self.variance])
        deviation[0] = 0.0  # the last step returns the mean
        return {
            "x_start": spaced.posterior_mean_coef_x_start[::-1],
            "x": spaced.posterior_mean_coef_x_t[::-1],
            "noise": deviation[::-1],
        }
