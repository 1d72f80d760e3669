"""Heun's method, in the form of EDM."""

from __future__ import annotations

from typing import TYPE_CHECKING

import keras
import numpy as np

from .. import kinds
from ..choices import SPACINGS, check
from ..scalars import count
from .base import Sampler
from .grids import karras_timesteps, levels, nearest_level, sampling_timesteps, sigmas

if TYPE_CHECKING:  # names in annotations alone
    from ..noise import NoiseSchedule

_SPACINGS = ("karras", *SPACINGS)


@keras.saving.register_keras_serializable(package="ddpm_keras", name="HeunSampler")
class Heun(Sampler):
    """Heun's method on x / sqrt(a) as a function of sigma = sqrt((1 - a) / a), of second order
    (Karras et al. 2022, algorithms 1 and 2), on the noise levels that the model knows.

    A step is an Euler step to the next level, and a correction by what the model says there: two
    evaluations, but one in the last step, which goes to x_start itself. On a schedule of zero
    terminal SNR the first step, from an infinite sigma, is Euler's alone.

    Args:
        steps: number of steps, at most the schedule's timesteps; 2 steps - 1 evaluations.
        churn: S_churn of algorithm 2 (with S_noise 1, at every level): noise that is added before a
            step, up to the nearest level that the model knows. 0 is deterministic.
        spacing: "karras" (eq. 5 with rho 7, each at the nearest level that is not taken), or
            "trailing", "linspace", "leading" or "leading_unchecked"; see `sampling_timesteps`.
        clip: whether x_start is clipped to [-1, 1].

    Example:

    >>> sampler = Heun(steps=18)
    """

    def __init__(
        self,
        steps: int = 18,
        churn: float = 0.0,
        spacing: str = "karras",
        clip: bool | str = False,
    ):
        super().__init__(clip)
        self.steps = count(steps, "steps")
        self.churn = kinds.churn(churn)
        check("spacing", spacing, _SPACINGS)
        self.spacing = spacing

    def timesteps(self, schedule: NoiseSchedule) -> np.ndarray:
        """The timesteps of the evaluations: of the first step, then twice of each other.

        With churn the second of them is that of the level that noise is added up to.
        """
        if self.spacing == "karras":
            grid = karras_timesteps(schedule, self.steps)
        else:
            grid = sampling_timesteps(schedule.timesteps, self.steps, self.spacing)
        return np.append(grid[0], np.stack([grid[1:], self._churned(schedule, grid[1:])], axis=1))

    def _churned(self, schedule, grid):
        """The timesteps up to whose noise that of each of a grid is raised (algorithm 2)."""
        raised = 1.0 + min(self.churn / self.steps, np.sqrt(2.0) - 1.0)
        sigma = sigmas(schedule)
        return nearest_level(sigma, raised * sigma[grid])

    def coefficients(self, schedule: NoiseSchedule, timesteps: np.ndarray) -> dict[str, np.ndarray]:
        signal, rate, _ = levels(schedule, timesteps)
        # Every row as an Euler step to the next level, which is DDIM's,
        x = rate[1:] / rate[:-1]
        x_start = signal[1:] - x * signal[:-1]
        previous, noise = np.zeros((2, len(timesteps)))
        # and then each other one, counted from the end, as a correction of the step before.
        k = np.arange(len(timesteps))[-2::-2]
        x[k] = signal[k + 1] / signal[k]
        previous[k] = x[k] * _correction(signal, rate, k)
        x_start[k] = -previous[k]
        noise[k] = np.sqrt(np.maximum(rate[k + 1] ** 2 - (x[k] * rate[k]) ** 2, 0.0))
        return {"x": x, "x_start": x_start, "previous_x_start": previous, "noise": noise}


def _correction(signal, rate, k):
    """What (x_start before - x_start now) is multiplied by at rows k.

    With the slope (x - x_start) / sigma of algorithm 1, and since the Euler step keeps x - x_start
    in proportion to sigma, the mean of both slopes moves x / sqrt(a) on by
    (sigma - sigma before) / (2 sigma) of that difference. 0 where no finite sigma came before.
    """
    begun = (k > 0) & (signal[k - 1] > 0)
    before, now = rate[k - 1] * signal[k], signal[k - 1] * rate[k]
    ratio = np.divide(before, now, out=np.ones(len(k)), where=begun)
    return signal[k] * (1.0 - ratio) / 2.0
